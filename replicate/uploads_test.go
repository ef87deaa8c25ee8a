package replicate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/faultbucket"
	"verneuil/replicate/mirror"
)

// fillChunks makes a database of so many chunks, no two alike.
func (w *world) fillChunks(chunks int) {
	w.begin()
	pages := chunkstore.ChunkBytes / w.page
	for n := 1; n < chunks*pages; n++ {
		b := w.pageOf(n, 0, 1)
		binary.BigEndian.PutUint32(b, uint32(n))
		w.write(n, b)
	}
	w.commit()
}

func (w *world) journals() []string {
	names, err := filepath.Glob(filepath.Join(w.sp.Dir(), "put.*"))
	if err != nil {
		w.Fatal(err)
	}
	return names
}

// TestSlowRunIsPutAgain: what an interrupted upload has put is as old as its run, however long that
// took, for who goes on.
func TestSlowRunIsPutAgain(t *testing.T) {
	const run = 8
	w := newWorld(t, 1, 1)
	clock := new(movedClock)
	w.options = func(o *Options) {
		o.clock, o.runObjects, o.packObjects, o.Concurrency = clock, run, 1, 1
	}
	w.fillChunks(40)
	n := 0
	w.chunks[0].setFault(func(op, _ string) error { // under its mu
		if op == "put" {
			if n++; n == run/2 {
				clock.by.Add(int64(20 * time.Hour))
			}
		}
		if n > 20 {
			return errInjected
		}
		return nil
	})
	w.interrupted()
	clock.by.Add(int64(5 * time.Hour))
	w.chunks[0].setFault(nil)
	durable := w.objects(0, nil)
	if puts := w.goesOn(); puts < 40-durable+run {
		t.Errorf("%d objects were there, %d of them for a day, and %d of 40 were put",
			durable, run, puts)
	}
	w.equal(0, "at last")
}

// interrupted has a replicator begin an upload that a fault ends.
func (w *world) interrupted() {
	w.Helper()
	r := w.replicator()
	defer w.run(r)()
	if err := w.flush(r); !errors.Is(err, errInjected) {
		w.Fatalf("flush: %v", err)
	}
}

// goesOn has another replicator bring all to the target, and returns how many puts of objects that
// takes.
func (w *world) goesOn() (puts int) {
	w.Helper()
	before, _ := w.chunks[0].calls()
	r := w.replicator()
	defer w.run(r)()
	w.mustFlush(r)
	after, _ := w.chunks[0].calls()
	return after - before
}

// TestInterruptedUploadGoesOn: what is durable in a target before there is a
// manifest is not put again by the next process; what is not durable is.
func TestInterruptedUploadGoesOn(t *testing.T) {
	for what, fail := range map[string]func(op string, objects int) bool{
		"a put":     func(op string, n int) bool { return op == "put" && n > 60 },
		"the leaf":  func(op string, n int) bool { return op == "put" && n > 100 },
		"a sync":    func(op string, n int) bool { return op == "sync" && n > 30 },
		"all syncs": func(op string, _ int) bool { return op == "sync" },
	} {
		for _, packObjects := range []int{1, 4, 16} {
			t.Run(fmt.Sprint(what, ", packs of ", packObjects), func(t *testing.T) {
				interruptedUpload(t, packObjects, fail)
			})
		}
	}
}

func interruptedUpload(t *testing.T, packObjects int, fail func(op string, objects int) bool) {
	const chunks, run = 100, 8
	w := newWorld(t, 1, 1)
	w.losing()
	losing := w.options
	w.options = func(o *Options) { losing(o); o.runObjects, o.packObjects = run, packObjects }
	w.fillChunks(chunks)
	n := 0 // objects whose puts are begun, about; the bucket's mu is held
	w.chunks[0].setFault(func(op, _ string) error {
		if op == "put" {
			n += packObjects
		}
		if fail(op, n) {
			return errInjected
		}
		return nil
	})
	w.interrupted()
	old := w.packs(0)
	durable := w.objects(0, nil)
	if (len(w.journals()) > 0) != (durable > 0) {
		t.Errorf("%d objects are durable, journals %v", durable, w.journals())
	}
	w.chunks[0].setFault(nil)
	calls := w.goesOn()
	put := w.objects(0, old)
	if puts := len(w.packs(0)) - len(old); put != chunks+1-durable || puts != calls {
		// and the leaf
		t.Errorf("%d objects were durable, %d were put after that, of %d, in %d packs by %d puts",
			durable, put, chunks+1, puts, calls)
	}
	w.equal(0, "at last")
	if names := w.journals(); len(names) > 0 {
		t.Errorf("journals remain although a manifest names all: %v", names)
	}
}

// TestSyncPutsAhead: a first Sync puts what it has copied while it copies the rest.
func TestSyncPutsAhead(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.fillChunks(300)
	w.concurrency = 1
	var read, readAtFirstPut int64
	w.chunks[0].setFault(func(op, _ string) error {
		if op == "put" && readAtFirstPut == 0 {
			// the copy waits for us when it has the chunks of six packs
			readAtFirstPut = atomic.LoadInt64(&read)
		}
		return nil
	})
	result := w.mustSync("first", &read)
	const ahead = 6*chunkstore.PackMax*chunkstore.ChunkBytes + 2*mirror.PieceBytes
	if readAtFirstPut == 0 || readAtFirstPut > ahead {
		t.Errorf("the first pack was put when %d bytes of %d had been read", readAtFirstPut, read)
	}
	if puts, _ := w.chunks[0].calls(); puts != len(w.chunkKeys(0)) {
		t.Errorf("%d puts of %d objects: %+v", puts, len(w.chunkKeys(0)), result)
	}
}

// TestSyncPutsAheadAndFails: what was put ahead is neither lost nor relied on.
func TestSyncPutsAheadAndFails(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.fillChunks(120)
	n := 0
	w.chunks[0].setFault(func(op, _ string) error {
		if op == "put" {
			if n++; n > 1 {
				return errInjected
			}
		}
		return nil
	})
	if _, err := w.sync(nil); !errors.Is(err, errInjected) {
		t.Fatalf("sync: %v", err)
	}
	if puts, _ := w.manifests[0].calls(); puts != 0 {
		t.Error("a manifest was put")
	}
	w.chunks[0].setFault(nil)
	w.mustSync("again", nil)
}

// TestLongUpload: an upload that takes days has what it has put touched before it may be collected,
// as no version names it yet.
func TestLongUpload(t *testing.T) {
	w := newWorld(t, 1, 1)
	clock := new(movedClock)
	var mu sync.Mutex
	ages, touched := make(map[string]time.Time), 0
	oldest := func() (age time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		for _, at := range ages {
			age = max(age, clock.now().Sub(at))
		}
		return age
	}
	plan := &faultbucket.Plan{OnCalled: func(verb, key string) {
		if _, err := chunkstore.ParseDigest(key); err != nil || verb != "put" {
			return
		}
		mu.Lock()
		_, again := ages[key] // plan's bucket is touched by a put
		mu.Unlock()
		if !again { // an hour passes, in which all that is due is done
			w.until("what is old is touched", func() bool { return oldest() < 24*time.Hour })
			clock.by.Add(int64(time.Hour))
		}
		mu.Lock()
		defer mu.Unlock()
		ages[key] = clock.now()
		if again {
			touched++
		}
	}}
	w.options = func(o *Options) {
		// Each put is a run, after which what is due is touched: none waits for one that waits.
		o.clock, o.runObjects, o.packObjects, o.Concurrency = clock, 1, 1, 1
		o.Store = chunkstore.NewStore(plan.Target(w.store().Targets[0]))
	}
	w.fillChunks(80)
	r := w.replicator()
	defer w.run(r)()
	w.mustFlush(r)
	w.equal(0, "after days")
	if touched < 80 {
		t.Errorf("%d packs were touched", touched)
	}
}

// TestLongUploadLoses: an upload of which something is gone before it is named fails, and the next
// one puts that again.
func TestLongUploadLoses(t *testing.T) {
	w := newWorld(t, 1, 1)
	clock := new(movedClock)
	w.options = func(o *Options) {
		o.clock, o.runObjects, o.packObjects, o.Concurrency = clock, 4, 1, 1
	}
	w.fillChunks(60)
	n := 0
	b := w.chunks[0]
	b.setFault(func(op, key string) error { // under b.mu
		if op == "put" {
			if n++; n == 20 {
				clear(b.objects)
				clock.by.Add(int64(21 * time.Hour))
			}
		}
		return nil
	})
	r := w.replicator()
	defer w.run(r)()
	failures := 0
	for err := w.flush(r); err != nil; err = w.flush(r) {
		if failures++; failures > 20 {
			t.Fatal(err)
		}
	}
	if failures == 0 {
		t.Error("an upload of which packs were lost succeeded")
	}
	w.equal(0, "at last")
}
