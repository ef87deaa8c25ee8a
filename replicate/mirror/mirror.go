package mirror

import (
	"fmt"
	"io"
	"slices"
	"sync"

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
	files
	differences
	size int64
	old  []byte

	mu    sync.Mutex // guards what views share: file's contents, views, aside
	views map[*View]struct{}
	aside *aside
}

// Open opens the mirror in dir, or makes an empty one.
func Open(dir string) (*Mirror, error) {
	m := &Mirror{
		files: files{dir: dir}, differences: newDifferences(),
		views: make(map[*View]struct{}), aside: newAside(dir),
	}
	if err := m.open(); err != nil {
		m.Close()
		return nil, fmt.Errorf("open mirror: %w", err)
	}
	return m, nil
}

func (m *Mirror) open() error {
	bytes, err := m.files.open()
	if err != nil {
		return err
	}
	m.size = bytes
	st, err := m.dirty.Stat()
	if err != nil {
		return err
	}
	if st.Size() != int64(m.Chunks()) {
		m.whole = false
		if err := m.dirty.Truncate(int64(m.Chunks())); err != nil { // M2
			return err
		}
	}
	return m.loadDirty()
}

// Rest closes the files until [Mirror.Resume]: nothing else may be called in between,
// but Close. It returns false, and does nothing, while there are views.
func (m *Mirror) Rest() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.views) > 0 {
		return false
	}
	m.old = nil
	m.rest()
	return true
}

// Resume opens the files again. After an error the mirror is of no use.
func (m *Mirror) Resume() error {
	if err := m.resume(); err != nil {
		return fmt.Errorf("resume mirror: %w", err)
	}
	return nil
}

func (m *Mirror) loadDirty() error {
	b := make([]byte, chunkBytes)
	for at := 0; at < m.Chunks(); at += len(b) {
		n := min(len(b), m.Chunks()-at)
		r := io.NewSectionReader(m.dirty, int64(at), int64(n))
		if _, err := io.ReadFull(r, b[:n]); err != nil {
			return err
		}
		for k, dirty := range b[:n] {
			if dirty != 0 {
				m.add(at+k, &Diff{Changed: true, Whole: true}) // M3
			}
		}
	}
	return nil
}

// Close closes the files. Views are of no use afterwards.
func (m *Mirror) Close() error {
	err := m.close()
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

// WriteAt changes the mirror. Bytes that are there already are neither written nor
// marked, so that to apply a record again costs nothing later.
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

// oldBytes returns a buffer of n bytes, for what the file had before a write.
func (m *Mirror) oldBytes(n int) []byte {
	if m.old == nil {
		m.old = make([]byte, chunkBytes)
	}
	return m.old[:n]
}

// beforeChange notes that chunk i is about to change (M1), and returns its Diff.
func (m *Mirror) beforeChange(i int) (*Diff, error) {
	m.touch()
	if d := m.diffs[i]; d == nil || !d.Changed {
		if _, err := m.dirty.WriteAt([]byte{1}, int64(i)); err != nil {
			return nil, err
		}
	}
	return m.change(i), nil
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

// grow adds zeros. Chunks that were cut off before, and come back as zeros, have changed
// throughout. New ones differ nowhere from the zeros that a tree has for them. The last chunk, if
// it gets longer, is no longer what its object is.
func (m *Mirror) grow(size int64) error {
	m.touch()
	old, chunks := m.Chunks(), int((size+chunkBytes-1)/chunkBytes)
	ones := slices.Repeat([]byte{1}, min(chunks-old, chunkBytes))
	for at := old; at < chunks; at += len(ones) {
		n := min(len(ones), chunks-at)
		if _, err := m.dirty.WriteAt(ones[:n], int64(at)); err != nil { // M1
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
		m.appear(i)
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
		m.forget(i)
	}
	m.size = size
	return m.dirty.Truncate(int64(chunks))
}

// Carry notes that the last cut overrides length bytes at off by an inline page:
// the chunk's object differs there. Offsets beyond the end are ignored.
func (m *Mirror) Carry(off, length int64) {
	i := int(off / chunkBytes)
	if off < 0 || i >= m.Chunks() {
		return
	}
	in := off - int64(i)*chunkBytes
	m.of(i).Set(int(in)/sectorBytes, min(sectorsPerChunk, int(in+length+sectorBytes-1)/sectorBytes))
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
