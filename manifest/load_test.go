package manifest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"verneuil/chunkstore"
	. "verneuil/manifest"
)

func TestDamagedTreeObjects(t *testing.T) {
	m, s := bigTree(t)
	whole := m.Tree(chunkstore.Plain{})
	if err := whole.Load(t.Context(), s.fetch); err != nil {
		t.Fatal(err)
	}
	n := 0
	for victim, plain := range whole.Objects() {
		if n++; n%16 != 1 && n < bigTreeObjects-1 {
			continue
		}
		for name, fake := range map[string][]byte{"short": plain[:len(plain)-32], "odd": plain[1:],
			"empty": {}, "long": append(slices.Clone(plain), plain[:32]...)} {
			fetch := func(ctx context.Context, refs []chunkstore.Ref) ([][]byte, error) {
				got, err := s.fetch(ctx, refs)
				if k := slices.Index(refs, victim); k >= 0 {
					got[k] = fake
				}
				return got, err
			}
			err := m.Tree(chunkstore.Plain{}).Load(t.Context(), fetch)
			if !errors.Is(err, chunkstore.ErrCorrupt) ||
				!strings.Contains(err.Error(), victim.ID.String()) {
				t.Fatalf("%s object: %v", name, err)
			}
		}
		fetch := func(ctx context.Context, refs []chunkstore.Ref) ([][]byte, error) {
			if slices.Contains(refs, victim) {
				refs = []chunkstore.Ref{{ID: victim.ID}}
			}
			return s.fetch(ctx, refs)
		}
		err := m.Tree(chunkstore.Plain{}).Load(t.Context(), fetch)
		if !errors.Is(err, chunkstore.ErrAbsent) ||
			!strings.Contains(err.Error(), victim.ID.String()) {
			t.Fatalf("missing object: %v", err)
		}
	}
}

// A reader whose leaf is being fetched by another that gives up tries on its own;
// one that gives up itself does not wait for the other.
func TestLookupAndCancellation(t *testing.T) {
	m, s := bigTree(t)
	synctest.Test(t, func(t *testing.T) {
		tree := m.Tree(chunkstore.Plain{})
		first, cancelFirst := context.WithCancel(t.Context())
		gone, cancelGone := context.WithCancel(t.Context())
		lookup := func(ctx context.Context, fetch Fetch) chan error {
			result := make(chan error, 1)
			go func() {
				ref, err := tree.Lookup(ctx, 7, fetch)
				if err == nil && ref != testRef(7) {
					err = errors.New("wrong Ref")
				}
				result <- err
			}()
			synctest.Wait() // until it fetches, or waits for another that does
			return result
		}
		firstResult := lookup(first,
			func(ctx context.Context, _ []chunkstore.Ref) ([][]byte, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			})
		goneResult := lookup(gone, s.fetch)
		waiting := lookup(t.Context(), s.fetch)
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
					func(context.Context, []chunkstore.Ref) ([][]byte, error) {
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

// A reader whose leaf is fetched with others does not fail for the sake of one of those.
func TestLookupDoesNotShareTheFailureOfOthers(t *testing.T) {
	m, s := bigTree(t)
	tree := m.Tree(chunkstore.Plain{})
	// the node, and the last leaf
	if _, err := tree.Lookup(t.Context(), 69993, s.fetch); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		release, lost := make(chan struct{}), errors.New("another leaf is lost")
		loaded, found := make(chan error), make(chan error)
		go func() {
			loaded <- tree.Load(t.Context(),
				func(_ context.Context, refs []chunkstore.Ref) ([][]byte, error) {
					<-release
					return nil, lost
				})
		}()
		synctest.Wait()
		go func() {
			ref, err := tree.Lookup(t.Context(), 7, s.fetch)
			if err == nil && ref != testRef(7) {
				err = errors.New("wrong Ref")
			}
			found <- err
		}()
		synctest.Wait()
		select {
		case err := <-found:
			t.Fatalf("a second fetch while one was running: %v", err)
		default:
		}
		close(release)
		if err := <-loaded; !errors.Is(err, lost) {
			t.Errorf("who loads: %v", err)
		}
		if err := <-found; err != nil {
			t.Errorf("who looks up a leaf that is there: %v", err)
		}
	})
}

// A fetch that panics ends; who waits for it tries on his own.
func TestLookupOutlivesAPanic(t *testing.T) {
	m, s := bigTree(t)
	synctest.Test(t, func(t *testing.T) {
		tree := m.Tree(chunkstore.Plain{})
		release, panicked, found := make(chan struct{}), make(chan any), make(chan error)
		go func() {
			defer func() { panicked <- recover() }()
			tree.Lookup(t.Context(), 7, func(context.Context, []chunkstore.Ref) ([][]byte, error) {
				<-release
				panic("fetch")
			})
		}()
		synctest.Wait()
		go func() {
			_, err := tree.Lookup(t.Context(), 7, s.fetch)
			found <- err
		}()
		synctest.Wait()
		close(release)
		if p := <-panicked; p != "fetch" {
			t.Errorf("panic: %v", p)
		}
		if err := <-found; err != nil {
			t.Error(err)
		}
	})
}

func TestLoadStopsWithItsContext(t *testing.T) {
	m, s := bigTree(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := m.Tree(chunkstore.Plain{}).Load(ctx,
		func(ctx context.Context, refs []chunkstore.Ref) ([][]byte, error) {
			cancel()
			return s.fetch(ctx, refs)
		})
	if !errors.Is(err, context.Canceled) || len(s.calls) != 1 {
		t.Fatalf("%v, %d fetches", err, len(s.calls))
	}
}

func TestNothingIsLoadedBehindTheCallersBack(t *testing.T) {
	m, s := bigTree(t)
	for name, use := range map[string]func(*Tree){
		"At":       func(tr *Tree) { tr.At(0) },
		"Objects":  func(tr *Tree) { objectsOf(tr) },
		"Lost":     func(tr *Tree) { tr.Lost(map[chunkstore.Digest]bool{{1}: true}) },
		"Unplaced": func(tr *Tree) { tr.Unplaced() },
		"Pack": func(tr *Tree) {
			tr.Set(0, testRef(9))
			tr.Pack(t.Context(), 0, nil, s.put)
		},
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

// TestPackFails: whatever ends a Pack, the tree is as it was, and the next one does all of it.
func TestPackFails(t *testing.T) {
	broken := errors.New("broken")
	for name, fail := range map[string]func(s *store, nth int) (Fetch, Put){
		"put": func(s *store, nth int) (Fetch, Put) {
			return s.fetch, func(objects []chunkstore.Hashed) ([]chunkstore.Place, error) {
				if nth--; nth < 0 {
					return nil, broken
				}
				return s.put(objects)
			}
		},
		"fetch": func(s *store, nth int) (Fetch, Put) {
			return func(ctx context.Context, refs []chunkstore.Ref) ([][]byte, error) {
				if nth--; nth < 0 {
					return nil, broken
				}
				return s.fetch(ctx, refs)
			}, s.put
		},
	} {
		m, s := bigTree(t)
		want := resize(nil, 70000)
		for i := range want {
			want[i] = bigTreeHas(i)
		}
		tree := m.Tree(chunkstore.Plain{})
		for _, i := range []int{0, 1, 5000, 69999} {
			tree.Set(i, testRef(1<<20+i))
			want[i] = testRef(1<<20 + i)
		}
		for nth := 0; ; nth++ {
			fetch, put := fail(s, nth)
			_, _, _, err := tree.Pack(t.Context(), 0, fetch, put)
			if err == nil {
				if nth != 2 {
					t.Errorf("%s: %d faults", name, nth)
				}
				break
			}
			if !errors.Is(err, broken) {
				t.Fatalf("%s %d: %v", name, nth, err)
			}
			ref, err := tree.Lookup(t.Context(), 5000, s.fetch)
			if err != nil || ref != want[5000] {
				t.Fatalf("%s %d: chunk 5000: %v, %v", name, nth, ref, err)
			}
		}
		tree = s.pack(t, tree, 0).Tree(chunkstore.Plain{})
		if err := tree.Load(t.Context(), s.fetch); err != nil {
			t.Fatal(err)
		}
		compare(t, tree, want)
	}
}

// TestPackRefusesAMixedTree: what has a place, and what has none, never come together.
func TestPackRefusesAMixedTree(t *testing.T) {
	for _, s := range []*store{newStore(true), newStore(false)} {
		for _, chunks := range []int{60, 100, 70000} {
			for _, patchesMax := range []int{0, 72} {
				tree := NewTree(chunkstore.Plain{}, chunks)
				for i := range 60 {
					tree.Set(i, s.ref(i))
				}
				s.pack(t, tree, patchesMax)
				other := newStore(!s.placed)
				tree.Set(7, other.ref(7))
				for _, put := range []Put{s.putter(), other.putter()} {
					_, _, _, err := tree.Pack(t.Context(), patchesMax, s.fetch, put)
					if err == nil {
						t.Errorf("placed %v, %d chunks, %d patches: packed", s.placed, chunks,
							patchesMax)
					}
				}
				tree.Set(7, s.ref(7))
				s.pack(t, tree, patchesMax)
			}
		}
	}
}

// TestPackAsksForAsManyPlaces: a put that returns others is not believed.
func TestPackAsksForAsManyPlaces(t *testing.T) {
	tree := NewTree(chunkstore.Plain{}, 100)
	tree.Set(0, testRef(0))
	_, _, _, err := tree.Pack(t.Context(), 0, nil,
		func([]chunkstore.Hashed) ([]chunkstore.Place, error) { return nil, nil })
	if err == nil {
		t.Error("packed")
	}
}

// TestEqualTreesShareTheirPacks: leaves and nodes are put in one order.
func TestEqualTreesShareTheirPacks(t *testing.T) {
	one, other := newStore(true), newStore(true)
	for _, s := range []*store{one, other} {
		tree := NewTree(chunkstore.Plain{}, 100_000)
		for k := range 100_000 {
			i := k * 7919 % 100_000
			if s == other {
				i = k
			}
			tree.Set(i, testRef(i))
		}
		s.pack(t, tree, 0)
	}
	if len(one.packs) != 5 { // 196 leaves, and a node
		t.Errorf("%d packs", len(one.packs))
	}
	for name := range one.packs {
		if other.packs[name] == nil {
			t.Errorf("pack %v has another name", name)
		}
	}
}

// TestLostIsPutAnew: leaves and nodes that stand in a lost pack are put anew, by a clone, too,
// which is what a writer packs; and a leaf that is written anyway takes its patches in.
func TestLostIsPutAnew(t *testing.T) {
	m, s := bigTree(t)
	tree := m.Tree(chunkstore.Plain{})
	if err := tree.Load(t.Context(), s.fetch); err != nil {
		t.Fatal(err)
	}
	leaf := objectsOf(tree)[3] // of chunk 1,540 among others, which stands in no such pack
	lost := map[chunkstore.Digest]bool{leaf.Place.Pack: true}
	if chunks := tree.Lost(lost); chunks != nil {
		t.Errorf("chunks %v are lost with leaves", chunks)
	}
	tree.Set(1540, testRef(1<<20))
	clone := tree.Clone()
	for _, tree := range []*Tree{clone, tree} {
		s.forgetCalls()
		m := s.pack(t, tree, 72)
		if len(m.Patches) != 0 || len(s.puts) != 2 || len(s.puts[0]) != 64 ||
			len(s.puts[1]) != 1 {
			t.Errorf("%d patches, %d leaves and nodes put", len(m.Patches), len(s.puts))
		}
		for _, ref := range objectsOf(tree) {
			if lost[ref.Place.Pack] {
				t.Errorf("%v still stands in the lost pack", ref.ID)
			}
		}
		s.forgetCalls()
		if s.pack(t, tree, 72); len(s.puts) != 0 {
			t.Error("put anew once more")
		}
	}
}
