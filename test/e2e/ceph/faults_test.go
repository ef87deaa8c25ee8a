package ceph_test

import (
	"fmt"
	"strings"
	"testing"

	"verneuil/test/cephtest"
	"verneuil/test/e2e/harness"
)

// journal is a writer that knows what was committed.
type journal struct {
	*harness.Process
	next      int
	committed []string // whose commit was acknowledged
}

// begin makes the table, and its database.
func (w *world) begin(uri string) *journal {
	w.Helper()
	j := &journal{Process: w.shell(uri)}
	j.Must(".timeout 60000")
	j.Must("create table if not exists t(x integer primary key);")
	return j
}

// insert commits a row, and returns what is said if that fails.
func (j *journal) insert() (failed string) {
	j.T.Helper()
	j.next++
	before := len(j.Stderr())
	answer := j.Ask(fmt.Sprintf("insert into t values(%d) returning x;", j.next))
	if answer == fmt.Sprint(j.next) && !strings.Contains(j.Stderr()[before:], "rror near") {
		j.committed = append(j.committed, answer)
		return ""
	}
	if j.Ask("select 1;") != "1" {
		j.T.Fatalf("the process is of no use after %q", j.Stderr()[before:])
	}
	j.Ask("rollback;") // it may be one already
	return j.Stderr()[before:]
}

// mustInsert commits a row.
func (j *journal) mustInsert() {
	j.T.Helper()
	if said := j.insert(); said != "" {
		j.T.Fatalf("insert %d: %s", j.next, said)
	}
}

// complete checks that a new process finds all that was committed.
func (j *journal) complete(w *world, uri string) {
	j.T.Helper()
	s := w.shell(uri)
	there := strings.Split(s.Ask("select x from t order by x;"), "\n")
	has := make(map[string]bool, len(there))
	for _, x := range there {
		has[x] = true
	}
	for _, x := range j.committed {
		if !has[x] {
			j.T.Errorf("row %s was committed, and is not there", x)
		}
	}
	s.Want("pragma integrity_check;", "ok")
}

// TestFaults: while the cluster does not answer, is full, or has no monitor, a commit waits, or
// fails within remote_deadline_ms and says why; the process goes on when the cluster does, and
// nothing that was committed is lost.
func TestFaults(t *testing.T) {
	harness.Library(t)
	c := cephtest.Start(t, cephtest.Options{})
	w := worldIn(t, c)
	uri := w.uri("a.db")
	w.configure(map[string]any{"remote_deadline_ms": 1500, "store_timeout_ms": 5000})
	j := w.begin(uri)
	j.mustInsert()
	t.Run("OSD does not answer", func(t *testing.T) {
		c.OSDs[0].Freeze(t)
		said := j.insert()
		c.OSDs[0].Thaw(t)
		if !strings.Contains(said, "not known whether the store has the transaction") {
			t.Errorf("insert: %q", said)
		}
		j.mustInsert()
	})
	t.Run("OSD answers late", func(t *testing.T) {
		w := worldIn(t, c)
		patient := w.begin(w.uri("b.db"))
		patient.mustInsert()
		c.OSDs[0].Freeze(t)
		patient.Send("insert into t values(2);")
		harness.Until(t, "it is said what is waited for", func() bool {
			return strings.Contains(patient.Stderr(), "WARN")
		})
		c.OSDs[0].Thaw(t)
		patient.Want("select count(*) from t;", "2")
		patient.complete(w, w.uri("b.db"))
	})
	t.Run("full", func(t *testing.T) { testFull(t, c, j) })
	t.Run("no monitor", func(t *testing.T) {
		c.Mon.Kill()
		j.mustInsert() // it asks OSDs alone
		late := w.shell(uri)
		said := fails(late, "select * from t;")
		if !strings.Contains(said, "timed out") && !strings.Contains(said, "no monitor") {
			t.Errorf("without a monitor: %q", said)
		}
		c.Mon.Start(t)
		harness.Until(t, "another process connects", func() bool {
			return w.shell(uri).Ask("select min(x) from t;") == "1"
		})
		j.mustInsert()
	})
	j.complete(w, uri)
	t.Run("pool deleted", func(t *testing.T) {
		c.DeletePool(t, cephtest.Pool)
		said := ""
		harness.Until(t, "the OSD knows", func() bool { said = j.insert(); return said != "" })
		said += j.insert() // the log has one line for an outage
		if !strings.Contains(said, "no such pool") || !strings.Contains(said, cephtest.Pool) {
			t.Errorf("insert: %q", said)
		}
		fails(w.shell(uri), "select * from t;", "no such pool", "ceph osd pool create")
	})
}

// testFull: a full OSD refuses what makes objects, or makes them longer. A map grows: that is how
// commits without large pieces go on.
func testFull(t *testing.T, c *cephtest.Cluster, j *journal) {
	c.Run(t, "ceph", "tell", "osd.0", "injectfull", "full")
	const large = "create table big as select randomblob(3000000);"
	harness.Until(t, "the cluster is full", func() bool {
		before := len(j.Stderr())
		j.Ask("drop table if exists big; " + large)
		return strings.Contains(j.Stderr()[before:], "full")
	})
	c.Run(t, "ceph", "tell", "osd.0", "injectfull", "none")
	harness.Until(t, "it is not", func() bool {
		before := len(j.Stderr())
		j.Ask("drop table if exists big; " + large)
		return j.Stderr()[before:] == ""
	})
	j.mustInsert()
}

// TestQuota: a pool that has reached its quota refuses what makes objects, as one that is full:
// that is SQLITE_FULL, and says why. Small commits go on, and all of them when the quota is lifted.
func TestQuota(t *testing.T) {
	harness.Library(t)
	c := cephtest.Start(t, cephtest.Options{})
	c.StartManager(t)
	w := worldIn(t, c)
	uri := w.uri("a.db")
	j := w.begin(uri)
	j.mustInsert()
	quota := func(bytes string) {
		c.Run(t, "ceph", "osd", "pool", "set-quota", cephtest.Pool, "max_bytes", bytes)
	}
	quota("1000000")
	large := func() (said string) {
		before := len(j.Stderr())
		j.Ask("drop table if exists big; create table big as select randomblob(3000000);")
		return j.Stderr()[before:]
	}
	harness.Until(t, "the pool has reached its quota", func() bool {
		said := large()
		if said != "" && (!strings.Contains(said, "quota") || !strings.Contains(said, "(13)")) {
			t.Errorf("said %q, without the quota or SQLITE_FULL", said)
		}
		return said != ""
	})
	j.mustInsert()
	quota("0")
	harness.Until(t, "it has none", func() bool { return large() == "" })
	j.mustInsert()
	j.complete(w, uri)
}

// TestKilledCluster: every daemon is killed, under a writer, and started again: it waits, and goes
// on, and what was committed is there.
func TestKilledCluster(t *testing.T) {
	harness.Library(t)
	c := cephtest.Start(t, cephtest.Options{Bluestore: true})
	w := worldIn(t, c)
	uri := w.uri("a.db")
	w.configure(map[string]any{"remote_deadline_ms": 600000, "store_timeout_ms": 600000})
	j := w.begin(uri)
	for round := range 2 {
		for range 20 {
			j.mustInsert()
		}
		c.OSDs[0].Kill()
		if round == 1 {
			c.Mon.Kill()
		}
		j.next++
		j.Send(fmt.Sprintf("insert into t values(%d);", j.next)) // it waits
		if round == 1 {
			c.Mon.Start(t)
		}
		c.OSDs[0].Start(t)
		j.Want("select max(x) from t;", fmt.Sprint(j.next))
		j.committed = append(j.committed, fmt.Sprint(j.next))
	}
	j.complete(w, uri)
}

// TestNoAccess: a wrong key, a user that is not there, no keyring, no configuration: the error
// names what is wrong, and no process aborts.
func TestNoAccess(t *testing.T) {
	w := newWorld(t)
	w.shell(w.uri("a.db")).Must("create table t(x);")
	w.configure(map[string]any{"store_timeout_ms": 5000})
	w.site.Write("wrong.keyring", []byte("[client.admin]\n\tkey = "+
		"AQDvHZJmAAAAABAAq2wDlVyF9Dk0Zb1CqW0YAQ==\n"))
	for _, c := range []struct {
		name string
		env  []string
		says string
	}{
		{"wrong key", []string{"CEPH_KEYRING=" + w.site.Path("wrong.keyring")}, "client.admin"},
		{"no keyring", []string{"CEPH_KEYRING=" + w.site.Path("none")}, "client.admin"},
		{"unknown user", []string{"CEPH_ARGS=--id nobody"}, "client.nobody"},
		{"no configuration", []string{"CEPH_CONF=" + w.site.Path("none.conf")}, "none.conf"},
		{"option that aborts", []string{"CEPH_ARGS=--bind x"}, "CEPH_ARGS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := w.shell(w.uri("a.db"), c.env...)
			fails(s, "select * from t;", c.says)
			s.Want("select 1;", "1")
		})
	}
	s := w.shell(strings.Replace(w.uri("a.db"), cephtest.Pool, "nosuchpool", 1))
	fails(s, "select * from t;", "nosuchpool", "ceph osd pool create")
	s = w.shell("file:///nostore/a.db?vfs=ceph")
	fails(s, "select * from t;", "POOL:NAMESPACE")
}
