package hosts_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"verneuil/test/e2e/harness"
)

// countSpools returns how many spools there are.
func countSpools(s *harness.Site) int {
	s.T.Helper()
	states, err := filepath.Glob(s.Path("spool/*/state"))
	if err != nil {
		s.T.Fatal(err)
	}
	return len(states)
}

// TestPatterns: make_default's patterns say which databases are replicated, but for those whose
// URI names our VFS.
func TestPatterns(t *testing.T) {
	s := harness.DirSite(t)
	harness.Must(t, os.MkdirAll(s.Path("cache/deep"), 0o700))
	s.Configure(map[string]any{"make_default": map[string]any{
		"include": []string{"*.db", s.Dir + "/named"},
		"exclude": []string{"tmp-*", s.Dir + "/cache/*"}}})
	shell := s.Shell("", "VERNEUIL_LOG=info")
	for name, reason := range map[string]string{
		"a.db": "", "named": "", "cache.db": "",
		"other": "no pattern of make_default's include", "tmp-1.db": "tmp-*",
		"cache/deep/x.db": s.Dir + "/cache/*", "A.DB": "include",
	} {
		shell.Must(".open " + s.Path(name))
		shell.Must("create table t(b);")
		if reason == "" {
			shell.Flush()
			s.MustEqual(name)
			continue
		}
		if why := notReplicated(shell)[s.Path(name)]; !strings.Contains(why, reason) {
			t.Errorf("%s: verneuil_status() says %q, want %q", name, why, reason)
		}
		shell.Refused()
		shell.Must(".open :memory:")
		if why, ok := notReplicated(shell)[s.Path(name)]; ok {
			t.Errorf("%s is closed, and verneuil_status() says why it is not replicated: %s", name,
				why)
		}
	}
	shell.Ask(".open 'file:" + s.Path("tmp-2.db") + "?vfs=verneuil'")
	shell.Must("create table t(b);")
	shell.Flush()
	if n := countSpools(s); n != 4 {
		t.Errorf("%d spools, want 4", n)
	}
	shell.End()
}

// TestCopies: what VACUUM INTO and the backup API make is not replicated, unless a pattern says so,
// it has been replicated before, or it is used as a database.
func TestCopies(t *testing.T) {
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			shell := s.Shell("a.db", "VERNEUIL_LOG=info")
			shell.Want("pragma journal_mode="+journal+";", journal)
			shell.Must("create table t(a integer primary key, b);")
			shell.Must("insert into t(b) values(randomblob(100000));")
			shell.Must("vacuum into '" + s.Path("vacuumed.db") + "';")
			shell.Must("/* of all */ VACUUM main INTO 'file:" + s.Path("uri.db") + "?mode=rwc';")
			shell.Must(".backup " + s.Path("backup.db"))
			shell.Must("vacuum;")
			shell.Flush()
			shell.Ask("pragma wal_checkpoint(truncate);")
			s.MustEqual("a.db")
			if n := countSpools(s); n != 1 {
				t.Errorf("%d spools, want one: %s", n, shell.Stderr())
			}
			for _, how := range []string{"VACUUM INTO", "the backup API"} {
				if !strings.Contains(shell.Stderr(),
					"level=INFO msg=\"not replicated: it is a copy made by "+how) {
					t.Errorf("it is not said of what %s makes: %s", how, shell.Stderr())
				}
			}
			for _, copied := range []string{"vacuumed.db", "uri.db", "backup.db"} {
				if ok := s.Stock(copied, "pragma integrity_check",
					"select count(*) from t"); ok != "ok\n1" {
					t.Errorf("%s says %q", copied, ok)
				}
			}
			// What is opened anew is a database.
			shell.Must(".open " + s.Path("vacuumed.db"))
			shell.Must("insert into t(b) values('x');")
			shell.Flush()
			shell.Ask("pragma wal_checkpoint(truncate);")
			s.MustEqual("vacuumed.db")
			// So is what is filled by the backup API, and then used.
			shell.Must(".open " + s.Path("restored.db"))
			shell.Must(".restore " + s.Path("backup.db"))
			if why := notReplicated(shell)[s.Path("restored.db")]; !strings.Contains(why,
				"the backup API") && journal == "delete" {
				t.Errorf("verneuil_status() does not say that it is a copy: %q", why)
			}
			shell.Must("insert into t(b) values('x');")
			shell.Flush()
			shell.Want("select count(*) from t;", "2")
			if why, ok := notReplicated(shell)[s.Path("restored.db")]; ok {
				t.Errorf("it is replicated, and verneuil_status() says why not: %s", why)
			}
			// A database that is overwritten, and a copy that was made again where there is a
			// spool.
			shell.Must(".restore " + s.Path("a.db"))
			shell.Flush()
			harness.Must(t, os.Remove(s.Path("vacuumed.db")))
			shell.Must("vacuum into '" + s.Path("vacuumed.db") + "';")
			shell.EndsWith(0)
			s.MustEqual("restored.db")
			s.MustEqual("vacuumed.db")
		})
	}
}

// TestCopiesIncluded: a pattern of include has copies replicated.
func TestCopiesIncluded(t *testing.T) {
	s := harness.DirSite(t)
	s.Configure(map[string]any{"make_default": map[string]any{"include": []string{"*"}}})
	shell := s.Shell("a.db")
	shell.Must("create table t(a integer primary key, b);")
	shell.Must("vacuum into '" + s.Path("vacuumed.db") + "';")
	shell.Must(".backup " + s.Path("backup.db"))
	shell.EndsWith(0)
	s.MustEqual("vacuumed.db")
	s.MustEqual("backup.db")
}

// TestEmptyDatabases: a database without a byte is recorded from its first transaction on, whoever
// makes it, in every mode, and a flush of it answers 1.
func TestEmptyDatabases(t *testing.T) {
	for _, locking := range []string{"normal", "exclusive"} {
		for _, journal := range append([]string{"memory", "off", "truncate"}, harness.Journals...) {
			t.Run(locking+"/"+journal, func(t *testing.T) {
				s := harness.DirSite(t)
				shell := s.Shell("a.db", "VERNEUIL_VALIDATE=1")
				shell.Ask("pragma locking_mode=" + locking + ";")
				shell.Ask("select * from sqlite_schema;")
				shell.Want("pragma journal_mode="+journal+";", journal)
				shell.Must("begin;")
				shell.Must("create table t(a integer primary key, b);")
				shell.Must("insert into t(b) values(randomblob(3000000));") // it is spilled
				if journal == "off" {
					shell.Must("commit;") // a rollback is not defined
					shell.Must("drop table t;")
				} else {
					shell.Must("rollback;")
				}
				shell.Must("create table t(a integer primary key, b);")
				shell.Flush()
				shell.EndsWith(0)
				s.MustEqual("a.db")
				first, second := s.Shell("b.db"), s.Shell("b.db")
				second.Flush() // of nothing
				first.Want("pragma journal_mode="+journal+";", journal)
				first.Must("create table t(b);")
				second.Must("insert into t values('x');")
				second.Flush()
				first.Flush()
				first.EndsWith(0)
				second.EndsWith(0)
				s.MustEqual("b.db")
			})
		}
	}
}

// TestSharedMemory: make_default splits no database in memory in two that connections share,
// whatever they have opened before the extension was loaded; what they attach afterwards is
// replicated.
func TestSharedMemory(t *testing.T) {
	harness.PythonCan(t, "import sqlite3; sqlite3.Connection.enable_load_extension")
	s := harness.DirSite(t)
	r := harness.Run(t, []string{s.Env()}, harness.Python, harness.InHosts("memory.py"),
		harness.Library(t), s.Path("a.db"))
	want := ""
	for _, name := range []string{"file::memory:?cache=shared", "file:x?mode=memory&cache=shared",
		"file:y?mode=memory&cache=shared&vfs=unix",
		"file:/z?vfs=memdb", "file:DATABASE?cache=shared"} {
		want += name + " 1\nattached 1\n"
	}
	if want += "temporary 0\nflush 1\n"; r.Stdout != want || r.Code != 0 {
		t.Fatalf("python: exit code %d, %s, want %s\n%s", r.Code, r.Stdout, want, r.Stderr)
	}
	s.MustEqual("a.db-later")
}
