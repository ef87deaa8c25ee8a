package replicate

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/replicate/courier"
)

// spoil changes what stands where ref says in target k.
func (w *world) spoil(k int, ref chunkstore.Ref) {
	w.Helper()
	w.chunks[k].mu.Lock()
	defer w.chunks[k].mu.Unlock()
	key := ref.Place.Pack.String()
	body := bytes.Clone(w.chunks[k].objects[key])
	if len(body) == 0 {
		w.Fatalf("there is no pack %s", key)
	}
	body[ref.Place.Offset+ref.Place.Bytes/2]++
	w.chunks[k].objects[key] = body
}

// found notes what somebody has found to be damaged in target 0.
func (w *world) found(d Damage) {
	w.Helper()
	o := SyncOptions{Store: w.store(), Damage: map[int]Damage{0: d}}
	if err := noteDamage(w.sp, &o); err != nil {
		w.Fatal(err)
	}
}

// isMended checks that nobody knows of damage any more, and that targets have the database.
func (w *world) isMended(r *Replicator, what string) {
	w.Helper()
	for k := range w.chunks {
		w.equal(k, what)
	}
	w.until("nothing is damaged", func() bool {
		status, err := ReadStatus(w.sp.Dir(), 0, time.Now())
		ours := r.Status().Targets // none until it has the lock, which the Sync before has had
		return err == nil && len(status.Targets) > 0 && status.Targets[0].Damaged == 0 &&
			len(ours) > 0 && ours[0].Damaged == 0
	})
	if _, err := os.Lstat(filepath.Join(w.sp.Dir(), "damaged.json")); !os.IsNotExist(err) {
		w.Errorf("%s: damaged.json is still there: %v", what, err)
	}
}

// TestDamageIsPutAgain: what somebody has found to be damaged in a target, of chunks, of one that
// could not be made again as it was, or of a leaf, is put again under another name before who says
// so is answered, also if the replicator ends before. Until then status tells.
func TestDamageIsPutAgain(t *testing.T) {
	for name, where := range map[string]func(w *world) chunkstore.Ref{
		"chunk":       func(w *world) chunkstore.Ref { return w.tree(0).At(70) },
		"under pages": func(w *world) chunkstore.Ref { return w.tree(0).At(2) },
		"leaf": func(w *world) (leaf chunkstore.Ref) {
			for ref := range w.tree(0).Objects() {
				leaf = ref
			}
			return leaf
		},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				w := newPatrolledWorld(t, 2)
				w.fillChunks(100)
				r := w.replicator()
				stop := w.run(r)
				w.mustFlush(r)
				w.begin()
				w.write(40, append([]byte("inline over chunk 2"), w.pageOf(40, 0, 1)[19:]...))
				w.commit()
				w.mustFlush(r)
				damagedIsPutAgain(w, r, stop, where(w.world), restart)
			})
		}
	}
}

func damagedIsPutAgain(
	w *patrolledWorld, r *Replicator, stop func(), ref chunkstore.Ref, restart bool,
) {
	w.Helper()
	w.spoil(0, ref)
	w.chunks[0].setFault(func(op, _ string) error {
		if op == "put" {
			return errInjected
		}
		return nil
	})
	w.found(Damage{Packs: []string{ref.Place.Pack.String(), "no name"}})
	if _, err := w.sync(nil); err == nil {
		w.Error("a sync succeeded while something was damaged")
	}
	if n := r.Status().Targets[0].Damaged; n != 1 {
		w.Errorf("status says that %d packs are damaged", n)
	}
	if restart {
		stop()
	}
	status, err := ReadStatus(w.sp.Dir(), 0, time.Now())
	if err != nil || status.Targets[0].Damaged != 2 { // as it was said
		w.Errorf("%v; status %+v", err, status)
	}
	w.chunks[0].setFault(nil)
	if restart {
		r = w.replicator()
		stop = w.run(r)
	}
	w.mustSync("after damage", nil)
	w.isMended(r, "after damage")
	w.namesNot(ref.Place.Pack)
	stop()
}

// namesNot checks that the newest version in target 0 names nothing in that pack.
func (w *world) namesNot(pack chunkstore.Digest) {
	w.Helper()
	tree := w.tree(0)
	for i := range tree.Len() {
		if tree.At(i).Place.Pack == pack {
			w.Errorf("the version names chunk %d in the damaged pack", i)
		}
	}
	for ref := range tree.Objects() {
		if ref.Place.Pack == pack {
			w.Error("the version names a leaf in the damaged pack")
		}
	}
}

// TestDamageFoundDuringPush: what is found to be damaged while a push is under way, which takes
// over what stands there, is put again after it.
func TestDamageFoundDuringPush(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.options = func(o *Options) { o.packObjects = 7 }
	w.fillChunks(100)
	r := w.replicator()
	defer w.run(r)()
	w.mustFlush(r)
	ref := w.tree(0).At(70)
	w.spoil(0, ref)
	asked := false // the bucket's mu is held
	w.manifests[0].setFault(func(op, _ string) error {
		if op == "put" && !asked {
			asked = true
			w.found(Damage{Packs: []string{ref.Place.Pack.String()}})
			done := make(chan courier.State)
			r.look().loop.errands.Tell(func() {
				l := r.look().loop
				courier.TakeDamage(l.office)
				go func(s courier.State) { done <- s }(l.office.Couriers()[0].State())
			})
			if s := <-done; s != courier.Doubted {
				t.Errorf("the courier is in state %v", s)
			}
		}
		return nil
	})
	w.begin()
	w.write(300, w.pageOf(300, 0, 7))
	w.commit()
	w.mustFlush(r)
	w.isMended(r, "after damage")
	w.namesNot(ref.Place.Pack)
	if !asked {
		t.Error("nothing was pushed meanwhile")
	}
}
