package spool

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
)

// TestStateOffsets compares the struct with the table in doc.go.
func TestStateOffsets(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var s page
	at := map[string]uintptr{
		"magic": unsafe.Offsetof(s.Magic), "format version": unsafe.Offsetof(s.Version),
		"flags":   unsafe.Offsetof(s.Flags),
		"boot ID": unsafe.Offsetof(s.BootID), "st_dev": unsafe.Offsetof(s.Dev),
		"st_ino":     unsafe.Offsetof(s.Ino),
		"birth time": unsafe.Offsetof(s.Birth), "generation:": unsafe.Offsetof(s.Generation),
		"sequence of": unsafe.Offsetof(s.Sequence), "writing:": unsafe.Offsetof(s.Writing),
		"head:":      unsafe.Offsetof(s.head),
		"version of": unsafe.Offsetof(s.DBVersion), "file size": unsafe.Offsetof(s.DBSize),
		"armed:":   unsafe.Offsetof(s.Armed),
		"cause of": unsafe.Offsetof(s.cause), "tail:": unsafe.Offsetof(s.tail),
		"replicator:":                     unsafe.Offsetof(s.Replicator),
		"generation that the mirror":      unsafe.Offsetof(s.MirrorGeneration),
		"sequence up to":                  unsafe.Offsetof(s.MirrorSequence),
		"generation that every":           unsafe.Offsetof(s.PushedGeneration),
		"sequence that every":             unsafe.Offsetof(s.PushedSequence),
		"transactions published":          unsafe.Offsetof(s.Published),
		"transactions dropped":            unsafe.Offsetof(s.Dropped),
		"time of the last":                unsafe.Offsetof(s.PublishedAt),
		"flush tickets drawn":             unsafe.Offsetof(s.FlushDrawn),
		"flush tickets answered with":     unsafe.Offsetof(s.FlushDone),
		"flush tickets answered at":       unsafe.Offsetof(s.FlushAnswered),
		"log allowance":                   unsafe.Offsetof(s.LogAllowance),
		"salts of":                        unsafe.Offsetof(s.WALSalts),
		"published WAL position":          unsafe.Offsetof(s.WALPublished),
		"salt-1<<32 | frames that":        unsafe.Offsetof(s.WALConsumed),
		"stamp of the database":           unsafe.Offsetof(s.DBStamp),
		"stamped by":                      unsafe.Offsetof(s.StampedBy),
		"settled":                         unsafe.Offsetof(s.StampSettled),
		"checkpointing:":                  unsafe.Offsetof(s.Checkpointing),
		"running checksum in the last of": unsafe.Offsetof(s.WALSum),
		"the same for":                    unsafe.Offsetof(s.WALConsumedSum),
		"stamp of the mirror":             unsafe.Offsetof(s.MirrorStamp),
		"continuity:":                     unsafe.Offsetof(s.Continuity),
		"purpose:":                        unsafe.Offsetof(s.Purpose),
		"terms:":                          unsafe.Offsetof(s.Terms),
		"inode of the file lock":          unsafe.Offsetof(s.LockIno),
		"canonical path":                  unsafe.Offsetof(s.PathField),
		"holder:":                         unsafe.Offsetof(s.Holder),
		"time of the last cut":            unsafe.Offsetof(s.CutAt),
		"leaving:":                        unsafe.Offsetof(s.Leaving),
	}
	for field, offset := range at {
		m := regexp.MustCompile(`//\t(\d+) +[\d…]+ +` + regexp.QuoteMeta(field)).FindSubmatch(doc)
		if m == nil {
			t.Errorf("doc.go has no line for %q", field)
		} else if want, _ := strconv.Atoi(string(m[1])); uintptr(want) != offset {
			t.Errorf("%q is at %d, doc.go says %d", field, offset, want)
		}
	}
}

func TestName(t *testing.T) {
	for path, want := range map[string]string{
		"/tmp/a.db": "%2Ftmp%2Fa.db-58c8fb1d1d1b8bc1",
	} {
		if got := Name(path); len(got) != len(want) || got[:len(got)-16] != want[:len(want)-16] {
			t.Errorf("Name(%q) = %q, want it like %q", path, got, want)
		}
	}
	long := Name("/" + string(make([]byte, 400)))
	if len(long) != nameBytesMax+17 {
		t.Errorf("long name has %d bytes", len(long))
	}
}

func TestTokenAlive(t *testing.T) {
	self, err := Self()
	if err != nil || !self.Alive() || self.PID() != os.Getpid() {
		t.Errorf("Self() = %x, %v; alive: %v", self, err, self.Alive())
	}
	if (self ^ 1).Alive() || Token(0).Alive() || makeToken(ownNamespace(), 1<<22-1, 0).Alive() {
		t.Error("a process that is not there is alive")
	}
}

func newDB(t testing.TB) (root, db string) {
	t.Helper()
	dir := t.TempDir()
	db = filepath.Join(dir, "a.db")
	if err := os.WriteFile(db, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "spool"), db
}

func TestCreateAndOpen(t *testing.T) {
	root, db := newDB(t)
	s, err := Create(root, db, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	if g := s.State().Generation.Load(); g != 1 || s.State().Cause() != CauseNew {
		t.Errorf("new state has generation %d, cause %v", g, s.State().Cause())
	}
	if s.Path() != db || s.State().Head() != s.State().Tail() ||
		s.State().Head().Offset() != SegmentHeaderBytes {
		t.Errorf("new state: path %q, head %v, tail %v", s.Path(), s.State().Head(),
			s.State().Tail())
	}
	again, err := Create(root, db, 0o700)
	if err != nil || again.State().Generation.Load() != 1 {
		t.Fatalf("second Create: %v", err)
	}
	s.State().Sequence.Store(7)
	opened, err := Open(s.Dir())
	if err != nil || opened.State().Sequence.Load() != 7 {
		t.Fatalf("Open: %v", err)
	}

	// another file at the path
	if err := os.WriteFile(db+"2", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(db+"2", db); err != nil {
		t.Fatal(err)
	}
	s.State().SetHead(At(math.MaxUint32-1000, 64)) // it outran the clock
	if is, err := s.Replaced(); err != nil || !is || !s.State().Lost() {
		t.Fatalf("Replaced: %v, %v", is, err)
	}
	replaced, err := Create(root, db, 0o700)
	if err != nil || s.Current() {
		t.Fatalf("Create after the database was replaced: %v", err)
	}
	if st := replaced.State(); st.Cause() != CauseReplaced || st.Sequence.Load() != 0 ||
		st.Head().Segment() <= math.MaxUint32-1000+64 {
		t.Fatalf("a state after the database was replaced: cause %v, head %v", st.Cause(),
			st.Head())
	}
	if is, err := replaced.Replaced(); err != nil || is {
		t.Fatalf("Replaced: %v, %v", is, err)
	}
	s, opened = replaced, replaced

	// deleted under us
	if !s.Current() {
		t.Error("spool is not current")
	}
	if err := os.RemoveAll(s.Dir()); err != nil {
		t.Fatal(err)
	}
	if s.Current() || !opened.State().Lost() {
		t.Error("deleted spool is not lost")
	}
	if _, err := Open(s.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open of nothing: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, damage := range map[string]func(page []byte) []byte{
		"empty":        func([]byte) []byte { return nil },
		"short":        func(p []byte) []byte { return p[:100] },
		"magic":        func(p []byte) []byte { p[0]++; return p },
		"version":      func(p []byte) []byte { p[8]++; return p },
		"boot":         func(p []byte) []byte { p[20]++; return p },
		"no path":      func(p []byte) []byte { p[pathOffset] = 0; return p },
		"endless path": func(p []byte) []byte { p[stateBytes-9] = 'x'; return p },
	} {
		root, db := newDB(t)
		s, err := Create(root, db, 0o700)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(s.Dir(), "state")
		page, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, damage(page), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(s.Dir()); !errors.Is(err, chunkstore.ErrCorrupt) {
			t.Errorf("%s: Open: %v, want corrupt", name, err)
		}
		if s, err := Create(root, db, 0o700); err != nil || s.State().Generation.Load() != 1 {
			t.Errorf("%s: Create: %v", name, err)
		}
	}
}

func TestLockAndWake(t *testing.T) {
	root, db := newDB(t)
	s, err := Create(root, db, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.TryLock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.TryLock(); !errors.Is(err, ErrLocked) {
		t.Errorf("second lock: %v", err)
	}
	if Token(s.State().Replicator.Load()).PID() != os.Getpid() {
		t.Error("state does not name the replicator")
	}
	w, err := s.OpenWake()
	if err != nil {
		t.Fatal(err)
	}
	woken := make(chan error)
	go func() {
		woken <- w.Wait()
		woken <- w.Wait()
	}()
	if err := s.Wake(); err != nil {
		t.Fatal(err)
	}
	if err := <-woken; err != nil {
		t.Errorf("Wait: %v", err)
	}
	w.Close()
	if err := <-woken; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Wait after Close: %v", err)
	}
	l.Unlock()
	if s.State().Replicator.Load() != 0 {
		t.Error("replicator stays after Unlock")
	}
	if l, err = s.TryLock(); err != nil {
		t.Fatalf("lock after Unlock: %v", err)
	}
	l.Unlock()
}

// TestTokenOfNamespace: a process of another PID namespace with our number and start time is
// not us, and nothing is concluded from whether we are alive.
func TestTokenOfNamespace(t *testing.T) {
	self, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	other := self ^ 1<<(32+pidBits)
	if !self.Alive() || self.PID() != os.Getpid() || other.PID() != os.Getpid() || other == self ||
		other.Alive() {
		t.Errorf("%x alive: %v; of another namespace %x alive: %v", self, self.Alive(), other,
			other.Alive())
	}
}

// TestLockRemoved: who removes the lock's file does not get the lock while its holder is at work;
// the holder learns of it, and a directory that a forked child has inherited locks nobody out.
func TestLockRemoved(t *testing.T) {
	root, db := newDB(t)
	s, err := Create(root, db, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	lock := func() *Lock {
		t.Helper()
		l, err := s.TryLock()
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Held(); err != nil {
			t.Errorf("just taken: %v", err)
		}
		return l
	}
	file := filepath.Join(s.Dir(), "lock")
	for name, take := range map[string]func() error{
		"file removed": func() error { return os.Remove(file) },
		"file replaced": func() error {
			return errors.Join(os.Remove(file), os.WriteFile(file, nil, 0o600))
		},
		"directory renamed": func() error { return os.Rename(s.Dir(), s.Dir()+".away") },
		"token": func() error {
			s.State().Replicator.Add(1 << 32)
			return nil
		},
	} {
		l := lock()
		if err := take(); err != nil {
			t.Fatal(err)
		}
		if err := l.Held(); !errors.Is(err, ErrTaken) {
			t.Errorf("%s: held: %v", name, err)
		}
		if name == "directory renamed" {
			if err := os.Rename(s.Dir()+".away", s.Dir()); err != nil {
				t.Fatal(err)
			}
		}
		if served, err := s.Served(); !served || err != nil {
			t.Errorf("%s: served: %v, %v", name, served, err)
		}
		if other, err := s.TryLock(); !errors.Is(err, ErrLocked) {
			t.Errorf("%s: locked twice: %v, %v", name, other, err)
		}
		l.Unlock()
		lock().Unlock()
	}
	l := lock()
	inherited, err := unix.FcntlInt(l.dir.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	l.Unlock()
	lock().Unlock()
	unix.Close(inherited)
}

func FuzzSourceConfig(f *testing.F) {
	f.Add([]byte(`{"path":"/a","host":"h","targets":[{"dir":{"path":"/x"}}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseSourceConfig(b); err == nil && (c.Path == "" || c.Host == "") {
			t.Errorf("accepted %q", b)
		}
	})
}

func FuzzState(f *testing.F) {
	f.Add(make([]byte, stateBytes))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "state"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := Open(dir); err == nil {
			_ = s.Path()
			_ = s.State().Cause().String()
		} else if !errors.Is(err, chunkstore.ErrCorrupt) {
			t.Errorf("Open: %v", err)
		}
	})
}

// TestLockOfAnotherCopy: this process has the file locked, and we do not know of it, as it
// was another copy of this package. It keeps its lock, whatever we ask.
func TestLockOfAnotherCopy(t *testing.T) {
	root, db := newDB(t)
	s, err := Create(root, db, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	if served, err := s.Served(); served || err != nil {
		t.Fatalf("a new spool is served: %v, %v", served, err)
	}
	other, err := os.OpenFile(filepath.Join(s.Dir(), "lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.FcntlFlock(other.Fd(), unix.F_SETLK,
		&unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if served, err := s.Served(); !served || err != nil {
			t.Errorf("served: %v, %v", served, err)
		}
		if _, err := s.TryLock(); !errors.Is(err, ErrLocked) {
			t.Fatalf("lock: %v", err)
		}
	}
	other.Close()
	if served, err := s.Served(); served || err != nil {
		t.Errorf("served after the other's end: %v, %v", served, err)
	}
	l, err := s.TryLock()
	if err != nil {
		t.Fatal(err)
	}
	if served, err := s.Served(); !served || err != nil {
		t.Errorf("served by us: %v, %v", served, err)
	}
	l.Unlock()
}

// TestLongestPath: a path of the greatest length fits into the state, and a longer one is refused.
func TestLongestPath(t *testing.T) {
	dir := t.TempDir()
	for len(dir)+1+250 < PathBytesMax-250 {
		dir = filepath.Join(dir, strings.Repeat("d", 250))
	}
	dir = filepath.Join(dir, strings.Repeat("d", 100))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{PathBytesMax, PathBytesMax + 1} {
		path := filepath.Join(dir, strings.Repeat("f", n-len(dir)-1))
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Create(t.TempDir(), path, 0o700)
		switch {
		case n > PathBytesMax:
			if err == nil || !strings.Contains(err.Error(), "at most") {
				t.Errorf("%d bytes: %v", n, err)
			}
		case err != nil:
			t.Errorf("%d bytes: %v", n, err)
		case s.Path() != path || s.State().Holder.Load() != 0:
			t.Errorf("%d bytes: the path is of %d, the holder %x", n, len(s.Path()),
				s.State().Holder.Load())
		}
	}
}

// TestStateOutlivesItsSpool: whoever holds a state, or one of its words, may use it although the
// spool that it came from was collected.
func TestStateOutlivesItsSpool(t *testing.T) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	root, db := newDB(t)
	open := func() *Spool {
		s, err := Create(root, db, 0o700)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	st, word := open().State(), open().State().Generation
	for range 20 { // the cleanups of one collection have no order
		collected := make(chan struct{})
		runtime.AddCleanup(open(), func(c chan struct{}) { close(c) }, collected)
		for done := false; !done; {
			runtime.GC()
			select {
			case <-collected:
				done = true
			default:
			}
		}
	}
	st.Raise(CauseForeign)
	if st.Generation.Load() != 2 || word.Load() != 2 || st.Path() != db {
		t.Errorf("generation %d and %d of %s", st.Generation.Load(), word.Load(), st.Path())
	}
}
