package courier

import (
	"encoding/binary"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/versions"
)

// TestTooLongAStep: where so much has changed that the step is too long for a record, the record
// has the whole version, whose leaves and nodes are put before. No version is dropped.
func TestTooLongAStep(t *testing.T) {
	const chunks = 40_000
	config := &dir.Config{Path: t.TempDir()}
	target, err := config.Open(chunkstore.NewLimiter(0, 0), chunkstore.Options{}.WithDefaults())
	if err != nil {
		t.Fatal(err)
	}
	target.Sealer = chunkstore.Plain{}
	base := &manifest.Manifest{
		Host: "h", Path: "/p", PageBytes: 4096, FileBytes: chunks * chunkstore.ChunkBytes,
	}
	tree := manifest.NewTree(target.Sealer, chunks) // of zeros
	base.Levels, base.Top, base.Patches, err = tree.Pack(t.Context(), 72, nil,
		func([]chunkstore.Hashed) ([]chunkstore.Place, error) { return nil, nil })
	if err != nil {
		t.Fatal(err)
	}
	moved := make(map[int]chunkstore.Ref)
	for i := range chunks {
		id := chunkstore.Plain{}.Identify(binary.BigEndian.AppendUint32(nil, uint32(i)))
		moved[i] = chunkstore.Ref{ID: id, Place: chunkstore.Place{
			Pack: chunkstore.Digest(id), Offset: 80, Bytes: uint32(i + 1),
		}}
	}
	r, err := history.Create(t.Context(), versions.NewStore(target, "k"), versions.Options(),
		[16]byte{1}, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	version := *base
	version.Sequence++
	p := &push{
		t: target, version: version,
		delivery: delivery{base: base, story: story{writer: history.NewWriter(r)}},
		change:   change{tree: tree.Clone(), least: chunks, chunks: chunks, moved: moved},
		uploads: &uploads{
			t: target, ctx: t.Context(), now: time.Now, how: Uploads{
				Concurrency: 2, RunObjects: 1 << 20, PackObjects: chunkstore.PackMax,
			},
			durable: make(map[chunkstore.ID]chunkstore.Place),
		},
	}
	packs := p.uploads.packing(t.Context())
	if err := p.describe(packs); err != nil {
		t.Fatal(err)
	}
	if err := packs.Wait(); err != nil {
		t.Fatal(err)
	}
	step, err := manifest.DecodeStep(p.body)
	if err != nil || !step.Whole || !p.packed {
		t.Fatalf("not a whole version: %v", err)
	}
	next, err := base.Apply(step)
	if err != nil {
		t.Fatal(err)
	}
	is := next.Tree(target.Sealer)
	if err := is.Load(t.Context(), target.GetObjects); err != nil {
		t.Fatal(err)
	}
	for i := range chunks {
		if is.At(i) != moved[i] {
			t.Fatalf("chunk %d is %v, want %v", i, is.At(i), moved[i])
		}
	}
}
