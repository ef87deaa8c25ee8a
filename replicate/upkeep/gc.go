package upkeep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
)

const (
	// putTrust is for how long a writer believes that a target has a pack which no version names
	// (package replicate/courier, which counts on twice that: its push takes time, too).
	putTrust = 24 * time.Hour
	// gcSlack is how much longer than it must all is kept: for a push, and for a restore, that
	// is under way.
	gcSlack = time.Hour
	// week is for how long one version of each day is kept.
	week = 7 * 24 * time.Hour
	// wait is how long after the newest versions were read the first thing is deleted (T5 of
	// package manifest/history), where there is no other witness.
	wait = 2 * history.Grace
)

// CollectOptions of [Collect].
type CollectOptions struct {
	History time.Duration // how far back each version stays
	Host    string        // only its checkpoints, versions and records go; empty: all hosts'
	Delete  bool          // else nothing is changed
	// Owner is who collects, for those to read whose database is taken from them (G7).
	Owner manifest.Owner
	// Concurrency is how many requests run at a time; 0: 32.
	Concurrency int

	Now  func() time.Time                           // nil: time.Now
	Wait func(context.Context, time.Duration) error // nil: a timer. It is told how long
}

// Amount is so many objects, of so many bytes in all.
type Amount struct {
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

func (a *Amount) add(bytes int64) {
	a.Objects++
	a.Bytes += bytes
}

// Collected is what [Collect] found. Of what nobody needs it is what there was when it looked, and
// with Delete, what has been deleted.
type Collected struct {
	Databases int `json:"databases"`

	Packs       Amount `json:"packs"`       // that nobody can name
	Checkpoints Amount `json:"checkpoints"` // that were kept, and are too old
	Versions    Amount `json:"versions"`    // of manifests, likewise
	Records     Amount `json:"records"`     // that a checkpoint has which is too old
	Leases      Amount `json:"leases"`      // of databases that are gone

	Live  Amount `json:"live"`  // packs that versions name
	Young Amount `json:"young"` // packs that none names, and which are too young to go
	// DeadBytes are those of live packs that nobody needs: what stands there beside what versions
	// name. The writer of a database puts the rest elsewhere where they are most of a pack.
	DeadBytes int64 `json:"dead_bytes"`

	// Older is what is sealed with older keys; nil: there are none.
	Older *Older `json:"older_keys,omitempty"`
}

// Objects returns how many objects nobody needs.
func (c *Collected) Objects() int {
	return c.Packs.Objects + c.Checkpoints.Objects + c.Versions.Objects + c.Records.Objects +
		c.Leases.Objects
}

// Collect finds what nobody needs of what targets hold, which have one bucket of chunks in common,
// and deletes it if o says so: see the package's comment for what that is, and why. After an error
// before the first deletion, nothing was deleted; after a later one, only what nobody needs. The
// targets may be written to and read meanwhile, and collected by others.
func Collect(
	ctx context.Context, targets []*chunkstore.Target, o CollectOptions,
) (*Collected, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Wait == nil {
		o.Wait = timer
	}
	o.Concurrency = cmp.Or(max(o.Concurrency, 0), requestsAtOnce)
	c := &collection{o: o, targets: targets, chunks: targets[0].Chunks, live: newLive()}
	c.leases.c, c.pins.c = c, c
	err := c.run(ctx)
	if errors.Is(err, chunkstore.ErrDenied) {
		err = fmt.Errorf("%w (the credentials must allow to get and to list, and, with --delete, "+
			"to delete; to put, where the holder of a database in a store has died)", err)
	}
	return &c.found, err
}

// timer waits. Time that the machine sleeps does not count: it waits longer.
func timer(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// collection is one run of [Collect].
type collection struct {
	o       CollectOptions
	targets []*chunkstore.Target
	chunks  chunkstore.Bucket

	now       time.Time // by the store's clock, or earlier
	databases []*database
	lineages  map[[16]byte]*lineage
	heads     map[*lineage]*database // those of newest versions
	live      *live

	wait    bool // what was read may be too fresh to delete by at once
	garbage []packed
	packs   []packed // all, if there are older keys
	pins    pins
	leases  leases

	mu    sync.Mutex // of found
	found Collected
}

// packed is a pack that was listed.
type packed struct {
	name  chunkstore.Digest
	bytes int64
}

// since is from when on every version stays.
func (c *collection) since() time.Time { return c.now.Add(-c.o.History - gcSlack) }

// young reports whether somebody may yet name a pack that was put at t, or a record may that is
// younger than since.
func (c *collection) young(t time.Time) bool {
	named := max(c.o.History+gcSlack, putTrust)
	return !t.Before(c.now.Add(-named - putTrust - gcSlack))
}

func (c *collection) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		c.list, c.readNewest, c.readLogs, c.choose, c.readRest, c.plan, c.leases.list,
		c.pins.listAll, c.listPacks,
	} {
		if err := step(ctx); err != nil {
			c.found = Collected{} // nothing was deleted
			return err
		}
	}
	if c.o.Delete {
		if err := c.delete(ctx); err != nil {
			return err
		}
	}
	r := resealing{c, &Older{}}
	return r.run(ctx)
}

// each calls f for each number below n, several at once, and joins their errors.
func (c *collection) each(ctx context.Context, n int, f func(context.Context, int) error) error {
	var group errgroup.Group
	group.SetLimit(c.o.Concurrency)
	errs := make([]error, n)
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			errs[i] = f(ctx, i)
			return nil
		})
	}
	_ = group.Wait() // errs has them
	return cmp.Or(ctx.Err(), errors.Join(errs...))
}

// listPacks finds the packs that nothing live names.
func (c *collection) listPacks(ctx context.Context) error {
	sealer := c.targets[0].Sealer
	_, older := sealer.Ring()
	err := c.chunks.List(ctx, "", func(o chunkstore.Object) bool {
		if o.Key >= "g" { // what has names of hex digits is before: no log, and no checkpoint
			return false
		}
		name, err := chunkstore.ParseDigest(o.Key)
		bytes, live := c.live.has(name)
		bytes += int64(chunkstore.Overhead(sealer))
		if err == nil && older {
			c.packs = append(c.packs, packed{name, o.Bytes})
		}
		switch {
		case err != nil:
		case live:
			c.found.Live.add(o.Bytes)
			c.found.DeadBytes += max(0, o.Bytes-bytes)
		case c.young(later(o.Modified, c.pins.at[name])):
			c.found.Young.add(o.Bytes)
		default:
			c.found.Packs.add(o.Bytes)
			c.garbage = append(c.garbage, packed{name, o.Bytes})
		}
		return ctx.Err() == nil
	})
	if err = cmp.Or(err, ctx.Err()); err != nil {
		return fmt.Errorf("list packs: %w", err)
	}
	return nil
}

// delete removes what was found: first what names packs (G4), and packs last.
func (c *collection) delete(ctx context.Context) error {
	found := c.found
	c.found.Packs, c.found.Checkpoints = Amount{}, Amount{}
	c.found.Versions, c.found.Records, c.found.Leases = Amount{}, Amount{}, Amount{}
	if found.Objects() == 0 {
		return nil
	}
	if c.wait {
		if err := c.o.Wait(ctx, wait); err != nil {
			return fmt.Errorf("nothing was deleted: %w", err)
		}
	}
	for _, step := range []func(context.Context) error{
		c.deleteKept, c.trim, c.leases.delete, c.deletePacks,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// deleteKept deletes checkpoints that were kept, and versions of manifests.
func (c *collection) deleteKept(ctx context.Context) error {
	var old []*version
	for _, d := range c.databases {
		for _, v := range d.versions {
			if v.expired {
				old = append(old, v)
			}
		}
	}
	return c.each(ctx, len(old), func(ctx context.Context, i int) (err error) {
		v := old[i]
		amount := &c.found.Checkpoints
		if v.bucket == nil {
			err = c.chunks.Delete(ctx, v.key)
		} else {
			amount = &c.found.Versions
			err = v.bucket.(chunkstore.Forgetter).ForgetVersion(ctx, v.key, v.id)
		}
		if err != nil {
			return fmt.Errorf("delete an old version: %w", err)
		}
		c.add(amount, v.bytes)
		return nil
	})
}

func (c *collection) add(to *Amount, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	to.add(bytes)
}

// trim deletes records.
func (c *collection) trim(ctx context.Context) error {
	for _, l := range c.lineages {
		if l.before == 0 {
			continue
		}
		if err := l.log.Trim(ctx, l.before, l.fences); err != nil {
			return err
		}
		c.found.Records.Objects += l.old.Objects
		c.found.Records.Bytes += l.old.Bytes
	}
	return nil
}

// deletedAtOnce is how many packs are deleted until pins are listed again.
const deletedAtOnce = 128

// deletePacks deletes packs, but for those that somebody has put, touched or pinned since they were
// listed (G3).
func (c *collection) deletePacks(ctx context.Context) error {
	for some := range slices.Chunk(c.garbage, deletedAtOnce) {
		if err := c.pins.list(ctx, func(chunkstore.Object) {}); err != nil {
			return err
		}
		err := c.each(ctx, len(some), func(ctx context.Context, i int) error {
			return deletePack(ctx, c, some[i])
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func deletePack(ctx context.Context, c *collection, g packed) error {
	o, err := c.chunks.Stat(ctx, g.name.String())
	switch {
	case errors.Is(err, chunkstore.ErrAbsent):
		return nil // another collector was here
	case err == nil && c.young(later(o.Modified, c.pins.at[g.name])):
		c.add(&c.found.Young, g.bytes)
		return nil
	case err == nil:
		err = c.chunks.Delete(ctx, g.name.String())
	}
	if err != nil {
		return fmt.Errorf("delete pack %v: %w", g.name, err)
	}
	c.add(&c.found.Packs, g.bytes)
	return nil
}
