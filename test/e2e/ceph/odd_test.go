package ceph_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"verneuil/test/cephtest"
	"verneuil/test/e2e/harness"
)

// preload compiles a file of test/hosts, and returns the variable by which it is preloaded.
func (w *world) preload(name string) string {
	w.Helper()
	return "LD_PRELOAD=" + w.site.Compile(harness.InHosts(name), "-shared", "-fPIC", "-ldl")
}

// TestNoLibrados: without librados our library loads and works, and who asks for RADOS is told
// which package has it.
func TestNoLibrados(t *testing.T) {
	w := newWorld(t)
	s := w.shell(":memory:", w.preload("nolibrados.c"))
	fails(s, "attach '"+w.uri("a.db")+"' as a;", "librados.so.2", "apt-get install librados2")
	s.Must("attach '" + w.site.Path("local.db") + "' as l; create table l.t(x);")
}

// TestClockSkew: two writers whose wall clocks are days apart write in turns, each reads what the
// other has committed, and one takes over from the other when that is killed. A third one has the
// right time. (Go's part of us has it always, but asks it for nothing that counts: see package
// replicate/remote.)
func TestClockSkew(t *testing.T) {
	w := newWorld(t)
	lease := map[string]any{"lease_timeout_ms": 500, "lease_renewal_ms": 100}
	w.configure(lease)
	skew := w.preload("skew.c")
	uri := w.uri("a.db")
	start := func(days int) *harness.Process {
		lease["tempdir"] = t.TempDir() // each is of another machine
		w.configure(lease)
		s := w.shell(uri, skew, fmt.Sprintf("SKEW=%d", days*86400))
		s.Must(".timeout 60000")
		s.Want(fmt.Sprintf("select date('now', '%d days') = date('now', '0 days');", -days),
			map[bool]string{true: "1", false: "0"}[days == 0])
		return s
	}
	right, early, late := start(0), start(-30), start(30)
	right.Must("create table t(x integer primary key);")
	for n := range 30 {
		s := []*harness.Process{early, late, right}[n%3]
		s.Want(fmt.Sprintf("insert into t values(%d) returning x;", n), fmt.Sprint(n))
	}
	for _, dead := range []*harness.Process{late, early} {
		dead.Must("begin immediate; insert into t values(1000);")
		dead.Kill()
		right.Must("insert into t select max(x) + 1 from t;")
	}
	right.Want("select count(*), max(x) from t; pragma integrity_check;", "32|31\nok")
}

// TestBlocklisted: a writer is put on the cluster's blocklist again and again. It goes on as
// another client each time, and nothing that was committed is lost.
func TestBlocklisted(t *testing.T) {
	w := newWorld(t)
	uri := w.uri("a.db")
	j := w.begin(uri)
	for range 4 {
		for range 5 {
			j.mustInsert()
		}
		address := j.Ask("select json_extract(ceph_status(), '$.addr');")
		w.cluster.Run(t, "ceph", "osd", "blocklist", "add", address)
	}
	j.mustInsert()
	j.complete(w, uri)
}

// TestNoSuchPlace: names of pools, namespaces and databases that cannot be: the error names the
// culprit, and the process goes on.
func TestNoSuchPlace(t *testing.T) {
	w := newWorld(t)
	w.shell(w.uri("good.db")).Must("create table t(x);")
	long := strings.Repeat("n", 3000)
	for _, c := range []struct {
		place string
		says  []string
	}{
		{"nosuchpool:/a.db", []string{"nosuchpool", "ceph osd pool create"}},
		{"*999999:/a.db", []string{"999999", "no such pool"}},
		{"*99999999999999999999:/a.db", []string{"99999999999999999999"}},
		{":/a.db", []string{"POOL:NAMESPACE"}},
		{"*:/a.db", []string{"POOL:NAMESPACE"}},
		{cephtest.Pool + "/a.db", []string{"POOL:NAMESPACE"}},
		{cephtest.Pool + ":" + long + "/a.db", []string{"file name too long"}},
		{cephtest.Pool + ":" + w.namespace + "/" + long + long + long, []string{"longer than"}},
		{cephtest.Pool + ":" + w.namespace + "/../../a.db", []string{"out of its store"}},
	} {
		s := w.shell(w.uri("good.db")) // a process says the same once
		fails(s, "attach 'file:///"+c.place+"?vfs=ceph' as x; select * from x.t;", c.says...)
		s.Must("insert into t values(1);")
	}
}

// TestTwoConfigurations: a process may use several clusters, or users of one. That one of them
// cannot be reached does not keep the others from working.
func TestTwoConfigurations(t *testing.T) {
	w := newWorld(t)
	keyring := w.cluster.User(t, "second", "mon", "allow r", "osd", "allow rwx")
	conf, err := os.ReadFile(w.cluster.Conf)
	harness.Must(t, err)
	w.site.Write("broken.conf", append(conf, "\n[client\nx"...))
	w.site.Write("strange.conf", []byte("[global]\nmon_host = 127.0.0.1:1\n"))
	store := func(more map[string]any) map[string]any {
		all := map[string]any{"pool": cephtest.Pool, "namespace": w.namespace}
		for key, value := range more {
			all[key] = value
		}
		return map[string]any{"rados": all}
	}
	w.configure(map[string]any{"store_timeout_ms": 3000, "stores": map[string]any{
		"first": store(nil),
		"second": store(map[string]any{"user": "second", "keyring": keyring,
			"namespace": w.cluster.Namespace()}),
		"broken":  store(map[string]any{"conf": w.site.Path("broken.conf")}),
		"strange": store(map[string]any{"conf": w.site.Path("strange.conf")}),
	}})
	attach := func(store string) string {
		return fmt.Sprintf("attach 'file:///%s/a.db?vfs=verneuil_remote' as %[1]s;", store)
	}
	s := w.shell(":memory:")
	s.Must(attach("first") + "create table first.t(x); insert into first.t values(1);")
	fails(s, attach("broken"), "broken.conf")
	s.Must(attach("second") + "create table second.t as select * from first.t;")
	s.Must("insert into first.t values(2); insert into second.t values(3);")
	s.Want("select group_concat(x) from (select x from first.t union all select x from second.t);",
		"1,2,1,3")
	s = w.shell(":memory:") // a process says the same once
	s.Must(attach("second"))
	fails(s, attach("strange"), "no monitor")
	s.Want("select group_concat(x) from second.t;", "1,3")
}
