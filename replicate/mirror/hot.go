package mirror

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"verneuil/spool"
	"verneuil/spool/sqlitefile"
)

// This file looks at what stands beside the database. Its -journal and -wal have
// no locks of SQLite's, so that they may be opened and closed by their names; the
// database itself, and its -shm, may not.

// ErrHot is in [Tracker.Err] while a hot journal keeps the database from being copied.
var ErrHot = errors.New("waiting for SQLite to roll back the hot journal: " +
	"open the database with its application to have it done")

// journal is what identifies a rollback journal that may be live: its file, and
// its header.
type journal struct {
	ino    uint64
	header string
}

// readJournal returns the header of the database's journal; nil if there is no file, or one that
// cannot be live ([sqlitefile.JournalMayBeLive]).
func readJournal(path string) (*journal, error) {
	f, err := os.OpenFile(path+"-journal", os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("look at journal: %w", err)
	}
	defer f.Close()
	var header [sqlitefile.JournalHeaderBytes]byte
	n, err := f.ReadAt(header[:], 0)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("look at journal: %w", err)
	}
	if !sqlitefile.JournalMayBeLive(header[:n]) {
		return nil, nil
	}
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at journal: %w", err)
	}
	j := &journal{header: hex.EncodeToString(header[:n])}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		j.ino = sys.Ino
	}
	return j, nil
}

// LiveJournal reports whether the database at path has a rollback journal of a transaction in
// progress, or of one whose process has died.
func LiveJournal(path string) (bool, error) {
	j, err := readJournal(path)
	return j != nil, err
}

// HotJournal reports whether the database at path has the rollback journal of a transaction that
// has died, or a stale one: SQLite plays it back before the database is read. open opens the
// database, which is done only if there is a journal.
func HotJournal(path string, open func() (Source, error)) (bool, error) {
	if live, err := LiveJournal(path); !live || err != nil {
		return false, err
	}
	src, err := open()
	if err != nil {
		return false, err
	}
	defer src.Close()
	return hotJournal(path, src)
}

// hotJournal reports whether the journal of a transaction that has died waits to be rolled back,
// so that the database's bytes are no committed state. A writer holds RESERVED from before its
// journal's header stands until after the header is gone or zeroed. So if a header is there between
// two moments without RESERVED, it belongs to no transaction that was live at the first of them,
// nor to one that ended before the second; and if it is still there after that, to none that ran
// between them. (What is hot by SQLite's own rule may be stale, as the super-journal is gone.
// SQLite then deletes it at the next look, so waiting for that is right, too.) While somebody holds
// RESERVED it is not hot: they have looked.
func hotJournal(path string, src Source) (hot bool, err error) {
	var before *journal
	for try := range 2 {
		if writer, err := src.Reserved(); err != nil || writer != 0 {
			return false, wrap(err, "look at locks")
		}
		j, err := readJournal(path)
		if err != nil || j == nil {
			return false, err
		}
		if try == 1 {
			return before != nil && *before == *j, nil
		}
		before = j
	}
	return false, nil
}

// remains is what a process that died in the middle of a transaction has left.
type remains uint8

const (
	nothingLeft remains = iota // or what others will find out
	inUse                      // somebody else is in a transaction, and has found it, or will
	hotLeft                    // a hot journal, which SQLite has to roll back
)

// deadWriter deals with a mark of a process that died in the middle of a
// transaction. Its pages may be in the database. If a journal is there, SQLite
// rolls it back, and whoever does it through a recorder finds the mark and raises
// the generation; until then nothing may be copied. Without one the database is
// as it will be: what the log lost is found by a base copy. The dead hold no lock: if
// somebody holds RESERVED (inUse), it is a writer who will find the mark, or one who
// is not dead but in another container, where its number means nothing to us.
func (g *ground) deadWriter() (remains, error) {
	token := g.st.Writing.Load()
	if token == 0 || spool.Token(token).Alive() {
		return nothingLeft, nil
	}
	if g.stable() {
		g.forgetWriter(token) // the caller's read lock has rolled it back
		return nothingLeft, nil
	}
	src, err := g.o.OpenSource()
	if errors.Is(err, fs.ErrNotExist) {
		return nothingLeft, nil // it was deleted: what he has left in it matters no more
	} else if err != nil {
		return nothingLeft, fmt.Errorf("open database: %w", err)
	}
	defer src.Close()
	if writer, err := src.Reserved(); err != nil {
		return nothingLeft, fmt.Errorf("look at locks: %w", err)
	} else if writer != 0 {
		return inUse, nil
	}
	if g.st.Writing.Load() != token { // it was not dead, and has ended its transaction
		return nothingLeft, nil
	}
	j, err := readJournal(g.sp.Path())
	switch {
	case err != nil:
		return nothingLeft, err
	case j == nil:
		g.forgetWriter(token)
	case g.st.MirrorGeneration.Load() != g.st.Generation.Load():
		return hotLeft, nil
	} // else the mirror ends before that transaction: go on
	return nothingLeft, nil
}

// forgetWriter clears a dead process's mark; first the generation, for if we die
// in between the mark stays, and is found again.
func (g *ground) forgetWriter(token uint64) {
	g.st.Raise(spool.CauseCrash)
	g.st.Writing.CompareAndSwap(token, 0)
}

func wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
