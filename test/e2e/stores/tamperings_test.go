package stores_test

import (
	"bytes"
	"os"
	"slices"

	"verneuil/chunkstore"
	"verneuil/manifest/manifestpb"
	"verneuil/test/e2e/harness"
)

// bomb is a zstd frame of so many bytes, in blocks of 64 KiB.
func bomb(blocks int) []byte {
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 6 << 3} // of unknown size, window of 64 KiB
	for i := range blocks {
		last := uint32(0)
		if i == blocks-1 {
			last = 1
		}
		header := last | 1<<1 | 1<<16<<3 // one byte, repeated
		b = append(b, byte(header), byte(header>>8), byte(header>>16), 'x')
	}
	return b
}

// declared is a zstd frame that says it has so many bytes.
func declared(n uint64) []byte {
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 3<<6 | 1<<5}
	for k := range 8 {
		b = append(b, byte(n>>(8*k)))
	}
	return append(b, 1|1<<1, 0, 8, 'x') // 65,536 of them
}

func (w *tampered) longObject(name string, bytes int64) {
	w.Write(name, []byte("VRNC\x01\x01\x00\x00"))
	harness.Must(w.T, os.Truncate(w.Path(name), bytes))
}

// tamperings: A, B and LEAF stand for IDs, PACK for the name of B's pack, and KEY for the
// manifest's.
func tamperings() []tampering {
	return slices.Concat(tamperedObjects(), tamperedPacks(), tamperedManifests())
}

// ofObject is a tampering with the object that id stands for.
func ofObject(name, id string, put func(w *tampered)) tampering {
	return tampering{false, name, put, id + "|corrupt", id + "|corrupt", id + "|corrupt",
		"=new", "damaged"}
}

// damaged is one after which a manifest is none.
func damaged(name string, put func(w *tampered)) tampering {
	return tampering{false, name, put, "KEY|corrupt", "KEY|corrupt", "KEY|corrupt",
		"KEY|corrupt", "1"}
}

// forged is one in which a manifest says what cannot be.
func forged(name string, change func(m *manifestpb.Manifest)) tampering {
	return damaged(name, func(w *tampered) { w.forged(change) })
}

// anothers is one in which a manifest stands that is of something else.
func anothers(name, of string) tampering {
	return tampering{false, name + "'s manifest",
		func(w *tampered) { w.manifest(w.manifests[name]) },
		"KEY|" + of, "KEY|" + of, "KEY|" + of, "KEY|" + of, of}
}

// long makes it one that only make crash takes.
func long(c tampering) tampering {
	c.long = true
	return c
}

// objectHeader is what an object begins with.
const objectHeader = "VRNC\x01\x01\x00\x00"

// raw is an object as it is stored where it does not compress.
func raw(plain []byte) []byte { return append([]byte("VRNC\x01\x00\x00\x00"), plain...) }

func tamperedObjects() []tampering {
	zstd := func(frame []byte) []byte { return append([]byte(objectHeader), frame...) }
	return []tampering{
		ofObject("a chunk's body in another's place", "B",
			func(w *tampered) { w.in(w.b, w.stored(w.a)) }),
		long(ofObject("a leaf's body in a chunk's place", "B",
			func(w *tampered) { w.in(w.b, w.stored(w.leaf)) })),
		ofObject("a chunk's body in a leaf's place", "LEAF",
			func(w *tampered) { w.in(w.leaf, w.stored(w.b)) }),
		long(ofObject("a leaf that names itself", "LEAF",
			func(w *tampered) { w.in(w.leaf, raw(entries(repeated(w.leaf, 70)))) })),
		long(ofObject("a manifest in a chunk's place", "B",
			func(w *tampered) { w.in(w.b, w.manifests["new"]) })),
		long(ofObject("a bomb for a chunk", "B",
			func(w *tampered) { w.in(w.b, zstd(bomb(16000))) })),
		ofObject("a chunk that says it is of 10 GB", "B",
			func(w *tampered) { w.in(w.b, zstd(declared(10<<30))) }),
		long(ofObject("a bomb for a leaf", "LEAF",
			func(w *tampered) { w.in(w.leaf, zstd(bomb(16000))) })),
	}
}

// tamperedPacks are tamperings with packs. What stands where it is said to is used, whatever is
// wrong about the rest.
func tamperedPacks() []tampering {
	return []tampering{
		ofObject("a pack under another's name", "PACK", func(w *tampered) {
			w.copy(w.pack(w.leaf.Place.Pack), w.pack(w.b.Place.Pack))
		}),
		ofObject("a pack of 1 GiB of nothing", "PACK",
			func(w *tampered) { w.longObject(w.pack(w.b.Place.Pack), 1<<30) }),
		long(ofObject("a leaf's pack of 1 GiB of nothing", "LEAF",
			func(w *tampered) { w.longObject(w.pack(w.leaf.Place.Pack), 1<<30) })),
		ofObject("half a pack", "PACK", func(w *tampered) {
			pack := w.read(w.pack(w.b.Place.Pack))
			w.Write(w.pack(w.b.Place.Pack), pack[:w.b.Place.Offset])
		}),
		long(ofObject("a manifest for a pack", "PACK",
			func(w *tampered) { w.Write(w.pack(w.b.Place.Pack), w.manifests["new"]) })),
	}
}

func tamperedManifests() []tampering {
	return []tampering{
		// The records lead on from there.
		{false, "an old manifest", func(w *tampered) { w.manifest(w.manifests["old"]) }, "=new",
			"ok", "=new", "=new", "1"},
		{false, "another lineage's manifest",
			func(w *tampered) { w.manifest(w.manifests["other lineage"]) },
			"=other", "ok", "=other", "=other", "another lineage"},
		anothers("other database", "it belongs to "),
		long(anothers("other host", "it belongs to ")),
		long(damaged("a pack under the manifest's key",
			func(w *tampered) { w.manifest(w.read(w.pack(w.b.Place.Pack))) })),
		damaged("a manifest of 100 MiB", func(w *tampered) {
			w.longObject("store/manifests/"+w.key,
				100<<20)
		}),
		damaged("a bomb for a manifest", func(w *tampered) {
			w.manifest(append(append([]byte("VRNM\x03\x01\x00\x00"), make([]byte, 32)...),
				bomb(10<<30>>16)...))
		}),
		forged("a file of 2^60 bytes", func(m *manifestpb.Manifest) { m.FileBytes = 1 << 60 }),
		long(forged("pages of 0 bytes", func(m *manifestpb.Manifest) { m.PageBytes = 0 })),
		long(forged("pages of 3 bytes", func(m *manifestpb.Manifest) { m.PageBytes = 3 })),
		long(forged("more leaves than chunks",
			func(m *manifestpb.Manifest) {
				m.Top, m.TopPlaces = bytes.Repeat(m.Top, 60), bytes.Repeat(m.TopPlaces, 60)
			})),
		long(forged("levels above levels", func(m *manifestpb.Manifest) { m.Levels = 1 << 31 })),
		long(forged("a patch beyond the end", func(m *manifestpb.Manifest) {
			m.Patches = append(m.Patches, &manifestpb.Patch{ChunkIndex: 1 << 40, Id: m.Top[:32],
				Place: m.TopPlaces[:10]})
		})),
		long(forged("a place in a pack that is not named", func(m *manifestpb.Manifest) {
			m.TopPlaces[1] = 9
		})),
		long(forged("a pack that has nothing", func(m *manifestpb.Manifest) {
			m.Packs = append(m.Packs, make([]byte, 32)...)
		})),
		long(forged("a place of no bytes",
			func(m *manifestpb.Manifest) { clear(m.TopPlaces[6:10]) })),
		misplaced("a place beyond the pack's end", func(place []byte) { place[2] = 0x7f }),
		misplaced("a place of 4 GiB", func(place []byte) { place[6] = 0xff }),
		long(misplaced("a place that is another's", func(place []byte) { place[5] ^= 1 })),
		// The writer has come further by then, and puts its own again.
		{false, "281 TB of one chunk", func(w *tampered) { w.forged(w.huge) }, "too large", "",
			"error near line", "error near line", "1"},
	}
}

// misplaced is one in which a manifest says that the leaf stands where it does not.
func misplaced(name string, change func(place []byte)) tampering {
	// Who has the leaf needs no place.
	return tampering{true, name,
		func(w *tampered) { w.forged(func(m *manifestpb.Manifest) { change(m.TopPlaces[:10]) }) },
		"LEAF|corrupt", "LEAF|corrupt", "LEAF|corrupt", "=new", "1"}
}

// top has m name refs.
func top(m *manifestpb.Manifest, refs []chunkstore.Ref) {
	m.Top, m.Packs, m.TopPlaces = parts(refs)
	m.Patches = nil
}

// huge makes a version of half the greatest length, of four objects.
func (w *tampered) huge(m *manifestpb.Manifest) {
	ref := w.b
	for range 3 {
		ref = w.put(entries(repeated(ref, 512)))[0]
	}
	top(m, repeated(ref, 16))
	m.FileBytes, m.Levels = 1<<47, 3
	m.Cut = make([]byte, 16) // of another version
}

// folded makes a version of 256 GiB, 16 nodes of the same 512 leaves in other orders: each
// leaf is met 16 times.
func (w *tampered) folded(m *manifestpb.Manifest) {
	var leaves []chunkstore.Ref
	for first := range 512 / chunkstore.PackMax {
		var plain [][]byte
		for k := range chunkstore.PackMax {
			leaf := repeated(w.a, 512)
			leaf[first*chunkstore.PackMax+k] = w.b
			plain = append(plain, entries(leaf))
		}
		leaves = append(leaves, w.put(plain...)...)
	}
	var nodes []chunkstore.Ref
	for k := range 16 {
		nodes = append(nodes, w.put(entries(slices.Concat(leaves[k:], leaves[:k])))...)
	}
	top(m, nodes)
	m.FileBytes, m.Levels = 16<<34, 2
}
