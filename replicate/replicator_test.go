package replicate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/courier"
	"verneuil/replicate/cutter"
	"verneuil/replicate/mirror"
	"verneuil/spool"
	"verneuil/spool/spooltest"
	"verneuil/test/crash"
)

func TestReplicateBasics(t *testing.T) {
	w := newWorld(t, 1, 1)
	r := w.replicator()
	defer w.run(r)()
	for n := range 40 {
		w.transact(100)
		if n%4 == 0 {
			w.mustFlush(r)
			w.equal(0, fmt.Sprint("transaction ", n))
		}
	}
	if err := r.Verify(context.Background()); err != nil {
		t.Error(err)
	}
	w.mustFlush(r)
	if s := r.Status(); !s.UpToDate || s.LagSeconds != 0 || len(s.Targets) != 1 ||
		s.Targets[0].Backlog != 0 {
		t.Errorf("status after flush: %+v", s)
	}
}

// TestSmallCommitIsOnePut: a small transaction costs one PUT and no chunk.
func TestSmallCommitIsOnePut(t *testing.T) {
	w := newWorld(t, 1, 1)
	r := w.replicator()
	defer w.run(r)()
	w.begin()
	for n := 1; n < 200; n++ {
		w.write(n, w.pageOf(n, 0, byte(n)))
	}
	w.commit()
	w.mustFlush(r)
	w.transact(50) // which takes the history over
	w.mustFlush(r)
	for range 3 {
		puts, gets := w.putsAndGets(0)
		w.begin()
		w.write(150, w.pageOf(150, 0, byte(w.rand.IntN(255))))
		w.commit()
		w.mustFlush(r)
		if p, g := w.putsAndGets(0); p != puts+1 || g != gets {
			t.Errorf("a small commit took %d puts and %d gets", p-puts, g-gets)
		}
		w.equal(0, "small commit")
	}
	puts, gets := w.putsAndGets(0)
	w.mustFlush(r)
	if p, g := w.putsAndGets(0); p != puts || g != gets {
		t.Errorf("flush of nothing took %d puts and %d gets", p-puts, g-gets)
	}
}

// TestRestartUploadsNothing: neither a restart, nor a lost spool, puts what is there.
func TestRestartUploadsNothing(t *testing.T) {
	w := newWorld(t, 2, 2)
	r := w.replicator()
	stop := w.run(r)
	for range 30 {
		w.transact(2000)
	}
	w.mustFlush(r)
	w.transact(2000)
	w.mustFlush(r)
	stop()
	check := func(what string, leastPuts, mostPuts, mostGets int) {
		t.Helper()
		puts, gets := w.putsAndGets(0)
		r := w.replicator()
		stop := w.run(r)
		w.mustFlush(r)
		stop()
		p, g := w.putsAndGets(0)
		if p -= puts; p < leastPuts || p > mostPuts {
			t.Errorf("%s took %d puts, want %d to %d", what, p, leastPuts, mostPuts)
		}
		if g -= gets; g > mostGets {
			t.Errorf("%s took %d gets, want at most %d", what, g, mostGets)
		}
		w.equal(0, what)
		w.equal(1, what)
	}
	// A flush asks a target that was not asked for a second: for the manifest, and what follows it.
	const look = 6
	check("restart", 0, 0, look)
	w.sp.State().Raise(spool.CauseForeign)
	check("restart with a base copy", 0, 0, look)
	w.loseSpool()
	w.attach()
	// Who knows nothing of a history asks for 16 records at once.
	check("restart without a spool", 0, 0, 12+16)
	check("another restart", 0, 0, 6+16)
	w.loseSpool()
	w.attach()
	w.begin()
	w.write(77, w.pageOf(77, 0, 200))
	w.commit()
	// The chunk and the manifest; and of the chunks that the last version has inline, how many
	// depends on when it was cut, a batch may have become due.
	check("a change and a lost spool", 1, 2+cutter.InlineBatch, 12+16)
	check("a restart after that", 0, 0, look)
}

// TestPropertyRandom is the heart: random writers, raises, overflows, foreign
// writes, deaths at named points, lost spools; after each a flush and a comparison.
func TestPropertyRandom(t *testing.T) {
	from, to := spooltest.Seeds(t, 0, 6)
	for seed := from; seed < to; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { propertyRun(t, seed) })
	}
}

var deathPoints = []string{"loop", "apply", "copy", "copied", "save", "saved"}

func propertyRun(t *testing.T, seed uint64) {
	w := newWorld(t, seed, 1+int(seed%2))
	w.page = []int{4096, 4096, 4096, 512, 65536, 1024}[seed%6]
	w.watch()
	w.sp.State().LogAllowance.Store(2 << 20)
	pages := []int{20, 300, 1200, 2000, 30, 300}[seed%6]
	if seed%4 < 2 {
		w.roots = []uint32{2, 9, 3, 17}
	}
	var deadline atomic.Int64 // passes of a named point until death
	var at atomic.Value
	at.Store("")
	w.options = func(o *Options) {
		o.fault = func(point string) bool {
			return point == at.Load().(string) && deadline.Add(-1) == 0
		}
		o.packObjects = []int{0, 1, 3, 0, 16, 5}[seed%6]
	}
	r := w.replicator()
	stop := w.run(r)
	for step := range 25 {
		what := fmt.Sprintf("seed %d step %d", seed, step)
		if w.rand.IntN(3) == 0 {
			deadline.Store(int64(1 + w.rand.IntN(20)))
			at.Store(deathPoints[w.rand.IntN(len(deathPoints))])
		}
		for range w.rand.IntN(12) {
			w.anything(what, pages)
		}
		if w.rand.IntN(12) == 0 { // the spool is deleted; the next open makes it anew
			w.loseSpool()
			w.attach()
			w.sp.State().LogAllowance.Store(2 << 20)
		}
		if testing.Verbose() {
			t.Logf("%s: flush; dying at %v counter %d", what, at.Load(), w.counter())
		}
		at.Store("")
		if dead(r) || w.rand.IntN(10) == 0 {
			stop()
			r = w.replicator()
			stop = w.run(r)
		}
		if err := w.flush(r); err != nil {
			if !errors.Is(err, ErrStopped) {
				t.Fatalf("%s: flush: %v; %+v", what, err, r.Status())
			}
			stop()
			r = w.replicator()
			stop = w.run(r)
			if err := w.flush(r); err != nil {
				t.Fatalf("%s: flush after a death: %v", what, err)
			}
		}
		for k := range w.chunks {
			w.equal(k, what)
		}
		if err := r.Verify(context.Background()); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	stop()
}

// anything does one of the things that can happen to a database.
func (w *world) anything(what string, pages int) {
	a := w.rand.IntN(14)
	if testing.Verbose() {
		w.Logf("%s: action %d counter %d gen %d", what, a, w.counter(),
			w.sp.State().Generation.Load())
	}
	switch a {
	case 0:
		w.sp.State().Raise(spool.CauseForeign)
	case 1:
		w.foreign(pages)
	case 2: // a transaction that the log has no room for
		w.begin()
		w.w.Lose(spool.CauseLogFull)
		w.write(1, w.pageOf(1, 0, byte(w.rand.IntN(256))))
		w.commit()
	case 3: // a process dies in the middle; another rolls back
		w.begin()
		w.write(2, w.pageOf(2, 0, byte(w.rand.IntN(256))))
		w.w.Abandon()
		w.w.Begin()
		w.write(2, w.pageOf(2, 0, 7))
		w.commit()
	case 4:
		if pages < 1000 {
			w.vacuum()
		}
	default:
		w.transact(pages)
	}
}

func dead(r *Replicator) bool { return r.look().stands == over }

// vacuum rewrites the database, shorter.
func (w *world) vacuum() {
	w.begin()
	n := 2 + w.rand.IntN(15)
	for k := 1; k < n; k++ {
		w.write(k, w.pageOf(k, 0, byte(w.rand.IntN(256))))
	}
	if err := w.w.Truncate(int64(n) * int64(w.page)); err != nil {
		w.Fatal(err)
	}
	w.commit()
}

// TestConcurrentWriter writes while the replicator copies, applies and pushes:
// whatever a target has at any time is a committed state.
func TestConcurrentWriter(t *testing.T) {
	w := newWorld(t, 5, 1)
	w.begin()
	for n := 1; n < 500; n++ {
		w.write(n, w.pageOf(n, 0, 0))
	}
	w.commit()
	r := w.replicator()
	defer w.run(r)()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for k := range 300 {
			// every page of a transaction has the same fill: a mix would show
			w.begin()
			fill := byte(k)
			for n := 1; n < 500; n += 7 {
				w.write(n, w.pageOf(n, 0, fill))
			}
			w.commit()
			if k%100 == 50 {
				w.sp.State().Raise(spool.CauseForeign)
			}
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		w.mustFlush(r)
		_, b := w.restored(0)
		for n := 1; n < 500; n += 7 {
			if b[n*w.page] != b[w.page] {
				t.Fatalf("page %d is of another transaction than page 1", n)
			}
		}
	}
	w.mustFlush(r)
	w.equal(0, "at the end")
}

var errInjected = errors.New("injected")

// TestFaultsByNthCall: one target fails its Nth call, once or for good; the other
// gets everything, and the first too when it returns.
func TestFaultsByNthCall(t *testing.T) {
	for n := range crash.Calls(t) {
		w := newWorld(t, uint64(n), 2)
		count, hit := 0, false
		var mu sync.Mutex // of both buckets: a look may ask one while a push asks the other
		fault := func(op, key string) error {
			mu.Lock()
			defer mu.Unlock()
			if count++; count == n {
				hit = true
				return errInjected
			}
			return nil
		}
		w.chunks[0].setFault(fault)
		w.manifests[0].setFault(fault)
		w.watch()
		r := w.replicator()
		stop := w.run(r)
		for range 4 {
			w.transact(200)
			w.begin()
			for k := 1; k < 60; k++ {
				w.write(k, w.pageOf(k, 0, byte(w.rand.IntN(256))))
			}
			w.commit()
			if err := w.flush(r); err != nil && !errors.Is(err, errInjected) {
				t.Fatalf("call %d: flush: %v", n, err)
			} else if err != nil && !strings.Contains(err.Error(), "target 0") {
				t.Errorf("error does not name the target: %v", err)
			}
			w.equal(1, fmt.Sprint("the healthy target, call ", n))
		}
		_ = w.flush(r) // call n may be this one's
		w.mustFlush(r)
		w.equal(0, fmt.Sprint("the target that failed call ", n))
		stop()
		mu.Lock()
		over := !hit
		mu.Unlock()
		if over {
			if n < 5 {
				t.Errorf("no more than %d calls", n)
			}
			return
		}
	}
}

func TestTargetDownThenUp(t *testing.T) {
	w := newWorld(t, 9, 2)
	down := func(string, string) error { return errInjected }
	w.chunks[0].setFault(down)
	w.manifests[0].setFault(down)
	r := w.replicator()
	defer w.run(r)()
	for range 10 {
		w.transact(400)
		if err := w.flush(r); !errors.Is(err, errInjected) ||
			!strings.Contains(err.Error(), "target 0") {
			t.Fatalf("flush with a target down: %v", err)
		}
		w.equal(1, "the other target")
	}
	w.chunks[0].setFault(nil)
	w.manifests[0].setFault(nil)
	w.mustFlush(r)
	w.equal(0, "the target that returned")
	w.chunks[0].setFault(down)
	w.manifests[0].setFault(down)
	for range 10 {
		w.transact(400)
		if err := w.flush(r); !errors.Is(err, errInjected) {
			t.Fatal(err)
		}
		w.equal(1, "the other target")
	}
	if s := r.Status(); s.UpToDate || s.Targets[0].Error == "" || s.LagSeconds <= 0 {
		t.Errorf("status with a target down: %+v", s)
	}
	w.chunks[0].setFault(nil)
	w.manifests[0].setFault(nil)
	w.mustFlush(r)
	w.equal(0, "the target that returned again")
	if a, b := len(w.chunkKeys(0)), len(w.chunkKeys(1)); a > b {
		t.Errorf("the target that was down got %d objects, the other %d", a, b)
	}
}

func TestNoTargets(t *testing.T) {
	w := newWorld(t, 1, 0)
	r := w.replicator()
	defer w.run(r)()
	w.transact(10)
	if err := w.flush(r); !errors.Is(err, ErrNoTargets) {
		t.Errorf("flush: %v", err)
	}
}

// TestI5Conflict: another writer under our name stops us.
func TestI5Conflict(t *testing.T) {
	w := newWorld(t, 3, 1)
	r := w.replicator()
	stop := w.run(r)
	w.transact(50)
	w.mustFlush(r)
	other := newWorld(t, 4, 0)
	other.db, other.chunks, other.manifests = w.db, w.chunks, w.manifests
	other.root = t.TempDir()
	other.attach()
	r2 := other.replicator()
	stop2 := other.run(r2)
	w.lock.Lock()
	other.lock.Lock()
	other.lock.Unlock()
	w.lock.Unlock()
	other.transact(50)
	other.mustFlush(r2) // it takes over: its spool knew nothing
	stop2()
	w.transact(50)
	err := w.flush(r)
	if !errors.Is(err, chunkstore.ErrConflict) {
		t.Fatalf("flush after another writer: %v", err)
	}
	if s := r.Status(); !s.Targets[0].Stopped {
		t.Errorf("status: %+v", s.Targets[0])
	}
	stop()
	r = w.replicator()
	stop = w.run(r)
	if err := w.flush(r); !errors.Is(err, chunkstore.ErrConflict) {
		t.Fatalf("flush after a restart: %v", err)
	}
	stop()
	w.loseSpool()
	w.attach()
	r = w.replicator()
	defer w.run(r)()
	w.mustFlush(r)
	w.equal(0, "after taking over")
}

// TestStaleAndDamagedManifest: an old version of ours, put back, is replaced; so is a
// damaged one; and what is gone is put anew.
func TestStaleAndDamagedManifest(t *testing.T) {
	w := newWorld(t, 6, 1)
	clock := w.withClock()
	r := w.replicator()
	stop := w.run(r)
	w.transact(50)
	w.mustFlush(r)
	key := r.Name()
	old := append([]byte(nil), w.manifests[0].objects[key]...)
	w.transact(50)
	w.mustFlush(r)
	for name, change := range map[string]func(){
		"stale":   func() { w.manifests[0].objects[key] = old },
		"damaged": func() { w.manifests[0].objects[key] = []byte("nonsense") },
		"gone":    func() { delete(w.manifests[0].objects, key) },
		"wiped":   func() { clear(w.manifests[0].objects); clear(w.chunks[0].objects) },
	} {
		w.manifests[0].mu.Lock()
		w.chunks[0].mu.Lock()
		change()
		w.chunks[0].mu.Unlock()
		w.manifests[0].mu.Unlock()
		clock.by.Add(int64(2 * courier.FlushTrust))
		w.transact(50)
		w.mustFlush(r)
		w.equal(0, name)
	}
	stop()
}

// TestManifestOfANewerProgram: what cannot be read because it is of a later format is
// not replaced, and the flush says why.
func TestManifestOfANewerProgram(t *testing.T) {
	w := newWorld(t, 6, 1)
	r := w.replicator()
	stop := w.run(r)
	w.transact(50)
	w.mustFlush(r)
	stop()
	newer := append([]byte(nil), w.manifests[0].objects[r.Name()]...)
	newer[4] = 200 // the format's version
	w.manifests[0].objects[r.Name()] = newer
	w.transact(50)
	next := w.replicator()
	defer w.run(next)()
	if err := next.Flush(context.Background()); !errors.Is(err, manifest.ErrNewer) {
		t.Errorf("flush: %v", err)
	}
	w.manifests[0].mu.Lock()
	defer w.manifests[0].mu.Unlock()
	if !bytes.Equal(w.manifests[0].objects[r.Name()], newer) {
		t.Error("it was replaced")
	}
}

func TestHotJournal(t *testing.T) {
	w := newWorld(t, 8, 1)
	w.transact(50)
	journal := []byte("\xd9\xd5\x05\xf9\x20\xa1\x63\xd7 and more of a header, and so on")
	if err := os.WriteFile(w.db+"-journal", journal, 0o600); err != nil {
		t.Fatal(err)
	}
	r := w.replicator()
	stop := w.run(r)
	if err := w.flush(r); !errors.Is(err, mirror.ErrHot) {
		t.Errorf("flush with a hot journal: %v", err)
	}
	if w.manifests[0].count() > 0 {
		t.Error("pushed from a database with a hot journal")
	}
	if err := os.Remove(w.db + "-journal"); err != nil {
		t.Fatal(err)
	}
	w.mustFlush(r)
	w.equal(0, "after recovery")

	// a process that died after its commit, and before it was published
	w.begin()
	w.write(3, w.pageOf(3, 0, 99))
	w.w.Abandon()
	w.sp.State().Writing.Store(1<<62 | 5)
	w.setReserved(false)
	w.lock.Unlock()
	w.mustFlush(r)
	w.equal(0, "after a death")
	stop()
}

// TestReserved: an idle connection under locking EXCLUSIVE does not stop us.
func TestReservedHeld(t *testing.T) {
	w := newWorld(t, 8, 1)
	w.transact(50)
	w.setReserved(true)
	fake := &fakeClock{at: time.Now()}
	w.options = func(o *Options) { o.clock = fake }
	r := w.replicator()
	defer w.run(r)()
	w.mustFlush(r)
	w.equal(0, "with RESERVED held")
}

// fakeClock runs as fast as it is asked: every wait is over at once.
type fakeClock struct {
	mu sync.Mutex // errands ask for the time, too
	at time.Time
}

func (c *fakeClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *fakeClock) after(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
	ch := make(chan time.Time, 1)
	ch <- c.at
	return ch
}

func TestForeignWriterIsFoundByFlush(t *testing.T) {
	w := newWorld(t, 10, 1)
	r := w.replicator()
	defer w.run(r)()
	w.transact(50)
	w.mustFlush(r)
	w.foreign(50)
	w.mustFlush(r)
	w.equal(0, "after a foreign write")
}

func TestLostSpool(t *testing.T) {
	w := newWorld(t, 11, 1)
	source := spool.SourceConfig{Path: w.db, Host: "host"}
	if err := w.sp.WriteSourceConfig(source); err != nil {
		t.Fatal(err)
	}
	r := w.replicator()
	defer w.run(r)()
	w.transact(50)
	w.mustFlush(r)
	old := w.sp
	w.loseSpool()
	w.mustFlush(r)
	if !old.State().Lost() {
		t.Error("the old state is not lost")
	}
	w.attach()
	if c, err := spool.ReadSourceConfig(w.sp.Dir()); err != nil || c.Host != "host" {
		t.Errorf("source.json of the new spool: %+v, %v", c, err)
	}
	w.transact(50)
	w.mustFlush(r)
	w.equal(0, "after the spool was lost")
}
