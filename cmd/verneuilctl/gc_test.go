package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestHostMisnamed: who asks for what a host has is told if there is nothing of it, and of which
// there is something.
func TestHostMisnamed(t *testing.T) {
	s := dirSite(t)
	s.ctl("sync", s.database("x.db", 10_000))
	s.ctl("gc", "--host", hostname)
	for _, args := range [][]string{{"gc", "--host", "nosuch"}, {"gc", "--host", "nosuch",
		"--delete"}} {
		r := ctl(t, append([]string{"-c", s.config()}, args...)...)
		if r.code != 0 || !strings.Contains(r.stderr, "no database is of that host") ||
			!strings.Contains(r.stderr, "host=nosuch there_are="+hostname) {
			t.Errorf("%s: exit code %d, %s", args, r.code, r.stderr)
		}
	}
	s.refuse(1, []string{"no database of host nosuch", "of " + hostname}, "ls", "--hostname",
		"nosuch")
	s.refuse(1, []string{"no database at /none.db found"}, "ls", "-s", "/none.db")
}

// TestGC: an old pack that no version names is found, and with --delete, deleted; what is young, or
// in use, stays. Nothing goes where a manifest is damaged.
func TestGC(t *testing.T) {
	s := dirSite(t)
	db, config := s.database("a.db", 3<<20), s.config()
	must(t, "-c", config, "sync", db)
	first := s.packs()
	if got := must(t, "-c", config, "gc", "--delete"); !strings.Contains(got, "deleted 0 packs") {
		t.Errorf("young packs: %s", got)
	}
	old := time.Now().Add(-72 * time.Hour)
	garbage := s.path("store/chunks/ab/ab" + strings.Repeat("0", 62))
	if err := errors.Join(os.MkdirAll(filepath.Dir(garbage), 0o700),
		os.WriteFile(garbage, make([]byte, 1234), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, name := range s.packs() {
		if err := os.Chtimes(name, old, old); err != nil {
			t.Fatal(err)
		}
	}
	hour := time.Now().Add(-time.Hour) // so that nobody need wait
	for _, name := range s.files("store/manifests") {
		if err := os.Chtimes(name, hour, hour); err != nil {
			t.Fatal(err)
		}
	}
	var dry struct {
		Databases int
		Deleted   bool
		Packs     struct{ Objects, Bytes int64 }
	}
	got := must(t, "-c", config, "gc", "--json")
	if err := json.Unmarshal([]byte(got), &dry); err != nil || dry.Databases != 1 ||
		dry.Deleted || dry.Packs.Objects != 1 || dry.Packs.Bytes != 1234 {
		t.Errorf("%s: %v", got, err)
	}
	before := len(first) + 1
	if after := len(s.packs()); after != before {
		t.Errorf("a dry run has left %d of %d packs", after, before)
	}
	must(t, "-c", config, "-l", "error", "gc", "--delete", "--host", "somebody-else")
	if _, err := os.Stat(garbage); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what nobody needs is there: %v", err)
	}
	before--
	if after := len(s.packs()); after != before {
		t.Errorf("%d of %d packs are left", after, before)
	}
	must(t, "-c", config, "restore", "-s", db, "-o", s.path("out.db"))
	if s.sum(s.path("out.db")) != s.sum(db) {
		t.Error("the restored database differs")
	}
	name := s.path("store/manifests/" + strings.TrimSpace(must(t, "-c", config, "manifest-name",
		db)))
	if err := os.WriteFile(name, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	refuse(t, 1, []string{"gc: ", "corrupt"}, "-c", config, "gc", "--delete")
	if after := len(s.packs()); after != before {
		t.Errorf("%d of %d packs are left where a manifest is damaged", after, before)
	}
	refuse(t, 2, []string{"unexpected argument"}, "-c", config, "gc", "x")
	refuse(t, 1, []string{"no configuration"}, "gc")
}
