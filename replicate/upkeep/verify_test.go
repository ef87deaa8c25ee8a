package upkeep_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/chunkstore/storetest"
	"verneuil/manifest"
	. "verneuil/replicate/upkeep"
)

// world is a version in a target, and what it needs there.
type world struct {
	*testing.T
	store  *chunkstore.Store
	target *chunkstore.Target
	m      *manifest.Manifest
	refs   []chunkstore.Ref // of chunks, a patch, leaves and nodes
	trees  []chunkstore.Ref // of leaves and nodes
}

func newWorld(t *testing.T, chunks int) *world {
	store := storetest.Open(t, &dir.Config{Path: t.TempDir()})
	return &world{T: t, store: store, target: store.Targets[0], m: &manifest.Manifest{
		Host: "h", Path: "/p", FileBytes: int64(chunks) * chunkstore.ChunkBytes, PageBytes: 4096,
	}}
}

// put puts objects, so many in a pack, and notes what is needed.
func (w *world) put(inPack int, objects ...[]byte) (refs []chunkstore.Ref) {
	w.Helper()
	for pack := range slices.Chunk(objects, inPack) {
		refs = append(refs, storetest.PutObjects(w, w.target, pack...)...)
	}
	w.refs = append(w.refs, refs...)
	return refs
}

// pack makes the version say what tree does, which may have one patch.
func (w *world) pack(tree *manifest.Tree, inPack int) {
	w.Helper()
	var err error
	w.m.Levels, w.m.Top, w.m.Patches, err = tree.Pack(w.Context(), 1, nil,
		func(objects []chunkstore.Hashed) (places []chunkstore.Place, err error) {
			for some := range slices.Chunk(objects, inPack) {
				var p chunkstore.Pack
				for _, h := range some {
					p.Seal(w.target.Sealer, h)
				}
				at, _, err := w.target.PutPack(w.Context(), &p)
				if err != nil {
					return nil, err
				}
				for k, h := range some {
					w.trees = append(w.trees, chunkstore.Ref{ID: h.ID(), Place: at[k]})
				}
				places = append(places, at...)
			}
			return places, nil
		})
	if err != nil {
		w.Fatal(err)
	}
}

// worldOfLevels has a version with nodes, leaves, chunks and a patch.
func worldOfLevels(t *testing.T) *world {
	t.Helper()
	const chunks = 70 << 9 // above 64 leaves of 512 there are nodes
	w := newWorld(t, chunks)
	tree := manifest.NewTree(w.target.Sealer, chunks)
	var at []int
	var objects [][]byte
	for i := 5; i < chunks; i += 9000 {
		at, objects = append(at, i), append(objects, storetest.Text(uint64(i), 500))
	}
	for k, ref := range w.put(3, objects...) {
		tree.Set(at[k], ref)
	}
	w.pack(tree, 2)
	// under a leaf that may be gone, too
	tree.Set(5, w.put(1, []byte("a patch"))[0])
	w.trees = nil
	w.pack(tree, 2)
	if w.m.Levels != 2 || len(w.m.Patches) != 1 {
		t.Fatalf("%d levels and %d patches, want 2 and 1", w.m.Levels, len(w.m.Patches))
	}
	w.trees, w.refs = w.needed(tree)
	return w
}

// needed returns the leaves and nodes of tree, and with them all that it names.
func (w *world) needed(tree *manifest.Tree) (trees, all []chunkstore.Ref) {
	for ref := range tree.Objects() {
		trees = append(trees, ref)
	}
	all = slices.Clone(trees)
	for i := range tree.Len() {
		if ref := tree.At(i); ref.ID != chunkstore.ZeroID {
			all = append(all, ref)
		}
	}
	return trees, all
}

// verify returns the faults that a new verifier finds.
func (w *world) verify(o VerifyOptions) []error {
	w.Helper()
	faults, err := NewVerifier(w.target, o).Verify(w.Context(), w.m)
	if err != nil {
		w.Fatal(err)
	}
	return faults
}

// mustName: faults are of that kind, and each of them names one of what is gone or damaged.
func (w *world) mustName(what string, faults []error, kind error, names ...string) {
	w.Helper()
	if len(faults) == 0 {
		w.Errorf("%s: nothing was found", what)
	}
	for _, fault := range faults {
		if !errors.Is(fault, kind) || !slices.ContainsFunc(names, func(name string) bool {
			return strings.Contains(fault.Error(), name)
		}) {
			w.Errorf("%s: %v; want one of %q that is %v", what, fault, names, kind)
		}
	}
}

// TestVerifyNamesEachPack: whatever pack of a version is taken away, cut short or damaged in its
// list, be it of nodes, leaves, chunks or a patch's, it is named, and nothing else is.
func TestVerifyNamesEachPack(t *testing.T) {
	w := worldOfLevels(t)
	for _, o := range []VerifyOptions{{}, {Read: true}, {Touch: true}, {Read: true, Touch: true}} {
		if faults := w.verify(o); len(faults) > 0 {
			t.Fatalf("a whole version: %v", faults)
		}
	}
	inPack := make(map[chunkstore.Digest][]string)
	leaves := make(map[chunkstore.Digest]bool)
	for _, ref := range w.refs {
		name := ref.Place.Pack
		inPack[name] = append(inPack[name], ref.ID.String(), name.String())
	}
	for _, ref := range w.trees {
		leaves[ref.Place.Pack] = true
	}
	for name, names := range inPack {
		key := name.String()
		o, err := w.target.Chunks.Get(t.Context(), key, chunkstore.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		put := func(body []byte) {
			t.Helper()
			storetest.MustPut(t, w.target.Chunks, key, string(body), chunkstore.Condition{})
		}
		if err := w.target.Chunks.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		for _, o := range []VerifyOptions{{}, {Read: true}, {Touch: true}} {
			w.mustName("gone", w.verify(o), chunkstore.ErrAbsent, names...)
		}
		put(o.Body[:len(o.Body)-1])
		for _, o := range []VerifyOptions{{}, {Read: true}} {
			w.mustName("cut short", w.verify(o), chunkstore.ErrCorrupt, names...)
		}
		put(nil)
		w.mustName("empty", w.verify(VerifyOptions{}), chunkstore.ErrCorrupt, names...)
		list := bytes.Clone(o.Body)
		list[8] ^= 1
		put(list)
		if faults := w.verify(VerifyOptions{Read: true}); !leaves[name] { // those are read alone
			w.mustName("its list", faults, chunkstore.ErrCorrupt, key)
		}
		put(o.Body)
	}
	if faults := w.verify(VerifyOptions{Read: true}); len(faults) > 0 {
		t.Fatalf("the repaired version: %v", faults)
	}
}

// TestVerifyNamesEachObject: whatever object of a version is damaged in its pack, it is named, and
// nothing else is, whether it is read with the pack or alone.
func TestVerifyNamesEachObject(t *testing.T) {
	w := worldOfLevels(t)
	for _, ref := range w.refs {
		key := ref.Place.Pack.String()
		o, err := w.target.Chunks.Get(t.Context(), key, chunkstore.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		damaged := bytes.Clone(o.Body)
		damaged[ref.Place.Offset+ref.Place.Bytes/2] ^= 0x40
		storetest.MustPut(t, w.target.Chunks, key, string(damaged), chunkstore.Condition{})
		w.mustName("damaged", w.verify(VerifyOptions{Read: true}), chunkstore.ErrCorrupt,
			ref.ID.String())
		storetest.MustPut(t, w.target.Chunks, key, string(o.Body), chunkstore.Condition{})
	}
	if faults := w.verify(VerifyOptions{Read: true}); len(faults) > 0 {
		t.Fatalf("the repaired version: %v", faults)
	}
}

// TestVerifyOfMany: of a pack that has much more than the version names, only that is read, once
// for all versions; what is damaged is said of each that names it, and of no other.
func TestVerifyOfMany(t *testing.T) {
	w := newWorld(t, 1)
	refs := w.put(9, storetest.Noise(1, 100), storetest.Noise(2, 60000), storetest.Noise(3, 200),
		storetest.Noise(4, 60000), storetest.Noise(5, 60000), storetest.Noise(6, 300))
	version := func(top ...chunkstore.Ref) *manifest.Manifest {
		m := *w.m
		m.FileBytes, m.Top = int64(len(top))*chunkstore.ChunkBytes, top
		return &m
	}
	key := refs[0].Place.Pack.String()
	o, err := w.target.Chunks.Get(t.Context(), key, chunkstore.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	o.Body[refs[2].Place.Offset+50] ^= 1
	storetest.MustPut(t, w.target.Chunks, key, string(o.Body), chunkstore.Condition{})
	v := NewVerifier(w.target, VerifyOptions{Read: true})
	wrong := refs[5]
	wrong.Place.Offset--
	for _, c := range []struct {
		top   []chunkstore.Ref
		calls int64
		names []string
	}{
		{[]chunkstore.Ref{refs[0], refs[0], refs[5]}, 2, nil}, // more than 128 KiB between
		{[]chunkstore.Ref{refs[5], refs[0]}, 0, nil},
		{[]chunkstore.Ref{refs[0], refs[2]}, 1, []string{refs[2].ID.String()}},
		{[]chunkstore.Ref{refs[2], refs[2]}, 0, []string{refs[2].ID.String(), refs[2].ID.String()}},
		{refs, 1, []string{refs[2].ID.String()}}, // the whole pack
		{[]chunkstore.Ref{wrong}, 6, []string{refs[5].ID.String()}},
	} {
		before := w.store.Calls()
		faults, err := v.Verify(t.Context(), version(c.top...))
		if err != nil {
			t.Fatal(err)
		}
		if n := w.store.Calls() - before; n != c.calls || len(faults) != len(c.names) {
			t.Errorf("%d chunks: %d requests, want %d; %v", len(c.top), n, c.calls, faults)
		}
		for k, name := range c.names {
			w.mustName("damaged", faults[k:k+1], chunkstore.ErrCorrupt, name)
		}
	}
	if v.Objects() != len(refs)+1 || v.Packs() != 1 {
		t.Errorf("%d objects in %d packs were looked at", v.Objects(), v.Packs())
	}
}

// TestVerifyRequests: 100 GB take no more than 30,000 requests, whether packs are looked for,
// touched or read.
func TestVerifyRequests(t *testing.T) {
	const chunks = 16384 // 1 GiB
	w := newWorld(t, chunks)
	tree := manifest.NewTree(w.target.Sealer, chunks)
	objects := make([][]byte, chunks)
	for i := range objects {
		objects[i] = binary.BigEndian.AppendUint32(nil, uint32(i))
	}
	for i, ref := range w.put(chunkstore.PackMax, objects...) {
		tree.Set(i, ref)
	}
	w.pack(tree, chunkstore.PackMax)
	if _, err := chunkstore.Identify(t.Context(), w.target.Chunks, chunkstore.Plain{}); err != nil {
		t.Fatal(err)
	}
	for _, o := range []VerifyOptions{{}, {Touch: true}, {Read: true}} {
		before := w.store.Calls()
		v := NewVerifier(w.target, o)
		if faults, err := v.Verify(t.Context(), w.m); err != nil || len(faults) > 0 {
			t.Fatal(err, faults)
		}
		calls := w.store.Calls() - before
		scaled := calls * 100e9 / (chunks * chunkstore.ChunkBytes)
		t.Logf("%+v: %d requests, %d for 100 GB", o, calls, scaled)
		if scaled > 30000 || v.Objects() != chunks+len(w.trees) {
			t.Errorf("%+v: %d requests for 100 GB; %d objects were looked at", o, scaled,
				v.Objects())
		}
		before = w.store.Calls()
		if _, err := v.Verify(t.Context(), w.m); err != nil {
			t.Fatal(err)
		}
		if again := w.store.Calls() - before; again > 3 { // the identity, and leaves
			t.Errorf("%+v: %d requests for the same version once more", o, again)
		}
	}
}
