package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestNode: worker threads with better-sqlite3, over the SQLite that it brings. make test
// builds it where there is a Node with headers (VERNEUIL_NODE).
func TestNode(t *testing.T) {
	lib, modules := library(t), os.Getenv("VERNEUIL_NODE")
	if _, err := os.Stat(filepath.Join(modules, "built")); err != nil {
		t.Skip("no better-sqlite3 was built (make node says why)")
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal(err)
	}
	for _, journal := range journals {
		t.Run(journal, func(t *testing.T) {
			s := dirSite(t)
			r := run(t, []string{s.env(), "NODE_PATH=" + filepath.Join(modules, "node_modules")}, node, inHosts("workers.js"), lib, s.path("a.db"), journal)
			if want := "60 rows, flush 1\n"; r.stdout != want || r.stderr != "" || r.code != 3 {
				t.Fatalf("node: exit code %d, %q, want 3, %q\n%s", r.code, r.stdout, want, r.stderr)
			}
			s.stock("a.db", "pragma wal_checkpoint(truncate)")
			s.mustEqual("a.db")
			if ok := s.stock("a.db", "pragma integrity_check", "select count(distinct b) from t"); ok != "ok\n61" {
				t.Errorf("the database says %q", ok)
			}
		})
	}
}
