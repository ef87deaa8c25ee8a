package faults_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"verneuil/test/e2e/harness"
)

// flushesDeleted runs verneuilctl flush, which must end so, and say that.
func flushesDeleted(s *harness.Site, code int, says string) {
	s.T.Helper()
	r := harness.Run(s.T, nil, harness.Built(s.T, "VERNEUIL_CTL"), "flush", s.Path("spool"))
	if r.Code != code || !strings.Contains(r.Stdout+r.Stderr, says) {
		s.T.Errorf("verneuilctl flush ends with %d, and says %q, %q; want %d, %q", r.Code, r.Stdout,
			r.Stderr, code, says)
	}
}

// spools returns the names of the spools.
func spools(s *harness.Site) []string {
	s.T.Helper()
	found, err := filepath.Glob(s.Path("spool/*"))
	if err != nil {
		s.T.Fatal(err)
	}
	return found
}

// TestDeleted: a database is deleted, or renamed, after everything was sent: a flush says so, and
// after a while its spool is gone, by the next process with that spooling directory too.
func TestDeleted(t *testing.T) {
	for _, journal := range harness.Journals {
		for _, how := range []string{"rm", "mv"} {
			t.Run(journal+"/"+how, func(t *testing.T) {
				s := harness.DirSite(t)
				shell := s.Written("a.db", journal)
				shell.Flush()
				shell.EndsWith(0)
				if how == "mv" {
					harness.Must(t, os.Rename(s.Path("a.db"), s.Path("b.db")))
				} else {
					harness.Must(t, os.Remove(s.Path("a.db")))
				}
				flushesDeleted(s, 0, s.Path("a.db")+": deleted, everything was sent\n")
				long := time.Now().Add(-time.Hour)
				harness.Must(t, os.Chtimes(s.Glob("spool/*/deleted"), long, long))
				next := s.Shell("c.db")
				// c.db is empty: it has none
				harness.Until(t, "the spool is removed", func() bool { return len(spools(s)) == 0 })
				next.EndsWith(0)
			})
		}
	}
}

// TestDeletedUnsent: what the spool has of a database that was deleted is sent when the target is
// back. If it has not all, a flush says what is missing.
func TestDeletedUnsent(t *testing.T) {
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			shell := s.Written("a.db", journal)
			shell.Flush()
			harness.Must(t, os.Rename(s.Path("store"), s.Path("away")))
			s.Write("store", []byte("in its way"))
			shell.Must("insert into t(b) values('unsent');")
			shell.Ask("pragma wal_checkpoint(truncate);")
			shell.EndsWith(0)
			want := s.Stock("a.db", "select count(*), sum(length(b)) from t")
			harness.Must(t, os.Remove(s.Path("a.db")))
			flushesDeleted(s, 1, "was not sent completely yet; unsent: ")
			harness.Must(t, os.Remove(s.Path("store")))
			harness.Must(t, os.Rename(s.Path("away"), s.Path("store")))
			flushesDeleted(s, 0, ": deleted, everything was sent\n")
			s.UntilRestored("a.db", "select count(*), sum(length(b)) from t",
				strings.TrimSpace(want))
		})
	}
}

// TestDeletedLost: a process was killed before anything was sent, and the database was
// deleted.
func TestDeletedLost(t *testing.T) {
	s := harness.DirSite(t)
	s.Write("store", []byte("in its way"))
	shell := s.Written("a.db", "delete")
	shell.Kill()
	harness.Must(t, os.Remove(s.Path("a.db")))
	overwrite(s, "spool/*/state", func(b []byte) []byte { // the mirror is none, whatever it was
		copy(b[128:136], make([]byte, 8))
		return b
	})
	flushesDeleted(s, 1, "unsent, and lost without the file: ")
	flushesDeleted(s, 1, "or until you remove "+s.Path("spool"))
	harness.Must(t, os.RemoveAll(spools(s)[0]))
}

// TestStrays: of a connection whose commits go nowhere, as its spool cannot be made again, or
// another file is at its path, the log and the status say so, and a flush fails at once. The
// application goes on, and everything is sent as soon as the spool can be made.
func TestStrays(t *testing.T) {
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			shell := s.Written("a.db", journal)
			shell.Flush()
			wantStray(shell, "")

			harness.Must(t, os.Rename(s.Path("spool"), s.Path("spool.old")))
			s.Write("spool", nil)
			shell.Must("insert into t(b) values(randomblob(200000));")
			shell.Refused()
			wantStray(shell, "cannot be made again: Not a directory")
			shell.Must("insert into t(b) values(randomblob(200000));")
			if log := shell.Stderr(); !strings.Contains(log, "commits are not recorded: spool ") {
				t.Errorf("the log does not say that: %s", log)
			}

			harness.Must(t, os.Remove(s.Path("spool")))
			wantStray(shell, "")
			shell.Flush()
			s.UntilRestored("a.db", "select count(*) from t", "3")
			shell.Must("insert into t(b) values(randomblob(200000));")
			shell.Flush()

			harness.Must(t, os.Rename(s.Path("a.db"), s.Path("b.db")))
			wantStray(shell, "deleted, renamed or replaced: reopen the database")
			harness.Must(t, os.Rename(s.Path("b.db"), s.Path("a.db")))
			shell.Must("insert into t(b) values(randomblob(200000));")
			shell.Flush()
			wantStray(shell, "")
			if code := shell.End(); code != 1 { // as a flush was refused
				t.Errorf("the shell ends with %d", code)
			}
			s.MustEqual("a.db")
		})
	}
}

// wantStray asks for the one database that is not replicated, and why; empty: there is none.
func wantStray(shell *harness.Process, why string) {
	shell.T.Helper()
	var status struct {
		NotReplicated []struct{ Path, Reason string } `json:"not_replicated"`
	}
	shell.Status(&status)
	if got := status.NotReplicated; why == "" && len(got) != 0 ||
		why != "" && (len(got) != 1 || !strings.Contains(got[0].Reason, why)) {
		shell.T.Errorf("not replicated: %v, want %q", got, why)
	}
}
