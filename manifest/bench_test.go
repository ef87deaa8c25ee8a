package manifest_test

import (
	"fmt"
	"testing"

	"verneuil/chunkstore"
	. "verneuil/manifest"
)

// benchTree returns a packed tree of a database of so many GiB, with an ID of
// its own for every chunk, or for one in 10,000.
func benchTree(b *testing.B, s *store, gib int, sparse bool) *Tree {
	tree := NewTree(chunkstore.Plain{}, gib<<30/chunkstore.ChunkBytes)
	step := 1
	if sparse {
		step = 10000
	}
	for i := 0; i < tree.Len(); i += step {
		tree.Set(i, s.ref(i))
	}
	benchPack(b, s, tree)
	return tree
}

// benchPack packs tree, which is loaded.
func benchPack(b *testing.B, s *store, tree *Tree) *Manifest {
	m := &Manifest{FileBytes: int64(tree.Len()) * chunkstore.ChunkBytes, PageBytes: 4096}
	var err error
	m.Levels, m.Top, m.Patches, err = tree.Pack(b.Context(), 48, nil, s.putter())
	if err != nil {
		b.Fatal(err)
	}
	return m
}

var benchSizes = []struct {
	gib    int
	sparse bool
}{{1, false}, {8, false}, {100, true}}

// forEachSize runs a benchmark of trees as a cutter has them, and as a target has them.
func forEachSize(b *testing.B, run func(b *testing.B, s *store, gib int, sparse bool)) {
	for _, placed := range []bool{false, true} {
		for _, size := range benchSizes {
			b.Run(fmt.Sprintf("placed=%v/%dGiB", placed, size.gib), func(b *testing.B) {
				run(b, newStore(placed), size.gib, size.sparse)
			})
		}
	}
}

// BenchmarkBuild is the first cut of a database: every chunk set, one Pack.
func BenchmarkBuild(b *testing.B) {
	forEachSize(b, func(b *testing.B, s *store, gib int, sparse bool) {
		b.ReportAllocs()
		for b.Loop() {
			benchTree(b, s, gib, sparse)
		}
	})
}

// BenchmarkCut is a later cut with 16 changed chunks, scattered over the file, which stand in one
// pack: clone, Set, Pack, Encode. It reports the bytes that go to a target besides chunks.
func BenchmarkCut(b *testing.B) {
	forEachSize(b, func(b *testing.B, s *store, gib int, sparse bool) {
		tree := benchTree(b, s, gib, sparse)
		b.ReportAllocs()
		known := map[chunkstore.Ref]bool{}
		for ref := range tree.Objects() {
			known[ref] = true
		}
		n, stored, leaves := 1<<24, 0, 0
		for b.Loop() {
			tree = tree.Clone()
			for range 16 {
				n++
				tree.Set(n*7919*104729%tree.Len(), s.ref(n))
			}
			m := benchPack(b, s, tree)
			object, err := m.Encode(chunkstore.Plain{})
			if err != nil {
				b.Fatal(err)
			}
			stored += len(object)
			for ref, plain := range tree.Objects() {
				if !known[ref] {
					known[ref] = true
					leaves += len(plain)
				}
			}
			clear(s.packs)
			s.forgetCalls()
		}
		b.ReportMetric(float64(stored)/float64(b.N), "manifest-B/op")
		b.ReportMetric(float64(leaves)/float64(16*b.N), "tree-B/chunk")
	})
}

// BenchmarkDecode is what a reader does with the manifest after a cut.
func BenchmarkDecode(b *testing.B) {
	s := newStore(true)
	tree := benchTree(b, s, 8, false)
	for i := range 70 {
		tree.Set(i*600, s.ref(-i))
	}
	m := benchPack(b, s, tree)
	m.Inline = []Page{{0, make([]byte, 4096)}}
	object, err := m.Encode(chunkstore.Plain{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(chunkstore.Plain{}, object); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLoad is what a reader does with all leaves of a database, besides fetching them.
func BenchmarkLoad(b *testing.B) {
	s := newStore(true)
	m := benchPack(b, s, benchTree(b, s, 8, false))
	b.ReportAllocs()
	for b.Loop() {
		s.forgetCalls()
		if err := m.Tree(chunkstore.Plain{}).Load(b.Context(), s.fetch); err != nil {
			b.Fatal(err)
		}
	}
}
