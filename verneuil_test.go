package verneuil

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
)

func TestThroughVerneuil(t *testing.T) {
	for dsn, want := range map[string]string{
		"app.db":                            "file:app.db?vfs=verneuil",
		"/a/100%#1.db":                      "file:/a/100%25%231.db?vfs=verneuil",
		"app.db?_busy_timeout=5":            "file:app.db?_busy_timeout=5&vfs=verneuil",
		"file:a%20b.db":                     "file:a%20b.db?vfs=verneuil",
		"file:a.db?mode=ro":                 "file:a.db?mode=ro&vfs=verneuil",
		"file:a.db?_fk=1&vfs=unix-excl":     "", // as it is
		"file:/m/a.db?vfs=verneuil_remote":  "",
		"file:verneuil://h/a?vfs=verneuil_": "",
		":memory:":                          "",
		"file::memory:?cache=shared":        "",
		"file:x?mode=memory":                "",
		"":                                  "",
	} {
		if want == "" {
			want = dsn
		}
		if got := throughVerneuil(dsn); got != want {
			t.Errorf("%s: %s, want %s", dsn, got, want)
		}
	}
}

// TestNotReplicated: without a configuration nothing is opened in silence. (test/docs has the
// example replicate.)
func TestNotReplicated(t *testing.T) {
	t.Setenv("VERNEUIL_CONFIG", "")
	path := filepath.Join(t.TempDir(), "a.db")
	db, err := sql.Open("verneuil", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, err = db.Exec("create table t(x)")
	if err == nil || !strings.Contains(err.Error(), "VERNEUIL_CONFIG is not set") ||
		!strings.Contains(err.Error(), path) {
		t.Errorf("it opens, or does not say why not: %v", err)
	}
	memory, err := sql.Open("verneuil", ":memory:")
	if err == nil {
		_, err = memory.Exec("create table t(x)")
		defer memory.Close()
	}
	if err != nil {
		t.Error(err)
	}
}
