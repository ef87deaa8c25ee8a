package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"verneuil/spool/sqlitefile"
)

// Stock SQLite must not recover an encrypted database. To SQLite, the checksums of the pages in its
// hot journal, or of the frames in its WAL, are wrong. It considers the journal torn at its very
// beginning, rolls nothing back, and deletes it, so that half a transaction stays for good. It
// takes nothing from the WAL, and deletes that. So before SQLite may recover a database, checkOwn
// checks that SQLite itself wrote these files.

var errEncrypted = errors.New(
	"encrypted, or not written by SQLite: only its application can open it")

// checkOwn fails if stock SQLite could, by recovering the database at path, destroy what only
// another program can read. This process has no SQLite connection to it.
func checkOwn(path string) error {
	own, err := ownFile(path, sqlitefile.OwnDatabase)
	if err == nil && own {
		own, err = ownFile(path+"-journal", sqlitefile.OwnJournal)
	}
	if err == nil && own {
		own, err = ownFile(path+"-wal", sqlitefile.OwnWAL)
	}
	if err == nil && !own {
		err = fmt.Errorf("%w: open it there, to roll back or recover what a crash has left",
			errEncrypted)
	}
	return err
}

// ownFile applies own to the file at path; true if there is none.
func ownFile(path string, own func(io.ReaderAt) (bool, error)) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	} else if err != nil {
		return false, err
	}
	is, err := own(f)
	return is, errors.Join(err, f.Close())
}

// readStart reads the first n bytes of a file, or fewer if it is shorter; none if it is missing.
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
