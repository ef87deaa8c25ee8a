package ceph_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"verneuil/test/cephtest"
	"verneuil/test/e2e/harness"
)

// rados runs the rados tool on the namespace, and returns what it says, by lines.
func (w *world) rados(args ...string) []string {
	w.Helper()
	all := append([]string{"rados", "-p", cephtest.Pool, "-N", w.namespace}, args...)
	return strings.Fields(w.cluster.Run(w.T, all...))
}

// TestLogThatWasPutBack: the log of a database loses its last records under the writer. Within the
// lease's renewal time COMMIT fails, and the log says why. Another process goes on with what is
// there, beyond the records that the writer has put meanwhile.
func TestLogThatWasPutBack(t *testing.T) {
	w := newWorld(t)
	w.configure(map[string]any{"lease_renewal_ms": 250, "lease_timeout_ms": 2000})
	uri := w.uri("back.db")
	j := w.begin(uri)
	j.mustInsert()
	names := w.rados("ls")
	at := slices.IndexFunc(names, func(name string) bool {
		return strings.HasPrefix(name, "logs/") && strings.HasSuffix(name, "/0000000000000000")
	})
	if at < 0 {
		t.Fatal("no log: ", names)
	}
	log := names[at]
	old := w.rados("listomapkeys", log)
	for range 3 {
		j.mustInsert()
	}
	for _, key := range w.rados("listomapkeys", log) {
		if !slices.Contains(old, key) {
			w.rados("rmomapkey", log, key)
		}
	}
	answered, said := 0, ""
	harness.Until(t, "COMMIT fails", func() bool {
		said = j.insert()
		answered++
		return said != ""
	})
	t.Logf("%d commits were answered for before the look", answered-1)
	if !strings.Contains(said, "not what it was") {
		t.Error(said)
	}
	j.End()
	b := w.shell(uri)
	b.Must(".timeout 60000")
	b.Want("select count(*) from t;", "1")
	rows := 1
	for n := range answered + 20 {
		before := len(b.Stderr())
		b.Ask("insert into t values(" + strconv.Itoa(1000+n) + ");")
		if said := b.Stderr()[before:]; !strings.Contains(said, "rror near") {
			rows++
		} else if !strings.Contains(said, "not what it was") {
			t.Fatal(said)
		}
	}
	if rows < answered+20 {
		t.Errorf("%d of %d rows", rows-1, answered+20)
	}
	b.Want("select count(*) from t; pragma integrity_check;", strconv.Itoa(rows)+"\nok")
}
