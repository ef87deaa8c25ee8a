package replicate

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/courier"
	"verneuil/replicate/patrol"
)

const (
	testPatrolPeriod = 8 * time.Hour // a round is 7
	testPatrolSlack  = 8             // what part of the period a patrol may be late
)

// patrolledWorld is a world whose replicators patrol, by a clock that the test moves.
type patrolledWorld struct {
	*world
	clock *skewedClock
}

func newPatrolledWorld(t *testing.T, targets int) *patrolledWorld {
	w := &patrolledWorld{newWorld(t, 1, targets), &skewedClock{}}
	w.options = func(o *Options) {
		o.clock, o.PatrolPeriod, o.packObjects = w.clock, testPatrolPeriod, 1
	}
	return w
}

// look has f look at r's loop, which is at rest for all that can be done now.
func (w *patrolledWorld) look(r *Replicator, f func(l *loop)) {
	w.Helper()
	l := r.look().loop
	done := make(chan struct{})
	if l == nil || !l.errands.Tell(func() { f(l); close(done) }) {
		w.Fatal("the loop has ended")
	}
	<-done
}

// pass lets d pass, and waits until the patrol has done what is due, and what was gone is
// put again. It returns until when the patrol of the first target is.
func (w *patrolledWorld) pass(r *Replicator, d time.Duration) (until time.Time) {
	w.Helper()
	w.clock.add(d)
	w.until("the patrol is up to date", func() (done bool) {
		w.look(r, func(l *loop) {
			done = true
			for _, t := range l.office.Couriers() {
				at, ok := t.PatrolDue()
				p := t.Patrol()
				done = done && ok && p.State() == patrol.Resting && at.After(l.now()) &&
					p.Gone() == 0 && p.Err() == nil
			}
			until = l.office.Couriers()[0].Patrol().Until()
		})
		return done
	})
	return until
}

// touches returns how often each object of target k was touched.
func (w *patrolledWorld) touches(k int) map[string]int {
	w.chunks[k].mu.Lock()
	defer w.chunks[k].mu.Unlock()
	n := make(map[string]int)
	for _, key := range w.chunks[k].touched {
		n[key]++
	}
	return n
}

// TestPatrolTouchesAll: each chunk and leaf is touched once in a round, in each target;
// the work is spread, and neither a restart nor a reboot undoes what was done.
func TestPatrolTouchesAll(t *testing.T) {
	const chunks = 200
	w := newPatrolledWorld(t, 2)
	w.fillChunks(chunks)
	r := w.replicator()
	stop := w.run(r)
	w.mustFlush(r)
	begun := w.pass(r, 0)
	steps := func(n int) (until time.Time) {
		for range n {
			until = w.pass(r, testPatrolPeriod*7/8/32)
		}
		return until
	}
	steps(16)
	for k := range 2 {
		if n := len(w.touches(k)); n < chunks/4 || n > chunks*3/4 {
			t.Errorf("after half a round %d of %d objects of target %d were touched", n, chunks, k)
		}
	}
	if at := r.Status().Targets[0].Patrolled; !at.IsZero() {
		t.Errorf("a round has ended at %v, it began at %v", at, begun)
	}
	stop()
	// another one: the mirror, and all but patrol.json, is void
	boot := filepath.Join(w.sp.Dir(), "boot")
	if err := os.WriteFile(boot, []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	r = w.replicator()
	defer w.run(r)()
	w.mustFlush(r)
	until := steps(16)
	for until.Sub(begun) < testPatrolPeriod*7/8 { // time went on meanwhile
		until = w.pass(r, time.Minute)
	}
	extra := 0
	for k := range 2 {
		touched := w.touches(k)
		for _, key := range w.chunkKeys(k) {
			if touched[key] == 0 {
				t.Errorf("target %d: %s was not touched", k, key)
			}
			extra += max(0, touched[key]-1)
		}
	}
	if extra > chunks/10 {
		t.Errorf("%d objects of 2 times %d were touched more than once in a round", extra, chunks)
	}
	for _, status := range r.Status().Targets {
		if !status.Patrolled.Equal(until) || status.Healed != 0 || status.PatrolError != "" {
			t.Errorf("status %+v; the patrol is at %v", status, until)
		}
	}
}

// TestPatrolTouchesRecords: records after the newest checkpoint are touched once in a round,
// however long there is no other one; one that is gone is noticed, and what it told is told again.
func TestPatrolTouchesRecords(t *testing.T) {
	w := newPatrolledWorld(t, 1)
	w.fillChunks(20)
	r := w.replicator()
	defer w.run(r)()
	w.mustFlush(r)
	w.manifests[0].setFault(func(op, key string) error {
		if op == "put" && !isOfHistory(key) {
			return errInjected
		}
		return nil
	})
	for range 5 {
		w.transact(300)
		w.mustFlush(r)
	}
	begun := w.pass(r, 0)
	for until := begun; until.Sub(begun) < testPatrolPeriod*7/8; {
		until = w.pass(r, testPatrolPeriod*7/8/16)
	}
	touched := w.touches(0)
	var records []string
	for _, key := range w.logKeys(0) {
		if records = append(records, key); touched[key] == 0 || touched[key] > 2 {
			t.Errorf("%s was touched %d times", key, touched[key])
		}
	}
	if len(records) < 3 {
		t.Fatalf("records %q", records)
	}
	if err := w.chunks[0].Delete(t.Context(), records[2]); err != nil {
		t.Fatal(err)
	}
	w.until("the record is missed", func() bool {
		w.clock.add(testPatrolPeriod * 7 / 8 / 16)
		missed := false
		w.look(r, func(l *loop) { missed = l.office.Couriers()[0].State() != courier.Idle })
		return missed
	})
	w.manifests[0].setFault(nil)
	w.mustFlush(r)
	w.equal(0, "after a record was lost")
}

// TestPatrolHeals: what is gone from a target, packs of a chunk, of a chunk that could not
// be made again as it was, and of a leaf, is put again, also if the replicator ends before.
func TestPatrolHeals(t *testing.T) {
	for _, packObjects := range []int{1, 7} {
		for _, leaf := range []bool{false, true} {
			for _, restart := range []bool{false, true} {
				t.Run(fmt.Sprintf("packs of %d, leaf %v, restart %v", packObjects, leaf, restart),
					func(t *testing.T) { patrolHeals(t, packObjects, leaf, restart) })
			}
		}
	}
}

func patrolHeals(t *testing.T, packObjects int, leaf, restart bool) {
	w := newPatrolledWorld(t, 2)
	options := w.options
	w.options = func(o *Options) { options(o); o.packObjects = packObjects }
	w.fillChunks(100)
	r := w.replicator()
	stop := w.run(r)
	w.mustFlush(r)
	w.begin()
	w.write(40, append([]byte("inline over chunk 2"), w.pageOf(40, 0, 1)[19:]...))
	w.commit()
	w.mustFlush(r)
	w.look(r, func(l *loop) {
		if l.tracker.Mirror().Diff(2) == nil {
			t.Error("chunk 2 is not described by inline pages")
		}
	})
	gone := w.dropSome(leaf)
	w.chunks[0].setFault(func(op, _ string) error {
		if op == "put" {
			return errInjected
		}
		return nil
	})
	w.clock.add(testPatrolPeriod)
	w.until("the patrol finds what is gone", func() (found bool) {
		w.look(r, func(l *loop) { found = l.office.Couriers()[0].Patrol().Gone() == len(gone) })
		return found
	})
	if err := w.flush(r); err == nil {
		t.Error("a flush succeeded while packs were gone")
	}
	if restart {
		stop()
	}
	w.chunks[0].setFault(nil)
	if restart {
		r = w.replicator()
		stop = w.run(r)
	}
	w.mustFlush(r)
	w.pass(r, time.Minute)
	for k := range 2 {
		w.equal(k, "after the patrol")
	}
	most := len(gone)
	least := most
	if packObjects == 1 {
		least-- // chunk 2 has another object by then, and nobody may need the one that is gone
	}
	if leaf && restart { // the contact knows of the leaf's pack only, and puts all below it
		least, most = 1, 1
	} else if restart {
		most = least
	}
	targets := r.Status().Targets
	if n := targets[0].Healed; n < least || n > most || targets[1].Healed != 0 {
		t.Errorf("%d packs were gone; status %+v", len(gone), targets)
	}
	stop()
}

// dropSome removes packs from the first target: of chunk 2, of chunk 70, and, if leaf says so, of
// the leaf.
func (w *world) dropSome(leaf bool) []chunkstore.Digest {
	w.Helper()
	tree := w.tree(0)
	gone := []chunkstore.Digest{tree.At(2).Place.Pack, tree.At(70).Place.Pack}
	for ref := range tree.Objects() {
		if leaf {
			gone = append(gone, ref.Place.Pack)
		}
	}
	if leaf && len(gone) == 2 {
		w.Error("there is no leaf")
	}
	w.drop(0, gone...)
	return gone
}

// tree is that of the version which target k has, loaded.
func (w *world) tree(k int) *manifest.Tree {
	w.Helper()
	tree := w.manifest(k).Tree(chunkstore.Plain{})
	if err := tree.Load(context.Background(), w.copied(k).GetObjects); err != nil {
		w.Fatal(err)
	}
	return tree
}

// drop removes packs from target k.
func (w *world) drop(k int, names ...chunkstore.Digest) {
	w.Helper()
	w.chunks[k].mu.Lock()
	defer w.chunks[k].mu.Unlock()
	for _, name := range names {
		if w.chunks[k].objects[name.String()] == nil {
			w.Errorf("pack %v was not there", name)
		}
		delete(w.chunks[k].objects, name.String())
	}
}

// TestPatrolAfterConflict: a push that was to put again what is gone, and after which the
// target's manifest is read anew, which names all of it, does not make the patrol forget.
func TestPatrolAfterConflict(t *testing.T) {
	w := newPatrolledWorld(t, 1)
	w.fillChunks(20)
	r := w.replicator()
	defer w.run(r)()
	w.mustFlush(r)
	begun := w.pass(r, 0)
	key := w.chunkKeys(0)[5]
	w.chunks[0].mu.Lock()
	delete(w.chunks[0].objects, key)
	w.chunks[0].mu.Unlock()
	conflicts := 0 // the bucket's mu is held
	w.manifests[0].setFault(func(op, _ string) error {
		if op != "put" || conflicts > 0 {
			return nil
		}
		conflicts++
		w.chunks[0].mu.Lock() // and somebody takes it away again
		defer w.chunks[0].mu.Unlock()
		delete(w.chunks[0].objects, key)
		return chunkstore.ErrConflict
	})
	if until := w.pass(r,
		testPatrolPeriod); until.Sub(begun) < testPatrolPeriod-testPatrolPeriod/testPatrolSlack {
		t.Errorf("the patrol is at %v, it began at %v", until, begun)
	}
	w.equal(0, "after the patrol")
	if healed := r.Status().Targets[0].Healed; healed != 1 || conflicts != 1 {
		t.Errorf("%d conflicts, %d healed", conflicts, healed)
	}
}

// TestFlushAfterLossAndConflict: what is known to be gone is not forgotten when a push that was to
// put it again meets a conflict, and the manifest, which names it, is read anew.
func TestFlushAfterLossAndConflict(t *testing.T) {
	for range 3 { // a sample of what is there may find it
		w := newPatrolledWorld(t, 1)
		w.fillChunks(200)
		r := w.replicator()
		stop := w.run(r)
		w.mustFlush(r)
		w.pass(r, 0)
		name := w.tree(0).At(77).Place.Pack
		w.drop(0, name)
		met := make(chan struct{})
		conflicts := 0 // the bucket's mu is held
		w.manifests[0].setFault(func(op, _ string) error {
			if op != "put" || conflicts > 0 {
				return nil
			}
			conflicts++
			w.drop(0, name) // and somebody takes it away again
			close(met)
			return chunkstore.ErrConflict
		})
		w.clock.add(testPatrolPeriod)
		w.look(r, func(*loop) {})
		<-met
		w.mustFlush(r)
		w.equal(0, "after a loss and a conflict")
		stop()
	}
}

// TestPatrolLetsPushesGoFirst: while a push is under way the patrol waits, until it is late.
func TestPatrolLetsPushesGoFirst(t *testing.T) {
	w := newPatrolledWorld(t, 1)
	w.fillChunks(100)
	r := w.replicator()
	defer w.run(r)()
	w.mustFlush(r)
	w.pass(r, 0)
	release := make(chan struct{})
	w.manifests[0].setFault(func(op, _ string) error {
		if op == "put" {
			<-release
		}
		return nil
	})
	w.transact(100)
	w.until("a push is under way", func() (busy bool) {
		w.look(r, func(l *loop) { busy = l.office.Couriers()[0].State().Busy() })
		return busy
	})
	before := len(w.touches(0))
	w.clock.add(testPatrolPeriod/testPatrolSlack - time.Minute)
	for range 3 { // the loop goes round at each
		w.look(r, func(l *loop) {
			if l.office.Couriers()[0].Patrol().State() == patrol.UnderWay {
				t.Error("the patrol goes on during a push")
			}
		})
	}
	if n := len(w.touches(0)); n != before {
		t.Errorf("%d objects were touched during a push", n-before)
	}
	w.clock.add(time.Hour)
	w.until("a late patrol does not wait", func() bool {
		w.look(r, func(*loop) {}) // it is not woken by a clock while others come first
		return len(w.touches(0)) > before
	})
	close(release)
	w.mustFlush(r)
	w.equal(0, "after the push")
}

// TestPatrolIsNotStarved: a patrol that waits for a lull which does not come is sent
// without one when it is late.
func TestPatrolIsNotStarved(t *testing.T) {
	w := newPatrolledWorld(t, 1)
	w.fillChunks(100)
	starved := &starvedBucket{memoryBucket: w.chunks[0]}
	w.options = func(o *Options) {
		o.clock, o.PatrolPeriod, o.packObjects = w.clock, testPatrolPeriod, 1
		o.Store = chunkstore.NewStore(chunkstore.NewTarget("starved", starved, w.manifests[0]))
	}
	r := w.replicator()
	defer w.run(r)()
	w.mustFlush(r)
	w.pass(r, 0)
	w.clock.add(testPatrolPeriod/testPatrolSlack - time.Minute)
	w.until("the patrol waits", func() (waits bool) {
		w.look(r, func(l *loop) {
			waits = l.office.Couriers()[0].Patrol().State() == patrol.UnderWay
		})
		return waits
	})
	w.pass(r, time.Hour)
	if len(w.touches(0)) == 0 {
		t.Error("nothing was touched")
	}
}

// starvedBucket has no time for patient requests.
type starvedBucket struct{ *memoryBucket }

func (b *starvedBucket) Touch(ctx context.Context, key string) error {
	if chunkstore.IsPatient(ctx) {
		<-ctx.Done()
		return ctx.Err()
	}
	return b.memoryBucket.Touch(ctx, key)
}

// TestPatrolSurvivesItsState: a clock that was set back, and a file that says anything,
// delay no object by more than a round.
func TestPatrolSurvivesItsState(t *testing.T) {
	for _, text := range []string{"", "x", `{}`,
		`{"ID":{"until":"9999-01-01T00:00:00Z"}}`, `{"ID":{"until":"2000-01-01T00:00:00Z"}}`,
		`{"ID":{"until":"2000-01-01T00:00:00Z","since":"2001-01-01T00:00:00Z","healed":-5}}`} {
		w := newPatrolledWorld(t, 1)
		w.fillChunks(20)
		r := w.replicator()
		stop := w.run(r)
		w.mustFlush(r)
		id := ""
		w.look(r, func(l *loop) { id = l.office.Couriers()[0].ID() })
		stop()
		name := filepath.Join(w.sp.Dir(), patrol.FileName)
		if err := os.WriteFile(name, []byte(strings.Replace(text, "ID", id, 1)),
			0o600); err != nil {
			t.Fatal(err)
		}
		r = w.replicator()
		stop = w.run(r)
		w.mustFlush(r)
		w.pass(r, testPatrolPeriod*7/8)
		w.pass(r, testPatrolPeriod/100)
		touched := w.touches(0)
		for _, key := range w.chunkKeys(0) {
			if touched[key] == 0 {
				t.Errorf("%q: %s was not touched", text, key)
			}
		}
		if healed := r.Status().Targets[0].Healed; healed != 0 {
			t.Errorf("%q: %d healed", text, healed)
		}
		stop()
	}
}
