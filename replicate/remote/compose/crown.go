package compose

import (
	"sort"

	"verneuil/manifest"
	"verneuil/spool/sqlitefile"
)

// A reader that has nothing goes from page 1 to a table's root, and down level by level: a round
// trip for each. So the upper pages of all tables and indexes, the crown, stay inline, level by
// level from the top, where a whole level fits: then one trip is left, for the leaf. Which pages
// these are, the pages say. What looks like an interior page and is none costs its bytes, and
// nothing else: an inline page has what its version has there, whatever it is.

const (
	crownTrees  = 64 // tables and indexes that are looked at
	crownLevels = 20 // of a tree; SQLite's have no more
)

// crown is the upper pages of a version.
type crown struct {
	pageBytes, pages int64
	room             int
	block            func(off int64) []byte // see crownOf
	at               map[int64]bool         // offsets of blocks
}

// crownOf returns the offsets of those blocks that are the crown of a file, of which block returns
// what is to be had: BlockBytes, less where the file ends, or nil. They take no more than room.
func crownOf(
	pageBytes int, fileBytes int64, room int, block func(off int64) []byte,
) map[int64]bool {
	if pageBytes == 0 || room < BlockBytes {
		return nil
	}
	c := &crown{int64(pageBytes), fileBytes / int64(pageBytes), room, block, map[int64]bool{}}
	trees := c.roots()
	for range crownLevels {
		var below [][]uint32
		for _, level := range trees {
			if next := c.add(level); next != nil {
				below = append(below, next)
			}
		}
		trees = below
	}
	return c.at
}

// crownInline is crownOf of what m has inline.
func (c *Composer) crownInline(m *manifest.Manifest) map[int64]bool {
	return crownOf(m.PageBytes, m.FileBytes, c.o.Budgets.Crown, inlineBlocks(m))
}

// inlineBlocks returns m's inline pages that are whole blocks, or the last one as far as it goes.
func inlineBlocks(m *manifest.Manifest) func(off int64) []byte {
	return func(off int64) []byte {
		k := sort.Search(len(m.Inline), func(k int) bool { return m.Inline[k].Offset >= off })
		if k == len(m.Inline) || m.Inline[k].Offset != off ||
			len(m.Inline[k].Data) != blockIn(off, m.FileBytes) {
			return nil
		}
		return m.Inline[k].Data
	}
}

// blockIn returns how many bytes a file of fileBytes has of the block at off; 0 if it ends within a
// sector of that block, which cannot be inline then.
func blockIn(off, fileBytes int64) int {
	n := min(BlockBytes, fileBytes-off)
	if n < 0 || n%sectorBytes > 0 {
		return 0
	}
	return int(n)
}

// page returns a page; nil: it is not to be had.
func (c *crown) page(n uint32) []byte {
	if n < 1 || int64(n) > c.pages {
		return nil
	}
	off := int64(n-1) * c.pageBytes
	if c.pageBytes <= BlockBytes {
		block, at := c.block(off/BlockBytes*BlockBytes), off%BlockBytes
		if int64(len(block)) < at+c.pageBytes {
			return nil
		}
		return block[at:][:c.pageBytes]
	}
	page := make([]byte, 0, c.pageBytes)
	for end := off + c.pageBytes; off < end; off += BlockBytes {
		block := c.block(off)
		if block == nil {
			return nil
		}
		page = append(page, block...)
	}
	return page
}

// roots returns the roots of all trees, each as a level of its own. Of a schema that page 1 has no
// room for, the other pages belong to the crown.
func (c *crown) roots() (trees [][]uint32) {
	schema := c.page(1)
	if schema == nil {
		return nil
	}
	leaves := [][]byte{schema}
	if level := sqlitefile.Children(schema, true, c.pages); level != nil && c.fits(level) {
		leaves = nil
		for _, n := range level {
			if page := c.page(n); page != nil {
				c.mark(n)
				leaves = append(leaves, page)
			}
		}
	}
	for k, page := range leaves {
		first := k == 0 && &page[0] == &schema[0]
		for _, root := range sqlitefile.SchemaRoots(page, first, crownTrees-len(trees)) {
			trees = append(trees, []uint32{root})
		}
	}
	return trees
}

// add adds a level of a tree, if it is of interior pages, and fits. It returns the level below it;
// nil: that does not belong to the crown.
func (c *crown) add(level []uint32) (below []uint32) {
	if !c.fits(level) {
		return nil
	}
	for _, n := range level {
		page := c.page(n)
		if page == nil {
			continue
		}
		children := sqlitefile.Children(page, false, c.pages)
		if children == nil { // as a rule all are leaves, then
			return below
		}
		c.mark(n)
		below = append(below, children...)
	}
	return below
}

// fits reports whether there is room for pages.
func (c *crown) fits(pages []uint32) bool {
	return len(pages)*int(max(c.pageBytes, BlockBytes)) <= c.room
}

// mark adds a page.
func (c *crown) mark(n uint32) {
	off := int64(n-1) * c.pageBytes
	for at := off / BlockBytes * BlockBytes; at < off+c.pageBytes; at += BlockBytes {
		if !c.at[at] {
			c.at[at] = true
			c.room -= BlockBytes
		}
	}
}

// without returns the parts of s, ascending, that are in no block of at.
func without(s span, at map[int64]bool) (parts []span) {
	for off := s.from / BlockBytes * BlockBytes; off < s.to; off += BlockBytes {
		if !at[off] {
			continue
		}
		if s.from < off {
			parts = append(parts, span{s.from, off})
		}
		s.from = max(s.from, off+BlockBytes)
	}
	if s.from < s.to {
		parts = append(parts, s)
	}
	return parts
}
