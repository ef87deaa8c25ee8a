package upkeep

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/versions"
)

// database is what the targets have of one.
type database struct {
	target     *chunkstore.Target // nil: there is no manifest of it, but old checkpoints
	key        string
	host, path string
	head       history.Position // of the newest version
	checkpoint uint64           // the number of the newest checkpoint
	stored     time.Time        // when that was put
	versions   []*version       // that are kept
}

// version is a checkpoint that is kept in the bucket of chunks, or, if bucket is not nil, a version
// of the manifest that the bucket of manifests keeps.
type version struct {
	key     string
	bucket  chunkstore.Versioned
	id      string      // in bucket
	kept    versions.ID // by its key
	stored  time.Time
	bytes   int64
	daily   bool // the first of its day
	stale   bool // sealed with an older key, once it was read
	expired bool
	at      history.Position // once it was read; zero: it is gone, or in no history
}

// lineage is the log of one.
type lineage struct {
	log    chunkstore.Log
	run    uint64   // from here on records are there without a hole, up to the first
	since  uint64   // that is not too old; 0: all are
	last   uint64   // the last record
	base   *version // what all versions that are not too old are made from; nil: there is none
	starts []uint64 // where old records begin that stay, ascending
	listed []listed // the records before since, ascending

	before uint64 // records below are to go, but for fences; 0: none
	fences []uint64
	old    Amount // these records
	wait   bool   // they may not go at once
}

// listed is a record, in little memory: a busy database makes 86,400 a day.
type listed struct {
	number uint64
	bytes  uint32 // at most [chunkstore.RecordBytesMax]
}

// list finds the databases, their checkpoints, and what time it is.
func (c *collection) list(ctx context.Context) error {
	byPrefix := make(map[string]*database)
	var newest time.Time
	for _, t := range c.targets {
		err := t.Manifests.List(ctx, "", func(o chunkstore.Object) bool {
			if _, ok := manifest.ParseName(t.Sealer, o.Key); ok {
				d := &database{target: t, key: o.Key}
				byPrefix[versions.KeptPrefix(o.Key)] = d
				c.databases = append(c.databases, d)
				newest = later(newest, o.Modified)
			}
			return ctx.Err() == nil
		})
		if err = orEnded(ctx, err); err != nil {
			return fmt.Errorf("list manifests: %w", err)
		}
	}
	if c.found.Databases = len(c.databases); c.found.Databases == 0 {
		return errors.New("no database is in it: nothing is deleted, as the name of the bucket " +
			"of manifests may be mistyped")
	}
	err := c.chunks.List(ctx, chunkstore.KeptKeyPrefix, func(o chunkstore.Object) bool {
		if prefix, id, ok := versions.ParseKept(o.Key); ok {
			d := byPrefix[prefix]
			if d == nil {
				d = &database{}
				byPrefix[prefix] = d
				c.databases = append(c.databases, d)
			}
			d.versions = append(d.versions,
				&version{key: o.Key, kept: id, stored: o.Modified, bytes: o.Bytes})
			newest = later(newest, o.Modified)
		}
		return ctx.Err() == nil
	})
	if err = orEnded(ctx, err); err != nil {
		return fmt.Errorf("list checkpoints: %w", err)
	}
	if c.now = c.o.Now(); newest.Before(c.now) {
		c.now = newest
	}
	return nil
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// orEnded: a list that was left because ctx ended says nothing of it.
func orEnded(ctx context.Context, err error) error {
	if err != nil {
		return err
	}
	return ctx.Err()
}

// readNewest reads the newest versions, and lists those before that buckets keep.
func (c *collection) readNewest(ctx context.Context) error {
	identity, err := chunkstore.ReadIdentity(ctx, c.chunks)
	if err != nil {
		return err
	}
	return c.each(ctx, len(c.databases), func(ctx context.Context, i int) error {
		d := c.databases[i]
		if d.target == nil {
			return nil
		}
		f, err := versions.Open(ctx, d.target, d.key)
		if gone(err) { // it was removed since it was listed
			d.target = nil
			return nil
		}
		if err == nil {
			err = c.readHead(ctx, d, f, identity)
		}
		if err != nil {
			return fmt.Errorf("manifest %s: %w", d.key, err)
		}
		return nil
	})
}

// readHead makes live what the newest checkpoint names, at which f is, and the newest version.
func (c *collection) readHead(
	ctx context.Context, d *database, f *versions.Follower, identity chunkstore.Identity,
) error {
	m, etag := f.Newest(), f.Reader().ETag()
	if len(m.Stores) > 0 && !slices.Contains(m.Stores, identity) {
		return fmt.Errorf("it names packs of other buckets than %v: are these two buckets of "+
			"one target? If they are, sync the database first", c.chunks)
	}
	d.host, d.path, d.checkpoint, d.stored = m.Host, m.Path, m.At.Number, c.o.Now()
	o, err := d.target.Manifests.Stat(ctx, d.key)
	switch {
	case err != nil && !gone(err):
		return err
	case err == nil && o.ETag == etag:
		d.stored = o.Modified
	}
	if err := c.live.name(ctx, d.target, m); err != nil {
		return err
	}
	if _, err := f.Next(ctx); err != nil {
		return err
	}
	if err := c.leases.fenceSleeper(ctx, d, f); err != nil {
		return err
	}
	if m = f.Newest(); m.At.Lineage != [16]byte{} {
		d.head = m.At
	}
	if err := c.live.name(ctx, d.target, m); err != nil {
		return err
	}
	bucket, ok := d.target.Manifests.(chunkstore.Versioned)
	if !ok {
		return nil
	}
	return bucket.ListVersions(ctx, d.key, func(o chunkstore.Object) bool {
		if o.ETag == "" || o.ETag != etag {
			d.versions = append(d.versions, &version{key: d.key, bucket: bucket, id: o.Version,
				stored: o.Modified, bytes: o.Bytes})
		}
		return ctx.Err() == nil
	})
}

// readLogs finds the logs, and what is old in them.
func (c *collection) readLogs(ctx context.Context) error {
	c.lineages = make(map[[16]byte]*lineage)
	err := c.chunks.List(ctx, chunkstore.LogKeyPrefix, func(o chunkstore.Object) bool {
		id, ok := versions.ParseID(strings.TrimPrefix(o.Key, chunkstore.LogKeyPrefix))
		if !ok {
			return ctx.Err() == nil
		}
		l := c.lineages[id.Lineage]
		if l == nil {
			l = &lineage{log: chunkstore.NewLog(c.targets[0], versions.LogName(id.Lineage))}
			c.lineages[id.Lineage] = l
		}
		if l.since == 0 && id.Number != l.last+1 {
			l.run = id.Number
		}
		if l.since == 0 && !o.Modified.Before(c.since()) {
			l.since = id.Number
		}
		if l.since == 0 {
			l.listed = append(l.listed, listed{id.Number, uint32(o.Bytes)})
		}
		l.last = id.Number
		return ctx.Err() == nil
	})
	if err = orEnded(ctx, err); err != nil {
		return fmt.Errorf("list records: %w", err)
	}
	return nil
}

// mayTrim reports whether what is old of d may go.
func (c *collection) mayTrim(d *database) bool { return c.o.Host == "" || d.host == c.o.Host }

// choose finds out which versions are kept no longer.
func (c *collection) choose(context.Context) error {
	c.heads = make(map[*lineage]*database)
	for _, d := range c.databases {
		if l := c.lineages[d.head.Lineage]; l != nil {
			c.heads[l] = d
		}
		slices.SortStableFunc(d.versions, func(a, b *version) int {
			return a.stored.Compare(b.stored)
		})
		c.bases(d)
		c.starts(d)
		for _, kept := range []bool{true, false} {
			c.thin(d, kept)
		}
	}
	return nil
}

// bases finds, for each lineage of d that is not too old in whole, the newest checkpoint that is
// kept of those that are too old.
func (c *collection) bases(d *database) {
	old := make(map[[16]byte]*version)
	alive := map[[16]byte]bool{d.head.Lineage: true}
	var last *version
	for _, v := range d.versions {
		at := v.kept.Lineage
		switch {
		case v.bucket != nil:
		case !v.stored.Before(c.since()):
			alive[at] = true
		default:
			if last = v; old[at] == nil || old[at].kept.Number < v.kept.Number {
				old[at] = v
			}
		}
	}
	if last != nil && d.target != nil { // what is gone has no state that would go on
		alive[last.kept.Lineage] = true
	}
	for at, v := range old {
		l := c.lineages[at]
		if l == nil { // without records
			l = &lineage{}
			c.lineages[at] = l
		}
		if alive[at] || l.since > 0 {
			l.base = v
		}
	}
}

// starts finds out from where on old records of d's lineages stay.
func (c *collection) starts(d *database) {
	if l := c.lineages[d.head.Lineage]; l != nil && l.base == nil {
		l.starts = []uint64{l.run}
	}
	for _, v := range d.versions {
		if v.bucket != nil {
			continue
		}
		l, start := c.lineages[v.kept.Lineage], v.kept.Number+1
		switch {
		case l == nil:
			continue
		case !c.mayTrim(d):
			l.starts = append(l.starts, start)
		case v == l.base && v.kept.Lineage == d.head.Lineage:
			l.starts = []uint64{min(start, d.checkpoint+1)}
		case v == l.base:
			l.starts = []uint64{start}
		}
		slices.Sort(l.starts)
	}
}

// thin expires those of d's versions, which are in order of their age, that are neither young, nor
// the base of such a one, nor the first of a day of the last week.
func (c *collection) thin(d *database, kept bool) {
	var last *version // of those that are too old
	var day time.Time
	for _, v := range d.versions {
		if kept != (v.bucket == nil) {
			continue
		}
		if _, may := v.bucket.(chunkstore.Forgetter); !kept && !may {
			continue // the bucket's owner has a rule
		}
		if !c.mayTrim(d) || !v.stored.Before(c.since()) {
			continue
		}
		if last != nil && !kept {
			last.expired = !last.daily
		}
		last = v
		today := v.stored.UTC().Truncate(24 * time.Hour)
		v.daily = !today.Equal(day) && !v.stored.Before(c.now.Add(-week))
		day = today
		if kept {
			v.expired = !v.daily && c.lineages[v.kept.Lineage].base != v
		}
	}
}

// readRest makes live what versions name that stay, and what records name that are too old to be
// known by the age of their packs, and lead on from one that stays.
func (c *collection) readRest(ctx context.Context) error {
	var jobs []func(context.Context) error
	for _, d := range c.databases {
		t := d.target
		if t == nil {
			t = c.targets[0]
		}
		for _, v := range d.versions {
			if !v.expired {
				jobs = append(jobs, func(ctx context.Context) error {
					return c.readVersion(ctx, t, v)
				})
			}
		}
	}
	for _, l := range c.lineages {
		if l.log == nil {
			continue
		}
		for k, from := range l.starts {
			end := l.since
			if end == 0 {
				end = l.last + 1
			}
			if k+1 < len(l.starts) {
				end = min(end, l.starts[k+1])
			}
			jobs = append(jobs, func(ctx context.Context) error {
				return c.live.records(ctx, c.targets[0], l.log, from, end)
			})
		}
	}
	return c.each(ctx, len(jobs), func(ctx context.Context, i int) error { return jobs[i](ctx) })
}

// readVersion makes live what v names. If it is gone, it names nothing.
func (c *collection) readVersion(
	ctx context.Context, t *chunkstore.Target, v *version,
) error {
	var m *manifest.Manifest
	o := chunkstore.GetOptions{BytesMax: manifest.BytesMax}
	check := func(body []byte) (err error) {
		if m, err = manifest.Decode(t.Sealer, body); err != nil {
			return err
		}
		key := manifest.Name(t.Sealer, m.Host, m.Path)
		if v.bucket == nil {
			key = versions.KeptKey(key, versions.IDOf(m.At))
		}
		if key != v.key {
			return fmt.Errorf("%w: it is %s", chunkstore.ErrCorrupt, key)
		}
		v.stale = !manifest.Fresh(t.Sealer, body)
		return nil
	}
	var err error
	if v.bucket == nil {
		_, err = chunkstore.GetWhole(ctx, c.chunks, v.key, o, check)
	} else {
		var stored chunkstore.Object
		if stored, err = v.bucket.GetVersion(ctx, v.key, v.id, o); err == nil {
			err = check(stored.Body)
		}
	}
	if gone(err) {
		return nil
	}
	if err == nil {
		v.at = m.At
		err = c.live.name(ctx, t, m)
	}
	if err != nil {
		return fmt.Errorf("version %s of %s: %w", v.id, v.key, err)
	}
	return nil
}

// plan finds out which records are to go, and whether that takes a wait.
func (c *collection) plan(context.Context) error {
	for id, l := range c.lineages {
		if l.log == nil {
			continue
		}
		if d := c.heads[l]; d != nil {
			c.planHead(d, l)
		} else {
			c.planFormer(id, l)
		}
		for _, r := range l.listed {
			if r.number < l.before && !slices.Contains(l.fences, r.number) {
				l.old.add(int64(r.bytes))
			}
		}
		l.listed = nil
		if l.old.Objects == 0 {
			l.before, l.wait = 0, false
		}
		c.wait = c.wait || l.wait
		c.found.Records.Objects += l.old.Objects
		c.found.Records.Bytes += l.old.Bytes
	}
	for _, d := range c.databases {
		c.planVersions(d)
	}
	return nil
}

// planHead trims the log of d's newest version: below the base, and never beyond what a newest
// checkpoint had long enough ago (T5).
func (c *collection) planHead(d *database, l *lineage) {
	if l.base == nil || l.base.at.Lineage == [16]byte{} || !c.mayTrim(d) {
		return
	}
	l.before, l.fences = min(l.base.kept.Number, d.checkpoint), d.head.Fences
	l.wait = !settled(c.now, d.stored)
	for _, v := range d.versions {
		if v.bucket != nil && v.at.Lineage == d.head.Lineage && v.at.Number >= l.before &&
			settled(c.now, v.stored) {
			l.wait = false
		}
	}
}

// planFormer trims the log of a history that another one has replaced, or whose database is gone.
func (c *collection) planFormer(id [16]byte, l *lineage) {
	owner := slices.IndexFunc(c.databases, func(d *database) bool {
		return slices.ContainsFunc(d.versions, func(v *version) bool {
			return v.bucket == nil && v.kept.Lineage == id
		})
	})
	d := &database{stored: c.o.Now()} // nobody's
	if owner >= 0 {
		d = c.databases[owner]
	}
	switch {
	case !c.mayTrim(d):
	case l.base != nil && l.base.at.Lineage != [16]byte{}:
		l.before, l.fences = l.base.kept.Number, l.base.at.Fences
	case l.base == nil && l.since == 0:
		l.before = l.last + 1
	}
	l.wait = d.target == nil || !settled(c.now, d.stored)
}

// settled reports whether what was put at t has been there long enough.
func settled(now, t time.Time) bool { return !t.After(now.Add(-wait)) }

// planVersions sums up which of d's versions are to go. A newest checkpoint that was replaced a
// moment ago is not known, unless it was kept, nor are its leaves, though readers may be at it:
// they get a wait. The first one of a history has replaced none.
func (c *collection) planVersions(d *database) {
	replaced := d.target != nil && (d.head.Lineage == [16]byte{} || d.checkpoint > 0) &&
		!settled(c.now, d.stored)
	for _, v := range d.versions {
		switch {
		case v.bucket != nil && !v.expired:
			replaced = false
		case v.bucket != nil:
			c.found.Versions.add(v.bytes)
		case v.expired:
			c.found.Checkpoints.add(v.bytes)
		}
	}
	c.wait = c.wait || replaced
}
