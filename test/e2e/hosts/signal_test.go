package hosts_test

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

	"verneuil/test/e2e/harness"
)

// endless is a query without an end. When the file called began is there, it runs.
func endless(began string) string {
	return "with recursive n(i) as (select writefile('" + began +
		"', 'x') union all select i+1 from n) select count(*) from n;"
}

// TestInterrupt: Ctrl-C ends a query and not the shell, whose handler is a plain signal().
func TestInterrupt(t *testing.T) {
	s := harness.DirSite(t)
	shell := s.Written("a.db", "delete")
	shell.Flush() // Go runs, and has done something
	began := s.Path("began")
	shell.Send(endless(began))
	harness.Until(t, "the query begins", func() bool {
		_,
			err := os.Stat(began)
		return err == nil
	})
	// one: the shell ends at the third
	harness.Must(t, shell.Command.Process.Signal(syscall.SIGINT))
	harness.Until(t, "the query is interrupted",
		func() bool { return strings.Contains(shell.Stderr(), "interrupted") })
	// In batch mode the shell goes on with the next line, or ends as it does after errors.
	shell.Stdin.Close()
	for shell.Output.Scan() {
		if text := shell.Output.Text(); text != "1" {
			t.Errorf("the shell says %q", text)
		}
	}
	shell.Command.Wait()
	shell.Ended = true
	if state := shell.Command.ProcessState; state.ExitCode() != 1 {
		t.Errorf("the shell ended with %v, want exit code 1: %s", state, shell.Stderr())
	}
	s.MustEqual("a.db")
}

// TestInterruptAtTerminal: Ctrl-C on the shell's own terminal ends the query, and the next
// line is answered.
func TestInterruptAtTerminal(t *testing.T) {
	s := harness.DirSite(t)
	master, slave := terminal(t)
	shell := exec.CommandContext(t.Context(), harness.SQLiteShell(t), "-interactive", "-cmd",
		".load "+harness.Library(t), "-cmd", ".open "+s.Path("a.db"), ":memory:")
	shell.Env = append(os.Environ(), s.Env(), "HOME="+s.Dir, "TERM=dumb")
	shell.Stdin, shell.Stdout, shell.Stderr = slave, slave, slave
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	harness.Must(t, shell.Start())
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
		deadline := time.After(harness.Bound)
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
	began := s.Path("began")
	fmt.Fprintln(master,
		"create table t(b); insert into t values(1); pragma verneuil_flush_replication_data; "+
			"select writefile('"+began+"', 'x');")
	harness.Until(t, "the shell has flushed", func() bool {
		_,
			err := os.Stat(began)
		return err == nil
	})
	fmt.Fprintln(master, endless(began+"2"))
	harness.Until(t, "the query begins", func() bool {
		_,
			err := os.Stat(began + "2")
		return err == nil
	})
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
	s.MustEqual("a.db")
}

// TestExitCode: a host's exit code is its own, and what it has written just before is
// in the target when it has ended.
func TestExitCode(t *testing.T) {
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			shell := s.Written("a.db", journal)
			shell.Send("update t set b = 'last words';")
			shell.Send(".exit 3")
			shell.EndsWith(3)
			s.Stock("a.db", "pragma wal_checkpoint(truncate)") // the shell leaves the WAL behind
			s.MustEqual("a.db")
			out := filepath.Join(t.TempDir(), "r.db")
			s.Ctl("restore", "--force", "-s", s.Path("a.db"), "-o", out)
			if r := harness.Run(t, nil, harness.SQLiteShell(t), out,
				"select b from t"); r.Stdout != "last words\n" {
				t.Errorf("the restored row is %q %s", r.Stdout, r.Stderr)
			}

			h := s.Host()
			h.Must(".open " + s.Path("host.db"))
			h.Must("create table t(b)")
			h.Send(".exit 7") // the database is still open
			h.EndsWith(7)
			s.MustEqual("host.db")
		})
	}
}

// TestExitInTransaction: a process that ends while a connection of it keeps others from their locks
// ends at once, though there is something to send and the target does not answer: without us the
// locks would be free.
func TestExitInTransaction(t *testing.T) {
	for _, journal := range []string{"delete", "persist", "wal"} {
		for _, lock := range []string{"write", "exclusive", "read"} {
			t.Run(journal+"/"+lock, func(t *testing.T) {
				silent, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts
				harness.Must(t, err)
				defer silent.Close()
				s := harness.S3Site(t, "http://"+silent.Addr().String())
				h := harness.Start(t, []string{s.Env(), "VERNEUIL_LOG=warn", "AWS_ACCESS_KEY_ID=a",
					"AWS_SECRET_ACCESS_KEY=b"}, harness.HostProgram(t), harness.Library(t))
				harness.Must(t, os.WriteFile(s.Path("log"), nil, 0o600))
				h.Must(".stderr " + s.Path("log"))
				h.Must(".open " + s.Path("a.db"))
				h.Want("pragma journal_mode="+journal, journal)
				h.Must("create table t(a)")
				h.Must("insert into t values(1)")
				switch lock {
				case "write":
					h.Must("begin immediate")
					h.Must("insert into t values(2)")
				case "exclusive":
					h.Want("pragma locking_mode=exclusive", "exclusive")
					h.Must("insert into t values(2)")
				case "read":
					h.Must("begin")
					h.Want("select count(*) from t", "1")
				}
				h.Send(".exit 3")
				h.EndsWith(3)
				log, err := os.ReadFile(s.Path("log"))
				harness.Must(t, err)
				waited := strings.Contains(string(log), "process ends with unsent data")
				// whom nobody waits for
				if readers := lock == "read" && journal == "wal"; waited != readers {
					t.Errorf("it waited for the target: %v, want %v: %s", waited, readers, log)
				}
			})
		}
	}
}

// TestExitInHandler: exit() may be called in a signal's handler, whatever it has interrupted:
// malloc, which other threads wait for then, or anything of ours.
func TestExitInHandler(t *testing.T) {
	s := harness.DirSite(t)
	program := s.Compile(harness.InHosts("exits.c"), "-Wextra", "-Werror", "-l:libsqlite3.so.0",
		"-lpthread")
	for _, calls := range []string{"1", "2", "10", "100", "1000"} {
		r := harness.Run(t, []string{s.Env()}, program, harness.Library(t), s.Path("a.db"), calls)
		if r.Code != 5 {
			t.Errorf("after %s calls: exit code %d: %s%s", calls, r.Code, r.Stdout, r.Stderr)
		}
	}
	s.Ctl("flush", s.Path("spool"))
	s.MustEqual("a.db")
}

// TestDeadlySignals: the signals that end a host end it, and what it had committed is
// sent by verneuilctl flush.
func TestDeadlySignals(t *testing.T) {
	for _, journal := range harness.Journals {
		for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT,
			syscall.SIGKILL} {
			t.Run(journal+"/"+signal.String(), func(t *testing.T) {
				s := harness.DirSite(t)
				shell := s.Host() // it has no handlers
				shell.Must(".open " + s.Path("a.db"))
				shell.Want("pragma journal_mode="+journal, journal)
				shell.Must("create table t(a integer primary key, b)")
				shell.Must("insert into t(b) values(randomblob(200000))")
				shell.Must("update t set b = 'last words'")
				if err := shell.Command.Process.Signal(signal); err != nil {
					t.Fatal(err)
				}
				shell.Wait()
				status, ok := shell.Command.ProcessState.Sys().(syscall.WaitStatus)
				if !ok || !status.Signaled() || status.Signal() != signal {
					t.Fatalf("the shell ended with %v, want %v", shell.Command.ProcessState, signal)
				}
				s.Ctl("flush", s.Path("spool"))
				if b := s.Stock("a.db", "pragma wal_checkpoint(truncate)",
					"select b from t"); !strings.HasSuffix(b, "last words") {
					t.Errorf("the database's row is %q", b)
				}
				s.MustEqual("a.db")
			})
		}
	}
}

// TestHandlersStacks: the host's handlers run on the stacks of the host's threads, also
// those that interrupt a call that Go serves, and those that were there before Go was.
func TestHandlersStacks(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		t.Run(when, func(t *testing.T) {
			s := harness.DirSite(t)
			h := s.Host()
			if when == "after" {
				h.Must(".open " + s.Path("a.db"))
				h.Flush() // Go runs
			}
			h.Want(".alarms 30 "+s.Path("a.db")+
				" create table if not exists t(a integer primary key, b); "+
				"insert into t(b) values(randomblob(3000));"+
				strings.Repeat("select verneuil_status();", 50)+
				"pragma verneuil_flush_replication_data", "called 1, on other stacks 0")
			h.Must(".open " + s.Path("a.db"))
			h.Want("select count(*) from t", "30")
			h.Flush()
			h.EndsWith(0)
			s.MustEqual("a.db")
		})
	}
}

// TestUntouchedHost: Go's start leaves the host's limits and signals as they were.
func TestUntouchedHost(t *testing.T) {
	s := harness.DirSite(t)
	h := harness.Start(t, []string{s.Env()}, "sh", "-c", `ulimit -S -n 200 && exec "$@"`, "sh",
		harness.HostProgram(t), harness.Library(t))
	signals := func() string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.Command.Process.Pid))
		harness.Must(t, err)
		_, after, _ := strings.Cut(string(b), "SigQ:")
		_, after, _ = strings.Cut(after, "\n") // how many are queued, and may be
		masks, _, _ := strings.Cut(after, "SigCgt:")
		return masks
	}
	h.Must(".open :memory:")
	before := signals()
	h.Must(".open " + s.Path("a.db"))
	h.Flush()
	h.Want(".limit nofile", "200")
	if after := signals(); after != before {
		t.Errorf("pending, blocked and ignored signals: %s, before %s", after, before)
	}
	h.EndsWith(0)
}

// TestUnwritableLog: a stderr that raises signals when it is written to ends no host, and
// the host's handlers are not called for what we write.
func TestUnwritableLog(t *testing.T) {
	for _, stderr := range []string{"", "log"} {
		for _, handled := range []bool{false, true} {
			t.Run(fmt.Sprintf("stderr=%s,handled=%v", stderr, handled), func(t *testing.T) {
				s := harness.DirSite(t)
				h := harness.Start(t, []string{s.Env(), "VERNEUIL_LOG=debug"},
					harness.HostProgram(t), harness.Library(t))
				if handled {
					h.Want(".handle", "0")
				}
				if stderr == "" {
					h.Must(".stderr")
				} else {
					s.Write(stderr, nil)
					harness.Must(t, os.Truncate(s.Path(stderr), 3<<20))
					h.Must(".stderr " + s.Path(stderr))
					h.Must(".limit fsize 2000000")
				}
				h.Must(".open " + s.Path("a.db"))
				h.Must("create table t(b)")
				h.Must("insert into t values(randomblob(100000))")
				h.Flush()
				h.Must(".limit fsize 2000") // less than a spool's state
				h.Must(".open " + s.Path("b.db"))
				h.Must("pragma page_size=512")
				h.Must("create table t(b)")
				answer := h.Ask("pragma verneuil_flush_replication_data")
				if !strings.Contains(answer, "is not replicated: ") {
					t.Errorf("flush answers %q", answer)
				}
				if status := h.Ask("select verneuil_status()"); !strings.Contains(status,
					"File too large") {
					t.Errorf("verneuil_status() does not say why: %s", status)
				}
				if handled {
					h.Want(".handle", "0")
				}
				h.Must(".limit fsize 2000000")
				h.EndsWith(0)
				s.MustEqual("a.db")
			})
		}
	}
}

// TestBrokenPipe: a host whose output nobody reads dies of it, as it does with stock SQLite.
func TestBrokenPipe(t *testing.T) {
	s := harness.DirSite(t)
	query := "with recursive n(i) as (select 1 union all select i+1 from n limit 300000) select " +
		"i from n"
	r := harness.Run(t, []string{s.Env()}, "bash", "-c", `"$@" | head -n 2; exit ${PIPESTATUS[0]}`,
		"bash", harness.SQLiteShell(t), "-batch",
		"-cmd", ".load "+harness.Library(t), "-cmd", ".open "+s.Path("a.db"), ":memory:",
		"create table t(b)", "pragma verneuil_flush_replication_data", query)
	if want := 128 + int(syscall.SIGPIPE); r.Code != want || r.Stdout != "1\n1\n" {
		t.Errorf("exit code %d, want %d: %q %s", r.Code, want, r.Stdout, r.Stderr)
	}
	s.MustEqual("a.db")
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
		s := harness.S3Site(t, store.URL)
		h := harness.Start(t, []string{s.Env(), "VERNEUIL_LOG=off"}, harness.HostProgram(t),
			harness.Library(t))
		if handled {
			h.Want(".handle", "0")
		}
		h.Must(".open " + s.Path("a.db"))
		h.Must("create table t(b)")
		h.Must("insert into t values(randomblob(3000000))")
		before := broken.Load()
		// of the chunks, at once
		harness.Until(t, "connections are broken off",
			func() bool { return broken.Load() > before+3 })
		// it lives
		h.Want("select count(*) from t", "1")
		if handled {
			h.Want(".handle", "0")
		}
		h.Send(".leave 0") // at exit it would try for some time
		h.EndsWith(0)
	}
}
