package courier

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"verneuil/chunkstore"
	"verneuil/replicate/errands"
)

// runObjects is how many objects are made durable together. For a dir target a run
// is one syncfs, for half a second's work; of an upload that is interrupted, what
// was put since the last run but one is put again. Smaller uploads keep no journal.
const runObjects = 2048

// uploads puts objects to one target, run by run: each run is made durable, and
// noted in the journal, while the next one is put. put is safe for concurrent use.
type uploads struct {
	t       *chunkstore.Target
	journal *ledger
	ctx     context.Context // of Syncs, which outlive the puts
	how     Uploads
	now     func() time.Time
	warn    func(error) // the journal could not be written

	calls, bytes atomic.Int64

	mu      sync.Mutex
	seen    map[chunkstore.ID]bool // put, or being put
	run     *run
	runs    int
	durable map[chunkstore.ID]bool
	err     error // of a Sync
	syncs   sync.WaitGroup
}

// run is a batch of a target's.
type run struct {
	batch *chunkstore.ChunkBatch
	begun int
	puts  sync.WaitGroup

	mu  sync.Mutex
	put []chunkstore.ID
}

// uploads returns what puts objects to the target.
func (c *Courier) uploads() *uploads {
	o, how := &c.office.o, c.office.o.Uploads
	how.RunObjects = cmp.Or(how.RunObjects, runObjects)
	return &uploads{
		t: c.Target, journal: c.stock.journal, ctx: o.Errands.Context(), now: o.Clock,
		how:  how,
		warn: func(err error) { c.log().Warn("journal", "error", err) },
		seen: make(map[chunkstore.ID]bool), durable: make(map[chunkstore.ID]bool),
	}
}

// put puts an object, unless that was done. It is durable if finish says so.
func (u *uploads) put(ctx context.Context, id chunkstore.ID, plain []byte) error {
	return u.once(id, func(b *chunkstore.ChunkBatch) (int, error) {
		return b.PutChunk(ctx, id, plain)
	})
}

// putHashed is put of bytes whose ID is computed already.
func (u *uploads) putHashed(ctx context.Context, h chunkstore.Hashed) error {
	return u.once(h.ID(), func(b *chunkstore.ChunkBatch) (int, error) {
		return b.PutHashed(ctx, h)
	})
}

// once has put put an object, unless that was done. put returns how many bytes it stored.
func (u *uploads) once(id chunkstore.ID, put func(*chunkstore.ChunkBatch) (int, error)) error {
	u.mu.Lock()
	if u.seen[id] || u.err != nil {
		defer u.mu.Unlock()
		return u.err
	}
	u.seen[id] = true
	if u.run == nil {
		u.run = &run{batch: u.t.Batch()}
		u.runs++
	}
	r := u.run
	r.puts.Add(1)
	if r.begun++; r.begun == u.how.RunObjects {
		u.sync(true)
	}
	u.mu.Unlock()
	defer r.puts.Done()
	u.calls.Add(1)
	n, err := put(r.batch)
	if err != nil {
		return err
	}
	u.bytes.Add(int64(n))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.put = append(r.put, id)
	return nil
}

// sync makes the present run durable, in the background. The caller holds mu.
func (u *uploads) sync(note bool) {
	r := u.run
	if r == nil {
		return
	}
	u.run = nil
	u.syncs.Go(func() {
		err := errands.Guarded(func() error {
			defer r.batch.Close() // nothing is written by it
			r.puts.Wait()
			return r.batch.Sync(u.ctx)
		})()
		if err == nil && note {
			if err := u.journal.Note(r.put, u.now()); err != nil {
				u.warn(err)
			}
		}
		u.mu.Lock()
		defer u.mu.Unlock()
		if err != nil {
			u.err = errors.Join(u.err, err)
			return
		}
		for _, id := range r.put {
			u.durable[id] = true
		}
	})
}

// finish makes durable what was put, and returns what is, also if some of it could
// not be. No put is under way, and none follows.
func (u *uploads) finish() (durable map[chunkstore.ID]bool, err error) {
	u.mu.Lock()
	u.sync(u.runs > 1)
	u.mu.Unlock()
	u.syncs.Wait()
	return u.durable, errors.Join(u.err, u.journal.Close())
}

// count adds what was sent, so many chunks among it.
func (u *uploads) count(sent *Sent, chunks int) {
	sent.Chunks.Add(int64(chunks))
	sent.Bytes.Add(u.bytes.Load())
}
