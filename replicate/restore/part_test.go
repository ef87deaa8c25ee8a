package restore_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
	"verneuil/manifest"
	. "verneuil/replicate/restore"
	"verneuil/test/crash"
	"verneuil/test/scratch"
)

// parts returns the part files in the directory of path.
func parts(t *testing.T, path string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".verneuil-restore-") {
			names = append(names, filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	return names
}

// interrupt restores c to path until so many requests were answered. It returns the part file.
func interrupt(t *testing.T, c *version, path string, requests int) string {
	t.Helper()
	c.forget()
	lost := errors.New("the network is down")
	c.before = func(n int, _ string) error {
		if n > requests {
			return lost
		}
		return nil
	}
	o := c.options()
	o.Concurrency = 1 // so that what was answered is written
	err := File(t.Context(), path, o)
	var unfinished *UnfinishedError
	if !errors.As(err, &unfinished) || !errors.Is(err, lost) {
		t.Fatalf("after %d requests: %v", requests, err)
	}
	left := parts(t, path)
	if len(left) != 1 || left[0] != unfinished.Part || unfinished.Bytes < PartWorth ||
		!strings.Contains(err.Error(), unfinished.Part) {
		t.Fatalf("%v; there is %q", err, left)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the file is there: %v", err) // R1
	}
	c.forget()
	return left[0]
}

// resumed restores c to path, and returns how many requests that took.
func resumed(t *testing.T, c *version, path string) int {
	t.Helper()
	c.forget()
	if err := File(t.Context(), path, c.options()); err != nil {
		t.Fatal(err)
	}
	mustHold(t, path, c.file)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	return c.calls
}

// TestResumes: a restore that ended early leaves what it has, and the next one fetches the rest,
// wherever it ended.
func TestResumes(t *testing.T) {
	const packs = 8
	c := newNoise(t, packs*chunkstore.PackMax, func(i int) bool { return i%100 == 99 })
	path := filepath.Join(t.TempDir(), "out.db")
	for n := 5; n < packs+1; n++ { // the first request is for the leaf
		interrupt(t, c, path, n)
		if got, want := resumed(t, c, path), 1+packs-(n-1); got != want {
			t.Errorf("ended after %d requests, resumed with %d, want %d", n, got, want)
		}
	}
	// And again and again: nothing is fetched twice.
	for _, n := range []int{5, 3, 2} { // the leaf's each time
		interrupt(t, c, path, n)
	}
	if got := resumed(t, c, path); got != 1+1 {
		t.Errorf("%d requests when seven packs are there", got)
	}
}

// TestLittleIsNotKept: what is soon fetched again is not left behind, nor what cannot be written.
func TestLittleIsNotKept(t *testing.T) {
	c := newNoise(t, 8*chunkstore.PackMax, nil)
	path := filepath.Join(t.TempDir(), "out.db")
	c.before = func(n int, _ string) error {
		if n > 3 {
			return chunkstore.ErrAbsent
		}
		return nil
	}
	o := c.options()
	o.Concurrency = 1
	err := File(t.Context(), path, o)
	if !errors.Is(err, chunkstore.ErrAbsent) || errors.As(err, new(*UnfinishedError)) {
		t.Error(err)
	}
	if left := parts(t, path); left != nil {
		t.Errorf("left: %q", left)
	}

	// A limit on the size of files is a disk that is full: others need the room.
	interrupt(t, c, path, 6)
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	limit := unix.Rlimit{Cur: 7 * chunkstore.PackMax * chunkstore.ChunkBytes, Max: was.Max}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	err = File(t.Context(), path, c.options())
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, unix.EFBIG) || errors.As(err, new(*UnfinishedError)) {
		t.Error(err)
	}
	if left := parts(t, path); left != nil {
		t.Errorf("left: %q", left)
	}
}

// TestResumesAnotherVersion: what is in the part file is used for any version, as far as it is
// the same; and nothing else of it is in the file, nor where it was longer, nor in its holes.
func TestResumesAnotherVersion(t *testing.T) {
	const packs, size = 8, chunkstore.ChunkBytes
	c := newNoise(t, packs*chunkstore.PackMax, nil)
	path := filepath.Join(t.TempDir(), "out.db")
	interrupt(t, c, path, 6) // packs 0 to 4

	// Since then pack 1 was rewritten, pack 2 is zeros, 10 chunks of pack 3 have changed, and the
	// file ends in the midst of a chunk of pack 4.
	chunks := 5*chunkstore.PackMax - 3
	c.m.FileBytes = int64(chunks*size - 512)
	c.m.Inline = nil
	c.file = c.file[:c.m.FileBytes:c.m.FileBytes]
	c.tree.Resize(chunks)
	plain := func(i int) []byte { return c.file[i*size : min((i+1)*size, len(c.file))] }
	var changed []int
	for i := range chunks {
		switch p := i / chunkstore.PackMax; {
		case p == 1, p == 3 && i%6 == 0, i == chunks-1:
			plain(i)[100]++
			changed = append(changed, i)
		case p == 2:
			clear(plain(i))
			changed = append(changed, i)
		}
	}
	c.set(t, changed, plain)
	c.finish(t, 72)
	c.forget()
	if err := File(t.Context(), path, c.options()); err != nil {
		t.Fatal(err)
	}
	mustHold(t, path, c.file)
	if c.calls > 1+2 {
		t.Errorf("%d requests, want the leaf, and two packs of 64 and 12 chunks", c.calls)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	start, end := int64(2*chunkstore.PackMax*size), int64(3*chunkstore.PackMax*size)
	if hole, err := f.Seek(start, unix.SEEK_HOLE); err != nil || hole != start {
		t.Errorf("the hole begins at %d, %v; want %d", hole, err, start)
	}
	if data, err := f.Seek(start, unix.SEEK_DATA); err != nil || data != end {
		t.Errorf("the hole ends at %d, %v; want %d", data, err, end)
	}
}

// TestHolesOfAPartFile: where a version has zeros, what a part file has is made a hole again.
func TestHolesOfAPartFile(t *testing.T) {
	c := newNoise(t, 6*chunkstore.PackMax, nil)
	path := filepath.Join(t.TempDir(), "out.db")
	interrupt(t, c, path, 6)
	clear(c.file[:4<<20])
	c.set(t, upTo(chunkstore.PackMax), c.chunk)
	c.finish(t, 72)
	if err := File(t.Context(), path, c.options()); err != nil {
		t.Fatal(err)
	}
	mustHold(t, path, c.file)
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Blocks*512 > 5*4<<20+64<<10 {
		t.Errorf("%d bytes on the disk: %v", st.Blocks*512, err)
	}
}

// TestR5DamagedPartFiles: whatever has become of a part file, the restored file is right.
func TestR5DamagedPartFiles(t *testing.T) {
	const packs = 6
	c := newNoise(t, packs*chunkstore.PackMax, func(i int) bool { return i == 70 })
	c.m.Inline = append(c.m.Inline, pageAt(c, 5), pageAt(c, 70), pageAt(c, 200))
	path := filepath.Join(t.TempDir(), "out.db")
	for what, damage := range map[string]struct {
		do       func(f *os.File) error
		requests int // at most
	}{
		"nothing": {func(*os.File) error { return nil }, 1 + 2 + 2},
		"a byte": {func(f *os.File) error {
			_, err := f.WriteAt([]byte{1, 2, 3}, 33*chunkstore.ChunkBytes)
			return err
		}, 1 + 2 + 2 + 1},
		"data in a hole": {func(f *os.File) error {
			_, err := f.WriteAt([]byte{1, 2, 3}, 70*chunkstore.ChunkBytes+9)
			return err
		}, 1 + 2 + 2},
		"emptied":   {func(f *os.File) error { return f.Truncate(0) }, 1 + packs},
		"truncated": {func(f *os.File) error { return f.Truncate(4<<20 + 5) }, 1 + packs},
		"longer": {func(f *os.File) error {
			_, err := f.WriteAt(make([]byte, 99), 1<<30)
			return err
		}, 1 + 2 + 2},
		"zeroed": {func(f *os.File) error {
			_, err := f.WriteAt(make([]byte, 1<<20), 4<<20)
			return err
		}, 1 + 2 + 2 + 1},
		"shifted": {func(f *os.File) error {
			_, err := f.WriteAt(c.file[:4<<20], 4<<20)
			return err
		}, 1 + 3 + 2},
	} {
		name := interrupt(t, c, path, 1+4)
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(damage.do(f), f.Close()); err != nil {
			t.Fatal(err)
		}
		if got := resumed(t, c, path); got > damage.requests {
			t.Errorf("%s: %d requests, want at most %d", what, got, damage.requests)
		}
	}
}

// pageAt is an inline page in chunk i of c, which its file has.
func pageAt(c *version, i int) (p manifest.Page) {
	p.Offset, p.Data = int64(i)*chunkstore.ChunkBytes+1024, bytes.Repeat([]byte{7}, 512)
	copy(c.file[p.Offset:], p.Data)
	return p
}

// TestPartFilesOfOthers: a file that others may write, or that is another one too, is neither
// used nor changed, and does not hinder.
func TestPartFilesOfOthers(t *testing.T) {
	c := newNoise(t, 70, nil)
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	for what, make := range map[string]func(name string) error{
		"link":         func(name string) error { return os.Symlink(victim, name) },
		"dangling":     func(name string) error { return os.Symlink(victim+"2", name) },
		"second name":  func(name string) error { return os.Link(victim, name) },
		"FIFO":         func(name string) error { return unix.Mkfifo(name, 0o600) },
		"directory":    func(name string) error { return os.Mkdir(name, 0o700) },
		"of the group": func(name string) error { return writeAs(name, 0o660) },
		"of all":       func(name string) error { return writeAs(name, 0o604) },
		"another user's": func(name string) error {
			if os.Geteuid() != 0 {
				return os.Symlink(victim, name)
			}
			return errors.Join(writeAs(name, 0o600), os.Chown(name, 12345, 0))
		},
	} {
		if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(t.TempDir(), "d")
		path := filepath.Join(at, "out.db")
		name := filepath.Join(at, PartName(path, "1"))
		if err := errors.Join(os.Mkdir(at, 0o700), make(name)); err != nil {
			t.Fatal(err)
		}
		before, err := os.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := File(t.Context(), path, c.options()); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, c.file) {
			t.Fatalf("%s: %v", what, err)
		}
		after, err := os.Lstat(name)
		if err != nil || !os.SameFile(before, after) || before.Size() != after.Size() ||
			before.Mode() != after.Mode() {
			t.Errorf("%s: %v, was %v; %v", what, after, before, err)
		}
		if got, err := os.ReadFile(victim); err != nil || string(got) != "precious" {
			t.Errorf("%s: another file is %.20q, %v", what, got, err)
		}
	}
}

func writeAs(name string, mode os.FileMode) error {
	return errors.Join(os.WriteFile(name, []byte("theirs"), 0o600), os.Chmod(name, mode))
}

// TestTwoRestoresAtOnce: two restores to one file neither share a part file nor harm each other.
func TestTwoRestoresAtOnce(t *testing.T) {
	c := newNoise(t, 6*chunkstore.PackMax, nil)
	path := filepath.Join(t.TempDir(), "out.db")
	interrupt(t, c, path, 5)
	begun, second := make(chan struct{}), make(chan struct{})
	c.before = func(n int, _ string) error {
		if n == 1 { // of the first restore, which has the part file
			close(begun)
			<-second
		}
		return nil
	}
	o := c.options()
	o.Replace = true
	first := make(chan error, 1)
	go func() { first <- File(t.Context(), path, o) }()
	<-begun
	if err := File(t.Context(), path, o); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, c.file) {
		t.Fatal(err)
	}
	if left := parts(t, path); len(left) != 1 {
		t.Errorf("part files of one restore: %q", left)
	}
	close(second)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	mustHold(t, path, c.file)
}

// TestPartFileThatHasGone: who has locked a part file that another restore put in place, or
// removed, meanwhile leaves it alone: it is the database now.
func TestPartFileThatHasGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.db")
	name := filepath.Join(filepath.Dir(path), PartName(path, "1"))
	if err := writeAs(name, 0o600); err != nil {
		t.Fatal(err)
	}
	end, ok := Resume(name)
	if !ok {
		t.Fatal("a part file cannot be resumed")
	}
	if _, ok := Resume(name); ok {
		t.Error("one is resumed that another restore has locked")
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
	for what, gone := range map[string]func() error{
		"in place":  func() error { return os.Rename(name, path) },
		"removed":   func() error { return os.Remove(name) },
		"made anew": func() error { return errors.Join(os.Remove(name), writeAs(name, 0o600)) },
	} {
		if err := writeAs(name, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if !LockPart(f) {
			t.Errorf("%s: nobody else has it locked", what)
		}
		f.Close()
		if f, err = os.OpenFile(name, os.O_RDWR, 0); err != nil {
			t.Fatal(err)
		}
		if err := gone(); err != nil {
			t.Fatal(err)
		}
		if LockPart(f) {
			t.Errorf("%s: it is used", what)
		}
		f.Close()
	}
}

// TestFileCleansUp: what restores to the same file have left is removed, of others what is old;
// and what another one is writing is not.
func TestFileCleansUp(t *testing.T) {
	c := newVersion(t, 3)
	dir := filepath.Join(t.TempDir(), "[a]*\\?")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "out.db")
	old := time.Now().Add(-25 * time.Hour)
	touch := func(name string, modified time.Time) string {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(name, nil, 0o600),
			os.Chtimes(name, modified, modified)); err != nil {
			t.Fatal(err)
		}
		return name
	}
	touch(".verneuil-restore-1", old)
	touch(PartName("other.db", "1"), old)
	touch(PartName(path, "1"), old)
	touch(PartName(path, "2"), time.Now())
	stay := []string{touch(PartName("other.db", "2"), time.Now()), touch("out.db-other", old),
		touch(".verneuil-restore-2", old), touch(PartName(path, "3"), old)}
	for _, name := range stay[2:] {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
			t.Fatal(err)
		}
	}
	if err := File(t.Context(), path, c.options()); err != nil {
		t.Fatal(err)
	}
	for _, name := range append(stay, path) {
		if _, err := os.Lstat(name); err != nil {
			t.Error(err)
		}
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != len(stay)+1 {
		t.Errorf("%v, %v", names, err)
	}
}

// TestFullestPartFile: of several part files the one that has most is gone on with.
func TestFullestPartFile(t *testing.T) {
	c := newNoise(t, 6*chunkstore.PackMax, nil)
	path := filepath.Join(t.TempDir(), "out.db")
	name := interrupt(t, c, path, 6)
	for _, random := range []string{"0", "zzz"} {
		part := filepath.Join(filepath.Dir(path), PartName(path, random))
		if err := os.WriteFile(part, c.file[:9<<20], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := resumed(t, c, path); got != 1+1 {
		t.Errorf("%d requests, want the leaf's and one pack's: %s has the others", got, name)
	}
}

// TestMain has TestKilled die at each step where crash tests are chosen.
func TestMain(m *testing.M) {
	scratch.InMemory()
	os.Exit(crash.Main(m, TestKilled, TestReportsTheNthFailedWrite))
}

// A restore of killedPacks has a step for the request for the leaf, and for each pack one for the
// request and one for each of the runs that are written.
const (
	killedPacks = 7
	packSteps   = 1 + chunkstore.PackMax/RunChunks
	killedSteps = 1 + killedPacks*packSteps
)

// TestKilled: a restore may be killed at any step; the next one goes on, and the file is never
// there and not whole.
func TestKilled(t *testing.T) {
	SetDirect(t, 0)
	c := newNoise(t, killedPacks*chunkstore.PackMax, nil)
	if at := os.Getenv("RESTORE_DIES_AT"); at != "" {
		n, err := strconv.Atoi(at)
		if err != nil {
			t.Fatal(err)
		}
		o := c.options()
		o.Concurrency = 1
		step := func() {
			if n--; n == 0 {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
		}
		c.before = func(int, string) error {
			step()
			return nil
		}
		o.Progress = func(int64, int64) { step() }
		t.Fatal(File(t.Context(), os.Getenv("RESTORE_TO"), o), "and lives")
	}
	path := filepath.Join(t.TempDir(), "out.db")
	die := func(n int) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), "RESTORE_DIES_AT="+strconv.Itoa(n), "RESTORE_TO="+path)
		out, err := cmd.CombinedOutput()
		status := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if status.Signal() != syscall.SIGKILL {
			t.Fatalf("at %d: %v: %s", n, err, out)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("killed at %d: the file is there: %v", n, err) // R1
		}
	}
	stride := 5
	if crash.Chosen() {
		stride = 1
	}
	for n := 1; n <= killedSteps; n += stride {
		die(n)
		whole := max(0, n-2) / packSteps // packs that were written
		if got, most := resumed(t, c, path), 1+killedPacks-whole; got > most {
			t.Errorf("killed at step %d: resumed with %d requests, want at most %d", n, got, most)
		}
	}
	// Killed, resumed and killed: three packs, then one, and one.
	for _, n := range []int{2 + 3*packSteps, 2 + packSteps + 1, 2 + packSteps + 1} {
		die(n)
	}
	if got := resumed(t, c, path); got > 1+killedPacks-5 {
		t.Errorf("killed three times, resumed with %d requests", got)
	}
}

// TestInterruptedInTheCheck: a restore that is cancelled while it looks at the part file leaves
// that as it is.
func TestInterruptedInTheCheck(t *testing.T) {
	c := newNoise(t, 8*chunkstore.PackMax, nil)
	path := filepath.Join(t.TempDir(), "out.db")
	interrupt(t, c, path, 7)
	ctx, cancel := context.WithCancel(t.Context())
	c.before = func(int, string) error { // of the leaf, before anything is looked at
		cancel()
		return nil
	}
	err := File(ctx, path, c.options())
	if !errors.Is(err, context.Canceled) || !errors.As(err, new(*UnfinishedError)) {
		t.Fatal(err)
	}
	if got := resumed(t, c, path); got != 1+2 {
		t.Errorf("%d requests, want the leaf's and two packs'", got)
	}
}
