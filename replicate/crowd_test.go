package replicate

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"verneuil/chunkstore"
	"verneuil/replicate/courier"
)

// crowd counts how many requests are in its buckets at a time.
type crowd struct{ inside, most atomic.Int64 }

type crowdedBucket struct {
	*memoryBucket
	crowd *crowd
}

func (c *crowd) enter() (leave func()) {
	n := c.inside.Add(1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	for range 100 { // let others come
		runtime.Gosched()
	}
	return func() { c.inside.Add(-1) }
}

func (b crowdedBucket) Get(ctx context.Context, key string,
	o chunkstore.GetOptions) (chunkstore.Object, error) {
	defer b.crowd.enter()()
	return b.memoryBucket.Get(ctx, key, o)
}

func (b crowdedBucket) Put(ctx context.Context, key string, body []byte,
	c chunkstore.Condition) (string, error) {
	defer b.crowd.enter()()
	return b.memoryBucket.Put(ctx, key, body, c)
}

// TestCrowd: many databases of a process, all busy, make no more requests at a time than
// their target has slots.
func TestCrowd(t *testing.T) {
	const databases, slots = 20, 3
	var c crowd
	chunks, manifests := newMemoryBucket("chunks"), newMemoryBucket("manifests")
	target := chunkstore.NewTarget("crowded", crowdedBucket{chunks, &c},
		crowdedBucket{manifests, &c})
	target.Bound(slots)
	store := chunkstore.NewStore(target)
	var all sync.WaitGroup
	var flushes []func() error
	var clock movedClock
	for seed := range databases {
		w := newWorld(t, uint64(seed), 0)
		w.options = func(o *Options) { o.Store, o.clock = store, &clock }
		r := w.replicator()
		w.run(r)
		flushes = append(flushes, func() error { return w.flush(r) })
		all.Go(func() {
			for range 3 {
				w.begin()
				for n := range 100 {
					w.write(n+1, w.pageOf(n+1, 0, byte(w.rand.IntN(256))))
				}
				w.commit()
				if err := w.flush(r); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	clock.by.Store(int64(2 * courier.PauseTrust)) // each flush asks for all records
	for _, flush := range flushes {
		all.Go(func() {
			if err := flush(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if most := c.most.Load(); most > slots || most == 0 {
		t.Errorf("%d requests at a time, want at most %d", most, slots)
	}
	if manifests.count() != databases {
		t.Errorf("%d manifests of %d databases", manifests.count(), databases)
	}
}
