package manifest

//go:generate protoc --go_out=. --go_opt=paths=source_relative manifestpb/manifest.proto

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"sort"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest/history"
)

const (
	// BytesMax bounds a stored manifest and its plain body. Inline pages are what
	// makes one large; the tree's share is 5 KiB for the top and 90 bytes per
	// patch. It also bounds what a hostile body can make Decode allocate: some
	// 70 bytes for each of its own.
	BytesMax = 1 << 20

	// fileBytesMax is SQLite's limit: pages of 64 KiB. So chunks can be counted in 32 bits.
	fileBytesMax = (1<<32 - 2) << 16

	// sector is what offsets and lengths of inline pages are multiples of:
	// SQLite's smallest page.
	sector = 512
)

// Manifest is one version of one database. It does not change once it is
// encoded or decoded; then any number of goroutines may read it.
type Manifest struct {
	Host    string // the source's name, valid UTF-8
	Path    string // the database's absolute path on it, any bytes
	Program string // the program that wrote the manifest, with its version

	Lineage  [16]byte // names a chain of versions, each the successor of the one before
	Epoch    uint64   // raised when another writer takes the name over
	Sequence uint64   // of this version in its epoch
	Cut      [16]byte // drawn at random when it was cut: the same wherever it was put

	// Continuity is the same in two versions of one lineage and epoch only if nothing but
	// transactions that SQLite told the recorder of lies between them. 0: unknown.
	Continuity uint64

	// Stores are the identities of the chunk buckets that have the version's objects, or are
	// to have them: one for each target of the writer. In order, without duplicates.
	Stores []chunkstore.Identity

	Time        time.Time // when the version was cut, by the writer's clock; zero: unknown
	SourceCtime time.Time // st_ctim of the database; zero: unknown

	FileBytes     int64  // length of the database file
	PageBytes     int    // SQLite's page size: 512 to 65,536, or 0 for an empty file
	ChangeCounter uint32 // bytes 24 to 27 of the database

	// Earlier says that Levels and Top are an earlier version's; nil: this one's. It is so in what
	// records make of a checkpoint.
	Earlier *Extent
	// At is how far the target's history goes with this version; zero: it is in none.
	At history.Position

	Levels  int              // how far Top stands above the chunks
	Top     []chunkstore.Ref // at most 64; see [Tree.Pack]
	Patches []Patch          // ascending by Index
	Inline  []Page           // ascending by Offset
}

// Extent is how far the top of an earlier version goes: it is for so many chunks, of which those
// from Valid on are void: they are zeros, but for patches.
type Extent struct{ Chunks, Valid int }

// Patch overrides the tree's entry for one chunk.
type Patch struct {
	Index int // of the chunk, from 0
	chunkstore.Ref
}

// Page overrides bytes of one chunk: Data stands at Offset of the file. Both
// Offset and len(Data) are multiples of 512, and it lies in one chunk.
type Page struct {
	Offset int64
	Data   []byte
}

// Covered reports whether pages, which are ascending, leave out nothing of the file between from
// and to.
func Covered(pages []Page, from, to int64) bool {
	for _, p := range pages {
		if from >= to || p.Offset > from {
			break
		}
		from = max(from, p.Offset+int64(len(p.Data)))
	}
	return from >= to
}

// Alone returns the version as one that is in no history, and is what it is wherever it stands. It
// shares memory with m.
func (m *Manifest) Alone() *Manifest {
	alone := *m
	alone.At = history.Position{}
	return &alone
}

// Chunks returns the number of chunks that the file has.
func (m *Manifest) Chunks() int {
	return int((m.FileBytes + chunkstore.ChunkBytes - 1) / chunkstore.ChunkBytes)
}

// ChunkBytes returns the length of chunk i: 65,536, or less for the last one.
func (m *Manifest) ChunkBytes(i int) int {
	return int(min(chunkstore.ChunkBytes, m.FileBytes-int64(i)*chunkstore.ChunkBytes))
}

// Leaf returns the leaf of the tree that chunk i is in, whatever patches say; ok is false if the
// top does not name it.
func (m *Manifest) Leaf(i int) (leaf chunkstore.Ref, ok bool) {
	if m.Levels != 1 || i >= m.extent().Valid {
		return chunkstore.Ref{}, false
	}
	return m.Top[i/fanout], true
}

// Overlay returns the bytes of chunk i in a new buffer: base, which is what the
// tree has for i (nil for zeros), cut or zero-extended to
// ChunkBytes(i), with the inline pages of the chunk laid over it.
func (m *Manifest) Overlay(i int, base []byte) []byte {
	chunk := make([]byte, m.ChunkBytes(i))
	copy(chunk, base)
	start := int64(i) * chunkstore.ChunkBytes
	for _, p := range m.InlineOf(i) {
		copy(chunk[p.Offset-start:], p.Data)
	}
	return chunk
}

// InlineOf returns the inline pages that lie in chunk i, as a part of m.Inline.
func (m *Manifest) InlineOf(i int) []Page {
	start := int64(i) * chunkstore.ChunkBytes
	at := func(off int64) int {
		return sort.Search(len(m.Inline), func(k int) bool { return m.Inline[k].Offset >= off })
	}
	return m.Inline[at(start):at(start+chunkstore.ChunkBytes)]
}

// validate checks all that I1 demands but the encoding itself.
func (m *Manifest) validate() error {
	if m.FileBytes < 0 || m.FileBytes > fileBytesMax {
		return fmt.Errorf("file of %d bytes", m.FileBytes)
	}
	if !validPageBytes(m.PageBytes) && (m.PageBytes != 0 || m.FileBytes != 0) {
		return fmt.Errorf("page size %d", m.PageBytes)
	}
	chunks := m.Chunks()
	if err := m.validateTop(); err != nil {
		return err
	}
	for k := range m.Stores {
		if k > 0 && bytes.Compare(m.Stores[k-1][:], m.Stores[k][:]) >= 0 {
			return errors.New("stores out of order")
		}
	}
	last := -1
	for _, p := range m.Patches {
		if p.Index <= last || p.Index >= chunks {
			return fmt.Errorf("patch of chunk %d after that of %d, of %d chunks", p.Index, last,
				chunks)
		}
		last = p.Index
	}
	if _, err := m.placed(); err != nil {
		return err
	}
	return m.validateInline()
}

func (m *Manifest) validateTop() error {
	chunks := m.Chunks()
	if e := m.Earlier; e != nil {
		if e.Chunks < 0 || e.Valid < 0 || e.Valid > e.Chunks || e.Valid > chunks {
			return fmt.Errorf("%d of %d earlier chunks, where there are %d", e.Valid, e.Chunks,
				chunks)
		}
		chunks = e.Chunks
	} else if m.Levels == 0 && len(m.Patches) > 0 {
		return errors.New("patches without a tree")
	}
	if want := levelsFor(chunks); m.Levels != want {
		return fmt.Errorf("%d levels for %d chunks, want %d", m.Levels, chunks, want)
	}
	if want := ceilDiv(chunks, span(m.Levels)); len(m.Top) != want {
		return fmt.Errorf("%d top entries for %d chunks, want %d", len(m.Top), chunks, want)
	}
	return nil
}

// CheckPlaced fails with [chunkstore.ErrCorrupt] if m does not say of all that its top and patches
// name where it stands: then it is none that a target has.
func (m *Manifest) CheckPlaced() error {
	for ref := range m.refs() {
		if ref.ID != chunkstore.ZeroID && ref.Place == (chunkstore.Place{}) {
			return fmt.Errorf("object %v has no place: %w", ref.ID, chunkstore.ErrCorrupt)
		}
	}
	return nil
}

// placed is [placed] of what top and patches name.
func (m *Manifest) placed() (bool, error) {
	var all placing
	for ref := range m.refs() {
		if err := all.add(ref); err != nil {
			return false, err
		}
	}
	return all.end()
}

// refs yields what top and patches name, in this order.
func (m *Manifest) refs() iter.Seq[*chunkstore.Ref] {
	return func(yield func(*chunkstore.Ref) bool) {
		for k := range m.Top {
			if !yield(&m.Top[k]) {
				return
			}
		}
		for k := range m.Patches {
			if !yield(&m.Patches[k].Ref) {
				return
			}
		}
	}
}

func (m *Manifest) validateInline() error {
	end := int64(0)
	for _, p := range m.Inline {
		n := int64(len(p.Data))
		switch {
		case n == 0 || n%sector != 0 || p.Offset%sector != 0:
			return fmt.Errorf("inline page of %d bytes at %d: not a multiple of %d", n, p.Offset,
				sector)
		case p.Offset < end:
			return fmt.Errorf("inline page at %d overlaps the one before, or is out of order",
				p.Offset)
		case p.Offset > m.FileBytes-n:
			return fmt.Errorf("inline page of %d bytes at %d: beyond the file's %d", n, p.Offset,
				m.FileBytes)
		case p.Offset/chunkstore.ChunkBytes != (p.Offset+n-1)/chunkstore.ChunkBytes:
			return fmt.Errorf("inline page of %d bytes at %d: crosses the end of a chunk", n,
				p.Offset)
		}
		end = p.Offset + n
	}
	return nil
}

func validPageBytes(n int) bool {
	return n >= 512 && n <= 65536 && n&(n-1) == 0
}
