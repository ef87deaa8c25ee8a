package main_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// unlucky is a row of the crash table: what happens to a database, or to who uses it.
// shell has it open. The row may return another shell, which goes on.
type unlucky struct {
	name string
	do   func(s *site, shell *session, journal string) *session
}

// crashTable is DESIGN's, section 5, row by row. Its other rows, which are of each call, are
// TestKills and its like (the application, the replicator, both), TestFaults (ENOSPC, EIO,
// EACCES at every call), TestSpoolDeleted and TestSpoolDamaged.
var crashTable = []unlucky{
	{"the application is killed", func(s *site, shell *session, _ string) *session {
		shell.must("begin; insert into t(b) values(randomblob(300000));")
		shell.kill()
		return s.shell("a.db")
	}},
	{"the replicator is killed", func(s *site, shell *session, _ string) *session {
		other := s.shell("a.db")
		other.must("insert into t(b) values('one');")
		shell.kill()
		other.must("insert into t(b) values('two');")
		return other
	}},
	{"both are killed", func(s *site, shell *session, _ string) *session {
		other := s.shell("a.db")
		other.must("begin; insert into t(b) values(randomblob(300000));")
		shell.kill()
		other.kill()
		return s.shell("a.db")
	}},
	{"the spool is deleted", func(s *site, shell *session, _ string) *session {
		s.remove("spool")
		return shell
	}},
	{"the database is replaced", func(s *site, shell *session, journal string) *session {
		s.stock("other.db", "pragma journal_mode="+journal, "create table t(a integer primary key, b)", "insert into t(b) values('other')")
		shell.endsWith(0)
		must(s.t, os.Rename(s.path("other.db"), s.path("a.db")))
		return s.shell("a.db")
	}},
	{"the database is replaced while it is open", func(s *site, shell *session, _ string) *session {
		s.stock("other.db", "create table t(a integer primary key, b)", "insert into t(b) values('other')")
		for _, suffix := range []string{"-wal", "-shm", "-journal"} {
			os.Remove(s.path("a.db" + suffix))
		}
		must(s.t, os.Rename(s.path("other.db"), s.path("a.db")))
		other := s.shell("a.db")
		other.must("insert into t(b) values('of the new one');")
		shell.ask(".open :memory:")
		shell.end()
		return other
	}},
	{"the database is renamed", func(s *site, shell *session, _ string) *session {
		shell.endsWith(0)
		must(s.t, os.Rename(s.path("a.db"), s.path("b.db")))
		other := s.shell("b.db")
		other.must("insert into t(b) values('renamed');")
		other.flush()
		other.endsWith(0)
		s.mustEqual("b.db")
		must(s.t, os.Rename(s.path("b.db"), s.path("a.db")))
		return s.shell("a.db")
	}},
	{"the database is unlinked", func(s *site, shell *session, _ string) *session {
		shell.endsWith(0)
		must(s.t, os.Remove(s.path("a.db")))
		other := s.shell("a.db")
		other.must("create table t(a integer primary key, b); insert into t(b) values('anew');")
		return other
	}},
	{"the database is VACUUMed", func(s *site, shell *session, _ string) *session {
		shell.must("delete from t where a % 2 = 0; vacuum;")
		return shell
	}},
	{"the page size is changed", func(s *site, shell *session, journal string) *session {
		shell.want("pragma journal_mode=delete;", "delete")
		shell.must("pragma page_size=1024; vacuum;")
		shell.want("pragma journal_mode="+journal+";", journal)
		return shell
	}},
	{"the journal mode is switched back and forth", func(s *site, shell *session, journal string) *session {
		for _, mode := range []string{"wal", "delete", "truncate", "wal", "persist", "memory", "wal", "off", journal} {
			shell.want("pragma journal_mode="+mode+";", mode)
			shell.must("insert into t(b) values(randomblob(20000));")
		}
		return shell
	}},
	{"a super-journal of attached databases", func(s *site, shell *session, _ string) *session {
		shell.must("attach '" + s.path("b.db") + "' as b; create table if not exists b.t(a integer primary key, b);")
		for range 3 {
			shell.must("begin; insert into main.t(b) values(randomblob(9000)); insert into b.t(b) values(randomblob(9000)); commit;")
		}
		shell.must("begin; insert into main.t(b) values(randomblob(300000)); insert into b.t(b) values(randomblob(300000));")
		shell.kill()
		return s.shell("a.db")
	}},
	{"foreign writers in between", func(s *site, shell *session, _ string) *session {
		for range 3 {
			s.stock("a.db", "insert into t(b) values(randomblob(50000))")
			shell.must("insert into t(b) values('ours');")
			s.stock("a.db", "update t set b = 'theirs' where a % 2 = 1", "insert into t(b) values('last')")
		}
		return shell
	}},
	{"the clock jumps", func(s *site, shell *session, _ string) *session {
		for _, by := range []time.Duration{365 * 24 * time.Hour, -365 * 24 * time.Hour} { // as seen from the file
			must(s.t, os.Chtimes(s.path("a.db"), time.Now().Add(by), time.Now().Add(by)))
			shell.must("insert into t(b) values(randomblob(20000));")
			shell.flush()
			mirrors, err := filepath.Glob(s.path("spool/*/mirror"))
			must(s.t, err)
			must(s.t, os.Chtimes(mirrors[0], time.Now().Add(by), time.Now().Add(by)))
			s.stock("a.db", "insert into t(b) values('theirs')")
		}
		return shell
	}},
	{"two connections", func(s *site, shell *session, _ string) *session {
		shell.must(".connection 1")
		shell.must(".open " + s.path("a.db"))
		for range 5 {
			shell.must(".connection 0")
			shell.must("insert into t(b) values(randomblob(20000));")
			shell.must(".connection 1")
			shell.must("update t set b = randomblob(20000) where a = 1;")
		}
		shell.must(".connection close 0")
		return shell
	}},
	{"two processes", func(s *site, shell *session, _ string) *session {
		other := s.shell("a.db")
		for range 5 {
			shell.must("insert into t(b) values(randomblob(20000));")
			other.must("update t set b = randomblob(20000) where a = 1;")
		}
		other.flush()
		other.endsWith(0)
		return shell
	}},
	{"forked children", func(s *site, shell *session, _ string) *session {
		shell.endsWith(0)
		h := s.host()
		h.must(".open " + s.path("a.db"))
		h.must("insert into t(b) values('the parent')")
		h.flush()
		h.send(".fork")
		h.must(".open " + s.path("a.db"))
		h.must("insert into t(b) values('the child')")
		h.send(".leave 0")
		h.want(".print back", "child: exit 0\nback")
		h.flush()
		h.endsWith(0)
		return s.shell("a.db")
	}},
}

// TestCrashTable: after each row a flush sends what the database is, and goes on to.
func TestCrashTable(t *testing.T) {
	journals := []string{"delete", "truncate", "wal"}
	all, turn := os.Getenv("VERNEUIL_FAULT_STRIDE") != "", rand.IntN(len(journals))
	for i, row := range crashTable {
		for k, journal := range journals {
			if !all && (i+turn)%len(journals) != k {
				continue
			}
			t.Run(strings.ReplaceAll(row.name, " ", "_")+"/"+journal, func(t *testing.T) {
				s := dirSite(t)
				shell := s.written("a.db", journal)
				shell.must("pragma cache_size=5; insert into t(b) values('two'), ('three'), ('four');")
				shell.flush()
				shell = row.do(s, shell, journal)
				shell.must("insert into t(b) values('afterwards');")
				shell.flush()
				shell.must("update t set b = 'and on' where a = 1;")
				shell.endsWith(0)
				s.ctl("verify", "--read")
				s.recovers(words(row.name), s.stock("a.db", sums)+"\n")
			})
		}
	}
}
