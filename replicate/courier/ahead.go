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

// While Sync copies a database, what was copied is hashed and sealed, and put to the targets that
// have no version of it yet: one processor copies, the others hash and compress, and
// nothing is read again. A cut then finds the hashes, and a push the objects. Nothing
// names these before the push does (I1). Replicators of live databases do not put
// ahead: their copies must not take longer than they have to.
//
// A pack has the chunks that a push would put into one, so that equal databases have equal packs
// where they are put on the same day.
// A piece is sealed as soon as it is copied, and its memory goes to another: what is in memory is
// what is sealed, of packs that wait for a slot or have one.

// processors is how many the machine has for us. The runtime may be given more later, for threads
// that wait.
var processors = runtime.GOMAXPROCS(0)

// piece is a part of the file that was copied.
type piece struct {
	chunks []pieceChunk
	hashed atomic.Bool // ids are there
	ids    []chunkstore.ID
}

// pieceChunk is a chunk in a piece that will have to be put.
type pieceChunk struct {
	index    int
	stamp    uint64 // of the mirror's Diff, which must not have changed since
	from, to int    // in the piece
}

// aheadChunk is a chunk that was copied, sealed or to be sealed.
type aheadChunk struct {
	ready  chan struct{} // closed when the rest is set, or the chunk could not be sealed
	id     chunkstore.ID
	stored *[]byte // one of sealBuffers; nil: zeros, or it is not sealed
}

// aheadGroup is what one pack is made of, for each target that takes it.
type aheadGroup struct {
	chunks []*aheadChunk
	users  atomic.Int32 // that may still read what is sealed
}

// release gives up what is sealed, if nobody else needs it: it is in a pack, or in none.
func (g *aheadGroup) release() {
	if g.users.Add(-1) > 0 {
		return
	}
	for _, c := range g.chunks {
		if c.stored != nil {
			sealBuffers.Put(c.stored)
			c.stored = nil
		}
	}
}

// groupsAhead is how many groups may wait for a target, 16 MiB: what is hashed and sealed while one
// is asked what it is, which takes eight requests one after the other.
const groupsAhead = 4

// ahead takes the pieces of a base copy. It is the goroutine's that owns the office.
type ahead struct {
	office *Office
	work   errgroup.Group // hashes and seals pieces
	feeds  []*feed
	most   int // chunks of a pack

	group []*aheadChunk // that one pack is made of
	of    int           // which multiple of most they are from
	taken bool          // a target has taken the last group
}

// feed brings groups of chunks to a target's contact.
type feed struct {
	groups  chan *aheadGroup // closed at the end of the copy
	refused chan struct{}    // closed when the contact takes no more
}

// Ahead begins to look at targets that are not known, and returns what takes the pieces of a base
// copy that begins: it hashes them, and puts them to the targets that turn out to have nothing.
func (o *Office) Ahead() mirror.Taker {
	a := &ahead{office: o, most: o.o.Uploads.packObjects()}
	a.work.SetLimit(processors)
	for _, c := range o.couriers {
		if c.state == Strange && c.Ready() {
			f := &feed{groups: make(chan *aheadGroup, groupsAhead), refused: make(chan struct{})}
			a.feeds = append(a.feeds, f)
			c.contact(f)
		}
	}
	return a
}

// End says that there are no more pieces.
func (a *ahead) End() {
	a.offer(a.office.o.Errands.Context())
	for _, f := range a.feeds {
		close(f.groups)
	}
	_ = a.work.Wait() // what was not hashed will be
}

// Take offers a piece that has n bytes from off and is in the mirror. It reports whether a target
// puts what was copied now.
func (a *ahead) Take(ctx context.Context, copied *mirror.Piece, off int64, n int) (taken bool) {
	p, m := &piece{}, a.office.o.Tracker.Mirror()
	for at := 0; at < n; at += chunkstore.ChunkBytes {
		i, end := int(off+int64(at))/chunkstore.ChunkBytes, min(n, at+chunkstore.ChunkBytes)
		d := m.Diff(i)
		// What may travel inline, and the chunk of page 1, is the cut's to decide.
		if i > 0 && d != nil && !d.Hashed && cutter.NeedsObject(d) && end-at == m.ChunkBytes(i) {
			p.chunks = append(p.chunks, pieceChunk{i, d.Stamp, at, end})
		}
	}
	if len(p.chunks) == 0 {
		return a.taken
	}
	a.office.fed = append(a.office.fed, p)
	sealed := make([]*aheadChunk, len(p.chunks))
	if a.wanted() {
		for k, c := range p.chunks {
			if of := c.index / a.most; of != a.of {
				a.offer(ctx)
				a.of = of
			}
			sealed[k] = &aheadChunk{ready: make(chan struct{})}
			a.group = append(a.group, sealed[k])
		}
	}
	copied.Retain()
	a.work.Go(errands.Guarded(func() error {
		defer copied.Release()
		defer func() {
			for _, c := range sealed {
				if c != nil {
					close(c.ready)
				}
			}
		}()
		for k, c := range p.chunks {
			_ = chunkstore.InTurn(func() error {
				p.hash(a.office.o.Sealer, copied.Bytes()[c.from:c.to], sealed[k])
				return nil
			})
		}
		p.hashed.Store(true)
		return nil
	}))
	return a.taken
}

// sealBuffers are for stored forms.
var sealBuffers = sync.Pool{New: func() any { return new([]byte) }}

// hash computes a chunk's ID, and seals it if sealed is not nil.
func (p *piece) hash(s chunkstore.Sealer, b []byte, sealed *aheadChunk) {
	id := chunkstore.HashChunk(s, b).ID()
	p.ids = append(p.ids, id)
	if sealed == nil || id == chunkstore.ZeroID {
		return
	}
	buf := sealBuffers.Get().(*[]byte)
	*buf = chunkstore.SealObject(s, (*buf)[:0], id, b)
	sealed.id, sealed.stored = id, buf
}

// wanted reports whether a target may take what is copied.
func (a *ahead) wanted() bool {
	return slices.ContainsFunc(a.feeds, func(f *feed) bool {
		select {
		case <-f.refused:
			return false
		default:
			return true
		}
	})
}

// offer brings the group, which is complete, to the contacts. Only a single target may make the
// copy wait (I3).
func (a *ahead) offer(ctx context.Context) {
	group := &aheadGroup{chunks: a.group}
	if a.group = nil; len(group.chunks) == 0 {
		return
	}
	a.taken = false
	group.users.Store(int32(len(a.feeds)))
	for _, f := range a.feeds {
		if f.offer(ctx, group, len(a.office.couriers) == 1) {
			a.taken = true
		} else {
			group.users.Add(-1)
		}
	}
}

// offer brings a group to the contact, and waits for it if wait says so.
func (f *feed) offer(ctx context.Context, group *aheadGroup, wait bool) bool {
	select {
	case <-f.refused:
		return false
	default:
	}
	if wait {
		select {
		case f.groups <- group:
			return true
		case <-f.refused:
		case <-ctx.Done():
		}
		return false
	}
	select {
	case f.groups <- group:
		return true
	default:
		return false
	}
}

// refuse lets the copy go on without us. f may be nil.
func (f *feed) refuse() {
	if f != nil {
		close(f.refused)
	}
}

// putAhead puts what f brings until the copy has ended.
func (a *contact) putAhead(ctx context.Context) error {
	group, groupCtx := errgroup.WithContext(ctx)
	for range a.uploads.how.Concurrency {
		group.Go(errands.Guarded(func() error {
			for group := range a.feed.groups {
				if err := a.putGroup(groupCtx, group); err != nil {
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

// putGroup makes a pack of a group and puts it.
func (a *contact) putGroup(ctx context.Context, group *aheadGroup) error {
	for _, c := range group.chunks {
		select {
		case <-c.ready:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	release, err := a.t.Slot(ctx)
	if err != nil {
		return err
	}
	defer release()
	pack := chunkstore.NewPack()
	var refs []chunkstore.Ref
	seen := make(map[chunkstore.ID]bool, len(group.chunks))
	for _, c := range group.chunks {
		if _, there := a.notes.put[c.id]; c.stored != nil && !there && !seen[c.id] {
			seen[c.id] = true
			pack.Add(c.id, *c.stored)
			refs = append(refs, chunkstore.Ref{ID: c.id})
		}
	}
	group.release()
	if len(refs) == 0 {
		pack.Recycle()
		return nil
	}
	_, places := pack.Places()
	for k := range refs {
		refs[k].Place = places[k]
	}
	if err := a.uploads.put(ctx, pack, refs); err != nil {
		return err
	}
	pack.Recycle()
	return nil
}

// TakeHashes takes what was hashed ahead, of chunks that are as they were.
func (o *Office) TakeHashes() {
	o.fed = slices.DeleteFunc(o.fed, func(p *piece) bool {
		if !p.hashed.Load() {
			return false
		}
		for k, c := range p.chunks {
			if d := o.o.Tracker.Mirror().Diff(c.index); d != nil && d.Stamp == c.stamp {
				d.Hash, d.Hashed = p.ids[k], true
			}
		}
		return true
	})
}
