package chunkstore_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/cache"
	"verneuil/chunkstore/faultbucket"
	"verneuil/chunkstore/storetest"
)

// noisy returns n objects whose stored forms are a little longer than 64 KiB.
func noisy(seed uint64, n int) [][]byte {
	objects := make([][]byte, n)
	for k := range objects {
		objects[k] = storetest.Noise(seed+uint64(k), chunkstore.ChunkBytes)
	}
	return objects
}

// mustGetAll gets refs, which are to be objects, and returns them.
func mustGetAll(t *testing.T, s *chunkstore.Store, refs []chunkstore.Ref,
	objects [][]byte) [][]byte {
	t.Helper()
	got, err := s.GetObjects(t.Context(), nil, refs)
	if err != nil {
		t.Fatal(err)
	}
	for k := range refs {
		if !bytes.Equal(got[k], objects[k]) {
			t.Fatalf("object %d: %d other bytes", k, len(got[k]))
		}
	}
	return got
}

// TestGetObjectsAsksLittle: what stands together in a pack comes by one request.
func TestGetObjectsAsksLittle(t *testing.T) {
	inner := storetest.Open(t, dirTarget(t.TempDir()))
	plan := &faultbucket.Plan{}
	s := chunkstore.NewStore(plan.Target(inner.Targets[0]))
	objects := noisy(1, 20)
	refs := append(storetest.PutObjects(t, inner.Targets[0], objects[:10]...),
		storetest.PutObjects(t, inner.Targets[0], objects[10:]...)...)
	objects = append(objects, make([]byte, chunkstore.ChunkBytes))
	refs = append(refs, chunkstore.Ref{ID: chunkstore.ZeroID})
	const zeros = 20
	for _, c := range []struct {
		want  []int
		calls int
	}{
		{nil, 0}, {[]int{zeros, zeros}, 0}, {[]int{3}, 1}, {[]int{3, 3, 3}, 1},
		{[]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 1}, {[]int{9, 5, zeros, 6, 7, 8}, 1},
		{[]int{1, 3}, 1}, // 64 KiB between
		{[]int{1, 4}, 2}, // more than 128
		{[]int{1, 3, 5, 9}, 2},
		{[]int{9, 10}, 2}, // of two packs
		{[]int{19, 0, 11, 1, 18}, 3},
	} {
		var want [][]byte
		var of []chunkstore.Ref
		for _, k := range c.want {
			want, of = append(want, objects[k]), append(of, refs[k])
		}
		before := plan.Calls()
		got := mustGetAll(t, s, of, want)
		if n := plan.Calls() - before; n != c.calls {
			t.Errorf("objects %d: %d requests, want %d", c.want, n, c.calls)
		}
		for k := range got { // each is the caller's to change
			clear(got[k])
			_ = append(got[k], 1)
			for j := k + 1; j < len(got); j++ {
				if !bytes.Equal(got[j], want[j]) {
					t.Fatalf("objects %d: the %dth and %dth share a buffer", c.want, k, j)
				}
			}
		}
	}
}

// counting is a Bucket that says how many Gets run at once.
type counting struct {
	chunkstore.Bucket
	mu      sync.Mutex
	n, most int
	all     chan struct{} // closed when most has been reached
	want    int
}

func (c *counting) Get(ctx context.Context, key string,
	opts chunkstore.GetOptions) (chunkstore.Object, error) {
	c.mu.Lock()
	c.n++
	if c.most = max(c.most, c.n); c.most == c.want {
		c.want = 0
		close(c.all)
	}
	c.mu.Unlock()
	<-c.all // so many must come at once
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.n--
	}()
	return c.Bucket.Get(ctx, key, opts)
}

// TestGetObjectsAtOnce: as many requests run at once as the store may send, and no more.
func TestGetObjectsAtOnce(t *testing.T) {
	s, err := chunkstore.Open(t.Context(), []chunkstore.TargetConfig{dirTarget(t.TempDir())},
		chunkstore.Options{Concurrency: 3})
	if err != nil {
		t.Fatal(err)
	}
	var objects [][]byte
	var refs []chunkstore.Ref
	for i := range 9 {
		objects = append(objects, []byte{byte(i)})
		refs = append(refs, storetest.PutObjects(t, s.Targets[0], objects[i])...)
	}
	c := &counting{Bucket: s.Targets[0].Chunks, all: make(chan struct{}), want: 3}
	s.Targets[0].Chunks = c
	mustGetAll(t, s, refs, objects)
	if c.most != 3 {
		t.Errorf("%d requests at once, want 3", c.most)
	}
}

// TestGetObjectsFromSeveral: of a part of a pack that no target has whole, each object comes from
// one that has it; and a pack that only one has, from that.
func TestGetObjectsFromSeveral(t *testing.T) {
	root := t.TempDir()
	s := storetest.Open(t, dirTarget(root+"/0"), dirTarget(root+"/1"))
	objects := [][]byte{storetest.Text(1, 9000), storetest.Text(2, 9000), storetest.Text(3, 9000)}
	var refs []chunkstore.Ref
	damage := func(target string, k int) {
		t.Helper()
		key := refs[k].Place.Pack.String()
		name := filepath.Join(root, target, "chunks", key[:2], key)
		stored, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		stored[refs[k].Place.Offset+100] ^= 0x40
		if err := os.WriteFile(name, stored, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, target := range s.Targets {
		refs = storetest.PutObjects(t, target, objects...)
	}
	damage("0", 0)
	mustGetAll(t, s, refs, objects)
	damage("1", 2)
	mustGetAll(t, s, refs, objects)
	damage("1", 0)
	_, err := s.GetObjects(t.Context(), nil, refs)
	storetest.MustBe(t, err, chunkstore.ErrCorrupt)
	storetest.MustSay(t, err, refs[0].ID.String(), refs[0].Place.Pack.String(),
		s.Targets[0].Name, s.Targets[1].Name)

	only := [][]byte{objects[0], []byte("only")}
	refs = append(refs[1:2], storetest.PutObjects(t, s.Targets[1], only...)...)
	mustGetAll(t, s, refs, append(objects[1:2:2], only...))
	err = s.Targets[1].Chunks.Delete(t.Context(), refs[1].Place.Pack.String())
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.GetObjects(t.Context(), nil, refs)
	storetest.MustBe(t, err, chunkstore.ErrAbsent)
}

// TestGetObjectIn: the target that a ref comes from is asked first, also if it is none of the
// store's, and the others if it fails.
func TestGetObjectIn(t *testing.T) {
	object := bypass(t)
	inner, plan, _ := twoTargets(t, object.ref.Place.Pack)
	first, second := inner.Targets[0], inner.Targets[1]
	for _, target := range inner.Targets {
		object.put(target)
	}
	for what, s := range map[string]*chunkstore.Store{
		"of the store's": inner, "alone": chunkstore.NewStore(second),
		"besides": chunkstore.NewStore(first)} {
		before := plan.Calls()
		got, err := s.GetObject(t.Context(), second, object.ref)
		if err != nil || !bytes.Equal(got, object.plain) || plan.Calls() != before {
			t.Errorf("%s: %d bytes, %v, %d calls of another target", what, len(got), err,
				plan.Calls()-before)
		}
	}
	if err := second.Chunks.Delete(t.Context(), object.ref.Place.Pack.String()); err != nil {
		t.Fatal(err)
	}
	if got, err := inner.GetObject(t.Context(), second, object.ref); err != nil ||
		!bytes.Equal(got, object.plain) {
		t.Errorf("gone in its target: %d bytes, %v", len(got), err)
	}
}

// spoiling is a Bucket whose first Gets are answered with other bytes.
type spoiling struct {
	chunkstore.Bucket
	left  int
	spoil func([]byte) []byte
}

func (s *spoiling) Get(ctx context.Context, key string,
	opts chunkstore.GetOptions) (chunkstore.Object, error) {
	o, err := s.Bucket.Get(ctx, key, opts)
	if s.left > 0 {
		s.left--
		o.Body = s.spoil(o.Body)
	}
	return o, err
}

// TestGetSpoiled: what something on the way has damaged is asked for again, twice.
func TestGetSpoiled(t *testing.T) {
	target := storetest.Open(t, dirTarget(t.TempDir())).Targets[0]
	objects := [][]byte{storetest.Text(1, 9000), storetest.Text(2, 9000)}
	refs := storetest.PutObjects(t, target, objects...)
	for what, spoil := range map[string]func([]byte) []byte{
		"empty": func([]byte) []byte { return nil },
		"short": func(b []byte) []byte { return b[:len(b)-1] },
		"long":  func(b []byte) []byte { return append(b, 0) },
		"other": func(b []byte) []byte { b[len(b)/2] ^= 0x40; return b },
	} {
		for _, times := range []int{2, 1000} {
			b := &spoiling{target.Chunks, times, spoil}
			spoiled := chunkstore.NewTarget("spoiled", b, nil)
			s := chunkstore.NewStore(spoiled)
			if times == 2 {
				mustGetAll(t, s, refs, objects)
				b.left = times
				if _, err := spoiled.GetPack(t.Context(), refs[0].Place.Pack); err != nil {
					t.Errorf("%s, twice: %v", what, err)
				}
				continue
			}
			_, err := s.GetObjects(t.Context(), nil, refs)
			storetest.MustBe(t, err, chunkstore.ErrCorrupt)
			_, err = s.GetObject(t.Context(), nil, refs[0])
			storetest.MustBe(t, err, chunkstore.ErrCorrupt)
			if _, err = spoiled.GetPack(t.Context(), refs[0].Place.Pack); what != "other" {
				storetest.MustBe(t, err, chunkstore.ErrCorrupt)
			}
		}
	}
}

// TestOpenPackLends: while a pack is lent, no other one gets its memory; afterwards, others may.
func TestOpenPackLends(t *testing.T) {
	target := storetest.Open(t, dirTarget(t.TempDir())).Targets[0]
	s := chunkstore.NewStore(target)
	first, second := noisy(1, 40), noisy(2, 40)
	refs := storetest.PutObjects(t, target, first...)
	others := storetest.PutObjects(t, target, second...)
	same := func(pieces []chunkstore.Piece, refs []chunkstore.Ref, want [][]byte) error {
		for k, ref := range refs {
			piece, _ := chunkstore.FindPiece(pieces, ref)
			got, err := chunkstore.OpenObject(target.Sealer, nil, ref.ID, piece.Stored)
			if err != nil || !bytes.Equal(got, want[k]) {
				return fmt.Errorf("object %d: %d bytes, %w", k, len(got), err)
			}
		}
		return nil
	}
	open := func(refs []chunkstore.Ref, use func([]chunkstore.Piece) error) {
		t.Helper()
		if err := s.OpenPack(t.Context(), nil, refs[0].Place.Pack, use); err != nil {
			t.Error(err)
		}
	}
	open(refs, func(pieces []chunkstore.Piece) error {
		for range 3 {
			open(others, func(pieces []chunkstore.Piece) error {
				return same(pieces, others, second)
			})
		}
		return same(pieces, refs, first)
	})
	storetest.MustBe(t, s.OpenPack(t.Context(), nil, chunkstore.Digest{1}, nil),
		chunkstore.ErrAbsent)
}

// TestGetObjectsCached: what is fetched fills the cache, by ID, and only what it has not is asked
// for.
func TestGetObjectsCached(t *testing.T) {
	root := t.TempDir()
	s := storetest.Open(t, dirTarget(root+"/target"),
		&cache.Local{Directory: root + "/cache", NumShards: 1, Capacity: 100})
	objects := noisy(1, 12)
	refs := storetest.PutObjects(t, s.Targets[0], objects...)
	calls := s.Calls()
	want := func(n int64) {
		t.Helper()
		if got := s.Calls() - calls; got != n {
			t.Errorf("%d calls, want %d", got, n)
		}
		calls = s.Calls()
	}
	mustGetAll(t, s, refs[2:3], objects[2:3])
	want(1)
	mustGetAll(t, s, refs[:6], objects[:6])
	want(1)
	mustGetAll(t, s, refs[:6], objects[:6])
	want(0)
	for k := range refs { // the cache knows no places
		refs[k].Place = chunkstore.Place{}
	}
	mustGetAll(t, s, refs[:6], objects[:6])
	want(0)
	_, err := s.GetObjects(t.Context(), nil, refs)
	storetest.MustBe(t, err, chunkstore.ErrCorrupt)
	want(0)
}

// TestLackingPacks: where a bucket may not be listed, or has more than is looked for, each pack is
// asked for. One that was cut short is lacking.
func TestLackingPacks(t *testing.T) {
	inner := storetest.Open(t, dirTarget(t.TempDir())).Targets[0]
	names := map[chunkstore.Digest]int64{}
	var packs []chunkstore.Digest
	for i := range 8 {
		place := storetest.PutObjects(t, inner, []byte{byte(i)})[0].Place
		names[place.Pack] = place.End()
		packs = append(packs, place.Pack)
	}
	gone, short := packs[5], packs[6]
	if err := inner.Chunks.Delete(t.Context(), gone.String()); err != nil {
		t.Fatal(err)
	}
	o, err := inner.Chunks.Get(t.Context(), short.String(), chunkstore.GetOptions{})
	if err == nil {
		_, err = inner.Chunks.Put(t.Context(), short.String(), o.Body[:len(o.Body)-1],
			chunkstore.Condition{})
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, failing := range []int{0, 1} {
		plan := &faultbucket.Plan{At: failing}
		lacking, err := plan.Target(inner).LackingPacks(t.Context(), names, 3)
		if err != nil || len(lacking) != 2 || !lacking[gone] || !lacking[short] {
			t.Errorf("%v are lacking, %v; want %v and %v", lacking, err, gone, short)
		}
		if want := 1 + failing*len(names); plan.Calls() != want {
			t.Errorf("%d calls, want %d", plan.Calls(), want)
		}
	}
	plan := &faultbucket.Plan{At: 1, ForGood: true}
	_, err = plan.Target(inner).LackingPacks(t.Context(), names, 3)
	storetest.MustBe(t, err, faultbucket.ErrInjected)
}

// TestI7ManyAtOnce: of several who want overlapping sets of objects, one fetches each, and nobody
// waits for who waits for him.
func TestI7ManyAtOnce(t *testing.T) {
	root := t.TempDir()
	inner := storetest.Open(t, dirTarget(root+"/target"))
	var objects [][]byte
	var refs []chunkstore.Ref
	for i := range 40 { // each in a pack of its own: a request is an object
		objects = append(objects, storetest.Text(uint64(i), 600))
		refs = append(refs, storetest.PutObjects(t, inner.Targets[0], objects[i])...)
	}
	plan := &faultbucket.Plan{}
	counted := plan.Bucket(inner.Targets[0].Chunks)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var all sync.WaitGroup
	for process := range 3 {
		cfgs := []chunkstore.TargetConfig{dirTarget(root + "/target"),
			&cache.Local{Directory: root + "/cache", NumShards: 2, Capacity: 1000}}
		s, err := chunkstore.Open(t.Context(), cfgs, chunkstore.Options{CallsPerSecond: -1})
		if err != nil {
			t.Fatal(err)
		}
		s.SlowAfter(1 << 60)
		s.Targets[0] = chunkstore.NewTarget("target", counted, nil)
		for caller := range 3 {
			all.Go(func() {
				random := rand.New(rand.NewPCG(seed, uint64(process*3+caller)))
				for range 5 {
					var want [][]byte
					var of []chunkstore.Ref
					for _, k := range random.Perm(len(refs))[:20] {
						want, of = append(want, objects[k]), append(of, refs[k])
					}
					got, err := s.GetObjects(t.Context(), nil, of)
					if err != nil {
						t.Error(err)
						return
					}
					for k := range of {
						if !bytes.Equal(got[k], want[k]) {
							t.Errorf("%d other bytes", len(got[k]))
						}
					}
				}
			})
		}
	}
	all.Wait()
	if plan.Calls() > len(refs) {
		t.Errorf("%d requests for %d objects", plan.Calls(), len(refs))
	}
}
