package hosts_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"verneuil/test/e2e/harness"
)

// brokenSurroundings are configurations that are wrong, and what names the culprit.
var brokenSurroundings = []struct {
	name    string
	prepare func(s *harness.Site) (config string)
	culprit string
}{
	{"malformed", func(*harness.Site) string { return `{"make_default": true, "hostname": ` },
		"VERNEUIL_CONFIG"},
	{"unknown key",
		func(s *harness.Site) string {
			s.Configure(map[string]any{"manifest_intervall": 1})
			return s.Config()
		}, "manifest_intervall"},
	{"wrong type",
		func(s *harness.Site) string {
			s.Configure(map[string]any{"hostname": 1})
			return s.Config()
		}, "hostname"},
	{"no such file", func(s *harness.Site) string { return "@" + s.Path("none.json") },
		"none.json"},
	{"spool is a file", func(s *harness.Site) string {
		s.Write("spool",
			[]byte("not a directory"))
		return s.Config()
	}, "Not a directory"},
	{"spool below a file", func(s *harness.Site) string {
		s.Write("plain", []byte("not a directory"))
		s.Configure(map[string]any{"replication_spooling_dir": s.Path("plain/spool")})
		return s.Config()
	}, "Not a directory"},
	// also root is told: no such file can be made there
	{"spool cannot be made", func(s *harness.Site) string {
		s.Configure(map[string]any{"replication_spooling_dir": "/proc/verneuil-spool"})
		return s.Config()
	}, "No such file"},
	{"no targets", func(s *harness.Site) string {
		s.Configure(map[string]any{"replication_targets": []any{}})
		return s.Config()
	}, "replication_targets"},
}

// TestBrokenSurroundings: whatever is wrong with the configuration, the application
// works, and the log and verneuil_status() name the culprit.
func TestBrokenSurroundings(t *testing.T) {
	for _, test := range brokenSurroundings {
		for _, journal := range harness.Journals {
			t.Run(test.name+"/"+journal, func(t *testing.T) {
				s := harness.DirSite(t)
				shell := s.Shell("", "VERNEUIL_CONFIG="+test.prepare(s))
				// A broken configuration cannot say make_default.
				if shell.Ask(".open file:" + s.Path("a.db") + "?vfs=verneuil"); t.Failed() {
					return
				}
				shell.Want("pragma journal_mode="+journal+";", journal)
				for _, sql := range []string{"create table t(a integer primary key, b);", "begin;",
					"insert into t(b) values(randomblob(100000));",
					"commit;", "update t set b = 'new';"} {
					if answer := shell.Ask(sql); answer != "" {
						t.Fatalf("%s: %s", sql, answer)
					}
				}
				shell.Want("select b from t;", "new")
				shell.Refused()
				if status := shell.Ask("select verneuil_status();"); !json.Valid([]byte(status)) ||
					!strings.Contains(status, test.culprit) {
					t.Errorf("verneuil_status() does not name %q: %s", test.culprit, status)
				}
				shell.EndsWith(1)
				if log := shell.Stderr(); !strings.Contains(log, test.culprit) {
					t.Errorf("the log does not name %q: %s", test.culprit, log)
				}
				if b := s.Stock("a.db", "select b from t",
					"pragma integrity_check"); b != "new\nok" {
					t.Errorf("the database says %q", b)
				}
			})
		}
	}
}

// threads returns how many threads a process has.
func threads(t *testing.T, pid int) (n int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), "\nThreads:")
	if _, err := fmt.Sscan(after, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestNotConfigured: without a configuration the extension is a way through, starts no
// runtime and leaves no files.
func TestNotConfigured(t *testing.T) {
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			shell := s.Shell("", "VERNEUIL_CONFIG=")
			shell.Must(".open file:" + s.Path("a.db") + "?vfs=verneuil")
			shell.Want("pragma journal_mode="+journal+";", journal)
			shell.Must("create table t(b);")
			shell.Must("insert into t values('x');")
			if status := shell.Ask("select verneuil_status();"); !json.Valid([]byte(status)) {
				t.Errorf("verneuil_status(): %s", status)
			}
			if n := threads(t, shell.Command.Process.Pid); n != 1 {
				t.Errorf("the shell has %d threads, want 1", n)
			}
			shell.EndsWith(0)
			entries, err := os.ReadDir(s.Dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if e.Name() != "a.db" && e.Name() != "verneuil.json" {
					t.Errorf("left behind: %s", e.Name())
				}
			}
		})
	}
}

// TestLazyStart: the runtime starts when a database is opened, and not when the
// extension is loaded.
func TestLazyStart(t *testing.T) {
	s := harness.DirSite(t)
	shell := harness.Start(t, []string{s.Env()}, harness.SQLiteShell(t), "-batch", "-vfs", "unix")
	shell.Must(".load " + harness.Library(t))
	if version := shell.Ask("select verneuil_version();"); version == "" {
		t.Error("no verneuil_version()")
	}
	if n := threads(t, shell.Command.Process.Pid); n != 1 {
		t.Errorf("the shell has %d threads after loading, want 1", n)
	}
	shell.Must(".open file:" + s.Path("a.db") + "?vfs=verneuil")
	shell.Must("create table t(b);")
	shell.Flush()
	shell.EndsWith(0)
	s.MustEqual("a.db")
}

// TestFirstAtOnce: threads that open a process's first databases at once configure it once.
func TestFirstAtOnce(t *testing.T) {
	s := harness.DirSite(t)
	ours := func(n int) (found []string) {
		h := s.Host()
		h.Must(fmt.Sprintf(".crowd %d %s", n, s.Path("a.db")))
		for _, link := range links(h) {
			if strings.HasPrefix(link, "pipe:") || link == "anon_inode:[eventfd]" {
				found = append(found, link)
			}
		}
		h.EndsWith(0)
		return found
	}
	if one, many := ours(1), ours(16); len(many) != len(one) {
		t.Errorf("%d pipes and eventfds after one thread, %d after 16: %q", len(one), len(many),
			many)
	}
}

// links are what the process's descriptors refer to.
func links(h *harness.Process) (links []string) {
	h.T.Helper()
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", h.Command.Process.Pid))
	if err != nil {
		h.T.Fatal(err)
	}
	for _, name := range names {
		if link, err := os.Readlink(name); err == nil {
			links = append(links, link)
		}
	}
	return links
}

// TestLowLimits: where the runtime cannot start, the application works all the same.
func TestLowLimits(t *testing.T) {
	for name, limit := range map[string]string{"address space": "ulimit -v 600000",
		"files": "ulimit -n 24"} {
		for _, journal := range harness.Journals {
			t.Run(name+"/"+journal, func(t *testing.T) {
				s := harness.DirSite(t)
				shell := harness.Start(t, []string{s.Env()}, "sh", "-c", limit+` && exec "$@"`,
					"sh", harness.SQLiteShell(t), "-batch")
				shell.Must(".load " + harness.Library(t))
				shell.Ask(".open " + s.Path("a.db"))
				shell.Want("pragma journal_mode="+journal+";", journal)
				for _, sql := range []string{"create table t(b);",
					"insert into t values(randomblob(300000));", "update t set b = 'new';"} {
					if answer := shell.Ask(sql); answer != "" {
						t.Fatalf("%s: %s", sql, answer)
					}
				}
				if name == "address space" {
					shell.Refused()
					status := shell.Ask("select verneuil_status();")
					if !json.Valid([]byte(status)) {
						t.Errorf("verneuil_status(): %s", status)
					}
					if log := shell.Stderr(); !strings.Contains(log, "RLIMIT_AS") {
						t.Errorf("the log does not name RLIMIT_AS: %s", log)
					}
					shell.EndsWith(1)
				} else {
					shell.Flush()
					shell.EndsWith(0)
				}
				if b := s.Stock("a.db", "select b from t",
					"pragma integrity_check"); b != "new\nok" {
					t.Errorf("the database says %q", b)
				}
				s.Ctl("sync", s.Path("a.db"))
				s.MustEqual("a.db")
			})
		}
	}
}
