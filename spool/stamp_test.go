package spool

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestStampTellsOfWrites: whatever changes a file leaves another stamp, also if it is put back as
// it was, with its length and its mtime.
func TestStampTellsOfWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	content := make([]byte, 20000)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(f *os.File) error{
		"the same bytes": func(f *os.File) error {
			_, err := f.WriteAt(content[:1], 100)
			return err
		},
		"cut and made longer": func(f *os.File) error {
			if err := f.Truncate(100); err != nil {
				return err
			}
			return f.Truncate(int64(len(content)))
		},
		"a hole": func(f *os.File) error {
			return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE,
				4096, 4096)
		},
		"a mapping": func(f *os.File) error {
			b, err := unix.Mmap(int(f.Fd()), 0, len(content), unix.PROT_READ|unix.PROT_WRITE,
				unix.MAP_SHARED)
			if err != nil {
				return err
			}
			b[100] = 1
			return unix.Munmap(b)
		},
		"nothing but the mtime": func(*os.File) error { return nil },
	} {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		before, err := StampOf(path)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := StampOf(path); err != nil || again != before ||
			again.Sum() != before.Sum() {
			t.Errorf("unchanged, the stamp is %v after %v: %v", again, before, err)
		}
		age(t, path)
		if err := change(f); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		f.Close()
		if changed, err := StampOf(path); err != nil || changed.Sum() == before.Sum() &&
			name != "nothing but the mtime" {
			t.Errorf("%s: the stamp stays %v: %v", name, changed, err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Unix(0, before.Mtime)); err != nil {
			t.Fatal(err)
		}
		after, err := StampOf(path)
		if err != nil {
			t.Fatal(err)
		}
		if after.Bytes != before.Bytes || after.Mtime != before.Mtime {
			t.Fatalf("%s: the test has not put back length and time: %v, %v", name, before, after)
		}
		if after.Sum() == before.Sum() {
			t.Errorf("%s: the stamp stays %v", name, after)
		}
	}
}

// age waits until the clock that files' times go by has ticked since the file was changed.
func age(t *testing.T, path string) {
	t.Helper()
	probe := path + ".probe"
	defer os.Remove(probe)
	was, err := StampOf(path)
	if err != nil {
		t.Fatal(err)
	}
	for {
		if err := os.WriteFile(probe, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		now, err := StampOf(probe)
		if err != nil {
			t.Fatal(err)
		}
		if now.Ctime > was.Ctime {
			return
		}
	}
}

// TestAsLeft: which stamps are believed. Those of whole seconds only if somebody knows better.
func TestAsLeft(t *testing.T) {
	root, db := newDB(t)
	s, err := Create(root, db, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	self, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	st := s.State()
	fine, coarse := Stamp{Ino: 1, Bytes: 2, Mtime: 3, Ctime: 4},
		Stamp{Ino: 1, Bytes: 2, Mtime: 3, Ctime: int64(4 * time.Second)}
	for _, c := range []struct {
		name           string
		left, now      Stamp
		by             Token
		settled        Stamp
		isSame, isSure bool
	}{
		{"another", fine, coarse, self, fine, false, false},
		{"fine", fine, fine, 0, Stamp{}, true, true},
		{"coarse, nobody has had it open since", coarse, coarse, 0, Stamp{}, true, false},
		{"coarse, its process has died", coarse, coarse, makeToken(0, 1<<21, 0), Stamp{}, true,
			false},
		{"coarse, a process has had it open since", coarse, coarse, self, Stamp{}, true, true},
		{"coarse, settled", coarse, coarse, 0, coarse, true, true},
		{"coarse, an earlier one was settled", coarse, coarse, 0, fine, true, false},
	} {
		st.Leave(c.left, c.by)
		st.StampSettled.Store(c.settled.Sum())
		if same, sure := st.AsLeft(c.now); same != c.isSame || sure != c.isSure {
			t.Errorf("%s: same %v, sure %v", c.name, same, sure)
		}
	}
}

// TestStampAge: how long it takes until a file's times tell of its next change.
func TestStampAge(t *testing.T) {
	now := time.Unix(1000, 500)
	for _, c := range []struct {
		s    Stamp
		aged bool
	}{
		{Stamp{Ctime: now.Add(-time.Millisecond).UnixNano()}, false},
		{Stamp{Ctime: now.Add(-30 * time.Millisecond).UnixNano()}, true},
		// An mtime that somebody has set
		{Stamp{Ctime: now.Add(-30 * time.Millisecond).UnixNano(), Mtime: now.UnixNano()}, true},
		{Stamp{Ctime: now.Add(time.Hour).UnixNano()}, true}, // the clock was set back
		{Stamp{Ctime: time.Unix(999, 0).UnixNano()}, false},
		{Stamp{Ctime: time.Unix(997, 0).UnixNano()}, true},
	} {
		if aged := c.s.Age(now) > c.s.Grain(); aged != c.aged {
			t.Errorf("%v at %v: old enough: %v", c.s, now.UTC(), aged)
		}
	}
}
