package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"verneuil/chunkstore"
)

// work brings in hauls until there are no more, or one fails.
func (r *run) work(ctx context.Context) error {
	for h := range r.hauls {
		err := r.bring(ctx, h)
		r.room.Release(h.bytes(r.byChunk(h)))
		if err != nil {
			return err
		}
	}
	return nil
}

// bring fetches h, and writes it.
func (r *run) bring(ctx context.Context, h *haul) error {
	if r.byChunk(h) {
		opened := false
		err := r.Store.OpenPack(ctx, r.From, h.pack, func(pieces []chunkstore.Piece) error {
			opened = true
			return r.put(ctx, h, func(k int, buf []byte) ([]byte, error) {
				return r.open(ctx, h.wants[k].Ref, pieces, buf)
			})
		})
		switch {
		case opened:
			return err
		case !errors.Is(err, chunkstore.ErrCorrupt):
			return h.failed(err)
		} // else its list is damaged: perhaps nothing is that the file needs
	}
	refs := make([]chunkstore.Ref, len(h.wants))
	for k, w := range h.wants {
		refs[k] = w.Ref
	}
	plain, err := r.Store.GetObjects(ctx, r.From, refs)
	if err != nil {
		return h.failed(err)
	}
	return r.put(ctx, h, func(k int, _ []byte) ([]byte, error) { return plain[k], nil })
}

// failed says that h could not be fetched.
func (h *haul) failed(err error) error {
	return &sidedError{fmt.Errorf("chunk %d: %w", h.wants[0].chunks[0], err), ErrSource}
}

// open returns the plain bytes of ref, which stands in a pack with these pieces; they may lie in
// buf. What is damaged there is asked for by itself, so that another target, or a second try,
// helps.
func (r *run) open(ctx context.Context, ref chunkstore.Ref, pieces []chunkstore.Piece,
	buf []byte) ([]byte, error) {
	if piece, ok := chunkstore.FindPiece(pieces, ref); ok {
		plain, err := chunkstore.OpenObject(r.Store.Sealer(), buf, ref.ID, piece.Stored)
		if err == nil {
			return plain, nil
		}
	}
	return r.Store.GetObject(ctx, r.From, ref)
}

// desk is where neighbouring chunks are opened, one after the other.
type desk []byte

// newDesk returns a desk that begins at a multiple of [directAlign], as Go's large objects do.
func newDesk() desk { return make(desk, runChunks*chunkstore.ChunkBytes+openSpare) }

// openSpare is what a decoder may write too far: into the next slot, which is filled later.
const openSpare = chunkstore.OpenBytes - chunkstore.ChunkBytes

// slot returns the k-th chunk's place, empty.
func (d desk) slot(k int) []byte {
	at := k * chunkstore.ChunkBytes
	return d[at : at : at+chunkstore.OpenBytes]
}

// put writes what h wants, of which open returns the k-th one's plain bytes, in buf or anywhere
// else. It waits for a desk first.
func (r *run) put(ctx context.Context, h *haul,
	open func(k int, buf []byte) ([]byte, error)) error {
	run := chunkRun{run: r}
	select {
	case run.desk = <-r.desks:
		defer func() { r.desks <- run.desk }()
	case <-ctx.Done():
		return ctx.Err()
	}
	again := make([][]byte, len(h.wants)) // what is needed for another chunk, too
	for _, p := range h.order() {
		if err := run.before(p.chunk); err != nil {
			return err
		}
		w := h.wants[p.want]
		plain := again[p.want]
		if plain == nil {
			if err := ctx.Err(); err != nil {
				return err
			}
			var buf []byte
			if len(w.chunks) == 1 {
				buf = run.desk.slot(run.chunks)
			}
			var err error
			if plain, err = open(p.want, buf); err == nil && (len(plain) == 0 ||
				len(plain) > chunkstore.ChunkBytes) {
				err = fmt.Errorf("%d bytes: %w", len(plain), chunkstore.ErrCorrupt)
			}
			if err != nil {
				return &sidedError{fmt.Errorf("chunk %d (%v): %w", p.chunk, w.ID, err), ErrSource}
			}
			if len(w.chunks) > 1 {
				again[p.want] = plain
			}
		}
		if len(r.Manifest.InlineOf(p.chunk)) > 0 || len(plain) != r.Manifest.ChunkBytes(p.chunk) {
			plain = r.Manifest.Overlay(p.chunk, plain)
		}
		run.add(plain)
	}
	return run.flush()
}

// placing says which of a haul's wants a chunk needs.
type placing struct{ chunk, want int }

// order returns the chunks that h is for, ascending.
func (h *haul) order() []placing {
	var all []placing
	for k, w := range h.wants {
		for _, i := range w.chunks {
			all = append(all, placing{i, k})
		}
	}
	slices.SortFunc(all, func(a, b placing) int { return cmp.Compare(a.chunk, b.chunk) })
	return all
}

// chunkRun is neighbouring chunks that are written together.
type chunkRun struct {
	run    *run
	desk   desk
	first  int // chunk
	chunks int
	bytes  int
}

// before makes room for chunk i, which is to be added: what is no neighbour of it is written.
func (c *chunkRun) before(i int) error {
	if c.chunks == runChunks || i != c.first+c.chunks {
		if err := c.flush(); err != nil {
			return err
		}
		c.first = i
	}
	return nil
}

// add puts a chunk at the run's end, in its slot if it is not there. All but the file's last chunk
// fill theirs.
func (c *chunkRun) add(plain []byte) {
	slot := c.desk.slot(c.chunks)[:len(plain)]
	if &slot[0] != &plain[0] {
		copy(slot, plain)
	}
	c.chunks++
	c.bytes += len(plain)
}

// flush writes what the run has.
func (c *chunkRun) flush() error {
	if c.chunks == 0 {
		return nil
	}
	if _, err := c.run.w.WriteAt(c.desk[:c.bytes], chunkAt(c.first)); err != nil {
		return fmt.Errorf("chunk %d: %w", c.first, writeError(err))
	}
	n := c.bytes
	c.chunks, c.bytes = 0, 0
	c.run.advance(n)
	return nil
}
