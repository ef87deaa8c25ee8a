package manifest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"verneuil/chunkstore"
	. "verneuil/manifest"
)

// objects is a store of leaves and nodes in memory.
type objects map[chunkstore.ID][]byte

func (o objects) fetch(_ context.Context, id chunkstore.ID) ([]byte, error) {
	plain, ok := o[id]
	if !ok {
		return nil, chunkstore.ErrAbsent
	}
	return slices.Clone(plain), nil
}

// add stores what t needs, as a replicator would.
func (o objects) add(t *Tree) {
	for id, plain := range t.Objects() {
		if (chunkstore.Plain{}).Identify(plain) != id {
			panic("object under a wrong ID")
		}
		o[id] = slices.Clone(plain)
	}
}

// manifestOf returns a manifest of the packed tree, through Encode and Decode.
func manifestOf(t testing.TB, tree *Tree, patchesMax int) *Manifest {
	t.Helper()
	m := &Manifest{FileBytes: int64(tree.Len()) * chunkstore.ChunkBytes, PageBytes: 4096}
	m.Levels, m.Top, m.Patches = tree.Pack(patchesMax)
	if len(m.Patches) > patchesMax {
		t.Fatalf("%d patches, want at most %d", len(m.Patches), patchesMax)
	}
	stored, err := m.Encode(chunkstore.Plain{})
	if err != nil {
		t.Fatal(err)
	}
	m, err = Decode(chunkstore.Plain{}, stored)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func compare(t testing.TB, tree *Tree, want []chunkstore.ID) {
	t.Helper()
	if tree.Len() != len(want) {
		t.Fatalf("%d chunks, want %d", tree.Len(), len(want))
	}
	for i := range want {
		if got := tree.At(i); got != want[i] {
			t.Fatalf("chunk %d of %d: %s, want %s", i, len(want), got, want[i])
		}
	}
}

// resize is the model of Tree.Resize.
func resize(ids []chunkstore.ID, chunks int) []chunkstore.ID {
	ids = slices.Clone(ids[:min(chunks, len(ids))])
	for len(ids) < chunks {
		ids = append(ids, chunkstore.ZeroID)
	}
	return ids
}

// modelled is a tree, and a slice of what is in it.
type modelled struct {
	rng        *rand.Rand
	store      objects
	tree       *Tree
	model      []chunkstore.ID
	clone      *Tree // lives on beside tree; nil: none
	cloneModel []chunkstore.ID
}

// set makes scattered or clustered changes, some of them back to zero.
func (m *modelled) set() {
	start, width := m.rng.IntN(len(m.model)), 1+m.rng.IntN(2000)
	for range m.rng.IntN(400) {
		i := min(start+m.rng.IntN(width), len(m.model)-1)
		id := testID(m.rng.IntN(5000))
		if m.rng.IntN(4) == 0 {
			id = chunkstore.ZeroID
		}
		m.tree.Set(i, id)
		m.model[i] = id
	}
}

// split clones the tree, and goes on with either.
func (m *modelled) split(t *testing.T) {
	if m.clone != nil {
		compare(t, m.clone, m.cloneModel)
	}
	m.clone, m.cloneModel = m.tree.Clone(), slices.Clone(m.model)
	if m.rng.IntN(2) == 0 {
		m.clone, m.tree, m.cloneModel, m.model = m.tree, m.clone, m.model, m.cloneModel
	}
}

// pass takes the tree through a manifest and a store.
func (m *modelled) pass(t *testing.T) {
	encoded := manifestOf(t, m.tree, m.rng.IntN(300))
	m.store.add(m.tree)
	m.tree = encoded.Tree(chunkstore.Plain{})
	if m.rng.IntN(2) == 0 {
		for range 20 {
			if len(m.model) == 0 {
				continue
			}
			i := m.rng.IntN(len(m.model))
			id, err := m.tree.Lookup(t.Context(), i, m.store.fetch)
			if err != nil || id != m.model[i] {
				t.Fatalf("chunk %d: %s, %v, want %s", i, id, err, m.model[i])
			}
			m.tree.Set(i, testID(i)) // also in leaves that are not loaded
			m.model[i] = testID(i)
		}
	}
	if err := m.tree.Load(t.Context(), m.store.fetch); err != nil {
		t.Fatal(err)
	}
}

// packs checks that the same content always packs to the same manifest without patches.
func (m *modelled) packs(t *testing.T) {
	levels, top, _ := m.tree.Pack(0)
	fresh := NewTree(chunkstore.Plain{}, len(m.model))
	for i, id := range m.model {
		fresh.Set(i, id)
	}
	l, tp, patches := fresh.Pack(0)
	if l != levels || !slices.Equal(tp, top) || len(patches) > 0 {
		t.Fatalf("packs to %d levels, %d top; fresh: %d, %d", levels, len(top), l, len(tp))
	}
}

func TestTreeAgainstASlice(t *testing.T) {
	// The sizes stand around the borders of levels 0, 1 and 2, and of leaves.
	sizes := []int{0, 1, 2, 63, 64, 65, 511, 512, 513, 1024, 3000, 32767, 32768, 32769, 70000}
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			m := &modelled{rng: rand.New(rand.NewPCG(seed, 2)), store: objects{},
				tree: NewTree(chunkstore.Plain{}, 100), model: resize(nil, 100)}
			for range 60 {
				switch op := m.rng.IntN(10); {
				case op < 4 && len(m.model) > 0:
					m.set()
				case op < 6:
					n := sizes[m.rng.IntN(len(sizes))]
					m.tree.Resize(n)
					m.model = resize(m.model, n)
				case op == 6:
					m.split(t)
				case op == 7:
					manifestOf(t, m.tree, m.rng.IntN(300))
				default:
					m.pass(t)
				}
			}
			compare(t, m.tree, m.model)
			if m.clone != nil {
				compare(t, m.clone, m.cloneModel)
			}
			m.packs(t)
		})
	}
}

func TestPackFoldsTheMostPatchedLeavesFirst(t *testing.T) {
	tree := NewTree(chunkstore.Plain{}, 10*512)
	for i := range 10 * 512 {
		tree.Set(i, testID(i))
	}
	_, before, patches := tree.Pack(256)
	if len(patches) != 0 {
		t.Fatalf("%d patches in new leaves", len(patches))
	}
	for k, n := range []int{5, 50, 0, 7, 60} { // 122 patches in leaves 0, 1, 3, 4
		for i := range n {
			tree.Set(k*512+i*3, testID(1<<20+k*512+i))
		}
	}
	_, after, patches := tree.Pack(16)
	if len(patches) != 12 || patches[0].Index != 0 || patches[5].Index != 3*512 {
		t.Errorf("%d patches remain: %v", len(patches), patches)
	}
	for k := range after {
		if changed := after[k] != before[k]; changed != (k == 1 || k == 4) {
			t.Errorf("leaf %d changed: %v", k, changed)
		}
	}
	tree.Set(0, testID(0)) // as the leaf has it
	if _, _, patches := tree.Pack(16); len(patches) != 11 {
		t.Errorf("a patch that says what the leaf says remains: %d", len(patches))
	}
}

func TestSparseTreeCostsLittle(t *testing.T) {
	const chunks = 100 << 30 / chunkstore.ChunkBytes
	tree := NewTree(chunkstore.Plain{}, chunks)
	tree.Set(0, testID(0))
	tree.Set(chunks/2, testID(1))
	m := manifestOf(t, tree, 256)
	if m.Levels != 2 || len(m.Top) != 7 {
		t.Fatalf("levels %d, %d top IDs", m.Levels, len(m.Top))
	}
	store := objects{}
	store.add(tree)
	if len(store) > 7 {
		// 2 nodes and 2 leaves, and of zeros a leaf, a node, and the last node, which is short
		t.Errorf("%d objects", len(store))
	}
	var calls atomic.Int32
	tree = m.Tree(chunkstore.Plain{})
	if err := tree.Load(t.Context(), func(ctx context.Context, id chunkstore.ID) ([]byte, error) {
		calls.Add(1)
		return store.fetch(ctx, id)
	}); err != nil {
		t.Fatal(err)
	}
	if calls.Load() > 5 {
		t.Errorf("%d fetches", calls.Load())
	}
	if tree.At(0) != testID(0) || tree.At(chunks/2) != testID(1) ||
		tree.At(chunks-1) != chunkstore.ZeroID {
		t.Error("other IDs after loading")
	}
}

func TestEqualLeavesAreLoadedOnce(t *testing.T) {
	tree := NewTree(chunkstore.Plain{}, 70000)
	for i := range 70000 {
		tree.Set(i, testID(1))
	}
	m, store := manifestOf(t, tree, 0), objects{}
	store.add(tree)
	var calls atomic.Int32
	tree = m.Tree(chunkstore.Plain{})
	if err := tree.Load(t.Context(), func(ctx context.Context, id chunkstore.ID) ([]byte, error) {
		calls.Add(1)
		return store.fetch(ctx, id)
	}); err != nil {
		t.Fatal(err)
	}
	if calls.Load() != 3 { // the node, the full leaf, the short leaf
		t.Errorf("%d fetches", calls.Load())
	}
	compare(t, tree, slices.Repeat([]chunkstore.ID{testID(1)}, 70000))
}

// bigTree returns a manifest with levels 2 and the store of its objects.
func bigTree(t testing.TB) (*Manifest, objects) {
	tree := NewTree(chunkstore.Plain{}, 70000)
	for i := 0; i < 70000; i += 7 {
		tree.Set(i, testID(i))
	}
	m, store := manifestOf(t, tree, 0), objects{}
	store.add(tree)
	return m, store
}

func TestLookupFetchesEachObjectOnce(t *testing.T) {
	m, store := bigTree(t)
	var mu sync.Mutex
	calls := map[chunkstore.ID]int{}
	fetch := func(ctx context.Context, id chunkstore.ID) ([]byte, error) {
		mu.Lock()
		calls[id]++
		mu.Unlock()
		return store.fetch(ctx, id)
	}
	tree := m.Tree(chunkstore.Plain{})
	clone := tree.Clone()
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for i := 0; i < 70000; i += 509 {
				for _, tr := range []*Tree{tree, clone} {
					want := chunkstore.ZeroID
					if i%7 == 0 {
						want = testID(i)
					}
					if id, err := tr.Lookup(t.Context(), i, fetch); err != nil || id != want {
						t.Errorf("chunk %d: %s, %v", i, id, err)
					}
				}
			}
		})
	}
	group.Wait()
	if len(calls) != len(store) {
		t.Errorf("%d objects fetched of %d", len(calls), len(store))
	}
	for id, n := range calls {
		if n != 1 {
			t.Errorf("%s fetched %d times", id, n)
		}
	}
}

// TestForget: who goes through a tree in order fetches each object once, and has no more
// than two of each height.
func TestForget(t *testing.T) {
	m, store := bigTree(t)
	fetches := 0
	fetch := func(ctx context.Context, id chunkstore.ID) ([]byte, error) {
		fetches++
		return store.fetch(ctx, id)
	}
	tree := m.Tree(chunkstore.Plain{})
	for i := range m.Chunks() {
		tree.Forget(i)
		want := chunkstore.ZeroID
		if i%7 == 0 {
			want = testID(i)
		}
		if id, err := tree.Lookup(t.Context(), i, fetch); err != nil || id != want {
			t.Fatalf("chunk %d: %s, %v", i, id, err)
		}
	}
	if fetches != len(store) {
		t.Errorf("%d fetches of %d objects", fetches, len(store))
	}
	tree.Forget(m.Chunks())
	fetches = 0
	for i := 0; i < m.Chunks(); i += 512 {
		if _, err := tree.Lookup(t.Context(), i, fetch); err != nil {
			t.Fatal(err)
		}
	}
	if fetches != len(store)-2 { // but for the way to the end
		t.Errorf("%d fetches of %d objects that were forgotten", fetches, len(store))
	}
	zeros := manifestOf(t, NewTree(chunkstore.Plain{}, 1<<20), 0).Tree(chunkstore.Plain{})
	zeros.Forget(1 << 19)
	if id, err := zeros.Lookup(t.Context(), 0, store.fetch); err != nil || id != chunkstore.ZeroID {
		t.Errorf("zeros: %v, %v", id, err)
	}
}

func TestDamagedTreeObjects(t *testing.T) {
	m, store := bigTree(t)
	for victim, plain := range store {
		for name, fake := range map[string][]byte{"short": plain[:len(plain)-32], "odd": plain[1:],
			"empty": {}, "long": append(slices.Clone(plain), plain[:32]...)} {
			fetch := func(ctx context.Context, id chunkstore.ID) ([]byte, error) {
				if id == victim {
					return fake, nil
				}
				return store.fetch(ctx, id)
			}
			err := m.Tree(chunkstore.Plain{}).Load(t.Context(), fetch)
			if !errors.Is(err, chunkstore.ErrCorrupt) ||
				!strings.Contains(err.Error(), victim.String()) {
				t.Fatalf("%s object: %v", name, err)
			}
		}
		delete(store, victim)
		err := m.Tree(chunkstore.Plain{}).Load(t.Context(), store.fetch)
		if !errors.Is(err, chunkstore.ErrAbsent) ||
			!strings.Contains(err.Error(), victim.String()) {
			t.Fatalf("missing object: %v", err)
		}
		store[victim] = plain
	}
}

// A reader whose leaf is being fetched by another that gives up tries on its own;
// one that gives up itself does not wait for the other.
func TestLookupAndCancellation(t *testing.T) {
	m, store := bigTree(t)
	synctest.Test(t, func(t *testing.T) {
		tree := m.Tree(chunkstore.Plain{})
		first, cancelFirst := context.WithCancel(t.Context())
		gone, cancelGone := context.WithCancel(t.Context())
		lookup := func(ctx context.Context, fetch Fetch) chan error {
			result := make(chan error, 1)
			go func() {
				id, err := tree.Lookup(ctx, 7, fetch)
				if err == nil && id != testID(7) {
					err = errors.New("wrong ID")
				}
				result <- err
			}()
			synctest.Wait() // until it fetches, or waits for another that does
			return result
		}
		firstResult := lookup(first, func(ctx context.Context, id chunkstore.ID) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		goneResult := lookup(gone, store.fetch)
		waiting := lookup(t.Context(), store.fetch)
		select {
		case err := <-waiting:
			t.Fatalf("a second fetch while one was running: %v", err)
		default:
		}
		cancelGone()
		if err := <-goneResult; !errors.Is(err, context.Canceled) {
			t.Errorf("the reader that gave up waiting: %v", err)
		}
		cancelFirst()
		if err := <-firstResult; !errors.Is(err, context.Canceled) {
			t.Errorf("the reader that gave up fetching: %v", err)
		}
		if err := <-waiting; err != nil {
			t.Errorf("the reader that went on: %v", err)
		}
	})
}

// Readers that wait for a fetch share its error: a store that is down is asked once.
func TestLookupSharesFailures(t *testing.T) {
	m, _ := bigTree(t)
	synctest.Test(t, func(t *testing.T) {
		tree := m.Tree(chunkstore.Plain{})
		down := errors.New("down")
		release, calls := make(chan struct{}), 0
		results := make(chan error)
		for range 5 {
			go func() {
				_, err := tree.Lookup(t.Context(), 7,
					func(context.Context, chunkstore.ID) ([]byte, error) {
						calls++
						<-release
						return nil, down
					})
				results <- err
			}()
		}
		synctest.Wait()
		close(release)
		for range 5 {
			if err := <-results; !errors.Is(err, down) {
				t.Error(err)
			}
		}
		if calls != 1 {
			t.Errorf("%d fetches", calls)
		}
	})
}

func TestLoadStopsWithItsContext(t *testing.T) {
	m, store := bigTree(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := m.Tree(chunkstore.Plain{}).Load(ctx,
		func(ctx context.Context, id chunkstore.ID) ([]byte, error) {
			cancel()
			return store.fetch(ctx, id)
		})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestNothingIsLoadedBehindTheCallersBack(t *testing.T) {
	m, _ := bigTree(t)
	for name, use := range map[string]func(*Tree){
		"At": func(tr *Tree) { tr.At(0) },
		"Objects": func(tr *Tree) {
			tr.Objects()(func(chunkstore.ID, []byte) bool { return true })
		},
		"Pack": func(tr *Tree) { tr.Set(0, testID(9)); tr.Pack(0) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s on a tree that is not loaded does not panic", name)
				}
			}()
			use(m.Tree(chunkstore.Plain{}))
		}()
	}
}
