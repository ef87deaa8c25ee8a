package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// goHost builds one of the Go programs in test/hosts.
func goHost(t *testing.T, name string) string {
	t.Helper()
	program := filepath.Join(filepath.Dir(library(t)), name)
	r := run(t, []string{"CGO_ENABLED=1"}, "go", "build", "-o", program, "../../test/hosts/"+name)
	if r.code != 0 {
		t.Fatalf("go build %s: %s", name, r.stderr)
	}
	return program
}

// TestGoPrograms: a Go program that loads the extension, and has two Go runtimes then, and
// one that links the packages. Both use mattn/go-sqlite3.
func TestGoPrograms(t *testing.T) {
	lib := library(t)
	for name, argv := range map[string][]string{"loads": {goHost(t, "goload"), lib}, "links": {goHost(t, "golink")}} {
		for _, journal := range journals {
			t.Run(name+"/"+journal, func(t *testing.T) {
				s := dirSite(t)
				r := run(t, []string{s.env()}, append(argv, s.path("a.db"), journal)...)
				if want := "100 rows, flush 1\n"; r.stdout != want || r.stderr != "" || r.code != 4 {
					t.Fatalf("exit code %d, %q, want 4, %q\n%s", r.code, r.stdout, want, r.stderr)
				}
				s.stock("a.db", "pragma wal_checkpoint(truncate)")
				s.mustEqual("a.db")
			})
		}
	}
}

// TestTwoLibraries: of two SQLite libraries in a process one has the extension; the other
// is told why it has not, and both work. Each may have a copy of the extension for itself:
// there are two replicators in the process then.
func TestTwoLibraries(t *testing.T) {
	pythonCan(t, "import sqlite3; sqlite3.Connection.enable_load_extension")
	r := run(t, []string{"PATH=" + os.Getenv("PATH") + ":/sbin:/usr/sbin"}, "sh", "-c", "ldconfig -p | sed -n 's/.*libsqlite3.so.0 .*x86-64.*=> //p' | head -1")
	for _, copies := range []int{1, 2} {
		t.Run(fmt.Sprint(copies), func(t *testing.T) {
			s := dirSite(t)
			s.copyOf(strings.TrimSpace(r.stdout), "copy.so")
			argv := []string{python, inHosts("two.py"), library(t), s.path("copy.so"), s.path("a.db")}
			if copies == 2 {
				argv = append(argv, s.copyOf(library(t), "second/libverneuil_vfs.so"))
			}
			r := run(t, []string{s.env()}, argv...)
			if r.code != 0 || r.stderr != "" {
				t.Fatalf("python: exit code %d: %s%s", r.code, r.stdout, r.stderr)
			}
			const told = ": error during initialization: verneuil is loaded into another SQLite library of this process; python's flush answers "
			switch said := strings.TrimSpace(r.stdout); {
			case copies == 2 && said == "python: nothing; python's flush answers 1", copies == 2 && said == "other: nothing; python's flush answers 1":
				s.mustEqual("a.db.python")
				s.mustEqual("a.db.other")
			case copies == 1 && said == "python"+told+"1":
				s.mustEqual("a.db.python")
			case copies == 1 && said == "other"+told+"None":
				s.mustEqual("a.db.other")
			default:
				t.Errorf("python says %q", said)
			}
			for _, db := range []string{"a.db.python", "a.db.other"} {
				if ok := s.stock(db, "pragma integrity_check", "select count(*) from t"); ok != "ok\n20" {
					t.Errorf("%s: %s", db, ok)
				}
			}
		})
	}
}

// copyOf copies a library to the site, and returns the copy's path.
func (s *site) copyOf(path, name string) string {
	s.t.Helper()
	must(s.t, os.MkdirAll(filepath.Dir(s.path(name)), 0o700))
	b, err := os.ReadFile(path)
	must(s.t, err)
	s.write(name, b)
	return s.path(name)
}

// TestAutoExtension: a host may give the entry point to sqlite3_auto_extension, and each
// of its connections opens, the first, too.
func TestAutoExtension(t *testing.T) {
	s := dirSite(t)
	h := start(t, []string{s.env()}, hostProgram(t), library(t), "auto")
	h.must(".open :memory:") // makes the VFS the default
	h.must(".open " + s.path("a.db"))
	h.must("create table t(b)")
	h.flush()
	h.want("select count(*) from pragma_function_list where name = 'verneuil_status'", "1")
	h.endsWith(0)
	s.mustEqual("a.db")
}

// TestRegisteredAgain: SQLite is shut down and initialized, which makes its own VFS the
// default, or the host takes ours out: what has the extension loaded again replicates.
func TestRegisteredAgain(t *testing.T) {
	s := dirSite(t)
	h := s.host()
	for i, line := range []string{".restart", ".unregister verneuil", ".unregister verneuil_snapshot", ".unregister unix", ".restart"} {
		h.must(".open " + s.path("a.db"))
		h.must(fmt.Sprintf("create table t%d(b)", i))
		h.flush()
		h.must(line)
		if i > 0 { // the open connection is none the worse for it
			h.ask(fmt.Sprintf("insert into t%d values(randomblob(10000))", i))
		}
		h.must(".load 1")
	}
	h.must(".open " + s.path("a.db"))
	h.must("create table last(b)")
	h.flush()
	h.endsWith(0)
	s.mustEqual("a.db")
}

// TestTwoCopies: another file with the extension is refused by a SQLite that has one.
func TestTwoCopies(t *testing.T) {
	s := dirSite(t)
	second := s.copyOf(library(t), "second/libverneuil_vfs.so")
	h := s.host()
	h.must(".open " + s.path("a.db"))
	h.must("create table t(b)")
	h.want(".copy "+second, "error during initialization: a VFS called verneuil is there already, of another copy of this library")
	h.must("insert into t values(randomblob(100000))")
	h.flush()
	h.endsWith(0)
	s.mustEqual("a.db")
}
