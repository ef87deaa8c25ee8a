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
	page := make([]byte, len(first))
	plain := 0
	for _, root := range sqlitefile.SchemaRoots(first, rootsMax) {
		off := (int64(root) - 1) * int64(len(page))
		if off+int64(len(page)) > c.db.Size() || slices.Contains(r.named, off) {
			continue
		}
		r.named = append(r.named, off)
		_, err := c.db.ReadAt(page, off)
		if err != nil || !sqlitefile.IsInterior(page[0]) || plain+len(page) > rootsPlainMax {
			continue
		}
		if n := c.db.sealedBytes(page) + inlineOverhead; r.packed+n <= rootsBytesMax {
			plain += len(page)
			r.packed += n
			r.pages = append(r.pages, pageRange{off, len(page)})
		}
	}
	return r
}
