package manifest_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
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
// ID, or is in something corrupt.
func FuzzTree(f *testing.F) {
	leaf := bytes.Repeat([]byte{7}, 32*100)
	f.Add(int64(100<<16), uint8(1), leaf, uint32(99))
	f.Add(int64(1000<<16), uint8(1), leaf[:64], uint32(1))
	f.Add(int64(2000<<16), uint8(2), leaf[:64], uint32(1500))
	f.Add(int64(1)<<40, uint8(2), make([]byte, 32*512), uint32(1<<20))
	f.Fuzz(func(t *testing.T, fileBytes int64, levels uint8, plain []byte, index uint32) {
		m := sample()
		m.FileBytes, m.Levels = fileBytes, int(levels)
		m.Patches, m.Inline = nil, nil
		id := chunkstore.Plain{}.Identify(plain)
		entries := 1
		if levels < 5 {
			for per := 1 << (9 * int(levels)); entries*per < m.Chunks() && entries < 65; {
				entries++
			}
		}
		m.Top = nil
		for range entries {
			m.Top = append(m.Top, id)
		}
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
		got, err := m.Tree(chunkstore.Plain{}).Lookup(context.Background(), i,
			func(_ context.Context, want chunkstore.ID) ([]byte, error) {
				if fetches++; want != id {
					return nil, chunkstore.ErrAbsent
				}
				return plain, nil
			})
		if err != nil && !errors.Is(err, chunkstore.ErrCorrupt) &&
			!errors.Is(err, chunkstore.ErrAbsent) {
			t.Errorf("error of no kind: %v", err)
		}
		if err == nil && levels == 0 && got != id {
			t.Errorf("chunk %d is %v", i, got)
		}
		if fetches > 6 {
			t.Errorf("%d fetches for one chunk", fetches)
		}
	})
}
