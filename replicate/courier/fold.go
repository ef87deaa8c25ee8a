package courier

import (
	"context"
	"slices"
	"sync"
	"time"

	"verneuil/chunkstore"
	"verneuil/replicate/backoff"
	"verneuil/replicate/cutter"
	"verneuil/replicate/errands"
	"verneuil/replicate/mirror"
)

// foldTrust is how long what a fold has put is named by the next version. That may be made much
// later, when a rule has removed what nobody named.
const foldTrust = time.Hour

// folds are what an office does of the folds that versions ask for: it puts the objects to all
// targets, in the background.
type folds struct {
	of    *Office
	under *folding  // nil: none is under way
	ended time.Time // the last one
	retry time.Time // not before, as the last one has failed
	pause backoff.Backoff
}

// folding is a fold under way. It shares nothing that changes, but the view.
type folding struct {
	fold   *cutter.Fold
	sealer chunkstore.Sealer
	view   *mirror.View
	ids    []chunkstore.ID // of the chunks
	puts   []*foldPut
}

// foldPut is what a fold puts to one target.
type foldPut struct {
	of      *folding
	c       *Courier // the owner's
	t       *chunkstore.Target
	uploads *uploads

	durable map[chunkstore.ID]chunkstore.Place
	err     error
}

// Folds reports whether what outgrows a version's inline pages can be folded: by all targets of
// which it is known what they have, as none of them is in trouble. A Sync makes one version, and
// then nobody is there.
func (f *folds) Folds() bool {
	o := f.of
	if o.o.Still || o.now().Before(f.retry) {
		return false
	}
	known := false
	for _, c := range o.couriers {
		if c.state.Known() {
			if c.trouble.err != nil {
				return false
			}
			known = true
		}
	}
	return known
}

// Fold begins what the last version asks for.
func (f *folds) Fold() {
	o := f.of
	if f.under != nil || !f.Folds() {
		return
	}
	fold := o.cutter.BeginFold()
	if fold == nil {
		return
	}
	v := &folding{fold: fold, sealer: o.o.Sealer, view: o.o.Tracker.Mirror().View(fold.Chunks)}
	for _, c := range o.couriers {
		if c.state.Known() {
			c.fold = v
			v.puts = append(v.puts, &foldPut{of: v, c: c, t: c.Target, uploads: c.uploads()})
		}
	}
	f.under = v
	o.o.Errands.Go(func(ctx context.Context) error {
		defer v.view.Close()
		return v.run(ctx)
	}, func(err error) { f.took(v, err) })
}

// took takes a fold's result. The next version names the objects if all targets have them, but for
// those that have turned out to be others.
func (f *folds) took(v *folding, err error) {
	o := f.of
	f.under, f.ended = nil, o.now()
	for _, p := range v.puts {
		c := p.c
		c.shelf.calls.Add(p.uploads.calls.Swap(0))
		p.uploads.count(o.o.Sent, len(p.durable))
		if c.fold != v {
			continue
		}
		c.fold = nil
		if c.stock.folded = p.durable; err == nil {
			err = p.err
		}
	}
	if err == nil {
		f.pause.Reset()
		v.fold.End(v.ids)
		return
	}
	v.fold.End(nil)
	if !o.o.Errands.Ending() {
		wait := f.pause.Next()
		f.retry = o.now().Add(wait)
		o.o.Log.Info("folding failed", "error", err, "retry_in", wait)
	}
}

// forgetOld forgets what was folded so long ago that it may be gone.
func (f *folds) forgetOld() {
	if age := f.of.now().Sub(f.ended); age >= 0 && age < foldTrust {
		return
	}
	for _, c := range f.of.couriers {
		c.stock.folded = nil
	}
}

// run hashes the chunks, and puts them to each target (I1). It fails if they cannot be read.
func (v *folding) run(ctx context.Context) error {
	var buf [chunkstore.ChunkBytes]byte
	ids := make([]chunkstore.ID, len(v.fold.Chunks))
	for k, i := range v.fold.Chunks {
		err := chunkstore.InTurn(func() error {
			b, err := v.view.Chunk(i, buf[:])
			if err == nil {
				ids[k] = chunkstore.HashChunk(v.sealer, b).ID()
			}
			return err
		})
		if err != nil {
			return wrap(err, "fold")
		}
	}
	v.ids = ids
	var all sync.WaitGroup
	for _, p := range v.puts {
		all.Go(func() { p.err = errands.Guarded(func() error { return p.run(ctx) })() })
	}
	all.Wait()
	return nil
}

// run puts the objects to the target, and makes that durable.
func (p *foldPut) run(ctx context.Context) error {
	packs := p.uploads.packing(ctx)
	for some := range slices.Chunk(p.of.distinct(), p.uploads.how.PackObjects) {
		packs.Add(chunkstore.Parcel{
			Objects: len(some),
			Fill: func(pack *chunkstore.Pack) ([]chunkstore.ID, error) {
				return p.fill(pack, some)
			},
			Placed: func([]chunkstore.Place) {},
		})
	}
	err := packs.Wait()
	var finishErr error
	if p.durable, finishErr = p.uploads.finish(); err == nil {
		err = finishErr
	}
	return wrap(err, "fold")
}

// distinct returns one of the chunks of each object, but for zeros, by its place in ids.
func (v *folding) distinct() (chunks []int) {
	seen := map[chunkstore.ID]bool{chunkstore.ZeroID: true}
	for k, id := range v.ids {
		if !seen[id] {
			seen[id] = true
			chunks = append(chunks, k)
		}
	}
	return chunks
}

// fill seals chunks into a pack.
func (p *foldPut) fill(pack *chunkstore.Pack, some []int) (ids []chunkstore.ID, err error) {
	buf := chunkBuffers.Get().(*[chunkstore.ChunkBytes]byte)
	defer chunkBuffers.Put(buf)
	for _, k := range some {
		id := p.of.ids[k]
		err := chunkstore.InTurn(func() error {
			b, err := p.of.view.Chunk(p.of.fold.Chunks[k], buf[:])
			if err == nil {
				err = pack.SealChecked(p.t.Sealer, id, b)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}
