package mirror

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// TestGuard: a mirror that somebody else has changed, replaced, or changed the dirty bytes
// of, is not what was left; one whose owner was killed at work is.
func TestGuard(t *testing.T) {
	changingSince := func(age time.Duration) func(t *testing.T, dir string, note *atomic.Uint64) {
		return func(t *testing.T, dir string, note *atomic.Uint64) {
			note.Store(changing | uint64(time.Now().Add(-age).UnixNano()))
		}
	}
	for name, c := range map[string]struct {
		meanwhile func(t *testing.T, dir string, note *atomic.Uint64)
		asLeft    bool
	}{
		"nothing":            {func(*testing.T, string, *atomic.Uint64) {}, true},
		"the mirror changed": {overwrite("mirror"), false},
		"dirty changed":      {overwrite("dirty"), false},
		"the mirror replaced": {func(t *testing.T, dir string, _ *atomic.Uint64) {
			b, err := os.ReadFile(filepath.Join(dir, "mirror"))
			if err == nil {
				err = os.Remove(filepath.Join(dir, "mirror"))
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, "mirror"), b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, false},
		"killed at work":                {changingSince(0), true},
		"killed at work, changed later": {changingSince(time.Hour), false},
		"nothing is known": {func(_ *testing.T, _ string, note *atomic.Uint64) {
			note.Store(0)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			guardRun(t, c.meanwhile, c.asLeft)
		})
	}
}

// overwrite has somebody else change one of a mirror's files.
func overwrite(name string) func(t *testing.T, dir string, note *atomic.Uint64) {
	return func(t *testing.T, dir string, _ *atomic.Uint64) {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.Write([]byte{0}); err != nil {
			t.Fatal(err)
		}
		past := time.Now().Add(-time.Hour) // where times of files go by the clock's ticks
		if err := os.Chtimes(f.Name(), past, past); err != nil {
			t.Fatal(err)
		}
	}
}

// guardRun makes a mirror, lets something happen to its files while it is closed, and sees whether
// it is found out.
func guardRun(
	t *testing.T, meanwhile func(t *testing.T, dir string, note *atomic.Uint64), asLeft bool,
) {
	dir, note := t.TempDir(), new(atomic.Uint64)
	write := func(m *Mirror, b byte) {
		t.Helper()
		if _, err := m.WriteAt([]byte{b}, 3*chunkBytes); err != nil {
			t.Fatal(err)
		}
	}
	m, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if m.Guard(note) {
		t.Error("a mirror that was not there is what was left")
	}
	if err := m.MarkAll(); err != nil {
		t.Fatal(err)
	}
	m.Seal()
	if !m.AsLeft() {
		t.Error("an empty mirror is not what it was left like")
	}
	write(m, 1)
	if note.Load()&changing == 0 {
		t.Error("a change is not noted")
	}
	m.Seal()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	meanwhile(t, dir, note)
	if m, err = Open(dir); err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if got := m.Guard(note); got != asLeft {
		t.Fatalf("as left: %v", got)
	}
	m.Seal()
	if !asLeft && note.Load() != 0 {
		t.Error("sealed before all is marked")
	}
	if err := m.MarkAll(); err != nil {
		t.Fatal(err)
	}
	write(m, 2)
	m.Seal()
	if !m.AsLeft() || note.Load() != m.Stamp() {
		t.Error("not sealed")
	}
	overwrite("mirror")(t, dir, note)
	if m.AsLeft() || note.Load() != 0 {
		t.Error("a change of an open mirror was not found")
	}
}
