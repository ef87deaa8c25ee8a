package manifest_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"testing"

	"verneuil/chunkstore"
	. "verneuil/manifest"
)

// testID returns an ID that depends on n alone.
func testID(n int) chunkstore.ID {
	return chunkstore.Plain{}.Identify(binary.LittleEndian.AppendUint32(nil, uint32(n)))
}

// testRef returns a Ref that depends on n alone: a place in a pack of 64.
func testRef(n int) chunkstore.Ref {
	pack := chunkstore.Sum(binary.LittleEndian.AppendUint32(nil, uint32(n/64)))
	return chunkstore.Ref{ID: testID(n), Place: chunkstore.Place{Pack: pack,
		Offset: uint32(2312 + n%64*100), Bytes: 100}}
}

// zeroRef names a chunk of zeros.
var zeroRef = chunkstore.Ref{ID: chunkstore.ZeroID}

// store is one in memory: with packs, or with the objects of trees without places.
type store struct {
	placed  bool
	mu      sync.Mutex
	packs   map[chunkstore.Digest][]byte
	objects map[chunkstore.ID][]byte
	fetched map[chunkstore.Ref]int
	calls   [][]chunkstore.Ref // of fetch
	puts    [][]chunkstore.Ref // what each call of put has stored
	near    map[int]bool       // in some tree, or another: see setNear
}

func newStore(placed bool) *store {
	return &store{placed: placed, packs: make(map[chunkstore.Digest][]byte),
		objects: make(map[chunkstore.ID][]byte), fetched: make(map[chunkstore.Ref]int)}
}

// ref returns a Ref that depends on n alone, as trees in s have them.
func (s *store) ref(n int) chunkstore.Ref {
	ref := testRef(n)
	if !s.placed {
		ref.Place = chunkstore.Place{}
	}
	return ref
}

func (s *store) fetch(_ context.Context, refs []chunkstore.Ref) (plain [][]byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, slices.Clone(refs))
	for _, ref := range refs {
		s.fetched[ref]++
		b, ok := s.objects[ref.ID], true
		if s.placed {
			b, ok = s.packs[ref.Place.Pack], ref.Place.Bytes > 0
			if b != nil {
				b = b[ref.Place.Offset:][:ref.Place.Bytes]
			}
		}
		if b == nil || !ok {
			return nil, fmt.Errorf("object %v: %w", ref.ID, chunkstore.ErrAbsent)
		}
		if s.placed {
			if b, err = chunkstore.OpenObject(chunkstore.Plain{}, nil, ref.ID, b); err != nil {
				return nil, err
			}
		}
		plain = append(plain, slices.Clone(b))
	}
	return plain, nil
}

// put is a [Put] that makes packs as a replicator does.
func (s *store) put(objects []chunkstore.Hashed) (places []chunkstore.Place, err error) {
	var put []chunkstore.Ref
	for part := range slices.Chunk(objects, chunkstore.PackMax) {
		var p chunkstore.Pack
		for _, h := range part {
			p.Seal(chunkstore.Plain{}, h)
		}
		stored, name, at := p.Encode(chunkstore.Plain{})
		s.packs[name] = stored
		for k, place := range at {
			put = append(put, chunkstore.Ref{ID: part[k].ID(), Place: place})
		}
		places = append(places, at...)
	}
	s.puts = append(s.puts, put)
	return places, nil
}

// putter returns what Pack is given for trees in s.
func (s *store) putter() Put {
	if s.placed {
		return s.put
	}
	return nil
}

// pack packs tree, which lies in s, and returns the manifest, through Encode and Decode.
func (s *store) pack(t testing.TB, tree *Tree, patchesMax int) *Manifest {
	t.Helper()
	m := &Manifest{FileBytes: int64(tree.Len()) * chunkstore.ChunkBytes, PageBytes: 4096}
	var err error
	m.Levels, m.Top, m.Patches, err = tree.Pack(t.Context(), patchesMax, s.fetch, s.putter())
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, p := range m.Patches {
		if !s.near[p.Index] {
			count++
		}
	}
	if count > patchesMax {
		t.Fatalf("%d patches, want at most %d", count, patchesMax)
	}
	stored, err := m.Encode(chunkstore.Plain{})
	if err != nil {
		t.Fatal(err)
	}
	m, err = Decode(chunkstore.Plain{}, stored)
	if err != nil {
		t.Fatal(err)
	}
	if !s.placed {
		s.add(t, tree)
	}
	return m
}

// add stores what tree, which is loaded and has no places, needs, as a cutter would.
func (s *store) add(t testing.TB, tree *Tree) {
	t.Helper()
	if err := tree.Load(t.Context(), s.fetch); err != nil {
		t.Fatal(err)
	}
	for ref, plain := range tree.Objects() {
		if (chunkstore.Plain{}).Identify(plain) != ref.ID ||
			ref.Place != (chunkstore.Place{}) {
			t.Fatalf("object with a wrong Ref: %v", ref)
		}
		s.objects[ref.ID] = slices.Clone(plain)
	}
}

// setNear sets tree's Near.
func (s *store) setNear(tree *Tree, near []int) {
	tree.Near = near
	if s.near == nil {
		s.near = make(map[int]bool)
	}
	for _, i := range near {
		s.near[i] = true
	}
}

// forgetCalls has s count anew.
func (s *store) forgetCalls() {
	s.calls, s.puts = nil, nil
	clear(s.fetched)
}

// objectsOf returns the leaves and nodes of a loaded tree, in order.
func objectsOf(tree *Tree) (refs []chunkstore.Ref) {
	for ref := range tree.Objects() {
		refs = append(refs, ref)
	}
	return refs
}
