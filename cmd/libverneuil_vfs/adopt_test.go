package main_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
)

// Databases that were open when the extension was loaded.

// adopting starts a shell that has db open, without the extension.
func (s *site) adopting(db string) *session {
	s.t.Helper()
	shell := start(s.t, []string{s.env(), "VERNEUIL_VALIDATE=1"}, sqliteShell(s.t), "-batch", s.path(db))
	shell.ask(".timeout 10000")
	return shell
}

// adoptWork is a random workload on one table, between transactions of which anything may happen.
type adoptWork struct {
	r       *rand.Rand
	shell   *session
	journal string
}

func (w *adoptWork) step() {
	t := w.shell.t
	t.Helper()
	n := w.r.IntN(1000)
	write := []string{
		fmt.Sprintf("insert into t(b) values(randomblob(%d));", n*20),
		fmt.Sprintf("update t set b = randomblob(%d) where a %% 7 = %d;", n, n%7),
		fmt.Sprintf("delete from t where a %% 11 = %d;", n%11),
		"insert into t(b) select randomblob(300) from t limit 200;",
		fmt.Sprintf("create table if not exists u%d(x); drop table if exists u%d;", n%5, (n+1)%5),
	}
	some := func() (sql string) {
		for range 1 + w.r.IntN(3) {
			sql += write[w.r.IntN(len(write))]
		}
		return sql
	}
	switch w.r.IntN(10) {
	case 0:
		w.journal = []string{"delete", "wal", "truncate", "persist", "memory", "wal"}[w.r.IntN(6)]
		w.shell.want("pragma journal_mode="+w.journal+";", w.journal)
	case 1:
		w.shell.must("begin;" + some() + "rollback;")
	case 2:
		w.shell.must("begin;" + some() + "savepoint s;" + some() + "rollback to s;" + some() + "commit;")
	case 3:
		w.shell.must("vacuum;")
	case 4:
		w.shell.ask("pragma wal_checkpoint(" + []string{"passive", "full", "restart", "truncate"}[w.r.IntN(4)] + ");")
	case 5:
		w.shell.must(fmt.Sprintf("pragma cache_size=%d;", 5+n))
	default:
		w.shell.must("begin;" + some() + "commit;")
	}
}

// mustEqual flushes, and compares the target with the database byte for byte. In WAL mode
// that is first brought into the file, but not if others have it open.
func (w *adoptWork) mustEqual(s *site, db string) {
	s.t.Helper()
	if w.journal == "wal" {
		w.shell.want("pragma wal_checkpoint(truncate);", "0|0|0")
	}
	w.shell.flush()
	s.mustEqual(db)
}

// validated checks that the mirror was the database after each commit.
func (s *session) validated() {
	s.t.Helper()
	var status struct {
		Validation struct {
			Failures []string `json:"failures"`
		} `json:"validation"`
		NotReplicated []any `json:"not_replicated"`
	}
	s.status(&status)
	if len(status.Validation.Failures) > 0 || len(status.NotReplicated) > 0 {
		s.t.Errorf("verneuil_status(): %+v", status)
	}
}

// generation is raised when something is met that was not recorded.
func (s *session) generation() uint64 {
	s.t.Helper()
	var status struct {
		Databases []struct {
			Generation uint64 `json:"generation"`
		} `json:"databases"`
	}
	s.status(&status)
	if len(status.Databases) != 1 {
		s.t.Fatalf("%d databases are replicated", len(status.Databases))
	}
	return status.Databases[0].Generation
}

// TestAdopted: the extension is loaded somewhere in a random workload, beside connections of
// other processes, with the extension and without it, that write before and after.
func TestAdopted(t *testing.T) {
	for _, journal := range journals {
		for seed := range uint64(number(t, "VERNEUIL_SEEDS", 4)) {
			t.Run(fmt.Sprint(journal, "/", seed), func(t *testing.T) {
				s := dirSite(t)
				w := &adoptWork{r: rand.New(rand.NewPCG(seed, 7)), journal: journal, shell: s.adopting("a.db")}
				w.shell.want("pragma journal_mode="+journal+";", journal)
				w.shell.must("create table t(a integer primary key, b);")
				if seed%2 == 1 { // no WAL is open, nothing in the cache
					w.shell.must(".open " + s.path("a.db"))
				}
				for range w.r.IntN(20) {
					w.step()
				}
				w.shell.must(".load " + library(t))
				w.shell.must("insert into t(b) values('first');") // to a WAL that was begun without us: seen, once
				w.shell.flush()
				generation := w.shell.generation()
				for range 4 {
					for range w.r.IntN(12) {
						w.step()
					}
					w.mustEqual(s, "a.db")
				}
				if g := w.shell.generation(); g != generation {
					t.Errorf("generation %d became %d: what the connection did was not seen", generation, g)
				}
				for _, other := range []*session{s.shell("a.db"), s.adopting("a.db")} {
					for range 4 {
						other.must("begin; insert into t(b) values(randomblob(5000)); commit;")
						w.shell.must("begin; insert into t(b) values(randomblob(5000)); commit;")
					}
					other.endsWith(0)
					w.mustEqual(s, "a.db")
				}
				w.shell.want("pragma integrity_check;", "ok")
				w.shell.validated()
				w.shell.endsWith(0)
				s.ctl("flush", s.path("spool"))
				s.mustEqual("a.db")
				if ok := s.stock("a.db", "pragma integrity_check"); ok != "ok" {
					t.Error(ok)
				}
			})
		}
	}
}

// TestAdoptedExclusive: locking_mode=EXCLUSIVE after the adoption, in each journal mode and
// switching, where no lock of a wal-index tells of a WAL.
func TestAdoptedExclusive(t *testing.T) {
	for _, journal := range journals {
		t.Run(journal, func(t *testing.T) {
			s := dirSite(t)
			shell := s.adopting("a.db")
			shell.want("pragma journal_mode="+journal+";", journal)
			shell.must("create table t(a integer primary key, b);")
			shell.must(".open " + s.path("a.db"))
			shell.must(".load " + library(t))
			shell.want("pragma locking_mode=exclusive;", "exclusive")
			for i, mode := range []string{journal, "wal", "delete", "wal", "persist"} {
				shell.want("pragma journal_mode="+mode+";", mode)
				for j, sql := range []string{
					"insert into t(b) values(randomblob(20000));",
					"begin; insert into t(b) values(randomblob(20000)); rollback;",
					"insert into t(b) values(randomblob(20000));",
					"pragma wal_checkpoint(truncate);",
				} {
					shell.ask(sql)
					if j == 0 { // it is sent without being asked for
						s.untilRestored("a.db", "select count(*) from t", shell.ask("select count(*) from t;"))
					}
					shell.flush()
					out := filepath.Join(t.TempDir(), fmt.Sprint(i, "-", j))
					s.ctl("restore", "-s", s.path("a.db"), "-o", out)
					shell.want("select count(*) from t;", run(t, nil, sqliteShell(t), out, "select count(*) from t").trimmed())
				}
			}
			shell.validated()
			shell.endsWith(0)
			s.ctl("flush", s.path("spool"))
			s.mustEqual("a.db")
		})
	}
}

func (r result) trimmed() string { return strings.TrimSpace(r.stdout) }

// TestAdoptedAttached: each database of the connection is adopted; those in memory and
// temporary ones are nobody's.
func TestAdoptedAttached(t *testing.T) {
	s := dirSite(t)
	shell := s.adopting("a.db")
	shell.must("create table t(b); create temp table tt(b);")
	shell.must("attach '" + s.path("b.db") + "' as second; create table second.t(b);")
	shell.must("attach ':memory:' as memory; create table memory.t(b);")
	shell.must(".load " + library(t))
	shell.must("begin; insert into t values(1); insert into second.t values(1); insert into memory.t values(1); insert into tt values(1); commit;")
	shell.flush()
	shell.want("pragma second.verneuil_flush_replication_data;", "1")
	shell.want("pragma memory.verneuil_flush_replication_data;", "")
	shell.must("detach second;")
	shell.endsWith(0)
	s.mustEqual("a.db")
	s.mustEqual("b.db")
}

// TestNotAdopted: where a database cannot be adopted, or is not meant to be, the log says it at
// load, verneuil_status() too, and a flush is an error or nobody's; the database works. Opened
// anew, it is replicated.
func TestNotAdopted(t *testing.T) {
	for name, c := range map[string]struct {
		open, before, after, reason string
	}{
		"in a transaction":    {"a.db", "begin; insert into t values(2);", "commit;", "loaded in a transaction"},
		"reading":             {"a.db", "begin; select count(*) from t;", "commit;", "loaded in a transaction"},
		"exclusive":           {"a.db", "pragma locking_mode=exclusive; insert into t values(2);", "", "locking_mode=EXCLUSIVE"},
		"shared cache":        {"file:a.db?cache=shared", "", "", "shared cache"},
		"without locks":       {"file:a.db?nolock=1", "", "", "nolock=1"},
		"a VFS that is named": {"file:a.db?vfs=unix", "", "", "opened with the VFS unix"},
	} {
		t.Run(name, func(t *testing.T) {
			s := dirSite(t)
			s.stock("a.db", "create table t(b); insert into t values(1)")
			shell := s.adopting("b.db")
			shell.must(".open " + strings.Replace(strings.Replace(c.open, "a.db", s.path("a.db"), 1), "file:/", "file:///", 1))
			shell.ask(c.before)
			shell.ask(".load " + library(t))
			if said := shell.stderr(); strings.Count(said, c.reason) != 1 || strings.Count(said, "\n") != 1 {
				t.Errorf("the log says %q", said)
			}
			if status := shell.ask("select verneuil_status();"); !strings.Contains(status, c.reason) {
				t.Errorf("verneuil_status() says %s", status)
			}
			if answer := shell.ask("pragma verneuil_flush_replication_data;"); answer != "" {
				t.Errorf("a flush answers %q", answer)
			}
			if said := shell.stderr(); c.open != "file:a.db?vfs=unix" && strings.Count(said, c.reason) != 2 {
				t.Errorf("a flush says nothing: %s", said)
			}
			shell.ask(c.after)
			shell.must("insert into t values(3);")
			shell.must(".open " + s.path("a.db"))
			shell.must("insert into t values(4);")
			shell.flush()
			shell.want("pragma integrity_check;", "ok")
			if code := shell.end(); code > 1 { // 1: an error was shown
				t.Errorf("exit code %d: %s", code, shell.stderr())
			}
			s.mustEqual("a.db")
		})
	}
}

// TestAdoptedAutomatically: under sqlite3_auto_extension the first connection was opened before
// the VFS was the default one.
func TestAdoptedAutomatically(t *testing.T) {
	s := dirSite(t)
	h := start(t, []string{s.env()}, hostProgram(t), library(t), "auto")
	h.must(".open " + s.path("a.db"))
	h.must("create table t(b)")
	h.flush()
	h.endsWith(0)
	s.mustEqual("a.db")
}

// TestAdoptedInPython: a framework opens a connection for each thread, and loads the extension on it, when
// others are at work. What the connections of before write goes by without us, and is found out.
func TestAdoptedInPython(t *testing.T) {
	pythonCan(t, "import sqlite3; sqlite3.Connection.enable_load_extension")
	for _, journal := range journals {
		t.Run(journal, func(t *testing.T) {
			s := dirSite(t)
			r := run(t, []string{s.env()}, python, inHosts("adopt.py"), library(t), s.path("a.db"), journal)
			var said struct {
				Rows, Want int
				Integrity  string
				Flushes    []string
			}
			if err := json.Unmarshal([]byte(r.stdout), &said); err != nil || r.code != 0 {
				t.Fatalf("exit code %d, %v: %s%s", r.code, err, r.stdout, r.stderr)
			}
			if said.Rows != said.Want || said.Integrity != "ok" || strings.Join(said.Flushes, "") != "1111" {
				t.Errorf("python says %+v: %s", said, r.stderr)
			}
			s.ctl("flush", s.path("spool"))
			s.stock("a.db", "pragma wal_checkpoint(truncate)")
			s.ctl("flush", s.path("spool"))
			s.mustEqual("a.db")
		})
	}
}
