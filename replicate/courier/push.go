package courier

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/bell"
	"verneuil/replicate/cutter"
	"verneuil/replicate/mirror"
	"verneuil/spool"
)

// push is the last version on its way to one target. It shares nothing that changes but the view,
// the target's writer, and what is guarded by mu.
type push struct {
	t       *chunkstore.Target
	version manifest.Manifest // the target's, once it is described
	point   spool.Point       // what it includes
	begun   time.Time
	delivery

	change   change
	view     *mirror.View
	uploads  *uploads
	progress progress

	left    atomic.Int64                       // chunks
	durable map[chunkstore.ID]chunkstore.Place // what was put before the target was told
	unread  bool                               // a leaf or node of the target's tree cannot be read
	packed  bool                               // the version has a top of its own

	unlike unlike
}

// unlike are chunks whose bytes are not what the tree says.
type unlike struct {
	mu     sync.Mutex
	chunks []int
}

// progress tells how much of a push is done.
type progress struct {
	tell  func(phase string, done, total int64)
	mu    sync.Mutex
	done  int64 // bytes of chunks
	total int64
}

func (p *progress) add(bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += bytes
	p.tell("push", p.done, p.total)
}

// push starts pushing the last version, which the mirror is at this moment, and which includes
// point.
func (c *Courier) push(point spool.Point) {
	c.begin(Pushing)
	c.beat.StepAside() // I10
	c.belief.lookAfterPause()
	// a durable commit waits for it, or has waited
	waits := c.office.o.Spool.State().Wanted.Load() > c.stock.point.Sequence
	p := c.stock.unsettled
	settles := p != nil
	if !settles {
		p = newPush(c, point)
	}
	c.pushing = p
	c.office.o.Errands.Go(func(ctx context.Context) error {
		if waits {
			ctx = chunkstore.Awaited(ctx)
		}
		if settles {
			return p.deliver(ctx)
		}
		defer p.view.Close()
		return p.run(ctx)
	}, func(err error) { c.pushed(p, err) })
}

func newPush(c *Courier, point spool.Point) *push {
	o, last := &c.office.o, c.office.cutter.Last()
	p := &push{
		t: c.Target, version: *last.Manifest, point: point, delivery: newDelivery(c),
		uploads: c.uploads(), begun: c.office.now(),
	}
	p.uploads.keep(c.stock.put, c.stock.known)
	p.change = c.stock.change(last.Tree, p.uploads.how.PackObjects)
	p.change.tree.Near = c.near()
	var first []int
	for m := range p.change.all() {
		first = append(first, m.indexes[0])
	}
	p.view = o.Tracker.Mirror().View(first)
	p.left.Store(int64(len(first)))
	p.progress.tell = o.Uploads.Progress
	p.progress.total = int64(len(first)) * chunkstore.ChunkBytes
	return p
}

// run puts chunks, leaves and nodes, makes them durable, and tells the target of the version (I1).
func (p *push) run(ctx context.Context) error {
	err := p.putPacks(ctx)
	var finishErr error
	p.durable, finishErr = p.uploads.finish()
	if err = errors.Join(err, finishErr); err != nil {
		return err
	}
	return p.deliver(ctx)
}

// putPacks puts chunks, leaves and nodes, and fills in the tree of the version. Where an object
// stands is known once its pack is sealed: so what names it is put at the same time, as nothing
// names any of it yet.
func (p *push) putPacks(ctx context.Context) error {
	packs := p.uploads.packing(ctx)
	for k, chunks := range p.change.parcels {
		packs.Add(chunkstore.Parcel{
			Objects: len(chunks),
			Fill: func(pack *chunkstore.Pack) ([]chunkstore.ID, error) {
				return p.sealChunks(pack, chunks)
			},
			Placed: func(places []chunkstore.Place) { p.change.places[k] = places },
			Put: func() {
				p.left.Add(int64(-len(chunks)))
				p.progress.add(int64(len(chunks)) * chunkstore.ChunkBytes)
			},
		})
	}
	var err error
	if packs.Settle() {
		err = p.describe(packs)
	}
	if putErr := packs.Wait(); putErr != nil {
		return putErr
	}
	return err
}

var chunkBuffers = sync.Pool{New: func() any { return new([chunkstore.ChunkBytes]byte) }}

// sealChunks seals chunks into a pack.
func (p *push) sealChunks(
	pack *chunkstore.Pack, chunks []missingChunk,
) (ids []chunkstore.ID, err error) {
	buf := chunkBuffers.Get().(*[chunkstore.ChunkBytes]byte)
	defer chunkBuffers.Put(buf)
	for _, m := range chunks {
		i := m.indexes[0]
		err := chunkstore.InTurn(func() error {
			b, err := p.view.Chunk(i, buf[:])
			if err == nil {
				err = pack.SealChecked(p.t.Sealer, m.id, b)
			}
			return err
		})
		if errors.Is(err, chunkstore.ErrMismatch) { // I8
			p.unlike.add(m.indexes)
			return nil, fmt.Errorf("mirror: chunk %d is not what was cut: %w", i, err)
		} else if err != nil {
			return nil, err
		}
		p.view.Done(i)
		ids = append(ids, m.id)
	}
	return ids, nil
}

func (u *unlike) add(chunks []int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.chunks = append(u.chunks, chunks...)
}

// describe makes the version as the target is told of it: as a step from the one that it has, or
// whole, with a tree whose new leaves and nodes it begins to put.
func (p *push) describe(packs *chunkstore.Packing) (err error) {
	p.change.apply()
	if p.base != nil {
		err := p.step()
		if !errors.Is(err, manifest.ErrTooLong) {
			return err
		}
	}
	v := &p.version
	v.Levels, v.Top, v.Patches, err = p.change.tree.Pack(packs.Context(), cutter.PatchesMax,
		p.uploads.fetching(&p.unread),
		func(objects []chunkstore.Hashed) ([]chunkstore.Place, error) {
			return packs.PutObjects(objects, p.change.there)
		})
	if err != nil {
		return wrap(err, "put tree")
	}
	p.packed = true
	return p.whole()
}

// pushed takes a push's result.
func (c *Courier) pushed(p *push, err error) {
	c.pushing = nil
	if c.state == Pushing {
		c.state = Idle
	} else {
		c.state = Strange
	}
	c.shelf.calls.Add(p.uploads.calls.Swap(0))
	chunks := c.stock.took(p)
	p.uploads.count(c.office.o.Sent, chunks)
	for _, i := range c.stock.unput(p.uploads.unnamed.gone) {
		c.office.cutter.StoreWholeIfInline(i)
	}
	c.office.doubtMirror(p.unlike.chunks)
	c.stock.unsettled = nil
	switch {
	case errors.Is(err, history.ErrUnsettled):
		if p.prepared {
			c.stock.unsettled, p.durable = p, nil // that is noted
		}
		c.fail(err)
	case conflict(err):
		// Another writer, or a push of ours that had been given up; look again.
		c.log().Info("target's manifest was changed by another writer",
			"target", c.Name, "error", err)
		c.state, c.stock.holds, c.stock.version, c.ack.ETag = Strange, noCut, nil, ""
		c.stock.story = story{}
		diaryOf(c).drop()
		c.surprised(err) // what was looked at meanwhile was ours: the store contradicts itself
	case p.unread && chunkstore.IsFault(err):
		c.belief.suspect(unreadTree + err.Error())
		c.surprised(err)
	case err != nil:
		c.fail(err)
	default:
		c.took(p, chunks)
	}
	c.saver.take()
}

// surprised notes that a push has found the target to be another than a contact had. It has failed
// if that was so before.
func (c *Courier) surprised(err error) {
	c.trouble.err = nil
	if c.trouble.surprises++; c.trouble.surprises > 1 {
		c.fail(err)
	}
}

// took notes that the target has taken a version, and so many chunks for it.
func (c *Courier) took(p *push, chunks int) {
	s := &c.stock
	s.point, s.taken = p.point, c.office.now()
	c.office.o.Taken()
	c.news.Ring(bell.Record)
	if err := c.stock.named(p.uploads.runs); err != nil {
		c.log().Warn("journal", "error", err)
	}
	c.trouble.backoff.Reset()
	c.trouble.err, c.trouble.surprises = nil, 0
	c.well()
	s.exists, s.etag, s.holds = true, p.etag, p.version.Cut
	p.taken(c)
	c.ack.Turned += p.turned()
	c.saver.noteStep(p)
	c.belief.lookedAt(s.taken, seen{manifest: p.looked, log: true})
	c.belief.unask(p.change.samples())
	c.beat.loseAgain()
	c.heal()
	c.office.saveAcks()
	c.log().Info("pushed", "target", c.Name, "sequence", p.point.Sequence,
		"chunks", chunks)
}

// doubtMirror has the mirror compared with the database, and these chunks made anew. Views keep
// what changes: so somebody else has changed it.
func (o *Office) doubtMirror(chunks []int) {
	if len(chunks) == 0 {
		return
	}
	o.o.Tracker.Distrust()
	m := o.o.Tracker.Mirror()
	for _, i := range chunks {
		if i < m.Chunks() {
			o.cutter.StoreWhole(i)
			if err := m.Doubt(i); err != nil {
				o.o.Log.Error("mirror", "error", err)
			}
		}
	}
}
