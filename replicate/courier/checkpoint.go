package courier

import (
	"context"
	"errors"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/backoff"
	"verneuil/replicate/cutter"
	"verneuil/replicate/versions"
)

// LeaveRecords and SyncRecords are for a [Want]: of a process that ends, as its successor may not
// live longer, and of a Sync, which is alone.
const (
	LeaveRecords = versions.CheckpointRecords
	SyncRecords  = 16
)

// saver puts checkpoints of a target's history, in the background.
type saver struct {
	of     *Courier
	saving *saving   // under way, or to be taken when the push is over; nil: none is
	since  time.Time // the last contact
	bytes  int64     // of records since the last checkpoint was begun
	err    error     // of the last attempt; nil: it has not failed
	failed uint64    // its serial
	retry  time.Time
	pause  backoff.Backoff
}

// saving is a checkpoint on its way. It shares nothing that changes, but what is tallied.
type saving struct {
	shelf   *shelf
	t       *chunkstore.Target
	story   *history.Saving
	tree    *manifest.Tree             // its own
	renew   map[chunkstore.Digest]bool // packs whose leaves and nodes are put anew
	version manifest.Manifest          // at last, that of the checkpoint
	uploads *uploads
	prove   func() error
	keep    bool  // to go back to
	bytes   int64 // of records that it has, about

	unread bool // a leaf or node of the target's tree cannot be read
	ended  bool
	err    error // then

	// What pushes have made of the version meanwhile; stale: more than that.
	steps []step
	stale bool
}

// step is what a push has made of a target's tree.
type step struct {
	least, chunks int
	patches       []manifest.Patch
}

// due returns when a checkpoint is to be put, where records may not be as many as tidy;
// 0: no more than as a rule. ok is false while there is nothing to be put, or not now.
func (b *saver) due(tidy int) (at time.Time, ok bool) {
	c := b.of
	s, n := &c.stock, c.stock.unsaved()
	if c.state != Idle || b.saving != nil || n == 0 || s.version == nil || len(s.lost) > 0 ||
		s.writer == nil || s.writer.State() != history.Owning {
		return at, false
	}
	if !versions.CheckpointDue(uint64(n), b.bytes) && (tidy == 0 || n < tidy) {
		if at = s.taken; b.since.After(at) {
			at = b.since
		}
		if at = at.Add(versions.CheckpointPause); c.Behind() {
			return at, false // a push comes first
		}
	}
	if b.err != nil && b.retry.After(at) && tidy == 0 {
		at = b.retry
	}
	return at, true
}

// Checkpoint begins what checkpoints are due, and with them repacks their targets; wants are those
// of the flushes that wait.
func (o *Office) Checkpoint(wants []Want) {
	for _, c := range o.couriers {
		tidy := 0
		for _, w := range wants {
			if w.Records > 0 && (tidy == 0 || w.Records < tidy) && c.saver.failed <= w.Serial {
				tidy = w.Records
			}
		}
		at, due := c.saver.due(tidy)
		due = due && !at.After(o.now())
		c.repack.goOn(due)
		if due && !(tidy > 0 && c.repack.unfinished()) {
			c.saver.begin()
		}
	}
}

// untidy reports whether w waits for a checkpoint, or for what is repacked with one. Of a history
// that is not ours there is none to wait for.
func (b *saver) untidy(w Want) bool {
	if w.Records > 0 && b.of.repack.unfinished() {
		return true
	}
	if w.Records == 0 || b.of.stock.unsaved() < w.Records || b.failed > w.Serial {
		return false
	}
	_, due := b.due(w.Records)
	return due || b.saving != nil
}

// begin begins to put a checkpoint of what the target has.
func (b *saver) begin() {
	c := b.of
	s, o := &c.stock, &c.office.o
	v := &saving{
		shelf: c.shelf, t: c.Target, story: s.writer.Saving(), tree: s.tree.Clone(),
		version: *s.version, uploads: c.uploads(), prove: o.Prove,
		bytes: b.bytes, renew: c.repack.renew,
	}
	c.repack.renew = nil
	v.tree.Near = c.near()
	age := c.office.now().Sub(c.ack.Kept)
	v.keep = age >= versions.KeepInterval || age < 0
	b.saving, b.bytes = v, 0
	o.Errands.Go(v.run, func(err error) {
		v.ended, v.err = true, err
		b.take()
	})
}

// run puts leaves and nodes, makes them durable, and puts the checkpoint (I1).
func (v *saving) run(ctx context.Context) error {
	fetch := v.uploads.fetching(&v.unread)
	if len(v.renew) > 0 {
		if err := v.tree.Renew(ctx, v.renew, fetch); err != nil {
			return wrap(err, "put tree")
		}
	}
	packs := v.uploads.packing(ctx)
	m := &v.version
	var err error
	m.Levels, m.Top, m.Patches, err = v.tree.Pack(packs.Context(), cutter.PatchesMax, fetch,
		func(objects []chunkstore.Hashed) ([]chunkstore.Place, error) {
			return packs.PutObjects(objects, nil)
		})
	err = wrap(err, "put tree")
	if putErr := packs.Wait(); putErr != nil {
		err = putErr
	}
	_, finishErr := v.uploads.finish()
	if err = errors.Join(err, finishErr); err != nil {
		return err
	}
	m.Earlier, m.At = nil, v.story.Position
	if v.story.Body, err = m.Encode(v.t.Sealer); err != nil {
		return err
	}
	release, err := v.t.Slot(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := v.prove(); err != nil {
		return err
	}
	if v.keep {
		v.shelf.calls.Add(1)
		if err := versions.Keep(ctx, v.t, v.shelf.key, m.At, v.story.Body); err != nil {
			return err
		}
		v.uploads.bytes.Add(int64(len(v.story.Body)))
	}
	if err := v.story.Run(ctx); err != nil {
		return err
	}
	v.uploads.bytes.Add(int64(len(v.story.Body)))
	return nil
}

// noteStep notes for the checkpoint under way that the target has taken a version.
func (b *saver) noteStep(p *push) {
	c := b.of
	if !p.prepared {
		c.ack.Kept, b.bytes = c.office.now(), 0
	} else {
		b.bytes += int64(len(p.body))
	}
	if b.saving != nil {
		b.saving.note(p)
	}
}

// note notes that the target has taken a version since v was begun.
func (v *saving) note(p *push) {
	if p.packed {
		v.stale = true // the tree is newer than v's
	} else {
		v.steps = append(v.steps, step{p.change.least, p.change.chunks, p.change.patches})
	}
}

// adopt makes v's tree, with what pushes have done meanwhile, the target's.
func (v *saving) adopt(s *stock) {
	if v.stale || s.version == nil || len(s.lost) > 0 {
		return
	}
	for _, step := range v.steps {
		v.tree.Resize(step.least)
		v.tree.Resize(step.chunks)
		for _, p := range step.patches {
			v.tree.Set(p.Index, p.Ref)
		}
	}
	m := *s.version
	v.tree.Describe(&m)
	s.tree, s.version = v.tree, &m
}

// take takes the result of the checkpoint under way, if it has ended, and no push needs the
// target's history.
func (b *saver) take() {
	c := b.of
	v := b.saving
	if v == nil || !v.ended || c.state.Busy() {
		return
	}
	b.saving = nil
	c.shelf.calls.Add(v.uploads.calls.Swap(0))
	v.uploads.count(c.office.o.Sent, 0)
	switch {
	case v.err == nil:
		b.replaced(v)
	case c.office.o.Errands.Ending():
	default:
		b.bytes += v.bytes
		wait := b.pause.Next()
		b.err, b.failed = v.err, c.office.o.Serial.Next()
		b.retry = c.office.now().Add(wait)
		c.log().Info("checkpoint failed", "target", c.Name, "error", v.err, "retry_in", wait)
		if v.unread && chunkstore.IsFault(v.err) {
			c.belief.suspect(unreadTree + v.err.Error())
		} else if conflict(v.err) || chunkstore.IsFault(v.err) {
			c.belief.doubt()
		}
	}
}

// replaced takes note that v is the newest checkpoint.
func (b *saver) replaced(v *saving) {
	c := b.of
	s, now := &c.stock, c.office.now()
	b.err, b.retry = nil, time.Time{}
	b.pause.Reset()
	c.office.o.Sent.Manifests.Add(1)
	if v.keep {
		c.ack.Kept = now
	}
	if s.writer == nil || s.writer.At().Lineage != v.story.Lineage {
		return
	}
	s.writer.Put(v.story)
	s.etag, s.mark = s.writer.Reader().ETag(), s.writer.Reader().Clone()
	c.belief.lookedAt(now, seen{manifest: true})
	v.adopt(s)
	after := s.version
	if s.unsettled != nil {
		after = &s.unsettled.version
	}
	diaryOf(c).note(s.writer, s.version, after)
	c.office.saveAcks()
	c.log().Info("checkpoint", "target", c.Name, "record", v.story.Number, "kept", v.keep)
}
