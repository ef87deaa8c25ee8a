package courier

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"verneuil/chunkstore"
	"verneuil/replicate/errands"
	"verneuil/replicate/mirror"
	"verneuil/spool"
)

// push is the last version on its way to one target. It shares nothing that changes but the view,
// and what is guarded by mu.
type push struct {
	t       *chunkstore.Target
	key     string
	encoded []byte      // the manifest
	point   spool.Point // what it includes
	cond    chunkstore.Condition
	prove   func() error // that the spool is ours

	chunks   []missingChunk
	objects  []object
	view     *mirror.View
	uploads  *uploads
	progress progress

	left    atomic.Int64           // chunks
	etag    string                 // of the manifest that was put
	durable map[chunkstore.ID]bool // what was put before it

	unlike unlike
}

// unlike are chunks whose bytes are not what the tree says.
type unlike struct {
	mu     sync.Mutex
	chunks []int
}

// missingChunk is an object that is missing, and the chunks that have it.
type missingChunk struct {
	id      chunkstore.ID
	indexes []int
}

// object is a leaf or node.
type object struct {
	id    chunkstore.ID
	plain []byte
}

// progress tells how much of a push is done.
type progress struct {
	tell  func(phase string, done, total int64)
	mu    sync.Mutex
	done  int64 // bytes of chunks
	total int64
}

func (p *progress) add(bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += int64(bytes)
	p.tell("push", p.done, p.total)
}

// push starts pushing the last version, which the mirror is at this moment, and which includes
// point.
func (c *Courier) push(point spool.Point) {
	c.begin(Pushing)
	c.beat.StepAside() // I10
	c.belief.lookAfterPause()
	p := newPush(c, point)
	c.pushing = p
	c.office.o.Errands.Go(func(ctx context.Context) error {
		defer p.view.Close()
		return p.run(ctx)
	}, func(err error) { c.pushed(p, err) })
}

func newPush(c *Courier, point spool.Point) *push {
	o, last := &c.office.o, c.office.cutter.Last()
	p := &push{
		t: c.Target, key: c.office.key, encoded: last.Encoded, point: point, prove: o.Prove,
		cond:    chunkstore.Condition{IfMatch: c.stock.etag, IfNone: !c.stock.exists}, // I5
		chunks:  c.stock.missingChunks(),
		uploads: c.uploads(),
	}
	for id, plain := range last.Tree.Objects() {
		if !c.stock.have[id] && !c.stock.put[id] {
			p.objects = append(p.objects, object{id, plain})
		}
	}
	first := make([]int, len(p.chunks))
	for k, m := range p.chunks {
		first[k] = m.indexes[0]
	}
	p.view = o.Tracker.Mirror().View(first)
	p.left.Store(int64(len(p.chunks)))
	p.progress.tell = o.Uploads.Progress
	p.progress.total = int64(len(p.chunks)) * chunkstore.ChunkBytes
	return p
}

// missingChunks returns the missing objects, in the order of their first chunks.
func (s *stock) missingChunks() (chunks []missingChunk) {
	byID := make(map[chunkstore.ID]int, len(s.missing))
	for _, i := range slices.Sorted(maps.Keys(s.missing)) {
		id := s.missing[i]
		at, ok := byID[id]
		if !ok {
			at = len(chunks)
			byID[id] = at
			chunks = append(chunks, missingChunk{id: id})
		}
		chunks[at].indexes = append(chunks[at].indexes, i)
	}
	return chunks
}

// run puts chunks, leaves and nodes, makes them durable, and puts the manifest (I1).
func (p *push) run(ctx context.Context) error {
	err := p.putObjects(ctx)
	var finishErr error
	p.durable, finishErr = p.uploads.finish()
	if err = errors.Join(err, finishErr); err != nil {
		return err
	}
	release, err := p.t.Slot(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := p.prove(); err != nil {
		return err
	}
	p.uploads.calls.Add(1)
	etag, err := p.t.Manifests.Put(ctx, p.key, p.encoded, p.cond)
	if err != nil {
		return fmt.Errorf("put manifest: %w", err)
	}
	p.uploads.bytes.Add(int64(len(p.encoded)))
	p.etag = etag
	return nil
}

// putObjects puts chunks, leaves and nodes, in no order: nothing names them yet. Each
// has a slot of the target before it has a goroutine: a process with a thousand busy
// databases makes no more requests at a time, nor needs more memory for them, than with one.
func (p *push) putObjects(ctx context.Context) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(p.uploads.how.Concurrency)
	inSlot := func(put func() error) bool {
		release, err := p.t.Slot(groupCtx)
		if err != nil {
			return false
		}
		group.Go(errands.Guarded(func() error {
			defer release()
			return put()
		}))
		return true
	}
	for _, m := range p.chunks {
		if !inSlot(func() error { return p.putChunk(groupCtx, m) }) {
			break
		}
	}
	for _, o := range p.objects {
		put := func() error {
			return wrap(p.uploads.put(groupCtx, o.id, o.plain), "put tree object")
		}
		if !inSlot(put) {
			break
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

var chunkBuffers = sync.Pool{New: func() any { return new([chunkstore.ChunkBytes]byte) }}

func (p *push) putChunk(ctx context.Context, m missingChunk) error {
	buf := chunkBuffers.Get().(*[chunkstore.ChunkBytes]byte)
	defer chunkBuffers.Put(buf)
	i := m.indexes[0]
	b, err := p.view.Chunk(i, buf[:])
	if err != nil {
		return err
	}
	err = p.uploads.put(ctx, m.id, b)
	if errors.Is(err, chunkstore.ErrMismatch) { // I8
		p.unlike.mu.Lock()
		defer p.unlike.mu.Unlock()
		p.unlike.chunks = append(p.unlike.chunks, m.indexes...)
		return fmt.Errorf("mirror: chunk %d is not what was cut: %w", i, err)
	} else if err != nil {
		return err
	}
	p.view.Done(i)
	p.left.Add(-1)
	p.progress.add(len(b))
	return nil
}

// pushed takes a push's result.
func (c *Courier) pushed(p *push, err error) {
	c.pushing = nil
	if c.state == Pushing {
		c.state = Idle
	} else {
		c.state = Strange
	}
	c.calls += p.uploads.calls.Load()
	p.uploads.count(c.office.o.Sent, c.stock.took(p))
	c.office.doubtMirror(p.unlike.chunks)
	if p.etag != "" {
		c.office.o.Sent.Manifests.Add(1)
	} else {
		c.stock.add(p.durable)
	}
	switch {
	case errors.Is(err, chunkstore.ErrConflict):
		// Another writer, or a push of ours that had been given up; look again.
		c.log().Info("target's manifest was changed by another writer",
			"target", c.Name, "error", err)
		c.state, c.stock.etag, c.stock.holds, c.trouble.err = Strange, "", nil, nil
		if c.trouble.conflicts++; c.trouble.conflicts > 1 {
			c.fail(err) // what was looked at meanwhile was ours: the store contradicts itself
		}
	case err != nil:
		c.fail(err)
	default:
		c.took(p)
	}
}

// took notes that the target has taken a version.
func (c *Courier) took(p *push) {
	if err := c.stock.named(p.uploads.runs); err != nil {
		c.log().Warn("journal", "error", err)
	}
	c.trouble.backoff.Reset()
	c.trouble.err, c.trouble.conflicts = nil, 0
	c.well()
	s := &c.stock
	s.exists, s.etag, s.holds, s.point, s.taken = true, p.etag, p.encoded, p.point, c.office.now()
	c.belief.lookedAt(s.taken, false, true, false)
	s.forget(c.office.cutter.Last().Tree)
	c.heal()
	c.office.saveAcks()
	c.log().Info("pushed", "target", c.Name, "sequence", p.point.Sequence,
		"chunks", len(p.chunks), "bytes", p.uploads.bytes.Load())
}

// took notes what a push has made durable, and leaves in it the chunks that are. It returns how
// many.
func (s *stock) took(p *push) (chunks int) {
	p.chunks = slices.DeleteFunc(p.chunks, func(m missingChunk) bool { return !p.durable[m.id] })
	for _, m := range p.chunks {
		for _, i := range m.indexes {
			if s.missing[i] == m.id { // else it has changed since
				delete(s.missing, i)
			}
		}
	}
	for _, o := range p.objects {
		if p.durable[o.id] {
			s.have[o.id] = true
		}
	}
	return len(p.chunks)
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
