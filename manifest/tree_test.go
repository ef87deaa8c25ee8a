package manifest_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"verneuil/chunkstore"
	. "verneuil/manifest"
	"verneuil/test/crash"
)

func compare(t testing.TB, tree *Tree, want []chunkstore.Ref) {
	t.Helper()
	if tree.Len() != len(want) {
		t.Fatalf("%d chunks, want %d", tree.Len(), len(want))
	}
	for i := range want {
		if got := tree.At(i); got != want[i] {
			t.Fatalf("chunk %d of %d: %v, want %v", i, len(want), got, want[i])
		}
	}
}

// resize is the model of Tree.Resize.
func resize(refs []chunkstore.Ref, chunks int) []chunkstore.Ref {
	refs = slices.Clone(refs[:min(chunks, len(refs))])
	for len(refs) < chunks {
		refs = append(refs, zeroRef)
	}
	return refs
}

// modelled is a tree, and a slice of what is in it.
type modelled struct {
	rng        *rand.Rand
	store      *store
	tree       *Tree
	model      []chunkstore.Ref
	clone      *Tree // lives on beside tree; nil: none
	cloneModel []chunkstore.Ref
}

// set makes scattered or clustered changes, some of them back to zero.
func (m *modelled) set() {
	start, width := m.rng.IntN(len(m.model)), 1+m.rng.IntN(2000)
	for range m.rng.IntN(400) {
		i := min(start+m.rng.IntN(width), len(m.model)-1)
		ref := m.store.ref(m.rng.IntN(5000))
		if m.rng.IntN(4) == 0 {
			ref = zeroRef
		}
		m.tree.Set(i, ref)
		m.model[i] = ref
	}
}

// clear makes a long stretch zeros.
func (m *modelled) clear() {
	start := m.rng.IntN(len(m.model))
	for i := start; i < min(start+3000, len(m.model)); i++ {
		m.tree.Set(i, zeroRef)
		m.model[i] = zeroRef
	}
}

// check compares a tree, which it loads, with its model.
func (m *modelled) check(t *testing.T, tree *Tree, model []chunkstore.Ref) {
	t.Helper()
	if err := tree.Load(t.Context(), m.store.fetch); err != nil {
		t.Fatal(err)
	}
	compare(t, tree, model)
}

// differ compares how the tree and its clone differ with how their models do, places aside.
func (m *modelled) differ(t *testing.T) {
	t.Helper()
	m.check(t, m.tree, m.model)
	m.check(t, m.clone, m.cloneModel)
	one := func(tree, other *Tree, model, otherModel []chunkstore.Ref) {
		t.Helper()
		var want []int
		for i, ref := range model {
			if i < len(otherModel) && ref.ID != otherModel[i].ID ||
				i >= len(otherModel) && ref.ID != chunkstore.ZeroID {
				want = append(want, i)
			}
		}
		if got := Differing(tree, other); !slices.Equal(got, want) {
			t.Fatalf("%d chunks of %d differ from one of %d, want %d",
				len(got), len(model), len(otherModel), len(want))
		}
	}
	one(m.tree, m.clone, m.model, m.cloneModel)
	one(m.clone.Unplaced(), m.tree, m.cloneModel, m.model)
	one(m.tree.Unplaced(), m.tree, m.model, m.model)
}

// split clones the tree, and goes on with either.
func (m *modelled) split(t *testing.T) {
	if m.clone != nil {
		m.differ(t)
	}
	m.clone, m.cloneModel = m.tree.Clone(), slices.Clone(m.model)
	if m.rng.IntN(2) == 0 {
		m.clone, m.tree, m.cloneModel, m.model = m.tree, m.clone, m.model, m.cloneModel
	}
}

// pass takes the tree through a manifest and the store. It may end with a tree that is not loaded.
func (m *modelled) pass(t *testing.T) {
	encoded := m.store.pack(t, m.tree, m.rng.IntN(300))
	m.tree = encoded.Tree(chunkstore.Plain{})
	if m.rng.IntN(2) == 0 {
		for k := range 20 {
			if len(m.model) == 0 {
				continue
			}
			i := m.rng.IntN(len(m.model))
			ref, err := m.tree.Lookup(t.Context(), i, m.store.fetch)
			if err != nil || ref != m.model[i] {
				t.Fatalf("chunk %d: %v, %v, want %v", i, ref, err, m.model[i])
			}
			i = m.rng.IntN(len(m.model))
			m.tree.Set(i, m.store.ref(k)) // also in leaves that are not loaded
			m.model[i] = m.store.ref(k)
		}
	}
	if m.rng.IntN(2) == 0 {
		m.check(t, m.tree, m.model)
	}
}

// near has chunks be near: they have patches then, which do not count.
func (m *modelled) near(t *testing.T) {
	var near []int
	for i := range m.model {
		if m.rng.IntN(50) == 0 {
			near = append(near, i)
		}
	}
	m.store.setNear(m.tree, near)
	packed := m.store.pack(t, m.tree, m.rng.IntN(300))
	patched := make(map[int]bool)
	for _, p := range packed.Patches {
		patched[p.Index] = true
	}
	for _, i := range near {
		if !patched[i] && m.model[i] != zeroRef && packed.Levels > 0 {
			t.Fatalf("chunk %d of %d is near, and has no patch", i, len(m.model))
		}
	}
}

// lose takes a pack from the store, and has a writer mend that, from its own copy.
func (m *modelled) lose(t *testing.T) {
	m.check(t, m.tree, m.model)
	m.clone = nil
	lost := make(map[chunkstore.Digest]bool)
	for name := range m.store.packs {
		if m.rng.IntN(3) == 0 {
			lost[name] = true
			delete(m.store.packs, name)
		}
	}
	if len(m.model) > 0 {
		lost[m.model[m.rng.IntN(len(m.model))].Place.Pack] = true
	}
	delete(lost, chunkstore.Digest{}) // zeros
	var want []int
	for i, ref := range m.model {
		if lost[ref.Place.Pack] {
			want = append(want, i)
		}
	}
	if got := m.tree.Lost(lost); !slices.Equal(got, want) {
		t.Fatalf("%d chunks are lost, want %d", len(got), len(want))
	}
	for _, i := range want {
		m.model[i] = m.store.ref(10_000 + i)
		m.tree.Set(i, m.model[i])
	}
	m.tree = m.store.pack(t, m.tree, 300).Tree(chunkstore.Plain{})
	m.check(t, m.tree, m.model) // the store has all that the tree names
}

// packs checks that the same content always packs to the same manifest without patches.
func (m *modelled) packs(t *testing.T) {
	mixed := m.store.pack(t, m.tree, 0)
	fresh := NewTree(chunkstore.Plain{}, len(m.model))
	for i, ref := range m.model {
		fresh.Set(i, ref)
	}
	alone := m.store.pack(t, fresh, 0)
	if mixed.Levels != alone.Levels || len(alone.Patches) > 0 ||
		!slices.EqualFunc(mixed.Top, alone.Top, func(a, b chunkstore.Ref) bool {
			return a.ID == b.ID || m.store.placed && mixed.Levels > 1 // nodes have leaves' places
		}) {
		t.Fatalf("packs to %d levels, %d top; fresh: %d, %d", mixed.Levels, len(mixed.Top),
			alone.Levels, len(alone.Top))
	}
	if m.store.placed {
		bare := m.tree.Unplaced()
		compare(t, bare, unplaced(m.model))
		near := m.store.near
		m.store = newStore(false)
		m.store.near = near
		fresh = NewTree(chunkstore.Plain{}, len(m.model))
		for i, ref := range unplaced(m.model) {
			fresh.Set(i, ref)
		}
		a, b := m.store.pack(t, bare, 0), m.store.pack(t, fresh, 0)
		if !slices.Equal(a.Top, b.Top) {
			t.Fatalf("without places, it packs to %v; fresh: %v", a.Top, b.Top)
		}
	}
}

func unplaced(refs []chunkstore.Ref) (bare []chunkstore.Ref) {
	for _, ref := range refs {
		bare = append(bare, chunkstore.Ref{ID: ref.ID})
	}
	return bare
}

func TestTreeAgainstASliceBySeed(t *testing.T) {
	// The sizes stand around the borders of levels 0, 1 and 2, and of leaves.
	sizes := []int{0, 1, 2, 63, 64, 65, 511, 512, 513, 1024, 3000, 32767, 32768, 32769, 70000}
	for seed := range crash.Seeds(t, 24) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			m := &modelled{rng: rand.New(rand.NewPCG(seed, 2)), store: newStore(seed%2 == 1),
				tree: NewTree(chunkstore.Plain{}, 100), model: resize(nil, 100)}
			for range 60 {
				switch op := m.rng.IntN(13); {
				case op < 4 && len(m.model) > 0:
					m.set()
				case op == 4 && len(m.model) > 0:
					m.clear()
				case op < 7:
					n := sizes[m.rng.IntN(len(sizes))]
					m.tree.Resize(n)
					m.model = resize(m.model, n)
				case op == 7:
					m.split(t)
				case op == 8:
					m.store.pack(t, m.tree, m.rng.IntN(300))
				case op == 9 && m.store.placed:
					m.lose(t)
				case op == 10:
					m.near(t)
				default:
					m.pass(t)
				}
			}
			m.check(t, m.tree, m.model)
			if m.clone != nil {
				m.differ(t)
			}
			m.packs(t)
		})
	}
}

func TestPackFoldsTheMostPatchedLeavesFirst(t *testing.T) {
	tree, s := NewTree(chunkstore.Plain{}, 10*512), newStore(true)
	for i := range 10 * 512 {
		tree.Set(i, testRef(i))
	}
	before := s.pack(t, tree, 256)
	if len(before.Patches) != 0 {
		t.Fatalf("%d patches in new leaves", len(before.Patches))
	}
	for k, n := range []int{5, 50, 0, 7, 60} { // 122 patches in leaves 0, 1, 3, 4
		for i := range n {
			tree.Set(k*512+i*3, testRef(1<<20+k*512+i))
		}
	}
	after := s.pack(t, tree, 16)
	patches := after.Patches
	if len(patches) != 12 || patches[0].Index != 0 || patches[5].Index != 3*512 {
		t.Errorf("%d patches remain: %v", len(patches), patches)
	}
	for k := range after.Top {
		if changed := after.Top[k] != before.Top[k]; changed != (k == 1 || k == 4) {
			t.Errorf("leaf %d changed: %v", k, changed)
		}
	}
	tree.Set(0, testRef(0)) // as the leaf has it
	if m := s.pack(t, tree, 16); len(m.Patches) != 11 {
		t.Errorf("a patch that says what the leaf says remains: %d", len(m.Patches))
	}
	moved := testRef(0) // the same object in another pack is another entry
	moved.Place.Pack[0]++
	tree.Set(0, moved)
	if m := s.pack(t, tree, 16); len(m.Patches) != 12 || m.Patches[0].Ref != moved {
		t.Errorf("an object that has moved: %v", m.Patches)
	}
}

func TestSparseTreeCostsLittle(t *testing.T) {
	const chunks = 100 << 30 / chunkstore.ChunkBytes
	tree, s := NewTree(chunkstore.Plain{}, chunks), newStore(true)
	tree.Set(0, testRef(0))
	tree.Set(chunks/2, testRef(1))
	m := s.pack(t, tree, 0)
	if m.Levels != 2 || len(m.Top) != 7 {
		t.Fatalf("levels %d, %d top entries", m.Levels, len(m.Top))
	}
	if len(s.puts) != 2 || len(s.puts[0]) != 2 || len(s.puts[1]) != 2 {
		t.Errorf("put %v, want 2 leaves and then 2 nodes", s.puts) // nothing of zeros
	}
	tree = m.Tree(chunkstore.Plain{})
	if err := tree.Load(t.Context(), s.fetch); err != nil {
		t.Fatal(err)
	}
	if len(s.calls) != 2 || len(s.calls[0]) != 2 || len(s.calls[1]) != 2 {
		t.Errorf("fetched %v, want 2 nodes and then 2 leaves", s.calls)
	}
	if tree.At(0) != testRef(0) || tree.At(chunks/2) != testRef(1) || tree.At(chunks-1) != zeroRef {
		t.Error("other objects after loading")
	}
	tree.Set(0, zeroRef)
	tree.Set(chunks/2, zeroRef)
	m = s.pack(t, tree, 0)
	if !slices.Equal(m.Top, slices.Repeat([]chunkstore.Ref{zeroRef}, 7)) || len(s.puts) != 2 {
		t.Errorf("all zeros: %v, %d calls of put", m.Top, len(s.puts))
	}
}

func TestEqualLeavesAreStoredAndLoadedOnce(t *testing.T) {
	tree, s := NewTree(chunkstore.Plain{}, 70000), newStore(true)
	for i := range 70000 {
		tree.Set(i, testRef(1))
	}
	m := s.pack(t, tree, 0)
	if len(s.puts) != 2 || len(s.puts[0]) != 2 || len(s.puts[1]) != 1 {
		t.Errorf("put %v, want the full leaf, the short leaf, and the node", s.puts)
	}
	tree = m.Tree(chunkstore.Plain{})
	if err := tree.Load(t.Context(), s.fetch); err != nil {
		t.Fatal(err)
	}
	if len(s.calls) != 2 || len(s.calls[0]) != 1 || len(s.calls[1]) != 2 ||
		len(objectsOf(tree)) != 3 {
		t.Errorf("fetched %v, %d objects", s.calls, len(objectsOf(tree)))
	}
	compare(t, tree, slices.Repeat([]chunkstore.Ref{testRef(1)}, 70000))
}

// bigTree returns a manifest with levels 2 and the store of its objects.
func bigTree(t testing.TB) (*Manifest, *store) {
	tree, s := NewTree(chunkstore.Plain{}, 70000), newStore(true)
	for i := 0; i < 70000; i += 7 {
		tree.Set(i, testRef(i))
	}
	m := s.pack(t, tree, 0)
	s.forgetCalls()
	return m, s
}

// bigTreeHas returns what that tree has for chunk i.
func bigTreeHas(i int) chunkstore.Ref {
	if i%7 == 0 {
		return testRef(i)
	}
	return zeroRef
}

// bigTreeObjects is how many leaves and nodes it has.
const bigTreeObjects = 137 + 1

func TestLookupFetchesEachObjectOnce(t *testing.T) {
	m, s := bigTree(t)
	tree := m.Tree(chunkstore.Plain{})
	clone := tree.Clone()
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for i := 0; i < 70000; i += 509 {
				for _, tr := range []*Tree{tree, clone} {
					ref, err := tr.Lookup(t.Context(), i, s.fetch)
					if err != nil || ref != bigTreeHas(i) {
						t.Errorf("chunk %d: %v, %v", i, ref, err)
					}
				}
			}
		})
		group.Go(func() {
			if err := tree.Load(t.Context(), s.fetch); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if len(s.fetched) != bigTreeObjects {
		t.Errorf("%d objects fetched", len(s.fetched))
	}
	for ref, n := range s.fetched {
		if n != 1 {
			t.Errorf("%v fetched %d times", ref, n)
		}
	}
}

// TestLoadFetchesALevelTogether: who is at a distance waits once for each height.
func TestLoadFetchesALevelTogether(t *testing.T) {
	m, s := bigTree(t)
	tree := m.Tree(chunkstore.Plain{})
	for range 2 { // then all is there
		if err := tree.Load(t.Context(), s.fetch); err != nil {
			t.Fatal(err)
		}
		if len(s.calls) != 2 || len(s.calls[0]) != 1 || len(s.calls[1]) != bigTreeObjects-1 {
			t.Errorf("%d calls", len(s.calls))
		}
	}
}

// TestPackLoadsWhatItNeeds: the leaves that change, and the way to them, those of a height
// together.
func TestPackLoadsWhatItNeeds(t *testing.T) {
	m, s := bigTree(t)
	tree := m.Tree(chunkstore.Plain{})
	for _, i := range []int{0, 1, 5000, 69999} {
		tree.Set(i, testRef(1<<20+i))
	}
	if m := s.pack(t, tree, 4); len(m.Patches) != 4 || len(s.calls)+len(s.puts) != 0 {
		t.Errorf("%d patches, %d fetches, %d puts", len(m.Patches), len(s.calls), len(s.puts))
	}
	m = s.pack(t, tree, 0)
	if len(s.calls) != 2 || len(s.calls[0]) != 1 || len(s.calls[1]) != 3 ||
		len(s.puts) != 2 || len(s.puts[0]) != 3 || len(s.puts[1]) != 1 {
		t.Errorf("fetched %v, put %v", s.calls, s.puts)
	}
	tree = m.Tree(chunkstore.Plain{})
	want := resize(nil, 70000)
	for i := range want {
		want[i] = bigTreeHas(i)
	}
	for _, i := range []int{0, 1, 5000, 69999} {
		want[i] = testRef(1<<20 + i)
	}
	if err := tree.Load(t.Context(), s.fetch); err != nil {
		t.Fatal(err)
	}
	compare(t, tree, want)
}

// TestNearCostsNoLeaf: what is near is found without a leaf. A writer that opens the database again
// needs none to go on, nor puts any, unless it has others near.
func TestNearCostsNoLeaf(t *testing.T) {
	tree, s := NewTree(chunkstore.Plain{}, 3000), newStore(true)
	for i := range 3000 {
		tree.Set(i, testRef(i))
	}
	near := []int{5, 700, 701, 2999, 4000}
	s.pack(t, tree, 0)
	s.setNear(tree, near)
	again := func(fetches, puts int) *Manifest {
		t.Helper()
		s.forgetCalls()
		m := s.pack(t, tree, 0)
		if len(s.calls) != fetches || len(s.puts) != puts {
			t.Errorf("%d fetches, %d puts, want %d and %d", len(s.calls), len(s.puts), fetches,
				puts)
		}
		tree = m.Tree(chunkstore.Plain{})
		for _, i := range near[:4] {
			if ref, ok := tree.Peek(i); !ok || ref.ID != m.Tree(chunkstore.Plain{}).At(i).ID {
				t.Errorf("chunk %d: %v, %v", i, ref, ok)
			}
		}
		s.setNear(tree, near)
		return m
	}
	first := again(0, 0)
	if second := again(0, 0); !slices.Equal(second.Patches, first.Patches) ||
		len(first.Patches) != 4 {
		t.Errorf("patches %v, and then %v", first.Patches, second.Patches)
	}
	near = []int{5, 700, 1500, 2998}
	s.setNear(tree, near) // 701 and 2999 have changed, for all that is known: their leaves have it
	if third := again(2, 1); len(third.Patches) != 4 {
		t.Errorf("patches %v", third.Patches)
	}
	s.objects, s.packs = nil, nil // where no leaf can be read, no more is near
	s.setNear(tree, []int{5, 700, 1500, 2000, 2998})
	if last := s.pack(t, tree, 0); len(last.Patches) != 4 {
		t.Errorf("patches %v", last.Patches)
	}
}

// TestForget: who goes through a tree in order fetches each object once, and has no more
// than two of each height.
func TestForget(t *testing.T) {
	m, s := bigTree(t)
	tree := m.Tree(chunkstore.Plain{})
	for i := range m.Chunks() {
		tree.Forget(i)
		ref, err := tree.Lookup(t.Context(), i, s.fetch)
		if err != nil || ref != bigTreeHas(i) {
			t.Fatalf("chunk %d: %v, %v", i, ref, err)
		}
	}
	if len(s.calls) != bigTreeObjects {
		t.Errorf("%d fetches of %d objects", len(s.calls), bigTreeObjects)
	}
	tree.Forget(m.Chunks())
	s.forgetCalls()
	for i := 0; i < m.Chunks(); i += 512 {
		if _, err := tree.Lookup(t.Context(), i, s.fetch); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.calls) != bigTreeObjects-2 { // but for the way to the end
		t.Errorf("%d fetches of %d objects that were forgotten", len(s.calls), bigTreeObjects)
	}
	zeros := s.pack(t, NewTree(chunkstore.Plain{}, 1<<20), 0).Tree(chunkstore.Plain{})
	zeros.Forget(1 << 19)
	if ref, err := zeros.Lookup(t.Context(), 0, s.fetch); err != nil || ref != zeroRef {
		t.Errorf("zeros: %v, %v", ref, err)
	}
}
