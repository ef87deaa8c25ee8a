package mirror

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"verneuil/chunkstore"
	"verneuil/spool"
)

const (
	chunkBytes      = chunkstore.ChunkBytes
	sectorBytes     = 512
	sectorsPerChunk = chunkBytes / sectorBytes
)

// Mirror is the replicator's private copy of the database, with a note of how it
// differs from the last cut. Only the holder of the spool's lock may have one, and
// only one goroutine may use it; views are for others. Its invariants, M1 to M5, stand in doc.go.
type Mirror struct {
	file, dirty *os.File
	size        int64
	diffs       map[int]*Diff
	changed     int // how many of diffs are Changed
	stamp       uint64
	cutChunks   int // how many chunks the last cut, or the tree of the next one, may have
	old         []byte
	dir         string
	whole       bool   // see Whole
	rested      uint64 // Stamp at Rest
	guard       guard

	mu    sync.Mutex // guards what views share: file's contents, views, aside
	views map[*View]struct{}
	aside *aside
}

// Diff says how a chunk of the mirror differs, or may differ, from the object
// that the last cut's tree names for it.
type Diff struct {
	Changed bool // since the last cut
	Whole   bool // anywhere: Sectors does not tell
	Sectors [2]uint64
	Stamp   uint64 // grows with each change
	Carried int    // bytes that cuts carried inline although they were unchanged

	Hashed bool // Hash is the ID of the chunk as it is now
	Hash   chunkstore.ID
}

// Has reports whether sector k of the chunk may differ.
func (d *Diff) Has(k int) bool { return d.Whole || d.Sectors[k/64]>>(k%64)&1 != 0 }

// Set marks sectors from..to-1.
func (d *Diff) Set(from, to int) {
	for k := from; k < to; k++ {
		d.Sectors[k/64] |= 1 << (k % 64)
	}
}

// Count returns how many sectors may differ.
func (d *Diff) Count() int {
	if d.Whole {
		return sectorsPerChunk
	}
	return bits.OnesCount64(d.Sectors[0]) + bits.OnesCount64(d.Sectors[1])
}

// Open opens the mirror in dir, or makes an empty one.
func Open(dir string) (*Mirror, error) {
	m, err := open(dir)
	if err != nil {
		return nil, fmt.Errorf("open mirror: %w", err)
	}
	return m, nil
}

func open(dir string) (m *Mirror, err error) {
	m = &Mirror{dir: dir, cutChunks: math.MaxInt, diffs: make(map[int]*Diff), views: make(map[*View]struct{}), aside: newAside(dir)}
	defer func() {
		if err != nil {
			m.Close()
		}
	}()
	err = m.openFiles(0)
	m.whole = err == nil
	if errors.Is(err, fs.ErrNotExist) {
		m.closeFiles()
		err = m.openFiles(os.O_CREATE)
	}
	if err != nil {
		return m, err
	}
	st, err := m.file.Stat()
	if err != nil {
		return m, err
	}
	m.size = st.Size()
	if st, err = m.dirty.Stat(); err != nil {
		return m, err
	}
	m.whole = m.whole && st.Size() == int64(m.Chunks())
	if st.Size() != int64(m.Chunks()) {
		if err := m.dirty.Truncate(int64(m.Chunks())); err != nil { // M2
			return m, err
		}
	}
	return m, m.loadDirty()
}

func (m *Mirror) openFiles(flag int) (err error) {
	flag |= os.O_RDWR | syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	if m.file, err = os.OpenFile(filepath.Join(m.dir, "mirror"), flag, 0o600); err != nil {
		return err
	}
	m.dirty, err = os.OpenFile(filepath.Join(m.dir, "dirty"), flag, 0o600)
	return err
}

func (m *Mirror) closeFiles() error {
	var errs []error
	for _, f := range []*os.File{m.file, m.dirty} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	m.file, m.dirty = nil, nil
	return errors.Join(errs...)
}

// Rest closes the files until [Mirror.Resume]: nothing else may be called in between,
// but Close. It returns false, and does nothing, while there are views.
func (m *Mirror) Rest() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.views) > 0 {
		return false
	}
	m.old, m.rested = nil, m.Stamp()
	m.closeFiles() // what was written is in the kernel: no error of close takes it back
	return true
}

// Resume opens the files again. After an error the mirror is of no use.
func (m *Mirror) Resume() error {
	err := m.openFiles(0)
	if err == nil && m.Stamp() != m.rested {
		err = fmt.Errorf("%w: it was changed", chunkstore.ErrCorrupt)
	}
	if err != nil {
		return fmt.Errorf("resume mirror: %w", err)
	}
	return nil
}

// Whole reports whether both files were there when the mirror was opened, and of
// lengths that fit. A kill may leave them unfit, while the mirror's length changes.
func (m *Mirror) Whole() bool { return m.whole }

func (m *Mirror) loadDirty() error {
	b := make([]byte, chunkBytes)
	for at := 0; at < m.Chunks(); at += len(b) {
		n := min(len(b), m.Chunks()-at)
		if _, err := io.ReadFull(io.NewSectionReader(m.dirty, int64(at), int64(n)), b[:n]); err != nil {
			return err
		}
		for k, dirty := range b[:n] {
			if dirty != 0 {
				m.diffs[at+k] = &Diff{Changed: true, Whole: true} // M3
				m.changed++
			}
		}
	}
	return nil
}

// Close closes the files. Views are of no use afterwards.
func (m *Mirror) Close() error {
	err := m.closeFiles()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.aside.close()
	return err
}

// Size returns the length of the database.
func (m *Mirror) Size() int64 { return m.size }

// Chunks returns how many chunks the database has.
func (m *Mirror) Chunks() int { return int((m.size + chunkBytes - 1) / chunkBytes) }

// ChunkBytes returns the length of chunk i.
func (m *Mirror) ChunkBytes(i int) int { return int(min(chunkBytes, m.size-int64(i)*chunkBytes)) }

// Changed reports whether a chunk changed since the last cut. A change of length
// alone does not count.
func (m *Mirror) Changed() bool { return m.changed > 0 }

// Diffs returns the indexes of chunks that differ from the last cut's objects, ascending.
func (m *Mirror) Diffs() []int { return slices.Sorted(maps.Keys(m.diffs)) }

// Diff returns chunk i's difference, nil if there is none. The caller may change
// it, but for Changed.
func (m *Mirror) Diff(i int) *Diff { return m.diffs[i] }

// ReadAt reads the database as of the last applied transaction.
func (m *Mirror) ReadAt(p []byte, off int64) (int, error) { return m.file.ReadAt(p, off) }

// Chunk reads chunk i into buf, which has room for it, and returns it.
func (m *Mirror) Chunk(i int, buf []byte) ([]byte, error) {
	b := buf[:m.ChunkBytes(i)]
	if _, err := m.file.ReadAt(b, int64(i)*chunkBytes); err != nil {
		return nil, fmt.Errorf("mirror: chunk %d: %w", i, err)
	}
	return b, nil
}

// WriteAt changes the mirror. What is there already is neither written nor
// marked, so that applying a record again costs nothing later.
func (m *Mirror) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > spool.FileBytesMax {
		return 0, fmt.Errorf("mirror: write of %d bytes at %d", len(p), off)
	}
	if off > m.size {
		if err := m.Truncate(off); err != nil {
			return 0, err
		}
	}
	fresh := m.size // from here on there are zeros, which need not be read
	if end := off + int64(len(p)); end > m.size {
		if err := m.Truncate(end); err != nil {
			return 0, err
		}
	}
	done := 0
	for done < len(p) {
		at := off + int64(done)
		i := int(at / chunkBytes)
		n := min(len(p)-done, int(int64(i+1)*chunkBytes-at))
		if err := m.writeChunk(i, p[done:done+n], at, at >= fresh); err != nil {
			return done, fmt.Errorf("mirror: write %d bytes at %d: %w", n, at, err)
		}
		done += n
	}
	return done, nil
}

// writeChunk writes p, which lies in chunk i, over zeros if fresh says so.
func (m *Mirror) writeChunk(i int, p []byte, off int64, fresh bool) error {
	in := int(off - int64(i)*chunkBytes) // offset in the chunk
	old := zeros[:len(p)]
	if !fresh {
		old = m.oldBytes(len(p))
		if _, err := m.file.ReadAt(old, off); err != nil {
			return err
		}
	}
	from, to := -1, 0 // the differing sectors' bounds in p
	var d *Diff
	for k := 0; k < len(p); {
		end := min(len(p), (in+k)/sectorBytes*sectorBytes+sectorBytes-in)
		if string(p[k:end]) != string(old[k:end]) {
			if from < 0 {
				from = k
				var err error
				if d, err = m.beforeChange(i); err != nil {
					return err
				}
			}
			to = end
			d.Set((in+k)/sectorBytes, (in+k)/sectorBytes+1)
		}
		k = end
	}
	if from < 0 {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.setAside(i) // M4
	_, err := m.file.WriteAt(p[from:to], off+int64(from))
	return err
}

// oldBytes returns n bytes to read what was into.
func (m *Mirror) oldBytes(n int) []byte {
	if m.old == nil {
		m.old = make([]byte, chunkBytes)
	}
	return m.old[:n]
}

// beforeChange notes that chunk i is about to change (M1), and returns its Diff.
func (m *Mirror) beforeChange(i int) (*Diff, error) {
	m.touch()
	d := m.diffs[i]
	if d == nil {
		d = new(Diff)
	}
	if !d.Changed {
		if _, err := m.dirty.WriteAt([]byte{1}, int64(i)); err != nil {
			return nil, err
		}
		d.Changed = true
		m.changed++
		m.diffs[i] = d
	}
	m.stamp++
	d.Stamp, d.Hashed = m.stamp, false
	return d, nil
}

// Truncate makes the database size bytes long, by cutting it or by adding zeros.
func (m *Mirror) Truncate(size int64) error {
	var err error
	switch {
	case size < 0 || size > spool.FileBytesMax:
		err = fmt.Errorf("impossible size")
	case size > m.size:
		err = m.grow(size)
	case size < m.size:
		err = m.shrink(size)
	}
	if err != nil {
		return fmt.Errorf("mirror: truncate to %d bytes: %w", size, err)
	}
	return nil
}

// grow adds zeros. Chunks that were cut off before and come back as zeros are
// changed throughout, new ones differ nowhere from the zeros that a tree has for
// them. The last chunk, if it gets longer, is not any more what its object is.
func (m *Mirror) grow(size int64) error {
	m.touch()
	old, chunks := m.Chunks(), int((size+chunkBytes-1)/chunkBytes)
	ones := slices.Repeat([]byte{1}, min(chunks-old, chunkBytes))
	for at := old; at < chunks; at += len(ones) {
		if _, err := m.dirty.WriteAt(ones[:min(len(ones), chunks-at)], int64(at)); err != nil { // M1
			return err
		}
	}
	if in := m.size % chunkBytes; in > 0 {
		d, err := m.beforeChange(old - 1)
		if err != nil {
			return err
		}
		end := min(chunkBytes, size-int64(old-1)*chunkBytes)
		d.Set(int(in)/sectorBytes, int(end+sectorBytes-1)/sectorBytes)
	}
	if err := m.file.Truncate(size); err != nil {
		return err
	}
	m.size = size
	for i := old; i < chunks; i++ {
		m.stamp++
		m.diffs[i] = &Diff{Changed: true, Whole: i < m.cutChunks, Stamp: m.stamp}
		m.changed++
	}
	return nil
}

func (m *Mirror) shrink(size int64) error {
	m.touch()
	chunks := int((size + chunkBytes - 1) / chunkBytes)
	cut := int(size / chunkBytes) // the first chunk that changes
	if cut < chunks {
		d, err := m.beforeChange(cut)
		if err != nil {
			return err
		}
		d.Set(int(size%chunkBytes)/sectorBytes, sectorsPerChunk)
	}
	m.mu.Lock()
	for v := range m.views {
		for _, i := range v.neededFrom(cut) {
			m.setAside(i) // M4
		}
	}
	err := m.file.Truncate(size)
	m.mu.Unlock()
	if err != nil {
		return err
	}
	for i := chunks; i < m.Chunks(); i++ {
		if d := m.diffs[i]; d != nil {
			if d.Changed {
				m.changed--
			}
			delete(m.diffs, i)
		}
	}
	m.size = size
	return m.dirty.Truncate(int64(chunks))
}

// TreeHas notes that the tree of a cut, which may not come to be saved, has so many chunks:
// those that are cut off, and come back, are not what it has for them.
func (m *Mirror) TreeHas(chunks int) { m.cutChunks = max(m.cutChunks, chunks) }

// Carry notes that the last cut overrides length bytes at off by an inline page:
// the chunk's object differs there. Offsets beyond the end are ignored.
func (m *Mirror) Carry(off, length int64) {
	i := int(off / chunkBytes)
	if off < 0 || i >= m.Chunks() {
		return
	}
	if m.diffs[i] == nil {
		m.diffs[i] = new(Diff)
	}
	in := off - int64(i)*chunkBytes
	m.diffs[i].Set(int(in)/sectorBytes, min(sectorsPerChunk, int(in+length+sectorBytes-1)/sectorBytes))
}

// MarkAll notes that nothing is known of any chunk: what the last cut was is lost.
func (m *Mirror) MarkAll() error {
	m.touch() // also if there is no chunk
	for i := range m.Chunks() {
		if err := m.Doubt(i); err != nil {
			return err
		}
	}
	m.guard.doubted = false
	return nil
}

// Doubt notes that nothing is known of chunk i.
func (m *Mirror) Doubt(i int) error {
	d, err := m.beforeChange(i)
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	d.Whole = true
	return nil
}

// Settle notes how chunk i differs from the object that a saved cut names for
// it: not at all (same), or by what its Diff says. [Mirror.Cleared] must follow.
func (m *Mirror) Settle(i int, same bool) {
	d := m.diffs[i]
	if d == nil {
		return
	}
	if d.Changed {
		d.Changed = false
		m.changed--
	}
	if same {
		delete(m.diffs, i)
	}
}

// Cleared clears the bytes in dirty of the given chunks, ascending, whose cut is
// saved (M1), and notes that the cut has the mirror's length. After an error they
// stay set, which costs work but does no harm.
func (m *Mirror) Cleared(indexes []int) error {
	m.touch()
	m.cutChunks = m.Chunks()
	zeros := make([]byte, chunkBytes)
	for len(indexes) > 0 {
		n := 1
		for n < len(indexes) && n < len(zeros) && indexes[n] == indexes[0]+n {
			n++
		}
		if indexes[0]+n <= m.Chunks() {
			if _, err := m.dirty.WriteAt(zeros[:n], int64(indexes[0])); err != nil {
				return fmt.Errorf("mirror: clear dirty: %w", err)
			}
		}
		indexes = indexes[n:]
	}
	return nil
}
