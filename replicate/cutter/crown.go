package cutter

import (
	"bytes"
	"maps"
	"math"
	"slices"

	"verneuil/chunkstore"
	"verneuil/spool/sqlitefile"
)

// A reader that has nothing begins with page 1, goes on to what of the schema has no room there and
// to a root, and down level by level: a round trip for each, and a chunk of 64 KiB for one page
// that hardly ever changes. So the upper pages of all tables and indexes, the crown, travel inline,
// too, whole, even where they are as in their chunk's object: the schema, what SQLite reads with it
// (sqlite_stat1, which only ANALYZE changes), roots, and then level by level what is below them,
// the least level first, where all of it is interior, and fits. Then one trip is left for the leaf,
// of the tables of most applications; of a table of a GiB, the lowest of its interior levels has
// 700 pages, which lie in chunks, and leaves of the tree, of their own. (A root that is a leaf is
// all of its table, and changes with it.)
//
// Such a page is some cells and free space. But free space holds what was there when the tree grew,
// unless secure_delete cleared it: of rows that do not compress 3 to 4 KiB. So what counts is what
// pages take, compressed one by one.
const (
	// crownBytesMax bounds what the crown takes in a manifest: as much as one chunk. A level that
	// travelled before may take crownSlack more: it shall not come and go with each cut.
	crownBytesMax = 64 << 10
	crownSlack    = 4 << 10
	// crownPlainMax bounds the same before compression, which who writes and who reads have in
	// memory.
	crownPlainMax = 128 << 10
	// crownNearMax bounds how many chunks are near: see findNear. Each takes some 60 bytes in a
	// checkpoint. The lowest interior level of a table of a GiB has 700 pages, in as many chunks.
	crownNearMax = 1024
	// crownTrees bounds how many tables and indexes are looked at, the oldest first.
	crownTrees = 64
)

// crown is which pages travel inline, but page 1, whatever becomes of their chunks.
type crown struct {
	schema []byte               // page 1 without its header; nil: not read yet
	looked map[int64]*crownPage // those that say which pages these are, by where they are
	pages  []pageRange          // those that travel, in no order
	near   []int                // chunks that have the levels below those, ascending
}

// crownPage is a page that was looked at.
type crownPage struct {
	data   []byte // does not change; nil: it does not travel
	packed int    // what it takes in a manifest
}

// takeCrown returns the pages that travel inline. It reads no more than page 1, and of chunks that
// have changed since the last cut those that say which pages these are, unless the schema or one of
// them has changed. What cannot be read does not travel.
func (c *planner) takeCrown(pageBytes int) []pageRange {
	first, page := make([]byte, pageBytes), make([]byte, pageBytes)
	if _, err := c.db.ReadAt(first, 0); err != nil {
		return nil
	}
	stale := !bytes.Equal(c.crown.schema, first[sqlitefile.HeaderBytes:])
	for off, was := range c.crown.looked {
		stale = stale || c.stale(off, was, page)
	}
	if stale {
		c.crown = c.findCrown(first)
	}
	return c.crown.pages
}

// stale reports whether the page at off, which buf has room for, may be another than it was.
func (c *planner) stale(off int64, was *crownPage, buf []byte) bool {
	if off+int64(len(buf)) > c.db.Size() {
		return true
	}
	if d := c.db.Diff(int(off / chunkstore.ChunkBytes)); d == nil || !d.Changed {
		return false
	}
	_, err := c.db.ReadAt(buf, off)
	if was.data == nil {
		return err != nil || sqlitefile.IsInterior(buf[0])
	}
	return err != nil || !bytes.Equal(buf, was.data)
}

// findCrown goes down from page 1.
func (c *planner) findCrown(first []byte) crown {
	w := &crownWalk{
		crown: crown{schema: first[sqlitefile.HeaderBytes:], looked: map[int64]*crownPage{}},
		db:    c.db, was: c.crown.looked, page: make([]byte, len(first)),
	}
	schema, inFirst := [][]byte{first}, true
	if below := w.children(first, true); below != nil {
		schema, inFirst = w.take(below, sqlitefile.IsTableLeaf), false
	}
	if stat := sqlitefile.StatRoot(schema...); stat > 0 {
		w.takeAll(stat)
	}
	var levels [][]uint32 // below the pages that travel
	trees := crownTrees
	for _, leaf := range schema {
		roots := sqlitefile.SchemaRoots(leaf, inFirst, trees)
		trees -= len(roots)
		for _, root := range roots {
			levels = append(levels, w.below([]uint32{root}))
		}
	}
	for len(levels) > 0 {
		slices.SortStableFunc(levels, func(a, b []uint32) int { return len(a) - len(b) })
		var next [][]uint32
		for _, level := range levels {
			if below := w.below(level); below != nil {
				next = append(next, below)
			}
		}
		levels = next
	}
	w.findNear()
	return w.crown
}

// findNear has near what a reader comes to after the pages that travel: the chunks of the levels
// below them, as far as they are few, interior ones first. Where those chunks stand, a checkpoint
// of a large database says itself (Near of manifest.Tree).
func (w *crownWalk) findNear() {
	leaf := make([]byte, 1)
	rank := func(level []uint32) int {
		if _, err := w.db.ReadAt(leaf, w.offset(level[0])); err != nil {
			return math.MaxInt
		} else if !sqlitefile.IsInterior(leaf[0]) {
			return crownNearMax + len(level)
		}
		return len(level)
	}
	near := make(map[int]bool)
	slices.SortStableFunc(w.left, func(a, b []uint32) int { return rank(a) - rank(b) })
	for _, level := range w.left {
		chunks := make(map[int]bool)
		for _, page := range level {
			off := w.offset(page)
			i := int(off / chunkstore.ChunkBytes)
			if was := w.looked[off]; (was == nil || was.data == nil) && i > 0 && i < w.db.chunks() {
				chunks[i] = !near[i]
			}
		}
		maps.DeleteFunc(chunks, func(_ int, fresh bool) bool { return !fresh })
		if len(near)+len(chunks) <= crownNearMax {
			maps.Copy(near, chunks)
		}
	}
	w.near = slices.Sorted(maps.Keys(near))
}

// crownWalk makes a crown.
type crownWalk struct {
	crown
	db    contents
	was   map[int64]*crownPage // of the crown before
	page  []byte               // has room for one
	bytes int                  // that the crown takes
	left  [][]uint32           // levels that do not travel, below those that do
}

func (w *crownWalk) offset(page uint32) int64 { return (int64(page) - 1) * int64(len(w.page)) }

func (w *crownWalk) children(page []byte, first bool) []uint32 {
	return sqlitefile.Children(page, first, w.db.Size()/int64(len(w.page)))
}

// takeAll takes a small table, all of which SQLite reads.
func (w *crownWalk) takeAll(root uint32) {
	level := []uint32{root}
	if below := w.below(level); below != nil {
		level = below
	}
	w.take(level, sqlitefile.IsTableLeaf)
}

// below takes a level of interior pages. It returns the level below it; nil if that one, or this
// one, does not travel.
func (w *crownWalk) below(level []uint32) (below []uint32) {
	pages := w.take(level, sqlitefile.IsInterior)
	if pages == nil && len(level) > 0 {
		w.left = append(w.left, level)
	}
	for _, page := range pages {
		children := w.children(page, false)
		if children == nil {
			return nil
		}
		below = append(below, children...)
	}
	return below
}

// take has all pages of a level travel, if each has a type, its first byte, that is wanted, and
// they fit. It returns them, or nil.
func (w *crownWalk) take(level []uint32, wanted func(pageType byte) bool) (data [][]byte) {
	if (len(w.pages)+len(level))*len(w.page) > crownPlainMax {
		return nil
	}
	taken, most := w.bytes, crownBytesMax
	var pages []*crownPage
	for k, n := range level {
		off := w.offset(n)
		if was := w.was[off]; was != nil && was.data != nil {
			most = crownBytesMax + crownSlack
		}
		page := w.read(n, wanted)
		if page == nil || slices.Contains(level[:k], n) {
			w.look(n)
			return nil
		}
		if taken += page.packed; taken > most {
			return nil
		}
		pages = append(pages, page)
	}
	w.bytes = taken
	for k, page := range pages {
		off := w.offset(level[k])
		w.looked[off] = page
		w.pages = append(w.pages, pageRange{off, len(page.data), page.data})
		data = append(data, page.data)
	}
	return data
}

// look has the crown found anew when a page becomes interior that does not travel.
func (w *crownWalk) look(page uint32) {
	off := w.offset(page)
	if page > 1 && w.looked[off] == nil && off+int64(len(w.page)) <= w.db.Size() {
		w.looked[off] = &crownPage{}
	}
}

// read reads a page that does not travel yet; nil if there is none, or its type is not wanted.
// What is as it was shares its memory.
func (w *crownWalk) read(page uint32, wanted func(pageType byte) bool) *crownPage {
	off := w.offset(page)
	if p := w.looked[off]; p != nil && p.data != nil {
		return nil
	}
	if page < 2 || off+int64(len(w.page)) > w.db.Size() {
		return nil
	}
	if _, err := w.db.ReadAt(w.page, off); err != nil || !wanted(w.page[0]) {
		return nil
	}
	if was := w.was[off]; was != nil && bytes.Equal(was.data, w.page) {
		return was
	}
	return &crownPage{bytes.Clone(w.page), w.db.sealedBytes(w.page) + inlineOverhead}
}
