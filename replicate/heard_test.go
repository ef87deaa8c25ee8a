package replicate

import (
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/rados"
	"verneuil/replicate/replica"
	"verneuil/test/cephtest"
)

// TestReplicaHears: where the target can tell, a replica that follows has what is pushed long
// before it polls, whoever pushes.
func TestReplicaHears(t *testing.T) {
	c := cephtest.Shared(t)
	cfg := &rados.Config{Pool: cephtest.Pool, Namespace: c.Namespace(), Conf: c.Conf,
		Keyring: c.Keyring}
	open := func() *chunkstore.Store {
		s, err := chunkstore.Open(t.Context(), []chunkstore.TargetConfig{cfg},
			chunkstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	w := newWorld(t, 1, 0)
	w.options = func(o *Options) { o.Store = open() }
	w.transact(10)
	r := w.replicator()
	stop := w.run(r)
	w.mustFlush(r)

	store := open()
	set, err := replica.NewSet(replica.Options{Store: store, TempDir: t.TempDir(),
		PollInterval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	reader, err := set.Open(t.Context(), "verneuil://host"+w.db)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	reader.SetAuto(true)
	arrives := func(what string, counter uint32) {
		t.Helper()
		w.until("a replica hears "+what, func() bool {
			reader.Adopt()
			return reader.Manifest().ChangeCounter >= counter
		})
	}
	for range 10 {
		w.transact(3)
		w.mustFlush(r)
		arrives("of a flush", w.counter())
	}
	w.transact(3)
	stop()
	r = w.replicator() // another process goes on
	stop = w.run(r)
	w.mustFlush(r)
	arrives("of another process", w.counter())
	stop()
}
