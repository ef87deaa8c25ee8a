package manifest_test

import (
	"fmt"
	"testing"

	"verneuil/chunkstore"
	. "verneuil/manifest"
)

// benchTree returns a packed tree of a database of so many GiB, with an ID of
// its own for every chunk, or for one in 10,000.
func benchTree(gib int, sparse bool) *Tree {
	tree := NewTree(chunkstore.Plain{}, gib<<30/chunkstore.ChunkBytes)
	step := 1
	if sparse {
		step = 10000
	}
	for i := 0; i < tree.Len(); i += step {
		tree.Set(i, testID(i))
	}
	tree.Pack(72)
	return tree
}

var benchSizes = []struct {
	gib    int
	sparse bool
}{{1, false}, {8, false}, {100, true}}

// BenchmarkBuild is the first cut of a database: every chunk set, one Pack.
func BenchmarkBuild(b *testing.B) {
	for _, s := range benchSizes {
		b.Run(fmt.Sprintf("%dGiB", s.gib), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				benchTree(s.gib, s.sparse)
			}
		})
	}
}

// BenchmarkCut is a later cut with 16 changed chunks, scattered over the file:
// clone, Set, Pack, Encode. It reports the bytes that go to a target besides chunks.
func BenchmarkCut(b *testing.B) {
	for _, s := range benchSizes {
		b.Run(fmt.Sprintf("%dGiB", s.gib), func(b *testing.B) {
			tree := benchTree(s.gib, s.sparse)
			b.ReportAllocs()
			known := map[chunkstore.ID]bool{}
			for id := range tree.Objects() {
				known[id] = true
			}
			n, stored, leaves := 1<<24, 0, 0
			for b.Loop() {
				tree = tree.Clone()
				for range 16 {
					n++
					tree.Set(n*7919*104729%tree.Len(), testID(n))
				}
				m := &Manifest{FileBytes: int64(tree.Len()) * chunkstore.ChunkBytes,
					PageBytes: 4096}
				m.Levels, m.Top, m.Patches = tree.Pack(72)
				object, err := m.Encode(chunkstore.Plain{})
				if err != nil {
					b.Fatal(err)
				}
				stored += len(object)
				for id, plain := range tree.Objects() {
					if !known[id] {
						known[id] = true
						leaves += len(plain)
					}
				}
			}
			b.ReportMetric(float64(stored)/float64(b.N), "manifest-B/op")
			b.ReportMetric(float64(leaves)/float64(16*b.N), "tree-B/chunk")
		})
	}
}

// BenchmarkDecode is what a reader does with the manifest after a cut.
func BenchmarkDecode(b *testing.B) {
	tree := benchTree(8, false)
	for i := range 200 {
		tree.Set(i*600, testID(-i))
	}
	m := &Manifest{FileBytes: int64(tree.Len()) * chunkstore.ChunkBytes, PageBytes: 4096,
		Inline: []Page{{0, make([]byte, 4096)}}}
	m.Levels, m.Top, m.Patches = tree.Pack(72)
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
