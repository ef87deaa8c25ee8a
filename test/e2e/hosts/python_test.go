package hosts_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"verneuil/test/e2e/harness"
)

// TestPythonProcesses: children in all the ways that Python has, and those of a
// pre-forking server, some of which are killed.
func TestPythonProcesses(t *testing.T) {
	harness.PythonCan(t, "import sqlite3; sqlite3.Connection.enable_load_extension")
	for _, journal := range harness.Journals {
		for _, way := range []string{"fork", "mp-fork", "mp-spawn", "mp-forkserver", "prefork"} {
			t.Run(journal+"/"+way, func(t *testing.T) {
				s := harness.DirSite(t)
				r := harness.Run(t, []string{s.Env()}, harness.Python,
					harness.InHosts("processes.py"), harness.Library(t), s.Path("a.db"), journal,
					way)
				if way == "prefork" {
					r.Stderr = hotJournal.ReplaceAllString(r.Stderr, "")
				}
				if want := "60 rows, flush 1\n"; r.Stdout != want || r.Stderr != "" || r.Code != 0 {
					t.Fatalf("python: exit code %d, %q, want %q\n%s", r.Code, r.Stdout, want,
						r.Stderr)
				}
				s.Stock("a.db", "pragma wal_checkpoint(truncate)")
				s.MustEqual("a.db")
				if ok := s.Stock("a.db", "pragma integrity_check",
					"select count(distinct b) from t where b != 'killed'"); ok != "ok\n60" {
					t.Errorf("the database says %q", ok)
				}
			})
		}
	}
}

// hotJournal is what may be logged when a worker was killed in a transaction, and the next one is
// slow to roll it back.
var hotJournal = regexp.MustCompile(
	`(?m)^verneuil: time=\S+ level=WARN msg="mirror is ` +
		`(not up to date: .* hot journal: .*|up to date again.*)\n`)

// gunicorn is a running server with test/hosts/gunicorn_app.py.
type gunicorn struct {
	*harness.Site
	process *harness.Process
	client  http.Client
}

func startGunicorn(s *harness.Site, env []string, args ...string) *gunicorn {
	s.T.Helper()
	socket := s.Path("socket")
	argv := append([]string{harness.Python, "-m", "gunicorn", "--chdir", harness.InHosts(""),
		"--bind", "unix:" + socket, "--workers", "2",
		"--worker-tmp-dir", s.Dir, "--log-level", "error"}, args...)
	g := &gunicorn{Site: s, process: harness.Start(s.T,
		append([]string{s.Env(), "LIBRARY=" + harness.Library(s.T), "DATABASE=" + s.Path("a.db"),
			"PYTHONDONTWRITEBYTECODE=1"}, env...), append(argv, "gunicorn_app")...)}
	g.client.Transport = &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}}
	harness.Until(s.T, "gunicorn listens", func() bool {
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
	harness.PythonCan(t, "import gunicorn, sqlite3; sqlite3.Connection.enable_load_extension")
	for _, journal := range harness.Journals {
		for name, test := range map[string]struct {
			env, args []string
			flush     string
		}{
			"workers load":  {nil, nil, "1"},
			"master loads":  {nil, []string{"--preload"}, "1"},
			"master opened": {[]string{"OPENED=1"}, []string{"--preload"}, "1"},
		} {
			t.Run(journal+"/"+name, func(t *testing.T) {
				s := harness.DirSite(t)
				s.Stock("a.db", "pragma journal_mode="+journal)
				g := startGunicorn(s, test.env, test.args...)
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
					t.Errorf("flush answers %q, want %q: %v: %s", answer, test.flush, err,
						g.process.Stderr())
				}
				rows := s.Stock("a.db", "select count(*) from t")
				if n, err := strconv.Atoi(rows); err != nil || n < clients*requests {
					t.Errorf("%s rows, want at least %d", rows, clients*requests)
				}
				harness.Until(t, "all rows are in the target", func() bool {
					out := filepath.Join(t.TempDir(), "restored.db")
					s.Ctl("restore", "--force", "-s", s.Path("a.db"), "-o", out)
					return harness.Run(t, nil, harness.SQLiteShell(t), out,
						"select count(*) from t").Stdout == rows+"\n"
				})
				harness.Must(t, g.process.Command.Process.Signal(syscall.SIGTERM))
				if code := g.process.Wait(); code != 0 {
					t.Errorf("gunicorn ends with %d: %s", code, g.process.Stderr())
				}
				s.Stock("a.db", "pragma wal_checkpoint(truncate)")
				s.MustEqual("a.db")
			})
		}
	}
}
