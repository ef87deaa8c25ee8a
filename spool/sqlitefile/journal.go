package sqlitefile

import (
	"encoding/binary"
	"io"
)

const (
	// JournalHeaderBytes is the length of a rollback journal's header as far as it means anything
	// (file format, section 3). It has a new random number with each transaction (pager.c,
	// writeJournalHdr), so that equal headers belong to one transaction.
	JournalHeaderBytes = 28

	journalMagic = "\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"
)

// JournalMayBeLive reports whether a rollback journal that begins with header, which may be cut
// short, may belong to a transaction that is running, or that has died. It cannot if it is empty
// (TRUNCATE), or begins with zeros. PERSIST mode leaves zeros after a transaction; every journal
// begins with zeros until its first sync, before which nothing is written to the database. It does
// not matter who wrote the journal: one that another program has encrypted counts.
func JournalMayBeLive(header []byte) bool {
	return len(header) >= len(journalMagic) &&
		[len(journalMagic)]byte(header) != [len(journalMagic)]byte{}
}

// journalPieces says what a journal's header claims (section 3); ok is false if SQLite would roll
// nothing back because of it.
func journalPieces(header []byte) (nonce uint32, sectorBytes, pageBytes int64, ok bool) {
	if len(header) < JournalHeaderBytes || string(header[:len(journalMagic)]) != journalMagic {
		return 0, 0, 0, false
	}
	number := func(off int) int64 { return int64(binary.BigEndian.Uint32(header[off:])) }
	records, sectorBytes, pageBytes := number(8), number(20), number(24)
	ok = records != 0 && sectorBytes <= 1<<16 && pageBytes <= 1<<16 && pageBytes >= 512
	return uint32(number(12)), sectorBytes, pageBytes, ok
}

// journalSum is the checksum of a page in a journal (pager.c, pager_cksum).
func journalSum(nonce uint32, page []byte) uint32 {
	for i := len(page) - 200; i > 0; i -= 200 {
		nonce += uint32(page[i])
	}
	return nonce
}

// OwnJournal reports whether stock SQLite wrote the rollback journal in r, as far as recovery can
// tell. It is false if the checksum of the first page is wrong, so that SQLite would consider the
// journal torn at its very beginning. A journal from which SQLite would roll back nothing anyway
// counts as its own.
func OwnJournal(r io.ReaderAt) (bool, error) {
	header, err := readStart(r, JournalHeaderBytes)
	if err != nil {
		return false, err
	}
	nonce, sectorBytes, pageBytes, ok := journalPieces(header)
	if !ok {
		return true, nil
	}
	b, err := readStart(r, sectorBytes+4+pageBytes+4) // page number, page, checksum
	if err != nil || int64(len(b)) < sectorBytes+4+pageBytes+4 {
		return true, err
	}
	page := b[sectorBytes+4 : sectorBytes+4+pageBytes]
	return journalSum(nonce, page) == binary.BigEndian.Uint32(b[sectorBytes+4+pageBytes:]), nil
}

// readStart reads the first n bytes of r, or fewer if r is shorter.
func readStart(r io.ReaderAt, n int64) ([]byte, error) {
	b := make([]byte, n)
	k, err := r.ReadAt(b, 0)
	if err == io.EOF {
		err = nil
	}
	return b[:k], err
}
