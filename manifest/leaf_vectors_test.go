package manifest_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"verneuil/chunkstore"
	. "verneuil/manifest"
)

// leafVector is a leaf or a node, plain, as it stands in a tree: the one top entry of a database of
// so many chunks.
type leafVector struct {
	levels, chunks int
	placed         bool
	plain          []byte
}

// describe says what a tree finds in v, or that v is refused.
func (v leafVector) describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "levels: %d\nchunks: %d\nplaced: %v\n", v.levels, v.chunks, v.placed)
	top := chunkstore.Ref{ID: chunkstore.Plain{}.Identify(v.plain)}
	if v.placed {
		top.Place = testRef(1).Place
	}
	m := &Manifest{FileBytes: int64(v.chunks) * chunkstore.ChunkBytes, PageBytes: 512,
		Levels: v.levels, Top: []chunkstore.Ref{top}}
	tree := m.Tree(chunkstore.Plain{})
	var named []chunkstore.Ref // by a node
	err := tree.Load(context.Background(),
		func(_ context.Context, refs []chunkstore.Ref) ([][]byte, error) {
			if slices.Equal(refs, m.Top) {
				return [][]byte{v.plain}, nil
			}
			named = refs
			return nil, chunkstore.ErrAbsent
		})
	if errors.Is(err, chunkstore.ErrCorrupt) {
		fmt.Fprintf(&b, "refused: %v\n", err)
		return b.String()
	}
	for _, ref := range named {
		fmt.Fprintf(&b, "below: %s\n", describeRef(ref))
	}
	for i := 0; v.levels == 1 && i < v.chunks; i++ {
		if ref := tree.At(i); ref != zeroRef {
			fmt.Fprintf(&b, "chunk %d: %s\n", i, describeRef(ref))
		}
	}
	return b.String()
}

// leafVectors returns what the vectors of leaves and nodes were made of.
func leafVectors(t *testing.T) map[string]leafVector {
	vectors := make(map[string]leafVector)
	for _, s := range []*store{newStore(true), newStore(false)} {
		name := map[bool]string{true: "placed", false: "unplaced"}[s.placed]
		small := NewTree(chunkstore.Plain{}, 70)
		for _, i := range []int{69, 1, 0, 66, 68} {
			small.Set(i, s.ref(i*30))
		}
		big := NewTree(chunkstore.Plain{}, 40_000)
		for i := 600; i < 40_000; i += 10_000 {
			big.Set(i, s.ref(i))
		}
		for _, tree := range []*Tree{small, big} {
			m := s.pack(t, tree, 0)
			for ref, plain := range tree.Objects() {
				if ref == m.Top[0] {
					kind := []string{"leaf", "node"}[m.Levels-1]
					vectors[name+"-"+kind] = leafVector{m.Levels, tree.Len(), s.placed, plain}
				}
			}
		}
	}
	leaf, bare := vectors["placed-leaf"], vectors["unplaced-leaf"]
	packs := int(binary.BigEndian.Uint16(leaf.plain))
	places := 4 + 32*packs + 32*70
	for name, change := range map[string]func(b []byte) []byte{
		"empty":            func([]byte) []byte { return nil },
		"count-less":       func(b []byte) []byte { b[3]--; return b },
		"count-more":       func(b []byte) []byte { b[3]++; return b },
		"packs-more":       func(b []byte) []byte { b[1]++; return b },
		"packs-none":       func(b []byte) []byte { b[1] = 0; return b },
		"pack-repeated":    func(b []byte) []byte { copy(b[4+32:], b[4:4+32]); return b },
		"pack-beyond":      func(b []byte) []byte { b[places+1] = 9; return b },
		"packs-disordered": func(b []byte) []byte { b[places+1] = 1; return b },
		"pack-unused": func(b []byte) []byte { // the last one, only chunk 69 stands in
			copy(b[places+69*10:], b[places:places+10])
			return b
		},
		"place-of-no-bytes": func(b []byte) []byte { clear(b[places+2 : places+10]); return b },
		"zeros-with-place":  func(b []byte) []byte { b[places+5*10+9] = 1; return b },
		"short":             func(b []byte) []byte { return b[:len(b)-1] },
		"long":              func(b []byte) []byte { return append(b, 0) },
		"unplaced":          func([]byte) []byte { return bare.plain },
		"all-zeros": func([]byte) []byte {
			return append([]byte{0, 0, 0, 70}, bytes.Repeat(chunkstore.ZeroID[:], 70)...)
		},
	} {
		vectors["malformed-"+name] = leafVector{1, 70, true, change(bytes.Clone(leaf.plain))}
	}
	vectors["malformed-all-zeros-unplaced"] = leafVector{1, 70, false,
		vectors["malformed-all-zeros"].plain}
	vectors["malformed-placed"] = leafVector{1, 70, false, leaf.plain}
	return vectors
}

// TestLeafVectors is TestVectors of leaves and nodes.
func TestLeafVectors(t *testing.T) {
	if *writeVectors {
		for name, v := range leafVectors(t) {
			file := filepath.Join("testdata", "v3-"+name+".leaf")
			if _, err := os.Stat(file); err == nil {
				continue
			}
			text := v.describe() + "\n" + base64.StdEncoding.EncodeToString(v.plain) + "\n"
			if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	files, err := filepath.Glob("testdata/*.leaf")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d vectors, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want, encoded, _ := strings.Cut(string(text), "\n\n")
		var v leafVector
		_, err = fmt.Sscanf(want, "levels: %d\nchunks: %d\nplaced: %t\n", &v.levels, &v.chunks,
			&v.placed)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		v.plain, err = base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		got := v.describe()
		want, _, refused := strings.Cut(want+"\n", "refused:")
		if refused { // the reason's words may change
			got, _, refused = strings.Cut(got, "refused:")
		}
		if got != want || refused != strings.Contains(file, "malformed") {
			t.Errorf("%s:\n got %s\nwant %s", file, got, want)
		}
	}
}
