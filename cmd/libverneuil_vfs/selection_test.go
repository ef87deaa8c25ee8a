package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// countSpools returns how many spools there are.
func (s *site) countSpools() int {
	s.t.Helper()
	states, err := filepath.Glob(s.path("spool/*/state"))
	if err != nil {
		s.t.Fatal(err)
	}
	return len(states)
}

// TestPatterns: make_default's patterns say which databases are replicated, but for those whose
// URI names our VFS.
func TestPatterns(t *testing.T) {
	s := dirSite(t)
	must(t, os.MkdirAll(s.path("cache/deep"), 0o700))
	s.configure(map[string]any{"make_default": map[string]any{
		"include": []string{"*.db", s.dir + "/named"}, "exclude": []string{"tmp-*", s.dir + "/cache/*"}}})
	shell := s.shell("", "VERNEUIL_LOG=info")
	for name, reason := range map[string]string{
		"a.db": "", "named": "", "cache.db": "",
		"other": "no pattern of make_default's include", "tmp-1.db": "tmp-*", "cache/deep/x.db": s.dir + "/cache/*", "A.DB": "include",
	} {
		shell.must(".open " + s.path(name))
		shell.must("create table t(b);")
		if reason == "" {
			shell.flush()
			s.mustEqual(name)
			continue
		}
		if why := shell.notReplicated()[s.path(name)]; !strings.Contains(why, reason) {
			t.Errorf("%s: verneuil_status() says %q, want %q", name, why, reason)
		}
		shell.refused()
		shell.must(".open :memory:")
		if why, ok := shell.notReplicated()[s.path(name)]; ok {
			t.Errorf("%s is closed, and verneuil_status() says why it is not replicated: %s", name, why)
		}
	}
	shell.ask(".open 'file:" + s.path("tmp-2.db") + "?vfs=verneuil'")
	shell.must("create table t(b);")
	shell.flush()
	if n := s.countSpools(); n != 4 {
		t.Errorf("%d spools, want 4", n)
	}
	shell.end()
}

// TestCopies: what VACUUM INTO and the backup API make is not replicated, unless a pattern says so,
// it has been replicated before, or it is used as a database.
func TestCopies(t *testing.T) {
	for _, journal := range journals {
		t.Run(journal, func(t *testing.T) {
			s := dirSite(t)
			shell := s.shell("a.db", "VERNEUIL_LOG=info")
			shell.want("pragma journal_mode="+journal+";", journal)
			shell.must("create table t(a integer primary key, b);")
			shell.must("insert into t(b) values(randomblob(100000));")
			shell.must("vacuum into '" + s.path("vacuumed.db") + "';")
			shell.must("/* of all */ VACUUM main INTO 'file:" + s.path("uri.db") + "?mode=rwc';")
			shell.must(".backup " + s.path("backup.db"))
			shell.must("vacuum;")
			shell.flush()
			shell.ask("pragma wal_checkpoint(truncate);")
			s.mustEqual("a.db")
			if n := s.countSpools(); n != 1 {
				t.Errorf("%d spools, want one: %s", n, shell.stderr())
			}
			for _, how := range []string{"VACUUM INTO", "the backup API"} {
				if !strings.Contains(shell.stderr(), "level=INFO msg=\"not replicated: it is a copy, made by "+how) {
					t.Errorf("it is not said of what %s makes: %s", how, shell.stderr())
				}
			}
			for _, copied := range []string{"vacuumed.db", "uri.db", "backup.db"} {
				if ok := s.stock(copied, "pragma integrity_check", "select count(*) from t"); ok != "ok\n1" {
					t.Errorf("%s says %q", copied, ok)
				}
			}
			// What is opened anew is a database.
			shell.must(".open " + s.path("vacuumed.db"))
			shell.must("insert into t(b) values('x');")
			shell.flush()
			shell.ask("pragma wal_checkpoint(truncate);")
			s.mustEqual("vacuumed.db")
			// So is what is filled by the backup API, and then used.
			shell.must(".open " + s.path("restored.db"))
			shell.must(".restore " + s.path("backup.db"))
			if why := shell.notReplicated()[s.path("restored.db")]; !strings.Contains(why, "the backup API") && journal == "delete" {
				t.Errorf("verneuil_status() does not say that it is a copy: %q", why)
			}
			shell.must("insert into t(b) values('x');")
			shell.flush()
			shell.want("select count(*) from t;", "2")
			if why, ok := shell.notReplicated()[s.path("restored.db")]; ok {
				t.Errorf("it is replicated, and verneuil_status() says why not: %s", why)
			}
			// A database that is overwritten, and a copy that was made again where there is a spool.
			shell.must(".restore " + s.path("a.db"))
			shell.flush()
			must(t, os.Remove(s.path("vacuumed.db")))
			shell.must("vacuum into '" + s.path("vacuumed.db") + "';")
			shell.endsWith(0)
			s.mustEqual("restored.db")
			s.mustEqual("vacuumed.db")
		})
	}
}

// TestCopiesIncluded: a pattern of include has copies replicated.
func TestCopiesIncluded(t *testing.T) {
	s := dirSite(t)
	s.configure(map[string]any{"make_default": map[string]any{"include": []string{"*"}}})
	shell := s.shell("a.db")
	shell.must("create table t(a integer primary key, b);")
	shell.must("vacuum into '" + s.path("vacuumed.db") + "';")
	shell.must(".backup " + s.path("backup.db"))
	shell.endsWith(0)
	s.mustEqual("vacuumed.db")
	s.mustEqual("backup.db")
}

// TestEmptyDatabases: a database without a byte is recorded from its first transaction on, whoever
// makes it, in every mode, and a flush of it answers 1.
func TestEmptyDatabases(t *testing.T) {
	for _, locking := range []string{"normal", "exclusive"} {
		for _, journal := range append([]string{"memory", "off", "truncate"}, journals...) {
			t.Run(locking+"/"+journal, func(t *testing.T) {
				s := dirSite(t)
				shell := s.shell("a.db", "VERNEUIL_VALIDATE=1")
				shell.ask("pragma locking_mode=" + locking + ";")
				shell.ask("select * from sqlite_schema;")
				shell.want("pragma journal_mode="+journal+";", journal)
				shell.must("begin;")
				shell.must("create table t(a integer primary key, b);")
				shell.must("insert into t(b) values(randomblob(3000000));") // it is spilled
				if journal == "off" {
					shell.must("commit;") // a rollback is not defined
					shell.must("drop table t;")
				} else {
					shell.must("rollback;")
				}
				shell.must("create table t(a integer primary key, b);")
				shell.flush()
				shell.endsWith(0)
				s.mustEqual("a.db")
				first, second := s.shell("b.db"), s.shell("b.db")
				second.flush() // of nothing
				first.want("pragma journal_mode="+journal+";", journal)
				first.must("create table t(b);")
				second.must("insert into t values('x');")
				second.flush()
				first.flush()
				first.endsWith(0)
				second.endsWith(0)
				s.mustEqual("b.db")
			})
		}
	}
}

// TestSharedMemory: make_default splits no database in memory in two that connections share, whatever
// they have opened before the extension was loaded; what they attach afterwards is replicated.
func TestSharedMemory(t *testing.T) {
	pythonCan(t, "import sqlite3; sqlite3.Connection.enable_load_extension")
	s := dirSite(t)
	r := run(t, []string{s.env()}, python, inHosts("memory.py"), library(t), s.path("a.db"))
	want := ""
	for _, name := range []string{"file::memory:?cache=shared", "file:x?mode=memory&cache=shared", "file:y?mode=memory&cache=shared&vfs=unix",
		"file:/z?vfs=memdb", "file:DATABASE?cache=shared"} {
		want += name + " 1\nattached 1\n"
	}
	if want += "temporary 0\nflush 1\n"; r.stdout != want || r.code != 0 {
		t.Fatalf("python: exit code %d, %s, want %s\n%s", r.code, r.stdout, want, r.stderr)
	}
	s.mustEqual("a.db-later")
}
