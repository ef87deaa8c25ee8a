package restore_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
	. "verneuil/replicate/restore"
)

// TestFile: what is restored is right, every pack is asked for once, no more requests run at a time
// than may, and progress is told.
func TestFile(t *testing.T) {
	for _, chunks := range []int{0, 1, 40, 65, 1024, 1100} {
		for _, concurrency := range []int{0, 1, 3} {
			if chunks == 1024 && concurrency != 3 {
				continue
			}
			SetDirect(t, int64(concurrency)<<20) // 0: each file
			t.Run(fmt.Sprintf("%d chunks, concurrency %d", chunks, concurrency),
				func(t *testing.T) { testFile(t, newVersion(t, chunks), concurrency) })
		}
	}
}

func testFile(t *testing.T, c *version, concurrency int) {
	path := filepath.Join(t.TempDir(), "out.db")
	var done, total int64
	o := c.options()
	o.Concurrency = concurrency
	o.Progress = func(d, n int64) {
		if d <= done || d > n {
			t.Errorf("progress %d after %d of %d", d, done, n)
		}
		done, total = d, n
	}
	if err := File(t.Context(), path, o); err != nil {
		t.Fatal(err)
	}
	mustHold(t, path, c.file)
	if done != c.m.FileBytes || total != done {
		t.Errorf("progress ended at %d of %d", done, total)
	}
	if limit := cmp.Or(concurrency, 32); c.most > limit {
		t.Errorf("%d requests at a time, more than %d", c.most, limit)
	}
	packs := c.packs(t)
	for name, n := range c.gets {
		if !packs[name] {
			t.Errorf("%s was asked for, which the version does not need", name)
		}
		// Of a pack of chunks, two leaves' or a few patches, a part each may be of use.
		if n > 2 {
			t.Errorf("pack %s was asked for %d times", name, n)
		}
	}
	if info, _ := os.Stat(path); info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

// mustHold fails the test unless the file has that content, and is alone in its directory.
func mustHold(t *testing.T, path string, content []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, content) {
		t.Fatalf("%s: %v; equal: %v", path, err, bytes.Equal(got, content))
	}
	if names, err := os.ReadDir(filepath.Dir(path)); err != nil || len(names) != 1 {
		t.Errorf("%v, %v; want the file alone", names, err)
	}
}

// TestDirect: what cannot be written directly is written as usual.
func TestDirect(t *testing.T) {
	c := newVersion(t, 300)
	path := filepath.Join(t.TempDir(), "out.db")
	for what, flag := range map[string]int{
		"it may only be read": os.O_RDONLY, "direct": os.O_WRONLY | unix.O_DIRECT,
		"not direct": os.O_WRONLY,
	} {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		direct, err := os.OpenFile(path, flag, 0)
		if errors.Is(err, unix.EINVAL) {
			continue // the file system has none
		}
		if err := errors.Join(err, f.Truncate(c.m.FileBytes)); err != nil {
			t.Fatal(err)
		}
		if err := To(t.Context(), Paced(f, direct), c.options()); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if err := errors.Join(direct.Close(), f.Close()); err != nil {
			t.Fatal(err)
		}
		mustHold(t, path, c.file)
	}
}

// TestRequests: a pack that is mostly of use is fetched whole, by one request; of one of which
// little is, only that and what lies between; and a pack of chunks that are all over the file is
// not fetched for each.
func TestRequests(t *testing.T) {
	const chunks = 640
	c := newNoise(t, chunks, nil)
	must := func(what string, requests, bytesMax int) {
		t.Helper()
		if err := To(t.Context(), &sink{}, c.options()); err != nil {
			t.Fatal(err)
		}
		_, tree := c.refs(t)
		for _, ref := range tree {
			delete(c.gets, ref.Place.Pack.String())
		}
		got := 0
		for _, n := range c.gets {
			got += n
		}
		if got != requests || c.bytes > bytesMax {
			t.Errorf("%s: %d requests, %d bytes; want %d, and at most %d", what, got, c.bytes,
				requests, bytesMax)
		}
		c.forget()
	}
	const overhead = 100 << 10 // leaves, lists, headers of objects
	must("whole packs", 10, chunks*chunkstore.ChunkBytes+overhead)

	// 20 chunks are written anew, all over the file: one small pack holds them.
	var changed []int
	for i := 3; i < chunks; i += 32 {
		changed = append(changed, i)
		c.chunk(i)[7]++
	}
	c.set(t, changed, c.chunk)
	c.finish(t, 72)
	c.forget()
	must("one pack of chunks that are far apart", 10+1,
		(chunks+20)*chunkstore.ChunkBytes+overhead)

	// Of the first pack only three chunks are left, two of which are near.
	changed = nil
	for i := range 64 {
		if i != 10 && i != 12 && i != 50 {
			changed = append(changed, i)
			c.chunk(i)[9]++
		}
	}
	c.set(t, changed, c.chunk)
	c.finish(t, 72)
	c.forget()
	must("a pack of which three are wanted", 9+1+1+2,
		(chunks+18+61-60)*chunkstore.ChunkBytes+overhead+4*chunkstore.ChunkBytes)
}

// sink is a file that nobody looks at.
type sink struct{}

func (*sink) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// TestR4FetchedBytes: what is fetched, and being fetched, and not yet written is never more than
// may be.
func TestR4FetchedBytes(t *testing.T) {
	const packs = 20
	c := newNoise(t, packs*chunkstore.PackMax, nil)
	const most = FetchedBytesMax / (chunkstore.PackMax * chunkstore.ChunkBytes)
	w := &counted{until: make(chan struct{})}
	asked := 0
	c.before = func(int, string) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		asked++ // the leaf's pack, too
		if there := asked - 1 - w.bytes/(chunkstore.PackMax*chunkstore.ChunkBytes); there > most {
			t.Errorf("%d packs are fetched and not written; want at most %d", there, most)
		}
		if asked == most { // as good as all that may be: nothing was written before
			close(w.until)
		}
		return nil
	}
	if err := To(t.Context(), w, c.options()); err != nil {
		t.Fatal(err)
	}
	if asked != 1+packs {
		t.Errorf("%d requests", asked)
	}
}

// counted is a file whose writes wait, and are counted.
type counted struct {
	until chan struct{}
	mu    sync.Mutex
	bytes int
}

func (w *counted) WriteAt(p []byte, _ int64) (int, error) {
	<-w.until
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bytes += len(p)
	return len(p), nil
}

// TestWindows: a database of several windows is restored, and a pack is asked for once for each
// that needs it.
func TestWindows(t *testing.T) {
	SetWindow(t, 1024)
	const chunks = 2*1024 + 700
	c := newNoise(t, chunks, func(i int) bool { return i%1024 > 3 && i < chunks-2 })
	path := filepath.Join(t.TempDir(), "out.db")
	if err := File(t.Context(), path, c.options()); err != nil {
		t.Fatal(err)
	}
	mustHold(t, path, c.file)
	if c.calls != 2*3 {
		t.Errorf("%d requests for three windows of one pack, and their leaves in another", c.calls)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Blocks*512 > 16*chunkstore.ChunkBytes {
		t.Errorf("%d bytes on the disk, %v: holes are written", st.Blocks*512, err)
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

// TestFileOfDamagedVersions: whatever becomes of a pack that a version needs, or of an object in
// it, is told by its name, and nothing of it is restored.
func TestFileOfDamagedVersions(t *testing.T) {
	c := newVersion(t, 66) // the fewest for which there is a leaf, and one more
	path := filepath.Join(t.TempDir(), "out.db")
	if err := os.WriteFile(path, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	o := c.options()
	o.Replace = true
	refuse := func(what string, want error, names ...string) {
		t.Helper()
		err := File(t.Context(), path, o)
		if !errors.Is(err, want) || want == chunkstore.ErrCorrupt &&
			errors.Is(err, chunkstore.ErrAbsent) {
			t.Fatalf("%s: %v, want %v", what, err, want)
		}
		if !errors.Is(err, ErrSource) {
			t.Errorf("%s: %v is not the source's", what, err)
		}
		for _, name := range names {
			if !strings.Contains(err.Error(), name) {
				t.Fatalf("%s: %v, which does not name %s", what, err, name)
			}
		}
	}
	for pack := range c.packs(t) {
		good := c.objects[pack]
		for what, bad := range map[string][]byte{
			"empty": {}, "truncated": good[:len(good)-1], "headless": good[1:],
			"other": bytes.Repeat([]byte("x"), len(good)), "zeros": make([]byte, len(good)),
		} {
			c.objects[pack] = bad
			refuse(what, chunkstore.ErrCorrupt, pack)
		}
		delete(c.objects, pack)
		refuse("missing", chunkstore.ErrAbsent, pack)
		c.objects[pack] = good
	}
	chunks, tree := c.refs(t)
	for _, ref := range append(chunks, tree...) {
		pack := ref.Place.Pack.String()
		good := c.objects[pack]
		bad := bytes.Clone(good)
		bad[ref.Place.Offset+ref.Place.Bytes-1] ^= 1
		c.objects[pack] = bad
		refuse("damaged object", chunkstore.ErrCorrupt, pack, ref.ID.String())
		c.objects[pack] = good
	}
	checkUntouched(t, path, "precious")
	o.Replace = true
	if err := File(t.Context(), path, o); err != nil {
		t.Fatal(err)
	}
	mustHold(t, path, c.file)
}

// TestDamageThatDoesNotMatter: a pack whose list is damaged still has its objects; and what one
// target has damaged, or not at all, another one has.
func TestDamageThatDoesNotMatter(t *testing.T) {
	c := newNoise(t, 200, nil)
	path := filepath.Join(t.TempDir(), "out.db")
	o := c.options()
	o.Replace = true
	whole := maps.Clone(c.objects)
	for pack, good := range whole {
		bad := bytes.Clone(good)
		bad[9] ^= 1
		c.objects[pack] = bad
	}
	if err := File(t.Context(), path, o); err != nil {
		t.Fatalf("damaged lists: %v", err)
	}
	mustHold(t, path, c.file)

	other := newShelf()
	other.objects = whole
	o.Store = chunkstore.NewStore(c.target, other.target)
	for what, damage := range map[string]func(pack string, good []byte){
		"gone":      func(pack string, _ []byte) { delete(c.objects, pack) },
		"truncated": func(pack string, good []byte) { c.objects[pack] = good[:len(good)/2] },
		"damaged in it": func(pack string, good []byte) {
			c.objects[pack] = flip(good, len(good)-9)
		},
	} {
		for pack, good := range whole {
			damage(pack, good)
		}
		if err := File(t.Context(), path, o); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		mustHold(t, path, c.file)
		maps.Copy(c.objects, whole)
	}
}

// flip returns b with another byte at k.
func flip(b []byte, k int) []byte {
	b = bytes.Clone(b)
	b[k] ^= 0x55
	return b
}

func TestFileAndCancellation(t *testing.T) {
	c := newVersion(t, 300)
	path := filepath.Join(t.TempDir(), "out.db")
	if err := os.WriteFile(path, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	o := c.options()
	o.Concurrency, o.Replace = 2, true
	if err := To(t.Context(), &sink{}, o); err != nil {
		t.Fatal(err)
	}
	requests := c.calls
	for after := range requests {
		c.forget()
		ctx, cancel := context.WithCancel(t.Context())
		c.before = func(n int, _ string) error {
			if n > after {
				cancel()
				return ctx.Err()
			}
			return nil
		}
		err := File(ctx, path, o)
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("after %d calls: %v", after, err)
		}
		if c.calls > after+o.Concurrency+1 {
			t.Errorf("%d calls, cancelled at %d", c.calls, after)
		}
	}
	c.forget()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := File(ctx, path, o); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	checkUntouched(t, path, "precious")
}

func TestFileRefusesWhereItWouldHarm(t *testing.T) {
	c := newVersion(t, 3)
	o := c.options()
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
		err := To(t.Context(), w, c.options())
		if err == nil {
			if n < 20 {
				t.Fatalf("only %d writes", n)
			}
			return
		}
		if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, ErrSource) ||
			!strings.Contains(err.Error(), "chunk ") {
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
	o := c.options()
	precious()
	if err := File(t.Context(), path, o); !errors.Is(err, fs.ErrExist) ||
		!strings.Contains(err.Error(), path) {
		t.Errorf("a file is there: %v", err)
	}
	checkUntouched(t, path, "precious")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	c.before = func(int, string) error {
		precious()
		return nil
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
	c.before, o.Replace = nil, true
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
	o := c.options()
	o.Replace = true
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
