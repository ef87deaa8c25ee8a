package compose_test

import (
	"bytes"
	"context"
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/cache"
	"verneuil/chunkstore/dir"
	"verneuil/manifest"
	"verneuil/replicate/remote/compose"
)

// TestWarmStart: what was put is in the cache. Who opens the database again asks the store for no
// chunk, leaf or node, even where it has lost them.
func TestWarmStart(t *testing.T) {
	path := t.TempDir()
	store, err := chunkstore.Open(t.Context(), []chunkstore.TargetConfig{
		&dir.Config{Path: path},
		&cache.Local{Directory: t.TempDir(), NumShards: 4, Capacity: 10000},
	}, chunkstore.Options{CallsPerSecond: -1})
	must(t, err)
	target := store.Targets[0]
	c := compose.New(compose.Options{Target: target, Store: store})
	const blocks = 70 * 16
	base, was := made(t, c, blocks)
	ch := &change{bytes: int64(len(was)), blocks: make(map[int64][]byte)}
	for k := int64(0); k < blocks; k += 40 {
		block := bytes.Repeat([]byte{byte(k)}, compose.BlockBytes)
		if k == 0 {
			header(block, 4096, blocks, 2, true)
		}
		ch.blocks[k*compose.BlockBytes] = block
	}
	d, err := c.Compose(t.Context(), base, ch.asChange(), &file{bytes: was})
	must(t, err)
	is := ch.apply(was)
	f, err := c.Fold(t.Context(), d.Version, &file{bytes: is})
	must(t, err)
	m, _, err := c.Checkpoint(t.Context(), f.Onto(d.Version).Version)
	must(t, err)
	if m.Levels == 0 || len(m.Inline) > 1 {
		t.Fatalf("%d levels, %d pages inline", m.Levels, len(m.Inline))
	}
	must(t, target.Chunks.List(t.Context(), "", func(o chunkstore.Object) bool {
		must(t, target.Chunks.Delete(context.Background(), o.Key))
		return true
	}))
	get := func(ctx context.Context, refs []chunkstore.Ref) ([][]byte, error) {
		return store.GetObjects(ctx, target, refs)
	}
	if got := contentBy(t, get, m); !bytes.Equal(got, is) {
		t.Fatal("other bytes")
	}
}

// contentBy is content, got by get.
func contentBy(t testing.TB, get manifest.Fetch, m *manifest.Manifest) []byte {
	t.Helper()
	tree := m.Tree(chunkstore.Plain{})
	var all []byte
	for i := range m.Chunks() {
		ref, err := tree.Lookup(context.Background(), i, get)
		must(t, err)
		objects := [][]byte{nil}
		if ref.ID != chunkstore.ZeroID {
			objects, err = get(context.Background(), []chunkstore.Ref{ref})
			must(t, err)
		}
		all = append(all, m.Overlay(i, objects[0])...)
	}
	return all
}
