package sqlitefile_test

import (
	"bytes"
	"testing"

	"verneuil/spool/sqlitefile"
)

func TestHeaderPageBytes(t *testing.T) {
	for stored, want := range map[[2]byte]int{
		{2, 0}: 512, {16, 0}: 4096, {0, 1}: 65536,
		{0, 0}: 0, {1, 0}: 0, {2, 1}: 0, {16, 1}: 0,
	} {
		h := sqlitefile.ReadHeader(bytes.NewReader(append([]byte(sqlitefile.Magic), stored[:]...)))
		if got := h.PageBytes(); got != want {
			t.Errorf("%d stored: page size %d, want %d", stored, got, want)
		}
	}
	h := sqlitefile.ReadHeader(bytes.NewReader(make([]byte, 40)))
	if h.IsDatabase() || h.PageBytes() != 0 {
		t.Error("zeros are a database")
	}
}

func TestHeaderPages(t *testing.T) {
	var h sqlitefile.Header
	h[31], h[27], h[95] = 7, 3, 3
	if n, ok := h.Pages(); n != 7 || !ok {
		t.Errorf("%d pages, %v", n, ok)
	}
	h[95] = 4 // an old program wrote last
	if _, ok := h.Pages(); ok {
		t.Error("a page count that is not valid is believed")
	}
	h[95], h[31] = 3, 0
	if _, ok := h.Pages(); ok {
		t.Error("no pages are believed")
	}
}

// FuzzOwn: whatever stands there, it is looked at without a panic.
func FuzzOwn(f *testing.F) {
	f.Add([]byte(sqlitefile.Magic))
	f.Add(append([]byte("\xd9\xd5\x05\xf9\x20\xa1\x63\xd7\x00\x00\x00\x01\x00\x00\x00\x07"+
		"\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x02\x00"), make([]byte, 600)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := sqlitefile.OwnDatabase(bytes.NewReader(b)); err != nil {
			t.Error(err)
		}
		if _, err := sqlitefile.OwnJournal(bytes.NewReader(b)); err != nil {
			t.Error(err)
		}
		sqlitefile.JournalMayBeLive(b)
	})
}
