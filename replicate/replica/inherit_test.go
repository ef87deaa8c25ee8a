package replica

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

// forest makes versions, without their chunks, and has their trees' leaves.
type forest struct {
	t       *testing.T
	rng     *rand.Rand
	sealer  chunkstore.Sealer
	objects map[chunkstore.ID][]byte
}

func (f *forest) ref() (r chunkstore.Ref) {
	if f.rng.IntN(4) == 0 {
		return chunkstore.Ref{ID: chunkstore.ZeroID}
	}
	r.ID[0], r.ID[1] = byte(f.rng.IntN(256)), byte(1+f.rng.IntN(255))
	r.Place.Pack[0], r.Place.Bytes = 1, 1
	return r
}

func (f *forest) put(objects []chunkstore.Hashed) (places []chunkstore.Place, err error) {
	for range objects {
		places = append(places, chunkstore.Place{Pack: chunkstore.Digest{2}, Bytes: 1})
	}
	return places, nil
}

func (f *forest) fetch(_ context.Context, refs []chunkstore.Ref) (all [][]byte, err error) {
	for _, r := range refs {
		all = append(all, slices.Clone(f.objects[r.ID]))
	}
	return all, nil
}

// pack is m as a checkpoint says it.
func (f *forest) pack(m *manifest.Manifest) *manifest.Manifest {
	packed, tree := *m, m.Tree(f.sealer)
	err := tree.Load(f.t.Context(), f.fetch)
	if err == nil {
		packed.Levels, packed.Top, packed.Patches, err = tree.Pack(f.t.Context(), 2, f.fetch, f.put)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	packed.Earlier = nil
	for ref, plain := range tree.Objects() {
		f.objects[ref.ID] = slices.Clone(plain)
	}
	return &packed
}

// first returns a version of some chunks.
func (f *forest) first() *manifest.Manifest {
	n := f.rng.IntN(700)
	m := &manifest.Manifest{FileBytes: int64(n) * slotBytes, PageBytes: 4096}
	tree := manifest.NewTree(f.sealer, n)
	for i := range n {
		tree.Set(i, f.ref())
	}
	tree.Describe(m)
	return f.pack(m)
}

// next returns a version after m.
func (f *forest) next(m *manifest.Manifest) *manifest.Manifest {
	next := *m
	next.Sequence++
	shortest := m.Chunks()
	if f.rng.IntN(3) == 0 {
		shortest = f.rng.IntN(shortest + 1)
	}
	chunks := shortest
	if f.rng.IntN(2) == 0 {
		chunks += f.rng.IntN(300)
	}
	next.FileBytes = int64(chunks) * slotBytes
	next.Inline = nil
	var changed []manifest.Patch
	for i := range chunks {
		if f.rng.IntN(50) == 0 {
			changed = append(changed, manifest.Patch{Index: i, Ref: f.ref()})
		}
		if f.rng.IntN(100) == 0 {
			next.Inline = append(next.Inline, manifest.Page{Offset: int64(i) * slotBytes,
				Data: make([]byte, 512*(1+f.rng.IntN(2)))})
		}
	}
	applied, err := m.Apply(m.StepTo(&next, changed, shortest))
	if err != nil {
		f.t.Fatal(err)
	}
	if f.rng.IntN(20) == 0 {
		applied = f.pack(applied)
	}
	return applied
}

// check compares c with what the trees say.
func (f *forest) check(from, m *manifest.Manifest, c *changes) {
	was, now := from.Tree(f.sealer), m.Tree(f.sealer)
	for i := range m.Chunks() {
		_, object := slices.BinarySearch(c.objects, i)
		_, inline := slices.BinarySearch(c.inline, i)
		another := i >= from.Chunks()
		if !another {
			a, err := was.Lookup(f.t.Context(), i, f.fetch)
			if err != nil {
				f.t.Fatal(err)
			}
			b, err := now.Lookup(f.t.Context(), i, f.fetch)
			if err != nil {
				f.t.Fatal(err)
			}
			another = a.ID != b.ID
		}
		same := slices.EqualFunc(from.InlineOf(i), m.InlineOf(i), func(a, b manifest.Page) bool {
			return a.Offset == b.Offset && string(a.Data) == string(b.Data)
		})
		if another && !object || !same && !inline {
			f.t.Fatalf("chunk %d of %d, which were %d, has changed, and is not named", i,
				m.Chunks(), from.Chunks())
		}
		if named := object || inline; named != c.any(i, i+1) || named && !c.any(i-3, i+3) {
			f.t.Fatalf("chunk %d is named: %v", i, named)
		}
	}
	if !slices.IsSorted(c.objects) || !slices.IsSorted(c.inline) {
		f.t.Fatal("out of order")
	}
}

// TestChangesTo: what a version changes of another one is all that their trees say, and where the
// trees cannot be compared it says so.
func TestChangesTo(t *testing.T) {
	f := &forest{t, rand.New(rand.NewPCG(1, 2)),
		chunkstore.NewTarget("none", nil, nil).Sealer, map[chunkstore.ID][]byte{}}
	known := 0
	for range 300 {
		from := f.first()
		m := f.next(from)
		for range f.rng.IntN(5) { // who was away for a while
			m = f.next(m)
		}
		if c, ok := changesTo(from, m); ok {
			known++
			f.check(from, m, c)
		}
	}
	if known < 100 {
		t.Errorf("of 300 pairs %d could be compared", known)
	}
}

// TestInheritShrinks: of a part that is cut off no chunk is counted, nor held, that is not there.
func TestInheritShrinks(t *testing.T) {
	r := loaded(t, 2*partChunks+50)
	for _, chunks := range []int{2*partChunks + 20, 2 * partChunks, partChunks + 3, 1} {
		m := *r.Manifest()
		m.Sequence++
		m.FileBytes = int64(chunks) * slotBytes
		m.Earlier = &manifest.Extent{Chunks: 2*partChunks + 50, Valid: chunks}
		v, err := r.Derive(t.Context(), &m, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.MoveTo(v)
		v.Publish()
		v.Release()
		if n := r.s.table.present(); n != int64(chunks) || r.f.all.SlotsInUse() != chunks {
			t.Errorf("%d chunks are there, of %d, and %d slots in use", n, chunks,
				r.f.all.SlotsInUse())
		}
	}
}

// TestDeriveFails: where the slot file takes no more, a derivation fails, and leaves all as it was.
func TestDeriveFails(t *testing.T) {
	r := loaded(t, partChunks+50)
	all := r.f.all
	next := func() (*manifest.Manifest, map[int][]byte) {
		m := *r.Manifest()
		m.Sequence++
		m.Patches = []manifest.Patch{{Index: 7, Ref: chunkstore.Ref{ID: chunkstore.ID{7}}},
			{Index: partChunks + 7, Ref: chunkstore.Ref{ID: chunkstore.ID{8}}}}
		return &m, map[int][]byte{7: make([]byte, 100), partChunks + 7: {1}}
	}
	slots, memory, counter := all.SlotsInUse(), all.MemoryInUse(), r.Counter()
	file := all.slots.file
	for _, mode := range []int{os.O_RDONLY, os.O_RDWR} {
		f, err := os.OpenFile(os.DevNull, mode, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if mode == os.O_RDWR {
			f = file
		}
		all.slots.file = f
		m, chunks := next()
		v, err := r.Derive(t.Context(), m, counter+1, chunks)
		if failed := mode == os.O_RDONLY; failed != (err != nil) ||
			failed && !errors.Is(err, errSlots) {
			t.Fatalf("derived: %v", err)
		}
		if err == nil {
			if r.MoveTo(v); r.s.table.present() != partChunks+50 || r.Counter() == counter {
				t.Errorf("%d chunks, with counter %d", r.s.table.present(), r.Counter())
			}
			v.Release()
		} else if r.Counter() != counter || all.SlotsInUse() != slots ||
			all.MemoryInUse() != memory {
			t.Errorf("%d slots and %d bytes in use, which were %d and %d", all.SlotsInUse(),
				all.MemoryInUse(), slots, memory)
		}
	}
}
