package spooltest

import (
	"encoding/binary"
	"fmt"
)

// databaseHeaderBytes is the length of the header that page 1 begins with.
const databaseHeaderBytes = 100

// SchemaPage returns page 1 from its b-tree header on, with a table for each of roots, and a view
// for each 0.
func SchemaPage(pageBytes int, roots ...uint32) []byte {
	return NamedPage(pageBytes, nil, roots...)
}

// NamedPage is SchemaPage, of which the first tables have these names.
func NamedPage(pageBytes int, names []string, roots ...uint32) []byte {
	page := make([]byte, pageBytes)
	page[databaseHeaderBytes] = 13
	binary.BigEndian.PutUint16(page[databaseHeaderBytes+3:], uint16(len(roots)))
	at := pageBytes
	for k, root := range roots {
		name, kind := fmt.Sprint("t", k), "table"
		if k < len(names) {
			name = names[k]
		}
		rootBytes := 1
		for root>>(8*rootBytes) != 0 {
			rootBytes++
		}
		if root == 0 {
			kind = "view"
		}
		sql := "create " + kind + " " + name
		text := func(s string) byte { return byte(13 + 2*len(s)) }
		record := []byte{6, text(kind), text(name), text(name), byte(rootBytes), text(sql)}
		record = append(record, kind+name+name...)
		record = append(record, binary.BigEndian.AppendUint32(nil, root)[4-rootBytes:]...)
		record = append(record, sql...)
		// A varint may be longer than it has to be.
		cell := append([]byte{0x80, byte(len(record)), byte(k + 1)}, record...)
		at -= len(cell)
		copy(page[at:], cell)
		binary.BigEndian.PutUint16(page[databaseHeaderBytes+8+2*k:], uint16(at))
	}
	return page[databaseHeaderBytes:]
}

// InteriorPage returns an interior page of a table, with these children.
func InteriorPage(pageBytes int, children ...uint32) []byte {
	p := make([]byte, pageBytes)
	p[0] = 5
	n := len(children) - 1
	binary.BigEndian.PutUint16(p[3:], uint16(n))
	binary.BigEndian.PutUint32(p[8:], children[n])
	for i, c := range children[:n] {
		at := pageBytes - 8*(i+1)
		binary.BigEndian.PutUint16(p[12+2*i:], uint16(at))
		binary.BigEndian.PutUint32(p[at:], c)
	}
	return p
}
