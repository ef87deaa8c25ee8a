package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
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

// endless is a query without an end. When the file called began is there, it runs.
func endless(began string) string {
	return "with recursive n(i) as (select writefile('" + began + "', 'x') union all select i+1 from n) select count(*) from n;"
}

// TestInterrupt: Ctrl-C ends a query and not the shell, whose handler is a plain signal().
func TestInterrupt(t *testing.T) {
	s := dirSite(t)
	shell := s.written("a.db", "delete")
	shell.flush() // Go runs, and has done something
	began := s.path("began")
	shell.send(endless(began))
	until(t, "the query begins", func() bool { _, err := os.Stat(began); return err == nil })
	must(t, shell.command.Process.Signal(syscall.SIGINT)) // one: the shell ends at the third
	until(t, "the query is interrupted", func() bool { return strings.Contains(shell.stderr(), "interrupted") })
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

// TestInterruptAtTerminal: Ctrl-C on the shell's own terminal ends the query, and the next
// line is answered.
func TestInterruptAtTerminal(t *testing.T) {
	s := dirSite(t)
	master, slave := terminal(t)
	shell := exec.CommandContext(t.Context(), sqliteShell(t), "-interactive", "-cmd", ".load "+library(t), "-cmd", ".open "+s.path("a.db"), ":memory:")
	shell.Env = append(os.Environ(), s.env(), "HOME="+s.dir, "TERM=dumb")
	shell.Stdin, shell.Stdout, shell.Stderr = slave, slave, slave
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	must(t, shell.Start())
	slave.Close()
	var said strings.Builder
	read := make(chan string)
	go func() {
		defer close(read)
		for b := make([]byte, 4096); ; {
			n, err := master.Read(b)
			if err != nil {
				return // EIO, when the last one has closed the other side
			}
			read <- string(b[:n])
		}
	}()
	wait := func(want string) {
		t.Helper()
		deadline := time.After(processBound)
		for !strings.Contains(said.String(), want) {
			select {
			case text, ok := <-read:
				if !ok {
					t.Fatalf("the shell ended before it said %q: %s", want, said.String())
				}
				said.WriteString(text)
			case <-deadline:
				t.Fatalf("the shell does not say %q: %s", want, said.String())
			}
		}
		said.Reset()
	}
	began := s.path("began")
	fmt.Fprintln(master, "create table t(b); insert into t values(1); pragma verneuil_flush_replication_data; select writefile('"+began+"', 'x');")
	until(t, "the shell has flushed", func() bool { _, err := os.Stat(began); return err == nil })
	fmt.Fprintln(master, endless(began+"2"))
	until(t, "the query begins", func() bool { _, err := os.Stat(began + "2"); return err == nil })
	fmt.Fprint(master, "\x03")
	wait("nterrupt")
	fmt.Fprintln(master, "select 'still '||'here'; insert into t values(2);")
	wait("still here")
	fmt.Fprintln(master, ".exit 5")
	go func() {
		for range read {
		}
	}()
	if shell.Wait(); shell.ProcessState.ExitCode() != 5 {
		t.Errorf("the shell ended with %v, want exit code 5", shell.ProcessState)
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

// TestExitInTransaction: a process that ends in the middle of a transaction, before its database
// has been copied, does not wait for the transaction to end.
func TestExitInTransaction(t *testing.T) {
	s := dirSite(t)
	s.stock("a.db", "create table t(a)")
	h := start(t, []string{s.env(), "VERNEUIL_LOG=warn"}, hostProgram(t), library(t))
	h.must(".open " + s.path("a.db"))
	h.must("begin immediate")
	h.must("insert into t values(1)")
	h.send(".exit 3")
	h.endsWith(3)
	if log := h.stderr(); strings.Contains(log, "deadline") {
		t.Errorf("it waited as long as it may: %s", log)
	}
	s.ctl("flush", s.path("spool"))
	s.mustEqual("a.db")
}

// TestDeadlySignals: the signals that end a host end it, and what it had committed is
// sent by verneuilctl flush.
func TestDeadlySignals(t *testing.T) {
	for _, journal := range journals {
		for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT, syscall.SIGKILL} {
			t.Run(journal+"/"+signal.String(), func(t *testing.T) {
				s := dirSite(t)
				shell := s.host() // it has no handlers
				shell.must(".open " + s.path("a.db"))
				shell.want("pragma journal_mode="+journal, journal)
				shell.must("create table t(a integer primary key, b)")
				shell.must("insert into t(b) values(randomblob(200000))")
				shell.must("update t set b = 'last words'")
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
