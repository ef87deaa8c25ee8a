package faults_test

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"verneuil/spool/faultcall"
	"verneuil/test/crash"
	"verneuil/test/e2e/harness"
)

// These tests fail the system calls that recorder, replicator and a dir target make,
// one after the other, in the real programs. With VERNEUIL_FAULT_STRIDE=1 they take every
// call, in all journal modes; without it some, from a random start, in those that differ
// most. Calls take turns in how they fail: VERNEUIL_FAULT_TURN moves these on.

// workload is what an application does; what it prints does not depend on the VFS.
func workload(journal string) []string {
	mode, locking, _ := strings.Cut(journal, "+")
	w := []string{"pragma locking_mode=" + map[bool]string{true: "exclusive",
		false: "normal"}[locking != ""] + ";"}
	return append(w,
		"pragma journal_mode="+mode+";",
		"create table if not exists t(a integer primary key, b);",
		"insert into t(b) values(printf('%.*c', 900, 'x'));",
		".output /dev/null", "pragma verneuil_flush_replication_data;", ".output stdout",
		"begin; update t set b = 'rolled back'; insert into t(b) values('too'); rollback;",
		"pragma cache_size=5;",
		"begin; with recursive n(i) as (select 1 union all select i+1 from n limit 80)"+
			" insert into t(b) select printf('%.*c', 900+i, 'y') from n; commit;",
		"update t set b = printf('%.*c', 500, 'z') where a % 7 = 0;",
		"pragma wal_checkpoint(truncate);",
		"delete from t where a % 3 = 0;", "vacuum;",
		"insert into t(b) values(printf('%.*c', 70000, 'w'));",
		".output /dev/null", "pragma verneuil_flush_replication_data;", ".output stdout",
		"update t set b = 'last' where a = 2;",
		"select count(*), sum(length(b)), sum(a) from t; pragma integrity_check;")
}

// faultJournals are the journal modes to test.
func faultJournals() []string {
	if !crash.Chosen() {
		return []string{"delete", "wal", "wal+exclusive"}
	}
	return []string{"delete", "truncate", "persist", "wal",
		"delete+exclusive", "truncate+exclusive", "persist+exclusive", "wal+exclusive"}
}

// replicates are the calls of replication: on files in the spool and the store, and the
// opens of the database's files, which SQLite itself opens for writing.
func replicates(s *harness.Site) func(faultcall.Call) bool {
	return func(c faultcall.Call) bool {
		in := func(dir string) bool {
			return c.Path == s.Path(dir) ||
				strings.HasPrefix(c.Path, s.Path(dir)+"/")
		}
		switch {
		case in("spool"), in("store"), c.Name == "madvise":
			return true
		case strings.HasPrefix(c.Path, "/proc/") &&
			(strings.HasSuffix(c.Path, "/stat") || strings.HasSuffix(c.Path, "/boot_id")):
			return true
		case strings.HasPrefix(c.Path, s.Path("a.db")):
			return c.Name == "statx" || c.Name == "openat" &&
				c.Flags&syscall.O_ACCMODE == syscall.O_RDONLY
		}
		return false
	}
}

// stockOutput is what the stock shell prints for the workload, and its last two lines.
func stockOutput(s *harness.Site, lines []string) (output, sum string) {
	s.T.Helper()
	r := calm(s).run(script(s, "stock.db", lines, false), harness.SQLiteShell(s.T), "-batch")
	if r.Code != 0 || r.Stderr != "" {
		s.T.Fatalf("%d: %s", r.Code, r.Stderr)
	}
	all := strings.SplitAfter(r.Stdout, "\n")
	return r.Stdout, strings.Join(all[len(all)-3:], "")
}

// TestFaultsOfMirror: a write to the mirror that fails is done again, with all that
// came before it and is not in the mirror yet.
func TestFaultsOfMirror(t *testing.T) {
	first, step := harness.Stride(t, 29)
	for _, journal := range []string{"delete", "wal"} {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			sweep(s, journal, first, step, func(c faultcall.Call) bool {
				return c.Name == "pwrite64" && strings.HasPrefix(c.Path, s.Path("spool")) &&
					strings.HasSuffix(c.Path, "/mirror")
			})
		})
	}
}

// TestFaults: whatever call of replication fails, once or for good, the application
// sees what it would see without it; and when nothing fails any more, all of it is sent.
func TestFaults(t *testing.T) {
	first, step := harness.Stride(t, 149)
	for _, journal := range faultJournals() {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			sweep(s, journal, first, step, replicates(s))
		})
	}
}

// TestFaultsOften: each call of some VERNEUIL_FAULT_EVERY (31) fails, in one run; over
// VERNEUIL_FAULT_RUNS (1) of them each way of failing with another first one.
func TestFaultsOften(t *testing.T) {
	every, runs := harness.Number(t, "VERNEUIL_FAULT_EVERY", 31),
		harness.Number(t, "VERNEUIL_FAULT_RUNS", 1)
	begin := harness.Number(t, "VERNEUIL_FAULT_FIRST", 1+rand.IntN(every))
	t.Logf("VERNEUIL_FAULT_FIRST=%d", begin)
	for _, journal := range faultJournals() {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			w := faults(s, journal, replicates(s))
			strikes := 0
			for n := range runs {
				for kind := range kinds {
					r := w.trial(1+(begin+n)%every, kind)
					r.every = every
					w.run(r)
					strikes += r.strikes
				}
			}
			t.Logf("%d faults in %d runs", strikes, runs*len(kinds))
		})
	}
}

// kinds are the ways in which calls fail; 0: a short write.
var kinds = []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EACCES, syscall.EMFILE, 0}

// faulty is a workload whose calls are to fail.
type faulty struct {
	*harness.Site
	lines     []string
	want, sum string // what the stock shell says to it
	ours      func(faultcall.Call) bool
	calm      descriptors
}

func faults(s *harness.Site, journal string, ours func(faultcall.Call) bool) *faulty {
	s.T.Helper()
	w := &faulty{Site: s, lines: workload(journal), ours: ours}
	w.want, w.sum = stockOutput(s, w.lines)
	r := calm(s)
	r.descriptors = &w.calm
	if r.run(script(s, "a.db", w.lines, true), harness.SQLiteShell(s.T),
		"-batch"); len(w.calm.site) > 0 {
		s.T.Fatalf("descriptors of %q without any fault", w.calm.site)
	}
	return w
}

func (w *faulty) trial(at, kind int) *trial {
	r := &trial{s: w.Site, at: at, errno: kinds[kind], ours: w.ours, target: newWatcher(w.Site)}
	return r
}

// run does the workload, and what recovery there is to be afterwards.
func (w *faulty) run(r *trial) {
	w.T.Helper()
	anew(w.Site)
	if r.at%3 > 0 { // in the others it ends with the database open
		r.descriptors = new(descriptors)
	}
	got := r.run(script(w.Site, "a.db", w.lines, true), harness.SQLiteShell(w.T), "-batch")
	got = withoutFlushErrors(got)
	if got.Code != 0 || got.Stdout != w.want || got.Stderr != "" {
		w.T.Fatalf("%v: the application saw %q, %q, exit code %d; want %q", r, got.Stdout,
			got.Stderr, got.Code, w.want)
	}
	if r.descriptors != nil {
		if err := r.descriptors.leaked(r, &w.calm); err != nil {
			w.T.Fatalf("%v: %v", r, err)
		}
	}
	if used, bound := w.Blocks("spool"), 2*w.Blocks("a.db")+8<<20; used > bound {
		w.T.Fatalf("%v: the spool takes %d bytes, more than %d", r, used, bound)
	}
	recovers(w.Site, r, w.sum)
}

// flushError is what the shell says when a flush is asked for of a database that could not be
// replicated when it was opened: the workload's own statements may say nothing.
var flushError = regexp.MustCompile(
	`(?m)^(Parse )?[Ee]rror (near line \d+|in prepare)[:,] .*/a\.db is not replicated: .*\n`)

// withoutFlushErrors takes these errors out of what a shell has said, and the exit code that
// comes of them.
func withoutFlushErrors(r harness.Result) harness.Result {
	n := len(flushError.FindAllString(r.Stderr, -1))
	r.Stderr = flushError.ReplaceAllString(r.Stderr, "")
	if n > 0 && r.Code == 1 {
		r.Code = 0
	}
	return r
}

// sweep fails every step-th of the calls that are ours, until a run passes untouched.
func sweep(s *harness.Site, journal string, first, step int, ours func(faultcall.Call) bool) {
	s.T.Helper()
	w := faults(s, journal, ours)
	turn := first + harness.Number(s.T, "VERNEUIL_FAULT_TURN", 0)
	for n := 0; ; n++ {
		r := w.trial(first+n*step, (turn+n)%len(kinds))
		r.good = (turn+n)/len(kinds)%2 == 1 && r.errno != 0
		w.run(r)
		if r.struck == "" {
			s.T.Logf("%d of %d calls failed", n, r.calls)
			return
		}
	}
}

// TestFaultsOfLock: no look at the lock of a spool succeeds any more, from the second, third or
// fourth on. What cannot be looked at is not opened: closing it could give the lock back.
func TestFaultsOfLock(t *testing.T) {
	for _, at := range []int{2, 3, 4} {
		s := harness.DirSite(t)
		w := faults(s, "delete", func(c faultcall.Call) bool {
			return strings.HasSuffix(c.Path, "/lock") &&
				(c.Name == "newfstatat" || c.Name == "statx")
		})
		r := w.trial(at, 0)
		r.good = true
		w.run(r)
		t.Logf("%d of %d looks failed", r.strikes, r.calls)
	}
}
