package main_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// goSQLite returns the directory of the module go-sqlite3, which has SQLite's source.
func GoSQLite(t *testing.T) string {
	t.Helper()
	r := Run(t, nil, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/mattn/go-sqlite3")
	if r.Code != 0 {
		t.Fatalf("go list: %s", r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

// TestSanitizers: C is clean under ASan, UBSan and TSan, over the system's SQLite. make
// sanitize does more of it, and valgrind, over an SQLite that is instrumented too.
func TestSanitizers(t *testing.T) {
	Library(t) // not without make test: it takes some seconds
	r := Run(t, []string{"SHARED=1"}, filepath.Join("..", "..", "test", "sanitize", "run.sh"),
		t.TempDir(), GoSQLite(t), "1", "40", "address", "thread")
	if r.Code != 0 || strings.Count(r.Stdout, ": done") != 2 {
		t.Errorf("exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
}
