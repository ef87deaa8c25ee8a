package main_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

const (
	// hostMemory is what a host may take more for a transaction, however long it is.
	hostMemory = 48 << 20
	// toolMemory is what verneuilctl may have in memory, with its own code.
	toolMemory = 96 << 20
)

// TestTransactionMemory: no process holds a transaction in memory: not the host that commits
// it, nor one that comes after a crash, nor verneuilctl. VERNEUIL_TRANSACTION_MIB (192) is how
// long the longest is. On disk it takes four times that: database, WAL, mirror, and log or journal.
func TestTransactionMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("makes transactions of 192 MiB")
	}
	for _, journal := range []string{"wal", "wal+exclusive", "persist"} {
		for _, mib := range []int{64, number(t, "VERNEUIL_TRANSACTION_MIB", 192)} {
			t.Run(fmt.Sprintf("%s/%d", journal, mib), func(t *testing.T) { transactionMemory(t, journal, mib) })
		}
	}
}

func transactionMemory(t *testing.T, journal string, mib int) {
	s := dirSite(t)
	mode, locking, _ := strings.Cut(journal, "+")
	shell := s.shell("a.db")
	if locking != "" {
		shell.ask("pragma locking_mode=exclusive;")
	}
	shell.want("pragma journal_mode="+mode+";", mode)
	shell.must("pragma synchronous=off; create table t(a integer primary key, b);")
	shell.ask("pragma wal_autocheckpoint=0;")
	shell.flush()
	shell.peakFromNow()
	before := shell.peak()
	shell.must(fmt.Sprintf("with recursive n(i) as (select 1 union all select i+1 from n limit %d)"+
		" insert into t(b) select printf('%%d%%.*c', i, 65536, 'x') from n;", mib<<20/65536))
	shell.flush()
	more := shell.peak() - before
	t.Logf("the host takes %d MiB more", more>>20)
	if more > hostMemory {
		t.Errorf("the host takes %d MiB more", more>>20)
	}
	shell.kill() // so that the WAL stays
	for _, args := range [][]string{{"flush", s.path("spool")}, {"sync", s.path("a.db")}, {"restore", "-s", s.path("a.db"), "-o", s.path("r.db")}} {
		bytes := s.toolPeak(args...)
		t.Logf("verneuilctl %s takes %d MiB", args[0], bytes>>20)
		if bytes > toolMemory {
			t.Errorf("verneuilctl %s takes %d MiB", args[0], bytes>>20)
		}
	}
	next := s.shell("")
	next.peakFromNow()
	before = next.peak()
	next.must(".open " + s.path("a.db"))
	next.want("select count(*) from t;", fmt.Sprint(mib<<20/65536))
	next.flush()
	more = next.peak() - before
	t.Logf("the host that opens it again takes %d MiB more", more>>20)
	if more > hostMemory {
		t.Errorf("the host that opens it again takes %d MiB more", more>>20)
	}
	next.endsWith(0)
	s.ctl("restore", "-s", s.path("a.db"), "-o", s.path("last.db"))
	if r := run(t, nil, "cmp", s.path("a.db"), s.path("last.db")); r.code != 0 {
		t.Errorf("%s%s", r.stdout, r.stderr)
	}
}

// peakFromNow forgets how much memory the program has had.
func (s *session) peakFromNow() {
	s.t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.command.Process.Pid), []byte("5"), 0); err != nil {
		s.t.Skip(err) // a kernel without it
	}
}

// peak returns how much memory the program has had at most.
func (s *session) peak() (bytes int64) {
	s.t.Helper()
	return s.memory("VmHWM:")
}

// memoryOf runs a command, and prints how much memory, in KiB, it had at most. What the kernel
// says of a child at its end begins with what the process had that made it: hence not ours.
const memoryOf = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=sys.stderr);" +
	"print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"

// toolPeak returns how much memory verneuilctl has had at most for a command that succeeds.
func (s *site) toolPeak(args ...string) (bytes int64) {
	s.t.Helper()
	r := run(s.t, nil, append([]string{python, "-c", memoryOf, built(s.t, "VERNEUIL_CTL"), "-c", s.config()}, args...)...)
	if _, err := fmt.Sscan(r.stdout, &bytes); err != nil || r.code != 0 {
		s.t.Fatalf("verneuilctl %v: %s%s", args, r.stdout, r.stderr)
	}
	return bytes << 10
}
