package hosts_test

import (
	"encoding/json"
	"testing"

	"verneuil/test/e2e/harness"
	"verneuil/vfs"
)

// TestWALResetBugInStatus: verneuil_status() says which SQLite its host has, and whether that has
// the WAL-reset bug: the sqlite3 shell's, which has it where it is of Debian 12, and the one that a
// Go program brings, which is later.
func TestWALResetBugInStatus(t *testing.T) {
	s := harness.DirSite(t)
	status := func(text string) (version, problem string) {
		t.Helper()
		var all struct {
			SQLite struct{ Version, Problem string }
		}
		if err := json.Unmarshal([]byte(text), &all); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		return all.SQLite.Version, all.SQLite.Problem
	}
	shell := s.Shell("a.db")
	shell.Must("create table t(a);")
	version, problem := status(shell.Ask("select verneuil_status();"))
	if version != shell.Ask("select sqlite_version();") || problem != vfs.WALResetBug(version) {
		t.Errorf("SQLite %s: %q, want %q", version, problem, vfs.WALResetBug(version))
	}
	shell.EndsWith(0)
	r := harness.Run(t, []string{s.Env()}, goHost(t, "goload"), harness.Library(t), s.Path("b.db"),
		"status")
	if r.Code != 0 {
		t.Fatalf("exit code %d: %s", r.Code, r.Stderr)
	}
	later, none := status(r.Stdout)
	if later == version || none != "" {
		t.Errorf("SQLite %s: %q", later, none)
	}
}
