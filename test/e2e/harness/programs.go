package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Python is Debian's, since many others are built without extensions to SQLite.
const Python = "/usr/bin/python3"

// Built returns what a variable that make test sets names. Without it the test is skipped; where
// it names what is not there, the test fails.
func Built(t *testing.T, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		t.Skipf("%s is not set; make test sets it", variable)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s: %v (run make first)", variable, err)
	}
	return path
}

// Library returns the path of the extension that make has built.
func Library(t *testing.T) string { t.Helper(); return Built(t, "VERNEUIL_LIB") }

// SQLiteShell returns the path of the sqlite3 shell, which make deps installs.
func SQLiteShell(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Fatal("no sqlite3 shell (Debian, Ubuntu: apt-get install sqlite3)")
	}
	return path
}

// InHosts returns the path of a file in test/hosts.
func InHosts(name string) string { return filepath.Join("..", "..", "hosts", name) }

// HostProgram returns the path of the compiled test/hosts/host.c, which uses SQLite's shared
// library. It is compiled once per package of tests, to a place beside the extension.
func HostProgram(t *testing.T) string {
	t.Helper()
	hostOnce.Do(func() {
		dir := filepath.Dir(Library(t))
		made, err := os.MkdirTemp(dir, "host-")
		Must(t, err)
		defer os.RemoveAll(made)
		r := Run(t, nil, "gcc", "-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror",
			"-I"+GoSQLite(t), "-o", filepath.Join(made, "host"), InHosts("host.c"),
			"-l:libsqlite3.so.0", "-lpthread", "-ldl")
		if r.Code != 0 {
			t.Fatalf("compile host.c: %s%s", r.Stdout, r.Stderr)
		}
		program := filepath.Join(dir, "host") // other packages may run it at this moment
		Must(t, os.Rename(filepath.Join(made, "host"), program))
		hostPath = program
	})
	if hostPath == "" {
		t.Fatal("host.c was not compiled")
	}
	return hostPath
}

var (
	hostOnce sync.Once
	hostPath string
)

// PythonCan skips the test where Python fails at statement.
func PythonCan(t *testing.T, statement string) {
	t.Helper()
	if r := Run(t, nil, "sh", "-c", Python+` -c "$1"`, "sh", statement); r.Code != 0 {
		t.Skipf("%s: %s: %s", Python, statement, strings.TrimSpace(r.Stderr))
	}
}

// GoSQLite returns the directory of the module go-sqlite3, which has SQLite's source.
func GoSQLite(t *testing.T) string {
	t.Helper()
	r := Run(t, nil, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/mattn/go-sqlite3")
	if r.Code != 0 {
		t.Fatalf("go list: %s", r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

// JDBC returns where Debian has the driver of SQLite for Java. It fails if that is not there, or no
// compiler of Java.
func JDBC() (jar string, err error) {
	jar = "/usr/share/java/sqlite-jdbc.jar"
	if _, err = exec.LookPath("javac"); err == nil {
		_, err = os.Stat(jar)
	}
	return jar, err
}
