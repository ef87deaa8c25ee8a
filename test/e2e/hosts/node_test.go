package hosts_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"verneuil/test/e2e/harness"
)

// TestNode: worker threads with better-sqlite3, over the SQLite that it brings. make test
// builds it where there is a Node with headers (VERNEUIL_NODE).
func TestNode(t *testing.T) {
	lib, modules := harness.Library(t), os.Getenv("VERNEUIL_NODE")
	if _, err := os.Stat(filepath.Join(modules, "built")); err != nil {
		t.Skip("no better-sqlite3 was built (make node says why)")
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal(err)
	}
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			r := harness.Run(t, []string{s.Env(), "NODE_PATH=" +
				filepath.Join(modules, "node_modules")}, node, harness.InHosts("workers.js"), lib,
				s.Path("a.db"), journal)
			if want := "60 rows, flush 1\n"; r.Stdout != want || r.Stderr != "" || r.Code != 3 {
				t.Fatalf("node: exit code %d, %q, want 3, %q\n%s", r.Code, r.Stdout, want, r.Stderr)
			}
			s.Stock("a.db", "pragma wal_checkpoint(truncate)")
			s.MustEqual("a.db")
			if ok := s.Stock("a.db", "pragma integrity_check",
				"select count(distinct b) from t"); ok != "ok\n61" {
				t.Errorf("the database says %q", ok)
			}
		})
	}
}
