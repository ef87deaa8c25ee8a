package hosts_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"verneuil/test/e2e/harness"
)

// Databases that were open when the extension was loaded.

// adopting starts a shell that has db open, without the extension.
func adopting(s *harness.Site, db string) *harness.Process {
	s.T.Helper()
	shell := harness.Start(s.T, []string{s.Env(), "VERNEUIL_VALIDATE=1"}, harness.SQLiteShell(s.T),
		"-batch", s.Path(db))
	shell.Ask(".timeout 10000")
	return shell
}

// adoptWork is a random workload on one table, between transactions of which anything may happen.
type adoptWork struct {
	r       *rand.Rand
	shell   *harness.Process
	journal string
}

func (w *adoptWork) step() {
	t := w.shell.T
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
		w.shell.Want("pragma journal_mode="+w.journal+";", w.journal)
	case 1:
		w.shell.Must("begin;" + some() + "rollback;")
	case 2:
		w.shell.Must("begin;" + some() + "savepoint s;" + some() + "rollback to s;" + some() +
			"commit;")
	case 3:
		w.shell.Must("vacuum;")
	case 4:
		w.shell.Ask("pragma wal_checkpoint(" + []string{"passive", "full", "restart",
			"truncate"}[w.r.IntN(4)] + ");")
	case 5:
		w.shell.Must(fmt.Sprintf("pragma cache_size=%d;", 5+n))
	default:
		w.shell.Must("begin;" + some() + "commit;")
	}
}

// mustEqual flushes, and compares the target with the database byte for byte. In WAL mode
// that is first brought into the file, but not if others have it open.
func (w *adoptWork) mustEqual(s *harness.Site, db string) {
	s.T.Helper()
	if w.journal == "wal" {
		w.shell.Want("pragma wal_checkpoint(truncate);", "0|0|0")
	}
	w.shell.Flush()
	s.MustEqual(db)
}

// validated checks that the mirror was the database after each commit.
func validated(s *harness.Process) {
	s.T.Helper()
	var status struct {
		Validation struct {
			Failures []string `json:"failures"`
		} `json:"validation"`
		NotReplicated []any `json:"not_replicated"`
	}
	s.Status(&status)
	if len(status.Validation.Failures) > 0 || len(status.NotReplicated) > 0 {
		s.T.Errorf("verneuil_status(): %+v", status)
	}
}

// generation is raised when something is met that was not recorded.
func generation(s *harness.Process) uint64 {
	s.T.Helper()
	var status struct {
		Databases []struct {
			Generation uint64 `json:"generation"`
		} `json:"databases"`
	}
	s.Status(&status)
	if len(status.Databases) != 1 {
		s.T.Fatalf("%d databases are replicated", len(status.Databases))
	}
	return status.Databases[0].Generation
}

// TestAdopted: the extension is loaded somewhere in a random workload, beside connections of
// other processes, with the extension and without it, that write before and after.
func TestAdopted(t *testing.T) {
	for _, journal := range harness.Journals {
		for seed := range uint64(harness.Number(t, "VERNEUIL_SEEDS", 4)) {
			t.Run(fmt.Sprint(journal, "/", seed), func(t *testing.T) {
				s := harness.DirSite(t)
				w := &adoptWork{r: rand.New(rand.NewPCG(seed, 7)), journal: journal,
					shell: adopting(s, "a.db")}
				w.shell.Want("pragma journal_mode="+journal+";", journal)
				w.shell.Must("create table t(a integer primary key, b);")
				if seed%2 == 1 { // no WAL is open, nothing in the cache
					w.shell.Must(".open " + s.Path("a.db"))
				}
				for range w.r.IntN(20) {
					w.step()
				}
				w.shell.Must(".load " + harness.Library(t))
				// to a WAL that was begun without us: seen, once
				w.shell.Must("insert into t(b) values('first');")
				w.shell.Flush()
				before := generation(w.shell)
				for range 4 {
					for range w.r.IntN(12) {
						w.step()
					}
					w.mustEqual(s, "a.db")
				}
				if g := generation(w.shell); g != before {
					t.Errorf("generation %d became %d: what the connection did was not seen",
						before, g)
				}
				for _, other := range []*harness.Process{s.Shell("a.db"), adopting(s, "a.db")} {
					for range 4 {
						other.Must("begin; insert into t(b) values(randomblob(5000)); commit;")
						w.shell.Must("begin; insert into t(b) values(randomblob(5000)); commit;")
					}
					other.EndsWith(0)
					w.mustEqual(s, "a.db")
				}
				w.shell.Want("pragma integrity_check;", "ok")
				validated(w.shell)
				w.shell.EndsWith(0)
				s.Ctl("flush", s.Path("spool"))
				s.MustEqual("a.db")
				if ok := s.Stock("a.db", "pragma integrity_check"); ok != "ok" {
					t.Error(ok)
				}
			})
		}
	}
}

// TestAdoptedExclusive: locking_mode=EXCLUSIVE after the adoption, in each journal mode and
// switching, where no lock of a wal-index tells of a WAL.
func TestAdoptedExclusive(t *testing.T) {
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			shell := adopting(s, "a.db")
			shell.Want("pragma journal_mode="+journal+";", journal)
			shell.Must("create table t(a integer primary key, b);")
			shell.Must(".open " + s.Path("a.db"))
			shell.Must(".load " + harness.Library(t))
			shell.Want("pragma locking_mode=exclusive;", "exclusive")
			for i, mode := range []string{journal, "wal", "delete", "wal", "persist"} {
				shell.Want("pragma journal_mode="+mode+";", mode)
				for j, sql := range []string{
					"insert into t(b) values(randomblob(20000));",
					"begin; insert into t(b) values(randomblob(20000)); rollback;",
					"insert into t(b) values(randomblob(20000));",
					"pragma wal_checkpoint(truncate);",
				} {
					shell.Ask(sql)
					if j == 0 { // it is sent without being asked for
						s.UntilRestored("a.db", "select count(*) from t",
							shell.Ask("select count(*) from t;"))
					}
					shell.Flush()
					out := filepath.Join(t.TempDir(), fmt.Sprint(i, "-", j))
					s.Ctl("restore", "-s", s.Path("a.db"), "-o", out)
					shell.Want("select count(*) from t;",
						trimmed(harness.Run(t, nil, harness.SQLiteShell(t), out,
							"select count(*) from t")))
				}
			}
			validated(shell)
			shell.EndsWith(0)
			s.Ctl("flush", s.Path("spool"))
			s.MustEqual("a.db")
		})
	}
}

func trimmed(r harness.Result) string { return strings.TrimSpace(r.Stdout) }

// TestAdoptedAttached: each database of the connection is adopted; those in memory and
// temporary ones are nobody's.
func TestAdoptedAttached(t *testing.T) {
	s := harness.DirSite(t)
	shell := adopting(s, "a.db")
	shell.Must("create table t(b); create temp table tt(b);")
	shell.Must("attach '" + s.Path("b.db") + "' as second; create table second.t(b);")
	shell.Must("attach ':memory:' as memory; create table memory.t(b);")
	shell.Must(".load " + harness.Library(t))
	shell.Must("begin; insert into t values(1); insert into second.t values(1); " +
		"insert into memory.t values(1); insert into tt values(1); commit;")
	shell.Flush()
	shell.Want("pragma second.verneuil_flush_replication_data;", "1")
	shell.Want("pragma memory.verneuil_flush_replication_data;", "")
	shell.Must("detach second;")
	shell.EndsWith(0)
	s.MustEqual("a.db")
	s.MustEqual("b.db")
}

// TestNotAdopted: where a database cannot be adopted, or is not meant to be, the log says it at
// load, verneuil_status() too, and a flush is an error or nobody's; the database works. Opened
// anew, it is replicated.
func TestNotAdopted(t *testing.T) {
	for name, c := range map[string]struct {
		open, before, after, reason string
	}{
		"in a transaction": {"a.db", "begin; insert into t values(2);", "commit;",
			"loaded in a transaction"},
		"reading": {"a.db", "begin; select count(*) from t;", "commit;",
			"loaded in a transaction"},
		"exclusive": {"a.db", "pragma locking_mode=exclusive; insert into t values(2);",
			"", "locking_mode=EXCLUSIVE"},
		"shared cache":        {"file:a.db?cache=shared", "", "", "shared cache"},
		"without locks":       {"file:a.db?nolock=1", "", "", "nolock=1"},
		"a VFS that is named": {"file:a.db?vfs=unix", "", "", "opened with the VFS unix"},
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.DirSite(t)
			s.Stock("a.db", "create table t(b); insert into t values(1)")
			shell := adopting(s, "b.db")
			shell.Must(".open " + strings.Replace(strings.Replace(c.open, "a.db", s.Path("a.db"),
				1), "file:/", "file:///", 1))
			shell.Ask(c.before)
			shell.Ask(".load " + harness.Library(t))
			if said := shell.Stderr(); strings.Count(said, c.reason) != 1 ||
				strings.Count(said, "\n") != 1 {
				t.Errorf("the log says %q", said)
			}
			if status := shell.Ask("select verneuil_status();"); !strings.Contains(status,
				c.reason) {
				t.Errorf("verneuil_status() says %s", status)
			}
			if answer := shell.Ask("pragma verneuil_flush_replication_data;"); answer != "" {
				t.Errorf("a flush answers %q", answer)
			}
			if said := shell.Stderr(); c.open != "file:a.db?vfs=unix" &&
				strings.Count(said, c.reason) != 2 {
				t.Errorf("a flush says nothing: %s", said)
			}
			shell.Ask(c.after)
			shell.Must("insert into t values(3);")
			shell.Must(".open " + s.Path("a.db"))
			shell.Must("insert into t values(4);")
			shell.Flush()
			shell.Want("pragma integrity_check;", "ok")
			if code := shell.End(); code > 1 { // 1: an error was shown
				t.Errorf("exit code %d: %s", code, shell.Stderr())
			}
			s.MustEqual("a.db")
		})
	}
}

// TestAdoptedAutomatically: under sqlite3_auto_extension the first connection was opened before
// the VFS was the default one.
func TestAdoptedAutomatically(t *testing.T) {
	s := harness.DirSite(t)
	h := harness.Start(t, []string{s.Env()}, harness.HostProgram(t), harness.Library(t), "auto")
	h.Must(".open " + s.Path("a.db"))
	h.Must("create table t(b)")
	h.Flush()
	h.EndsWith(0)
	s.MustEqual("a.db")
}

// TestAdoptedInPython: a framework opens a connection for each thread, and loads the extension on
// it, when others are at work. What the connections of before write goes by without us, and is
// found out.
func TestAdoptedInPython(t *testing.T) {
	harness.PythonCan(t, "import sqlite3; sqlite3.Connection.enable_load_extension")
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			r := harness.Run(t, []string{s.Env()}, harness.Python, harness.InHosts("adopt.py"),
				harness.Library(t), s.Path("a.db"), journal)
			var said struct {
				Rows, Want int
				Integrity  string
				Flushes    []string
			}
			if err := json.Unmarshal([]byte(r.Stdout), &said); err != nil || r.Code != 0 {
				t.Fatalf("exit code %d, %v: %s%s", r.Code, err, r.Stdout, r.Stderr)
			}
			if said.Rows != said.Want || said.Integrity != "ok" ||
				strings.Join(said.Flushes, "") != "1111" {
				t.Errorf("python says %+v: %s", said, r.Stderr)
			}
			s.Ctl("flush", s.Path("spool"))
			s.Stock("a.db", "pragma wal_checkpoint(truncate)")
			s.Ctl("flush", s.Path("spool"))
			s.MustEqual("a.db")
		})
	}
}
