package replicate

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/spool"
	"verneuil/spool/spooltest"
	"verneuil/test/crash"
	"verneuil/test/scratch"
)

// crashEnv holds, for a child that is to die, "directory seed point passes".
const crashEnv = "VERNEUIL_TEST_CRASH"

// crashWorld is a world whose target is a directory, so that it outlives processes.
func crashWorld(t testing.TB, top string, seed uint64, first bool) (*world, *chunkstore.Store) {
	w := newWorld(t, seed, 0)
	w.root, w.db = filepath.Join(top, "spool"), filepath.Join(top, "a.db")
	if first {
		if err := os.WriteFile(w.db, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if w.sp, err = spool.Create(w.root, w.db, 0o700); err != nil {
		t.Fatal(err)
	}
	if w.w, err = spooltest.NewWriter(w.sp); err != nil {
		t.Fatal(err)
	}
	w.w.SegmentBytes = 256 << 10
	target := []chunkstore.TargetConfig{&dir.Config{Path: filepath.Join(top, "target")}}
	store, err := chunkstore.Open(t.Context(), target, chunkstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.options = func(o *Options) { o.Store = store }
	return w, store
}

func TestMain(m *testing.M) {
	scratch.InMemory()
	os.Exit(crash.Main(m, TestCrash, TestFaultsByNthCall, TestFaultsByNthCallOfLosingTargets,
		TestHistoryFaultsByNthCall, TestHistoryKilled))
}

// TestCrashChild is the child: it works until it kills itself.
func TestCrashChild(t *testing.T) {
	var dir, point string
	var seed uint64
	var passes int
	if _, err := fmt.Sscan(os.Getenv(crashEnv), &dir, &seed, &point, &passes); err != nil {
		t.Skip("only as a child of TestCrash")
	}
	w, store := crashWorld(t, dir, seed, false)
	var mu sync.Mutex
	pass := func(at string) bool {
		mu.Lock()
		defer mu.Unlock()
		if at == point {
			if passes--; passes <= 0 {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
		}
		return false
	}
	target := store.Targets[0]
	w.options = func(o *Options) {
		o.Store = chunkstore.NewStore(chunkstore.NewTarget(target.Name,
			deadlyBucket{target.Chunks, pass}, deadlyBucket{target.Manifests, pass}))
		o.fault, o.runObjects, o.packObjects = pass, 8, 3
	}
	r := w.replicator()
	w.run(r)
	for {
		w.transact(1600)
		switch w.rand.IntN(6) {
		case 0:
			w.sp.State().Raise(spool.CauseForeign)
		case 1:
			w.mustFlush(r)
		}
	}
}

// deadlyBucket has a process pass named points before and after what it puts.
type deadlyBucket struct {
	chunkstore.Bucket
	pass func(point string) bool
}

func (b deadlyBucket) Put(ctx context.Context, key string, body []byte,
	c chunkstore.Condition) (string, error) {
	b.pass("manifest")
	etag, err := b.Bucket.Put(ctx, key, body, c)
	b.pass("put")
	return etag, err
}

func (b deadlyBucket) Batch() chunkstore.Batch {
	return deadlyBatch{chunkstore.BatchOf(b.Bucket), b.pass}
}

type deadlyBatch struct {
	chunkstore.Batch
	pass func(point string) bool
}

func (b deadlyBatch) Put(ctx context.Context, key string, body []byte) error {
	b.pass("pack")
	err := b.Batch.Put(ctx, key, body)
	b.pass("packed")
	return err
}

func (b deadlyBatch) Sync(ctx context.Context) error {
	b.pass("sync")
	err := b.Batch.Sync(ctx)
	b.pass("synced")
	return err
}

// TestCrash kills a process that writes and replicates, at named points of the
// replicator, that is: at any point of the writer. A successor goes on from the
// files that are left.
func TestCrash(t *testing.T) {
	dir := t.TempDir()
	w, store := crashWorld(t, dir, 1, true)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	w.w.File.Close()
	points := []string{"loop", "apply", "copied", "save", "saved", "apply", "saved", "save",
		"copied", "loop", "pack", "packed", "sync", "synced", "manifest", "put"}
	for n, point := range points {
		ctx, cancel := context.WithTimeout(t.Context(), hangs)
		child := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestCrashChild$")
		child.Env = append(os.Environ(),
			fmt.Sprintf("%s=%s %d %s %d", crashEnv, dir, n+1, point, 1+n*3),
			"TMPDIR="+t.TempDir()) // it is killed, and cannot clean up
		out, err := child.CombinedOutput()
		late := ctx.Err() != nil
		cancel()
		if status, ok := child.ProcessState.Sys().(syscall.WaitStatus); late || !ok ||
			!status.Signaled() {
			t.Fatalf("child did not die: %v\n%s", err, out)
		}
		w, store := crashWorld(t, dir, uint64(n)+100, false)
		r := w.replicator()
		stop := w.run(r)
		what := fmt.Sprintf("killed at %q", point)
		for range 3 {
			w.mustFlush(r)
			w.sameInDir(store, what)
			w.transact(600)
		}
		stop()
		w.w.File.Close()
	}
}

// sameInDir compares a store with the database.
func (w *world) sameInDir(store *chunkstore.Store, what string) {
	w.Helper()
	m, err := newest(store.Targets[0], w.db)
	if err != nil {
		w.Fatal(err)
	}
	b, err := contents(m, store.Targets[0])
	if err != nil {
		w.Fatal(err)
	}
	w.same(b, what)
}

// TestSpoolInTheWay: what stands where a file of the spool is to be written, and is none
// of ours, is not waited for or followed, and goes. (Calls that fail are faults_test.go's, of
// the real programs.)
func TestSpoolInTheWay(t *testing.T) {
	for _, name := range []string{"cut.new", "cut", "targets.json.new", "targets.json"} {
		for what, put := range map[string]func(path string) error{
			"directory": func(path string) error {
				return os.MkdirAll(filepath.Join(path, "full"), 0o700)
			},
			"FIFO": func(path string) error { return syscall.Mkfifo(path, 0o600) },
			"link": func(path string) error { return os.Symlink("/dev/full", path) },
		} {
			w := newWorld(t, 1, 1)
			r := w.replicator()
			stop := w.run(r)
			w.transact(50)
			w.mustFlush(r)
			blocked := filepath.Join(w.sp.Dir(), name)
			if err := os.RemoveAll(blocked); err != nil {
				t.Fatal(err)
			}
			if err := put(blocked); err != nil {
				t.Fatal(err)
			}
			w.transact(50)
			w.mustFlush(r)
			w.equal(0, what+" in place of "+name)
			stop()
		}
	}
}
