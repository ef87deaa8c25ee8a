package cutter

import (
	"bytes"
	"slices"

	"verneuil/chunkstore"
	"verneuil/spool/sqlitefile"
)

// A reader that has nothing begins with page 1 and goes on to a root: first the leaf
// of the tree that names the chunk, then the chunk, for one page that hardly ever
// changes. So the interior root pages that the schema names travel inline, too, whole,
// even where they are as in their chunk's object. (A root that is a leaf is all of its
// table, and changes with it. But sqlite_stat1's travels: SQLite reads it with the schema, and only
// ANALYZE changes it.) So do the pages below such a root, if they are interior, too, and
// all of them fit: of a table of a GiB there are two or three, in chunks and leaves of their own.
//
// Such a page is some cells and free space. But free space holds what was there when
// the tree grew, unless secure_delete cleared it: of rows that do not compress 3 to 4 KiB,
// in every manifest. So what roots take, sectors of changed chunks lack: InlineBytesMax is
// for both.
const (
	// rootsBytesMax bounds what root pages take in a manifest, compressed one by
	// one: one page of 4 KiB that does not compress, or many that do; and childrenBytesMax what
	// they take with those below.
	rootsBytesMax    = 4<<10 + 64
	childrenBytesMax = 12 << 10
	// rootsPlainMax bounds the same before compression.
	rootsPlainMax = 64 << 10
	// rootsMax bounds how many tables and indexes are looked at, the oldest first.
	rootsMax = 32
)

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
func (c *planner) takeRoots(pageBytes int) roots {
	page := make([]byte, pageBytes)
	if _, err := c.db.ReadAt(page, 0); err != nil {
		return roots{}
	}
	stale := !bytes.Equal(c.roots.schema, page[sqlitefile.HeaderBytes:])
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
func (c *planner) findRoots(first []byte) roots {
	r := roots{schema: first[sqlitefile.HeaderBytes:]}
	pages := c.db.Size() / int64(len(first))
	plain := 0
	var below [][]uint32
	for _, root := range sqlitefile.SchemaRoots(first, true, rootsMax) {
		off := (int64(root) - 1) * int64(len(first))
		if off+int64(len(first)) > c.db.Size() || slices.Contains(r.named, off) {
			continue
		}
		r.named = append(r.named, off)
		page, packed := c.read(root, len(first), sqlitefile.IsInterior)
		if page == nil || plain+len(page) > rootsPlainMax || r.packed+packed > rootsBytesMax {
			continue
		}
		plain += len(page)
		r.add(root, len(page), packed)
		below = append(below, sqlitefile.Children(page, false, pages))
	}
	stat := sqlitefile.StatRoot(first)
	page, packed := c.read(stat, len(first), sqlitefile.IsTableLeaf)
	if page != nil && r.packed+packed <= childrenBytesMax {
		plain += len(page)
		r.add(stat, len(page), packed)
	}
	for _, children := range below {
		if plain+len(children)*len(first) <= rootsPlainMax {
			plain += c.addAll(&r, children, len(first))
		}
	}
	return r
}

// add has a page travel that takes so many bytes.
func (r *roots) add(page uint32, bytes, packed int) {
	r.pages = append(r.pages, pageRange{(int64(page) - 1) * int64(bytes), bytes})
	r.packed += packed
}

// addAll adds pages that are all interior, if they fit. It returns how many bytes that is.
func (c *planner) addAll(r *roots, pages []uint32, pageBytes int) (plain int) {
	all := 0
	var sizes []int
	for _, page := range pages {
		off := (int64(page) - 1) * int64(pageBytes)
		b, packed := c.read(page, pageBytes, sqlitefile.IsInterior)
		if all += packed; b == nil || r.packed+all > childrenBytesMax ||
			slices.Contains(r.named, off) {
			return 0
		}
		sizes = append(sizes, packed)
	}
	for k, page := range pages {
		r.named = append(r.named, (int64(page)-1)*int64(pageBytes))
		r.add(page, pageBytes, sizes[k])
	}
	return len(pages) * pageBytes
}

// read reads a page, and returns what it takes in a manifest; nil if it is not there, or is not of
// a type, its first byte, that is wanted.
func (c *planner) read(
	page uint32, pageBytes int, wanted func(pageType byte) bool,
) (b []byte, packed int) {
	off := (int64(page) - 1) * int64(pageBytes)
	if page < 2 || off+int64(pageBytes) > c.db.Size() {
		return nil, 0
	}
	b = make([]byte, pageBytes)
	if _, err := c.db.ReadAt(b, off); err != nil || !wanted(b[0]) {
		return nil, 0
	}
	return b, c.db.sealedBytes(b) + inlineOverhead
}
