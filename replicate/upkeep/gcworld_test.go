package upkeep_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/publishtest"
	"verneuil/replicate/upkeep"
	"verneuil/replicate/versions"
)

const historyHours = 24 * time.Hour

// clock is the store's, and everybody's.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// clocked is a bucket whose objects are as old as a clock says. It keeps no versions.
type clocked struct {
	chunkstore.Bucket
	clock *clock

	mu       sync.Mutex
	put      map[string]time.Time
	requests map[string]int                 // by verb; a list counts for each 1,000 keys
	fail     func(verb, key string) error   // of a request; nil: none does
	before   func(verb, key string)         // each request, without the lock; nil: nothing
	lose     bool                           // Puts, and say that they were done
	listed   func(o chunkstore.Object) bool // false: the list ends there, with an error
}

func newClocked(b chunkstore.Bucket, c *clock) *clocked {
	return &clocked{Bucket: b, clock: c, put: map[string]time.Time{}, requests: map[string]int{}}
}

func (b *clocked) called(verb, key string) error {
	if b.before != nil {
		b.before(verb, key)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests[verb]++
	if b.fail == nil {
		return nil
	}
	return b.fail(verb, key)
}

func (b *clocked) dated(o chunkstore.Object) chunkstore.Object {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at, ok := b.put[o.Key]; ok {
		o.Modified = at
	}
	return o
}

func (b *clocked) Get(ctx context.Context, key string, o chunkstore.GetOptions) (
	chunkstore.Object, error,
) {
	if err := b.called("get", key); err != nil {
		return chunkstore.Object{}, err
	}
	return b.Bucket.Get(ctx, key, o)
}

func (b *clocked) Put(ctx context.Context, key string, body []byte, cond chunkstore.Condition) (
	string, error,
) {
	if b.lose {
		return "lost", nil
	}
	etag, err := b.Bucket.Put(ctx, key, body, cond)
	if err == nil {
		b.mu.Lock()
		b.put[key] = b.clock.Now()
		b.mu.Unlock()
	}
	return etag, err
}

func (b *clocked) Stat(ctx context.Context, key string) (chunkstore.Object, error) {
	if err := b.called("stat", key); err != nil {
		return chunkstore.Object{}, err
	}
	o, err := b.Bucket.Stat(ctx, key)
	return b.dated(o), err
}

func (b *clocked) Delete(ctx context.Context, key string) error {
	if err := b.called("delete", key); err != nil {
		return err
	}
	return b.Bucket.Delete(ctx, key)
}

func (b *clocked) List(
	ctx context.Context, prefix string, yield func(chunkstore.Object) bool,
) error {
	if err := b.called("list", prefix); err != nil {
		return err
	}
	n, broken := 0, false
	err := b.Bucket.List(ctx, prefix, func(o chunkstore.Object) bool {
		if b.listed != nil && !b.listed(o) {
			broken = true
			return false
		}
		if n++; n%1000 == 0 {
			_ = b.called("list", prefix)
		}
		return yield(b.dated(o))
	})
	if broken {
		return fmt.Errorf("list %s: the answer was cut off", prefix)
	}
	return err
}

// keys returns what the bucket has of that prefix.
func (b *clocked) keys(t testing.TB, prefix string) map[string]bool {
	t.Helper()
	keys := map[string]bool{}
	err := b.Bucket.List(t.Context(), prefix, func(o chunkstore.Object) bool {
		keys[o.Key] = true
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// was is a version that a test knows.
type was struct {
	id    versions.ID
	refs  []chunkstore.Ref
	bytes int64
	since time.Time // from when it was the newest
}

// gcWorld is a database with a past, and a target with a clock.
type gcWorld struct {
	*publishtest.Publisher
	t         testing.TB
	rng       *rand.Rand
	clock     *clock
	chunks    *clocked
	manifests *clocked
	file      []byte
	past      []was
	lastKept  time.Time
	waited    int
}

func newGCWorld(t testing.TB, seed uint64) *gcWorld {
	t.Helper()
	return newSealedWorld(t, seed, chunkstore.Plain{})
}

// newSealedWorld is newGCWorld with a target whose Sealer is s.
func newSealedWorld(t testing.TB, seed uint64, s chunkstore.Sealer) *gcWorld {
	t.Helper()
	c := &clock{now: time.Date(2026, 1, 1, 9, 0, 0, 0, time.UTC)}
	w := &gcWorld{Publisher: publishtest.NewSealed(t, s), t: t, clock: c,
		rng: rand.New(rand.NewPCG(seed, 17))}
	w.chunks, w.manifests = newClocked(w.Target.Chunks, c), newClocked(w.Target.Manifests, c)
	w.Target.Chunks, w.Target.Manifests = w.chunks, w.manifests
	w.Clock = c.Now
	w.file = make([]byte, 90*chunkstore.ChunkBytes)
	for i := range 90 {
		w.stamp(i)
	}
	return w
}

// stamp changes a chunk of the file to what it never was.
func (w *gcWorld) stamp(i int) {
	binary.BigEndian.PutUint64(w.file[i*chunkstore.ChunkBytes+200:], w.rng.Uint64()|1)
}

// write publishes a version with so many other chunks.
func (w *gcWorld) write(chunks int) {
	w.t.Helper()
	for range chunks {
		w.stamp(w.rng.IntN(len(w.file) / chunkstore.ChunkBytes))
	}
	w.Publish(w.file)
	v := was{id: w.ID(), bytes: int64(len(w.file)), since: w.clock.Now()}
	for i := range w.Newest.Chunks() {
		v.refs = append(v.refs, w.Ref(i))
	}
	w.past = append(w.past, v)
}

// checkpoint is the writer's: it keeps one in ten minutes.
func (w *gcWorld) checkpoint() {
	w.t.Helper()
	keep := w.clock.Now().Sub(w.lastKept) > 10*time.Minute
	w.Checkpoint(keep)
	if keep {
		w.lastKept = w.clock.Now()
	}
}

// takeOver makes another writer the owner: the same version has another ID from then on.
func (w *gcWorld) takeOver() {
	w.t.Helper()
	w.TakeOver(nil)
	v := w.past[len(w.past)-1]
	v.id, v.since = w.ID(), w.clock.Now()
	w.past = append(w.past, v)
}

// begin makes the next version the first of another history.
func (w *gcWorld) begin() {
	w.t.Helper()
	w.Records()
	w.write(1)
	w.lastKept = w.clock.Now()
}

func (w *gcWorld) options(del bool) upkeep.CollectOptions {
	return upkeep.CollectOptions{History: historyHours, Delete: del, Now: w.clock.Now,
		Wait: func(_ context.Context, d time.Duration) error {
			w.waited++
			w.clock.advance(d)
			return nil
		}}
}

func (w *gcWorld) collect(del bool) *upkeep.Collected {
	w.t.Helper()
	found, err := upkeep.Collect(w.t.Context(), []*chunkstore.Target{w.Target}, w.options(del))
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}

// check has every version restored that was the newest one in the last history_hours, and every
// checkpoint that is kept, and has a reader look whether what it has read is still the end.
func (w *gcWorld) check() {
	w.t.Helper()
	f, err := versions.OpenNewest(w.t.Context(), w.Target, w.Key())
	if err == nil {
		err = f.Reader().Check(w.t.Context(), history.Position{})
	}
	if err != nil {
		w.t.Fatalf("the newest version: %v", err)
	}
	past, err := versions.OpenPast(w.t.Context(), w.Target, w.Key())
	if err != nil {
		w.t.Fatal(err)
	}
	packs := w.chunks.keys(w.t, "")
	for k, v := range w.past {
		if k+1 < len(w.past) && w.past[k+1].since.Before(w.clock.Now().Add(-historyHours)) {
			continue
		}
		m, err := past.Version(w.t.Context(), v.id)
		if err != nil {
			w.t.Fatalf("version %d of %d, %v old: %v", k, len(w.past),
				w.clock.Now().Sub(v.since), err)
		}
		w.whole(m, v, packs)
	}
	for _, k := range past.Kept() {
		m, err := versions.GetKept(w.t.Context(), w.Target, w.Key(), k.ID)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, v := range w.past {
			if v.id == k.ID {
				w.whole(m, v, packs)
			}
		}
	}
}

// whole fails unless m is v, and all its packs are there.
func (w *gcWorld) whole(m *manifest.Manifest, v was, packs map[string]bool) {
	w.t.Helper()
	tree := m.Tree(w.Target.Sealer)
	if err := tree.Load(w.t.Context(), w.Target.GetObjects); err != nil {
		w.t.Fatalf("version %v: %v", v.id, err)
	}
	if m.FileBytes != v.bytes {
		w.t.Fatalf("version %v: %d bytes, want %d", v.id, m.FileBytes, v.bytes)
	}
	for i, want := range v.refs {
		if ref := tree.At(i); ref != want {
			w.t.Fatalf("version %v, chunk %d: %v, want %v", v.id, i, ref, want)
		} else if want.ID != chunkstore.ZeroID && !packs[ref.Place.Pack.String()] {
			w.t.Fatalf("version %v, which was the newest %v ago, chunk %d: pack %v is gone", v.id,
				w.clock.Now().Sub(v.since), i, ref.Place.Pack)
		}
	}
}

// restore returns the bytes of the newest version, as the target has them.
func (w *gcWorld) restore() []byte {
	w.t.Helper()
	f, err := versions.OpenNewest(w.t.Context(), w.Target, w.Key())
	if err != nil {
		w.t.Fatal(err)
	}
	m, file := f.Newest(), []byte(nil)
	tree := m.Tree(w.Target.Sealer)
	for i := range m.Chunks() {
		ref, err := tree.Lookup(w.t.Context(), i, w.Target.GetObjects)
		var plain []byte
		if err == nil {
			plain, err = w.Target.GetObject(w.t.Context(), ref)
		}
		if err != nil {
			w.t.Fatal(err)
		}
		file = append(file, m.Overlay(i, plain)...)
	}
	return file
}

// stray puts a pack that no version names yet, and returns its key.
func (w *gcWorld) stray() string {
	w.t.Helper()
	body := bytes.Repeat([]byte{1}, 100)
	binary.BigEndian.PutUint64(body, w.rng.Uint64())
	places, err := publishtest.PutAll(w.Target,
		[]chunkstore.Hashed{chunkstore.Hash(w.Target.Sealer, body)})
	if err != nil {
		w.t.Fatal(err)
	}
	return places[0].Pack.String()
}

// counts returns how many packs, checkpoints and records there are.
func (w *gcWorld) counts() (packs, kept, records int) {
	for key := range w.chunks.keys(w.t, "") {
		switch {
		case strings.HasPrefix(key, chunkstore.KeptKeyPrefix):
			kept++
		case strings.HasPrefix(key, chunkstore.LogKeyPrefix):
			records++
		case len(key) == 64:
			packs++
		}
	}
	return packs, kept, records
}
