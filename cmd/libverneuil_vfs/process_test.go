package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What processes do that use a library: become others, daemonize, give up rights, live
// with little. Either replication goes on, or the database does without it and it is
// said why; never does the host fare worse than with stock SQLite.

// TestExec: a process that replicates becomes another program, and its commits are not
// lost: the next one that opens the database sends them, or verneuilctl flush does.
func TestExec(t *testing.T) {
	for _, journal := range journals {
		t.Run(journal, func(t *testing.T) {
			s := dirSite(t)
			program := hostProgram(t)
			h := start(t, []string{s.env()}, program, library(t))
			h.must(".open " + s.path("a.db"))
			h.want("pragma journal_mode="+journal, journal)
			h.must("create table t(a integer primary key, b)")
			h.flush()
			h.must("insert into t(b) values('before')")
			h.send(".exec " + program)
			h.must(".open " + s.path("a.db"))
			h.must("insert into t(b) values('after')")
			h.flush()
			h.want("select group_concat(b) from t", "before,after")
			h.must("insert into t(b) values('last')")
			h.send(".exec /bin/true")
			h.endsWith(0)
			s.ctl("flush", s.path("spool"))
			s.stock("a.db", "pragma wal_checkpoint(truncate)")
			s.mustEqual("a.db")
		})
	}
}

// TestExecLeaves: what a process had not sent when it became another program, another
// process sends, although the one that has recorded it lives on.
func TestExecLeaves(t *testing.T) {
	for _, journal := range journals {
		t.Run(journal, func(t *testing.T) {
			s := dirSite(t)
			s.configure(map[string]any{"manifest_interval_ms": 3600_000})
			h := s.host()
			h.must(".open " + s.path("a.db"))
			h.want("pragma journal_mode="+journal, journal)
			h.must("create table t(a integer primary key, b)")
			h.flush()
			h.must("insert into t(b) values('left')")
			h.send(".exec " + hostProgram(t))
			h.want(".print it lives", "it lives") // and opens nothing
			s.configure(nil)
			other := s.host() // looks for what nobody serves
			other.must(".open " + s.path("b.db"))
			s.untilRestored("a.db", "select b from t", "left")
			other.endsWith(0)
			h.endsWith(0)
		})
	}
}

// TestDaemon: a daemon that opens its database when it is one replicates; one that
// opened it before records, and leaves the sending to others.
func TestDaemon(t *testing.T) {
	for _, journal := range journals {
		for _, opened := range []string{"before", "after"} {
			t.Run(journal+"/"+opened, func(t *testing.T) {
				s := dirSite(t)
				h := s.host()
				create := func() {
					h.must(".open " + s.path("a.db"))
					h.want("pragma journal_mode="+journal, journal)
				}
				if opened == "before" {
					create()
					h.must("create table t(a integer primary key, b)")
					h.flush()
				}
				h.send(".daemon")
				create()
				h.must("create table if not exists t(a integer primary key, b)")
				h.must("insert into t(b) values(randomblob(100000))")
				if opened == "after" {
					h.flush()
				}
				h.must(".close")
				h.endsWith(0) // which is its starter's
				if opened == "before" {
					s.ctl("flush", s.path("spool"))
				}
				s.stock("a.db", "pragma wal_checkpoint(truncate)")
				s.mustEqual("a.db")
			})
		}
	}
}

// TestHostsSignals: the host's handlers run on the host's threads, and all of them.
func TestHostsSignals(t *testing.T) {
	s := dirSite(t)
	h := s.host()
	h.must(".open " + s.path("a.db"))
	h.must("create table t(a integer primary key, b)")
	h.flush() // Go runs
	h.want(".signal 300", "handled 300, on other threads 0")
	h.flush()
	h.endsWith(0)
	s.mustEqual("a.db")
}

// TestWaitsForSignals: a host that blocks SIGCHLD and waits for it gets it, although Go's
// threads would take it.
func TestWaitsForSignals(t *testing.T) {
	s := dirSite(t)
	h := s.host()
	h.must(".open " + s.path("a.db"))
	h.must("create table t(a integer primary key, b)")
	h.flush() // Go runs
	h.want(".children 20", "came 20")
	h.must("insert into t(b) values(randomblob(100000))")
	h.flush()
	h.endsWith(0)
	s.mustEqual("a.db")
}

// TestLoadedOften: by several threads at once, again, and closed more often than opened.
func TestLoadedOften(t *testing.T) {
	s := dirSite(t)
	h := s.host()
	h.must(".load 8")
	h.must(".open " + s.path("a.db"))
	h.must("create table t(a integer primary key, b)")
	h.must(".load 8")
	h.flush()
	h.endsWith(0)
	s.mustEqual("a.db")
}

// TestSmallStacks: threads with little stack, of which a database's opening and closing
// call into Go.
func TestSmallStacks(t *testing.T) {
	s := dirSite(t)
	h := s.host()
	h.must(".open " + s.path("a.db"))
	h.must("create table t(a integer primary key, b)")
	for _, kib := range []int{48, 64, 128, 256} {
		h.must(fmt.Sprintf(".thread %d insert into t(b) values(randomblob(100000)); pragma verneuil_flush_replication_data; select verneuil_status()", kib<<10))
	}
	h.want("select count(*) from t", "4")
	h.flush()
	h.endsWith(0)
	s.mustEqual("a.db")
}

// TestChangedDirectory: relative names mean what they meant when the host used them.
func TestChangedDirectory(t *testing.T) {
	s := dirSite(t)
	h := start(t, []string{s.env()}, hostProgram(t), library(t))
	h.must(".chdir " + s.dir)
	h.must(".open a.db")
	h.must(".chdir /")
	h.must("create table t(b)")
	h.must("insert into t values(randomblob(100000))")
	h.flush()
	h.endsWith(0)
	s.mustEqual("a.db")
}

// TestClosedStdio: files of ours are not found where the host writes to stdout or stderr.
func TestClosedStdio(t *testing.T) {
	for _, journal := range journals {
		t.Run(journal, func(t *testing.T) {
			s := dirSite(t)
			r := run(t, []string{s.env(), "VERNEUIL_LOG=debug"}, "sh", "-c", `exec "$@" <&- >&- 2>&-`, "sh", sqliteShell(t), "-batch",
				"-cmd", ".load "+library(t), "-cmd", ".open "+s.path("a.db"), ":memory:",
				"pragma journal_mode="+journal, "create table t(a integer primary key, b)",
				"with recursive n(i) as (select 1 union all select i+1 from n where i<50) insert into t(b) select randomblob(9000) from n",
				"select hex(b) from t", "pragma verneuil_flush_replication_data", "select hex(b) from t",
				"update t set b = zeroblob(9000)", "pragma verneuil_flush_replication_data", "select hex(b) from t")
			if r.code != 0 {
				t.Errorf("exit code %d", r.code)
			}
			s.stock("a.db", "pragma wal_checkpoint(truncate)")
			s.mustEqual("a.db")
			if ok := s.stock("a.db", "pragma integrity_check"); ok != "ok" {
				t.Error(ok)
			}
		})
	}
}

// forNobody makes the site another user's, who can do nothing else, and returns a host
// that runs as root and can become that user.
func (s *site) forNobody() (program, library string) {
	s.t.Helper()
	program, library = s.path("host"), s.path("libverneuil_vfs.so")
	for to, from := range map[string]string{program: hostProgram(s.t), library: built(s.t, "VERNEUIL_LIB")} {
		b, err := os.ReadFile(from)
		must(s.t, err)
		must(s.t, os.WriteFile(to, b, 0o755))
	}
	must(s.t, os.Chmod(filepath.Dir(s.dir), 0o711))
	must(s.t, os.Chmod(s.path("verneuil.json"), 0o644))
	must(s.t, os.Chown(s.dir, nobody, nobody))
	return program, library
}

// TestUserChanged: a host that gives up root after it has loaded the extension replicates;
// one that does so while a database is open goes on with that, and is told that its
// spool is root's when it opens it again.
func TestUserChanged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	for _, opened := range []string{"before", "after"} {
		t.Run(opened, func(t *testing.T) {
			s := dirSite(t)
			program, lib := s.forNobody()
			h := start(t, []string{s.env()}, program, lib)
			if opened == "before" {
				h.must(".open " + s.path("a.db"))
				h.must("create table t(b)")
				h.flush()
				must(t, os.Chown(s.path("a.db"), nobody, nobody))
			}
			h.must(fmt.Sprintf(".user %d", nobody))
			if opened == "after" {
				h.must(".open " + s.path("a.db"))
				h.must("create table t(b)")
			}
			h.must("insert into t values(randomblob(100000))")
			if opened == "after" {
				h.flush()
				h.endsWith(0)
				if st, err := os.Stat(s.path("spool")); err != nil || st.Sys().(*syscall.Stat_t).Uid != nobody {
					t.Errorf("the spool is not the new user's: %v", err)
				}
				return
			}
			h.ask(".open " + s.path("a.db"))
			h.must("insert into t values('new')")
			h.want("select count(*) from t", "2")
			if status := h.ask("select verneuil_status()"); !strings.Contains(status, "another user") && !strings.Contains(status, "Permission denied") {
				t.Errorf("verneuil_status() does not say why: %s", status)
			}
			h.endsWith(0)
			s.ctl("sync", s.path("a.db"))
			s.mustEqual("a.db")
		})
	}
}

// TestLimits: under whatever limits, a host does what it does with stock SQLite, and ends
// as it does; what is not replicated then is for a reason that is told.
func TestLimits(t *testing.T) {
	script := []string{"create table t(a integer primary key, b);", "insert into t(b) values(randomblob(150000));",
		"update t set b = 'new';", "select a, b from t;"}
	for _, limit := range []struct {
		flag, reason string
		values       []int
	}{
		{"-v", "RLIMIT_AS", []int{60000, 200000, 900000, 1500000, 1600000, 2000000}},
		{"-d", "RLIMIT_DATA", []int{40000, 60000, 90000, 110000, 150000, 250000, 400000}},
		{"-f", "RLIMIT_FSIZE", []int{100, 400, 1000, 1024, 3000}},
		{"-n", "RLIMIT_NOFILE", []int{4, 5, 6, 7, 8, 10, 12, 15, 20, 23, 24, 30}},
		{"-s", "RLIMIT_STACK", []int{100, 1000, 16 << 20}},
	} {
		t.Run(limit.reason, func(t *testing.T) {
			replicated := 0
			for _, value := range limit.values {
				s := dirSite(t)
				under := func(sql []string, argv ...string) result {
					argv = append([]string{"sh", "-c", fmt.Sprintf("ulimit %s %d && ", limit.flag, value) + `exec "$@"`, "sh", sqliteShell(t), "-batch"}, argv...)
					return run(t, []string{s.env()}, append(argv, sql...)...)
				}
				stock := under(script, s.path("stock.db"))
				ours := under(append([]string{".open " + s.path("a.db")}, append(script, "pragma verneuil_flush_replication_data;")...),
					"-cmd", ".load "+library(t), ":memory:")
				flushed := strings.HasSuffix(ours.stdout, "\n1\n")
				code := ours.code
				if strings.Contains(ours.stderr, "is not replicated: ") {
					code = 0 // the flush has failed, which comes last
				}
				if said := strings.TrimSuffix(strings.TrimSuffix(ours.stdout, "1\n"), "0\n"); code != stock.code || said != stock.stdout {
					t.Errorf("ulimit %s %d: exit code %d: %q\n%.2000s\nstock: exit code %d: %q\n%s", limit.flag, value,
						ours.code, ours.stdout, ours.stderr, stock.code, stock.stdout, stock.stderr)
				}
				if stock.code == 0 && !flushed && !strings.Contains(ours.stderr, limit.reason) {
					t.Errorf("ulimit %s %d: not replicated, and not for %s: %.2000s", limit.flag, value, limit.reason, ours.stderr)
				}
				if flushed {
					replicated++
					s.mustEqual("a.db")
				}
			}
			if replicated == 0 {
				t.Error("nothing was ever replicated")
			}
		})
	}
}

// TestProcessLimit: RLIMIT_NPROC, which does not bind root.
func TestProcessLimit(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can find a user without processes")
	}
	for _, n := range []int{1, 2, 3, 5, 7, 9, 11, 20} {
		s := dirSite(t)
		program, lib := s.forNobody()
		h := start(t, []string{s.env(), "GOMAXPROCS=2"}, "setpriv", "--reuid", strconv.Itoa(nobody), "--regid", strconv.Itoa(nobody), "--clear-groups",
			"bash", "-c", fmt.Sprintf(`ulimit -u %d && exec "$@"`, n), "bash", program, lib)
		h.ask(".open " + s.path("a.db"))
		h.must("create table t(b)")
		h.must("insert into t values('x')")
		h.want("select b from t", "x")
		if flushed := h.ask("pragma verneuil_flush_replication_data"); flushed != "1" && !strings.Contains(h.stderr(), "RLIMIT_NPROC") {
			t.Errorf("limit %d: not replicated, and not for RLIMIT_NPROC: %s", n, h.stderr())
		}
		h.endsWith(0)
	}
}

// TestLimitsLater: limits that are set when replication runs.
func TestLimitsLater(t *testing.T) {
	s := dirSite(t)
	h := s.host()
	h.must(".open " + s.path("a.db"))
	h.must("create table t(a integer primary key, b)")
	h.flush()
	h.must(".limit fsize 900000") // the next segment of the log would be larger
	for range 30 {
		for _, sql := range []string{"insert into t(b) values(randomblob(20000))", "update t set b = randomblob(20000)", "delete from t where a%10 <> 1"} {
			if answer := h.ask(sql); answer != "" {
				t.Fatalf("%s: %s", sql, answer)
			}
		}
	}
	if log := h.stderr(); !strings.Contains(log, "File too large") {
		t.Errorf("the log does not say why the log is lost: %s", log)
	}
	h.must(".limit fsize 100000000")
	h.flush()
	h.endsWith(0)
	s.mustEqual("a.db")
}

// terminal opens a pseudo-terminal.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	t.Cleanup(func() { master.Close() })
	must(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	must(t, err)
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// TestThreadsRunOut: the user's processes are as many as may be while replication runs, and Go
// wants threads. The host goes on, and when there may be more, so does replication.
func TestThreadsRunOut(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can find a user without processes")
	}
	s := dirSite(t)
	program, lib := s.forNobody()
	h := start(t, []string{s.env(), "VERNEUIL_LOG=off"}, "setpriv", "--reuid", strconv.Itoa(nobody), "--regid", strconv.Itoa(nobody), "--clear-groups", program, lib)
	h.must(".open " + s.path("a.db"))
	h.must("create table t(b)")
	h.flush()
	h.must(".limit nproc 1")
	for i := range 9 { // as many as may be attached, to be copied at once
		h.must(fmt.Sprintf("attach '%s' as a%d", s.path(fmt.Sprintf("%d.db", i)), i))
		h.must(fmt.Sprintf("create table a%d.t(b)", i))
	}
	for range 3 {
		h.must("begin")
		h.must("insert into t values(randomblob(300000))")
		for i := range 9 {
			h.must(fmt.Sprintf("insert into a%d.t values(randomblob(300000))", i))
		}
		h.must("commit")
	}
	if status := h.ask("select verneuil_status()"); !json.Valid([]byte(status)) {
		t.Errorf("verneuil_status(): %s", status)
	}
	h.must(".limit nproc 10000")
	until(t, "replication goes on", func() bool {
		return h.ask(".open "+s.path("a.db")) == "" && h.ask("pragma verneuil_flush_replication_data") == "1"
	})
	h.must(".open " + s.path("b.db"))
	h.must("create table t(b)")
	h.flush()
	h.endsWith(0)
	s.mustEqual("a.db")
	s.mustEqual("b.db")
}

// TestCancelled: a thread that is cancelled while it attaches to a spool, which another
// process keeps it from, has no mutex that others wait for.
func TestCancelled(t *testing.T) {
	s := dirSite(t)
	h := s.host()
	h.must(".open " + s.path("a.db"))
	h.must("create table t(b)")
	h.must(".close")
	attach := s.glob("spool/*/attach")
	f, err := os.Open(attach)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	h.must(".begin " + s.path("a.db"))
	for tick := time.NewTicker(time.Millisecond); !slices.Contains(h.links(), attach); <-tick.C {
	}
	h.must(".cancel")
	if err := unix.Flock(int(f.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	h.must(".join")
	h.must(".open " + s.path("b.db"))
	h.must("create table t(b)")
	h.send(".fork")
	h.send(".leave 0")
	h.want(".print parent", "child: exit 0\nparent")
	h.flush()
	h.endsWith(0)
	s.mustEqual("b.db")
}

// glob returns the one path in the site that matches.
func (s *site) glob(pattern string) string {
	s.t.Helper()
	found, err := filepath.Glob(s.path(pattern))
	if err != nil || len(found) != 1 {
		s.t.Fatalf("%s: %q, %v", pattern, found, err)
	}
	return found[0]
}

// TestClosedDescriptors: a host that closes all descriptors, and opens its database under
// their numbers, finds nothing of ours in it. Replication goes on.
func TestClosedDescriptors(t *testing.T) {
	for _, journal := range journals {
		t.Run(journal, func(t *testing.T) {
			s := dirSite(t)
			h := s.host()
			h.must(".open " + s.path("a.db"))
			h.want("pragma journal_mode="+journal, journal)
			h.must("create table t(a integer primary key, b)")
			h.flush()
			h.must(".close")
			h.must(".closefrom 3 " + s.path("a.db")) // which is under the numbers that were closed
			h.must(".open " + s.path("a.db"))
			for range 20 {
				h.must("insert into t(b) values(randomblob(20000))")
			}
			h.flush()
			h.want("pragma integrity_check", "ok")
			h.endsWith(0)
			s.stock("a.db", "pragma wal_checkpoint(truncate)")
			s.mustEqual("a.db")
		})
	}
}

// TestNothingOpen: the host's table of descriptors has nothing of ours in it but what it asked for.
func TestNothingOpen(t *testing.T) {
	s := dirSite(t)
	h := s.host()
	h.must(".open :memory:")
	before := h.links()
	h.must(".open " + s.path("a.db"))
	h.must("create table t(a)")
	h.flush()
	h.must(".close")
	h.must(".open :memory:")
	if after := h.links(); !slices.Equal(after, before) {
		t.Errorf("descriptors of a host that has closed its database: %q, before %q", after, before)
	}
	h.endsWith(0)
}
