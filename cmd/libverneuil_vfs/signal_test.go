package main_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
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
			s.ctl("restore", "--force", "-s", s.path("a.db"), "-o", out)
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

// TestExitInTransaction: a process that ends while a connection of it keeps others from their locks
// ends at once, though there is something to send and the target does not answer: without us the locks would be free.
func TestExitInTransaction(t *testing.T) {
	for _, journal := range []string{"delete", "persist", "wal"} {
		for _, lock := range []string{"write", "exclusive", "read"} {
			t.Run(journal+"/"+lock, func(t *testing.T) {
				silent, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts
				must(t, err)
				defer silent.Close()
				s := s3Site(t, "http://"+silent.Addr().String())
				h := start(t, []string{s.env(), "VERNEUIL_LOG=warn", "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b"}, hostProgram(t), library(t))
				must(t, os.WriteFile(s.path("log"), nil, 0o600))
				h.must(".stderr " + s.path("log"))
				h.must(".open " + s.path("a.db"))
				h.want("pragma journal_mode="+journal, journal)
				h.must("create table t(a)")
				h.must("insert into t values(1)")
				switch lock {
				case "write":
					h.must("begin immediate")
					h.must("insert into t values(2)")
				case "exclusive":
					h.want("pragma locking_mode=exclusive", "exclusive")
					h.must("insert into t values(2)")
				case "read":
					h.must("begin")
					h.want("select count(*) from t", "1")
				}
				h.send(".exit 3")
				h.endsWith(3)
				log, err := os.ReadFile(s.path("log"))
				must(t, err)
				waited := strings.Contains(string(log), "process ends with unsent data")
				if readers := lock == "read" && journal == "wal"; waited != readers { // whom nobody waits for
					t.Errorf("it waited for the target: %v, want %v: %s", waited, readers, log)
				}
			})
		}
	}
}

// TestExitInHandler: exit() may be called in a signal's handler, whatever it has interrupted: malloc,
// which other threads wait for then, or anything of ours.
func TestExitInHandler(t *testing.T) {
	s := dirSite(t)
	program := filepath.Join(s.dir, "exits")
	r := run(t, nil, "gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-I"+goSQLite(t), "-o", program,
		inHosts("exits.c"), "-l:libsqlite3.so.0", "-lpthread")
	if r.code != 0 {
		t.Fatalf("compile exits.c: %s%s", r.stdout, r.stderr)
	}
	for _, calls := range []string{"1", "2", "10", "100", "1000"} {
		r = run(t, []string{s.env()}, program, library(t), s.path("a.db"), calls)
		if r.code != 5 {
			t.Errorf("after %s calls: exit code %d: %s%s", calls, r.code, r.stdout, r.stderr)
		}
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

// TestHandlersStacks: the host's handlers run on the stacks of the host's threads, also
// those that interrupt a call that Go serves, and those that were there before Go was.
func TestHandlersStacks(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		t.Run(when, func(t *testing.T) {
			s := dirSite(t)
			h := s.host()
			if when == "after" {
				h.must(".open " + s.path("a.db"))
				h.flush() // Go runs
			}
			h.want(".alarms 30 "+s.path("a.db")+" create table if not exists t(a integer primary key, b); insert into t(b) values(randomblob(3000));"+
				strings.Repeat("select verneuil_status();", 50)+"pragma verneuil_flush_replication_data", "called 1, on other stacks 0")
			h.must(".open " + s.path("a.db"))
			h.want("select count(*) from t", "30")
			h.flush()
			h.endsWith(0)
			s.mustEqual("a.db")
		})
	}
}

// TestUntouchedHost: Go's start leaves the host's limits and signals as they were.
func TestUntouchedHost(t *testing.T) {
	s := dirSite(t)
	h := start(t, []string{s.env()}, "sh", "-c", `ulimit -S -n 200 && exec "$@"`, "sh", hostProgram(t), library(t))
	signals := func() string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.command.Process.Pid))
		must(t, err)
		_, after, _ := strings.Cut(string(b), "SigQ:")
		_, after, _ = strings.Cut(after, "\n") // how many are queued, and may be
		masks, _, _ := strings.Cut(after, "SigCgt:")
		return masks
	}
	h.must(".open :memory:")
	before := signals()
	h.must(".open " + s.path("a.db"))
	h.flush()
	h.want(".limit nofile", "200")
	if after := signals(); after != before {
		t.Errorf("pending, blocked and ignored signals: %s, before %s", after, before)
	}
	h.endsWith(0)
}

// TestUnwritableLog: a stderr that raises signals when it is written to ends no host, and
// the host's handlers are not called for what we write.
func TestUnwritableLog(t *testing.T) {
	for _, stderr := range []string{"", "log"} {
		for _, handled := range []bool{false, true} {
			t.Run(fmt.Sprintf("stderr=%s,handled=%v", stderr, handled), func(t *testing.T) {
				s := dirSite(t)
				h := start(t, []string{s.env(), "VERNEUIL_LOG=debug"}, hostProgram(t), library(t))
				if handled {
					h.want(".handle", "0")
				}
				if stderr == "" {
					h.must(".stderr")
				} else {
					s.write(stderr, nil)
					must(t, os.Truncate(s.path(stderr), 3<<20))
					h.must(".stderr " + s.path(stderr))
					h.must(".limit fsize 2000000")
				}
				h.must(".open " + s.path("a.db"))
				h.must("create table t(b)")
				h.must("insert into t values(randomblob(100000))")
				h.flush()
				h.must(".limit fsize 2000") // less than a spool's state
				h.must(".open " + s.path("b.db"))
				h.must("pragma page_size=512")
				h.must("create table t(b)")
				if answer := h.ask("pragma verneuil_flush_replication_data"); !strings.Contains(answer, "is not replicated: ") {
					t.Errorf("flush answers %q", answer)
				}
				if status := h.ask("select verneuil_status()"); !strings.Contains(status, "File too large") {
					t.Errorf("verneuil_status() does not say why: %s", status)
				}
				if handled {
					h.want(".handle", "0")
				}
				h.must(".limit fsize 2000000")
				h.endsWith(0)
				s.mustEqual("a.db")
			})
		}
	}
}

// TestBrokenPipe: a host whose output nobody reads dies of it, as it does with stock SQLite.
func TestBrokenPipe(t *testing.T) {
	s := dirSite(t)
	query := "with recursive n(i) as (select 1 union all select i+1 from n limit 300000) select i from n"
	r := run(t, []string{s.env()}, "bash", "-c", `"$@" | head -n 2; exit ${PIPESTATUS[0]}`, "bash", sqliteShell(t), "-batch",
		"-cmd", ".load "+library(t), "-cmd", ".open "+s.path("a.db"), ":memory:", "create table t(b)", "pragma verneuil_flush_replication_data", query)
	if want := 128 + int(syscall.SIGPIPE); r.code != want || r.stdout != "1\n1\n" {
		t.Errorf("exit code %d, want %d: %q %s", r.code, want, r.stdout, r.stderr)
	}
	s.mustEqual("a.db")
}

// TestBrokenConnections: a store that breaks connections off while we write raises no SIGPIPE
// in the host, whose handler is not called for it.
func TestBrokenConnections(t *testing.T) {
	var broken atomic.Int64
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut {
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, "<Error><Code>NoSuchKey</Code></Error>")
			return
		}
		connection, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		connection.(*net.TCPConn).SetLinger(0) // so that closing it resets it
		connection.Close()
		broken.Add(1)
	}))
	t.Cleanup(store.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "nobody")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "nothing")
	for _, handled := range []bool{false, true} {
		s := s3Site(t, store.URL)
		h := start(t, []string{s.env(), "VERNEUIL_LOG=off"}, hostProgram(t), library(t))
		if handled {
			h.want(".handle", "0")
		}
		h.must(".open " + s.path("a.db"))
		h.must("create table t(b)")
		h.must("insert into t values(randomblob(3000000))")
		before := broken.Load()
		until(t, "connections are broken off", func() bool { return broken.Load() > before+3 }) // of the chunks, at once
		h.want("select count(*) from t", "1")                                                   // it lives
		if handled {
			h.want(".handle", "0")
		}
		h.send(".leave 0") // at exit it would try for some time
		h.endsWith(0)
	}
}
