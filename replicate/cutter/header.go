package cutter

import (
	"encoding/binary"
	"io"
)

// pageBytesDefault is what a manifest says of a file that is no database, or an
// encrypted one.
const pageBytesDefault = 4096

// header is the beginning of a database file: zeros where it is shorter.
type header [100]byte

func headerOf(r io.ReaderAt) (h header) {
	_, _ = r.ReadAt(h[:], 0)
	return h
}

func (h header) sqlite() bool { return string(h[:16]) == "SQLite format 3\x00" }

// wal reports whether the database is in WAL mode.
func (h header) wal() bool { return h.sqlite() && (h[18] == 2 || h[19] == 2) }

func (h header) changeCounter() uint32 { return binary.BigEndian.Uint32(h[24:]) }

// version is the database's version as in the state page.
func (h header) version() uint64 { return 1<<32 | uint64(h.changeCounter()) }

// pageBytes returns the page size, 0 if this is no database.
func (h header) pageBytes() int {
	n := int(binary.BigEndian.Uint16(h[16:]))
	if n == 1 {
		n = 65536
	}
	if !h.sqlite() || n < 512 || n&(n-1) != 0 {
		return 0
	}
	return n
}
