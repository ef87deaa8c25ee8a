package courier

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/cutter"
	"verneuil/replicate/errands"
)

// runObjects is how many objects are made durable together, in their packs. For a dir target a run
// is one syncfs, for half a second's work; of an upload that is interrupted, what
// was put since the last run but one is put again. Smaller uploads keep no journal.
const runObjects = 2048

// uploads puts packs to one target, run by run: each run is made durable, and
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
	run     *run
	runs    int
	durable map[chunkstore.ID]chunkstore.Place
	err     error // of a Sync
	syncs   sync.WaitGroup
	unnamed unnamed
}

// run is a batch of a target's.
type run struct {
	batch *chunkstore.PackBatch
	since time.Time
	begun int
	puts  sync.WaitGroup

	mu  sync.Mutex
	put []chunkstore.Ref
}

// uploads returns what puts packs to the target.
func (c *Courier) uploads() *uploads {
	o, how := &c.office.o, c.office.o.Uploads
	how.RunObjects = cmp.Or(how.RunObjects, runObjects)
	how.PackObjects = how.packObjects()
	how.RepackAfter = how.repackAfter()
	how.edition = c.damage.edition
	return &uploads{
		t: c.Target, journal: c.stock.journal, ctx: o.Errands.Context(), now: o.Clock,
		how:     how,
		warn:    func(err error) { c.log().Warn("journal", "error", err) },
		durable: make(map[chunkstore.ID]chunkstore.Place),
	}
}

// packObjects returns how many objects a pack has at most.
func (u Uploads) packObjects() int { return cmp.Or(u.PackObjects, chunkstore.PackMax) }

// repackAfter returns how many chunks must have got another place before a target is repacked.
func (u Uploads) repackAfter() int { return cmp.Or(u.RepackAfter, repackTurned) }

// near returns what is near in the tree of the last version; nil: readers fetch all leaves.
func (c *Courier) near() []int {
	most := cmp.Or(c.office.o.Uploads.LeavesAtOnce, manifest.LeavesAtOnce)
	if manifest.LeavesBytes(c.office.cutter.Last().Tree.Len()) > most {
		return cutter.Near(c.office.cutter)
	}
	return nil
}

// put puts a pack, which has the objects refs. It is durable if finish says so.
func (u *uploads) put(ctx context.Context, pack *chunkstore.Pack, refs []chunkstore.Ref) error {
	r, err := u.join(len(refs))
	if err != nil {
		return err
	}
	defer r.puts.Done()
	u.calls.Add(1)
	_, n, err := r.batch.Put(ctx, pack)
	if err != nil {
		return err
	}
	u.bytes.Add(int64(n))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.put = append(r.put, refs...)
	return nil
}

// join begins a put of so many objects, and returns its run.
func (u *uploads) join(objects int) (*run, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err != nil {
		return nil, u.err
	}
	if u.run == nil {
		u.run = &run{batch: u.t.Batch(), since: u.now()}
		u.runs++
	}
	r := u.run
	r.puts.Add(1)
	if r.begun += objects; r.begun >= u.how.RunObjects {
		u.sync(true)
	}
	return r, nil
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
			if err := u.journal.Note(r.put, r.since); err != nil {
				u.warn(err)
			}
		}
		u.mu.Lock()
		defer u.mu.Unlock()
		if err != nil {
			u.err = errors.Join(u.err, err)
			return
		}
		for _, ref := range r.put {
			u.durable[ref.ID] = ref.Place
		}
		u.unnamed.add(r.put, r.since)
		u.syncs.Go(func() { _ = u.touch() }) // it is tried again
	})
}

// finish makes durable what was put, and returns what is, also if some of it could
// not be. No put is under way, and none follows.
func (u *uploads) finish() (durable map[chunkstore.ID]chunkstore.Place, err error) {
	u.mu.Lock()
	u.sync(u.runs > 1)
	u.mu.Unlock()
	u.syncs.Wait()
	touched := u.touch()
	return u.durable, errors.Join(u.err, touched, u.journal.Close())
}

// count adds what was sent, so many chunks among it.
func (u *uploads) count(sent *Sent, chunks int) {
	sent.Chunks.Add(int64(chunks))
	sent.Bytes.Add(u.bytes.Swap(0))
}

// packing returns what puts packs while they are made.
func (u *uploads) packing(ctx context.Context) *chunkstore.Packing {
	p := u.t.Packing(ctx, u.how.Concurrency, u.how.PackObjects, u.put)
	p.Edition(u.how.edition)
	return p
}

// fetching returns what gets leaves and nodes that the target has. unread is set if one cannot be
// read.
func (u *uploads) fetching(unread *bool) manifest.Fetch {
	return func(ctx context.Context, refs []chunkstore.Ref) ([][]byte, error) {
		release, err := u.t.Slot(ctx)
		if err != nil {
			return nil, err
		}
		defer release()
		u.calls.Add(1)
		plain, err := u.t.GetObjects(ctx, refs)
		*unread = *unread || chunkstore.IsFault(err)
		return plain, err
	}
}
