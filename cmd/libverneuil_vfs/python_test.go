package main_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// python is Debian's, since many others are built without extensions to SQLite.
const python = "/usr/bin/python3"

// pythonCan skips the test where python cannot do that.
func pythonCan(t *testing.T, statement string) {
	t.Helper()
	if r := run(t, nil, "sh", "-c", python+` -c "$1"`, "sh", statement); r.code != 0 {
		t.Skipf("%s: %s: %s", python, statement, strings.TrimSpace(r.stderr))
	}
}

func inHosts(name string) string { return filepath.Join("..", "..", "test", "hosts", name) }

// TestPythonProcesses: children in all the ways that Python has, and those of a
// pre-forking server, some of which are killed.
func TestPythonProcesses(t *testing.T) {
	pythonCan(t, "import sqlite3; sqlite3.Connection.enable_load_extension")
	for _, journal := range journals {
		for _, way := range []string{"fork", "mp-fork", "mp-spawn", "mp-forkserver", "prefork"} {
			t.Run(journal+"/"+way, func(t *testing.T) {
				s := dirSite(t)
				r := run(t, []string{s.env()}, python, inHosts("processes.py"), library(t), s.path("a.db"), journal, way)
				if want := "60 rows, flush 1\n"; r.stdout != want || r.stderr != "" || r.code != 0 {
					t.Fatalf("python: exit code %d, %q, want %q\n%s", r.code, r.stdout, want, r.stderr)
				}
				s.stock("a.db", "pragma wal_checkpoint(truncate)")
				s.mustEqual("a.db")
				if ok := s.stock("a.db", "pragma integrity_check", "select count(distinct b) from t where b != 'killed'"); ok != "ok\n60" {
					t.Errorf("the database says %q", ok)
				}
			})
		}
	}
}

// gunicorn is a running server with test/hosts/gunicorn_app.py.
type gunicorn struct {
	*site
	process *session
	client  http.Client
}

func (s *site) gunicorn(env []string, args ...string) *gunicorn {
	s.t.Helper()
	socket := s.path("socket")
	argv := append([]string{python, "-m", "gunicorn", "--chdir", inHosts(""), "--bind", "unix:" + socket, "--workers", "2",
		"--worker-tmp-dir", s.dir, "--log-level", "error"}, args...)
	g := &gunicorn{site: s, process: start(s.t, append([]string{s.env(), "LIBRARY=" + library(s.t), "DATABASE=" + s.path("a.db"),
		"PYTHONDONTWRITEBYTECODE=1"}, env...), append(argv, "gunicorn_app")...)}
	g.client.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	until(s.t, "gunicorn listens", func() bool {
		c, err := net.Dial("unix", socket)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return g
}

// get returns the body, or the error of a request that a worker did not survive.
func (g *gunicorn) get(path string) (string, error) {
	response, err := g.client.Get("http://gunicorn" + path)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return string(body), err
}

// TestGunicorn: a pre-forking server whose workers write, are killed and replaced. Workers
// of a master that has not opened a database replicate; those of one that has
// record, and the master sends, also when a worker asks for a flush.
func TestGunicorn(t *testing.T) {
	pythonCan(t, "import gunicorn, sqlite3; sqlite3.Connection.enable_load_extension")
	for _, journal := range journals {
		for name, test := range map[string]struct {
			env, args []string
			flush     string
		}{
			"workers load":  {nil, nil, "1"},
			"master loads":  {nil, []string{"--preload"}, "1"},
			"master opened": {[]string{"OPENED=1"}, []string{"--preload"}, "1"},
		} {
			t.Run(journal+"/"+name, func(t *testing.T) {
				s := dirSite(t)
				s.stock("a.db", "pragma journal_mode="+journal)
				g := s.gunicorn(test.env, test.args...)
				const clients, requests = 3, 15
				var all sync.WaitGroup
				for client := range clients {
					all.Go(func() {
						for i := range requests {
							if i == 5 && client == 0 {
								g.get("/die")
							}
							// A worker that is killed takes down what its other clients had asked.
							for try := 0; ; try++ {
								if _, err := g.get("/"); err == nil {
									break
								} else if try == 10 {
									t.Errorf("request %d: %v", i, err)
									break
								}
							}
						}
					})
				}
				all.Wait()
				if answer, err := g.get("/flush"); err != nil || answer != test.flush {
					t.Errorf("flush answers %q, want %q: %v: %s", answer, test.flush, err, g.process.stderr())
				}
				rows := s.stock("a.db", "select count(*) from t")
				if n, err := strconv.Atoi(rows); err != nil || n < clients*requests {
					t.Errorf("%s rows, want at least %d", rows, clients*requests)
				}
				until(t, "all rows are in the target", func() bool {
					out := filepath.Join(t.TempDir(), "restored.db")
					s.ctl("restore", "--force", "-s", s.path("a.db"), "-o", out)
					return run(t, nil, sqliteShell(t), out, "select count(*) from t").stdout == rows+"\n"
				})
				must(t, g.process.command.Process.Signal(syscall.SIGTERM))
				if code := g.process.wait(); code != 0 {
					t.Errorf("gunicorn ends with %d: %s", code, g.process.stderr())
				}
				s.stock("a.db", "pragma wal_checkpoint(truncate)")
				s.mustEqual("a.db")
			})
		}
	}
}
