package mirror

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// asideMemoryMax bounds what is set aside in memory; the rest goes to a file.
const asideMemoryMax = 8 << 20

// View is the mirror as it was at one moment, as far as somebody still needs it:
// chunks that change are set aside first (M4). Its methods are safe for
// concurrent use, also with the mirror's.
type View struct {
	m    *Mirror
	size int64
	need map[int]*kept // nil: the mirror still has it
}

// kept is a chunk that was set aside, shared by the views that need it.
type kept struct {
	refs   int
	memory []byte // or, if nil:
	slot   int64  // in the file; -1: none
	bytes  int
	err    error // it could not be set aside
}

// View returns a view of the chunks in indexes, as they are now. Close it.
func (m *Mirror) View(indexes []int) *View {
	v := &View{m: m, size: m.size, need: make(map[int]*kept, len(indexes))}
	for _, i := range indexes {
		v.need[i] = nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.views[v] = struct{}{}
	return v
}

// Chunk reads chunk i, which must be one that the view is of and not Done, into
// buf, which has room for it, and returns it.
func (v *View) Chunk(i int, buf []byte) ([]byte, error) {
	m := v.m
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := v.need[i]
	if !ok {
		return nil, fmt.Errorf("view: chunk %d is not in it", i)
	}
	if k != nil {
		return m.aside.read(k, buf[:v.chunkBytes(i)])
	}
	b := buf[:v.chunkBytes(i)]
	if _, err := m.file.ReadAt(b, int64(i)*chunkBytes); err != nil {
		return nil, fmt.Errorf("view: chunk %d: %w", i, err)
	}
	return b, nil
}

// chunkBytes returns the length of chunk i.
func (v *View) chunkBytes(i int) int64 { return min(chunkBytes, v.size-int64(i)*chunkBytes) }

// Done says that chunk i is not needed any more.
func (v *View) Done(i int) {
	v.m.mu.Lock()
	defer v.m.mu.Unlock()
	v.m.aside.release(v.need[i])
	delete(v.need, i)
}

// Close says that nothing is needed any more.
func (v *View) Close() {
	v.m.mu.Lock()
	defer v.m.mu.Unlock()
	for _, k := range v.need {
		v.m.aside.release(k)
	}
	v.need = nil
	delete(v.m.views, v)
}

// neededFrom returns the chunks from index i on that the view still needs.
func (v *View) neededFrom(i int) []int {
	var needed []int
	for k := range v.need {
		if k >= i {
			needed = append(needed, k)
		}
	}
	return needed
}

// setAside keeps chunk i for the views that need it. The caller holds mu. A
// failure is the views' alone: what they are for fails, and is done anew.
func (m *Mirror) setAside(i int) {
	var views []*View
	var n int64 // views may differ in the chunk's length, but not in the bytes before
	for v := range m.views {
		if have, ok := v.need[i]; ok && have == nil {
			views = append(views, v)
			n = max(n, v.chunkBytes(i))
		}
	}
	if views == nil {
		return
	}
	b := make([]byte, n)
	_, err := m.file.ReadAt(b, int64(i)*chunkBytes)
	k := m.aside.keep(b, err)
	k.refs = len(views)
	for _, v := range views {
		v.need[i] = k
	}
}

// aside holds what was set aside, guarded by the mirror's mu. Its file is
// scratch: a successor begins with an empty one.
type aside struct {
	dir    string
	memory int
	file   *os.File
	free   []int64
	slots  int64
}

func newAside(dir string) *aside { return &aside{dir: dir} }

// keep takes b over, with no reference yet.
func (a *aside) keep(b []byte, err error) *kept {
	k := &kept{slot: -1, bytes: len(b), err: err}
	if err != nil {
		return k
	}
	if a.memory+len(b) <= asideMemoryMax {
		a.memory += len(b)
		k.memory = b
		return k
	}
	if a.file == nil {
		name := filepath.Join(a.dir, "aside")
		flags := os.O_RDWR | os.O_CREATE | os.O_TRUNC | syscall.O_NOFOLLOW | syscall.O_NONBLOCK
		a.file, k.err = os.OpenFile(name, flags, 0o600)
		if k.err != nil {
			return k
		}
		os.Remove(name) // it goes with its descriptor
	}
	k.slot = a.slots
	if n := len(a.free); n > 0 {
		k.slot, a.free = a.free[n-1], a.free[:n-1]
	} else {
		a.slots++
	}
	_, k.err = a.file.WriteAt(b, k.slot*chunkBytes)
	return k
}

// read fills b with the beginning of what was kept.
func (a *aside) read(k *kept, b []byte) ([]byte, error) {
	switch {
	case k.err != nil:
		return nil, fmt.Errorf("view: chunk was not set aside: %w", k.err)
	case k.memory != nil:
		copy(b, k.memory)
		return b, nil
	}
	if _, err := a.file.ReadAt(b, k.slot*chunkBytes); err != nil {
		return nil, fmt.Errorf("view: read what was set aside: %w", err)
	}
	return b, nil
}

// release drops a reference; k may be nil.
func (a *aside) release(k *kept) {
	if k == nil {
		return
	}
	k.refs--
	switch {
	case k.refs > 0:
	case k.memory != nil:
		a.memory -= k.bytes
	case k.slot >= 0:
		a.free = append(a.free, k.slot)
		if int64(len(a.free)) == a.slots { // nothing is left: give the disk back
			a.free, a.slots = slices.Delete(a.free, 0, len(a.free)), 0
			a.file.Truncate(0)
		}
	}
}

func (a *aside) close() {
	if a.file != nil {
		a.file.Close()
	}
}
