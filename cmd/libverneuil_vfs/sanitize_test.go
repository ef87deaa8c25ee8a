package main_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// goSQLite returns the directory of the module go-sqlite3, which has SQLite's source.
func goSQLite(t *testing.T) string {
	t.Helper()
	r := run(t, nil, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/mattn/go-sqlite3")
	if r.code != 0 {
		t.Fatalf("go list: %s", r.stderr)
	}
	return strings.TrimSpace(r.stdout)
}

// TestSanitizers: C is clean under ASan, UBSan and TSan, over the system's SQLite. make
// sanitize does more of it, and valgrind, over an SQLite that is instrumented too.
func TestSanitizers(t *testing.T) {
	library(t) // not without make test: it takes some seconds
	r := run(t, []string{"SHARED=1"}, filepath.Join("..", "..", "test", "sanitize", "run.sh"),
		t.TempDir(), goSQLite(t), "1", "40", "address", "thread")
	if r.code != 0 || strings.Count(r.stdout, ": done") != 2 {
		t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}
