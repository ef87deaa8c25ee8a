package courier

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"verneuil/chunkstore"
	"verneuil/replicate/cutter"
	"verneuil/replicate/errands"
	"verneuil/replicate/mirror"
)

// While Sync copies a database, what was copied is hashed, and put to a target that
// has no version of it yet: one processor copies, the others hash and compress, and
// nothing is read again. A cut then finds the hashes, and a push the objects. Nothing
// names these before the push does (I1). Replicators of live databases do not put
// ahead: their copies must not take longer than they have to.

// piece is a part of the file that was copied.
type piece struct {
	*mirror.Piece
	chunks []pieceChunk

	once    sync.Once
	hashed  atomic.Bool // objects are there
	objects []chunkstore.Hashed
}

// pieceChunk is a chunk in a piece that will have to be put.
type pieceChunk struct {
	index    int
	stamp    uint64 // of the mirror's Diff, which must not have changed since
	from, to int    // in the piece
}

// hash computes the chunks' IDs, once.
func (p *piece) hash(s chunkstore.Sealer) {
	p.once.Do(func() {
		for _, c := range p.chunks {
			p.objects = append(p.objects, cutter.HashChunk(s, p.Bytes()[c.from:c.to]))
		}
		p.hashed.Store(true)
	})
}

// ahead takes the pieces of a base copy. It is the goroutine's that owns the office.
type ahead struct {
	office  *Office
	hashers errgroup.Group // for pieces that no target takes
	feeds   []*feed
}

// feed brings pieces to a target's contact.
type feed struct {
	pieces  chan *piece   // closed at the end of the copy
	refused chan struct{} // closed when the contact takes no more
}

// Ahead begins to look at targets that are not known, and returns what takes the pieces of a base
// copy that begins: it hashes them, and puts them to the targets that turn out to have nothing.
func (o *Office) Ahead() mirror.Taker {
	a := &ahead{office: o}
	a.hashers.SetLimit(runtime.GOMAXPROCS(0))
	for _, c := range o.couriers {
		if c.state == Strange && c.Ready() {
			f := &feed{pieces: make(chan *piece, 2), refused: make(chan struct{})}
			a.feeds = append(a.feeds, f)
			c.contact(f)
		}
	}
	return a
}

// End says that there are no more pieces.
func (a *ahead) End() {
	for _, f := range a.feeds {
		close(f.pieces)
	}
	_ = a.hashers.Wait() // what was not hashed will be
}

// Take offers a piece that has n bytes from off and is in the mirror. It reports whether a target
// puts it now.
func (a *ahead) Take(ctx context.Context, copied *mirror.Piece, off int64, n int) (taken bool) {
	p, m := &piece{Piece: copied}, a.office.o.Tracker.Mirror()
	for at := 0; at < n; at += chunkstore.ChunkBytes {
		i, end := int(off+int64(at))/chunkstore.ChunkBytes, min(n, at+chunkstore.ChunkBytes)
		d := m.Diff(i)
		// What may travel inline, and the chunk of page 1, is the cut's to decide.
		if i > 0 && d != nil && !d.Hashed && cutter.NeedsObject(d) && end-at == m.ChunkBytes(i) {
			p.chunks = append(p.chunks, pieceChunk{i, d.Stamp, at, end})
		}
	}
	if len(p.chunks) == 0 {
		return false
	}
	a.office.fed = append(a.office.fed, p)
	for _, f := range a.feeds {
		p.Retain()
		if f.offer(ctx, p, len(a.office.couriers) == 1) {
			taken = true
		} else {
			p.Release()
		}
	}
	if !taken {
		p.Retain()
		a.hashers.Go(errands.Guarded(func() error {
			defer p.Release()
			p.hash(a.office.o.Sealer)
			return nil
		}))
	}
	return taken
}

// offer brings p to the contact. Only a single target may make the copy wait (I3).
func (f *feed) offer(ctx context.Context, p *piece, wait bool) bool {
	select {
	case <-f.refused:
		return false
	default:
	}
	if wait {
		select {
		case f.pieces <- p:
			return true
		case <-f.refused:
		case <-ctx.Done():
		}
		return false
	}
	select {
	case f.pieces <- p:
		return true
	default:
		return false
	}
}

// refuse lets the copy go on without us. f may be nil.
func (f *feed) refuse() {
	if f == nil {
		return
	}
	close(f.refused)
	for p := range f.pieces {
		p.Release()
	}
}

// putAhead puts what f brings until the copy has ended.
func (a *contact) putAhead(ctx context.Context) error {
	group, groupCtx := errgroup.WithContext(ctx)
	for range a.uploads.how.Concurrency {
		group.Go(errands.Guarded(func() error {
			for p := range a.feed.pieces {
				err := a.putPiece(groupCtx, p)
				p.Release()
				if err != nil {
					return err
				}
			}
			return nil
		}))
	}
	err := group.Wait()
	durable, finishErr := a.uploads.finish()
	a.put = durable
	return errors.Join(err, finishErr)
}

func (a *contact) putPiece(ctx context.Context, p *piece) error {
	p.hash(a.t.Sealer)
	for k := range p.chunks {
		if id := p.objects[k].ID(); id != chunkstore.ZeroID && !a.notes.put[id] {
			if err := a.uploads.putHashed(ctx, p.objects[k]); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// TakeHashes takes what was hashed ahead, of chunks that are as they were.
func (o *Office) TakeHashes() {
	o.fed = slices.DeleteFunc(o.fed, func(p *piece) bool {
		if !p.hashed.Load() {
			return false
		}
		for k, c := range p.chunks {
			if d := o.o.Tracker.Mirror().Diff(c.index); d != nil && d.Stamp == c.stamp {
				d.Hash, d.Hashed = p.objects[k].ID(), true
			}
		}
		return true
	})
}
