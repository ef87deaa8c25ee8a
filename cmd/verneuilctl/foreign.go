package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"verneuil/spool"
)

// A database that is encrypted must not be recovered by stock SQLite. To it the pages in a
// hot journal, or the frames of a WAL, are not what their checksums say: it takes the
// journal for torn at its very beginning, rolls nothing back, and deletes it, so that half a
// transaction stays for good; of the WAL it takes nothing, and deletes that. So who lets
// SQLite recover a database looks first whether what is there is SQLite's own.

const sqliteHeader = "SQLite format 3\x00"

var errEncrypted = errors.New("encrypted, or not SQLite's: only its application can open it")

// checkOwn fails if recovery of the database at path by stock SQLite could take away what only
// another can read. This process has no SQLite connection to it.
func checkOwn(path string) error {
	own, err := ownHeader(path)
	if err == nil && own {
		own, err = ownJournal(path + "-journal")
	}
	if err == nil && own {
		own, err = ownWAL(path + "-wal")
	}
	if err == nil && !own {
		err = fmt.Errorf("%w: let it roll back, or recover, what an end in the middle has left", errEncrypted)
	}
	return err
}

// readStart reads the first n bytes of a file, or what there is of them; of none if it is missing.
func readStart(path string, n int) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	n, err = f.ReadAt(b, 0)
	return b[:n], errors.Join(notEOF(err), f.Close())
}

// ownHeader: zeros are of a transaction that has not come to page 1, and a file of one byte is an
// empty one to SQLite (os_unix.c, unixFileSize).
func ownHeader(path string) (bool, error) {
	b, err := readStart(path, len(sqliteHeader))
	zeros := bytes.Count(b, []byte{0}) == len(b)
	return len(b) < 2 || zeros || string(b) == sqliteHeader, err
}

// ownJournal: the first page in it has its checksum (pager.c, pager_cksum), if there is one
// that SQLite would roll back.
func ownJournal(path string) (bool, error) {
	header, err := readStart(path, 28)
	if err != nil || len(header) < 28 || string(header[:8]) != "\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" {
		return true, err
	}
	number := func(off int) int64 { return int64(binary.BigEndian.Uint32(header[off:])) }
	records, sum, sectorBytes, pageBytes := number(8), uint32(number(12)), number(20), number(24)
	if records == 0 || sectorBytes > 1<<16 || pageBytes > 1<<16 || pageBytes < 512 {
		return true, nil
	}
	b, err := readStart(path, int(sectorBytes+4+pageBytes+4))
	if err != nil || int64(len(b)) < sectorBytes+4+pageBytes+4 {
		return true, err
	}
	page := b[sectorBytes+4 : sectorBytes+4+pageBytes]
	for i := pageBytes - 200; i > 0; i -= 200 {
		sum += uint32(page[i])
	}
	return sum == binary.BigEndian.Uint32(b[sectorBytes+4+pageBytes:]), nil
}

// ownWAL: its first frame has its checksum, if there is one of its header's salts.
func ownWAL(path string) (bool, error) {
	const headerBytes, frameBytes = 32, 24
	b, err := readStart(path, headerBytes+frameBytes)
	if err != nil || len(b) < headerBytes+frameBytes ||
		!bytes.Equal(b[16:24], b[headerBytes+8:headerBytes+16]) {
		return true, err
	}
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	frames, err := spool.NewWALReader(f)
	if errors.Is(err, spool.ErrNoWAL) {
		return true, nil // SQLite takes nothing of it, whosever it is
	} else if err != nil {
		return false, err
	}
	if _, err = frames.Next(); err == io.EOF {
		return false, nil
	}
	return true, err
}
