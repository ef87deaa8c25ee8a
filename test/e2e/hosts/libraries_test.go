package hosts_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"verneuil/test/e2e/harness"
)

// goHost builds one of the Go programs in test/hosts.
func goHost(t *testing.T, name string) string {
	t.Helper()
	program := filepath.Join(filepath.Dir(harness.Library(t)), name)
	r := harness.Run(t, []string{"CGO_ENABLED=1"}, "go", "build", "-o", program,
		"../../hosts/"+name)
	if r.Code != 0 {
		t.Fatalf("go build %s: %s", name, r.Stderr)
	}
	return program
}

// TestGoPrograms: a Go program that loads the extension, and has two Go runtimes then, and
// one that links the packages. Both use mattn/go-sqlite3.
func TestGoPrograms(t *testing.T) {
	lib := harness.Library(t)
	for name, argv := range map[string][]string{"loads": {goHost(t, "goload"), lib},
		"links": {goHost(t, "golink")}} {
		for _, journal := range harness.Journals {
			t.Run(name+"/"+journal, func(t *testing.T) {
				s := harness.DirSite(t)
				r := harness.Run(t, []string{s.Env()}, append(argv, s.Path("a.db"), journal)...)
				if want := "100 rows, flush 1\n"; r.Stdout != want || r.Stderr != "" ||
					r.Code != 4 {
					t.Fatalf("exit code %d, %q, want 4, %q\n%s", r.Code, r.Stdout, want, r.Stderr)
				}
				s.Stock("a.db", "pragma wal_checkpoint(truncate)")
				s.MustEqual("a.db")
			})
		}
	}
}

// TestTwoLibraries: of two SQLite libraries in a process one has the extension; the other
// is told why it has not, and both work. Each may have a copy of the extension for itself:
// there are two replicators in the process then.
func TestTwoLibraries(t *testing.T) {
	harness.PythonCan(t, "import sqlite3; sqlite3.Connection.enable_load_extension")
	r := harness.Run(t, []string{"PATH=" + os.Getenv("PATH") + ":/sbin:/usr/sbin"}, "sh", "-c",
		"ldconfig -p | sed -n 's/.*libsqlite3.so.0 .*x86-64.*=> //p' | head -1")
	for _, copies := range []int{1, 2} {
		t.Run(fmt.Sprint(copies), func(t *testing.T) {
			s := harness.DirSite(t)
			copyOf(s, strings.TrimSpace(r.Stdout), "copy.so")
			argv := []string{harness.Python, harness.InHosts("two.py"), harness.Library(t),
				s.Path("copy.so"), s.Path("a.db")}
			if copies == 2 {
				argv = append(argv, copyOf(s, harness.Library(t), "second/libverneuil_vfs.so"))
			}
			r := harness.Run(t, []string{s.Env()}, argv...)
			if r.Code != 0 || r.Stderr != "" {
				t.Fatalf("python: exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
			}
			const told = ": error during initialization: verneuil is already loaded into " +
				"another SQLite library of this process; python's flush answers "
			switch said := strings.TrimSpace(r.Stdout); {
			case copies == 2 && said == "python: nothing; python's flush answers 1", copies == 2 &&
				said == "other: nothing; python's flush answers 1":
				s.MustEqual("a.db.python")
				s.MustEqual("a.db.other")
			case copies == 1 && said == "python"+told+"1":
				s.MustEqual("a.db.python")
			case copies == 1 && said == "other"+told+"None":
				s.MustEqual("a.db.other")
			default:
				t.Errorf("python says %q", said)
			}
			for _, db := range []string{"a.db.python", "a.db.other"} {
				if ok := s.Stock(db, "pragma integrity_check",
					"select count(*) from t"); ok != "ok\n20" {
					t.Errorf("%s: %s", db, ok)
				}
			}
		})
	}
}

// copyOf copies a library to the site, and returns the copy's path.
func copyOf(s *harness.Site, path, name string) string {
	s.T.Helper()
	harness.Must(s.T, os.MkdirAll(filepath.Dir(s.Path(name)), 0o700))
	b, err := os.ReadFile(path)
	harness.Must(s.T, err)
	s.Write(name, b)
	return s.Path(name)
}

// TestAutoExtension: a host may give the entry point to sqlite3_auto_extension, and each
// of its connections opens, the first, too.
func TestAutoExtension(t *testing.T) {
	s := harness.DirSite(t)
	h := harness.Start(t, []string{s.Env()}, harness.HostProgram(t), harness.Library(t), "auto")
	h.Must(".open :memory:") // makes the VFS the default
	h.Must(".open " + s.Path("a.db"))
	h.Must("create table t(b)")
	h.Flush()
	h.Want("select count(*) from pragma_function_list where name = 'verneuil_status'", "1")
	h.EndsWith(0)
	s.MustEqual("a.db")
}

// TestRegisteredAgain: SQLite is shut down and initialized, which makes its own VFS the
// default, or the host takes ours out: what has the extension loaded again replicates.
func TestRegisteredAgain(t *testing.T) {
	s := harness.DirSite(t)
	h := s.Host()
	for i, line := range []string{".restart", ".unregister verneuil",
		".unregister verneuil_snapshot", ".unregister unix", ".restart"} {
		h.Must(".open " + s.Path("a.db"))
		h.Must(fmt.Sprintf("create table t%d(b)", i))
		h.Flush()
		h.Must(line)
		if i > 0 { // the open connection is none the worse for it
			h.Ask(fmt.Sprintf("insert into t%d values(randomblob(10000))", i))
		}
		h.Must(".load 1")
	}
	h.Must(".open " + s.Path("a.db"))
	h.Must("create table last(b)")
	h.Flush()
	h.EndsWith(0)
	s.MustEqual("a.db")
}

// TestTwoCopies: another file with the extension is refused by a SQLite that has one.
func TestTwoCopies(t *testing.T) {
	s := harness.DirSite(t)
	second := copyOf(s, harness.Library(t), "second/libverneuil_vfs.so")
	h := s.Host()
	h.Must(".open " + s.Path("a.db"))
	h.Must("create table t(b)")
	h.Want(".copy "+second,
		"error during initialization: another copy of this library has registered "+
			"a VFS called verneuil already")
	h.Must("insert into t values(randomblob(100000))")
	h.Flush()
	h.EndsWith(0)
	s.MustEqual("a.db")
}
