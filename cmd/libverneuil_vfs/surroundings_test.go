package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBrokenSurroundings: whatever is wrong with the configuration, the application
// works, and the log and verneuil_status() name the culprit.
func TestBrokenSurroundings(t *testing.T) {
	for _, test := range []struct {
		name    string
		prepare func(s *site) (config string)
		culprit string
	}{
		{"malformed", func(*site) string { return `{"make_default": true, "hostname": ` }, "VERNEUIL_CONFIG"},
		{"unknown key", func(s *site) string { s.configure(map[string]any{"manifest_intervall": 1}); return s.config() }, "manifest_intervall"},
		{"wrong type", func(s *site) string { s.configure(map[string]any{"hostname": 1}); return s.config() }, "hostname"},
		{"no such file", func(s *site) string { return "@" + s.path("none.json") }, "none.json"},
		{"spool is a file", func(s *site) string { s.write("spool", []byte("not a directory")); return s.config() }, "Not a directory"},
		{"spool below a file", func(s *site) string {
			s.write("plain", []byte("not a directory"))
			s.configure(map[string]any{"replication_spooling_dir": s.path("plain/spool")})
			return s.config()
		}, "Not a directory"},
		{"spool cannot be made", func(s *site) string { // also root is told: no such file can be made there
			s.configure(map[string]any{"replication_spooling_dir": "/proc/verneuil-spool"})
			return s.config()
		}, "No such file"},
		{"no targets", func(s *site) string { s.configure(map[string]any{"replication_targets": []any{}}); return s.config() }, "replication_targets"},
	} {
		for _, journal := range journals {
			t.Run(test.name+"/"+journal, func(t *testing.T) {
				s := dirSite(t)
				shell := s.shell("", "VERNEUIL_CONFIG="+test.prepare(s))
				// A broken configuration cannot say make_default.
				if shell.ask(".open file:" + s.path("a.db") + "?vfs=verneuil"); t.Failed() {
					return
				}
				shell.want("pragma journal_mode="+journal+";", journal)
				for _, sql := range []string{"create table t(a integer primary key, b);", "begin;", "insert into t(b) values(randomblob(100000));",
					"commit;", "update t set b = 'new';"} {
					if answer := shell.ask(sql); answer != "" {
						t.Fatalf("%s: %s", sql, answer)
					}
				}
				shell.want("select b from t;", "new")
				shell.refused()
				if status := shell.ask("select verneuil_status();"); !json.Valid([]byte(status)) || !strings.Contains(status, test.culprit) {
					t.Errorf("verneuil_status() does not name %q: %s", test.culprit, status)
				}
				shell.endsWith(1)
				if log := shell.stderr(); !strings.Contains(log, test.culprit) {
					t.Errorf("the log does not name %q: %s", test.culprit, log)
				}
				if b := s.stock("a.db", "select b from t", "pragma integrity_check"); b != "new\nok" {
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
	for _, journal := range journals {
		t.Run(journal, func(t *testing.T) {
			s := dirSite(t)
			shell := s.shell("", "VERNEUIL_CONFIG=")
			shell.must(".open file:" + s.path("a.db") + "?vfs=verneuil")
			shell.want("pragma journal_mode="+journal+";", journal)
			shell.must("create table t(b);")
			shell.must("insert into t values('x');")
			if status := shell.ask("select verneuil_status();"); !json.Valid([]byte(status)) {
				t.Errorf("verneuil_status(): %s", status)
			}
			if n := threads(t, shell.command.Process.Pid); n != 1 {
				t.Errorf("the shell has %d threads, want 1", n)
			}
			shell.endsWith(0)
			entries, err := os.ReadDir(s.dir)
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
	s := dirSite(t)
	shell := start(t, []string{s.env()}, sqliteShell(t), "-batch", "-vfs", "unix")
	shell.must(".load " + library(t))
	if version := shell.ask("select verneuil_version();"); version == "" {
		t.Error("no verneuil_version()")
	}
	if n := threads(t, shell.command.Process.Pid); n != 1 {
		t.Errorf("the shell has %d threads after loading, want 1", n)
	}
	shell.must(".open file:" + s.path("a.db") + "?vfs=verneuil")
	shell.must("create table t(b);")
	shell.flush()
	shell.endsWith(0)
	s.mustEqual("a.db")
}

// TestFirstAtOnce: threads that open a process's first databases at once configure it once.
func TestFirstAtOnce(t *testing.T) {
	s := dirSite(t)
	ours := func(n int) (found []string) {
		h := s.host()
		h.must(fmt.Sprintf(".crowd %d %s", n, s.path("a.db")))
		for _, link := range h.links() {
			if strings.HasPrefix(link, "pipe:") || link == "anon_inode:[eventfd]" {
				found = append(found, link)
			}
		}
		h.endsWith(0)
		return found
	}
	if one, many := ours(1), ours(16); len(many) != len(one) {
		t.Errorf("%d pipes and eventfds after one thread, %d after 16: %q", len(one), len(many), many)
	}
}

// links are what the process's descriptors refer to.
func (h *session) links() (links []string) {
	h.t.Helper()
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", h.command.Process.Pid))
	if err != nil {
		h.t.Fatal(err)
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
	for name, limit := range map[string]string{"address space": "ulimit -v 600000", "files": "ulimit -n 24"} {
		for _, journal := range journals {
			t.Run(name+"/"+journal, func(t *testing.T) {
				s := dirSite(t)
				shell := start(t, []string{s.env()}, "sh", "-c", limit+` && exec "$@"`, "sh", sqliteShell(t), "-batch")
				shell.must(".load " + library(t))
				shell.ask(".open " + s.path("a.db"))
				shell.want("pragma journal_mode="+journal+";", journal)
				for _, sql := range []string{"create table t(b);", "insert into t values(randomblob(300000));", "update t set b = 'new';"} {
					if answer := shell.ask(sql); answer != "" {
						t.Fatalf("%s: %s", sql, answer)
					}
				}
				if name == "address space" {
					shell.refused()
					if status := shell.ask("select verneuil_status();"); !json.Valid([]byte(status)) {
						t.Errorf("verneuil_status(): %s", status)
					}
					if log := shell.stderr(); !strings.Contains(log, "RLIMIT_AS") {
						t.Errorf("the log does not name RLIMIT_AS: %s", log)
					}
					shell.endsWith(1)
				} else {
					shell.flush()
					shell.endsWith(0)
				}
				if b := s.stock("a.db", "select b from t", "pragma integrity_check"); b != "new\nok" {
					t.Errorf("the database says %q", b)
				}
				s.ctl("sync", s.path("a.db"))
				s.mustEqual("a.db")
			})
		}
	}
}
