package replicate

import (
	"os"
	"testing"
	"time"

	"verneuil/replicate/mirror"
)

// TestStatusOfSuccessor: who asks from outside sees when each target got its last version, and when
// that was said, whether the replicator that saw it has ended, the next one has not said anything
// yet, or has, without a version of its own.
func TestStatusOfSuccessor(t *testing.T) {
	w := newWorld(t, 1, 1)
	began := time.Now()
	r := w.replicator()
	stop := w.run(r)
	w.transact(300)
	w.mustFlush(r)
	stop()
	read := func(state string) Status {
		t.Helper()
		status, err := ReadStatus(w.sp.Dir(), 0, time.Now())
		if err != nil || status.State != state || len(status.Targets) != 1 ||
			status.Reported.Before(began) || status.Targets[0].Manifest.Before(began) {
			t.Fatalf("%v; want %q: %+v", err, state, status)
		}
		return status
	}
	was := read("nobody replicates")
	lock, err := w.sp.TryLock()
	if err != nil {
		t.Fatal(err)
	}
	w.sp.State().Replicator.Add(1) // a process that began at another time
	now := read(TakingOver)
	if !now.Reported.Equal(was.Reported) || now.Replicator == 0 {
		t.Errorf("%+v, and before %+v", now, was)
	}
	lock.Unlock()
	r = w.replicator()
	defer w.run(r)()
	w.mustFlush(r)
	w.until("the successor has said something", func() bool {
		now, err := ReadStatus(w.sp.Dir(), 0, time.Now())
		return err == nil && now.State == "idle" && now.Reported.After(was.Reported)
	})
	now = read("idle")
	if !now.Targets[0].Manifest.Equal(was.Targets[0].Manifest) {
		t.Errorf("the last version is of %v, and was of %v", now.Targets[0].Manifest,
			was.Targets[0].Manifest)
	}
}

// TestStatusOfForeign: whoever asks, from outside or the replicator, is not told that a database is
// up to date whose file somebody has changed without a recorder, until it was compared: whether
// anybody replicates it meanwhile or not. A recorder's own transaction is no such change.
func TestStatusOfForeign(t *testing.T) {
	w := newWorld(t, 1, 1)
	r := w.replicator()
	stop := w.run(r)
	w.transact(30)
	w.mustFlush(r)
	outside := func() Status {
		t.Helper()
		status, err := ReadStatus(w.sp.Dir(), 0, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return status
	}
	says := func(what string, status Status, want bool) {
		t.Helper()
		told := status.Error == errOutside.Error() ||
			status.Error == errBeside[mirror.HotBeside].Error()
		if status.UpToDate != want || told == want {
			t.Errorf("%s: up to date %v, error %q", what, status.UpToDate, status.Error)
		}
	}
	says("before, outside", outside(), true)
	says("before, inside", r.Status(), true)
	// Before a recorder commits, the file is not what its stamp says, and is no stranger's.
	w.begin()
	says("in a transaction, outside", outside(), true)
	says("in a transaction, inside", r.Status(), true)
	w.commit()
	w.mustFlush(r)

	w.foreign(30)
	says("after, outside", outside(), false)
	says("after, inside", r.Status(), false)
	w.mustFlush(r)
	says("flushed, outside", outside(), true)
	says("flushed, inside", r.Status(), true)

	// As of a backup that was put back without its database.
	journal := append([]byte("\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"), make([]byte, 504)...)
	if err := os.WriteFile(w.db+"-journal", journal, 0o600); err != nil {
		t.Fatal(err)
	}
	says("a stale journal, outside", outside(), false)
	says("a stale journal, inside", r.Status(), false)
	if err := os.Remove(w.db + "-journal"); err != nil {
		t.Fatal(err)
	}
	says("removed, outside", outside(), true)

	stop()

	w.foreign(30)
	says("nobody replicates", outside(), false)
	r = w.replicator()
	defer w.run(r)()
	w.mustFlush(r)
	says("the next one has compared it", outside(), true)
}
