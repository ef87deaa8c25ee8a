package cutter

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"

	"verneuil/chunkstore"
)

// A reader that has nothing begins with page 1 and goes on to a root: first the leaf
// of the tree that names the chunk, then the chunk, for one page that hardly ever
// changes. So the interior root pages that the schema names travel inline, too, whole,
// even where they are as in their chunk's object. (A root that is a leaf is all of its
// table, and changes with it.)
//
// Such a page is some cells and free space. But free space holds what was there when
// the tree grew, unless secure_delete cleared it: of rows that do not compress 3 to 4 KiB,
// in every manifest. So what roots take, sectors of changed chunks lack: InlineBytesMax is
// for both.
const (
	// rootsBytesMax bounds what root pages take in a manifest, compressed one by
	// one: one page of 4 KiB that does not compress, or many that do.
	rootsBytesMax = 4<<10 + 64
	// rootsPlainMax bounds the same before compression.
	rootsPlainMax = 64 << 10
	// RootsMax bounds how many tables and indexes are looked at, the oldest first.
	RootsMax = 32
)

// headerBytes is the length of SQLite's database header.
const headerBytes = 100

// isInterior: the types of interior pages, of an index and of a table.
func isInterior(pageType byte) bool { return pageType == 2 || pageType == 5 }

// roots is which root pages travel inline.
type roots struct {
	schema []byte      // page 1 without its header, from which named is; nil: not read yet
	named  []int64     // where the root pages are
	pages  []pageRange // those that travel, in the schema's order
	packed int         // bytes that they take
}

// takeRoots returns the root pages that travel inline. It reads no more than page 1
// unless the schema, or a chunk with one of them, has changed since the last cut.
// What cannot be read does not travel.
func (c *Cutter) takeRoots(pageBytes int) roots {
	page := make([]byte, pageBytes)
	if _, err := c.db.ReadAt(page, 0); err != nil {
		return roots{}
	}
	stale := !bytes.Equal(c.roots.schema, page[headerBytes:])
	for _, off := range c.roots.named {
		d := c.db.Diff(int(off / chunkstore.ChunkBytes))
		stale = stale || d != nil && d.Changed || off+int64(pageBytes) > c.db.Size()
	}
	if stale {
		c.roots = c.findRoots(page)
	}
	return c.roots
}

// findRoots looks at the pages that page 1 names.
func (c *Cutter) findRoots(first []byte) roots {
	r := roots{schema: first[headerBytes:]}
	page := make([]byte, len(first))
	plain := 0
	for _, root := range SchemaRoots(first, RootsMax) {
		off := (int64(root) - 1) * int64(len(page))
		if off+int64(len(page)) > c.db.Size() || slices.Contains(r.named, off) {
			continue
		}
		r.named = append(r.named, off)
		_, err := c.db.ReadAt(page, off)
		if err != nil || !isInterior(page[0]) || plain+len(page) > rootsPlainMax {
			continue
		}
		if n := len(chunkstore.EncodeObject(page)) + inlineOverhead; r.packed+n <= rootsBytesMax {
			plain += len(page)
			r.packed += n
			r.pages = append(r.pages, pageRange{off, len(page)})
		}
	}
	return r
}

// SchemaRoots returns the root pages, in order and at most so many, that page 1 names if
// it is all of sqlite_schema; none if that is larger. (File format, sections 1.6, 2.1 and
// 2.6.) What it is given may be anything, and what it returns any number from 2.
func SchemaRoots(page []byte, max int) (roots []uint32) {
	const typeTableLeaf, leafHeader = 13, 8
	if len(page) < headerBytes+leafHeader || page[headerBytes] != typeTableLeaf {
		return nil
	}
	pointers := page[headerBytes+leafHeader:]
	cells := min(int(binary.BigEndian.Uint16(page[headerBytes+3:])), len(pointers)/2)
	for k := 0; k < cells && len(roots) < max; k++ {
		at := int(binary.BigEndian.Uint16(pointers[2*k:]))
		if root, ok := schemaRoot(page[min(at, len(page)):]); ok {
			roots = append(roots, root)
		}
	}
	return roots
}

// schemaRoot returns the column rootpage of the row in a cell of sqlite_schema: the
// fourth, after three texts. Views and triggers have none. That the row's SQL may go on in
// other pages does not matter, as it comes last.
func schemaRoot(cell []byte) (root uint32, ok bool) {
	_, cell = varint(cell)    // of the payload, its length
	_, cell = varint(cell)    // rowid
	at, types := varint(cell) // where the columns begin
	for range 3 {
		var text uint64 // its length, times 2, and 13
		text, types = varint(types)
		if at > uint64(len(cell)) || text < 13 || text > math.MaxUint16 {
			return 0, false
		}
		at += (text - 13) / 2
	}
	n, _ := varint(types) // the bytes of an integer, if at most 4
	if n < 1 || n > 4 || at+n > uint64(len(cell)) {
		return 0, false
	}
	for _, b := range cell[at : at+n] {
		root = root<<8 | uint32(b)
	}
	return root, root > 1
}

// varint reads SQLite's integers: 7 bits a byte, the highest first, 8 of the ninth. At
// the end of b it is 0.
func varint(b []byte) (v uint64, rest []byte) {
	for k, c := range b {
		if k == 8 {
			return v<<8 | uint64(c), b[9:]
		}
		v = v<<7 | uint64(c&0x7f)
		if c < 0x80 {
			return v, b[k+1:]
		}
	}
	return 0, nil
}
