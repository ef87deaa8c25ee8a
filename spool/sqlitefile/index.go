package sqlitefile

import (
	"encoding/binary"
	"iter"
	"math"
	"sort"
)

// indexLeaf is the type of an index's leaf page (file format, section 1.6).
const indexLeaf = 10

// IndexEntry is what an index on an ordinary table says about one row of the table.
type IndexEntry struct {
	Rowid int64
	Same  bool // all columns but the rowid equal those of the entry before
}

// IsIndexLeaf reports whether a page that begins with this byte is a leaf of an index. Pages that
// are not part of a b-tree may begin with any byte.
func IsIndexLeaf(pageType byte) bool { return pageType == indexLeaf }

// IsTable reports whether a page that begins with this byte is a leaf or interior page of a table.
func IsTable(pageType byte) bool { return pageType == tableInterior || pageType == tableLeaf }

// IndexEntries returns the entries of a leaf page of an index, in order; nil if the page is not one
// (sections 1.6 and 2.3 to 2.5). usable is the page's size without its reserved bytes. It leaves
// out entries with long keys, whose rowid is on another page.
func IndexEntries(page []byte, usable int) (entries []IndexEntry) {
	cells, ok := cellPointers(page, 0, leafHeaderBytes)
	if !ok || page[0] != indexLeaf || usable > len(page) || usable < 480 {
		return nil
	}
	local := (usable-12)*64/255 - 23 // the longest payload that needs no other page
	var before []byte
	for k := range len(cells) / 2 {
		at := int(binary.BigEndian.Uint16(cells[2*k:]))
		if at >= len(page) {
			return entries
		}
		n, rest := varint(page[at:])
		if n > uint64(local) || n > uint64(len(rest)) {
			before = nil
			continue
		}
		key, rowid, ok := splitKey(rest[:n])
		if !ok {
			before = nil
			continue
		}
		entries = append(entries, IndexEntry{rowid, before != nil && string(before) == key})
		before = []byte(key)
	}
	return entries
}

// cellPointers returns the cell pointer array of a b-tree page whose header begins at header.
func cellPointers(page []byte, header, headerLength int) ([]byte, bool) {
	if len(page) < header+headerLength {
		return nil, false
	}
	n := 2 * int(binary.BigEndian.Uint16(page[header+3:]))
	pointers := page[header+headerLength:]
	if n > len(pointers) {
		return nil, false
	}
	return pointers[:n], true
}

// splitKey splits a record into its last column, which must be an integer, and all before it.
func splitKey(record []byte) (key string, rowid int64, ok bool) {
	headerLength, rest := varint(record)
	start := len(record) - len(rest)
	if headerLength > uint64(len(record)) || headerLength < uint64(start) {
		return "", 0, false
	}
	types, last := record[start:headerLength], uint64(math.MaxUint64)
	var lastAt int
	for at := types; len(at) > 0; {
		lastAt = len(types) - len(at)
		last, at = varint(at)
		if len(at) == 0 {
			break
		}
	}
	body := record[headerLength:]
	n, ok := integerBytes(last)
	if !ok || n > len(body) {
		return "", 0, false
	}
	rowid = integerOf(last, body[len(body)-n:])
	return string(types[:lastAt]) + "|" + string(body[:len(body)-n]), rowid, true
}

// integerBytes returns the length of an integer with this serial type (section 2.1).
func integerBytes(serial uint64) (int, bool) {
	switch {
	case 1 <= serial && serial <= 4:
		return int(serial), true
	case serial == 5:
		return 6, true
	case serial == 6:
		return 8, true
	case serial == 8, serial == 9:
		return 0, true
	}
	return 0, false
}

// TableNode is an interior page of a table.
type TableNode struct {
	keys     []int64 // the largest rowid below each child but the last
	children []uint32
}

// ReadTableNode reads an interior page of a table; nil if the page is not one, or is damaged. first
// says that it is page 1; pages is the size of the file, within which children must be.
func ReadTableNode(page []byte, first bool, pages int64) *TableNode {
	header := 0
	if first {
		header = HeaderBytes
	}
	if len(page) <= header || page[header] != tableInterior {
		return nil
	}
	n := &TableNode{children: Children(page, first, pages)}
	cells, ok := cellPointers(page, header, interiorHeaderBytes)
	if !ok || len(n.children) == 0 {
		return nil
	}
	for k := range len(n.children) - 1 {
		at := int(binary.BigEndian.Uint16(cells[2*k:])) // Children has checked it
		key, _ := varint(page[at+4:])
		n.keys = append(n.keys, int64(key))
	}
	return n
}

// Child returns the child of n under which rowid is, if it exists.
func (n *TableNode) Child(rowid int64) uint32 {
	return n.children[sort.Search(len(n.keys), func(k int) bool { return n.keys[k] >= rowid })]
}

// IndexRoots maps the root page of each index that the given pages of sqlite_schema name to the
// root page of its table, if they name that, too. The pages are page 1, or leaves of the schema.
func IndexRoots(pages ...[]byte) map[uint32]uint32 {
	tables, roots := tableRoots(pages), map[uint32]uint32{}
	for row := range schemaEntries(pages) {
		if root, ok := tables[row.table]; ok && row.kind == "index" {
			roots[row.root] = root
		}
	}
	return roots
}

// tableRoots returns the root pages of tables, by their names.
func tableRoots(pages [][]byte) map[string]uint32 {
	tables := map[string]uint32{}
	for row := range schemaEntries(pages) {
		if row.kind == "table" {
			tables[row.table] = row.root
		}
	}
	return tables
}

// schemaEntries yields the rows on pages of sqlite_schema.
func schemaEntries(pages [][]byte) iter.Seq[schemaEntry] {
	return func(yield func(schemaEntry) bool) {
		for _, page := range pages {
			header := 0
			if string(page[:min(len(page), len(Magic))]) == Magic {
				header = HeaderBytes
			}
			for _, row := range schemaRows(page, header) {
				if !yield(row) {
					return
				}
			}
		}
	}
}
