package remote_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"verneuil/test/e2e/harness"
)

// locks is how often the process has asked for a lock of its database.
func locks(p *harness.Process) int {
	p.T.Helper()
	n, err := strconv.Atoi(p.Ask("select json_extract(verneuil_perf()," +
		"'$.verneuil_remote.opf_lock.avgcount');"))
	harness.Must(p.T, err)
	return n
}

// TestBusyTimeout: who waits for another writer gives up after its busy timeout, whoever that is.
// SQLite adds up what its busy handler sleeps; that sum is what is looked at, by the number of
// attempts: each takes a quarter of a second here, and not what is slept between them.
func TestBusyTimeout(t *testing.T) {
	s := newStage(t, nil, nil)
	open := func(m *machine) *harness.Process {
		config, err := os.ReadFile(m.config)
		harness.Must(t, err)
		short := fmt.Sprintf(`"lease_timeout_ms":%d`, leaseTimeout.Milliseconds())
		s.Write("patient.json", []byte(strings.Replace(string(config), short+",",
			`"lease_timeout_ms":600000,`, 1)))
		p := harness.Start(t, []string{"VERNEUIL_CONFIG=@" + s.Path("patient.json")},
			harness.SQLiteShell(t), "-batch")
		p.Must(".load " + s.library)
		p.Must(".open file:///rounds/busy.db?vfs=verneuil_remote")
		return p
	}
	holder := open(s.machines[0])
	holder.Must("create table t(v); begin immediate; insert into t values('held');")
	for i, where := range []string{"of this machine", "of another machine"} {
		p := open(s.machines[i])
		attempts := func() int { return locks(p) / 2 } // SHARED and RESERVED
		p.Ask("pragma busy_timeout = 4000;")
		before := attempts()
		p.Ask("insert into t values('waits');")
		if !strings.Contains(p.Stderr(), "database is locked") {
			t.Fatalf("a process %s is not told that it is busy: %s", where, p.Stderr())
		}
		// In the first second the holder is not watched, if he is a process of this machine: that
		// is 19 attempts. Three seconds are twelve looks. By what is slept alone there are 49.
		if n := attempts() - before; n > 40 {
			t.Errorf("a process %s: %d attempts in 4 s", where, n)
		}
	}
	holder.Must("rollback;")
	holder.Want("select count(*) from t;", "0")
}

// TestNobodyIsBusy: between two transactions of one process another one of its machine may write,
// and need not wait for that by a busy timeout: the first one has no transaction open.
func TestNobodyIsBusy(t *testing.T) {
	s := newStage(t, nil, nil)
	for k := range 8 {
		var all [2]*harness.Process
		for i := range all {
			all[i] = harness.Start(t, []string{"VERNEUIL_CONFIG=@" + s.machines[0].config},
				harness.SQLiteShell(t), "-batch")
			all[i].Must(".load " + s.library)
			all[i].Must(fmt.Sprintf(".open file:///rounds/nobody%d.db?vfs=verneuil_remote", k))
			all[i].Must("create table if not exists t(v);")
		}
		for range 3 {
			all[0].Must("insert into t values(1);")
		}
		all[1].Must("insert into t values(1);")
		all[0].Want("select count(*) from t;", "4")
	}
}

// TestProcessesOfOneMachine: two of them that write all the time do not sleep between their
// commits: each goes on for a moment, and then leaves the machine's lock to the other one, which is
// there. What is looked at is how often they try: the busy handler sleeps after each time in vain.
func TestProcessesOfOneMachine(t *testing.T) {
	s := newStage(t, nil, nil)
	const commits = 200
	var all [2]*harness.Process
	for i := range all {
		p := harness.Start(t, []string{"VERNEUIL_CONFIG=@" + s.machines[0].config},
			harness.SQLiteShell(t), "-batch")
		p.Must(".load " + s.library)
		p.Must(".open file:///rounds/both.db?vfs=verneuil_remote")
		p.Ask("pragma busy_timeout = 600000;")
		p.Must("create table if not exists t(v);")
		all[i] = p
	}
	for range commits {
		for _, p := range all {
			p.Send("insert into t values('one');")
		}
	}
	for i, p := range all {
		// Without a wait in between a commit takes two or three: SHARED, RESERVED and EXCLUSIVE.
		if n := locks(p); n > 5*commits {
			t.Errorf("process %d: %d locks for %d commits", i, n, commits)
		}
	}
	all[0].Want("select count(*) from t;", strconv.Itoa(2*commits))
}
