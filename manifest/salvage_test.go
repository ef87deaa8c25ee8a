package manifest_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"verneuil/chunkstore"
	"verneuil/test/crash"
)

// TestSalvageBySeed: what a tree is left with that misses some of its leaves and nodes is what can
// be read of it, and zeros; and the next version that is made of that misses nothing.
func TestSalvageBySeed(t *testing.T) {
	for seed := range crash.Seeds(t, 6) {
		rng := rand.New(rand.NewPCG(seed, 0))
		m, s := bigTree(t)
		names := slices.SortedFunc(maps.Keys(s.packs), func(a, b chunkstore.Digest) int {
			return slices.Compare(a[:], b[:])
		})
		for _, name := range names {
			if rng.IntN(3) == 0 {
				delete(s.packs, name)
			}
		}
		if len(names) < 2 {
			t.Fatalf("%d packs", len(names))
		}
		left := m.Tree(chunkstore.Plain{})
		lost, err := left.Salvage(t.Context(), s.fetch)
		if err != nil || (lost != nil) != (len(s.packs) < len(names)) {
			t.Fatalf("seed %d: lost %v, %v; %d packs of %d", seed, lost, err, len(s.packs),
				len(names))
		}
		asked := m.Tree(chunkstore.Plain{})
		model := make([]chunkstore.Ref, asked.Len())
		var zeroed []int
		for i := range model {
			model[i], err = asked.Lookup(t.Context(), i, s.fetch)
			if errors.Is(err, chunkstore.ErrAbsent) {
				model[i] = zeroRef
				zeroed = append(zeroed, i)
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if !left.Loaded() {
			t.Fatal("it is not loaded")
		}
		compare(t, left, model)
		for _, i := range zeroed {
			if rng.IntN(10) > 0 {
				model[i] = s.ref(100_000 + i)
				left.Set(i, model[i])
			}
		}
		next := s.pack(t, left, rng.IntN(200)).Tree(chunkstore.Plain{})
		if err := next.Load(t.Context(), s.fetch); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		compare(t, next, model)
	}
}

// TestSalvageFails: what has no answer is not lost.
func TestSalvageFails(t *testing.T) {
	m, s := bigTree(t)
	no := errors.New("no answer")
	tree := m.Tree(chunkstore.Plain{})
	calls := 0
	fail := func(ctx context.Context, refs []chunkstore.Ref) ([][]byte, error) {
		if calls++; calls > 1 {
			return nil, no
		}
		return s.fetch(ctx, refs)
	}
	if lost, err := tree.Salvage(t.Context(), fail); lost != nil || !errors.Is(err, no) {
		t.Errorf("lost %v, %v", lost, err)
	}
	if lost, err := tree.Salvage(t.Context(), s.fetch); lost != nil || err != nil {
		t.Errorf("lost %v, %v", lost, err)
	}
}
