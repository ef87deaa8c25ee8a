package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// written makes a shell that replicates a table, in that journal mode.
func (s *site) written(db, journal string) *session {
	s.t.Helper()
	shell := s.shell(db)
	shell.want("pragma journal_mode="+journal+";", journal)
	shell.must("create table t(a integer primary key, b);")
	shell.must("insert into t(b) values(randomblob(200000));")
	return shell
}

// TestInterrupt: Ctrl-C ends a query and not the shell, whose handler is a plain signal().
func TestInterrupt(t *testing.T) {
	s := dirSite(t)
	shell := s.written("a.db", "delete")
	shell.flush() // Go runs, and has done something
	began := s.path("began")
	shell.send("select writefile('" + began + "', 'x');")
	shell.send("with recursive n(i) as (select 1 union all select i+1 from n) select count(*) from n;")
	until(t, "the query begins", func() bool { _, err := os.Stat(began); return err == nil })
	// The query may not have begun yet: then the signal interrupts nothing, and the next does.
	until(t, "the query is interrupted", func() bool {
		if strings.Contains(shell.stderr(), "interrupted") {
			return true
		}
		if err := shell.command.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		return false
	})
	// In batch mode the shell goes on with the next line, or ends as it does after errors.
	shell.stdin.Close()
	for shell.output.Scan() {
		if text := shell.output.Text(); text != "1" {
			t.Errorf("the shell says %q", text)
		}
	}
	shell.command.Wait()
	shell.ended = true
	if state := shell.command.ProcessState; state.ExitCode() != 1 {
		t.Errorf("the shell ended with %v, want exit code 1: %s", state, shell.stderr())
	}
	s.mustEqual("a.db")
}

// TestExitCode: a host's exit code is its own, and what it has written just before is
// in the target when it has ended.
func TestExitCode(t *testing.T) {
	for _, journal := range journals {
		t.Run(journal, func(t *testing.T) {
			s := dirSite(t)
			shell := s.written("a.db", journal)
			shell.send("update t set b = 'last words';")
			shell.send(".exit 3")
			shell.endsWith(3)
			s.stock("a.db", "pragma wal_checkpoint(truncate)") // the shell leaves the WAL behind
			s.mustEqual("a.db")
			out := filepath.Join(t.TempDir(), "r.db")
			s.ctl("restore", "-s", s.path("a.db"), "-o", out)
			if r := run(t, nil, sqliteShell(t), out, "select b from t"); r.stdout != "last words\n" {
				t.Errorf("the restored row is %q %s", r.stdout, r.stderr)
			}

			h := s.host()
			h.must(".open " + s.path("host.db"))
			h.must("create table t(b)")
			h.send(".exit 7") // the database is still open
			h.endsWith(7)
			s.mustEqual("host.db")
		})
	}
}

// TestDeadlySignals: the signals that end a host end it, and what it had committed is
// sent by verneuilctl flush.
func TestDeadlySignals(t *testing.T) {
	for _, journal := range journals {
		for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGKILL} {
			t.Run(journal+"/"+signal.String(), func(t *testing.T) {
				s := dirSite(t)
				shell := s.written("a.db", journal)
				shell.must("update t set b = 'last words';")
				if err := shell.command.Process.Signal(signal); err != nil {
					t.Fatal(err)
				}
				shell.wait()
				status, ok := shell.command.ProcessState.Sys().(syscall.WaitStatus)
				if !ok || !status.Signaled() || status.Signal() != signal {
					t.Fatalf("the shell ended with %v, want %v", shell.command.ProcessState, signal)
				}
				s.ctl("flush", s.path("spool"))
				if b := s.stock("a.db", "pragma wal_checkpoint(truncate)", "select b from t"); !strings.HasSuffix(b, "last words") {
					t.Errorf("the database's row is %q", b)
				}
				s.mustEqual("a.db")
			})
		}
	}
}
