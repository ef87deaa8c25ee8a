package sqlitefile

import (
	"bytes"
	"encoding/binary"
	"io"
)

const (
	// HeaderBytes is the length of the database header (file format, section 1.3).
	HeaderBytes = 100
	// Magic begins a database file.
	Magic = "SQLite format 3\x00"
)

// Header is the first bytes of a database file, with zeros where the file is shorter. The numbers
// that its methods return mean something only if [Header.IsDatabase] is true.
type Header [HeaderBytes]byte

// ReadHeader reads the header of the file in r. A file that cannot be read has a header of zeros.
func ReadHeader(r io.ReaderAt) (h Header) {
	_, _ = r.ReadAt(h[:], 0)
	return h
}

// IsDatabase reports whether the header begins with [Magic].
func (h Header) IsDatabase() bool { return string(h[:len(Magic)]) == Magic }

// PageBytes returns the page size, 512 to 65,536 (section 1.3.2); 0 if this is not a database.
func (h Header) PageBytes() int {
	n := int(binary.BigEndian.Uint16(h[16:]))
	if n == 1 {
		n = 65536
	}
	if !h.IsDatabase() || !validPageBytes(uint32(n)) {
		return 0
	}
	return n
}

// validPageBytes reports whether n is a power of two from 512 to 65,536.
func validPageBytes(n uint32) bool { return n >= 512 && n <= 65536 && n&(n-1) == 0 }

// The file format versions at offsets 18 (write) and 19 (read) (section 1.3.3).
const (
	formatRollback = 1
	formatWAL      = 2
)

// WAL reports whether this is a database in WAL mode.
func (h Header) WAL() bool {
	return h.IsDatabase() && (h[18] == formatWAL || h[19] == formatWAL)
}

// LeaveWAL changes a header in WAL mode to rollback mode. A format version that is neither stays as
// it is: SQLite refuses such a file.
func (h *Header) LeaveWAL() {
	for i := 18; i <= 19; i++ {
		if h[i] == formatWAL {
			h[i] = formatRollback
		}
	}
}

// ChangeCounter returns the file change counter, which each transaction in rollback mode
// increments (section 1.3.7).
func (h Header) ChangeCounter() uint32 { return binary.BigEndian.Uint32(h[24:]) }

// SetChangeCounter changes the counter. The file's size at offset 28 is valid only if the counter
// equals version-valid-for (btree.c, lockBtree). If it is valid, it stays so; if not, likewise.
func (h *Header) SetChangeCounter(counter uint32) {
	validFor := counter
	if h.ChangeCounter() != binary.BigEndian.Uint32(h[92:]) {
		validFor = ^counter
	}
	binary.BigEndian.PutUint32(h[24:], counter)
	binary.BigEndian.PutUint32(h[92:], validFor)
}

// Pages returns how many pages the database has, where the header says so as SQLite believes it
// (btree.c, lockBtree): else ok is false, and it has those of the file.
func (h Header) Pages() (n uint32, ok bool) {
	n = binary.BigEndian.Uint32(h[28:])
	return n, n != 0 && h.ChangeCounter() == binary.BigEndian.Uint32(h[92:])
}

// SchemaCookie returns the number that changes with the schema (section 1.3.9).
func (h Header) SchemaCookie() uint32 { return binary.BigEndian.Uint32(h[40:]) }

// SetSchemaCookie changes that number.
func (h *Header) SetSchemaCookie(cookie uint32) { binary.BigEndian.PutUint32(h[40:], cookie) }

// TextEncoding returns the encoding of texts (section 1.3.13): 1 to 3, and 0 in an empty database.
// SQLite refuses to open any other.
func (h Header) TextEncoding() uint32 { return binary.BigEndian.Uint32(h[56:]) }

// OwnDatabase reports whether stock SQLite takes the file in r for a database, so that it recovers
// what a journal or WAL has. Zeros count: a transaction may not have reached page 1 yet. A file of
// one byte counts as empty (os_unix.c, unixFileSize).
func OwnDatabase(r io.ReaderAt) (bool, error) {
	b, err := readStart(r, int64(len(Magic)))
	zeros := bytes.Count(b, []byte{0}) == len(b)
	return len(b) < 2 || zeros || string(b) == Magic, err
}
