package ceph_test

import (
	"strings"
	"testing"

	"verneuil/test/cephtest"
	"verneuil/test/e2e/harness"
)

// TestSealedOnErasureCode: a database in a pool whose objects have no maps, under a key: two
// processes write and read it, one takes over from the other, which is killed, it is exported, and
// no object of the pool holds what is in it.
func TestSealedOnErasureCode(t *testing.T) {
	harness.Library(t)
	c := cephtest.Start(t, cephtest.Options{OSDs: 3, NoAuth: true})
	pool := c.NewPool(t, "erasure")
	w := worldIn(t, c)
	w.ctl("key", "new", w.site.Path("keys"))
	w.configure(map[string]any{"key_file": w.site.Path("keys"), "lease_timeout_ms": 500,
		"lease_renewal_ms": 100, "stores": map[string]any{"sealed": map[string]any{
			"rados": map[string]any{"pool": pool}}}})
	const uri, secret = "file:///sealed/a.db?vfs=verneuil_remote", "nobodyshallreadthis"
	j := w.begin(uri)
	for range 10 {
		j.mustInsert()
	}
	j.Must("create table s as select '" + secret + "' || value as s from generate_series(1, 2000);")
	j.Must("begin immediate; insert into t values(1000);")
	j.Kill()
	other := w.shell(uri)
	other.Must(".timeout 60000")
	other.Must("insert into t values(2000);")
	j.complete(w, uri)
	w.ctl("export", "file:///sealed/a.db", w.site.Path("export.db"))
	const count = "select count(*) from s where s like '" + secret + "%'"
	if got := w.site.Stock("export.db", count); got != "2000" {
		t.Errorf("exported %s rows", got)
	}
	objects := strings.Fields(c.Run(t, "rados", "-p", pool, "ls"))
	for _, object := range objects {
		if strings.Contains(c.Run(t, "rados", "-p", pool, "get", object, "-"), secret) {
			t.Errorf("%s holds what is in the database", object)
		}
	}
	if len(objects) < 10 {
		t.Errorf("the pool has but %q", objects)
	}
}

// TestReplicateToRADOS: a local database is replicated to RADOS, restored from it byte for byte,
// and read there as a replica, which moves to the newest version when it is told to.
func TestReplicateToRADOS(t *testing.T) {
	w := newWorld(t)
	w.site.Targets = []any{map[string]any{"rados": map[string]any{"pool": cephtest.Pool,
		"namespace": w.namespace}}}
	w.site.Configure(nil)
	for _, journal := range []string{"delete", "wal"} {
		name := journal + ".db"
		shell, replica := w.site.Written(name, journal), w.site.Shell("")
		for _, step := range []struct{ sql, rows string }{
			{"insert into t(b) select randomblob(1000) from generate_series(1, 500);", "501"},
			{"delete from t where a % 2;", "250"},
		} {
			shell.Must(step.sql)
			w.site.UntilRestored(name, "select count(*) from t", step.rows)
			replica.Must(".open file:verneuil://" + harness.Hostname + w.site.Path(name) +
				"?vfs=verneuil_snapshot")
			replica.Ask("pragma verneuil_snapshot_refresh = 2;") // it asks the store
			replica.Want("select count(*) from t; pragma integrity_check;", step.rows+"\nok")
		}
		shell.EndsWith(0)
		if journal != "wal" { // its file is what was replicated only after a checkpoint
			w.site.MustEqual(name)
		}
	}
}
