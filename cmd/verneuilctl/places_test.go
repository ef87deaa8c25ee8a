package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPlaces: processes with other working directories find one spool and one store, by a
// configuration file in the home directory whose directories are relative, or begin with "~/";
// and what would be a directory of each process's own is refused, and made by none.
func TestPlaces(t *testing.T) {
	s := emptySite(t)
	t.Setenv("HOME", s.dir)
	config := map[string]any{"hostname": hostname, "make_default": true,
		"replication_spooling_dir": "~/deep/spool",
		"replication_targets":      []any{map[string]any{"dir": map[string]any{"path": "store"}}}}
	write := func() {
		t.Helper()
		b, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		s.write("verneuil.json", b)
	}
	write()
	db := s.path("d.db")
	env := []string{"VERNEUIL_CONFIG= @~/verneuil.json\n"}
	for _, dir := range []string{"/", s.dir, t.TempDir()} {
		t.Chdir(dir)
		sqlite(t, env, "-cmd", ".load "+library(t), "-cmd", ".open "+db, ":memory:",
			"create table if not exists t(x); insert into t values(1); "+
				"pragma verneuil_flush_replication_data;")
		out := filepath.Join(t.TempDir(), "out.db")
		must(t, "-c", "@~/verneuil.json", "restore", "-s", db, "-o", out)
		if s.sum(out) != s.sum(db) {
			t.Errorf("from %s: the restored file differs", dir)
		}
		if _, err := os.Stat("store"); err == nil && dir != s.dir {
			t.Errorf("%s has a store of its own", dir)
		}
	}
	if spools, err := filepath.Glob(s.path("deep/spool/*/state")); len(spools) != 1 || err != nil {
		t.Errorf("spools: %q, %v", spools, err)
	}

	config["replication_spooling_dir"] = "$HOME/spool"
	write()
	dir := t.TempDir()
	t.Chdir(dir)
	refuse(t, 1, []string{"replication_spooling_dir", "variables are not expanded", "~/"}, "-c",
		"@~/verneuil.json", "sync", db)
	inline, err := os.ReadFile(s.path("verneuil.json"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(inline), "$HOME/spool", "~/spool", 1)
	refuse(t, 1, []string{"replication_targets[0].dir.path", "relative", "begin it with / or ~/"},
		"-c", text, "sync", db)
	for _, c := range []string{"@~/verneuil.json", text} {
		status := program(t, []string{"VERNEUIL_CONFIG=" + c}, sqliteShell(t), "-cmd",
			".load "+library(t), "-cmd", ".open "+db, ":memory:",
			"insert into t values(2); select verneuil_status();")
		if status.code != 0 || !strings.Contains(status.stdout, "VERNEUIL_CONFIG") {
			t.Errorf("%s: exit code %d, %s%s", c, status.code, status.stdout, status.stderr)
		}
	}
	if entries, err := os.ReadDir(dir); len(entries) > 0 || err != nil {
		t.Errorf("refused directories were made: %v, %v", entries, err)
	}
}
