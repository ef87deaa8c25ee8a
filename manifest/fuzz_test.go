package manifest_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"verneuil/chunkstore"
	. "verneuil/manifest"
)

// addVectors makes the objects of the golden vectors seeds.
func addVectors(f *testing.F, add func(stored []byte)) {
	f.Helper()
	files, err := filepath.Glob("testdata/*.vector")
	if err != nil || len(files) == 0 {
		f.Fatalf("vectors: %v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		lines := strings.Fields(string(text))
		if stored, err := base64.StdEncoding.DecodeString(lines[len(lines)-1]); err == nil {
			add(stored)
		}
	}
}

// FuzzTree: whatever stands in a leaf or node that a manifest names, every chunk has an
// entry, or is in something corrupt; and what is not corrupt, a tree makes of its entries again.
func FuzzTree(f *testing.F) {
	for _, s := range []*store{newStore(true), newStore(false)} {
		for _, chunks := range []int{100, 1000, 40_000} {
			tree := NewTree(chunkstore.Plain{}, chunks)
			for i := 0; i < chunks; i += 3 {
				tree.Set(i, s.ref(i))
			}
			m := s.pack(f, tree, 0)
			for _, plain := range tree.Objects() {
				f.Add(m.FileBytes, uint8(m.Levels), s.placed, plain, uint32(99))
			}
		}
	}
	f.Add(int64(1000<<16), uint8(1), true, []byte{0, 0, 2, 0}, uint32(1))
	f.Fuzz(func(t *testing.T, fileBytes int64, levels uint8, isPlaced bool, plain []byte,
		index uint32) {
		m := sample()
		m.FileBytes, m.Levels = fileBytes, int(levels)
		m.Patches, m.Inline = nil, nil
		ref := chunkstore.Ref{ID: chunkstore.Plain{}.Identify(plain)}
		if isPlaced {
			ref.Place = testRef(1).Place
		}
		entries := 1
		if levels < 5 {
			for per := 1 << (9 * int(levels)); entries*per < m.Chunks() && entries < 65; {
				entries++
			}
		}
		m.Top = slices.Repeat([]chunkstore.Ref{ref}, entries)
		stored, err := m.Encode(chunkstore.Plain{})
		if err != nil {
			return // not a manifest
		}
		if m, err = Decode(chunkstore.Plain{}, stored); err != nil {
			t.Fatal(err)
		}
		if m.Chunks() == 0 {
			return
		}
		i := int(index) % m.Chunks()
		fetches := 0
		fetch := func(_ context.Context, want []chunkstore.Ref) ([][]byte, error) {
			if fetches++; !slices.Equal(want, []chunkstore.Ref{ref}) {
				return nil, chunkstore.ErrAbsent
			}
			return [][]byte{plain}, nil
		}
		tree := m.Tree(chunkstore.Plain{})
		got, err := tree.Lookup(context.Background(), i, fetch)
		if err != nil && !errors.Is(err, chunkstore.ErrCorrupt) &&
			!errors.Is(err, chunkstore.ErrAbsent) {
			t.Errorf("error of no kind: %v", err)
		}
		if err == nil && levels == 0 && got != ref {
			t.Errorf("chunk %d is %v", i, got)
		}
		if fetches > 6 {
			t.Errorf("%d fetches for one chunk", fetches)
		}
		if err == nil && levels == 1 && tree.Load(context.Background(), fetch) == nil {
			again(t, tree, isPlaced, plain)
		}
	})
}

// again fails unless the entries of a tree of leaves with those bytes make such leaves again.
func again(t *testing.T, tree *Tree, isPlaced bool, plain []byte) {
	fresh, s := NewTree(chunkstore.Plain{}, tree.Len()), newStore(isPlaced)
	for i := range tree.Len() {
		if ref := tree.At(i); ref.ID != chunkstore.ZeroID && (ref.Place.Bytes > 0) != isPlaced {
			t.Fatalf("chunk %d: %v", i, ref)
		}
		fresh.Set(i, tree.At(i))
	}
	s.pack(t, fresh, 0)
	for _, got := range fresh.Objects() {
		if !bytes.Equal(got, plain) {
			t.Fatalf("a leaf of %d bytes becomes one of %d", len(plain), len(got))
		}
	}
}
