package remote

import (
	"context"
	"errors"
	"time"

	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/remote/compose"
	"verneuil/replicate/versions"
)

// saverRetry is for how long nothing is tried after a checkpoint that failed.
const saverRetry = 10 * time.Second

// saver puts checkpoints, and has inline pages folded into chunks. It is guarded by database.mu.
type saver struct {
	d       *database
	running bool
	of      *history.Writer // of which the one that runs is
	bytes   int64           // of records since the last checkpoint began
	kept    time.Duration   // when a checkpoint was; 0: none, as far as is known
	retry   time.Duration   // not before
	idle    *time.Timer
	due     bool // idle will begin one
	folding bool
	folded  *compose.Folded // goes with the next record
	lost    int             // how often forget was called
	// What the last checkpoint was made of, and what it is
	from, packed *manifest.Manifest
}

// appended notes that a record of so many bytes was appended. The caller has the pen.
func (b *saver) appended(bytes int) {
	d := b.d
	m := d.story.m
	records := m.At.Number - d.story.w.Reader().Seen()
	d.mu.Lock()
	defer d.mu.Unlock()
	b.bytes += int64(bytes)
	b.beginAfter(versions.CheckpointPause)
	if d.now() >= b.retry &&
		(versions.CheckpointDue(records, b.bytes) || d.composer.WantsCheckpoint(m)) {
		b.begin()
	}
	if !b.folding && b.folded == nil && d.composer.Wants(m) {
		b.folding = true
		lost := b.lost
		d.set.run("fold inline pages", d, func(ctx context.Context) { b.fold(ctx, m, lost) })
	}
}

// beginAfter begins a checkpoint after a pause, and not earlier but by begin. It is called with mu.
func (b *saver) beginAfter(pause time.Duration) {
	if b.due = true; b.idle != nil {
		b.idle.Reset(pause)
		return
	}
	b.idle = time.AfterFunc(pause, func() {
		b.d.mu.Lock()
		defer b.d.mu.Unlock()
		b.due = false
		b.begin()
	})
}

// begin begins a checkpoint, unless one is under way. It is called with mu.
func (b *saver) begin() {
	if !b.running {
		b.running = true
		b.d.set.run("put a checkpoint", b.d, b.checkpoint)
	}
}

// forget gives up what was put into a store that has lost what it had. The caller has the pen.
func (b *saver) forget() {
	d := b.d
	d.mu.Lock()
	defer d.mu.Unlock()
	b.folded, b.from, b.packed = nil, nil, nil
	b.lost++
	d.lease.keeper.traced.named = named{}
}

// fold moves inline pages of m into chunks, unless forget has been called since it was so often.
func (b *saver) fold(ctx context.Context, m *manifest.Manifest, lost int) {
	d := b.d
	folded, err := b.foldFrom(ctx, m)
	if err != nil {
		d.log.Info("inline pages were not folded", "error", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if b.folding = false; b.lost != lost {
		return
	}
	b.folded = folded
	if b.from != nil { // which may have been put meanwhile
		b.folded = folded.Rebase(b.from, b.packed)
	}
}

func (b *saver) foldFrom(ctx context.Context, m *manifest.Manifest) (*compose.Folded, error) {
	d := b.d
	r, err := d.shop.replicas.OpenFrom(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if r.Manifest().Cut != m.Cut {
		m = r.Manifest()
	}
	return d.composer.Fold(ctx, m, r)
}

// checkpoint puts a checkpoint of the newest version.
func (b *saver) checkpoint(ctx context.Context) {
	d := b.d
	err := b.putCheckpoint(ctx)
	if err != nil {
		d.log.Info("checkpoint failed", "error", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if b.running = false; err != nil {
		b.retry = d.now() + saverRetry
		b.beginAfter(saverRetry)
	}
}

func (b *saver) putCheckpoint(ctx context.Context) error {
	d := b.d
	saving, m, err := b.beginCheckpoint(ctx)
	if err != nil || saving == nil {
		return err
	}
	packed, packs, err := d.composer.Checkpoint(ctx, m)
	if err != nil {
		return err
	}
	if saving.Body, err = packed.Encode(d.shop.t.Sealer); err != nil {
		return err
	}
	d.mu.Lock()
	now := d.now()
	keep := b.kept == 0 || now-b.kept >= versions.KeepInterval
	d.mu.Unlock()
	if keep {
		if err := versions.Keep(ctx, d.shop.t, d.key, packed.At, saving.Body); err != nil {
			return err
		}
		d.mu.Lock()
		b.kept = now
		d.mu.Unlock()
	}
	// Records that are gone stay gone below a checkpoint, and chunks are gone with them.
	if err := d.lease.trace(ctx); err != nil {
		return err
	}
	if err := d.take(ctx); err != nil {
		return err
	}
	same := d.story.w == b.of
	d.give()
	if !same {
		return errors.New("the history was opened anew")
	}
	if err := saving.Run(ctx); err != nil {
		return err
	}
	d.log.Debug("checkpoint", "record", packed.At.Number, "kept", keep)
	if err := b.endCheckpoint(ctx, saving, m, packed); err != nil {
		return err
	}
	named := &d.lease.keeper.traced.named
	d.mu.Lock()
	named.add(packs...)
	d.mu.Unlock()
	if err := named.mend(ctx, d); err != nil { // nobody may look any more
		return err
	}
	// What this checkpoint has may have been lost since the last look: then it is all there is.
	err = d.lease.trace(ctx)
	if errors.Is(err, history.ErrLost) {
		named.tellOf(ctx, d, m)
		return err
	}
	return nil
}

// beginCheckpoint returns what a checkpoint is to be made of; nil: there is nothing new.
func (b *saver) beginCheckpoint(ctx context.Context) (
	*history.Saving, *manifest.Manifest, error,
) {
	d := b.d
	if err := d.take(ctx); err != nil {
		return nil, nil, err
	}
	defer d.give()
	s := &d.story
	if s.w == nil || s.w.State() == history.Unsettled || s.w.Reader().Seen() >= s.w.At().Number {
		return nil, nil, nil
	}
	d.mu.Lock()
	b.bytes = 0
	d.mu.Unlock()
	b.of = s.w
	return s.w.Saving(), s.m, nil
}

// endCheckpoint has what goes on from a checkpoint, which packed is, of m, stand on its tree.
func (b *saver) endCheckpoint(
	ctx context.Context, saving *history.Saving, m, packed *manifest.Manifest,
) error {
	d := b.d
	if err := d.take(ctx); err != nil {
		return err
	}
	defer d.give()
	s := &d.story
	if s.w == nil || s.w.At().Lineage != saving.Lineage {
		return nil
	}
	s.w.Put(saving)
	next := compose.Rebase(m, packed, s.m)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.queue.rebase(next); err != nil {
		return err
	}
	s.m, b.from, b.packed = next, m, packed
	b.folded = b.folded.Rebase(m, packed)
	return nil
}
