package restore_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
	"verneuil/manifest"
	. "verneuil/replicate/restore"
)

// version is a version of a database, what stores it, and what it is.
type version struct {
	m       *manifest.Manifest
	objects map[chunkstore.ID][]byte
	file    []byte
}

func (c *version) fetch(_ context.Context, id chunkstore.ID) ([]byte, error) {
	plain, ok := c.objects[id]
	if !ok {
		return nil, chunkstore.ErrAbsent
	}
	if (chunkstore.Plain{}).Identify(plain) != id {
		return nil, chunkstore.ErrCorrupt
	}
	return bytes.Clone(plain), nil
}

func (c *version) put(plain []byte) chunkstore.ID {
	id := chunkstore.Plain{}.Identify(plain)
	c.objects[id] = bytes.Clone(plain)
	return id
}

// newVersion makes a file of so many chunks, and 1,536 bytes more, with
// zeros, repetitions, patches and inline pages.
func newVersion(t testing.TB, chunks int) *version {
	t.Helper()
	const size = chunkstore.ChunkBytes
	c := &version{objects: map[chunkstore.ID][]byte{}, file: make([]byte, chunks*size+1536)}
	rng := rand.NewChaCha8([32]byte{byte(chunks)})
	for i := range chunks + 1 {
		chunk := c.file[i*size : min((i+1)*size, len(c.file))]
		switch i % 5 {
		case 0: // zeros
		case 1: // a repetition
			copy(chunk, bytes.Repeat([]byte{byte(i / 5 % 3), 1}, size))
		default:
			rng.Read(chunk[:min(1000, len(chunk))])
		}
	}
	c.m = &manifest.Manifest{Host: "h", Path: "/p", FileBytes: int64(len(c.file)), PageBytes: 512}
	tree := manifest.NewTree(chunkstore.Plain{}, c.m.Chunks())
	for i := range c.m.Chunks() {
		tree.Set(i, c.put(c.m.Overlay(i, c.file[i*size:])))
	}
	tree.Pack(0)
	for i := 0; i < chunks; i += 7 { // patched since, by an object that is too short
		rng.Read(c.file[i*size : i*size+512])
		clear(c.file[i*size+512 : (i+1)*size])
		tree.Set(i, c.put(c.file[i*size:i*size+512]))
	}
	c.m.Levels, c.m.Top, c.m.Patches = tree.Pack(chunks)
	for _, plain := range tree.Objects() {
		c.put(plain)
	}
	for i := 0; i <= chunks; i += 3 { // and inline pages on top, some of them over zeros
		page := bytes.Repeat([]byte{0xee}, 512)
		copy(c.file[i*size+512:], page)
		c.m.Inline = append(c.m.Inline, manifest.Page{Offset: int64(i*size + 512), Data: page})
	}
	if _, err := c.m.Encode(chunkstore.Plain{}); err != nil {
		t.Fatal(err)
	}
	return c
}

// needed returns the IDs of the chunks, leaves and nodes that a restore must fetch.
func (c *version) needed(t testing.TB) map[chunkstore.ID]bool {
	tree := c.m.Tree(chunkstore.Plain{})
	ids := map[chunkstore.ID]bool{}
	if err := tree.Load(t.Context(), c.fetch); err != nil {
		t.Fatal(err)
	}
	for id := range tree.Objects() {
		ids[id] = true
	}
	for i := range tree.Len() {
		if id := tree.At(i); id != chunkstore.ZeroID {
			ids[id] = true
		}
	}
	return ids
}

func TestFile(t *testing.T) {
	for _, chunks := range []int{0, 1, 40, 65, 1024, 1100} {
		for _, concurrency := range []int{0, 1, 3} {
			if chunks == 1024 && concurrency != 3 {
				continue
			}
			t.Run(
				fmt.Sprintf("%d chunks, concurrency %d", chunks, concurrency),
				func(t *testing.T) {
					c := newVersion(t, chunks)
					path := filepath.Join(t.TempDir(), "out.db")
					var running, most atomic.Int64
					var mu sync.Mutex
					calls := map[chunkstore.ID]int{}
					var done, total int64
					err := File(t.Context(), path, Options{
						Manifest: c.m, Concurrency: concurrency,
						Fetch: func(ctx context.Context, id chunkstore.ID) ([]byte, error) {
							n := running.Add(1)
							defer running.Add(-1)
							mu.Lock()
							most.Store(max(most.Load(), n))
							calls[id]++
							mu.Unlock()
							return c.fetch(ctx, id)
						},
						Progress: func(d, n int64) {
							if d <= done || d > n {
								t.Errorf("progress %d after %d of %d", d, done, n)
							}
							done, total = d, n
						},
					})
					if err != nil {
						t.Fatal(err)
					}
					got, err := os.ReadFile(path)
					if err != nil || !bytes.Equal(got, c.file) {
						t.Fatalf("%v; equal: %v", err, bytes.Equal(got, c.file))
					}
					if done != c.m.FileBytes || total != done {
						t.Errorf("progress ended at %d of %d", done, total)
					}
					if limit := int64(cmp.Or(concurrency, 32)); most.Load() > limit {
						t.Errorf("%d fetches at a time, more than %d", most.Load(), limit)
					}
					if calls[chunkstore.ZeroID] > 0 {
						t.Error("the chunk of zeros was fetched")
					}
					for id := range c.needed(t) {
						if most := (chunks + 1 + 1023) / 1024; calls[id] < 1 || calls[id] > most {
							t.Errorf("%s fetched %d times", id, calls[id])
						}
					}
					if info, _ := os.Stat(path); info.Mode() != 0o600 {
						t.Errorf("mode %v", info.Mode())
					}
				},
			)
		}
	}
}

// checkUntouched fails the test if a failed restore left anything in path's directory.
func checkUntouched(t *testing.T, path, content string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != content {
		t.Errorf("the existing file: %q, %v", got, err)
	}
	if names, _ := os.ReadDir(filepath.Dir(path)); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}

func TestFileOfDamagedVersions(t *testing.T) {
	c := newVersion(t, 66) // the fewest for which there is a leaf, and one more
	path := filepath.Join(t.TempDir(), "out.db")
	if err := os.WriteFile(path, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	for victim := range c.needed(t) {
		good := c.objects[victim]
		for name, damage := range map[string]func() ([]byte, error){
			"missing": func() ([]byte, error) { return nil, chunkstore.ErrAbsent },
			"damaged": func() ([]byte, error) { return nil, chunkstore.ErrCorrupt },
			"empty":   func() ([]byte, error) { return nil, nil },
			"too long": func() ([]byte, error) {
				return make([]byte, chunkstore.ChunkBytes+1), nil
			},
			"truncated": func() ([]byte, error) {
				return c.fetch(t.Context(), chunkstore.Plain{}.Identify(good[1:]))
			},
		} {
			err := File(
				t.Context(),
				path,
				Options{
					Manifest: c.m,
					Replace:  true,
					Fetch: func(ctx context.Context, id chunkstore.ID) ([]byte, error) {
						if id == victim {
							return damage()
						}
						return c.fetch(ctx, id)
					},
				},
			)
			want := chunkstore.ErrCorrupt
			if name == "missing" || name == "truncated" {
				want = chunkstore.ErrAbsent
			}
			if !errors.Is(err, want) || !strings.Contains(err.Error(), victim.String()) {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	checkUntouched(t, path, "precious")
}

func TestFileAndCancellation(t *testing.T) {
	c := newVersion(t, 300)
	path := filepath.Join(t.TempDir(), "out.db")
	if err := os.WriteFile(path, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	for after := range int64(20) {
		ctx, cancel := context.WithCancel(t.Context())
		var calls atomic.Int64
		err := File(
			ctx,
			path,
			Options{
				Manifest:    c.m,
				Concurrency: 4,
				Replace:     true,
				Fetch: func(ctx context.Context, id chunkstore.ID) ([]byte, error) {
					if calls.Add(1) > after {
						cancel()
						return nil, ctx.Err()
					}
					return c.fetch(ctx, id)
				},
			},
		)
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("after %d calls: %v", after, err)
		}
		if n := calls.Load(); n > after+4+1 {
			t.Errorf("%d calls, cancelled at %d", n, after)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := File(ctx, path, Options{Manifest: c.m, Fetch: c.fetch, Replace: true}); !errors.Is(
		err, context.Canceled) {
		t.Fatal(err)
	}
	checkUntouched(t, path, "precious")
}

func TestFileRefusesWhereItWouldHarm(t *testing.T) {
	c := newVersion(t, 3)
	o := Options{Manifest: c.m, Fetch: c.fetch}
	dir := t.TempDir()
	path := filepath.Join(dir, "out.db")
	for _, suffix := range []string{"-journal", "-wal"} {
		if err := os.WriteFile(path+suffix, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := File(t.Context(), path, o); err == nil ||
			!strings.Contains(err.Error(), path+suffix) {
			t.Errorf("%s: %v", suffix, err)
		}
		if err := os.Truncate(path+suffix, 0); err != nil { // as PERSIST and TRUNCATE leave it
			t.Fatal(err)
		}
	}
	if err := File(t.Context(), path, o); err != nil {
		t.Fatal(err)
	}
	if err := File(t.Context(), filepath.Join(dir, "none", "out.db"), o); !errors.Is(err,
		os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	target := filepath.Join(t.TempDir(), "d")
	if err := os.MkdirAll(filepath.Join(target, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := File(t.Context(), target, o); err == nil {
		t.Error("a directory was replaced")
	}
	if names, _ := os.ReadDir(filepath.Dir(target)); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
	if os.Geteuid() != 0 { // root may write anywhere
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Chmod(dir, 0o700) })
		if err := File(t.Context(), path, o); !errors.Is(err, os.ErrPermission) {
			t.Errorf("unwritable directory: %v", err)
		}
	}
}

// fullDisk is a file whose nth write fails.
type fullDisk struct {
	io.WriterAt
	left atomic.Int64
}

func (f *fullDisk) WriteAt(p []byte, off int64) (int, error) {
	if f.left.Add(-1) < 0 {
		return 0, syscall.ENOSPC
	}
	return len(p), nil
}

func TestReportsTheNthFailedWrite(t *testing.T) {
	c := newVersion(t, 50)
	for n := int64(0); ; n++ {
		w := &fullDisk{}
		w.left.Store(n)
		err := To(t.Context(), w, Options{Manifest: c.m, Fetch: c.fetch})
		if err == nil {
			if n < 40 {
				t.Fatalf("only %d writes", n)
			}
			return
		}
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "chunk ") {
			t.Fatal(err)
		}
	}
}

// TestFileKeeps: without Replace a file that is not empty stays, whoever makes it, and
// whenever; an empty one says nothing that could be lost.
func TestFileKeeps(t *testing.T) {
	c := newVersion(t, 3)
	path := filepath.Join(t.TempDir(), "out.db")
	precious := func() {
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := Options{Manifest: c.m, Fetch: c.fetch}
	precious()
	if err := File(t.Context(), path, o); !errors.Is(err, fs.ErrExist) ||
		!strings.Contains(err.Error(), path) {
		t.Errorf("a file is there: %v", err)
	}
	checkUntouched(t, path, "precious")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	o.Fetch = func(ctx context.Context, id chunkstore.ID) ([]byte, error) {
		precious()
		return c.fetch(ctx, id)
	}
	if err := File(t.Context(), path, o); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a file came meanwhile: %v", err)
	}
	checkUntouched(t, path, "precious")
	temp := filepath.Join(t.TempDir(), "temp")
	for _, replace := range []bool{false, true} {
		if err := os.WriteFile(temp, []byte("new"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := PutInPlace(temp, path, replace); replace != (err == nil) {
			t.Errorf("put in place, replace %v: %v", replace, err)
		}
	}
	o.Fetch, o.Replace = c.fetch, true
	if err := File(t.Context(), path, o); err != nil {
		t.Error(err)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	o.Replace = false
	if err := File(t.Context(), path, o); err != nil {
		t.Errorf("an empty file is there: %v", err)
	}
}

// TestUnlocked: where there are no leases, a lock of SQLite's tells that a database is in use.
func TestUnlocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	ours, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	theirs, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	if free, err := Unlocked(int(ours.Fd())); err != nil || !free {
		t.Errorf("no lock: %v, %v", free, err)
	}
	// A reader's SHARED, a writer's RESERVED.
	for _, kind := range []int16{unix.F_RDLCK, unix.F_WRLCK} {
		lock := unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: 1<<30 + 1, Len: 1}
		if err := unix.FcntlFlock(theirs.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
			t.Fatal(err)
		}
		if free, err := Unlocked(int(ours.Fd())); err != nil || free {
			t.Errorf("lock of type %d: %v, %v", kind, free, err)
		}
	}
}

// TestFileInUse: a file that a process has open is not replaced under it.
func TestFileInUse(t *testing.T) {
	c := newVersion(t, 3)
	o := Options{Manifest: c.m, Fetch: c.fetch, Replace: true}
	path := filepath.Join(t.TempDir(), "out.db")
	for _, flag := range []int{os.O_RDONLY, os.O_RDWR} {
		if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, flag, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := File(t.Context(), path, o); err == nil ||
			!strings.Contains(err.Error(), "another process has the file open") {
			t.Errorf("open with %d: %v", flag, err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != "old" {
			t.Errorf("%q, %v", b, err)
		}
		f.Close()
		if err := File(t.Context(), path, o); err != nil {
			t.Error(err)
		}
	}
}

// TestFileCleansUp: what a killed restore has left is removed, what another is
// writing is not.
func TestFileCleansUp(t *testing.T) {
	c := newVersion(t, 3)
	dir := filepath.Join(t.TempDir(), "[a]*\\?")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	left, going := filepath.Join(dir, ".verneuil-restore-1"), filepath.Join(
		dir,
		".verneuil-restore-2",
	)
	for _, name := range []string{left, going} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(going)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	o := Options{Manifest: c.m, Fetch: c.fetch}
	if err := File(t.Context(), filepath.Join(dir, "out.db"), o); err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 2 || names[0].Name() != filepath.Base(going) ||
		names[1].Name() != "out.db" {
		t.Errorf("%v, %v", names, err)
	}
}

// A restore leaves a temporary file to another one that is about to remove it.
func TestTempIsLocked(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	other, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(other.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if LockTemp(f) {
		t.Error("another one has it locked")
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if !LockTemp(f) {
		t.Error("nobody has it locked")
	}
	if err := os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
	if LockTemp(f) {
		t.Error("another one has removed it")
	}
}
