package limits_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"verneuil/test/e2e/harness"
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
		for _, mib := range []int{64, harness.Number(t, "VERNEUIL_TRANSACTION_MIB", 192)} {
			t.Run(fmt.Sprintf("%s/%d", journal, mib),
				func(t *testing.T) { transactionMemory(t, journal, mib) })
		}
	}
}

func transactionMemory(t *testing.T, journal string, mib int) {
	s := harness.DirSite(t)
	mode, locking, _ := strings.Cut(journal, "+")
	shell := s.Shell("a.db")
	if locking != "" {
		shell.Ask("pragma locking_mode=exclusive;")
	}
	shell.Want("pragma journal_mode="+mode+";", mode)
	shell.Must("pragma synchronous=off; create table t(a integer primary key, b);")
	shell.Ask("pragma wal_autocheckpoint=0;")
	shell.Flush()
	peakFromNow(shell)
	before := peak(shell)
	shell.Must(fmt.Sprintf("with recursive n(i) as (select 1 union all select i+1 from n limit %d)"+
		" insert into t(b) select printf('%%d%%.*c', i, 65536, 'x') from n;", mib<<20/65536))
	shell.Flush()
	more := peak(shell) - before
	t.Logf("the host takes %d MiB more", more>>20)
	if more > hostMemory {
		t.Errorf("the host takes %d MiB more", more>>20)
	}
	shell.Kill() // so that the WAL stays
	for _, args := range [][]string{{"flush", s.Path("spool")}, {"sync", s.Path("a.db")},
		{"restore", "-s", s.Path("a.db"), "-o", s.Path("r.db")}} {
		bytes := toolPeak(s, args...)
		t.Logf("verneuilctl %s takes %d MiB", args[0], bytes>>20)
		if bytes > toolMemory {
			t.Errorf("verneuilctl %s takes %d MiB", args[0], bytes>>20)
		}
	}
	next := s.Shell("")
	peakFromNow(next)
	before = peak(next)
	next.Must(".open " + s.Path("a.db"))
	next.Want("select count(*) from t;", fmt.Sprint(mib<<20/65536))
	next.Flush()
	more = peak(next) - before
	t.Logf("the host that opens it again takes %d MiB more", more>>20)
	if more > hostMemory {
		t.Errorf("the host that opens it again takes %d MiB more", more>>20)
	}
	next.EndsWith(0)
	s.Ctl("restore", "-s", s.Path("a.db"), "-o", s.Path("last.db"))
	if r := harness.Run(t, nil, "cmp", s.Path("a.db"), s.Path("last.db")); r.Code != 0 {
		t.Errorf("%s%s", r.Stdout, r.Stderr)
	}
}

// peakFromNow forgets how much memory the program has had.
func peakFromNow(s *harness.Process) {
	s.T.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.Command.Process.Pid), []byte("5"),
		0); err != nil {
		s.T.Skip(err) // a kernel without it
	}
}

// peak returns how much memory the program has had at most.
func peak(s *harness.Process) (bytes int64) {
	s.T.Helper()
	return memory(s, "VmHWM:")
}

// memoryOf runs a command, and prints how much memory, in KiB, it had at most. What the kernel
// says of a child at its end begins with what the process had that made it: hence not ours.
const memoryOf = "import resource, subprocess, sys; " +
	"subprocess.run(sys.argv[1:], check=True, stdout=sys.stderr);" +
	"print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"

// toolPeak returns how much memory verneuilctl has had at most for a command that succeeds.
func toolPeak(s *harness.Site, args ...string) (bytes int64) {
	s.T.Helper()
	r := harness.Run(s.T, nil, append([]string{harness.Python, "-c", memoryOf,
		harness.Built(s.T, "VERNEUIL_CTL"), "-c", s.Config()}, args...)...)
	if _, err := fmt.Sscan(r.Stdout, &bytes); err != nil || r.Code != 0 {
		s.T.Fatalf("verneuilctl %v: %s%s", args, r.Stdout, r.Stderr)
	}
	return bytes << 10
}
