package replicate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/cutter"
	"verneuil/spool"
)

// until waits for a condition that other goroutines bring about.
func (w *world) until(what string, ok func() bool) {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), hangs)
	defer cancel()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			w.Fatalf("never: %s", what)
		case <-ticker.C:
		}
	}
}

func (w *world) applied() bool {
	st := w.sp.State()
	return st.Tail() == st.Head() && st.MirrorGeneration.Load() == st.Generation.Load()
}

// TestSlowTargetGetsWhatWasCut: while a push hangs, applying goes on, and the push
// sends what was cut; a healthy target gets new versions meanwhile (I3).
func TestSlowTargetGetsWhatWasCut(t *testing.T) {
	w := newWorld(t, 1, 2)
	w.begin()
	for n := 1; n < 2000; n++ {
		w.write(n, w.pageOf(n, 0, byte(n)))
	}
	w.commit()
	snapshot := w.database()
	started, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.chunks[0].setFault(func(op, _ string) error {
		if op == "put" {
			once.Do(func() { close(started) })
			<-release
		}
		return nil
	})
	r := w.replicator()
	defer w.run(r)()
	<-started
	for round := range 3 {
		w.begin()
		for n := 1; n < 2000; n++ {
			w.write(n, w.pageOf(n, 0, byte(n+100+round)))
		}
		if err := w.w.Truncate(int64(1500-round) * int64(w.page)); err != nil {
			t.Fatal(err)
		}
		w.commit()
		w.until("applied while a push hangs", w.applied)
		w.until("the healthy target has it", func() bool {
			m, err := newest(w.copied(1), w.db)
			return err == nil && m.FileBytes == int64(1500-round)*int64(w.page)
		})
	}
	var first []byte
	w.manifests[0].setFault(func(op, _ string) error {
		if op == "put" && first == nil { // the second manifest is coming: look at the first
			if body := w.manifests[0].objects[r.Name()]; body != nil {
				first = bytes.Clone(body)
			}
		}
		return nil
	})
	close(release)
	w.mustFlush(r)
	w.equal(0, "the slow target at last")
	w.equal(1, "the healthy target")
	if first == nil {
		t.Fatal("the slow target got only one version")
	}
	w.manifests[0].objects[r.Name()] = first
	w.loseRecords(0)
	if _, b := w.restored(0); !bytes.Equal(b, snapshot) {
		t.Error("the slow target's first version is not what was cut")
	}
}

// skewedClock is the system's, moved on as the test likes.
type skewedClock struct {
	mu   sync.Mutex
	skew time.Duration
}

func (c *skewedClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.skew)
}

func (c *skewedClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skew += d
}

func (c *skewedClock) after(d time.Duration) <-chan time.Time {
	if d < time.Minute {
		return time.After(d)
	}
	at, ch := c.now().Add(d), make(chan time.Time, 1)
	go func() {
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		for now := range ticker.C {
			if !c.now().Before(at) {
				ch <- now
				return
			}
		}
	}()
	return ch
}

// countedClock counts the waits that are over before they begin.
type countedClock struct {
	skewedClock
	atOnce atomic.Int64
}

func (c *countedClock) after(d time.Duration) <-chan time.Time {
	if d <= 0 {
		c.atOnce.Add(1)
	}
	return c.skewedClock.after(d)
}

// TestNothingSpins: what waits for a target, or for the next cut, keeps no processor busy.
func TestNothingSpins(t *testing.T) {
	for _, test := range []struct {
		name string
		fail func(w *world, clock *countedClock, r *Replicator) (mend func())
	}{
		{"a target does not answer at first",
			func(w *world, _ *countedClock, r *Replicator) func() {
				asked, release := make(chan struct{}), make(chan struct{})
				var once sync.Once
				w.manifests[1].setFault(func(string, string) error {
					once.Do(func() { close(asked) })
					<-release
					return nil
				})
				w.run(r)
				<-asked
				w.until("the other one has answered",
					func() bool { _, gets := w.manifests[0].calls(); return gets > 0 })
				return func() { close(release) }
			}},
		{"a target has failed", func(w *world, clock *countedClock, r *Replicator) func() {
			failed := make(chan struct{})
			var once sync.Once
			w.manifests[1].setFault(func(op, _ string) error {
				if op != "put" {
					return nil
				}
				once.Do(func() { close(failed) })
				return errors.New("not now")
			})
			w.run(r)
			<-failed
			w.until("the other one has it",
				func() bool { puts, _ := w.manifests[0].calls(); return puts > 0 })
			w.transact(10)
			w.until("applied", w.applied)
			clock.add(10 * time.Minute) // it may be tried again, but the next cut comes first
			return func() { w.manifests[1].setFault(nil) }
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, clock := newWorld(t, 1, 2), new(countedClock)
			w.options = func(o *Options) { o.clock, o.ManifestInterval = clock, time.Hour }
			w.transact(10)
			r := w.replicator()
			mend := test.fail(w, clock, r)
			const rounds = 20
			before := clock.atOnce.Load()
			for range rounds {
				w.transact(10)
				w.until("applied", w.applied)
			}
			if n := clock.atOnce.Load() - before; n > 2*rounds {
				t.Errorf("%d waits were over before they began", n)
			}
			mend()
			w.mustFlush(r)
			w.equal(0, "after all")
			w.equal(1, "after all")
		})
	}
}

func TestPacing(t *testing.T) {
	w := newWorld(t, 1, 1)
	clock := &skewedClock{}
	w.options = func(o *Options) { o.clock, o.ManifestInterval = clock, time.Hour }
	r := w.replicator()
	defer w.run(r)()
	st := w.sp.State()
	pushed := func() bool { return st.PushedSequence.Load() == st.Sequence.Load() }
	w.transact(100)
	w.until("the first commit goes out at once", pushed)
	for range 5 {
		w.transact(100)
		w.until("applied", w.applied)
	}
	if puts, _ := w.manifests[0].calls(); puts != 1 || pushed() {
		t.Errorf("%d manifests within the interval", puts)
	}
	clock.add(time.Hour)
	w.until("the rest follows", pushed)
	if puts, _ := w.manifests[0].calls(); puts != 2 {
		t.Errorf("%d manifests in two intervals", puts)
	}
	w.transact(100)
	w.mustFlush(r)
	w.equal(0, "a flush does not wait")
}

// TestManifestStaysSmall: scattered changes do not make manifests grow, and what is carried
// costs a hot page's commits nothing.
func TestManifestStaysSmall(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.begin()
	for n := 1; n < 3200; n++ {
		w.write(n, w.pageOf(n, 0, byte(n)))
	}
	w.commit()
	r := w.replicator()
	defer w.run(r)()
	w.mustFlush(r)
	rng := rand.New(rand.NewPCG(1, 2))
	update := func(n int) *manifest.Manifest { // two sectors that do not compress
		w.begin()
		b := make([]byte, 1024)
		for k := range b {
			b[k] = byte(rng.Uint32())
		}
		if _, err := w.w.WriteAt(b, int64(n*w.page+512)); err != nil {
			t.Fatal(err)
		}
		w.commit()
		w.mustFlush(r)
		return w.manifest(0)
	}
	alone := 0 // commits that were one request
	begun, _ := w.chunks[0].calls()
	for k := range 120 {
		puts, _ := w.chunks[0].calls()
		m := update(16*(1+k%180) + 3)
		if after, _ := w.chunks[0].calls(); after == puts {
			alone++
		}
		if k%20 == 0 {
			w.equal(0, fmt.Sprint("commit ", k))
		}
		large := func() bool { return w.inline(0)-w.page > cutter.InlineBytesMax }
		if large() {
			w.until("a fold", func() bool { update(9); return !large() })
		}
		if n := len(w.checkpoint(0).Patches); n > cutter.PatchesMax {
			t.Fatalf("commit %d: %d patches", k, n)
		}
		if m.Inline[0].Offset != 0 {
			t.Fatalf("commit %d: page 1 is not inline", k)
		}
	}
	puts, _ := w.chunks[0].calls()
	if alone < 110 || puts-begun < 2 {
		t.Errorf("%d of 120 small commits were one request, %d packs", alone, puts-begun)
	}
	update(9)
	puts, _ = w.chunks[0].calls()
	for range 70 {
		update(9)
	}
	if after, _ := w.chunks[0].calls(); after > puts+1 { // leaves of a checkpoint
		t.Errorf("%d objects were put of one hot page", after-puts)
	}
	w.equal(0, "at the end")
}

func TestIdleIsIdle(t *testing.T) {
	w := newWorld(t, 1, 1)
	r := w.replicator()
	defer w.run(r)()
	for range 2 { // the second one takes the history over
		w.transact(100)
		w.mustFlush(r)
	}
	st := w.sp.State()
	w.until("armed", func() bool { return st.Armed.Load() != 0 })
	puts, gets := w.putsAndGets(0)
	w.transact(100) // wakes it
	w.until("pushed", func() bool { return st.PushedSequence.Load() == st.Sequence.Load() })
	w.until("armed again", func() bool { return st.Armed.Load() != 0 })
	if p, g := w.putsAndGets(0); p > puts+8 || g != gets {
		t.Errorf("a commit took %d puts and %d gets", p-puts, g-gets)
	}
}

// isOpen reports whether this process has a file of the spool open.
func (w *world) isOpen(name string) bool {
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || fds == nil {
		w.Fatalf("/proc/self/fd: %d descriptors, %v", len(fds), err)
	}
	return slices.ContainsFunc(fds, func(fd string) bool {
		to, err := os.Readlink(fd)
		return err == nil && to == filepath.Join(w.sp.Dir(), name)
	})
}

// TestLostWake: what a recorder has published is found also if it does not wake the replicator,
// which sleeps: it was killed before it did, or the FIFO is gone.
func TestLostWake(t *testing.T) {
	for name, lose := range map[string]func(*world){
		"taken and not written": func(w *world) { w.sp.State().Armed.Store(0) },
		"no FIFO": func(w *world) {
			if err := os.Remove(filepath.Join(w.sp.Dir(), "wake")); err != nil &&
				!os.IsNotExist(err) {
				w.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, 1)
			r := w.replicator()
			defer w.run(r)()
			w.transact(100)
			w.mustFlush(r)
			st := w.sp.State()
			for range 3 {
				w.until("armed, and rests",
					func() bool { return st.Armed.Load() != 0 && !w.isOpen("mirror") })
				lose(w)
				w.transact(100)
				w.until("pushed",
					func() bool { return st.PushedSequence.Load() == st.Sequence.Load() })
			}
			w.until("there is a FIFO", func() bool {
				_,
					err := os.Stat(filepath.Join(w.sp.Dir(), "wake"))
				return err == nil
			})
		})
	}
}

func TestNothingLeaks(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 3 {
		w := newWorld(t, 1, 2)
		r := w.replicator()
		stop := w.run(r)
		w.transact(100)
		w.mustFlush(r)
		stop()
	}
	w := newWorld(t, 1, 0)
	w.until("goroutines end", func() bool { return runtime.NumGoroutine() <= before })
}

// TestDamagedLog: a log that cannot be read costs a base copy.
func TestDamagedLog(t *testing.T) {
	w := newWorld(t, 1, 1)
	r := w.replicator()
	stop := w.run(r)
	w.transact(100)
	w.mustFlush(r)
	stop()
	w.transact(100)
	w.transact(100)
	names := w.segments()
	for _, name := range names {
		w.corrupt(name)
	}
	r = w.replicator()
	defer w.run(r)()
	w.mustFlush(r) // by a base copy
	w.equal(0, "after the log was damaged")
	if g := w.sp.State().Generation.Load(); g != 1 {
		t.Errorf("generation %d: a damaged log concerns the mirror alone", g)
	}
}

func TestSpoolCauses(t *testing.T) {
	w := newWorld(t, 1, 1)
	r := w.replicator()
	defer w.run(r)()
	w.transact(10)
	w.mustFlush(r)
	w.sp.State().Raise(spool.CauseLogError)
	w.mustFlush(r)
	if s := r.Status(); s.Cause != spool.CauseLogError.String() || s.Generation != 2 {
		t.Errorf("status: %+v", s)
	}
}

// TestBadChunkIsHashedAgain: bytes that are not what the tree says never reach a
// target, and the cut is made anew.
func TestBadChunkIsHashedAgain(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.begin()
	for n := 1; n < 100; n++ {
		w.write(n, w.pageOf(n, 0, byte(n)))
	}
	w.commit()
	fail := true
	w.chunks[0].setFault(func(op, _ string) error {
		if op == "put" && fail {
			return errInjected
		}
		return nil
	})
	r := w.replicator()
	stop := w.run(r)
	if err := w.flush(r); err == nil {
		t.Fatal("flush did not fail")
	}
	stop()
	w.flipMirror(3 * chunkstore.ChunkBytes)
	w.chunks[0].mu.Lock()
	fail = false
	w.chunks[0].mu.Unlock()
	r = w.replicator()
	defer w.run(r)()
	w.until("it is mended", func() bool { return w.flush(r) == nil })
	if len(w.packs(0)) == 0 {
		t.Error("there are no packs")
	}
}

// TestConflictsForGood: a store that says again and again that there is another manifest,
// and shows none, is not asked as fast as it answers.
func TestConflictsForGood(t *testing.T) {
	w := newWorld(t, 31, 1)
	r := w.replicator()
	defer w.run(r)()
	w.manifests[0].setFault(func(op, _ string) error {
		if op == "put" {
			return chunkstore.ErrConflict
		}
		return nil
	})
	w.transact(50)
	if err := w.flush(r); !errors.Is(err, chunkstore.ErrConflict) {
		t.Errorf("flush: %v", err)
	}
	if puts, _ := w.manifests[0].calls(); puts > 4 {
		t.Errorf("%d puts", puts)
	}
	w.manifests[0].setFault(nil)
	w.mustFlush(r)
	w.equal(0, "after the conflicts")
}

// TestSuccessorOfEveryTarget: a spool was lost, the target that answers first had lagged, and
// what follows is a successor of the other one's version, too: replicas of that one take it.
func TestSuccessorOfEveryTarget(t *testing.T) {
	w := newWorld(t, 17, 2)
	down := func(k int, is bool) {
		fault := func(string, string) error { return errInjected }
		if !is {
			fault = nil
		}
		w.chunks[k].setFault(fault)
		w.manifests[k].setFault(fault)
	}
	loseSpool := func() {
		w.loseSpool()
		w.attach()
	}
	r := w.replicator()
	stop := w.run(r)
	w.transact(50)
	w.mustFlush(r)
	stop()

	loseSpool()
	down(0, true)
	r = w.replicator()
	stop = w.run(r)
	for range 5 {
		w.transact(50)
		if err := w.flush(r); !errors.Is(err, errInjected) {
			t.Fatalf("flush with a target that is down: %v", err)
		}
	}
	stop()
	before := w.equal(1, "the target that is up")

	loseSpool()
	down(0, false)
	down(1, true)
	r = w.replicator()
	defer w.run(r)()
	w.transact(50)
	if err := w.flush(r); !errors.Is(err, errInjected) {
		t.Fatalf("flush with the other target down: %v", err)
	}
	w.equal(0, "the target that lagged")
	down(1, false)
	w.mustFlush(r)
	if after := w.equal(1, "the other target is up again"); !after.Head().After(before.Head()) {
		t.Errorf("version %d of epoch %d is no successor of %d of %d", after.Sequence, after.Epoch,
			before.Sequence, before.Epoch)
	}
	w.equal(0, "both are up")
}
