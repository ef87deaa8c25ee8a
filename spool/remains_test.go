package spool

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// deletedSpool is the spool of a database that was deleted.
func deletedSpool(t *testing.T) (s *Spool, db string) {
	t.Helper()
	root := filepath.Join(t.TempDir(), "spool")
	db = filepath.Join(filepath.Dir(root), "a.db")
	if err := os.WriteFile(db, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Create(root, db, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mirror", "log.0000000000000001", "free.0"} {
		if err := s.WriteFile(name, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(db); err != nil {
		t.Fatal(err)
	}
	return s, db
}

// sweep calls Sweep so long after now.
func sweep(t *testing.T, s *Spool, after time.Duration) (removed bool) {
	t.Helper()
	removed, err := Sweep(s.Dir(), time.Now().Add(after))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.Dir()); removed != errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("removed: %v; the directory: %v", removed, err)
	}
	return removed
}

const moment = time.Minute

// TestSweep: the spool of a deleted database goes a while after it was first seen, and not before
// all is sent, but for a longer while.
func TestSweep(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(t *testing.T, s *Spool)
		kept    time.Duration
	}{
		"all sent": {func(*testing.T, *Spool) {}, sentKept},
		"a transaction is not": {func(_ *testing.T, s *Spool) {
			s.state.Sequence.Add(1)
		}, unsentKept},
		"a copy is not": {func(_ *testing.T, s *Spool) { s.state.Raise(CauseForeign) }, unsentKept},
		"of an earlier boot": {func(t *testing.T, s *Spool) {
			s.state.page.BootID[0]++
			t.Cleanup(func() { s.state.page.BootID[0]-- })
		}, sentKept},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := deletedSpool(t)
			s.state.PushedGeneration.Store(s.state.Generation.Load())
			c.prepare(t, s)
			if sweep(t, s, 0) || sweep(t, s, c.kept-moment) {
				t.Fatal("removed too soon")
			}
			if !sweep(t, s, c.kept+moment) {
				t.Fatal("not removed")
			}
		})
	}
}

// TestSweepSpares: what is not that of a deleted database, or is in use, stays; and if the
// database is back, its next deletion counts.
func TestSweepSpares(t *testing.T) {
	s, db := deletedSpool(t)
	s.state.PushedGeneration.Store(s.state.Generation.Load())
	sweep(t, s, 0)
	if err := os.WriteFile(db, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if sweep(t, s, unsentKept+moment) {
		t.Fatal("removed although the database is back")
	}
	if err := os.Remove(db); err != nil {
		t.Fatal(err)
	}
	if sweep(t, s, unsentKept+moment) {
		t.Fatal("removed as soon as it was deleted again")
	}
	lock, err := s.TryLock()
	if err != nil {
		t.Fatal(err)
	}
	if removed, err := Sweep(s.Dir(), time.Now().Add(unsentKept+moment)); removed ||
		!errors.Is(err, ErrLocked) {
		t.Fatalf("removed while it is replicated: %v, %v", removed, err)
	}
	lock.Unlock()
	elsewhere := filepath.Join(filepath.Dir(s.Dir()), "b.db-0123456789abcdef")
	if err := os.Rename(s.Dir(), elsewhere); err != nil {
		t.Fatal(err)
	}
	if removed, err := Sweep(elsewhere, time.Now().Add(unsentKept+moment)); removed || err == nil {
		t.Fatalf("removed under a name that is not its own: %v, %v", removed, err)
	}
	if err := os.Rename(elsewhere, s.Dir()); err != nil {
		t.Fatal(err)
	}
	if !sweep(t, s, sentKept+moment) {
		t.Fatal("not removed")
	}
	if !s.state.Lost() {
		t.Error("handles are not told")
	}
}

// TestSweepWhileCreated: whoever makes a spool anew while it is removed has one that is current.
func TestSweepWhileCreated(t *testing.T) {
	s, db := deletedSpool(t)
	root := filepath.Dir(s.Dir())
	for range 300 {
		st := s.state
		st.PushedGeneration.Store(st.Generation.Load())
		sweep(t, s, 0)
		swept := make(chan struct{})
		go func() {
			defer close(swept)
			_, _ = Sweep(s.Dir(), time.Now().Add(unsentKept)) // it may have come too late
		}()
		if err := os.WriteFile(db, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		next, err := Create(root, db, 0o700)
		if err != nil {
			t.Fatal(err)
		}
		<-swept
		if !next.Current() {
			if next, err = Create(root, db, 0o700); err != nil || !next.Current() {
				// As a recorder does that finds it lost
				t.Fatalf("%v; the spool is not current", err)
			}
		}
		if err := os.Remove(db); err != nil {
			t.Fatal(err)
		}
		s = next
	}
}
