package replicate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"verneuil/chunkstore"
	"verneuil/replicate/mirror"
)

// job is a push of the last cut to one target, on its way. It shares nothing
// that changes but the view, and what is guarded by mu.
type job struct {
	t           *target // its Target only
	key         string
	encoded     []byte
	point       point
	uploads     *uploads
	prove       func() error // that the spool is ours
	cond        chunkstore.Condition
	chunks      []jobChunk
	objects     []jobObject
	view        *mirror.View
	concurrency int
	progress    func(done, total int64)

	left atomic.Int64 // chunks

	etag    string                 // of the manifest that was put
	durable map[chunkstore.ID]bool // what was put before it

	mu    sync.Mutex
	bad   []int // chunks whose bytes are not what the tree says
	plain int64 // bytes of chunks done
}

// jobChunk is an object that is missing, and the chunks that have it.
type jobChunk struct {
	id      chunkstore.ID
	indexes []int
}

type jobObject struct {
	id    chunkstore.ID
	plain []byte
}

// push starts pushing the last cut, which the mirror is at this moment.
func (s *session) push(t *target) {
	s.started(t)
	t.patrol.StepAside()
	if since := s.now().Add(-pauseTrust); !t.belief.looking && (t.belief.store.Before(since) || t.belief.sample.Before(since)) {
		s.look(t, true, false, true) // a pause: a bucket may have been emptied
	}
	j := &job{
		t: t, key: s.r.key, encoded: s.cutter.Last().Encoded, point: s.lastPoint, concurrency: s.r.o.Concurrency,
		cond:     chunkstore.Condition{IfMatch: t.etag, IfNone: !t.exists},
		uploads:  s.uploads(t),
		prove:    s.prove,
		progress: func(done, total int64) { s.r.o.Progress("push", done, total) },
	}
	byID := make(map[chunkstore.ID]int, len(t.missing))
	indexes := make([]int, 0, len(t.missing))
	for i := range t.missing {
		indexes = append(indexes, i)
	}
	slices.Sort(indexes)
	for _, i := range indexes {
		id := t.missing[i]
		at, ok := byID[id]
		if !ok {
			at = len(j.chunks)
			byID[id] = at
			j.chunks = append(j.chunks, jobChunk{id: id})
		}
		j.chunks[at].indexes = append(j.chunks[at].indexes, i)
	}
	for id, plain := range s.cutter.Last().Tree.Objects() {
		if !t.have[id] && !t.put[id] {
			j.objects = append(j.objects, jobObject{id, plain})
		}
	}
	first := make([]int, len(j.chunks))
	for k, c := range j.chunks {
		first[k] = c.indexes[0]
	}
	j.view = s.mirror.View(first)
	j.left.Store(int64(len(j.chunks)))
	t.pushed = j
	s.work.Go(func() {
		err := guarded(func() error { return j.run(s.ctx) })()
		j.view.Close()
		s.send(func() { s.pushed(t, j, err) })
	})
}

// run puts chunks, leaves and nodes, makes them durable, and puts the manifest (I1).
func (j *job) run(ctx context.Context) error {
	err := j.putObjects(ctx)
	var finishErr error
	j.durable, finishErr = j.uploads.finish()
	if err = errors.Join(err, finishErr); err != nil {
		return err
	}
	release, err := j.t.Slot(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := j.prove(); err != nil {
		return err
	}
	j.uploads.calls.Add(1)
	etag, err := j.t.Manifests.Put(ctx, j.key, j.encoded, j.cond)
	if err != nil {
		return fmt.Errorf("put manifest: %w", err)
	}
	j.uploads.bytes.Add(int64(len(j.encoded)))
	j.etag = etag
	return nil
}

// putObjects puts chunks, leaves and nodes, in no order: nothing names them yet. Each
// has a slot of the target before it has a goroutine: a process with a thousand busy
// databases makes no more requests at a time, nor needs more memory for them, than with one.
func (j *job) putObjects(ctx context.Context) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(j.concurrency)
	inSlot := func(put func() error) bool {
		release, err := j.t.Slot(groupCtx)
		if err != nil {
			return false
		}
		group.Go(guarded(func() error {
			defer release()
			return put()
		}))
		return true
	}
	for _, c := range j.chunks {
		if !inSlot(func() error { return j.putChunk(groupCtx, c) }) {
			break
		}
	}
	for _, o := range j.objects {
		if !inSlot(func() error { return wrap(j.uploads.put(groupCtx, o.id, o.plain), "put tree object") }) {
			break
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

var chunkBuffers = sync.Pool{New: func() any { return new([chunkstore.ChunkBytes]byte) }}

func (j *job) putChunk(ctx context.Context, c jobChunk) error {
	buf := chunkBuffers.Get().(*[chunkstore.ChunkBytes]byte)
	defer chunkBuffers.Put(buf)
	b, err := j.view.Chunk(c.indexes[0], buf[:])
	if err != nil {
		return err
	}
	err = j.uploads.put(ctx, c.id, b)
	if errors.Is(err, chunkstore.ErrMismatch) { // I8
		j.mu.Lock()
		defer j.mu.Unlock()
		j.bad = append(j.bad, c.indexes...)
		return fmt.Errorf("mirror: chunk %d is not what was cut: %w", c.indexes[0], err)
	} else if err != nil {
		return err
	}
	j.view.Done(c.indexes[0])
	j.left.Add(-1)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.plain += int64(len(b))
	j.progress(j.plain, int64(len(j.chunks))*chunkstore.ChunkBytes)
	return nil
}

// pushed takes a push's result.
func (s *session) pushed(t *target, j *job, err error) {
	t.busy, t.pushed = false, nil
	t.calls += j.uploads.calls.Load()
	j.chunks = slices.DeleteFunc(j.chunks, func(c jobChunk) bool { return !j.durable[c.id] })
	for _, c := range j.chunks {
		for _, i := range c.indexes {
			if t.missing[i] == c.id { // else it has changed since
				delete(t.missing, i)
			}
		}
	}
	for _, o := range j.objects {
		if j.durable[o.id] {
			t.have[o.id] = true
		}
	}
	if len(j.bad) > 0 { // views keep what changes: somebody else has
		s.tracker.Distrust()
	}
	for _, i := range j.bad {
		if i < s.mirror.Chunks() {
			s.cutter.StoreWhole(i)
			if err := s.mirror.Doubt(i); err != nil {
				s.log().Error("mirror", "error", err)
			}
		}
	}
	s.count(len(j.chunks), j.uploads)
	if j.etag != "" {
		s.r.counters.manifests.Add(1)
	} else {
		t.hasPut(j.durable)
	}
	switch {
	case errors.Is(err, chunkstore.ErrConflict):
		// Another writer, or a push of ours that had been given up; look again.
		s.log().Info("target's manifest was changed by another writer", "target", t.Name, "error", err)
		t.known, t.etag, t.holds, t.failed = false, "", nil, false
		if t.conflicts++; t.conflicts > 1 { // what was looked at meanwhile was ours: the store contradicts itself
			s.targetFailed(t, err)
		}
		return
	case err != nil:
		s.targetFailed(t, err)
		return
	}
	s.named(t, j.uploads)
	t.backoff.Reset()
	t.failed, t.err, t.conflicts = false, nil, 0
	s.r.o.Outages.succeeded(s.log(), s.now(), t.Target, s.r.key)
	t.exists, t.etag, t.holds, t.point, t.acked = true, j.etag, j.encoded, j.point, s.now()
	t.belief.lookedAt(t.acked, false, true, false)
	s.forgetObjects(t)
	s.healed(t)
	s.saveAcks()
	s.log().Info("pushed", "target", t.Name, "sequence", j.point.sequence, "chunks", len(j.chunks), "bytes", j.uploads.bytes.Load())
}

// named notes that the target has a manifest of ours: what it has besides is not
// to be relied on.
func (s *session) named(t *target, u *uploads) {
	if t.put == nil && u.runs < 2 {
		return
	}
	t.put = nil
	if err := t.journal.Remove(); err != nil {
		s.log().Warn("journal", "error", err)
	}
}

// forgetObjects drops what the last cut does not name: a target may have
// collected it by the time that it is wanted again.
func (s *session) forgetObjects(t *target) {
	have := make(map[chunkstore.ID]bool, len(t.have))
	for id := range s.cutter.Last().Tree.Objects() {
		if t.have[id] {
			have[id] = true
		}
	}
	t.have = have
}
