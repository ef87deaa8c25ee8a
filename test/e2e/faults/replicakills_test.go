package faults_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/spool/faultcall"
	"verneuil/test/e2e/harness"
)

// TestKillsOfReplicas: a replica dies before whatever call it makes on its cache, its slot
// file or the target, when it opens, reads, or moves on. Another one that shares the
// cache, and the next one, see whole versions only, and what was left is removed.
func TestKillsOfReplicas(t *testing.T) {
	first, step := harness.Stride(t, 67)
	s := harness.DirSite(t)
	s.Targets = append(s.Targets,
		map[string]any{"local": map[string]any{"directory": s.Path("cache"), "num_shards": 1,
			"capacity": 5}})
	s.Configure(map[string]any{"tempdir": s.Path("tmp")})
	s.Stock("a.db", "create table t(a integer primary key, b)",
		"with recursive n(i) as (select 1 union all select i+1 from n limit 60) insert into t(b) "+
			"select randomblob(9000) from n")
	const query = "select count(*), sum(a), sum(length(b)), (select hex(substr(b, 1, " +
		"8)) from t where a = 30) from t;"
	versions := twoVersions(s, query)
	is := func(version string) {
		for _, dir := range twoDirs {
			harness.Must(t, os.RemoveAll(s.Path("store/"+dir)))
			harness.Must(t, os.CopyFS(s.Path("store/"+dir), os.DirFS(s.Path(version+"/"+dir))))
		}
	}
	open := ".load " + harness.Library(t) + "\n.open file:verneuil://" + harness.Hostname +
		s.Path("a.db") + "?vfs=verneuil_snapshot\n"
	move := ".shell cp -r " + s.Path("new") + "/. " + s.Path("store") +
		"\n.output /dev/null\npragma verneuil_snapshot_refresh = 2;\n.output stdout\n"
	within := func(c faultcall.Call, dir string) bool {
		return strings.HasPrefix(c.Path, s.Path(dir)+"/")
	}
	for at, kills := first, 0; ; at += step {
		harness.Must(t, os.RemoveAll(s.Path("tmp")))
		harness.Must(t, os.Mkdir(s.Path("tmp"), 0o700))
		if kills%2 == 0 {
			harness.Must(t, os.RemoveAll(s.Path("cache")))
		}
		is("old")
		companion := calm(s)
		beside := make(chan harness.Result, 1)
		go func() {
			lines := strings.Split(open, "\n")
			beside <- harness.Run(t, []string{s.Env()}, harness.SQLiteShell(t), "-batch", "-cmd",
				lines[0], "-cmd", lines[1], ":memory:", query)
		}()
		r := &trial{s: s, at: at, kill: true, ours: func(c faultcall.Call) bool {
			return within(c, "cache") || within(c, "tmp") || within(c, "store/chunks") &&
				!within(c, "store/chunks/logs") // where cp writes, too
		}}
		got := r.run(open+query+"\n"+move+query+"\n", harness.SQLiteShell(t), "-batch")
		if died := got.Code == -1; died != (r.struck != "") ||
			!died && (got.Code != 0 || got.Stdout != strings.Join(versions, "\n")+"\n") {
			t.Fatalf("%v: exit code %d: %q, %s; want %q", r, got.Code, got.Stdout, got.Stderr,
				versions)
		}
		if b := <-beside; b.Code != 0 || b.Stdout != versions[0]+"\n" &&
			b.Stdout != versions[1]+"\n" {
			t.Fatalf("%v: beside it: exit code %d: %q, %s; want one of %q", r, b.Code, b.Stdout,
				b.Stderr, versions)
		}
		is("new")
		age(s, "cache/*/.fill-*")
		if next := companion.run(open+query+"\n", harness.SQLiteShell(t),
			"-batch"); next.Code != 0 || next.Stdout != versions[1]+"\n" {
			t.Fatalf("%v: afterwards: exit code %d: %q, %s; want %q", r, next.Code, next.Stdout,
				next.Stderr, versions[1])
		}
		checkCache(s, r)
		if r.struck == "" {
			t.Logf("%d kills, of %d calls", kills, r.calls)
			return
		}
		kills++
	}
}

// twoDirs are where the target has manifests and records.
var twoDirs = []string{"manifests", "chunks/logs"}

// twoVersions puts two versions of a.db into the target, whose manifests and records are in the
// directories old and new, and returns what each of them answers.
func twoVersions(s *harness.Site, query string) (answers []string) {
	s.T.Helper()
	for _, dir := range []string{"old", "new"} {
		s.Ctl("sync", s.Path("a.db"))
		for _, part := range twoDirs {
			harness.Must(s.T, os.MkdirAll(s.Path("store/"+part), 0o700)) // none is there at first
			harness.Must(s.T, os.CopyFS(s.Path(dir+"/"+part), os.DirFS(s.Path("store/"+part))))
		}
		answers = append(answers, s.Stock("a.db", query))
		s.Stock("a.db", "update t set b = randomblob(9001) where a in (10, 30)")
	}
	return answers
}

// age makes files an hour older than now: what may be left is removed after a minute.
func age(s *harness.Site, pattern string) {
	s.T.Helper()
	files, err := filepath.Glob(s.Path(pattern))
	harness.Must(s.T, err)
	ago := time.Now().Add(-time.Hour)
	for _, name := range files {
		harness.Must(s.T, os.Chtimes(name, ago, ago))
	}
}

// checkCache: the cache holds whole chunks, about as many as it may, and nothing else; and the
// directory of slot files nothing.
func checkCache(s *harness.Site, what *trial) {
	s.T.Helper()
	files, err := filepath.Glob(s.Path("cache/*/*"))
	harness.Must(s.T, err)
	if len(files) == 0 || len(files) > 5+4 {
		s.T.Fatalf("%v: in the cache: %q", what, files)
	}
	for _, name := range files {
		id, err := chunkstore.ParseID(filepath.Base(name))
		harness.Must(s.T, err)
		body, err := os.ReadFile(name)
		harness.Must(s.T, err)
		if _, err := chunkstore.OpenObject(chunkstore.Plain{}, nil, id, body); err != nil {
			s.T.Fatalf("%v: %s in the cache: %v", what, name, err)
		}
	}
	slots, err := os.ReadDir(s.Path("tmp"))
	harness.Must(s.T, err)
	if len(slots) > 0 {
		s.T.Fatalf("%v: left: %v", what, slots)
	}
}
