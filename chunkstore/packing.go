package chunkstore

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// sealing bounds, for all databases of the process, the objects that are sealed at a time: more of
// them than processors would cost memory and save no time.
var sealing = make(chan struct{}, runtime.GOMAXPROCS(0))

// InTurn has f hash or seal an object: as many at a time as there are processors.
func InTurn(f func() error) error {
	sealing <- struct{}{}
	defer func() { <-sealing }()
	return f()
}

// packMemory has the memory of packs that were put, some MiB each.
var packMemory = sync.Pool{New: func() any { return new(Pack) }}

// NewPack returns an empty pack, which may have the memory of one that was recycled.
func NewPack() *Pack { return packMemory.Get().(*Pack) }

// Recycle gives up p, which nobody needs any more, nor reads: see [Pack.Reset].
func (p *Pack) Recycle() {
	p.Reset()
	packMemory.Put(p)
}

// bodyFrom is from how many bytes on memory for a body is worth keeping: fresh memory costs a page
// fault for each 4 KiB, a tenth of a restore's processor time. Smaller bodies are kept by who got
// them, or are soon collected.
const bodyFrom = 1 << 20

// bodyGrain is what such memory is a multiple of, so that packs of nearly one size can share it.
const bodyGrain = 256 << 10

// bodies has the memory of bodies that were recycled.
var bodies sync.Pool

// NewBody returns an empty buffer with room for n bytes, for the body of a [Bucket.Get]. It may
// have another body's memory, and what stood there.
func NewBody(n int64) []byte {
	if n >= bodyFrom {
		n = (n + bodyGrain - 1) / bodyGrain * bodyGrain
		if b, ok := bodies.Get().(*[]byte); ok && int64(cap(*b)) >= n && int64(cap(*b)) <= 2*n {
			return (*b)[:0]
		}
	}
	return make([]byte, 0, n)
}

// recycleBody gives up body, which nobody reads any more.
func recycleBody(body []byte) {
	if cap(body) >= bodyFrom {
		bodies.Put(&body)
	}
}

// Packing puts several packs at once, while they are made. Each has a slot of the target before it
// has a goroutine, and memory: a process with a thousand busy databases makes no more requests at a
// time, nor needs more memory for them, than with one. It belongs to one goroutine.
type Packing struct {
	t        *Target
	most     int // objects of a pack
	edition  uint8
	put      func(ctx context.Context, pack *Pack, refs []Ref) error
	outer    context.Context
	group    *errgroup.Group
	ctx      context.Context // ends when a put fails, or outer
	unsealed sync.WaitGroup
	failed   atomic.Bool // a pack was not made
}

// Packing returns what puts packs to t by put, at most so many at once. put is told what a pack
// has; several goroutines call it. Packs that [Packing.PutObjects] makes have at most most objects.
func (t *Target) Packing(
	ctx context.Context, concurrency, most int,
	put func(ctx context.Context, pack *Pack, refs []Ref) error,
) *Packing {
	p := &Packing{t: t, most: most, put: put, outer: ctx}
	p.group, p.ctx = errgroup.WithContext(ctx)
	p.group.SetLimit(concurrency)
	return p
}

// Edition gives packs that are made from now on another name than packs of the same objects have
// that are of another edition. So what was damaged under its name is put again where nothing may be
// replaced, too.
func (p *Packing) Edition(n uint8) { p.edition = n }

// Context ends when a put has failed, too.
func (p *Packing) Context() context.Context { return p.ctx }

// Parcel is what makes a pack. Its functions are called in a goroutine.
type Parcel struct {
	// Objects is how many Fill seals, as far as that is known: see [Pack.Expect].
	Objects int
	// Fill seals what the pack has, at most [PackMax] objects, and returns their IDs. Where there
	// is none, no pack is put.
	Fill func(pack *Pack) ([]ID, error)
	// Placed is told where they stand, before the pack is put.
	Placed func(places []Place)
	// Put is told that the pack was put; nil: nobody is.
	Put func()
}

// Add begins to make a pack. It does nothing once a put has failed.
func (p *Packing) Add(c Parcel) {
	release, err := p.t.Slot(p.ctx)
	if err != nil {
		return
	}
	p.unsealed.Add(1)
	p.group.Go(func() (err error) {
		defer recovered(&err)
		defer release()
		pack := NewPack()
		pack.edition = p.edition
		pack.Expect(c.Objects)
		refs, err := p.fill(c, pack)
		if err == nil && len(refs) > 0 {
			err = p.put(p.ctx, pack, refs)
		}
		if err != nil {
			return err
		}
		pack.Recycle()
		if c.Put != nil {
			c.Put()
		}
		return nil
	})
}

// fill fills a pack.
func (p *Packing) fill(c Parcel, pack *Pack) (refs []Ref, err error) {
	made := false
	defer func() {
		if !made {
			p.failed.Store(true)
		}
		p.unsealed.Done()
	}()
	ids, err := c.Fill(pack)
	if err != nil {
		return nil, err
	}
	var places []Place
	if len(ids) > 0 {
		_, places = pack.Places()
	}
	for k, id := range ids {
		refs = append(refs, Ref{ID: id, Place: places[k]})
	}
	c.Placed(places)
	made = true
	return refs, nil
}

// Settle waits until all packs are sealed, so that it is known where all objects stand. It reports
// whether they are: else Wait says why not.
func (p *Packing) Settle() (ok bool) {
	p.unsealed.Wait()
	return !p.failed.Load() && p.ctx.Err() == nil
}

// Wait waits until all packs are put, or one has failed.
func (p *Packing) Wait() error {
	if err := p.group.Wait(); err != nil {
		return err
	}
	return p.outer.Err()
}

// errUnput: a leaf or node was not put; another error says why.
var errUnput = errors.New("not put")

// PutObjects begins to put leaves or nodes, but for those that are there, and returns the places of
// all.
func (p *Packing) PutObjects(objects []Hashed, there map[ID]Place) ([]Place, error) {
	places := make([]Place, len(objects))
	var fresh []int // in objects
	for k, h := range objects {
		place, ok := there[h.ID()]
		if places[k] = place; !ok {
			fresh = append(fresh, k)
		}
	}
	for some := range slices.Chunk(fresh, p.most) {
		p.Add(Parcel{
			Objects: len(some),
			Fill: func(pack *Pack) (ids []ID, err error) {
				for _, k := range some {
					_ = InTurn(func() error { pack.Seal(p.t.Sealer, objects[k]); return nil })
					ids = append(ids, objects[k].ID())
				}
				return ids, nil
			},
			Placed: func(of []Place) {
				for n, k := range some {
					places[k] = of[n]
				}
			},
		})
	}
	if !p.Settle() {
		return nil, errUnput
	}
	return places, nil
}
