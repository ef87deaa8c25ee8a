package hosts_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"verneuil/test/e2e/harness"
)

// What processes do that use a library: become others, daemonize, give up rights, live
// with little. Either replication goes on, or the database does without it and it is
// said why; never does the host fare worse than with stock SQLite.

// TestExec: a process that replicates becomes another program, and its commits are not
// lost: the next one that opens the database sends them, or verneuilctl flush does.
func TestExec(t *testing.T) {
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			program := harness.HostProgram(t)
			h := harness.Start(t, []string{s.Env()}, program, harness.Library(t))
			h.Must(".open " + s.Path("a.db"))
			h.Want("pragma journal_mode="+journal, journal)
			h.Must("create table t(a integer primary key, b)")
			h.Flush()
			h.Must("insert into t(b) values('before')")
			h.Send(".exec " + program)
			h.Must(".open " + s.Path("a.db"))
			h.Must("insert into t(b) values('after')")
			h.Flush()
			h.Want("select group_concat(b) from t", "before,after")
			h.Must("insert into t(b) values('last')")
			h.Send(".exec /bin/true")
			h.EndsWith(0)
			s.Ctl("flush", s.Path("spool"))
			s.Stock("a.db", "pragma wal_checkpoint(truncate)")
			s.MustEqual("a.db")
		})
	}
}

// TestExecLeaves: what a process had not sent when it became another program, another
// process sends, although the one that has recorded it lives on.
func TestExecLeaves(t *testing.T) {
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			s.Configure(map[string]any{"manifest_interval_ms": 3600_000})
			h := s.Host()
			h.Must(".open " + s.Path("a.db"))
			h.Want("pragma journal_mode="+journal, journal)
			h.Must("create table t(a integer primary key, b)")
			h.Flush()
			h.Must("insert into t(b) values('left')")
			h.Send(".exec " + harness.HostProgram(t))
			h.Want(".print it lives", "it lives") // and opens nothing
			s.Configure(nil)
			other := s.Host() // looks for what nobody serves
			other.Must(".open " + s.Path("b.db"))
			s.UntilRestored("a.db", "select b from t", "left")
			other.EndsWith(0)
			h.EndsWith(0)
		})
	}
}

// TestDaemon: a daemon that opens its database when it is one replicates; one that
// opened it before records, and leaves the sending to others.
func TestDaemon(t *testing.T) {
	for _, journal := range harness.Journals {
		for _, opened := range []string{"before", "after"} {
			t.Run(journal+"/"+opened, func(t *testing.T) {
				s := harness.DirSite(t)
				h := s.Host()
				create := func() {
					h.Must(".open " + s.Path("a.db"))
					h.Want("pragma journal_mode="+journal, journal)
				}
				if opened == "before" {
					create()
					h.Must("create table t(a integer primary key, b)")
					h.Flush()
				}
				h.Send(".daemon")
				create()
				h.Must("create table if not exists t(a integer primary key, b)")
				h.Must("insert into t(b) values(randomblob(100000))")
				if opened == "after" {
					h.Flush()
				}
				h.Must(".close")
				h.EndsWith(0) // which is its starter's
				if opened == "before" {
					s.Ctl("flush", s.Path("spool"))
				}
				s.Stock("a.db", "pragma wal_checkpoint(truncate)")
				s.MustEqual("a.db")
			})
		}
	}
}

// TestHostsSignals: the host's handlers run on the host's threads, and all of them.
func TestHostsSignals(t *testing.T) {
	s := harness.DirSite(t)
	h := s.Host()
	h.Must(".open " + s.Path("a.db"))
	h.Must("create table t(a integer primary key, b)")
	h.Flush() // Go runs
	h.Want(".signal 300", "handled 300, on other threads 0")
	h.Flush()
	h.EndsWith(0)
	s.MustEqual("a.db")
}

// TestWaitsForSignals: a host that blocks SIGCHLD and waits for it gets it, although Go's
// threads would take it.
func TestWaitsForSignals(t *testing.T) {
	s := harness.DirSite(t)
	h := s.Host()
	h.Must(".open " + s.Path("a.db"))
	h.Must("create table t(a integer primary key, b)")
	h.Flush() // Go runs
	h.Want(".children 20", "came 20")
	h.Must("insert into t(b) values(randomblob(100000))")
	h.Flush()
	h.EndsWith(0)
	s.MustEqual("a.db")
}

// TestLoadedOften: by several threads at once, again, and closed more often than opened.
func TestLoadedOften(t *testing.T) {
	s := harness.DirSite(t)
	h := s.Host()
	h.Must(".load 8")
	h.Must(".open " + s.Path("a.db"))
	h.Must("create table t(a integer primary key, b)")
	h.Must(".load 8")
	h.Flush()
	h.EndsWith(0)
	s.MustEqual("a.db")
}

// TestSmallStacks: threads with little stack, of which a database's opening and closing
// call into Go.
func TestSmallStacks(t *testing.T) {
	s := harness.DirSite(t)
	h := s.Host()
	h.Must(".open " + s.Path("a.db"))
	h.Must("create table t(a integer primary key, b)")
	for _, kib := range []int{48, 64, 128, 256} {
		h.Must(fmt.Sprintf(".thread %d insert into t(b) values(randomblob(100000)); "+
			"pragma verneuil_flush_replication_data; select verneuil_status()", kib<<10))
	}
	h.Want("select count(*) from t", "4")
	h.Flush()
	h.EndsWith(0)
	s.MustEqual("a.db")
}

// TestChangedDirectory: relative names mean what they meant when the host used them.
func TestChangedDirectory(t *testing.T) {
	s := harness.DirSite(t)
	h := harness.Start(t, []string{s.Env()}, harness.HostProgram(t), harness.Library(t))
	h.Must(".chdir " + s.Dir)
	h.Must(".open a.db")
	h.Must(".chdir /")
	h.Must("create table t(b)")
	h.Must("insert into t values(randomblob(100000))")
	h.Flush()
	h.EndsWith(0)
	s.MustEqual("a.db")
}

// TestClosedStdio: files of ours are not found where the host writes to stdout or stderr.
func TestClosedStdio(t *testing.T) {
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			r := harness.Run(t, []string{s.Env(), "VERNEUIL_LOG=debug"}, "sh", "-c",
				`exec "$@" <&- >&- 2>&-`, "sh", harness.SQLiteShell(t), "-batch",
				"-cmd", ".load "+harness.Library(t), "-cmd", ".open "+s.Path("a.db"), ":memory:",
				"pragma journal_mode="+journal, "create table t(a integer primary key, b)",
				"with recursive n(i) as (select 1 union all select i+1 from n where i<50) insert "+
					"into t(b) select randomblob(9000) from n",
				"select hex(b) from t", "pragma verneuil_flush_replication_data",
				"select hex(b) from t",
				"update t set b = zeroblob(9000)", "pragma verneuil_flush_replication_data",
				"select hex(b) from t")
			if r.Code != 0 {
				t.Errorf("exit code %d", r.Code)
			}
			s.Stock("a.db", "pragma wal_checkpoint(truncate)")
			s.MustEqual("a.db")
			if ok := s.Stock("a.db", "pragma integrity_check"); ok != "ok" {
				t.Error(ok)
			}
		})
	}
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
			s := harness.DirSite(t)
			program, lib := s.ForNobody()
			h := harness.Start(t, []string{s.Env()}, program, lib)
			if opened == "before" {
				h.Must(".open " + s.Path("a.db"))
				h.Must("create table t(b)")
				h.Flush()
				harness.Must(t, os.Chown(s.Path("a.db"), harness.Nobody, harness.Nobody))
			}
			h.Must(fmt.Sprintf(".user %d", harness.Nobody))
			if opened == "after" {
				h.Must(".open " + s.Path("a.db"))
				h.Must("create table t(b)")
			}
			h.Must("insert into t values(randomblob(100000))")
			if opened == "after" {
				h.Flush()
				h.EndsWith(0)
				if st, err := os.Stat(s.Path("spool")); err != nil ||
					st.Sys().(*syscall.Stat_t).Uid != harness.Nobody {
					t.Errorf("the spool is not the new user's: %v", err)
				}
				return
			}
			h.Ask(".open " + s.Path("a.db"))
			h.Must("insert into t values('new')")
			h.Want("select count(*) from t", "2")
			if status := h.Ask("select verneuil_status()"); !strings.Contains(status,
				"another user") && !strings.Contains(status, "Permission denied") {
				t.Errorf("verneuil_status() does not say why: %s", status)
			}
			h.EndsWith(0)
			s.Ctl("sync", s.Path("a.db"))
			s.MustEqual("a.db")
		})
	}
}

// TestLimits: under whatever limits, a host does what it does with stock SQLite, and ends
// as it does; what is not replicated then is for a reason that is told.
func TestLimits(t *testing.T) {
	script := []string{"create table t(a integer primary key, b);",
		"insert into t(b) values(randomblob(150000));",
		"update t set b = 'new';", "select a, b from t;"}
	for _, limit := range []struct {
		flag, reason string
		values       []int
	}{
		{"-v", "RLIMIT_AS", []int{60000, 200000, 900000, 1500000, 1600000, 1700000, 1800000,
			2000000, 2100000, 2300000, 2600000, 2900000, 3000000, 4000000, 32000000}},
		{"-d", "RLIMIT_DATA", []int{40000, 60000, 90000, 110000, 150000, 250000, 400000}},
		{"-f", "RLIMIT_FSIZE", []int{100, 400, 1000, 1024, 3000}},
		{"-n", "RLIMIT_NOFILE", []int{4, 5, 6, 7, 8, 10, 12, 15, 20, 23, 24, 30}},
		{"-s", "RLIMIT_STACK", []int{100, 1000, 16 << 20}},
	} {
		t.Run(limit.reason, func(t *testing.T) {
			replicated := 0
			for _, value := range limit.values {
				s := harness.DirSite(t)
				under := func(sql []string, argv ...string) harness.Result {
					argv = append([]string{"sh", "-c",
						fmt.Sprintf("ulimit %s %d && ", limit.flag, value) + `exec "$@"`, "sh",
						harness.SQLiteShell(t), "-batch"}, argv...)
					return harness.Run(t, []string{s.Env()}, append(argv, sql...)...)
				}
				stock := under(script, s.Path("stock.db"))
				ours := under(append([]string{".open " + s.Path("a.db")},
					append(script, "pragma verneuil_flush_replication_data;")...),
					"-cmd", ".load "+harness.Library(t), ":memory:")
				flushed := strings.HasSuffix(ours.Stdout, "\n1\n")
				code := ours.Code
				if strings.Contains(ours.Stderr, "is not replicated: ") {
					code = 0 // the flush has failed, which comes last
				}
				if said := strings.TrimSuffix(strings.TrimSuffix(ours.Stdout, "1\n"),
					"0\n"); code != stock.Code || said != stock.Stdout {
					t.Errorf("ulimit %s %d: exit code %d: %q\n%.2000s\nstock: exit code %d: %q\n%s",
						limit.flag, value,
						ours.Code, ours.Stdout, ours.Stderr, stock.Code, stock.Stdout, stock.Stderr)
				}
				if stock.Code == 0 && !flushed && !strings.Contains(ours.Stderr, limit.reason) {
					t.Errorf("ulimit %s %d: not replicated, and not for %s: %.2000s", limit.flag,
						value, limit.reason, ours.Stderr)
				}
				if flushed {
					replicated++
					s.MustEqual("a.db")
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
		s := harness.DirSite(t)
		program, lib := s.ForNobody()
		h := harness.Start(t, []string{s.Env(), "GOMAXPROCS=2"}, "setpriv", "--reuid",
			strconv.Itoa(harness.Nobody), "--regid", strconv.Itoa(harness.Nobody), "--clear-groups",
			"bash", "-c", fmt.Sprintf(`ulimit -u %d && exec "$@"`, n), "bash", program, lib)
		h.Ask(".open " + s.Path("a.db"))
		h.Must("create table t(b)")
		h.Must("insert into t values('x')")
		h.Want("select b from t", "x")
		if flushed := h.Ask("pragma verneuil_flush_replication_data"); flushed != "1" &&
			!strings.Contains(h.Stderr(), "RLIMIT_NPROC") {
			t.Errorf("limit %d: not replicated, and not for RLIMIT_NPROC: %s", n, h.Stderr())
		}
		h.EndsWith(0)
	}
}

// TestLimitsLater: limits that are set when replication runs.
func TestLimitsLater(t *testing.T) {
	s := harness.DirSite(t)
	h := s.Host()
	h.Must(".open " + s.Path("a.db"))
	h.Must("create table t(a integer primary key, b)")
	h.Flush()
	h.Must(".limit fsize 900000") // the next segment of the log would be larger
	for range 30 {
		for _, sql := range []string{"insert into t(b) values(randomblob(20000))",
			"update t set b = randomblob(20000)", "delete from t where a%10 <> 1"} {
			if answer := h.Ask(sql); answer != "" {
				t.Fatalf("%s: %s", sql, answer)
			}
		}
	}
	if log := h.Stderr(); !strings.Contains(log, "File too large") {
		t.Errorf("the log does not say why the log is lost: %s", log)
	}
	h.Must(".limit fsize 100000000")
	h.Flush()
	h.EndsWith(0)
	s.MustEqual("a.db")
}

// terminal opens a pseudo-terminal.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	harness.Must(t, err)
	t.Cleanup(func() { master.Close() })
	harness.Must(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	harness.Must(t, err)
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	harness.Must(t, err)
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// TestThreadsRunOut: the user's processes are as many as may be while replication runs, and Go
// wants threads. The host goes on, and when there may be more, so does replication.
func TestThreadsRunOut(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can find a user without processes")
	}
	s := harness.DirSite(t)
	program, lib := s.ForNobody()
	h := harness.Start(t, []string{s.Env(), "VERNEUIL_LOG=off"}, "setpriv", "--reuid",
		strconv.Itoa(harness.Nobody), "--regid", strconv.Itoa(harness.Nobody), "--clear-groups",
		program, lib)
	h.Must(".open " + s.Path("a.db"))
	h.Must("create table t(b)")
	h.Flush()
	h.Must(".limit nproc 1")
	for i := range 9 { // as many as may be attached, to be copied at once
		h.Must(fmt.Sprintf("attach '%s' as a%d", s.Path(fmt.Sprintf("%d.db", i)), i))
		h.Must(fmt.Sprintf("create table a%d.t(b)", i))
	}
	for range 3 {
		h.Must("begin")
		h.Must("insert into t values(randomblob(300000))")
		for i := range 9 {
			h.Must(fmt.Sprintf("insert into a%d.t values(randomblob(300000))", i))
		}
		h.Must("commit")
	}
	if status := h.Ask("select verneuil_status()"); !json.Valid([]byte(status)) {
		t.Errorf("verneuil_status(): %s", status)
	}
	h.Must(".limit nproc 10000")
	harness.Until(t, "replication goes on", func() bool {
		return h.Ask(".open "+s.Path("a.db")) == "" &&
			h.Ask("pragma verneuil_flush_replication_data") == "1"
	})
	h.Must(".open " + s.Path("b.db"))
	h.Must("create table t(b)")
	h.Flush()
	h.EndsWith(0)
	s.MustEqual("a.db")
	s.MustEqual("b.db")
}

// TestCancelled: a thread that is cancelled while it attaches to a spool, which another
// process keeps it from, has no mutex that others wait for.
func TestCancelled(t *testing.T) {
	s := harness.DirSite(t)
	h := s.Host()
	h.Must(".open " + s.Path("a.db"))
	h.Must("create table t(b)")
	h.Must(".close")
	attach := s.Glob("spool/*/attach")
	f, err := os.Open(attach)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	h.Must(".begin " + s.Path("a.db"))
	for tick := time.NewTicker(time.Millisecond); !slices.Contains(links(h), attach); <-tick.C {
	}
	h.Must(".cancel")
	if err := unix.Flock(int(f.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	h.Must(".join")
	h.Must(".open " + s.Path("b.db"))
	h.Must("create table t(b)")
	h.Send(".fork")
	h.Send(".leave 0")
	h.Want(".print parent", "child: exit 0\nparent")
	h.Flush()
	h.EndsWith(0)
	s.MustEqual("b.db")
}

// TestClosedDescriptors: a host that closes all descriptors, and opens its database under
// their numbers, finds nothing of ours in it. Replication goes on.
func TestClosedDescriptors(t *testing.T) {
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			h := s.Host()
			h.Must(".open " + s.Path("a.db"))
			h.Want("pragma journal_mode="+journal, journal)
			h.Must("create table t(a integer primary key, b)")
			h.Flush()
			h.Must(".close")
			h.Must(".closefrom 3 " + s.Path("a.db")) // which is under the numbers that were closed
			h.Must(".open " + s.Path("a.db"))
			for range 20 {
				h.Must("insert into t(b) values(randomblob(20000))")
			}
			h.Flush()
			h.Want("pragma integrity_check", "ok")
			h.EndsWith(0)
			s.Stock("a.db", "pragma wal_checkpoint(truncate)")
			s.MustEqual("a.db")
		})
	}
}

// TestNothingOpen: the host's table of descriptors has nothing of ours in it but what it asked for.
func TestNothingOpen(t *testing.T) {
	s := harness.DirSite(t)
	h := s.Host()
	h.Must(".open :memory:")
	before := links(h)
	h.Must(".open " + s.Path("a.db"))
	h.Must("create table t(a)")
	h.Flush()
	h.Must(".close")
	h.Must(".open :memory:")
	if after := links(h); !slices.Equal(after, before) {
		t.Errorf("descriptors of a host that has closed its database: %q, before %q", after, before)
	}
	h.EndsWith(0)
}
