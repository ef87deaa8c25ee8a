package upkeep_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/faultbucket"
	"verneuil/manifest/history"
	"verneuil/replicate/upkeep"
	"verneuil/replicate/versions"
)

// aged is a database that has been written to for some days, so that there is garbage of each kind.
func aged(t testing.TB, seed uint64) *gcWorld {
	t.Helper()
	w := newGCWorld(t, seed)
	w.age()
	return w
}

func (w *gcWorld) age() {
	w.t.Helper()
	w.begin()
	w.stray()
	for range 12 {
		w.write(3)
		w.clock.advance(20 * time.Second)
		w.write(1)
		w.clock.advance(10 * time.Hour)
		w.checkpoint()
	}
	w.write(1)
}

// everything returns the keys of both buckets.
func (w *gcWorld) everything() map[string]bool {
	w.t.Helper()
	all := w.chunks.keys(w.t, "")
	for key := range w.manifests.keys(w.t, "") {
		all["manifest "+key] = true
	}
	return all
}

// refuse fails unless nothing is deleted, and the error says each of want.
func (w *gcWorld) refuse(want ...string) {
	w.t.Helper()
	before := w.everything()
	_, err := upkeep.Collect(w.t.Context(), []*chunkstore.Target{w.Target}, w.options(true))
	if err == nil {
		w.t.Errorf("no error, want %q", want)
		return
	}
	for _, text := range want {
		if !strings.Contains(err.Error(), text) {
			w.t.Errorf("%v: want %q", err, text)
		}
	}
	if !maps.Equal(before, w.everything()) {
		w.t.Errorf("something was deleted, though: %v", err)
	}
}

// TestG5EachFailingRequest: each request fails in turn, until a run passes untouched. After each,
// every version of the history restores.
func TestG5EachFailingRequest(t *testing.T) {
	w := aged(t, 1)
	for n := 1; ; n++ {
		plan := &faultbucket.Plan{At: n, After: n%2 == 0}
		var deletes atomic.Int64
		plan.OnCalled = func(verb, _ string) {
			if verb == "delete" {
				deletes.Add(1)
			}
		}
		before := w.everything()
		_, err := upkeep.Collect(t.Context(), []*chunkstore.Target{plan.Target(w.Target)},
			w.options(true))
		deleting := deletes.Load() > 0
		if plan.Fired() > 0 && err == nil && !errors.Is(err, faultbucket.ErrInjected) && !deleting {
			t.Errorf("request %d failed, and nobody said so", n)
		}
		if err != nil && !deleting && !maps.Equal(before, w.everything()) {
			t.Errorf("request %d failed, and something was deleted: %v", n, err)
		}
		w.check()
		if plan.Fired() == 0 {
			if err != nil {
				t.Fatal(err)
			}
			if n < 30 {
				t.Errorf("only %d requests", n)
			}
			break
		}
	}
	if !bytes.Equal(w.restore(), w.file) {
		t.Error("the newest version has other bytes")
	}
}

// TestG5ListsThatEndEarly: a list that is cut off is no list.
func TestG5ListsThatEndEarly(t *testing.T) {
	w := aged(t, 2)
	for _, b := range []*clocked{w.chunks, w.manifests} {
		total := len(b.keys(t, ""))
		for after := 0; after < total; after += 1 + total/40 {
			n := 0
			b.listed = func(chunkstore.Object) bool {
				n++
				return n <= after
			}
			w.refuse("cut off")
			if t.Failed() {
				t.FailNow()
			}
		}
		b.listed = nil
	}
	w.collect(true)
	w.check()
}

// TestG5Damaged: where something that names packs cannot be read, nothing is deleted.
func TestG5Damaged(t *testing.T) {
	put := func(w *gcWorld, b chunkstore.Bucket, key string, change func([]byte) []byte) {
		o, err := b.Get(t.Context(), key, chunkstore.GetOptions{})
		if err == nil {
			_, err = b.Put(t.Context(), key, change(bytes.Clone(o.Body)), chunkstore.Condition{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	flip := func(b []byte) []byte {
		b[len(b)/2] ^= 1
		return b
	}
	last := func(w *gcWorld, prefix string) (key string) {
		for k := range w.chunks.keys(t, prefix) {
			key = max(key, k)
		}
		return key
	}
	for name, test := range map[string]struct {
		damage func(w *gcWorld)
		want   string
	}{
		"manifest": {func(w *gcWorld) { put(w, w.manifests.Bucket, w.Key(), flip) }, "corrupt"},
		"checkpoint": {func(w *gcWorld) {
			put(w, w.chunks.Bucket, last(w, "kept-"), flip)
		}, "corrupt"},
		"record": {func(w *gcWorld) {
			put(w, w.chunks.Bucket, last(w, "log-"), flip)
		}, "corrupt"},
		"newer program": {func(w *gcWorld) {
			_, err := w.chunks.Bucket.Put(t.Context(), chunkstore.MarkerKey,
				[]byte(`{"verneuil_bucket": 2, "id": "00000000-0000-4000-8000-000000000001"}`),
				chunkstore.Condition{})
			if err != nil {
				t.Fatal(err)
			}
		}, "newer program"},
		"leaf": {func(w *gcWorld) {
			w.checkpoint()
			if err := w.chunks.Bucket.Delete(t.Context(),
				w.Newest.Top[0].Place.Pack.String()); err != nil {
				t.Fatal(err)
			}
		}, "leaf"},
		"other buckets": {func(w *gcWorld) {
			w.Newest.Stores = []chunkstore.Identity{{1}}
			w.write(1)
			w.checkpoint()
		}, "other buckets"},
		"no database": {func(w *gcWorld) {
			if err := w.manifests.Bucket.Delete(t.Context(), w.Key()); err != nil {
				t.Fatal(err)
			}
		}, "no database"},
		"no right to list": {func(w *gcWorld) { w.chunks.fail = deny("list") }, "must allow"},
		"no right to delete": {func(w *gcWorld) {
			w.chunks.fail = deny("delete")
		}, "must allow"},
	} {
		t.Run(name, func(t *testing.T) {
			w := aged(t, 3)
			test.damage(w)
			w.refuse(test.want)
		})
	}
}

func deny(denied string) func(verb, key string) error {
	return func(verb, key string) error {
		if verb != denied {
			return nil
		}
		return fmt.Errorf("%s %s: %w", verb, key, chunkstore.ErrDenied)
	}
}

// dies makes a version that has another chunk 5, and lets the pack in which that stood become
// garbage. again makes that chunk 5 the newest version's once more.
func (w *gcWorld) dies() (first chunkstore.Ref, again func()) {
	turn := func(to byte) {
		w.file[5*chunkstore.ChunkBytes+100] = to
		w.Publish(w.file)
	}
	turn(77)
	first = w.Ref(5)
	turn(78)
	w.checkpoint()
	w.clock.advance(5 * historyHours)
	w.write(1)
	w.checkpoint()
	w.clock.advance(3 * historyHours)
	w.write(1)
	w.checkpoint()
	return first, func() { turn(77) }
}

// TestG3PutAgain: a writer, whose clock stands still, puts garbage again under its name, as its
// newest version has the same chunks, after the bucket was listed.
func TestG3PutAgain(t *testing.T) {
	w := aged(t, 4)
	stands := w.clock.Now()
	w.Clock = func() time.Time { return stands }
	first, anew := w.dies()
	again := false
	o := w.options(true)
	o.Wait = func(context.Context, time.Duration) error {
		again = w.chunks.keys(t, "")[first.Place.Pack.String()]
		anew()
		return nil
	}
	found, err := upkeep.Collect(t.Context(), []*chunkstore.Target{w.Target}, o)
	if err != nil || !again || w.Ref(5) != first || found.Packs.Objects == 0 {
		t.Fatalf("%v: %v, again %v at %v, was at %v", found, err, again, w.Ref(5), first)
	}
	if !bytes.Equal(w.restore(), w.file) {
		t.Error("the newest version has other bytes")
	}
}

// TestG3PutAgainMeanwhile: a writer puts garbage again in the moment before it is deleted, when the
// collector has looked for the last time; and who deletes is so slow that it has done it long
// since.
func TestG3PutAgainMeanwhile(t *testing.T) {
	for _, later := range []time.Duration{0, time.Hour} {
		w := aged(t, 4)
		first, again := w.dies()
		met := false
		w.chunks.before = func(verb, key string) {
			if verb == "delete" && key == first.Place.Pack.String() && !met {
				met = true
				again()
				w.clock.advance(later)
			}
		}
		w.collect(true)
		if ref := w.Ref(5); !met || ref.ID != first.ID {
			t.Fatalf("met %v; the chunk is %v, was %v", met, ref, first)
		}
		if !bytes.Equal(w.restore(), w.file) {
			t.Error("the newest version has other bytes")
		}
	}
}

// TestT5KeptButNeverNewest: a checkpoint that was kept, but did not become the newest one, is no
// reason to trim: who opens the history begins at the one before.
func TestT5KeptButNeverNewest(t *testing.T) {
	w := newGCWorld(t, 5)
	w.begin()
	for range 20 {
		w.write(1)
	}
	w.clock.advance(time.Hour)
	w.manifests.lose = true
	w.checkpoint()
	for range 4 {
		w.clock.advance(historyHours)
		w.write(1)
	}
	w.clock.advance(time.Hour)
	_, err := w.manifests.Bucket.Get(t.Context(), w.Key(), chunkstore.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// The clock of the bucket does not go on without a put.
	w.stray()
	err = versions.Keep(t.Context(), w.Target, "another", history.Position{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	o := w.options(true)
	o.Host = w.Newest.Host // what is kept of "another" is nobody's
	_, err = upkeep.Collect(t.Context(), []*chunkstore.Target{w.Target}, o)
	if err == nil || !strings.Contains(err.Error(), "kept-") {
		t.Fatalf("a checkpoint that is no manifest: %v", err)
	}
	delete(w.chunks.put, versions.KeptKey("another", versions.ID{}))
	if err := w.chunks.Bucket.Delete(t.Context(),
		versions.KeptKey("another", versions.ID{})); err != nil {
		t.Fatal(err)
	}
	w.manifests.put[w.Key()] = w.clock.Now() // as if it had been written again
	w.collect(true)
	if !bytes.Equal(w.restore(), w.file) {
		t.Error("the newest version has other bytes")
	}
	w.check()
}

// TestWaits: who may have read a checkpoint a moment ago gets 20 minutes; else nobody waits.
func TestWaits(t *testing.T) {
	w := aged(t, 6)
	w.checkpoint()
	w.collect(false)
	if w.waited != 0 {
		t.Error("a dry run waited")
	}
	w.collect(true)
	if w.waited != 1 {
		t.Errorf("waited %d times after a checkpoint was put a moment ago", w.waited)
	}
	w.age()
	w.clock.advance(time.Hour)
	other := newGCWorld(t, 7)
	other.share(w, "other")
	other.begin() // so that time goes on
	before := w.waited
	w.collect(true)
	if w.waited != before {
		t.Error("waited, though the checkpoint is an hour old")
	}
	w.check()
	w.clock.advance(time.Hour)
	reader, err := versions.OpenNewest(t.Context(), w.Target, w.Key())
	if err != nil {
		t.Fatal(err)
	}
	w.checkpoint()
	w.clock.advance(2 * historyHours)
	other.write(1)
	other.checkpoint()
	w.collect(true) // all records are old
	w.check()
	if err := reader.Reader().Check(t.Context(), history.Position{}); err != nil {
		t.Errorf("a reader that has read the last record: %v", err)
	}
	if err := canceled(t, w); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// TestG2UnkeptCheckpoint: a checkpoint was not kept, and was the newest one for days. Who has just
// read it, and none of its leaves, finds these for 20 minutes after it was replaced.
func TestG2UnkeptCheckpoint(t *testing.T) {
	w := newGCWorld(t, 8)
	w.begin()
	w.write(80)
	w.Checkpoint(false)
	w.clock.advance(3 * 24 * time.Hour)
	w.write(1)
	f, err := versions.Open(t.Context(), w.Target, w.Key())
	if err != nil {
		t.Fatal(err)
	}
	w.write(80)
	w.checkpoint()
	o, read := w.options(true), 0
	o.Wait = func(ctx context.Context, _ time.Duration) error {
		tree := f.Newest().Tree(w.Target.Sealer)
		if err := tree.Load(ctx, w.Target.GetObjects); err != nil {
			t.Errorf("a reader of the checkpoint before: %v", err)
		}
		read++
		return nil
	}
	found, err := upkeep.Collect(t.Context(), []*chunkstore.Target{w.Target}, o)
	if err != nil || read != 1 || found.Packs.Objects == 0 {
		t.Errorf("%+v, %v; waited %d times", found, err, read)
	}
}

// canceled collects with a context that ends while it waits.
func canceled(t *testing.T, w *gcWorld) error {
	w.age()
	w.checkpoint()
	ctx, cancel := context.WithCancel(t.Context())
	o, before := w.options(true), w.everything()
	o.Wait = func(ctx context.Context, _ time.Duration) error {
		cancel()
		return ctx.Err()
	}
	_, err := upkeep.Collect(ctx, []*chunkstore.Target{w.Target}, o)
	if !maps.Equal(before, w.everything()) {
		t.Error("something was deleted after an interrupt")
	}
	return err
}

// TestYoung: what a writer may yet name stays for two days, however short the history is.
func TestYoung(t *testing.T) {
	w := newGCWorld(t, 13)
	w.begin()
	stray, o := w.stray(), w.options(true)
	o.History = time.Hour
	for k, after := range []time.Duration{48 * time.Hour, 2 * time.Hour} {
		w.clock.advance(after)
		w.write(1)
		w.checkpoint()
		_, err := upkeep.Collect(t.Context(), []*chunkstore.Target{w.Target}, o)
		if err != nil {
			t.Fatal(err)
		}
		if there := w.chunks.keys(t, "")[stray]; there != (k == 0) {
			t.Errorf("the pack is there: %v, step %d", there, k)
		}
	}
}

// TestHost: with a host, another host's past stays, and the packs that it needs.
func TestHost(t *testing.T) {
	w := newGCWorld(t, 8)
	other := newGCWorld(t, 9)
	other.share(w, "other")
	w.age()
	other.age()
	o := w.options(true)
	o.Host = "other"
	key := func(w *gcWorld) string {
		return versions.KeptKey(w.Key(), versions.ID{})[:len("kept-")+32]
	}
	mine, theirs := len(w.chunks.keys(t, key(w))), len(w.chunks.keys(t, key(other)))
	for range 2 {
		if _, err := upkeep.Collect(t.Context(), []*chunkstore.Target{w.Target}, o); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(w.chunks.keys(t, key(w))); n != mine {
		t.Errorf("of another host, %d of %d checkpoints are left", n, mine)
	}
	if n := len(w.chunks.keys(t, key(other))); n >= theirs {
		t.Errorf("of this host, %d of %d checkpoints are left", n, theirs)
	}
	past, err := versions.OpenPast(t.Context(), w.Target, w.Key())
	if err != nil {
		t.Fatal(err)
	}
	packs := w.chunks.keys(t, "")
	for _, v := range w.past { // all of them, however old
		m, err := past.Version(t.Context(), v.id)
		if err != nil {
			t.Fatal(err)
		}
		w.whole(m, v, packs)
	}
	w.collect(true)
	w.check()
	other.check()
}

// share moves the world into another's target, as a database of that host.
func (w *gcWorld) share(with *gcWorld, host string) {
	w.Target, w.chunks, w.manifests, w.clock = with.Target, with.chunks, with.manifests, with.clock
	w.Newest.Host = host
}

// TestG6Several: collectors beside each other, and a writer.
func TestG6Several(t *testing.T) {
	w := aged(t, 10)
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			o := w.options(true)
			o.Wait = func(context.Context, time.Duration) error { return nil }
			_, err := upkeep.Collect(t.Context(), []*chunkstore.Target{w.Target}, o)
			if err != nil {
				t.Error(err)
			}
		})
	}
	for range 10 {
		w.write(2)
		w.checkpoint()
	}
	group.Wait()
	w.check()
	if !bytes.Equal(w.restore(), w.file) {
		t.Error("the newest version has other bytes")
	}
}

// TestRequests: what the lists and trees cost.
func TestRequests(t *testing.T) {
	w := aged(t, 11)
	for range 2500 {
		w.stray()
	}
	packs, kept, records := w.counts()
	clear(w.chunks.requests)
	clear(w.manifests.requests)
	w.collect(false)
	pages := func(n int) int { return n/1000 + 1 }
	// of packs, checkpoints, all logs, and the one that is trimmed; heartbeats and wants
	most := pages(packs) + pages(kept) + 2*pages(records) + 2
	if n := w.chunks.requests["list"]; n > most {
		t.Errorf("%d lists for %d packs, %d checkpoints and %d records, want at most %d", n, packs,
			kept, records, most)
	}
	// For each version that stays: itself, and a leaf; for the newest, the records that are not
	// there, 16 at once; those after the base.
	if n := w.chunks.requests["get"]; n > 2*kept+2+64+16+2 {
		t.Errorf("%d GETs for %d versions", n, kept)
	}
	if got := w.manifests.requests; got["get"] != 1 || got["list"] != 1 || got["stat"] != 1 {
		t.Errorf("requests for manifests: %v", got)
	}
	if w.chunks.requests["stat"]+w.chunks.requests["delete"] > 0 {
		t.Error("a dry run looks at packs, or deletes")
	}
}

// TestPlainManifests: where versions are manifests, each stays that the bucket keeps, and who reads
// the version before the newest has time to move on.
func TestPlainManifests(t *testing.T) {
	w := newGCWorld(t, 12)
	publish := func() {
		w.stamp(w.rng.IntN(90))
		w.Publish(w.file)
	}
	publish()
	for range 5 {
		w.clock.advance(3 * historyHours)
		publish()
	}
	w.collect(true)
	if w.waited != 1 {
		t.Errorf("waited %d times", w.waited)
	}
	if !bytes.Equal(w.restore(), w.file) {
		t.Error("the newest version has other bytes")
	}
	packs, _, _ := w.counts()
	w.clock.advance(4 * historyHours)
	publish()
	w.collect(true)
	if after, _, _ := w.counts(); after > packs+2 {
		t.Errorf("%d packs, then %d", packs, after)
	}
}
