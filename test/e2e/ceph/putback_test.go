package ceph_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"verneuil/test/cephtest"
)

// rados runs the rados tool on the namespace, and returns what it says, by lines.
func (w *world) rados(args ...string) []string {
	w.Helper()
	all := append([]string{"rados", "-p", cephtest.Pool, "-N", w.namespace}, args...)
	return strings.Fields(w.cluster.Run(w.T, all...))
}

// TestLogThatWasPutBack: the log of a database loses its last records under the writer. The next
// COMMIT fails, and the log says why. Another process goes on with what is there.
func TestLogThatWasPutBack(t *testing.T) {
	w := newWorld(t)
	// The holder must not give it back while the log is put back, key by key.
	w.configure(map[string]any{"lease_renewal_ms": 250, "lease_timeout_ms": 2000,
		"lease_linger_ms": 600_000})
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
	if said := j.insert(); !strings.Contains(said, "not what it was") {
		t.Errorf("COMMIT: %q", said)
	}
	j.End()
	b := w.shell(uri)
	b.Must(".timeout 60000")
	b.Want("select count(*) from t;", "1")
	for n := range 20 {
		b.Must("insert into t values(" + strconv.Itoa(1000+n) + ");")
	}
	b.Want("select count(*) from t; pragma integrity_check;", "21\nok")
}
