package replicate

import (
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/courier"
)

// requests are how many were sent to the first target.
type requests struct{ chunkPuts, chunkGets, manifestPuts, manifestGets int }

func (w *world) requests() (n requests) {
	n.chunkPuts, n.chunkGets = w.chunks[0].calls()
	n.manifestPuts, n.manifestGets = w.manifests[0].calls()
	return n
}

func (n requests) since(was requests) requests {
	return requests{n.chunkPuts - was.chunkPuts, n.chunkGets - was.chunkGets,
		n.manifestPuts - was.manifestPuts, n.manifestGets - was.manifestGets}
}

// TestShortProcess: a process that opens a database, commits and ends reads the target's manifest,
// and puts the next one. Where leaves are left in the target, it fetches none.
func TestShortProcess(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.fillChunks(200)
	r := w.replicator()
	stop := w.run(r)
	w.mustFlush(r)
	stop()
	for n := range 6 {
		before := w.requests()
		r := w.replicator()
		stop := w.run(r)
		w.begin()
		w.write(1600, w.pageOf(1600, 0, byte(n)))
		w.commit()
		w.mustFlush(r)
		stop()
		// What was seen within a second is believed. Else its flush asks for the records since
		// then, and for one that may come after them.
		got := w.requests().since(before)
		most := 1 + n + 4
		if want := (requests{0, 0, 1, got.manifestGets}); got != want || got.manifestGets > most {
			t.Errorf("process %d: %+v, want %+v and %d at most", n, got, want, most)
		}
		w.equal(0, "a short process")
	}
}

// saveCheckpoint has the replicator put a checkpoint to target k, as it does when nothing was
// committed for long.
func (w *world) saveCheckpoint(r *Replicator, clock *movedClock, k int) {
	w.Helper()
	was := w.checkpoint(k).At.Number
	clock.by.Add(int64(time.Minute))
	w.mustFlush(r)
	w.until("a checkpoint", func() bool { return w.checkpoint(k).At.Number > was })
}

// TestFoldFetchesALeaf: a process that has to make a leaf anew fetches it, once, when it puts a
// checkpoint.
func TestFoldFetchesALeaf(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.fillChunks(200)
	r := w.replicator()
	stop := w.run(r)
	w.mustFlush(r)
	stop()
	clock := w.withClock()
	clock.stands = time.Now() // a flush looks again at what was not seen for a second
	before := w.requests()
	r = w.replicator()
	defer w.run(r)()
	for n := range 3 { // the file grows, and with it the leaf
		w.begin()
		for k := range 16 {
			w.write(3200+16*n+k, w.pageOf(1, 0, byte(77*n+k)))
		}
		w.commit()
		w.mustFlush(r)
	}
	// What is put behind a record may be of several, and may come later.
	first := w.requests().since(before)
	if want := (requests{first.chunkPuts, 0, 3, 1}); first != want || first.chunkPuts > 3 {
		t.Errorf("%+v, want %+v", first, want)
	}
	before = w.requests()
	w.saveCheckpoint(r, clock, 0)
	got := w.requests().since(before) // which asks for the three records, too, and the fence
	want := requests{got.chunkPuts, 1, 1, got.manifestGets}
	puts := first.chunkPuts + got.chunkPuts
	if got != want || got.manifestGets > 7 || got.chunkPuts < 1 || puts > 4 {
		t.Errorf("a checkpoint, and a look: %+v after %+v, want %+v", got, first, want)
	}
	w.equal(0, "after the leaf was made anew")
}

// TestPlacesAreATargetsOwn: what one target has, and where, does not depend on the other.
func TestPlacesAreATargetsOwn(t *testing.T) {
	w := newWorld(t, 1, 2)
	w.watch()
	w.fillChunks(100)
	r := w.replicator()
	stop := w.run(r)
	w.mustFlush(r)
	down := func(string, string) error { return errInjected }
	for n := range 5 { // one target is away
		w.chunks[1].setFault(down)
		w.manifests[1].setFault(down)
		for k := range 4 {
			w.begin()
			for page := range 16 {
				w.write(16*(3*n+k)+page+1, w.pageOf(1, 0, byte(50*n+7*k+page)))
			}
			w.commit()
			if err := w.flush(r); !errors.Is(err, errInjected) {
				t.Fatalf("flush with a target down: %v", err)
			}
			w.equal(0, "the target that is up")
		}
		w.chunks[1].setFault(nil)
		w.manifests[1].setFault(nil)
		w.mustFlush(r)
		w.equal(0, "the target that was up")
		w.equal(1, "the target that returned")
		if n%2 == 1 {
			stop()
			r = w.replicator()
			stop = w.run(r)
		}
	}
	stop()
	if a, b := w.manifest(0), w.manifest(1); a.Cut != b.Cut {
		t.Error("the targets have different versions")
	}
	a, b := w.tree(0), w.tree(1)
	others := 0
	for i := range a.Len() {
		if a.At(i).ID != b.At(i).ID {
			t.Errorf("chunk %d is another", i)
		} else if a.At(i) != b.At(i) {
			others++
		}
	}
	if others == 0 {
		t.Error("all stands where it does in the other target")
	}
}

// TestLostAnswer: a record that was appended, and of which the answer was lost, is in the history
// once, and nobody takes that over; whichever record it is, of a takeover or of a version.
func TestLostAnswer(t *testing.T) {
	for _, restart := range []bool{false, true} {
		for _, owns := range []bool{false, true} {
			w := newWorld(t, 1, 1)
			w.watch()
			check := w.manifests[0].stored
			w.fillChunks(100)
			r := w.replicator()
			stop := w.run(r)
			w.mustFlush(r)
			want := 2 // a fence and a version
			if owns {
				w.transact(400)
				w.mustFlush(r)
				want++
			}
			var lost atomic.Int64
			w.manifests[0].stored = func(body []byte) error {
				if lost.Add(1) == 1 {
					return errInjected
				}
				return check(body)
			}
			w.transact(400)
			// The commit's own push may have lost its answer before the flush was asked for.
			if err := w.flush(r); err != nil && !errors.Is(err, errInjected) {
				t.Fatalf("flush: %v", err)
			}
			if restart {
				stop()
				r = w.replicator()
				stop = w.run(r)
			}
			before := w.requests()
			w.mustFlush(r)
			w.equal(0, "an answer was lost")
			// It is appended again, and then looked at.
			if n := w.requests().since(before); n.chunkPuts > 0 || n.manifestPuts > 2 ||
				w.records(0) != want {
				t.Errorf("restart %v, owns %v: %+v, %d records, want %d", restart, owns, n,
					w.records(0), want)
			}
			stop()
		}
	}
}

// TestOtherPlacesAreOurs: a version of ours is known by its Cut, wherever its objects stand.
func TestOtherPlacesAreOurs(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.watch()
	w.fillChunks(100)
	r := w.replicator()
	stop := w.run(r)
	w.mustFlush(r)
	stop()
	m, target := *w.manifest(0), w.copied(0)
	tree := w.tree(0)
	packs := w.packs(0)
	moved := func(p *chunkstore.Pack) []chunkstore.Place {
		places, _, err := target.PutPack(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		return places
	}
	for i := range tree.Len() { // each chunk in a pack of its own
		b, err := target.GetObject(t.Context(), tree.At(i))
		if err != nil {
			t.Fatal(err)
		}
		var p chunkstore.Pack
		if err := p.SealChecked(target.Sealer, tree.At(i).ID, b); err != nil {
			t.Fatal(err)
		}
		tree.Set(i, chunkstore.Ref{ID: tree.At(i).ID, Place: moved(&p)[0]})
	}
	var err error
	m.Levels, m.Top, m.Patches, err = tree.Pack(t.Context(), 0, nil,
		func(objects []chunkstore.Hashed) (places []chunkstore.Place, err error) {
			for _, h := range objects {
				var p chunkstore.Pack
				p.Seal(target.Sealer, h)
				places = append(places, moved(&p)[0])
			}
			return places, nil
		})
	if err != nil {
		t.Fatal(err)
	}
	body, err := m.Encode(target.Sealer)
	if err != nil {
		t.Fatal(err)
	}
	w.manifests[0].objects[manifest.PlainName("host", w.db)] = body
	w.chunks[0].objects = maps.Clone(target.Chunks.(*memoryBucket).objects)
	for key := range packs {
		delete(w.chunks[0].objects, key)
	}
	before := w.requests()
	r = w.replicator()
	stop = w.run(r)
	w.mustFlush(r)
	if n := w.requests().since(before); n.chunkPuts > 0 || n.manifestPuts > 0 {
		t.Errorf("what is there was put again: %+v", n)
	}
	w.transact(400)
	w.mustFlush(r)
	stop()
	w.equal(0, "with other places")
}

// TestLeafThatIsGone: where a checkpoint needs a leaf of the target's tree which cannot be read,
// what is below it is put anew, and that is said.
func TestLeafThatIsGone(t *testing.T) {
	for _, damaged := range []bool{false, true} {
		t.Run(fmt.Sprint("damaged ", damaged), func(t *testing.T) {
			w := newWorld(t, 1, 1)
			w.options = func(o *Options) { o.packObjects = 1 }
			w.fillChunks(600) // two leaves
			r := w.replicator()
			stop := w.run(r)
			w.mustFlush(r)
			w.begin()
			w.write(9000, w.pageOf(9000, 0, 5)) // inline over a chunk below the leaf
			w.commit()
			w.mustFlush(r)
			stop()
			tree := w.tree(0)
			leaf := tree.Len() // the last one of the last leaf
			for ref := range tree.Objects() {
				leaf--
				if name := ref.Place.Pack; leaf == tree.Len()-2 && damaged {
					w.chunks[0].objects[name.String()][200] ^= 1
				} else if leaf == tree.Len()-2 {
					w.drop(0, name)
				}
			}
			clock := new(movedClock)
			w.options = func(o *Options) { o.packObjects, o.clock = 1, clock }
			before := w.requests()
			r = w.replicator() // it was looked at within a minute: nothing is asked for
			stop = w.run(r)
			w.begin()
			for k := range 16 {
				w.write(9600+k, w.pageOf(1, 0, byte(k+1)))
			}
			w.commit()
			w.mustFlush(r)
			clock.by.Add(int64(time.Minute))
			w.mustFlush(r) // a checkpoint needs the leaf
			w.until("what was below it is put", func() bool {
				m, err := newest(w.copied(0), w.db)
				if err == nil {
					err = readAll(m, w.copied(0), func(int, []byte) {})
				}
				return err == nil
			})
			w.mustFlush(r)
			stop()
			w.equal(0, "a leaf was gone")
			below := w.tree(0).Len() - 512
			if n := w.requests().since(before); n.chunkPuts < below || n.chunkPuts > below+5 {
				t.Errorf("%+v, want puts of %d chunks, and their leaf", n, below)
			}
		})
	}
}

// TestContactKnowsTheTree: a replicator that goes on reads no leaf that it has put, also where it
// finds that the target is not what it was.
func TestContactKnowsTheTree(t *testing.T) {
	w := newWorld(t, 1, 1)
	clock := new(movedClock)
	w.options = func(o *Options) { o.clock, o.packObjects = clock, 1 }
	w.fillChunks(200)
	r := w.replicator()
	defer w.run(r)()
	w.mustFlush(r)
	tree := w.tree(0)
	for i := range tree.Len() {
		w.drop(0, tree.At(i).Place.Pack)
	}
	clock.by.Add(int64(2 * courier.PauseTrust))
	before := w.requests()
	w.mustFlush(r)
	if n := w.requests().since(before); n.chunkGets != courier.SampleObjects ||
		n.chunkPuts != tree.Len() {
		t.Errorf("%+v, want a sample, and puts of %d chunks", n, tree.Len())
	}
	w.equal(0, "after the chunks were gone")
}

// TestLeavesGoneOfAnIdleDatabase: a flush finds out that leaves are gone of the version which the
// target has, and does not succeed before all is there.
func TestLeavesGoneOfAnIdleDatabase(t *testing.T) {
	for _, restart := range []bool{false, true} {
		w := newWorld(t, 1, 1)
		clock := new(movedClock)
		w.options = func(o *Options) { o.clock, o.packObjects = clock, 1 }
		w.fillChunks(600)
		r := w.replicator()
		stop := w.run(r)
		w.mustFlush(r)
		clock.by.Add(int64(2 * courier.PauseTrust))
		tree := w.tree(0)
		for ref := range tree.Objects() {
			w.drop(0, ref.Place.Pack)
		}
		if !restart { // or the sample may not tell: the leaves are loaded
			for i := range tree.Len() {
				w.drop(0, tree.At(i).Place.Pack)
			}
		}
		if restart {
			stop()
			r = w.replicator()
			stop = w.run(r)
		}
		w.mustFlush(r)
		w.equal(0, fmt.Sprint("the leaves were gone; restart ", restart))
		stop()
	}
}

// TestEqualDatabasesSharePacks: a database that is put as a whole makes the same packs as an equal
// one, by a push and by a Sync; what stands together in the database does so in them.
func TestEqualDatabasesSharePacks(t *testing.T) {
	const chunks = 300
	first := newWorld(t, 1, 1)
	var old map[string][]chunkstore.ID
	for n, how := range []string{"push", "push", "sync", "sync"} {
		w := newWorld(t, uint64(n), 0)
		w.chunks, w.manifests = first.chunks, first.manifests
		w.fillChunks(chunks)
		if how == "sync" {
			w.mustSync(how, nil)
		} else {
			r := w.replicator()
			stop := w.run(r)
			w.mustFlush(r)
			stop()
			w.equal(0, how)
		}
		if put := w.objects(0, old); old != nil && put > chunkstore.PackMax+1 {
			// where page 1 is, which is another; and the leaf
			t.Errorf("%s %d: %d objects were put again", how, n, put)
		}
		old = w.packs(0)
		tree := w.tree(0)
		for i := range chunks - 1 {
			a, b := tree.At(i).Place, tree.At(i+1).Place
			if (i+1)%chunkstore.PackMax != 0 && i > 0 &&
				(a.Pack != b.Pack || a.Offset+a.Bytes != b.Offset) {
				t.Errorf("%s %d: chunk %d is at %+v, and the next one at %+v", how, n, i, a, b)
			}
		}
	}
}
