package mirror

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// model is what the last cut holds: a mirror may differ from it only where it says so.
type model struct{ b []byte }

func (o *model) check(t *testing.T, m *Mirror, what string) {
	t.Helper()
	now := make([]byte, m.Size())
	if len(now) > 0 {
		if _, err := m.ReadAt(now, 0); err != nil {
			t.Fatal(err)
		}
	}
	for i := range m.Chunks() {
		var old [chunkBytes]byte
		if at := i * chunkBytes; at < len(o.b) {
			copy(old[:], o.b[at:min(len(o.b), at+chunkBytes)])
		}
		var d Diff
		if m.Diff(i) != nil {
			d = *m.Diff(i)
		}
		for k := 0; k < m.ChunkBytes(i); k += sectorBytes {
			end := min(k+sectorBytes, m.ChunkBytes(i))
			same := bytes.Equal(old[k:end], now[i*chunkBytes+k:i*chunkBytes+end])
			if !same && !(d.Changed && d.Has(k/sectorBytes)) {
				t.Fatalf("%s: sector %d of chunk %d differs from the cut, and is not marked",
					what, k/sectorBytes, i)
			}
		}
	}
}

// random changes the mirror and bytes alike.
func randomChange(t *testing.T, m *Mirror, b []byte, r *rand.Rand) []byte {
	t.Helper()
	if r.IntN(6) == 0 {
		size := r.IntN(5 * chunkBytes)
		if err := m.Truncate(int64(size)); err != nil {
			t.Fatal(err)
		}
		return append(bytes.Clone(b[:min(len(b), size)]), make([]byte, max(0, size-len(b)))...)
	}
	if r.IntN(6) == 0 {
		off, n := r.IntN(5*chunkBytes), r.IntN(3*chunkBytes)
		if err := m.Zero(int64(off), int64(n)); err != nil {
			t.Fatal(err)
		}
		if end := off + n; end > len(b) {
			b = append(b, make([]byte, end-len(b))...)
		}
		clear(b[off : off+n])
		return b
	}
	p := make([]byte, 1+r.IntN(80_000))
	for k := 0; k < len(p); k += 1 + r.IntN(2000) {
		p[k] = byte(r.IntN(2))
	}
	off := r.IntN(5 * chunkBytes)
	if _, err := m.WriteAt(p, int64(off)); err != nil {
		t.Fatal(err)
	}
	if n := off + len(p); n > len(b) {
		b = append(b, make([]byte, n-len(b))...)
	}
	copy(b[off:], p)
	return b
}

// TestMirrorModel changes a mirror at random, cuts it, fails to, abandons it between any
// two steps, and opens it again (M1, M2, M3).
func TestMirrorModel(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		dir := t.TempDir()
		m, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		var now []byte
		cut, tree := &model{}, &model{}
		for step := range 60 {
			what := fmt.Sprintf("seed %d step %d", seed, step)
			switch r.IntN(10) {
			case 0: // killed
				m.Close()
				if m, err = Open(dir); err != nil {
					t.Fatal(err)
				}
				tree.b = cut.b
			case 1: // a cut whose tree is made, but which is not saved
				m.TreeHas(m.Chunks())
				tree.b = bytes.Clone(now)
			case 2: // a cut, and killed before what is dirty is cleared, or not
				diffs := m.Diffs()
				cut.b = bytes.Clone(now)
				tree.b = cut.b
				for _, i := range diffs {
					m.NoteSaved(i, true)
				}
				if r.IntN(2) == 0 {
					if err := m.Cleared(diffs); err != nil {
						t.Fatal(err)
					}
					if m.Changed() {
						t.Fatalf("%s: changed after a cut", what)
					}
				} else {
					m.Close()
					if m, err = Open(dir); err != nil {
						t.Fatal(err)
					}
				}
			default:
				now = randomChange(t, m, now, r)
			}
			if m.Size() != int64(len(now)) {
				t.Fatalf("%s: size %d, want %d", what, m.Size(), len(now))
			}
			got := make([]byte, len(now))
			if len(got) > 0 {
				if _, err := m.ReadAt(got, 0); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(got, now) {
				t.Fatalf("%s: contents differ", what)
			}
			cut.check(t, m, what)
			tree.check(t, m, what+", the tree")
		}
		m.Close()
	}
}

// TestMirrorKill simulates a kill between the writes of dirty, the mirror and
// the cut: whatever reached the disk so far is there.
func TestMirrorKill(t *testing.T) {
	dir := t.TempDir()
	m, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.WriteAt(bytes.Repeat([]byte{1}, 3*chunkBytes), 0); err != nil {
		t.Fatal(err)
	}
	for _, i := range m.Diffs() {
		m.NoteSaved(i, true)
	}
	if err := m.Cleared([]int{0, 1, 2}); err != nil {
		t.Fatal(err)
	}
	// dirty marked, the mirror not yet written: as if it were
	if _, err := m.beforeChange(1); err != nil {
		t.Fatal(err)
	}
	m.Close()
	if m, err = Open(dir); err != nil {
		t.Fatal(err)
	}
	if d := m.Diff(1); d == nil || !d.Whole || !d.Changed || m.Diff(0) != nil {
		t.Errorf("chunk 1 has diff %+v", d)
	}
	// dirty extended, the mirror not yet grown (M2)
	if _, err := m.dirty.WriteAt([]byte{1, 1}, 3); err != nil {
		t.Fatal(err)
	}
	m.Close()
	if m, err = Open(dir); err != nil {
		t.Fatal(err)
	}
	if st, err := m.dirty.Stat(); err != nil || st.Size() != 3 {
		t.Errorf("dirty has %d bytes, %v", st.Size(), err)
	}
	m.Close()
}

func TestMirrorSameBytes(t *testing.T) {
	m, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	b := bytes.Repeat([]byte("abcdefgh"), chunkBytes/4)
	if _, err := m.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	for _, i := range m.Diffs() {
		m.NoteSaved(i, true)
	}
	b[70_000]++
	if _, err := m.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	d, sector := m.Diff(1), (70_000-chunkBytes)/sectorBytes
	if m.Diff(0) != nil || d == nil || d.Count() != 1 || !d.Has(sector) {
		t.Errorf("diffs %v, of chunk 1 %+v", m.Diffs(), d)
	}
}

// TestView: a view stays as it was, in memory and on disk (M4).
func TestView(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 2))
		m, err := Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if seed%2 == 0 {
			m.aside.memory = asideMemoryMax // all to the file
		}
		type snapshot struct {
			*View
			b    []byte
			want []int
		}
		var views []snapshot
		var now []byte
		for range 80 {
			now = randomChange(t, m, now, r)
			if r.IntN(5) == 0 && len(now) > 0 {
				var want []int
				for i := range m.Chunks() {
					if r.IntN(3) > 0 {
						want = append(want, i)
					}
				}
				views = append(views, snapshot{m.View(want), bytes.Clone(now), want})
			}
			for _, v := range views {
				for _, i := range v.want {
					got, err := v.Chunk(i, make([]byte, chunkBytes))
					if err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(got, v.b[i*chunkBytes:min(len(v.b), (i+1)*chunkBytes)]) {
						t.Fatalf("seed %d: chunk %d of a view has changed", seed, i)
					}
				}
			}
			if len(views) > 3 {
				for _, i := range views[0].want {
					if r.IntN(2) == 0 {
						views[0].Done(i)
					}
				}
				views[0].Close()
				views = views[1:]
			}
		}
		for _, v := range views {
			v.Close()
		}
		if a := m.aside; int64(len(a.free)) != a.slots || seed%2 == 1 && a.memory != 0 {
			t.Errorf("seed %d: aside keeps %d bytes, %d of %d slots",
				seed, a.memory, a.slots-int64(len(a.free)), a.slots)
		}
		m.Close()
	}
}
