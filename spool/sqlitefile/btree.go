package sqlitefile

import (
	"encoding/binary"
	"math"
	"strings"
)

// The types of b-tree pages that we distinguish here, and the lengths of the headers at their
// beginning (file format, section 1.6).
const (
	indexInterior = 2
	tableInterior = 5
	tableLeaf     = 13

	interiorHeaderBytes = 12
	leafHeaderBytes     = 8
)

// IsTableLeaf reports whether a page that begins with this byte is a leaf of a table. Pages that
// are not part of a b-tree may begin with any byte.
func IsTableLeaf(pageType byte) bool { return pageType == tableLeaf }

// IsInterior reports whether a page that begins with this byte is an interior page of a table or an
// index. (On page 1 it is the first byte after the database header.) Pages that are not part of a
// b-tree may begin with any byte.
func IsInterior(pageType byte) bool {
	return pageType == indexInterior || pageType == tableInterior
}

// Children returns the children of a b-tree page in the order of their keys; nil if it is not an
// interior page (section 1.6). first says that it is page 1; pages is the size of the file. It
// returns only children from 2 to pages, or nil.
func Children(page []byte, first bool, pages int64) []uint32 {
	header := 0
	if first {
		header = HeaderBytes
	}
	pointers, ok := cellPointers(page, header, interiorHeaderBytes)
	cells := len(pointers) / 2
	if !ok || cells == 0 || !IsInterior(page[header]) {
		return nil
	}
	children := make([]uint32, 0, cells+1)
	for i := range cells {
		at := int(binary.BigEndian.Uint16(pointers[2*i:]))
		if at < header+interiorHeaderBytes+2*cells || at+4 > len(page) {
			return nil
		}
		children = append(children, binary.BigEndian.Uint32(page[at:]))
	}
	children = append(children, binary.BigEndian.Uint32(page[header+8:]))
	for _, child := range children {
		if child < 2 || int64(child) > pages {
			return nil
		}
	}
	return children
}

// SchemaRoots returns the root pages that a leaf of sqlite_schema names, in order, and at most max
// of them; none if the page is not a leaf (sections 1.6, 2.1 and 2.6). first says that it is page
// 1. It does not compare them with the size of the file: they may be any numbers from 2.
func SchemaRoots(page []byte, first bool, max int) (roots []uint32) {
	header := 0
	if first {
		header = HeaderBytes
	}
	for _, row := range schemaRows(page, header) {
		if len(roots) < max {
			roots = append(roots, row.root)
		}
	}
	return roots
}

// StatRoot returns the root page of sqlite_stat1, which ANALYZE makes, and which SQLite reads
// whenever it has read the schema; 0 if none of these pages of sqlite_schema names it.
func StatRoot(schema ...[]byte) uint32 {
	for row := range schemaEntries(schema) {
		if strings.ReplaceAll(row.table, "\x00", "") == "sqlite_stat1" { // UTF-16, too
			return row.root
		}
	}
	return 0
}

// schemaEntry is a row of sqlite_schema that has a root page: the columns type, tbl_name, rootpage.
// The texts are in the database's encoding.
type schemaEntry struct {
	kind, table string
	root        uint32
}

// schemaRows returns the rows on a page of sqlite_schema whose b-tree header begins at header, in
// order; none if the page is not a leaf. It leaves out cells that it cannot read.
func schemaRows(page []byte, header int) (rows []schemaEntry) {
	if len(page) < header+leafHeaderBytes || page[header] != tableLeaf {
		return nil
	}
	pointers := page[header+leafHeaderBytes:]
	cells := min(int(binary.BigEndian.Uint16(page[header+3:])), len(pointers)/2)
	for k := range cells {
		at := int(binary.BigEndian.Uint16(pointers[2*k:]))
		if row, ok := readSchemaRow(page[min(at, len(page)):]); ok {
			rows = append(rows, row)
		}
	}
	return rows
}

// readSchemaRow reads the first, third and fourth column of the row in a cell of sqlite_schema.
// Views and triggers have no root page. The row's SQL may continue on other pages; it comes last,
// so that does not matter.
func readSchemaRow(cell []byte) (row schemaEntry, ok bool) {
	_, cell = varint(cell)    // the payload's length
	_, cell = varint(cell)    // rowid
	at, types := varint(cell) // where the columns begin
	var texts [3]string
	for k := range texts {
		var text uint64 // its length times 2, plus 13
		text, types = varint(types)
		if at > uint64(len(cell)) || text < 13 || text > math.MaxUint16 {
			return schemaEntry{}, false
		}
		end := at + (text-13)/2
		texts[k] = string(cell[at:min(end, uint64(len(cell)))])
		at = end
	}
	n, _ := varint(types) // the bytes of an integer, if at most 4
	if n < 1 || n > 4 || at+n > uint64(len(cell)) {
		return schemaEntry{}, false
	}
	for _, b := range cell[at : at+n] {
		row.root = row.root<<8 | uint32(b)
	}
	row.kind, row.table = texts[0], texts[2]
	return row, row.root > 1
}

// varint reads one of SQLite's integers: 7 bits a byte, the highest first, and all 8 of the ninth
// byte. It is 0 if b ends before the integer does.
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
