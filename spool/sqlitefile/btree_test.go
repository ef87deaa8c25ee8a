package sqlitefile_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"verneuil/spool/spooltest"
	"verneuil/spool/sqlitefile"
)

func TestChildren(t *testing.T) {
	want := []uint32{7, 3, 900, 5}
	page := spooltest.InteriorPage(4096, want...)
	if got := sqlitefile.Children(page, false, 1000); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := sqlitefile.Children(page, false, 899); got != nil {
		t.Errorf("a child beyond the file: %v", got)
	}
	page[0] = 13
	if got := sqlitefile.Children(page, false, 1000); got != nil {
		t.Errorf("a leaf has children %v", got)
	}
	first := append(make([]byte, 100), spooltest.InteriorPage(3996, 2, 3)...)
	// The offsets of page 1 count from the start of the file
	at := binary.BigEndian.Uint16(first[112:])
	binary.BigEndian.PutUint16(first[112:], at+100)
	if got := sqlitefile.Children(first, true, 3); !slices.Equal(got, []uint32{2, 3}) {
		t.Errorf("page 1: got %v", got)
	}
}

func TestSchemaRoots(t *testing.T) {
	page := append(make([]byte, sqlitefile.HeaderBytes),
		spooltest.SchemaPage(4096, 2, 0, 300, 1, 1<<31, 70_000)...)
	got, want := sqlitefile.SchemaRoots(page, true, 9), []uint32{2, 300, 1 << 31, 70_000}
	if !slices.Equal(got, want) {
		t.Errorf("got %d, want %d", got, want)
	}
	got, want = sqlitefile.SchemaRoots(page, true, 2), []uint32{2, 300}
	if !slices.Equal(got, want) {
		t.Errorf("two of them: got %d, want %d", got, want)
	}
	page[sqlitefile.HeaderBytes] = 5
	if got := sqlitefile.SchemaRoots(page, true, 9); got != nil {
		t.Errorf("a larger schema names %d", got)
	}
}

func FuzzChildren(f *testing.F) {
	f.Add(spooltest.InteriorPage(512, 2, 3, 4), false)
	f.Add(append(make([]byte, 100), spooltest.InteriorPage(412, 2, 3)...), true)
	f.Fuzz(func(t *testing.T, page []byte, first bool) {
		for _, c := range sqlitefile.Children(page, first, 100) {
			if c < 2 || c > 100 {
				t.Errorf("child %d", c)
			}
		}
	})
}

func FuzzSchemaRoots(f *testing.F) {
	for _, roots := range [][]uint32{nil, {2}, {5, 0, 1000, 1 << 31}} {
		f.Add(append(make([]byte, sqlitefile.HeaderBytes), spooltest.SchemaPage(512, roots...)...))
	}
	f.Add(slices.Concat(make([]byte, sqlitefile.HeaderBytes), []byte{13, 0, 0, 255, 255},
		bytes.Repeat([]byte{0xff}, 400)))
	const most = 32
	f.Fuzz(func(t *testing.T, page []byte) {
		sqlitefile.StatRoot(page)
		roots := sqlitefile.SchemaRoots(page, true, most)
		if len(roots) > most || slices.Contains(roots, 0) || slices.Contains(roots, 1) {
			t.Errorf("roots %d", roots)
		}
	})
}
