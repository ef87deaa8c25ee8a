package hosts_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"verneuil/chunkstore/miniotest"
	"verneuil/test/e2e/harness"
)

// remoteSite has a store, "hosts", for databases that live in it, and returns the URI of one.
func remoteSite(t *testing.T, kind string) (s *harness.Site, uri string) {
	t.Helper()
	store := map[string]any{}
	var endpoint string
	if kind == "minio" {
		endpoint = miniotest.Start(t)
	}
	s = harness.EmptySite(t)
	store["dir"] = map[string]any{"path": s.Path("store")}
	if kind == "minio" {
		store = map[string]any{"s3": map[string]any{
			"region": "minio", "endpoint": endpoint, "create_buckets_on_demand": true,
			"chunk_bucket": "chunks", "manifest_bucket": "manifests",
		}}
	}
	s.Targets = []any{}
	s.Configure(map[string]any{"make_default": false, "tempdir": s.Dir,
		"stores": map[string]any{"hosts": store}})
	return s, "file:///hosts/a.db?vfs=verneuil_remote"
}

// remoteRows asks a new process how many rows there are.
func remoteRows(s *harness.Site, uri string) string {
	s.T.Helper()
	shell := s.Shell("")
	shell.Must(".open " + uri)
	if ok := shell.Ask("pragma integrity_check;"); ok != "ok" {
		s.T.Errorf("integrity_check says %q", ok)
	}
	rows := shell.Ask("select count(*) from t;")
	shell.EndsWith(0)
	return rows
}

// TestRemotePython: threads and processes write one database in a store, and none of them is told
// in vain that it is locked. A child that was forked is told why it cannot use it.
func TestRemotePython(t *testing.T) {
	harness.PythonCan(t, "import sqlite3; sqlite3.Connection.enable_load_extension")
	for _, way := range []string{"threads", "spawn", "forkserver", "fork"} {
		t.Run(way, func(t *testing.T) {
			s, uri := remoteSite(t, "dir")
			r := harness.Run(t, []string{s.Env()}, harness.Python, harness.InHosts("remote.py"),
				harness.Library(t), uri, way)
			rows, said := "100", ""
			if way == "fork" {
				rows = "2"
				said = "this process was forked from one that had opened databases"
			}
			if r.Stdout != rows+" rows, 0 times locked\n" || r.Code != 0 ||
				said == "" && r.Stderr != "" || !strings.Contains(r.Stderr, said) {
				t.Fatalf("exit code %d, %q\n%s", r.Code, r.Stdout, r.Stderr)
			}
			if got := remoteRows(s, uri); got != rows {
				t.Errorf("%s rows, want %s", got, rows)
			}
		})
	}
}

// TestRemoteGo: goroutines of a program that loads the extension, and of one that links it.
func TestRemoteGo(t *testing.T) {
	lib := harness.Library(t)
	for name, argv := range map[string][]string{"loads": {goHost(t, "goload"), lib},
		"links": {goHost(t, "golink")}} {
		t.Run(name, func(t *testing.T) {
			s, uri := remoteSite(t, "dir")
			path, _, _ := strings.Cut(strings.TrimPrefix(uri, "file:"), "?")
			r := harness.Run(t, []string{s.Env(), "VFS=verneuil_remote"},
				append(argv, path, "delete")...)
			if want := "100 rows\n"; r.Stdout != want || r.Stderr != "" || r.Code != 4 {
				t.Fatalf("exit code %d, %q, want 4, %q\n%s", r.Code, r.Stdout, want, r.Stderr)
			}
			if got := remoteRows(s, uri); got != "100" {
				t.Errorf("%s rows", got)
			}
		})
	}
}

// TestRemoteNode: worker threads with node:sqlite. (better-sqlite3 opens no URIs.)
func TestRemoteNode(t *testing.T) {
	lib, node := harness.Library(t), os.Getenv("VERNEUIL_NODE_SQLITE")
	if node = filepath.Join(node, "bin", "node"); node == "bin/node" {
		t.Skip("VERNEUIL_NODE_SQLITE names no Node that has node:sqlite (make node-sqlite)")
	}
	s, uri := remoteSite(t, "dir")
	r := harness.Run(t, []string{s.Env()}, node, harness.InHosts("remote.mjs"), lib, uri)
	if want := "40 rows\n"; r.Stdout != want || r.Code != 0 ||
		strings.Contains(r.Stderr, "level=ERROR") {
		t.Fatalf("exit code %d, %q, want %q\n%s", r.Code, r.Stdout, want, r.Stderr)
	}
	if got := remoteRows(s, uri); got != "40" {
		t.Errorf("%s rows", got)
	}
}

// TestRemoteGunicorn: the four workers of a pre-forking server write to one database, each request
// a commit, with a busy_timeout of thirty seconds, which none of them reaches.
func TestRemoteGunicorn(t *testing.T) {
	harness.PythonCan(t, "import gunicorn, sqlite3; sqlite3.Connection.enable_load_extension")
	for _, kind := range []string{"dir", "minio"} {
		t.Run(kind, func(t *testing.T) {
			s, uri := remoteSite(t, kind)
			s.Shell("").Must(".open " + uri) // it is there
			g := startGunicorn(s, []string{"DATABASE=" + uri, "TIMEOUT=30"}, "--workers", "4")
			const clients, requests = 6, 25
			var all sync.WaitGroup
			for range clients {
				all.Go(func() {
					for i := range requests {
						if answer, err := g.get("/"); err != nil {
							t.Errorf("request %d: %v: %s", i, err, answer)
							return
						}
					}
				})
			}
			all.Wait()
			harness.Must(t, g.process.Command.Process.Signal(syscall.SIGTERM))
			if code := g.process.Wait(); code != 0 {
				t.Errorf("gunicorn ends with %d", code)
			}
			if log := g.process.Stderr(); log != "" {
				t.Errorf("logged: %s", log)
			}
			if got := remoteRows(s, uri); got != "150" {
				t.Errorf("%s rows, want %d", got, clients*requests)
			}
		})
	}
}
