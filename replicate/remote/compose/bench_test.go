package compose_test

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/remote/compose"
)

// huge is a version of a 1 GiB database: with a tree, some patches, and pages inline.
func huge(b testing.TB) *manifest.Manifest {
	const chunks = 16384
	m := &manifest.Manifest{
		Host: "", Path: "/app.db", FileBytes: chunks * chunkstore.ChunkBytes, PageBytes: 4096,
	}
	m.Levels = 1
	ref := func(i int) (r chunkstore.Ref) {
		binary.BigEndian.PutUint32(r.ID[:], uint32(i+1))
		binary.BigEndian.PutUint32(r.Place.Pack[:], uint32(i/64))
		r.Place.Offset, r.Place.Bytes = uint32(100+i%64), 1
		return r
	}
	for i := range 32 {
		m.Top = append(m.Top, ref(1e6+i))
	}
	m.Top = m.Top[:32]
	m.Levels = 1
	m.Earlier = &manifest.Extent{Chunks: chunks, Valid: chunks}
	for i := range 200 {
		m.Patches = append(m.Patches, manifest.Patch{Index: 17 * i, Ref: ref(i)})
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 64 {
		page := manifest.Page{Offset: int64(i) * 80 * compose.BlockBytes, Data: make([]byte, 4096)}
		noise(rng, page.Data)
		m.Inline = append(m.Inline, page)
	}
	return m
}

// row is what a transaction of one row writes: page 1, a leaf of the table, and one of an index.
func row(counter uint32) compose.Change {
	rng := rand.New(rand.NewPCG(uint64(counter), 1))
	blocks := make([][]byte, 3)
	for k := range blocks {
		blocks[k] = make([]byte, compose.BlockBytes)
		for i := 3000; i < len(blocks[k]); i++ {
			blocks[k][i] = byte(rng.Uint32())
		}
	}
	header(blocks[0], 4096, 16384*16, counter, true)
	return compose.Change{
		Bytes:   16384 * chunkstore.ChunkBytes,
		Offsets: []int64{0, 999 * compose.BlockBytes, 77777 * compose.BlockBytes},
		Read:    func(k int, p []byte) error { copy(p, blocks[k]); return nil },
	}
}

// empty is a base that has zeros, all of them cached.
type empty struct{}

func (empty) ReadBase(_ context.Context, p []byte, _ int64) error { clear(p); return nil }
func (empty) Cached(int64, int) bool                              { return true }

func BenchmarkCompose(b *testing.B) {
	base, ch := huge(b), row(7)
	c := compose.New(compose.Options{Target: newTarget(newBucket())})
	b.ReportAllocs()
	for b.Loop() {
		d, err := c.Compose(context.Background(), base, ch, empty{})
		if err != nil || d == nil {
			b.Fatal(d, err)
		}
	}
}

func BenchmarkStep(b *testing.B) {
	base, ch := huge(b), row(7)
	c := compose.New(compose.Options{Target: newTarget(newBucket())})
	d, err := c.Compose(context.Background(), base, ch, empty{})
	must(b, err)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		body, err := d.Step(base).Encode()
		must(b, err)
		n = len(body)
	}
	b.ReportMetric(float64(n), "bytes")
}
