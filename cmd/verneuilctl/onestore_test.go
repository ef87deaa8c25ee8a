package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"verneuil/chunkstore/keyring"
)

// TestOneOfStore: commands that take a path take that of one database in a store, or say why not.
func TestOneOfStore(t *testing.T) {
	s := dirSite(t).withStores()
	for _, name := range []string{"a.db", "b c.db"} {
		s.ctl("create", "file:///other/"+strings.Replace(name, " ", "%20", 1))
	}
	one := line(t, s.ctl("ls", "--json", "file:///other/b%20c.db"))
	if one["path"] != "/b c.db" {
		t.Errorf("ls of one database: %v", one)
	}
	if name := strings.TrimSpace(s.ctl("manifest-name", "file:///other/b%20c.db")); name !=
		one["manifest"] {
		t.Errorf("manifest-name says %q; ls, %q", name, one["manifest"])
	}
	s.refuse(1, []string{"no database", "other", "/none.db"}, "ls", "file:///other/none.db")
	for _, command := range []string{"status", "run"} {
		s.refuse(1, []string{"it lives in a store"}, command, "file:///other/a.db")
	}
	s.configure(map[string]any{"replication_targets": []any{}, "stores": map[string]any{
		"other": map[string]any{"dir": map[string]any{"path": s.path("other")}}}})
	s.ctl("ls", "file:///other/a.db")
}

// TestDash: a file called - is stdout.
func TestDash(t *testing.T) {
	s := dirSite(t).withStores()
	db := s.database("d.db", 20000)
	s.ctl("import", db, "file:///other/d.db")
	t.Chdir(s.dir)
	want := s.ctl("restore", "file:///other/d.db")
	for _, args := range [][]string{{"restore", "file:///other/d.db", "--out", "-"},
		{"export", "file:///other/d.db", "-"}} {
		if got := s.ctl(args...); got != want || got == "" {
			t.Errorf("%q: %d bytes, want %d", args, len(got), len(want))
		}
	}
	s.refuse(2, []string{"--json"}, "export", "file:///other/d.db", "-", "--json")
	if s.ctl("manifest", "file:///other/d.db", "-o", "-") == "" {
		t.Error("manifest prints nothing")
	}
	s.ctl("sync", db)
	for _, args := range [][]string{{"replica", db, "-"}, {"replica", db, "-o", "-"}} {
		if got := s.ctl(args...); !strings.Contains(got, "verneuil://"+hostname+db) {
			t.Errorf("%q prints %q", args, got)
		}
	}
	s.refuse(2, []string{"--json"}, "replica", db, "-", "--json")
	if _, err := os.Lstat(s.path("-")); err == nil {
		t.Error("there is a file called -")
	}
}

// TestKeyDropAsks: a key that something is still sealed with is dropped only if that is said.
func TestKeyDropAsks(t *testing.T) {
	s := dirSite(t)
	file := filepath.Join(s.dir, "keys")
	must(t, "key", "new", file)
	s.configure(map[string]any{"replication_targets": []any{}, "stores": map[string]any{
		"e": map[string]any{"dir": map[string]any{"path": s.path("e")}, "key_file": file},
	}})
	older := func() string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := keyring.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return keys.Infos()[0].Name
	}
	s.ctl("create", "file:///e/a.db")
	must(t, "key", "rotate", file)
	drop := []string{"key", "drop", file, older()}
	s.refuse(1, []string{"directory " + s.path("e"), "verneuilctl gc", "--force"}, drop...)
	t.Setenv("VERNEUIL_CONFIG", "")
	refuse(t, 1, []string{"no configuration", "--config", "--force"}, drop...)
	refuse(t, 1, []string{"nothing in the configuration", "--force"}, append([]string{"-c",
		`{"stores": {"p": {"dir": {"path": "` + s.path("plain") + `"}}}}`}, drop...)...)
	s.ctl("export", "file:///e/a.db", s.path("a.db")) // it is as it was
	must(t, append(drop, "--force")...)
	s.refuse(1, []string{"the key does not fit"}, "export", "file:///e/a.db", s.path("b.db"))
}
