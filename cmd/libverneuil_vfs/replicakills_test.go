package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/spool/faultcall"
)

// TestKillsOfReplicas: a replica dies before whatever call it makes on its cache, its slot
// file or the target, when it opens, reads, or moves on. Another one that shares the
// cache, and the next one, see whole versions only, and what was left is removed.
func TestKillsOfReplicas(t *testing.T) {
	first, step := stride(t, 67)
	s := dirSite(t)
	s.targets = append(s.targets, map[string]any{"local": map[string]any{"directory": s.path("cache"), "num_shards": 1, "capacity": 5}})
	s.configure(map[string]any{"tempdir": s.path("tmp")})
	s.stock("a.db", "create table t(a integer primary key, b)",
		"with recursive n(i) as (select 1 union all select i+1 from n limit 60) insert into t(b) select randomblob(9000) from n")
	const query = "select count(*), sum(a), sum(length(b)), (select hex(substr(b, 1, 8)) from t where a = 30) from t;"
	var versions []string
	for _, dir := range []string{"old", "new"} {
		s.ctl("sync", s.path("a.db"))
		must(t, os.CopyFS(s.path(dir), os.DirFS(s.path("store/manifests"))))
		versions = append(versions, s.stock("a.db", query))
		s.stock("a.db", "update t set b = randomblob(9001) where a in (10, 30)")
	}
	is := func(version string) {
		r := run(t, nil, "cp", "-r", s.path(version)+"/.", s.path("store/manifests"))
		if r.code != 0 {
			t.Fatal(r.stderr)
		}
	}
	open := ".load " + library(t) + "\n.open file:verneuil://" + hostname + s.path("a.db") + "?vfs=verneuil_snapshot\n"
	move := ".shell cp -r " + s.path("new") + "/. " + s.path("store/manifests") + "\n.output /dev/null\npragma verneuil_snapshot_refresh = 2;\n.output stdout\n"
	within := func(c faultcall.Call, dir string) bool { return strings.HasPrefix(c.Path, s.path(dir)+"/") }
	kills := 0
	for at := first; ; at += step {
		must(t, os.RemoveAll(s.path("tmp")))
		must(t, os.Mkdir(s.path("tmp"), 0o700))
		if kills%2 == 0 {
			must(t, os.RemoveAll(s.path("cache")))
		}
		is("old")
		companion := s.calm()
		beside := make(chan result, 1)
		go func() {
			lines := strings.Split(open, "\n")
			beside <- run(t, []string{s.env()}, sqliteShell(t), "-batch", "-cmd", lines[0], "-cmd", lines[1], ":memory:", query)
		}()
		r := &trial{s: s, at: at, kill: true, ours: func(c faultcall.Call) bool {
			return within(c, "cache") || within(c, "tmp") || within(c, "store/chunks")
		}}
		got := r.run(open+query+"\n"+move+query+"\n", sqliteShell(t), "-batch")
		if died := got.code == -1; died != (r.struck != "") || !died && (got.code != 0 || got.stdout != strings.Join(versions, "\n")+"\n") {
			t.Fatalf("%v: exit code %d: %q, %s; want %q", r, got.code, got.stdout, got.stderr, versions)
		}
		if b := <-beside; b.code != 0 || b.stdout != versions[0]+"\n" && b.stdout != versions[1]+"\n" {
			t.Fatalf("%v: beside it: exit code %d: %q, %s; want one of %q", r, b.code, b.stdout, b.stderr, versions)
		}
		is("new")
		s.age("cache/*/.fill-*")
		if next := companion.run(open+query+"\n", sqliteShell(t), "-batch"); next.code != 0 || next.stdout != versions[1]+"\n" {
			t.Fatalf("%v: afterwards: exit code %d: %q, %s; want %q", r, next.code, next.stdout, next.stderr, versions[1])
		}
		s.checkCache(r)
		if r.struck == "" {
			t.Logf("%d kills, of %d calls", kills, r.calls)
			return
		}
		kills++
	}
}

// age makes files an hour older than now: what may be left is removed after a minute.
func (s *site) age(pattern string) {
	s.t.Helper()
	files, err := filepath.Glob(s.path(pattern))
	must(s.t, err)
	ago := time.Now().Add(-time.Hour)
	for _, name := range files {
		must(s.t, os.Chtimes(name, ago, ago))
	}
}

// checkCache: the cache holds whole chunks, about as many as it may, and nothing else; and the
// directory of slot files nothing.
func (s *site) checkCache(what *trial) {
	s.t.Helper()
	files, err := filepath.Glob(s.path("cache/*/*"))
	must(s.t, err)
	if len(files) == 0 || len(files) > 5+4 {
		s.t.Fatalf("%v: in the cache: %q", what, files)
	}
	for _, name := range files {
		id, err := chunkstore.ParseID(filepath.Base(name))
		must(s.t, err)
		body, err := os.ReadFile(name)
		must(s.t, err)
		if _, err := chunkstore.DecodeObject(id, body); err != nil {
			s.t.Fatalf("%v: %s in the cache: %v", what, name, err)
		}
	}
	slots, err := os.ReadDir(s.path("tmp"))
	must(s.t, err)
	if len(slots) > 0 {
		s.t.Fatalf("%v: left: %v", what, slots)
	}
}
