package replicate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/faultbucket"
	"verneuil/test/crash"
)

// foldChunks is how many chunks a database has that is changed by scatter.
const foldChunks = 24

// scatter changes a page in each of four chunks by what cannot be compressed: three times, and it
// is more than a small transaction's version has inline.
func (w *world) scatter(round int) {
	w.Helper()
	w.begin()
	page := make([]byte, w.page)
	for k := range 4 {
		w.noise(page)
		i := 1 + (4*round+k)%(foldChunks-1)
		w.write(i*chunkstore.ChunkBytes/w.page+w.rand.IntN(chunkstore.ChunkBytes/w.page), page)
	}
	w.commit()
}

// inline returns how many bytes the newest version in target k has inline.
func (w *world) inline(k int) (bytes int) {
	w.Helper()
	for _, p := range w.manifest(k).Inline {
		bytes += len(p.Data)
	}
	return bytes
}

// heldBucket holds up packs until release is closed.
type heldBucket struct {
	*memoryBucket
	once          sync.Once
	held, release chan struct{}
}

func (b *heldBucket) Put(
	ctx context.Context, key string, body []byte, c chunkstore.Condition,
) (string, error) {
	if !isOfHistory(key) && key != chunkstore.MarkerKey {
		b.once.Do(func() { close(b.held) })
		select {
		case <-b.release:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	return b.memoryBucket.Put(ctx, key, body, c)
}

// TestNoRecordWaitsForAFold: while what outgrew the inline pages is put, and does not come to an
// end, versions are stored; when it has, the next one names it.
func TestNoRecordWaitsForAFold(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.fillChunks(foldChunks)
	r := w.replicator()
	stop := w.run(r)
	w.mustFlush(r)
	stop()
	w.watch()
	held, release := make(chan struct{}), make(chan struct{})
	w.options = func(o *Options) {
		b := &heldBucket{memoryBucket: w.chunks[0], held: held, release: release}
		o.Store = chunkstore.NewStore(chunkstore.NewTarget("target 0", b, w.manifests[0]))
	}
	r = w.replicator()
	defer w.run(r)()
	round := 0
	for begun := false; !begun; round++ {
		w.scatter(round)
		w.mustFlush(r)
		select {
		case <-held:
			begun = true
		default:
		}
		if round == 100 {
			t.Fatal("nothing is folded")
		}
	}
	for range 3 {
		w.scatter(round)
		w.mustFlush(r)
		round++
	}
	before := w.inline(0)
	close(release)
	w.until("the fold's end", func() bool {
		w.scatter(round)
		round++
		w.mustFlush(r)
		return w.inline(0) < before
	})
	w.equal(0, "after a fold")
}

// TestFoldFaultsByNthCall: whichever request fails while versions are folded, before it was carried
// out or with its answer, and whoever goes on then: what is put is whole, at any time.
func TestFoldFaultsByNthCall(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("carried out, and the process ends: ", restart), func(t *testing.T) {
			t.Parallel()
			for n := range crash.Calls(t) {
				if !foldFault(t, n, restart) {
					break
				}
			}
		})
	}
}

// foldFault has the nth request fail. It reports whether there were as many.
func foldFault(t *testing.T, n int, restart bool) bool {
	t.Helper()
	w := newWorld(t, uint64(n), 1)
	w.fillChunks(foldChunks)
	r := w.replicator()
	stop := w.run(r)
	w.mustFlush(r)
	stop()
	w.watch()
	plan := &faultbucket.Plan{At: n, After: restart}
	w.options = func(o *Options) {
		o.Store = chunkstore.NewStore(plan.Target(w.store().Targets[0]))
	}
	r = w.replicator()
	stop = w.run(r)
	for round := range 12 {
		w.scatter(round)
		err := w.flush(r)
		if err != nil && !errors.Is(err, faultbucket.ErrInjected) {
			t.Fatalf("call %d: flush: %v", n, err)
		} else if err != nil && restart {
			stop()
			r = w.replicator()
			stop = w.run(r)
		}
	}
	if err := w.flush(r); err != nil && !errors.Is(err, faultbucket.ErrInjected) {
		t.Fatalf("call %d: flush: %v", n, err)
	} else if err != nil {
		w.mustFlush(r)
	}
	w.equal(0, fmt.Sprint("call ", n))
	stop()
	return plan.Fired() > 0
}

// TestFoldsOfTwoTargets: what one target cannot take, the other one has all the same; and both have
// the database in the end.
func TestFoldsOfTwoTargets(t *testing.T) {
	w := newWorld(t, 1, 2)
	w.watch()
	w.fillChunks(foldChunks)
	clock := w.withClock()
	r := w.replicator()
	defer w.run(r)()
	w.mustFlush(r)
	down := func(op, key string) error {
		if op == "put" {
			return errInjected
		}
		return nil
	}
	for round := range 60 {
		switch round % 20 {
		case 5: // takes no packs
			w.chunks[1].setFault(down)
		case 10:
			w.chunks[1].setFault(nil)
			clock.by.Add(int64(2 * time.Minute))
			w.mustFlush(r)
		}
		w.scatter(round)
		if err := w.flush(r); err != nil && !errors.Is(err, errInjected) {
			t.Fatal(err)
		}
		w.equal(0, fmt.Sprint("the target that is up, round ", round))
	}
	clock.by.Add(int64(2 * time.Minute))
	w.mustFlush(r)
	w.equal(1, "the other target")
}
