package replicate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/faultbucket"
	"verneuil/replicate/versions"
	"verneuil/spool"
	"verneuil/test/crash"
)

// eventful commits versions by w's replicators, of which it makes several: a history begins, is
// taken over, is gone on with by the next process, and has a checkpoint. What fails on the way is
// tried again, by the same process, or by the next one.
func (w *world) eventful(clock *movedClock, restart bool, what string) {
	w.Helper()
	for process := range 3 {
		r := w.replicator()
		stop := w.run(r)
		flush := func() {
			w.Helper()
			if err := w.flush(r); err != nil && !errors.Is(err, faultbucket.ErrInjected) {
				w.Fatalf("%s: flush: %v", what, err)
			} else if err != nil && restart {
				stop()
				r = w.replicator()
				stop = w.run(r)
			}
			w.mustFlush(r)
			w.equal(0, what)
		}
		for range 2 {
			w.transact(60)
			flush()
		}
		if process == 1 {
			clock.by.Add(int64(time.Minute))
			flush()
			w.until("a checkpoint", func() bool {
				clock.by.Add(int64(time.Second)) // one that failed is tried again
				if err := w.flush(r); err != nil && !errors.Is(err, faultbucket.ErrInjected) {
					w.Fatalf("%s: flush: %v", what, err)
				}
				return w.checkpoint(0).At.Number > 0
			})
			w.transact(60)
			flush()
		}
		stop()
	}
}

// TestHistoryFaultsByNthCall: whichever request fails, before it was carried out or with its
// answer, what is flushed is there, each record once, and nobody has taken over from himself.
func TestHistoryFaultsByNthCall(t *testing.T) {
	for _, after := range []bool{false, true} {
		for _, restart := range []bool{false, true} {
			for n := range crash.Calls(t) {
				if !historyFault(t, n, after, restart) {
					break
				}
			}
		}
	}
}

// historyFault has the nth request fail. It reports whether there were as many.
func historyFault(t *testing.T, n int, after, restart bool) bool {
	t.Helper()
	what := fmt.Sprintf("call %d, carried out %v, restart %v", n, after, restart)
	w := newWorld(t, 1, 1) // always the same calls
	w.watch()
	clock := new(movedClock)
	plan := &faultbucket.Plan{At: n, After: after}
	w.options = func(o *Options) {
		o.clock = clock
		o.Store = chunkstore.NewStore(plan.Target(w.store().Targets[0]))
	}
	w.eventful(clock, restart, what)
	if m := w.manifest(0); len(m.At.Fences) > 0 {
		t.Errorf("%s: takeovers %v", what, m.At.Fences)
	}
	return plan.Fired() > 0
}

// historyEnv holds, for a child that is to die, "directory call".
const historyEnv = "VERNEUIL_TEST_HISTORY"

// TestHistoryChild is the child: it kills itself before its nth request.
func TestHistoryChild(t *testing.T) {
	var dir string
	var n int64
	if _, err := fmt.Sscan(os.Getenv(historyEnv), &dir, &n); err != nil {
		t.Skip("only as a child of TestHistoryKilled")
	}
	w, store := crashWorld(t, dir, 1, false)
	var calls atomic.Int64
	plan := &faultbucket.Plan{OnCalled: func(string, string) {
		if calls.Add(1) == n {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}}
	clock := new(movedClock)
	w.options = func(o *Options) {
		o.clock, o.Store = clock, chunkstore.NewStore(plan.Target(store.Targets[0]))
	}
	for process := range 3 {
		r := w.replicator()
		stop := w.run(r)
		for range 2 {
			w.transact(60)
			w.mustFlush(r)
		}
		if process == 1 {
			clock.by.Add(int64(time.Minute))
			w.mustFlush(r)
			w.until("a checkpoint", func() bool {
				return w.checkpointIn(store.Targets[0]).At.Number > 0
			})
		}
		stop()
	}
}

// TestHistoryKilled: a process is killed before any of its requests: the next one goes on with the
// history, and does not take it over from the dead.
func TestHistoryKilled(t *testing.T) {
	for n := 1; ; n++ {
		dir := t.TempDir()
		w, _ := crashWorld(t, dir, 1, true)
		w.w.File.Close()
		ctx, cancel := context.WithTimeout(t.Context(), hangs)
		child := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestHistoryChild$")
		child.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", historyEnv, dir, n),
			"TMPDIR="+t.TempDir())
		out, err := child.CombinedOutput()
		cancel()
		status, ok := child.ProcessState.Sys().(syscall.WaitStatus)
		if err != nil && (!ok || status.Signal() != syscall.SIGKILL) {
			t.Fatalf("call %d: %v\n%s", n, err, out)
		}
		w, store := crashWorld(t, dir, uint64(n)+100, false)
		r := w.replicator()
		stop := w.run(r)
		what := fmt.Sprintf("killed before call %d", n)
		for range 2 {
			w.transact(60)
			w.mustFlush(r)
			w.sameInDir(store, what)
		}
		stop()
		w.w.File.Close()
		m, newestErr := newest(store.Targets[0], w.db)
		if newestErr != nil || len(m.At.Fences) > 0 {
			t.Errorf("%s: takeovers %v, %v", what, m.At.Fences, newestErr)
		}
		if err == nil {
			if t.Logf("%d requests", n-1); n < 20 {
				t.Error("they are too few for what is to be attacked")
			}
			return
		}
	}
}

// TestDiary: what a process has noted of the history is of use to the next one, or costs it some
// requests, whatever became of it; and no more than a takeover from itself.
func TestDiary(t *testing.T) {
	for what, c := range map[string]struct {
		change func(w *world, name string, old []byte)
		fences int // takeovers that are listed
	}{
		"as it was": {func(*world, string, []byte) {}, 0},
		"gone":      {func(w *world, name string, _ []byte) { os.Remove(name) }, 1},
		"old": {func(w *world, name string, old []byte) {
			os.WriteFile(name, old, 0o600)
		}, 1},
		"cut": {func(w *world, name string, _ []byte) {
			os.Truncate(name, 100)
		}, 1},
		"cut short": {shorten, 0},
		"torn": {func(w *world, name string, _ []byte) {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			os.WriteFile(name, b, 0o600)
		}, 1},
		"a directory": {func(w *world, name string, _ []byte) {
			os.Remove(name)
			os.MkdirAll(filepath.Join(name, "x"), 0o700)
		}, 1},
		"of another boot": {func(w *world, name string, _ []byte) {
			os.WriteFile(filepath.Join(w.sp.Dir(), "boot"), []byte("another"), 0o600)
		}, 1},
		"of another bucket": {func(w *world, name string, _ []byte) {
			w.chunks[0].mu.Lock()
			defer w.chunks[0].mu.Unlock()
			clear(w.chunks[0].marker)
		}, 0}, // a new history has begun
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t, 1, 1)
			w.watch()
			clock := w.withClock()
			r := w.replicator()
			stop := w.run(r)
			var old []byte
			for range 4 {
				w.transact(200)
				w.mustFlush(r)
				b, err := os.ReadFile(w.diary())
				if err != nil {
					t.Fatal(err)
				}
				if old == nil {
					old = b
				}
			}
			stop()
			c.change(w, w.diary(), old)
			clock.by.Add(int64(time.Hour))
			r = w.replicator()
			stop = w.run(r)
			for range 2 {
				w.transact(200)
				w.mustFlush(r)
				w.equal(0, what)
			}
			stop()
			if n := len(w.manifest(0).At.Fences); n != c.fences {
				t.Errorf("%d takeovers are listed, want %d", n, c.fences)
			}
		})
	}
}

// shorten cuts a diary to before it was known that the last record is there.
func shorten(w *world, name string, _ []byte) {
	w.Helper()
	info, err := os.Stat(name)
	if err == nil {
		err = os.Truncate(name, info.Size()-1)
	}
	if err != nil {
		w.Fatal(err)
	}
}

// diary is the file in which a process notes how far the history goes.
func (w *world) diary() string {
	w.Helper()
	names, err := filepath.Glob(filepath.Join(w.sp.Dir(), spool.HistoryPrefix+"*"))
	if err != nil || len(names) != 1 {
		w.Fatalf("%v: %v", names, err)
	}
	return names[0]
}

// TestCheckpoints: there is one after 64 records, which is kept if none was for ten minutes; it
// holds up no record, and one that fails is tried again, and shows.
func TestCheckpoints(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.watch()
	clock := w.withClock()
	r := w.replicator()
	defer w.run(r)()
	w.transact(200)
	w.mustFlush(r)
	var fails atomic.Bool
	fails.Store(true)
	key := r.Name()
	w.manifests[0].setFault(func(op, k string) error {
		if op == "put" && k == key && fails.Load() {
			return errInjected
		}
		return nil
	})
	for range 70 {
		w.begin()
		w.write(150, w.pageOf(150, 0, byte(w.rand.IntN(255))))
		w.commit()
		w.mustFlush(r)
	}
	w.equal(0, "without a checkpoint")
	if w.checkpoint(0).At.Number != 0 || w.records(0) != 71 { // a fence among them
		t.Errorf("a checkpoint at %d, %d records", w.checkpoint(0).At.Number, w.records(0))
	}
	s := r.Status().Targets[0]
	if !strings.Contains(s.CheckpointError, errInjected.Error()) || s.Records != 71 ||
		s.Error != "" {
		t.Errorf("status: %+v", s)
	}
	fails.Store(false)
	clock.by.Add(int64(time.Minute))
	w.mustFlush(r)
	w.until("a checkpoint", func() bool { return w.checkpoint(0).At.Number == 71 })
	w.until("no error", func() bool { return r.Status().Targets[0].CheckpointError == "" })
	w.equal(0, "with a checkpoint")
	w.wantKept("the first one of the history", 0)
	clock.by.Add(int64(11 * time.Minute))
	w.transact(200)
	w.mustFlush(r)
	w.saveCheckpoint(r, clock, 0)
	w.wantKept("after ten minutes", 0, w.checkpoint(0).At.Number)
}

// wantKept checks which checkpoints target 0 keeps, by their numbers.
func (w *world) wantKept(what string, want ...uint64) {
	w.Helper()
	kept, err := versions.ListKept(w.Context(), w.copied(0), w.replicator().Name())
	var got []uint64
	for _, k := range kept {
		got = append(got, k.ID.Number)
	}
	slices.Sort(got)
	if err != nil || !slices.Equal(got, want) {
		w.Errorf("%s: %v are kept, want %v, %v", what, got, want, err)
	}
}

// TestShortProcessesCheckpoint: of processes that end after each commit, one in 64 waits for a
// checkpoint.
func TestShortProcessesCheckpoint(t *testing.T) {
	w := newWorld(t, 1, 1)
	for n := range 70 {
		r := w.replicator()
		stop := w.run(r)
		w.transact(50)
		if err := r.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		stop()
		m := w.manifest(0)
		if after := m.At.Number - w.checkpoint(0).At.Number; after >= 64 {
			t.Fatalf("process %d: %d records without a checkpoint", n, after)
		}
	}
	if w.checkpoint(0).At.Number == 0 {
		t.Error("no checkpoint")
	}
	w.equal(0, "at last")
}

// TestSyncOfOthersRecords: a Sync that finds nothing to send does not wait for a checkpoint of a
// history that it does not own.
func TestSyncOfOthersRecords(t *testing.T) {
	w := newWorld(t, 1, 1)
	r := w.replicator()
	stop := w.run(r)
	for range 30 {
		w.transact(50)
		w.mustFlush(r)
	}
	stop()
	w.loseSpool()
	w.attach()
	if result := w.mustSync("without a spool", nil); result.Uploaded || w.records(0) != 30 {
		t.Errorf("%+v, %d records", result, w.records(0))
	}
}

// TestSyncLeavesFewRecords: so it is with Syncs, of which one in 16 puts a checkpoint.
func TestSyncLeavesFewRecords(t *testing.T) {
	w := newWorld(t, 1, 1)
	for n := range 20 {
		w.transact(50)
		w.mustSync(fmt.Sprint("sync ", n), nil)
		if m := w.manifest(0); m.At.Number-w.checkpoint(0).At.Number >= 16 {
			t.Fatalf("sync %d: %d records after %d", n, m.At.Number, w.checkpoint(0).At.Number)
		}
	}
	if w.checkpoint(0).At.Number == 0 {
		t.Error("no checkpoint")
	}
}

// TestFencesAreBounded: processes that know nothing of the one before take the history over, one
// after the other. There are never many of their fences; what is put is whole, and no object is
// put twice.
func TestFencesAreBounded(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.watch()
	w.fillChunks(20)
	lineages := make(map[[16]byte]bool)
	var old map[string][]chunkstore.ID
	for n := range 80 {
		r := w.replicator()
		stop := w.run(r)
		w.begin()
		w.write(1, w.pageOf(1, 0, byte(n)))
		w.commit()
		w.mustFlush(r)
		stop()
		at := w.manifest(0).At
		lineages[at.Lineage] = true
		if len(at.Fences) > 64 {
			t.Fatalf("process %d: %d fences", n, len(at.Fences))
		}
		if n == 0 {
			old = w.packs(0)
		}
		if err := os.Remove(w.diary()); err != nil {
			t.Fatal(err)
		}
	}
	if len(lineages) != 2 {
		t.Errorf("%d histories", len(lineages))
	}
	if n := w.objects(0, old); n > 3 {
		t.Errorf("%d objects were put again", n)
	}
	w.equal(0, "after 80 takeovers")
}
