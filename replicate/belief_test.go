package replicate

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/courier"
)

// movedClock is the system's, moved on by hand.
type movedClock struct {
	systemClock
	by     atomic.Int64
	stands time.Time // what it is moved from; zero: the present time
}

func (c *movedClock) now() time.Time {
	from := c.stands
	if from.IsZero() {
		from = time.Now()
	}
	return from.Add(time.Duration(c.by.Load()))
}

// withClock gives w's replicators a clock.
func (w *world) withClock() *movedClock {
	c := new(movedClock)
	w.options = func(o *Options) { o.clock = c }
	return c
}

// losses are what may become of a target behind a replicator's back.
var losses = map[string]func(w *world){
	"chunks emptied":    func(w *world) { w.chunks[0].empty() },
	"both emptied":      func(w *world) { w.chunks[0].empty(); w.manifests[0].empty() },
	"manifests emptied": func(w *world) { w.manifests[0].empty() },
	"another chunk bucket": func(w *world) {
		other := newMemoryBucket("other")
		_, err := chunkstore.Identify(context.Background(), other, chunkstore.Plain{})
		if err != nil {
			w.Fatal(err)
		}
		w.chunks[0].empty()
		w.chunks[0].marker = other.marker
	},
	"the marker damaged, the rest gone": func(w *world) {
		w.chunks[0].empty()
		w.chunks[0].marker[chunkstore.MarkerKey] = []byte("{}")
	},
	"chunks expired": func(w *world) { // but for the marker, which was touched
		w.chunks[0].mu.Lock()
		defer w.chunks[0].mu.Unlock()
		clear(w.chunks[0].objects)
	},
}

// TestTargetThatWasLost: whatever becomes of a target, a flush that succeeds later means that all
// is there: of a replicator that went on, of one that began anew, and of one without a spool; of
// one that has something new, and of one that has not.
func TestTargetThatWasLost(t *testing.T) {
	for name, lose := range losses {
		for _, how := range []string{"running", "restarted", "without a spool"} {
			for _, news := range []bool{true, false} {
				t.Run(name+", "+how, func(t *testing.T) {
					w := newWorld(t, 1, 1)
					clock := w.withClock()
					r := w.replicator()
					stop := w.run(r)
					w.fillChunks(20)
					w.mustFlush(r)
					w.begin()
					// which travels inline, over a chunk that is to be lost
					w.write(17, w.pageOf(17, 0, 200))
					w.commit()
					w.mustFlush(r)
					lose(w)
					clock.by.Add(int64(2 * courier.PauseTrust))
					switch how {
					case "restarted":
						stop()
					case "without a spool":
						stop()
						w.loseSpool()
						w.attach()
					}
					if how != "running" {
						r = w.replicator()
						stop = w.run(r)
					}
					if news {
						w.begin()
						w.write(33, w.pageOf(33, 0, 100))
						w.commit()
					}
					w.mustFlush(r)
					stop()
					w.equal(0, "after the loss")
				})
			}
		}
	}
}

// TestSyncOfALostTarget: so it is with Sync.
func TestSyncOfALostTarget(t *testing.T) {
	for name, lose := range losses {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, 1)
			w.fillChunks(20)
			w.mustSync("first", nil)
			lose(w)
			if result := w.mustSync("after the loss", nil); !result.Uploaded {
				t.Errorf("%+v", result)
			}
		})
	}
}

// TestSomePacksLost: a sample that misses one has all asked for, and only what is gone is put
// again.
func TestSomePacksLost(t *testing.T) {
	for _, packObjects := range []int{1, 5} {
		w := newWorld(t, 1, 1)
		clock := new(movedClock)
		w.options = func(o *Options) { o.clock, o.packObjects = clock, packObjects }
		w.fillChunks(60)
		r := w.replicator()
		stop := w.run(r)
		w.mustFlush(r)
		stop()
		packs := w.packs(0)
		lost, kept := 0, 0
		w.chunks[0].mu.Lock()
		for key, ids := range packs {
			if kept++; kept > 2 { // so that a sample of three hits one that is gone
				delete(w.chunks[0].objects, key)
				lost += len(ids)
			}
		}
		w.chunks[0].mu.Unlock()
		left := w.packs(0)
		clock.by.Add(int64(2 * courier.PauseTrust))
		r = w.replicator()
		stop = w.run(r)
		w.mustFlush(r)
		stop()
		if put := w.objects(0, left); put != lost {
			t.Errorf("%d objects were put, want the %d that were gone", put, lost)
		}
		w.equal(0, "after a loss")
	}
}

// TestNewPackLost: of many packs, some are gone that were put since the last look: the next one
// finds out, and they are put again.
func TestNewPackLost(t *testing.T) {
	w := newWorld(t, 1, 1)
	clock := new(movedClock)
	w.options = func(o *Options) { o.clock, o.packObjects = clock, 1 }
	w.fillChunks(100)
	r := w.replicator()
	defer w.run(r)()
	look := func() {
		clock.by.Add(int64(2 * courier.PauseTrust))
		w.mustFlush(r)
	}
	w.mustFlush(r)
	look()
	pages := chunkstore.ChunkBytes / w.page
	for _, chunk := range []int{20, 70, 50} {
		before := w.packs(0)
		w.begin()
		for n := range 3 * pages { // too much for a manifest
			b := w.pageOf(chunk*pages+n, 0, 1)
			rand.Read(b)
			w.write(chunk*pages+n, b)
		}
		w.commit()
		w.mustFlush(r)
		lost := 0
		for key := range w.packs(0) {
			if before[key] == nil {
				lost++
				w.chunks[0].mu.Lock()
				delete(w.chunks[0].objects, key)
				w.chunks[0].mu.Unlock()
			}
		}
		if lost < 3 {
			t.Fatalf("%d packs were put for three chunks", lost)
		}
		look()
		w.equal(0, "after a loss")
		look() // at what was put again
	}
}

// TestRefusedRecord: a store that refuses a record has said so.
func TestRefusedRecord(t *testing.T) {
	w := newWorld(t, 1, 1)
	r := w.replicator()
	defer w.run(r)()
	w.transact(100)
	w.mustFlush(r)
	w.manifests[0].setFault(func(op, _ string) error {
		if op == "put" {
			return fmt.Errorf("%w: AccessDenied (HTTP 403)", chunkstore.ErrDenied)
		}
		return nil
	})
	w.transact(100)
	err := w.flush(r)
	if err == nil || !errors.Is(err, chunkstore.ErrDenied) ||
		!strings.Contains(err.Error(), "refuses our credentials") ||
		strings.Contains(err.Error(), "has not said") {
		t.Errorf("a flush says %v", err)
	}
	w.manifests[0].setFault(nil)
	w.mustFlush(r)
	w.equal(0, "after a refusal")
}

// TestFlushAsksTheTarget: a flush with nothing new is no answer from memory.
func TestFlushAsksTheTarget(t *testing.T) {
	w := newWorld(t, 1, 1)
	clock := w.withClock()
	r := w.replicator()
	defer w.run(r)()
	w.transact(400)
	w.mustFlush(r)
	puts, gets := w.putsAndGets(0)
	marks := w.chunks[0].marks
	clock.by.Add(int64(time.Minute))
	w.mustFlush(r)
	if p, g := w.putsAndGets(0); p != puts || g != gets+2 || w.chunks[0].marks != marks+1 {
		t.Errorf("%d puts, %d gets, %d looks at the marker; want the manifest, the absence of a "+
			"record and the marker", p-puts, g-gets, w.chunks[0].marks-marks)
	}
	outage := func(string, string) error { return errInjected }
	w.chunks[0].setFault(outage)
	w.manifests[0].setFault(outage)
	clock.by.Add(int64(10 * time.Second))
	if err := w.flush(r); !errors.Is(err, errInjected) {
		t.Errorf("flush during an outage: %v", err)
	}
	if err := r.Drain(context.Background()); err != nil { // what nobody asked for believes a minute
		t.Errorf("drain: %v", err)
	}
	w.chunks[0].setFault(nil)
	w.manifests[0].setFault(nil)
	w.mustFlush(r)
}

// TestJournalIsOfOneBucket: what an upload that was interrupted has put to a bucket is not believed
// of the one that takes its place.
func TestJournalIsOfOneBucket(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.fillChunks(120)
	w.options = func(o *Options) { o.runObjects, o.packObjects = 10, 1 }
	w.chunks[0].setFault(func(op, _ string) error {
		if op == "put" && w.chunks[0].puts > 90 {
			return errInjected
		}
		return nil
	})
	r := w.replicator()
	stop := w.run(r)
	if err := w.flush(r); !errors.Is(err, errInjected) {
		t.Fatal(err)
	}
	stop()
	w.chunks[0].setFault(nil)
	w.chunks[0].empty()
	r = w.replicator()
	defer w.run(r)()
	w.mustFlush(r)
	w.equal(0, "after the bucket was emptied")
}

// TestStoresOfATarget: a manifest names the chunk bucket of each target that it is put to, also of
// one that could not be asked when it was cut.
func TestStoresOfATarget(t *testing.T) {
	w := newWorld(t, 1, 2)
	down := func(string, string) error { return errInjected }
	w.chunks[1].setFault(down)
	w.manifests[1].setFault(down)
	r := w.replicator()
	defer w.run(r)()
	w.transact(400)
	if err := w.flush(r); err == nil {
		t.Fatal("a target that is down has everything")
	}
	w.chunks[1].setFault(nil)
	w.manifests[1].setFault(nil)
	w.mustFlush(r)
	for k := range w.chunks {
		id, err := chunkstore.ReadIdentity(context.Background(), w.chunks[k])
		if err != nil || id == (chunkstore.Identity{}) ||
			!slices.Contains(w.manifest(k).Stores, id) {
			t.Errorf("target %d: the manifest is for %v, the bucket is %v, %v", k,
				w.manifest(k).Stores, id, err)
		}
	}
}

// TestIdentities: all who make one at once get the same, and a damaged one is replaced.
func TestIdentities(t *testing.T) {
	b := newMemoryBucket("b")
	ids := make(chan chunkstore.Identity, 8)
	for range cap(ids) {
		go func() {
			id, err := chunkstore.Identify(context.Background(), b, chunkstore.Plain{})
			if err != nil {
				t.Error(err)
			}
			ids <- id
		}()
	}
	first := <-ids
	for range cap(ids) - 1 {
		if id := <-ids; id != first || id == (chunkstore.Identity{}) {
			t.Errorf("%v and %v", first, id)
		}
	}
	if !bytes.Contains(b.marker[chunkstore.MarkerKey], []byte(first.String())) {
		t.Errorf("the marker is %s", b.marker[chunkstore.MarkerKey])
	}
	b.marker[chunkstore.MarkerKey] = []byte(`{"verneuil_bucket":2,"id":"` + first.String() + `"}`)
	if _, err := chunkstore.Identify(context.Background(), b, chunkstore.Plain{}); !errors.Is(err,
		chunkstore.ErrNewerStore) {
		t.Errorf("a newer program's: %v", err)
	}
	b.marker[chunkstore.MarkerKey] = []byte("junk")
	id, err := chunkstore.Identify(context.Background(), b, chunkstore.Plain{})
	if err != nil || id == first ||
		id == (chunkstore.Identity{}) {
		t.Errorf("a damaged one: %v, %v", id, err)
	}
}

// TestOwnTakeover: a history is to be replaced, its end is taken over, and then the checkpoint
// turns out to be another one: the fence that is found is our own, and nobody else's.
func TestOwnTakeover(t *testing.T) {
	w := newWorld(t, 1, 1)
	clock := w.withClock()
	r := w.replicator()
	defer w.run(r)()
	w.fillChunks(20)
	w.mustFlush(r)
	w.transact(300)
	w.mustFlush(r)
	m := *w.manifest(0)
	m.Program = "a checkpoint that is on its way"
	checkpoint, err := m.Encode(chunkstore.Plain{})
	if err != nil {
		t.Fatal(err)
	}
	var fences atomic.Int64
	w.manifests[0].stored = func(body []byte) error {
		if bytes.HasPrefix(body, []byte("VRNL")) && body[5]&1 != 0 && fences.Add(1) == 1 {
			return w.manifests[0].place(manifest.PlainName("host", w.db), checkpoint,
				chunkstore.Condition{})
		}
		return nil
	}
	losses["the marker damaged, the rest gone"](w)
	clock.by.Add(int64(2 * courier.PauseTrust))
	w.mustFlush(r)
	w.equal(0, "after a takeover from ourselves")
	if fences.Load() == 0 {
		t.Error("nothing was taken over")
	}
}

// cuts are what may become of a target's log of versions: a reader stops before what is gone. They
// are given the records that are there, in order, and what the target had two versions ago.
var cuts = map[string]func(b *memoryBucket, records []string, then map[string][]byte){
	"the last record": func(b *memoryBucket, records []string, _ map[string][]byte) {
		delete(b.objects, records[len(records)-1])
	},
	"one before it": func(b *memoryBucket, records []string, _ map[string][]byte) {
		delete(b.objects, records[len(records)-2])
	},
	"the first record": func(b *memoryBucket, records []string, _ map[string][]byte) {
		delete(b.objects, records[0])
	},
	"one made empty": func(b *memoryBucket, records []string, _ map[string][]byte) {
		b.objects[records[len(records)-1]] = nil
	},
	"put back": func(b *memoryBucket, _ []string, then map[string][]byte) {
		b.objects = maps.Clone(then)
	},
}

// TestLogThatLostRecords: a record that was appended after others had been lost is read by nobody.
// No flush says that it is stored: of a replicator that went on, and of one that began anew from
// what it had noted; of one that has something new, and of one that has not.
func TestLogThatLostRecords(t *testing.T) {
	for name, cut := range cuts {
		for _, restart := range []bool{false, true} {
			for _, news := range []int{0, 1, 3} {
				t.Run(fmt.Sprintf("%s, restarted %v, %d versions later", name, restart, news),
					func(t *testing.T) { logThatLostRecords(t, cut, restart, news) })
			}
		}
	}
}

func logThatLostRecords(t *testing.T, cut func(*memoryBucket, []string, map[string][]byte),
	restart bool, news int) {
	w := newWorld(t, 1, 1)
	clock := w.withClock()
	r := w.replicator()
	stop := w.run(r)
	w.fillChunks(4)
	w.mustFlush(r)
	version := func(v byte) {
		w.begin()
		w.write(17, w.pageOf(17, 0, v))
		w.commit()
	}
	var then map[string][]byte
	for v := range byte(4) {
		if v == 2 {
			then = maps.Clone(w.chunks[0].objects)
		}
		version(100 + v)
		clock.by.Add(int64(2 * courier.FlushTrust)) // so that each is looked at
		w.mustFlush(r)
	}
	b := w.chunks[0]
	b.mu.Lock()
	records := slices.Sorted(func(yield func(string) bool) {
		for key := range b.objects {
			if strings.HasPrefix(key, chunkstore.LogKeyPrefix) && !yield(key) {
				return
			}
		}
	})
	if len(records) < 4 {
		t.Fatalf("%d records", len(records))
	}
	cut(b, records, then)
	b.mu.Unlock()
	if restart {
		stop()
		r = w.replicator()
		stop = w.run(r)
	}
	for v := range news {
		version(200 + byte(v))
		if v+1 < news {
			w.mustFlush(r) // it may be believed: the target was looked at a moment ago
		}
	}
	clock.by.Add(int64(2 * courier.PauseTrust)) // longer than anything is believed
	w.mustFlush(r)
	stop()
	w.equal(0, "after the loss")
}
