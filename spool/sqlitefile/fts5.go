package sqlitefile

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"sort"
	"strings"
)

// FTS5 keeps what it knows of a table X in ordinary tables (fts5_index.c). X_data has pages of its
// own as rows, in segments; each segment is ordered by term. X_idx, a table without rowid, says
// with which term a page of a segment begins. A query looks a term up in each segment.

// FTS5Entry says that a page of a segment begins with a term, or the part of one that tells it from
// the term before.
type FTS5Entry struct {
	Segment int64
	Term    []byte
	Page    int64 // in the segment, from 1
}

// FTS5Node is a page of X_idx.
type FTS5Node struct {
	Entries  []FTS5Entry // in order
	children []uint32    // nil: a leaf; else one more than entries
}

// FTS5StructureRow is the row of X_data that lists the segments (FTS5_STRUCTURE_ROWID).
const FTS5StructureRow = 10

// FTS5Rowid returns the row of X_data that has a page of a segment (FTS5_SEGMENT_ROWID).
func FTS5Rowid(segment, page int64) int64 { return segment<<37 + page }

// FTS5Place is the inverse of [FTS5Rowid]; segment 0: the row is no page of one.
func FTS5Place(rowid int64) (segment, page int64) {
	if page = rowid & (1<<31 - 1); page == 0 || rowid>>31&(1<<6-1) != 0 {
		return 0, 0
	}
	return rowid >> 37, page
}

// ReadFTS5Node reads a page of X_idx; nil if it cannot be one, or has an entry that is continued on
// other pages. usable is the page's size without its reserved bytes; pages is the size of the file.
func ReadFTS5Node(page []byte, usable int, pages int64) *FTS5Node {
	if len(page) == 0 || usable > len(page) || usable < 480 {
		return nil
	}
	n, header, skip := &FTS5Node{}, leafHeaderBytes, 0
	switch page[0] {
	case indexLeaf:
	case indexInterior:
		header, skip = interiorHeaderBytes, 4
		if n.children = Children(page, false, pages); n.children == nil {
			return nil
		}
	default:
		return nil
	}
	cells, ok := cellPointers(page, 0, header)
	if !ok {
		return nil
	}
	local := (usable-12)*64/255 - 23 // the longest payload that needs no other page
	for k := range len(cells) / 2 {
		at := int(binary.BigEndian.Uint16(cells[2*k:])) + skip
		if at >= len(page) {
			return nil
		}
		length, rest := varint(page[at:])
		if length > uint64(local) || length > uint64(len(rest)) {
			return nil
		}
		e, ok := readFTS5Entry(rest[:length])
		if !ok || k > 0 && n.Entries[k-1].compare(e.Segment, e.Term) >= 0 {
			return nil
		}
		n.Entries = append(n.Entries, e)
	}
	return n
}

// readFTS5Entry reads a record of three columns: segid, term, and twice the page, plus a flag.
func readFTS5Entry(record []byte) (e FTS5Entry, ok bool) {
	columns := readRecord(record, 3)
	if len(columns) != 3 || !columns[0].integer || columns[1].integer || !columns[2].integer {
		return e, false
	}
	e = FTS5Entry{columns[0].number, bytes.Clone(columns[1].bytes), columns[2].number >> 1}
	return e, e.Segment > 0 && e.Page > 0
}

// compare says how e stands to a segment and term.
func (e FTS5Entry) compare(segment int64, term []byte) int {
	return cmp.Or(cmp.Compare(e.Segment, segment), bytes.Compare(e.Term, term))
}

// after returns how many entries of n are not after a segment and term.
func (n *FTS5Node) after(segment int64, term []byte) int {
	return sort.Search(len(n.Entries),
		func(k int) bool { return n.Entries[k].compare(segment, term) > 0 })
}

// Child returns the child of n under which a segment and term are; 0 if n is a leaf.
func (n *FTS5Node) Child(segment int64, term []byte) uint32 {
	if n.children == nil {
		return 0
	}
	return n.children[n.after(segment, term)]
}

// ChildAt is Child for a page of a segment: pages are in the order of their terms.
func (n *FTS5Node) ChildAt(segment, page int64) uint32 {
	if n.children == nil {
		return 0
	}
	return n.children[sort.Search(len(n.Entries), func(k int) bool {
		e := n.Entries[k]
		return cmp.Or(cmp.Compare(e.Segment, segment), cmp.Compare(e.Page, page)) > 0
	})]
}

// Join returns a leaf that says what all of nodes say, which are on one way from the root down.
func Join(nodes []*FTS5Node) *FTS5Node {
	all := &FTS5Node{}
	for _, n := range nodes {
		all.Entries = append(all.Entries, n.Entries...)
	}
	slices.SortFunc(all.Entries, func(a, b FTS5Entry) int { return a.compare(b.Segment, b.Term) })
	return all
}

// Pages returns the pages of a segment on which a term may be that is not before from, and before
// to, if that is not nil, as far as n says so.
func (n *FTS5Node) Pages(segment int64, from, to []byte) (pages []int64) {
	k := max(0, n.after(segment, from)-1)
	for _, e := range n.Entries[k:] {
		if e.Segment == segment && (to == nil || bytes.Compare(e.Term, to) < 0) {
			pages = append(pages, e.Page)
		}
	}
	return pages
}

// Range returns between which terms those on a page of a segment are, if n has its entry; to is nil
// if n does not say that.
func (n *FTS5Node) Range(segment, page int64) (from, to []byte, ok bool) {
	k := slices.IndexFunc(n.Entries,
		func(e FTS5Entry) bool { return e.Segment == segment && e.Page == page })
	if k < 0 {
		return nil, nil, false
	}
	if k+1 < len(n.Entries) && n.Entries[k+1].Segment == segment {
		to = n.Entries[k+1].Term
	}
	return n.Entries[k].Term, to, true
}

// FTS5Segments returns the segments that X_data lists, if this leaf page of it has the list.
func FTS5Segments(page []byte, usable int) (segments []int64) {
	block := tableRow(page, usable, FTS5StructureRow)
	const version2 = "\xff\x00\x00\x01"
	if len(block) < 4 {
		return nil
	}
	block = block[4:] // the cookie
	more := 0         // numbers of a segment beyond three
	if strings.HasPrefix(string(block), version2) {
		block, more = block[len(version2):], 5
	}
	next := func() (v uint64) {
		v, block = varint(block)
		return v
	}
	levels, all := next(), next()
	next() // how often it was written
	for ; levels > 0 && len(block) > 0; levels-- {
		next() // how many are being merged
		for n := next(); n > 0 && len(block) > 0; n-- {
			if id := next(); id > 0 && id < 1<<16 {
				segments = append(segments, int64(id))
			}
			for range 2 + more {
				next()
			}
		}
	}
	if uint64(len(segments)) != all {
		return nil
	}
	return segments
}

// LeafRows returns the first row and the last one on a leaf page of a table; ok is false if it is
// not one.
func LeafRows(page []byte) (first, last int64, ok bool) {
	if len(page) == 0 || page[0] != tableLeaf {
		return 0, 0, false
	}
	cells, ok := cellPointers(page, 0, leafHeaderBytes)
	if !ok || len(cells) == 0 {
		return 0, 0, false
	}
	rowid := func(k int) int64 {
		at := min(int(binary.BigEndian.Uint16(cells[k:])), len(page))
		_, rest := varint(page[at:])
		id, _ := varint(rest)
		return int64(id)
	}
	return rowid(0), rowid(len(cells) - 2), true
}

// tableRow returns the second column of a row with two, if the leaf page of a table has it whole.
func tableRow(page []byte, usable int, rowid int64) []byte {
	if len(page) == 0 || page[0] != tableLeaf || usable > len(page) {
		return nil
	}
	cells, ok := cellPointers(page, 0, leafHeaderBytes)
	if !ok {
		return nil
	}
	for k := range len(cells) / 2 {
		at := min(int(binary.BigEndian.Uint16(cells[2*k:])), len(page))
		length, rest := varint(page[at:])
		id, rest := varint(rest)
		if int64(id) != rowid {
			continue
		}
		if length > uint64(usable-35) || length > uint64(len(rest)) {
			return nil
		}
		if columns := readRecord(rest[:length], 2); len(columns) == 2 {
			return columns[1].bytes
		}
	}
	return nil
}

// column is a column of a record (section 2.1).
type column struct {
	integer bool
	number  int64  // of an integer
	bytes   []byte // of all others
}

// readRecord returns the columns of a record that has so many; nil if it does not.
func readRecord(record []byte, n int) (columns []column) {
	headerLength, types := varint(record)
	start := len(record) - len(types)
	if headerLength > uint64(len(record)) || headerLength < uint64(start) {
		return nil
	}
	types, body := record[start:headerLength], record[headerLength:]
	for len(types) > 0 && len(columns) <= n {
		var serial uint64
		serial, types = varint(types)
		length, integer := integerBytes(serial)
		switch {
		case integer:
		case serial == 7:
			length = 8
		case serial >= 12 && (serial-12)/2 <= uint64(len(body)):
			length = int(serial-12) / 2
		case serial != 0:
			return nil
		}
		if length > len(body) {
			return nil
		}
		c := column{integer: integer, bytes: body[:length]}
		if integer {
			c.number = integerOf(serial, body[:length])
		}
		columns, body = append(columns, c), body[length:]
	}
	if len(columns) != n {
		return nil
	}
	return columns
}

// integerOf returns the integer of a serial type in value (section 2.1).
func integerOf(serial uint64, value []byte) (v int64) {
	if serial == 9 {
		return 1
	}
	for k, b := range value {
		if k == 0 {
			v = int64(int8(b))
		} else {
			v = v<<8 | int64(b)
		}
	}
	return v
}

// FTS5 has the root pages of X_data, X_idx and X_config.
type FTS5 struct{ Data, Idx, Config uint32 }

// FTS5Roots returns those of each X of which the given pages of sqlite_schema name all three. The
// pages are page 1, or leaves of the schema.
func FTS5Roots(pages ...[]byte) (all []FTS5) {
	tables := tableRoots(pages)
	for name, data := range tables {
		x, ok := strings.CutSuffix(name, "_data")
		f := FTS5{data, tables[x+"_idx"], tables[x+"_config"]}
		if ok && f.Idx > 0 && f.Config > 0 {
			all = append(all, f)
		}
	}
	return all
}
