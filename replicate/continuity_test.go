package replicate

import "testing"

// TestContinuity: what the writer has followed is of one continuity; what it had to copy is not.
func TestContinuity(t *testing.T) {
	w := newWorld(t, 5, 1)
	r := w.replicator()
	stop := w.run(r)
	next := func() uint64 {
		t.Helper()
		w.mustFlush(r)
		m, _ := w.restored(0)
		if m.Continuity == 0 {
			t.Fatal("no continuity")
		}
		return m.Continuity
	}
	w.transact(50)
	first := next()
	w.transact(50)
	if c := next(); c != first {
		t.Errorf("a transaction made continuity %x of %x", c, first)
	}
	stop()
	r = w.replicator()
	stop = w.run(r)
	w.transact(50)
	if c := next(); c != first {
		t.Errorf("a restart made continuity %x of %x", c, first)
	}
	w.foreign(50)
	w.transact(50)
	foreign := next()
	if foreign == first {
		t.Error("what a foreign program wrote is of the same continuity")
	}
	stop()
	w.loseSpool()
	w.attach()
	r = w.replicator()
	defer w.run(r)()
	w.transact(50)
	if c := next(); c == first || c == foreign {
		t.Error("a new spool is of the same continuity")
	}
}
