package manifest_test

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"verneuil/chunkstore"
	. "verneuil/manifest"
)

// TestNamed: all that a tree names is named, with what it is for: also what a patch has replaced.
// The tree keeps nothing of what was fetched for it.
func TestNamed(t *testing.T) {
	m, s := bigTree(t)
	loaded, tree := m.Tree(chunkstore.Plain{}), m.Tree(chunkstore.Plain{})
	if err := loaded.Load(t.Context(), s.fetch); err != nil {
		t.Fatal(err)
	}
	patch := testRef(1 << 20)
	tree.Set(1540, patch)
	want, got := make(map[Named]int), make(map[Named]int)
	for i := range loaded.Len() {
		if ref := loaded.At(i); ref.ID != chunkstore.ZeroID {
			want[Named{Ref: ref, Chunk: i}]++
		}
	}
	want[Named{Ref: patch, Chunk: 1540}]++
	objects := make(map[chunkstore.Ref]bool)
	for range 2 {
		clear(got)
		clear(objects)
		s.forgetCalls()
		err := tree.Named(t.Context(), s.fetch, nil, func(n Named) {
			if n.Height > 0 {
				objects[n.Ref] = true
			} else {
				got[n]++
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(got, want) {
			t.Fatalf("%d chunks are named, want %d", len(got), len(want))
		}
		if all := objectsOf(loaded); len(objects) != len(all) {
			t.Errorf("%d leaves and nodes are named, want %d", len(objects), len(all))
		}
		if len(s.fetched) != len(objects) {
			t.Errorf("%d of %d leaves and nodes were fetched", len(s.fetched), len(objects))
		}
		if _, there := tree.Peek(0); there {
			t.Error("a leaf was kept")
		}
	}
	known := 0
	err := tree.Named(t.Context(), s.fetch, func(Node) bool { known++; return true },
		func(n Named) {
			if n.Height == 0 && n.Ref != patch {
				t.Errorf("chunk %d is named, whose leaf is known", n.Chunk)
			}
		})
	if err != nil || known == 0 {
		t.Error(known, err)
	}
}

// TestRenew: leaves and nodes that stand in a pack are put anew, with the same IDs, elsewhere, and
// those above them; the tree is what it was, and what is left of the store has all of it.
func TestRenew(t *testing.T) {
	for _, load := range []bool{false, true} {
		m, s := bigTree(t)
		whole, tree := m.Tree(chunkstore.Plain{}), m.Tree(chunkstore.Plain{})
		if err := whole.Load(t.Context(), s.fetch); err != nil {
			t.Fatal(err)
		}
		if load {
			if err := tree.Load(t.Context(), s.fetch); err != nil {
				t.Fatal(err)
			}
		}
		leaf := objectsOf(whole)[3]
		gone := map[chunkstore.Digest]bool{leaf.Place.Pack: true}
		tree.Set(1540, testRef(1<<20))
		tree.Set(40_000, testRef(1<<20+1)) // in another pack's leaf
		if err := tree.Renew(t.Context(), gone, s.fetch); err != nil {
			t.Fatal(err)
		}
		packed := s.pack(t, tree, 72)
		delete(s.packs, leaf.Place.Pack)
		after := packed.Tree(chunkstore.Plain{})
		if err := after.Load(t.Context(), s.fetch); err != nil {
			t.Fatal(err)
		}
		for i := range whole.Len() {
			want := whole.At(i)
			switch i {
			case 1540:
				want = testRef(1 << 20)
			case 40_000:
				want = testRef(1<<20 + 1)
			}
			if got := after.At(i); got != want {
				t.Fatalf("chunk %d: %v, want %v", i, got, want)
			}
		}
		if slices.ContainsFunc(objectsOf(after), func(r chunkstore.Ref) bool {
			return gone[r.Place.Pack]
		}) {
			t.Error("something stands in the pack still")
		}
		s.forgetCalls()
		if s.pack(t, tree, 72); len(s.puts) != 0 {
			t.Error("put anew once more")
		}
	}
}

// TestRenewFails: a leaf that cannot be had leaves the tree as it was.
func TestRenewFails(t *testing.T) {
	m, s := bigTree(t)
	whole, tree := m.Tree(chunkstore.Plain{}), m.Tree(chunkstore.Plain{})
	if err := whole.Load(t.Context(), s.fetch); err != nil {
		t.Fatal(err)
	}
	name := objectsOf(whole)[3].Place.Pack
	stored := s.packs[name]
	delete(s.packs, name)
	err := tree.Renew(t.Context(), map[chunkstore.Digest]bool{name: true}, s.fetch)
	if !errors.Is(err, chunkstore.ErrAbsent) {
		t.Error(err)
	}
	s.packs[name] = stored
	s.forgetCalls()
	if s.pack(t, tree, 72); len(s.puts) != 0 {
		t.Error("something was put anew")
	}
}
