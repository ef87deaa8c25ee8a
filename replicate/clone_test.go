package replicate

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

// setAside moves the database and its spool away, and puts others in their place.
func (w *world) setAside(to, from string) {
	w.Helper()
	for _, name := range []string{w.root, w.db} {
		if err := errors.Join(os.Rename(name, filepath.Join(to, filepath.Base(name))),
			os.Rename(filepath.Join(from, filepath.Base(name)), name)); err != nil {
			w.Fatal(err)
		}
	}
	w.attach()
}

// TestClonesDoNotOverwriteEachOther: of two that go on from one disk's copies, with all that the
// spool knows, the one whose version is in the target goes on, and the other stops, however far it
// has come.
func TestClonesDoNotOverwriteEachOther(t *testing.T) {
	w := newWorld(t, 1, 1)
	r := w.replicator()
	stop := w.run(r)
	w.transact(400)
	w.mustFlush(r)
	stop()
	clone, aside := t.TempDir(), t.TempDir()
	if out, err := exec.Command("cp", "-a", w.root, w.db, clone).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.setAside(aside, clone)
	w.manifests[0].setFault(func(op, _ string) error {
		if op == "put" {
			return errInjected
		}
		return nil
	})
	r = w.replicator()
	stop = w.run(r)
	for range 7 { // versions that nobody gets
		w.transact(400)
		if err := w.flush(r); !errors.Is(err, errInjected) {
			t.Fatalf("flush to a target that takes nothing: %v", err)
		}
	}
	stop()
	w.manifests[0].setFault(nil)

	w.setAside(clone, aside)
	r = w.replicator()
	stop = w.run(r)
	for range 2 {
		w.transact(400)
		w.mustFlush(r)
	}
	stop()
	theirs := w.manifest(0)

	w.setAside(aside, clone)
	r = w.replicator()
	stop = w.run(r)
	w.transact(400)
	if err := w.flush(r); !errors.Is(err, chunkstore.ErrConflict) {
		t.Errorf("flush of a clone: %v", err)
	}
	stop()
	if m := w.manifest(0); m.Sequence != theirs.Sequence || !m.Time.Equal(theirs.Time) {
		t.Errorf("a clone has replaced version %d by %d", theirs.Sequence, m.Sequence)
	}

	w.setAside(clone, aside)
	r = w.replicator()
	defer w.run(r)()
	w.transact(400)
	w.mustFlush(r)
	w.equal(0, "the other clone")
}

// TestOwnPastIsKnown: what the spool itself has put before is its past: a push whose answer was
// lost with the process, and a version that was put back by hand.
func TestOwnPastIsKnown(t *testing.T) {
	w := newWorld(t, 1, 1)
	name := manifest.PlainName("host", w.db)
	r := w.replicator()
	stop := w.run(r)
	w.transact(400)
	w.mustFlush(r)
	old := bytes.Clone(w.manifests[0].objects[name])
	for range 3 {
		w.transact(400)
		w.mustFlush(r)
	}
	stop()
	w.manifests[0].mu.Lock()
	w.manifests[0].objects[name] = old
	w.manifests[0].mu.Unlock()
	r = w.replicator()
	defer w.run(r)()
	w.transact(400)
	w.mustFlush(r)
	w.equal(0, "after an older version was put back")
}

// TestLostCutsCostWorkOnly: without the hashes of what was cut, the spool takes over what is there.
func TestLostCutsCostWorkOnly(t *testing.T) {
	w := newWorld(t, 1, 1)
	r := w.replicator()
	stop := w.run(r)
	w.transact(400)
	w.mustFlush(r)
	stop()
	if err := os.Remove(filepath.Join(w.sp.Dir(), "cuts")); err != nil {
		t.Fatal(err)
	}
	r = w.replicator()
	defer w.run(r)()
	w.transact(400)
	w.mustFlush(r)
	if m := w.equal(0, "without cuts"); m.Epoch != 2 {
		t.Errorf("epoch %d", m.Epoch)
	}
}
