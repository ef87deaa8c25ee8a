package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// goHost builds one of the Go programs in testdata/hosts.
func goHost(t *testing.T, name string) string {
	t.Helper()
	program := filepath.Join(filepath.Dir(library(t)), name)
	r := run(t, []string{"CGO_ENABLED=1"}, "go", "build", "-o", program, "../../testdata/hosts/"+name)
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
// is told why it has not, and both work.
func TestTwoLibraries(t *testing.T) {
	pythonCan(t, "import sqlite3; sqlite3.Connection.enable_load_extension")
	r := run(t, []string{"PATH=" + os.Getenv("PATH") + ":/sbin:/usr/sbin"}, "sh", "-c", "ldconfig -p | sed -n 's/.*libsqlite3.so.0 .*x86-64.*=> //p' | head -1")
	system := strings.TrimSpace(r.stdout)
	s := dirSite(t)
	b, err := os.ReadFile(system)
	must(t, err)
	s.write("copy.so", b)
	r = run(t, []string{s.env()}, python, inTestdata("two.py"), library(t), s.path("copy.so"), s.path("a.db"))
	if r.code != 0 || r.stderr != "" {
		t.Fatalf("python: exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	const told = ": error during initialization: verneuil is loaded into another SQLite library of this process; python's flush answers "
	switch strings.TrimSpace(r.stdout) {
	case "python" + told + "1":
		s.mustEqual("a.db.python")
	case "other" + told + "None":
		s.mustEqual("a.db.other")
	default:
		t.Errorf("python says %q", r.stdout)
	}
	for _, db := range []string{"a.db.python", "a.db.other"} {
		if ok := s.stock(db, "pragma integrity_check", "select count(*) from t"); ok != "ok\n20" {
			t.Errorf("%s: %s", db, ok)
		}
	}
}
