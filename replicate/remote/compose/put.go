package compose

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

// read fills chunk, which has room for a whole one, with chunk i of a version, and returns what
// the chunk is.
type read func(ctx context.Context, i int, chunk []byte) ([]byte, error)

// parcels returns the chunks that get a new object, as they go into packs.
func (w *work) parcels() [][]int { return parcels(w.chunks) }

// parcels returns chunks, ascending, as they go into packs. Those of an aligned group have a pack
// to themselves, if they are half of it at least: so what is written in order is found in order.
func parcels(chunks []int) (parcels [][]int) {
	var rest []int
	for len(chunks) > 0 {
		group := chunks[0] / chunkstore.PackMax
		n := slices.IndexFunc(chunks, func(i int) bool { return i/chunkstore.PackMax != group })
		if n < 0 {
			n = len(chunks)
		}
		if 2*n >= chunkstore.PackMax {
			parcels = append(parcels, chunks[:n:n])
		} else {
			rest = append(rest, chunks[:n]...)
		}
		chunks = chunks[n:]
	}
	return slices.AppendSeq(parcels, slices.Chunk(rest, chunkstore.PackMax))
}

// packing puts packs, and then knows where everything stands. It belongs to one goroutine.
type packing struct {
	c     *Composer
	ctx   context.Context
	batch *chunkstore.PackBatch // nil: nothing is put yet
	packs *chunkstore.Packing
	made  []*parcel
	large bool       // what is put is not kept: it would take the place of all else
	mu    sync.Mutex // of who reads
	put   puts
}

// puts are the packs that were put.
type puts struct {
	mu   sync.Mutex
	all  []Put
	room int64 // for what is kept
}

func (s *puts) add(pack *chunkstore.Pack) {
	name, _ := pack.Places()
	s.mu.Lock()
	defer s.mu.Unlock()
	put := Put{Name: name}
	if n := pack.StoredBytes(); n <= s.room {
		put.Pack, s.room = pack.Clone(), s.room-n
	}
	s.all = append(s.all, put)
}

// found notes a pack that need not be put.
func (s *puts) found(name chunkstore.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, Put{Name: name})
}

// parcel is the chunks of a pack.
type parcel struct {
	chunks []int
	ids    []chunkstore.ID
	refs   map[chunkstore.ID]chunkstore.Ref // of those that are not zeros
	plain  [][]byte                         // nil: they are not kept
}

// packing puts packs of so many chunks.
func (c *Composer) packing(ctx context.Context, chunks int) *packing {
	return &packing{c: c, ctx: ctx, large: chunks > chunksKept, put: puts{room: c.o.Keep}}
}

func (p *packing) begin() {
	if p.batch != nil {
		return
	}
	p.batch = p.c.o.Target.Batch()
	p.packs = p.c.o.Target.Packing(p.ctx, p.c.o.Concurrency, chunkstore.PackMax,
		func(ctx context.Context, pack *chunkstore.Pack, _ []chunkstore.Ref) error {
			if has := p.c.o.Has; has != nil {
				if name, _ := pack.Places(); has(ctx, name) {
					p.put.found(name)
					return nil
				}
			}
			_, _, err := p.batch.Put(ctx, pack)
			if err == nil && !p.large {
				p.c.o.Store.Fill(pack)
			}
			if err == nil {
				p.put.add(pack)
			}
			return err
		})
}

// chunkBuffers are for chunks that are sealed.
var chunkBuffers = sync.Pool{New: func() any { return new([chunkstore.ChunkBytes]byte) }}

// add begins to put a pack of chunks.
func (p *packing) add(from read, chunks []int) {
	p.begin()
	of := &parcel{chunks: chunks, refs: make(map[chunkstore.ID]chunkstore.Ref)}
	p.made = append(p.made, of)
	var objects []chunkstore.ID
	p.packs.Add(chunkstore.Parcel{
		Objects: len(chunks),
		Fill: func(pack *chunkstore.Pack) ([]chunkstore.ID, error) {
			buf := chunkBuffers.Get().(*[chunkstore.ChunkBytes]byte)
			defer chunkBuffers.Put(buf)
			for _, i := range chunks {
				plain, err := p.read(from, i, buf[:])
				if err != nil {
					return nil, err
				}
				if !p.large {
					of.plain = append(of.plain, slices.Clone(plain))
				}
				_ = chunkstore.InTurn(func() error {
					if id, fresh := of.seal(p.c.o.Target.Sealer, pack, plain); fresh {
						objects = append(objects, id)
					}
					return nil
				})
			}
			return objects, nil
		},
		Placed: func(places []chunkstore.Place) {
			for k, id := range objects {
				of.refs[id] = chunkstore.Ref{ID: id, Place: places[k]}
			}
		},
	})
}

func (p *packing) read(from read, i int, buf []byte) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.packs.Context().Err(); err != nil {
		return nil, err
	}
	return from(p.packs.Context(), i, buf)
}

// seal puts the next chunk into the pack, if that has not got its like.
func (of *parcel) seal(
	s chunkstore.Sealer, pack *chunkstore.Pack, plain []byte,
) (id chunkstore.ID, fresh bool) {
	h := chunkstore.HashChunk(s, plain)
	id = h.ID()
	of.ids = append(of.ids, id)
	if _, there := of.refs[id]; there || id == chunkstore.ZeroID {
		return id, false
	}
	of.refs[id] = chunkstore.Ref{ID: id}
	pack.Seal(s, h)
	return id, true
}

// finish waits until all is put, durably (C2), and fills in what d says of objects. If next, which
// comes after base, has too many patches, it gets a tree of its own.
func (p *packing) finish(d *Draft, base, next *manifest.Manifest) (err error) {
	if p.batch == nil {
		return nil
	}
	defer func() {
		err = p.end(err)
		d.Packs = p.put.all
	}()
	if !p.packs.Settle() {
		return nil // end says why
	}
	p.describe(d)
	if len(base.Patches)+len(d.Changed) <= p.c.o.Budgets.Patches {
		return nil
	}
	tree := base.Tree(p.c.o.Target.Sealer)
	tree.Resize(next.Chunks())
	for _, patch := range d.Changed {
		tree.Set(patch.Index, patch.Ref)
	}
	d.Whole = true
	return p.putTree(tree, next)
}

// putTree gives m the tree, and begins to put its new leaves and nodes.
func (p *packing) putTree(tree *manifest.Tree, m *manifest.Manifest) error {
	p.begin()
	var err error
	m.Levels, m.Top, m.Patches, err = tree.Pack(p.packs.Context(), patchesMax, p.c.fetch,
		func(objects []chunkstore.Hashed) ([]chunkstore.Place, error) {
			return p.packs.PutObjects(objects, nil)
		})
	if err != nil {
		return fmt.Errorf("compose: put tree: %w", err)
	}
	m.Earlier = nil
	return nil
}

// end waits for all puts, and makes what they have put durable, unless err says that this is in
// vain. Their error says more than one that comes of it.
func (p *packing) end(err error) error {
	defer p.batch.Close() // nothing is written by it
	if putErr := p.packs.Wait(); putErr != nil {
		return fmt.Errorf("compose: %w", putErr)
	}
	if err == nil {
		err = p.batch.Sync(p.ctx) // C2
	}
	return err
}

// describe fills in what d says of objects, all of which are sealed.
func (p *packing) describe(d *Draft) {
	for _, of := range p.made {
		for k, i := range of.chunks {
			ref, ok := of.refs[of.ids[k]]
			if !ok {
				ref.ID = chunkstore.ZeroID
			}
			d.Changed = append(d.Changed, manifest.Patch{Index: i, Ref: ref})
			if of.plain == nil {
				continue
			}
			if d.Chunks == nil {
				d.Chunks = make(map[int][]byte)
			}
			d.Chunks[i] = of.plain[k]
		}
	}
	slices.SortFunc(d.Changed, func(a, b manifest.Patch) int { return a.Index - b.Index })
}

// fetch gets leaves and nodes.
func (c *Composer) fetch(ctx context.Context, refs []chunkstore.Ref) ([][]byte, error) {
	release, err := c.o.Target.Slot(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return c.o.Store.GetObjects(ctx, c.o.Target, refs)
}
