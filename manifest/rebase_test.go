package manifest

import (
	"testing"

	"verneuil/chunkstore"
)

// What Rebase returns is the version, over the other tree; and steps can lead on from there.
func TestRebase(t *testing.T) {
	moves, short := 0, 0
	for seed := range int64(300) {
		w := newWalk(seed)
		whole := false
		step := func() {
			next, s := w.next()
			whole = whole || s.Whole
			m, err := w.m.Apply(s)
			if err != nil {
				t.Fatal(err)
			}
			w.m = m
			w.check(t, seed, w.m, next)
		}
		for range w.rng.Intn(6) {
			step()
		}
		from, to := w.m, w.packed(t)
		whole = false
		for range w.rng.Intn(6) {
			step()
		}
		moved, ok := w.m.Rebase(from, to)
		if !ok && !whole {
			t.Fatalf("seed %d: steps led here, and it is not rebased", seed)
		} else if !ok {
			continue
		}
		w.check(t, seed, moved, w.m)
		moves++
		if len(moved.Patches) < len(w.m.Patches) {
			short++
		}
		w.m = moved
		step()
	}
	if moves < 200 || short < 50 {
		t.Fatalf("%d of 300 were rebased, %d have fewer patches then", moves, short)
	}
}

// packed returns the newest version with a tree of its own; the walk's is as it was.
func (w *walk) packed(t *testing.T) *Manifest {
	t.Helper()
	m, late, tree := w.m, w.late, w.tree
	defer func() { w.m, w.late, w.tree = m, late, tree }()
	w.tree = w.tree.Clone()
	w.pack()
	return w.late
}

// Versions of which one did not come of the other are not rebased.
func TestRebaseOfStrangers(t *testing.T) {
	place := chunkstore.Place{Pack: chunkstore.Digest{1}, Offset: 9, Bytes: 9}
	ref := func(n byte) chunkstore.Ref { return chunkstore.Ref{ID: chunkstore.ID{n}, Place: place} }
	const chunks = 100
	of := func(top byte, valid int, patched ...int) *Manifest {
		m := &Manifest{
			PageBytes: 4096, FileBytes: chunks * chunkstore.ChunkBytes, Levels: 1,
			Top: []chunkstore.Ref{ref(top)}, Earlier: &Extent{chunks, valid},
		}
		for _, i := range patched {
			m.Patches = append(m.Patches, Patch{i, ref(byte(i))})
		}
		return m
	}
	to := of(2, chunks)
	to.Earlier = nil
	for name, m := range map[string]*Manifest{
		"another top":           of(3, 90, 7),
		"a patch is taken back": of(1, 90),
		"more is valid":         of(1, 91, 7),
	} {
		if _, ok := m.Rebase(of(1, 90, 7), to); ok {
			t.Errorf("%s, and it was rebased", name)
		}
	}
	if _, ok := of(1, 90, 7, 8).Rebase(of(1, 90, 7), to); !ok {
		t.Error("not rebased")
	}
	// Cut off, and put again as it was: nothing from 40 on is what the checkpoint has
	moved, ok := of(1, 40, 7, 60).Rebase(of(1, 90, 7, 60), to)
	if !ok || *moved.Earlier != (Extent{chunks, 40}) || len(moved.Patches) != 1 ||
		moved.Patches[0].Index != 60 {
		t.Errorf("%+v", moved)
	}
	short := *to
	short.FileBytes -= chunkstore.ChunkBytes
	if _, ok := of(1, 90, 7, 8).Rebase(of(1, 90, 7), &short); ok {
		t.Error("the checkpoint is of another length, and it was rebased")
	}
}
