package courier

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"verneuil/chunkstore"
	"verneuil/manifest"
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
}

// run is a batch of a target's.
type run struct {
	batch *chunkstore.PackBatch
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
	return &uploads{
		t: c.Target, journal: c.stock.journal, ctx: o.Errands.Context(), now: o.Clock,
		how:     how,
		warn:    func(err error) { c.log().Warn("journal", "error", err) },
		durable: make(map[chunkstore.ID]chunkstore.Place),
	}
}

// packObjects returns how many objects a pack has at most.
func (u Uploads) packObjects() int { return cmp.Or(u.PackObjects, chunkstore.PackMax) }

// put puts a pack, which has the objects refs, and which nobody may use afterwards. It is durable
// if finish says so.
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
	recycle(pack)
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
		u.run = &run{batch: u.t.Batch()}
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
		for _, ref := range r.put {
			u.durable[ref.ID] = ref.Place
		}
	})
}

// finish makes durable what was put, and returns what is, also if some of it could
// not be. No put is under way, and none follows.
func (u *uploads) finish() (durable map[chunkstore.ID]chunkstore.Place, err error) {
	u.mu.Lock()
	u.sync(u.runs > 1)
	u.mu.Unlock()
	u.syncs.Wait()
	return u.durable, errors.Join(u.err, u.journal.Close())
}

// count adds what was sent, so many chunks among it.
func (u *uploads) count(sent *Sent, chunks int) {
	sent.Chunks.Add(int64(chunks))
	sent.Bytes.Add(u.bytes.Swap(0))
}

// sealing bounds, for all databases of the process, the objects that are sealed at a time: more of
// them than processors would cost memory and save no time.
var sealing = make(chan struct{}, runtime.GOMAXPROCS(0))

// inTurn has f seal an object.
func inTurn(f func() error) error {
	sealing <- struct{}{}
	defer func() { <-sealing }()
	return f()
}

// packMemory has the memory of packs that were put, some MiB each.
var packMemory = sync.Pool{New: func() any { return new(chunkstore.Pack) }}

// recycle is given a pack that nobody needs any more.
func recycle(pack *chunkstore.Pack) {
	pack.Reset()
	packMemory.Put(pack)
}

// packing puts several packs at once, while they are made. Each has a slot of the target before it
// has a goroutine, and memory: a process with a thousand busy databases makes no more requests at a
// time, nor needs more memory for them, than with one.
type packing struct {
	*uploads
	outer    context.Context
	group    *errgroup.Group
	ctx      context.Context // ends when a put fails, or outer
	unsealed sync.WaitGroup
	failed   atomic.Bool // a pack was not made
}

func (u *uploads) packing(ctx context.Context) *packing {
	p := &packing{uploads: u, outer: ctx}
	p.group, p.ctx = errgroup.WithContext(ctx)
	p.group.SetLimit(u.how.Concurrency)
	return p
}

// parcel is what makes a pack.
type parcel struct {
	// fill seals what the pack has, and returns the IDs.
	fill func(pack *chunkstore.Pack) ([]chunkstore.ID, error)
	// placed is told where they stand, before the pack is put; put, that it was. Both are called in
	// a goroutine.
	placed func(places []chunkstore.Place)
	put    func()
}

// add begins to make a pack. It does nothing once a put has failed.
func (p *packing) add(c parcel) {
	release, err := p.t.Slot(p.ctx)
	if err != nil {
		return
	}
	p.unsealed.Add(1)
	p.group.Go(errands.Guarded(func() error {
		defer release()
		pack := packMemory.Get().(*chunkstore.Pack)
		refs, err := p.fill(c, pack)
		if err == nil {
			err = p.uploads.put(p.ctx, pack, refs)
		}
		if err == nil {
			c.put()
		}
		return err
	}))
}

// fill fills a pack.
func (p *packing) fill(c parcel, pack *chunkstore.Pack) (refs []chunkstore.Ref, err error) {
	made := false
	defer func() {
		if !made {
			p.failed.Store(true)
		}
		p.unsealed.Done()
	}()
	ids, err := c.fill(pack)
	if err != nil {
		return nil, err
	}
	_, _, places := pack.Encode()
	for k, id := range ids {
		refs = append(refs, chunkstore.Ref{ID: id, Place: places[k]})
	}
	c.placed(places)
	made = true
	return refs, nil
}

// settle waits until all packs are sealed, so that it is known where all objects stand. It reports
// whether they are: else wait says why not.
func (p *packing) settle() (ok bool) {
	p.unsealed.Wait()
	return !p.failed.Load() && p.ctx.Err() == nil
}

// wait waits until all packs are put, or one has failed.
func (p *packing) wait() error {
	if err := p.group.Wait(); err != nil {
		return err
	}
	return p.outer.Err()
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

// errUnput: a leaf or node was not put; another error says why.
var errUnput = errors.New("not put")

// putObjects begins to put leaves or nodes, but for those that are there, and returns the places of
// all.
func (p *packing) putObjects(
	objects []chunkstore.Hashed, there map[chunkstore.ID]chunkstore.Place,
) ([]chunkstore.Place, error) {
	places := make([]chunkstore.Place, len(objects))
	var fresh []int // in objects
	for k, h := range objects {
		place, ok := there[h.ID()]
		if places[k] = place; !ok {
			fresh = append(fresh, k)
		}
	}
	for some := range slices.Chunk(fresh, p.how.PackObjects) {
		p.add(parcel{
			fill: func(pack *chunkstore.Pack) (ids []chunkstore.ID, err error) {
				for _, k := range some {
					_ = inTurn(func() error { pack.Seal(p.t.Sealer, objects[k]); return nil })
					ids = append(ids, objects[k].ID())
				}
				return ids, nil
			},
			placed: func(of []chunkstore.Place) {
				for n, k := range some {
					places[k] = of[n]
				}
			},
			put: func() {},
		})
	}
	if !p.settle() {
		return nil, errUnput
	}
	return places, nil
}
