package replicate

import (
	"context"
	"testing"

	"verneuil/replicate/courier"
	"verneuil/spool/spooltest"
)

// TestFlushOfAMirrorInDoubt: stock SQLite has committed before a flush. A recorder's commit
// publishes that with its own, after the flush was asked for, and then resets the WAL while it
// is read. The target has all that was published before the flush: but as long as
// the mirror is not brought up, nobody knows that this is all that was committed.
func TestFlushOfAMirrorInDoubt(t *testing.T) {
	w := newWorld(t, 1, 1)
	script, err := spooltest.NewScript(w.w)
	if err != nil {
		t.Fatal(err)
	}
	step := func(n int) {
		if err := script.Step(n); err != nil {
			t.Fatal(err)
		}
	}
	at := func(string) {}
	w.options = func(o *Options) { o.fault = func(point string) bool { at(point); return false } }
	l := w.loop()
	bringUp := func() { l.tracker.Update(context.Background(), true) }
	bringUp()
	script.Begin()
	script.Commit(1, 2)
	step(4)
	bringUp()
	script.Commit(2, 3)
	step(1)
	script.Steps = nil // stock SQLite publishes nothing
	f := &flush{done: make(chan error, 1)}
	l.flushes.add(f, courier.FlushTrust, courier.FlushTrust)
	has := f.Point // the target
	l.flushes.outcome = func(w courier.Want) (bool, error) { return has.Covers(w.Point), nil }
	answered := func() bool {
		l.flushes.answer(t.Context())
		select {
		case err := <-f.done:
			if err != nil {
				t.Fatal(err)
			}
			return true
		default:
			return false
		}
	}
	script.Commit(3, 4)
	step(2)
	script.Reset()
	script.Commit(4, 2, 4, 5)
	at = func(point string) {
		if point == "frame" { // the second one, which stock SQLite has committed
			step(len(script.Steps))
		}
	}
	bringUp()
	if l.tracker.Current() {
		t.Fatal("the mirror is brought up: the WAL was reset too late")
	}
	if answered() {
		t.Fatal("the flush is answered, and the mirror is in doubt")
	}
	at = func(string) {}
	for range 10 {
		bringUp()
	}
	if !l.tracker.Current() || !l.tracker.CaughtUp() {
		t.Fatalf("the mirror does not settle: %v", l.tracker.Err())
	}
	if answered() {
		t.Fatal("the flush is answered, and the target has nothing yet")
	}
	has = l.mirrorPoint()
	if !answered() {
		t.Error("the flush is not answered")
	}
}

// loop returns a loop that the test drives itself.
func (w *world) loop() *loop {
	w.Helper()
	lock, err := w.sp.TryLock()
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(lock.Unlock)
	l, err := newLoop(context.Background(), w.replicator(), w.sp, lock)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(l.close)
	return l
}
