package replicate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/faultbucket"
	"verneuil/test/crash"
)

const (
	repackTestPack  = 8 // chunks in a pack
	repackTestAfter = 32
)

// fresh writes chunks of the database with what was never there, and cannot be compressed.
func (w *world) fresh(chunks ...int) {
	w.Helper()
	w.begin()
	page := make([]byte, w.page)
	for _, i := range chunks {
		for n := range chunkstore.ChunkBytes / w.page {
			if i+n == 0 {
				continue // the header
			}
			w.noise(page)
			w.write(i*chunkstore.ChunkBytes/w.page+n, page)
		}
	}
	w.commit()
}

// repackable has w's replicators repack soon.
func (w *world) repackable() *movedClock {
	clock := new(movedClock)
	w.options = func(o *Options) {
		o.clock, o.packObjects, o.repackAfter = clock, repackTestPack, repackTestAfter
	}
	return clock
}

// wears fills four packs, and rewrites in so many rounds all chunks of each but one: each time some
// of each pack, after which flush is called.
func (w *world) wears(rounds int, flush func()) {
	w.Helper()
	var all []int
	for i := range 4 * repackTestPack {
		all = append(all, i)
	}
	w.fresh(all...)
	flush()
	for range rounds {
		for part := 1; part < repackTestPack; part++ {
			w.fresh(part, part+repackTestPack, part+2*repackTestPack, part+3*repackTestPack)
			flush()
		}
	}
}

// named returns the packs in which something stands that the newest version in target k has.
func (w *world) named(k int) map[string]bool {
	w.Helper()
	names := make(map[string]bool)
	tree := w.manifest(k).Tree(chunkstore.Plain{})
	if err := tree.Load(context.Background(), w.copied(k).GetObjects); err != nil {
		w.Fatal(err)
	}
	for i := range tree.Len() {
		names[tree.At(i).Place.Pack.String()] = true
	}
	for ref := range tree.Objects() {
		names[ref.Place.Pack.String()] = true
	}
	return names
}

// collect deletes those of old packs of target k that its newest version does not name. What is put
// at this moment, and named soon, is younger.
func (w *world) collect(k int, old []string) {
	w.Helper()
	names := w.named(k)
	for _, key := range old {
		if !names[key] {
			if err := w.chunks[k].Delete(context.Background(), key); err != nil {
				w.Fatal(err)
			}
		}
	}
}

// stored returns how many bytes the packs of target k have.
func (w *world) stored(k int) (n int) {
	for _, key := range w.chunkKeys(k) {
		o, err := w.chunks[k].Stat(context.Background(), key)
		if err != nil {
			w.Fatal(err)
		}
		n += int(o.Bytes)
	}
	return n
}

// TestRepack: packs of which one chunk is left are named no more, soon after they came to be so, by
// a replicator that lives on, and by processes that come and go; and what is left of the target
// has the database.
func TestRepack(t *testing.T) {
	for _, comes := range []bool{false, true} {
		t.Run(fmt.Sprint("comes and goes ", comes), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, 1)
			w.watch()
			clock := w.repackable()
			r := w.replicator()
			stop := w.run(r)
			var first []string
			rounds := 2
			if comes {
				rounds = 10 // 70 records, which take a checkpoint
			}
			w.wears(rounds, func() {
				w.mustFlush(r)
				if first == nil {
					first = w.chunkKeys(0)
				}
				if comes {
					if err := r.Leave(context.Background()); err != nil {
						t.Fatal(err)
					}
					stop()
					r = w.replicator()
					stop = w.run(r)
				}
			})
			old := func() (n int) {
				names := w.named(0)
				for _, key := range first {
					if names[key] {
						n++
					}
				}
				return n
			}
			if n := old(); comes && n > 0 {
				t.Errorf("%d packs of the first version are named", n)
			}
			w.until("the packs are named no more", func() bool {
				clock.by.Add(int64(time.Second))
				w.mustFlush(r)
				return old() == 0
			})
			w.equal(0, "repacked")
			w.collect(0, w.chunkKeys(0))
			w.equal(0, "repacked and collected")
			w.fresh(0, 9)
			w.mustFlush(r)
			w.equal(0, "and gone on with")
			if live := 4 * repackTestPack * chunkstore.ChunkBytes; w.stored(0) > 2*live {
				t.Errorf("%d bytes are stored for %d", w.stored(0), live)
			}
		})
	}
}

// TestRepackFaultsByNthCall: whichever request fails while a target is repacked and pushed to,
// before it was carried out or with its answer, and whoever goes on then: what is put is whole, and
// the old packs are named no more in the end.
func TestRepackFaultsByNthCall(t *testing.T) {
	for _, fatal := range []bool{false, true} {
		t.Run(fmt.Sprint("carried out, and the process ends: ", fatal), func(t *testing.T) {
			t.Parallel()
			for n := range crash.Calls(t) {
				if !repackFault(t, n, fatal, fatal) {
					break
				}
			}
		})
	}
}

// repackFault has the nth request fail. It reports whether there were as many.
func repackFault(t *testing.T, n int, after, restart bool) bool {
	t.Helper()
	w := newWorld(t, 1, 1)
	clock := w.repackable()
	r := w.replicator()
	stop := w.run(r)
	var first []string
	w.wears(1, func() {
		w.mustFlush(r)
		if first == nil {
			first = w.chunkKeys(0)
		}
	})
	stop()
	w.watch()
	plan, options := &faultbucket.Plan{At: n, After: after}, w.options
	w.options = func(o *Options) {
		options(o)
		o.Store, o.repackAfter = chunkstore.NewStore(plan.Target(w.store().Targets[0])), 8
	}
	r = w.replicator()
	stop = w.run(r)
	named := func() bool {
		names := w.named(0)
		return slices.ContainsFunc(first, func(key string) bool { return names[key] })
	}
	for part := 1; named(); part = part%7 + 1 {
		w.fresh(part, part+repackTestPack, part+2*repackTestPack, part+3*repackTestPack)
		if part == 3 {
			clock.by.Add(int64(time.Minute))
		}
		err := w.flush(r)
		if err != nil && !errors.Is(err, faultbucket.ErrInjected) {
			t.Fatalf("call %d: flush: %v", n, err)
		} else if err != nil && restart {
			stop()
			r = w.replicator()
			stop = w.run(r)
		}
	}
	w.collect(0, first)
	if err := w.flush(r); err != nil && !errors.Is(err, faultbucket.ErrInjected) {
		t.Fatalf("call %d: flush: %v", n, err)
	} else if err != nil { // it was the last one
		w.mustFlush(r)
	}
	w.equal(0, fmt.Sprint("call ", n))
	stop()
	return plan.Fired() > 0
}
