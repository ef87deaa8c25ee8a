package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// flushesDeleted runs verneuilctl flush, which must end so, and say that.
func (s *site) flushesDeleted(code int, says string) {
	s.t.Helper()
	r := run(s.t, nil, built(s.t, "VERNEUIL_CTL"), "flush", s.path("spool"))
	if r.code != code || !strings.Contains(r.stdout+r.stderr, says) {
		s.t.Errorf("verneuilctl flush ends with %d, and says %q, %q; want %d, %q", r.code, r.stdout, r.stderr, code, says)
	}
}

// spools returns the names of the spools.
func (s *site) spools() []string {
	s.t.Helper()
	found, err := filepath.Glob(s.path("spool/*"))
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}

// TestDeleted: a database is deleted, or renamed, after everything was sent: a flush says so, and
// after a while its spool is gone, by the next process with that spooling directory too.
func TestDeleted(t *testing.T) {
	for _, journal := range journals {
		for _, how := range []string{"rm", "mv"} {
			t.Run(journal+"/"+how, func(t *testing.T) {
				s := dirSite(t)
				shell := s.written("a.db", journal)
				shell.flush()
				shell.endsWith(0)
				if how == "mv" {
					must(t, os.Rename(s.path("a.db"), s.path("b.db")))
				} else {
					must(t, os.Remove(s.path("a.db")))
				}
				s.flushesDeleted(0, s.path("a.db")+": deleted, everything was sent\n")
				long := time.Now().Add(-time.Hour)
				must(t, os.Chtimes(s.glob("spool/*/deleted"), long, long))
				next := s.shell("c.db")
				until(t, "the spool is removed", func() bool { return len(s.spools()) == 0 }) // c.db is empty: it has none
				next.endsWith(0)
			})
		}
	}
}

// TestDeletedUnsent: what the spool has of a database that was deleted is sent when the target is
// back. If it has not all, a flush says what is missing.
func TestDeletedUnsent(t *testing.T) {
	for _, journal := range journals {
		t.Run(journal, func(t *testing.T) {
			s := dirSite(t)
			shell := s.written("a.db", journal)
			shell.flush()
			must(t, os.Rename(s.path("store"), s.path("away")))
			s.write("store", []byte("in its way"))
			shell.must("insert into t(b) values('unsent');")
			shell.ask("pragma wal_checkpoint(truncate);")
			shell.endsWith(0)
			want := s.stock("a.db", "select count(*), sum(length(b)) from t")
			must(t, os.Remove(s.path("a.db")))
			s.flushesDeleted(1, "not sent, though it can be: ")
			must(t, os.Remove(s.path("store")))
			must(t, os.Rename(s.path("away"), s.path("store")))
			s.flushesDeleted(0, ": deleted, everything was sent\n")
			s.untilRestored("a.db", "select count(*), sum(length(b)) from t", strings.TrimSpace(want))
		})
	}
}

// TestDeletedLost: a process was killed before anything was sent, and the database was
// deleted.
func TestDeletedLost(t *testing.T) {
	s := dirSite(t)
	s.write("store", []byte("in its way"))
	shell := s.written("a.db", "delete")
	shell.kill()
	must(t, os.Remove(s.path("a.db")))
	s.overwrite("spool/*/state", func(b []byte) []byte { // the mirror is none, whatever it was
		copy(b[128:136], make([]byte, 8))
		return b
	})
	s.flushesDeleted(1, "not to be had without the file: ")
	s.flushesDeleted(1, "or until you remove "+s.path("spool"))
	must(t, os.RemoveAll(s.spools()[0]))
}
