package faults_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"verneuil/test/crash"
	"verneuil/test/e2e/harness"
)

// unlucky is a row of the crash table: what happens to a database, or to who uses it.
// shell has it open. The row may return another shell, which goes on.
type unlucky struct {
	name string
	do   func(s *harness.Site, shell *harness.Process, journal string) *harness.Process
}

// crashTable is DESIGN's, section 5, row by row. Its other rows, which are of each call, are
// TestKills and its like (the application, the replicator, both), TestFaults (ENOSPC, EIO,
// EACCES at every call), TestSpoolDeleted and TestSpoolDamaged.
var crashTable = []unlucky{
	{"the application is killed", func(s *harness.Site, shell *harness.Process,
		_ string) *harness.Process {
		shell.Must("begin; insert into t(b) values(randomblob(300000));")
		shell.Kill()
		return s.Shell("a.db")
	}},
	{"the replicator is killed", func(s *harness.Site, shell *harness.Process,
		_ string) *harness.Process {
		other := s.Shell("a.db")
		other.Must("insert into t(b) values('one');")
		shell.Kill()
		other.Must("insert into t(b) values('two');")
		return other
	}},
	{"both are killed", func(s *harness.Site, shell *harness.Process, _ string) *harness.Process {
		other := s.Shell("a.db")
		other.Must("begin; insert into t(b) values(randomblob(300000));")
		shell.Kill()
		other.Kill()
		return s.Shell("a.db")
	}},
	{"the spool is deleted", func(s *harness.Site, shell *harness.Process,
		_ string) *harness.Process {
		remove(s, "spool")
		return shell
	}},
	{"the database is replaced", func(s *harness.Site, shell *harness.Process,
		journal string) *harness.Process {
		s.Stock("other.db", "pragma journal_mode="+journal,
			"create table t(a integer primary key, b)", "insert into t(b) values('other')")
		shell.EndsWith(0)
		harness.Must(s.T, os.Rename(s.Path("other.db"), s.Path("a.db")))
		return s.Shell("a.db")
	}},
	{"the database is replaced while it is open", func(s *harness.Site, shell *harness.Process,
		_ string) *harness.Process {
		s.Stock("other.db", "create table t(a integer primary key, b)",
			"insert into t(b) values('other')")
		for _, suffix := range []string{"-wal", "-shm", "-journal"} {
			os.Remove(s.Path("a.db" + suffix))
		}
		harness.Must(s.T, os.Rename(s.Path("other.db"), s.Path("a.db")))
		other := s.Shell("a.db")
		other.Must("insert into t(b) values('of the new one');")
		shell.Ask(".open :memory:")
		shell.End()
		return other
	}},
	{"the database is renamed", func(s *harness.Site, shell *harness.Process,
		_ string) *harness.Process {
		shell.EndsWith(0)
		harness.Must(s.T, os.Rename(s.Path("a.db"), s.Path("b.db")))
		other := s.Shell("b.db")
		other.Must("insert into t(b) values('renamed');")
		other.Flush()
		other.EndsWith(0)
		s.MustEqual("b.db")
		harness.Must(s.T, os.Rename(s.Path("b.db"), s.Path("a.db")))
		return s.Shell("a.db")
	}},
	{"the database is unlinked", func(s *harness.Site, shell *harness.Process,
		_ string) *harness.Process {
		shell.EndsWith(0)
		harness.Must(s.T, os.Remove(s.Path("a.db")))
		other := s.Shell("a.db")
		other.Must("create table t(a integer primary key, b); insert into t(b) values('anew');")
		return other
	}},
	{"the database is VACUUMed", func(s *harness.Site, shell *harness.Process,
		_ string) *harness.Process {
		shell.Must("delete from t where a % 2 = 0; vacuum;")
		return shell
	}},
	{"the page size is changed", func(s *harness.Site, shell *harness.Process,
		journal string) *harness.Process {
		shell.Want("pragma journal_mode=delete;", "delete")
		shell.Must("pragma page_size=1024; vacuum;")
		shell.Want("pragma journal_mode="+journal+";", journal)
		return shell
	}},
	{"the journal mode is switched back and forth",
		func(s *harness.Site, shell *harness.Process, journal string) *harness.Process {
			for _, mode := range []string{"wal", "delete", "truncate", "wal", "persist", "memory",
				"wal", "off", journal} {
				shell.Want("pragma journal_mode="+mode+";", mode)
				shell.Must("insert into t(b) values(randomblob(20000));")
			}
			return shell
		}},
	{"a super-journal of attached databases", func(s *harness.Site, shell *harness.Process,
		_ string) *harness.Process {
		shell.Must("attach '" + s.Path("b.db") +
			"' as b; create table if not exists b.t(a integer primary key, b);")
		for range 3 {
			shell.Must("begin; insert into main.t(b) values(randomblob(9000)); " +
				"insert into b.t(b) values(randomblob(9000)); commit;")
		}
		shell.Must("begin; insert into main.t(b) values(randomblob(300000)); " +
			"insert into b.t(b) values(randomblob(300000));")
		shell.Kill()
		return s.Shell("a.db")
	}},
	{"foreign writers in between", func(s *harness.Site, shell *harness.Process,
		_ string) *harness.Process {
		for range 3 {
			s.Stock("a.db", "insert into t(b) values(randomblob(50000))")
			shell.Must("insert into t(b) values('ours');")
			s.Stock("a.db", "update t set b = 'theirs' where a % 2 = 1",
				"insert into t(b) values('last')")
		}
		return shell
	}},
	{"the clock jumps", func(s *harness.Site, shell *harness.Process, _ string) *harness.Process {
		// as seen from the file
		for _, by := range []time.Duration{365 * 24 * time.Hour, -365 * 24 * time.Hour} {
			harness.Must(s.T, os.Chtimes(s.Path("a.db"), time.Now().Add(by), time.Now().Add(by)))
			shell.Must("insert into t(b) values(randomblob(20000));")
			shell.Flush()
			mirrors, err := filepath.Glob(s.Path("spool/*/mirror"))
			harness.Must(s.T, err)
			harness.Must(s.T, os.Chtimes(mirrors[0], time.Now().Add(by), time.Now().Add(by)))
			s.Stock("a.db", "insert into t(b) values('theirs')")
		}
		return shell
	}},
	{"two connections", func(s *harness.Site, shell *harness.Process, _ string) *harness.Process {
		shell.Must(".connection 1")
		shell.Must(".open " + s.Path("a.db"))
		for range 5 {
			shell.Must(".connection 0")
			shell.Must("insert into t(b) values(randomblob(20000));")
			shell.Must(".connection 1")
			shell.Must("update t set b = randomblob(20000) where a = 1;")
		}
		shell.Must(".connection close 0")
		return shell
	}},
	{"two processes", func(s *harness.Site, shell *harness.Process, _ string) *harness.Process {
		other := s.Shell("a.db")
		for range 5 {
			shell.Must("insert into t(b) values(randomblob(20000));")
			other.Must("update t set b = randomblob(20000) where a = 1;")
		}
		other.Flush()
		other.EndsWith(0)
		return shell
	}},
	{"forked children", func(s *harness.Site, shell *harness.Process, _ string) *harness.Process {
		shell.EndsWith(0)
		h := s.Host()
		h.Must(".open " + s.Path("a.db"))
		h.Must("insert into t(b) values('the parent')")
		h.Flush()
		h.Send(".fork")
		h.Must(".open " + s.Path("a.db"))
		h.Must("insert into t(b) values('the child')")
		h.Send(".leave 0")
		h.Want(".print back", "child: exit 0\nback")
		h.Flush()
		h.EndsWith(0)
		return s.Shell("a.db")
	}},
}

// TestCrashTable: after each row a flush sends what the database is, and goes on to.
func TestCrashTable(t *testing.T) {
	journals := []string{"delete", "truncate", "wal"}
	all, turn := crash.Chosen(), rand.IntN(len(journals))
	for i, row := range crashTable {
		for k, journal := range journals {
			if !all && (i+turn)%len(journals) != k {
				continue
			}
			t.Run(strings.ReplaceAll(row.name, " ", "_")+"/"+journal, func(t *testing.T) {
				s := harness.DirSite(t)
				shell := s.Written("a.db", journal)
				shell.Must("pragma cache_size=5; " +
					"insert into t(b) values('two'), ('three'), ('four');")
				shell.Flush()
				shell = row.do(s, shell, journal)
				shell.Must("insert into t(b) values('afterwards');")
				shell.Flush()
				shell.Must("update t set b = 'and on' where a = 1;")
				shell.EndsWith(0)
				s.Ctl("verify", "--read")
				recovers(s, words(row.name), s.Stock("a.db", sums)+"\n")
			})
		}
	}
}
