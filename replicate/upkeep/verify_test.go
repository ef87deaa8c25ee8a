package upkeep_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/manifest"
	. "verneuil/replicate/upkeep"
)

// treeOfLevels returns a version with nodes, leaves, chunks and a patch, and its objects.
func treeOfLevels(t *testing.T) (*manifest.Manifest, map[chunkstore.ID][]byte) {
	t.Helper()
	const chunks = 70 << 9 // above 64 leaves of 512 there are nodes
	objects := map[chunkstore.ID][]byte{}
	put := func(plain []byte) chunkstore.ID {
		id := chunkstore.Plain{}.Identify(plain)
		objects[id] = bytes.Clone(plain)
		return id
	}
	m := &manifest.Manifest{
		Host:      "h",
		Path:      "/p",
		FileBytes: chunks * chunkstore.ChunkBytes,
		PageBytes: 4096,
	}
	tree := manifest.NewTree(chunkstore.Plain{}, chunks)
	for i := 5; i < chunks; i += 9000 {
		tree.Set(i, put([]byte{byte(i), byte(i >> 8), 1}))
	}
	tree.Pack(0)
	patch := put([]byte("a patch"))
	tree.Set(5, patch) // under a leaf that may be gone, too
	m.Levels, m.Top, m.Patches = tree.Pack(1)
	for _, plain := range tree.Objects() {
		put(plain)
	}
	if m.Levels != 2 || len(m.Patches) != 1 {
		t.Fatalf("%d levels and %d patches, want 2 and 1", m.Levels, len(m.Patches))
	}
	return m, objects
}

// neededBy returns the IDs of the objects of m that are not only there for chunks of zeros.
func neededBy(
	t *testing.T, m *manifest.Manifest, objects map[chunkstore.ID][]byte,
) map[chunkstore.ID]bool {
	t.Helper()
	needed := map[chunkstore.ID]bool{} // not what stands for nothing but zeros
	fetch := func(_ context.Context, id chunkstore.ID) ([]byte, error) {
		needed[id] = true
		plain, ok := objects[id]
		if !ok {
			return nil, chunkstore.ErrAbsent
		}
		return plain, nil
	}
	whole := m.Tree(chunkstore.Plain{})
	for i := range m.Chunks() {
		id, err := whole.Lookup(t.Context(), i, fetch)
		if err != nil {
			t.Fatal(err)
		}
		needed[id] = id != chunkstore.ZeroID
	}
	delete(needed, chunkstore.ZeroID)
	return needed
}

// TestVerifyNamesEachObject: whatever object of a version is taken away or
// damaged, be it a node, a leaf, a chunk or a patch's, it is named, and nothing else is.
func TestVerifyNamesEachObject(t *testing.T) {
	m, objects := treeOfLevels(t)
	store, err := chunkstore.Open(t.Context(),
		[]chunkstore.TargetConfig{&dir.Config{Path: t.TempDir()}}, chunkstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	target := store.Targets[0]
	verify := func(read bool) []error {
		t.Helper()
		faults, err := NewVerifier(target, VerifyOptions{Read: read}).Verify(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		return faults
	}
	needed := neededBy(t, m, objects)
	for id := range needed {
		if _, err := target.PutChunk(t.Context(), id, objects[id]); err != nil {
			t.Fatal(err)
		}
	}
	if faults := verify(true); len(faults) > 0 {
		t.Fatalf("a whole version: %v", faults)
	}
	for id := range needed {
		if err := target.Chunks.Delete(t.Context(), id.String()); err != nil {
			t.Fatal(err)
		}
		faults := verify(false)
		if len(faults) == 0 || !errors.Is(faults[0], chunkstore.ErrAbsent) {
			t.Errorf("%v is gone: %v", id, faults)
		}
		for _, fault := range faults { // a node is named by each of its leaves' chunks
			if !strings.Contains(fault.Error(), id.String()) {
				t.Errorf("%v is gone: %v", id, fault)
			}
		}
		nonsense := []byte("nonsense")
		_, err := target.Chunks.Put(t.Context(), id.String(), nonsense, chunkstore.Condition{})
		if err != nil {
			t.Fatal(err)
		}
		if faults := verify(true); len(faults) == 0 ||
			!errors.Is(faults[0], chunkstore.ErrCorrupt) {
			t.Errorf("%v is damaged: %v", id, faults)
		}
		if _, err := target.PutChunk(t.Context(), id, objects[id]); err != nil {
			t.Fatal(err)
		}
	}
	if faults := verify(true); len(faults) > 0 {
		t.Fatalf("the repaired version: %v", faults)
	}
}
