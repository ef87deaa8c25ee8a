package replicate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

// What a session believes of a target, it was told at some moment; see "Beliefs" in doc.go.
// These bound how old that may be.
const (
	// flushTrust is for a flush: somebody is told that his data are safe.
	flushTrust = time.Second
	// quietTrust is for a flush of ours, at the end of a process or of a database's last
	// connection: a program that comes and goes with each request does not pay for each.
	quietTrust = time.Minute
	// pauseTrust is for a push, and for objects picked at random.
	pauseTrust = 10 * time.Minute

	// sampleObjects are asked for at a time. If a tenth of all is gone, 3 of 10 looks find out.
	sampleObjects = 3
)

// identities are those of a target's buckets; zero: not known.
type identities struct {
	Chunks    chunkstore.Identity `json:"chunks"`
	Manifests chunkstore.Identity `json:"manifests"`
}

// belief says when a target was seen to be what we take it for. Zero: not yet.
type belief struct {
	store    time.Time // its chunk bucket had the identity that we know
	manifest time.Time // it had the manifest that we know
	sample   time.Time // it had all of some objects, picked at random

	looking bool
	failed  uint64 // serial of the last look that failed
	err     error  // of it
}

// lookedAt notes a look of that time that found all well.
func (b *belief) lookedAt(at time.Time, store, manifest, sample bool) {
	for _, w := range []struct {
		seen bool
		time *time.Time
	}{{store, &b.store}, {manifest, &b.manifest}, {sample, &b.sample}} {
		if w.seen {
			*w.time = later(*w.time, at)
		}
	}
}

// believed reports whether what is known of t is young enough for f.
func (s *session) believed(t *target, f *flush) bool {
	b := &t.belief
	return !b.store.Before(f.since) && !b.manifest.Before(f.since) && !b.sample.Before(f.since.Add(-pauseTrust))
}

// lookAgain begins looks at targets of which a flush wants to know more than we do.
func (s *session) lookAgain() {
	for _, t := range s.targets {
		if !t.known || t.conflict != nil || t.belief.looking || s.cutter.Last() == nil {
			continue
		}
		var since time.Time
		for _, f := range s.flushes {
			if !s.believed(t, f) && t.belief.failed <= f.serial {
				since = later(since, f.since)
			}
		}
		if b := &t.belief; !since.IsZero() {
			pushing := t.busy || s.behind(t)
			store, manifest := b.store.Before(since), b.manifest.Before(since) && !pushing
			sample := b.sample.Before(since.Add(-pauseTrust))
			if store || manifest || sample {
				s.look(t, store, manifest, sample)
			}
		}
	}
}

// look asks a target in the background whether it is still what we take it for.
func (s *session) look(t *target, store, manifest, sample bool) {
	s.serial++
	t.belief.looking = true
	l := &look{t: t.Target, serial: s.serial, at: s.now(), known: t.ids.Chunks, store: store}
	if manifest {
		l.key, l.etag = s.r.key, t.etag
	}
	if sample {
		l.sample, l.sampled = pick(s.cutter.Last().Tree, t.missing), true
	}
	s.work.Go(func() {
		err := guarded(func() error { return l.run(s.ctx) })()
		s.send(func() { s.looked(t, l, err) })
	})
}

// look is one, on its way. It shares nothing that changes.
type look struct {
	t       *chunkstore.Target
	serial  uint64
	at      time.Time
	known   chunkstore.Identity
	store   bool
	key     string // of the manifest; empty: it is not asked for
	etag    string
	sample  []chunkstore.ID
	sampled bool

	calls   int64
	unlike  string // what is not as it was; empty: all is
	changed bool   // it is the manifest
}

func (l *look) run(ctx context.Context) error {
	release, err := l.t.Slot(ctx)
	if err != nil {
		return err
	}
	defer release()
	if l.store {
		l.calls++
		id, err := chunkstore.ReadIdentity(ctx, l.t.Chunks)
		switch {
		case errors.Is(err, chunkstore.ErrCorrupt):
			l.unlike = err.Error()
		case err != nil:
			return err
		case id != l.known:
			l.unlike = fmt.Sprintf("the chunk bucket's identity is %q, and was %q", id, l.known)
		}
	}
	if l.key != "" && l.unlike == "" {
		l.calls++
		_, err := l.t.Manifests.Get(ctx, l.key, chunkstore.GetOptions{IfNoneMatch: l.etag, BytesMax: 2 * manifest.BytesMax})
		switch {
		case errors.Is(err, chunkstore.ErrUnmodified):
		case errors.Is(err, chunkstore.ErrAbsent):
			l.unlike, l.changed = "the manifest is gone", true
		case err == nil, errors.Is(err, chunkstore.ErrCorrupt):
			l.unlike, l.changed = "the manifest is another", true
		default:
			return fmt.Errorf("look for manifest: %w", err)
		}
	}
	if l.unlike == "" && len(l.sample) > 0 {
		l.calls += int64(len(l.sample))
		gone, err := lacking(ctx, l.t, l.sample)
		if err != nil {
			return err
		}
		if gone > 0 {
			l.unlike = fmt.Sprintf("%d of %d objects, picked at random, are gone", gone, len(l.sample))
		}
	}
	return nil
}

// looked takes a look's result. What is not as it was, is found out by a contact.
func (s *session) looked(t *target, l *look, err error) {
	b := &t.belief
	b.looking = false
	t.calls += l.calls
	switch {
	case s.ctx.Err() != nil:
	case err != nil:
		b.failed, b.err = l.serial, err
		s.log().Info("look at target failed", "target", t.Name, "error", err)
	case l.changed && (t.busy || t.etag != l.etag):
		// a push of ours has changed it meanwhile
	case l.unlike != "":
		s.log().Error("target is not what it was: all of it is looked at", "target", t.Name, "found", l.unlike)
		t.known, t.belief = false, belief{}
	default:
		b.lookedAt(l.at, l.store, l.key != "", l.sampled)
	}
}

// pick returns some of the objects that a target should have, at random.
func pick(tree *manifest.Tree, missing map[int]chunkstore.ID) (ids []chunkstore.ID) {
	for range 4 * sampleObjects { // some are of zeros
		if tree.Len() == 0 || len(ids) == sampleObjects {
			break
		}
		i := rand.IntN(tree.Len())
		id := tree.At(i)
		if _, gone := missing[i]; !gone && id != chunkstore.ZeroID && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// lacking returns how many of ids, which are few, t does not have.
func lacking(ctx context.Context, t *chunkstore.Target, ids []chunkstore.ID) (n int, err error) {
	has := make([]bool, len(ids))
	group, ctx := errgroup.WithContext(ctx)
	for k, id := range ids {
		group.Go(guarded(func() (err error) {
			has[k], err = t.HasChunk(ctx, id)
			return err
		}))
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	for _, has := range has {
		if !has {
			n++
		}
	}
	return n, nil
}

// identify finds out what the target's buckets are, and gives them an identity if they have none.
func (c *contact) identify(ctx context.Context) (err error) {
	c.calls.Add(1)
	if c.ids.Chunks, err = chunkstore.Identify(ctx, c.t.Chunks); err != nil {
		return err
	}
	if !c.exists || c.ids.Manifests == (chunkstore.Identity{}) {
		c.calls.Add(1)
		if c.ids.Manifests, err = chunkstore.Identify(ctx, c.t.Manifests); err != nil {
			return err
		}
	}
	if !c.guarded {
		c.guarded, err = c.t.ProveConditions(ctx, c.ids.Manifests)
	}
	return err
}

// putElsewhere reports whether m, which the target has, was put for another chunk bucket than the
// target's, or before that was emptied: then nothing that it names need be there.
func (c *contact) putElsewhere(m *manifest.Manifest) bool {
	return m != nil && !slices.Contains(m.Stores, c.ids.Chunks)
}

// probe asks for some of the objects that a manifest names; if one is gone, for all of them.
func (c *contact) probe(ctx context.Context) error {
	if c.tree == nil || c.fresh {
		return nil
	}
	ids := pick(c.tree, nil)
	c.calls.Add(int64(len(ids)))
	n, err := lacking(ctx, c.t, ids)
	if err != nil || n == 0 {
		return wrap(err, "look for objects")
	}
	all := make(map[chunkstore.ID]bool)
	for i := range c.tree.Len() {
		all[c.tree.At(i)] = true
	}
	for id := range c.tree.Objects() {
		all[id] = true
	}
	c.gone, err = c.t.Lacking(ctx, all, c.concurrency)
	return wrap(err, "look for objects")
}

// meet takes from a contact what the target's buckets are. What was put to another bucket is not
// believed of this one.
func (s *session) meet(t *target, c *contact) {
	if c.journal == nil {
		return // it did not get so far
	}
	if t.journal != c.journal {
		t.journal, t.put = c.journal, c.has
	}
	changed := func(was, is chunkstore.Identity) bool { return was != (chunkstore.Identity{}) && was != is }
	switch {
	case changed(t.ids.Chunks, c.ids.Chunks):
		s.log().Error("target's chunk bucket is another one than before, or was emptied: everything is put again",
			"target", t.Name, "was", t.ids.Chunks, "is", c.ids.Chunks)
	case c.vain:
		s.log().Error("target's version was put for another chunk bucket, or this one was emptied: everything is put again",
			"target", t.Name, "chunk_bucket", c.ids.Chunks)
	}
	switch {
	case changed(t.ids.Manifests, c.ids.Manifests):
		s.log().Error("target's manifest bucket is another one than before, or was emptied: everything is put again",
			"target", t.Name, "was", t.ids.Manifests, "is", c.ids.Manifests)
	case !c.exists && t.ack.Manifest != "":
		s.log().Error("target's manifest is gone: everything is put again", "target", t.Name)
	}
	t.ids, t.ack.Guarded = c.ids, c.guarded
}

// noteSeen notes what a contact has seen.
func (s *session) noteSeen(t *target, c *contact) {
	if !c.fresh {
		t.belief.store, t.belief.sample = time.Time{}, time.Time{}
	}
	t.belief.lookedAt(c.at, !c.fresh, true, !c.fresh)
	s.cutter.AddStore(t.ids.Chunks)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// unsay takes back that the target has what it had taken.
func (s *session) unsay(t *target) {
	t.holds = nil
	if t.point != (point{}) {
		t.point = point{}
		s.st.PushedGeneration.Store(0)
		s.st.PushedSequence.Store(0)
	}
}

// Stores are the identities of the chunk buckets that a cut is for.
func (s *session) Stores() (ids []chunkstore.Identity) {
	for _, t := range s.targets {
		if t.ids.Chunks != (chunkstore.Identity{}) {
			ids = append(ids, t.ids.Chunks)
		}
	}
	slices.SortFunc(ids, func(a, b chunkstore.Identity) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(ids)
}
