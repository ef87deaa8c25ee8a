package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"verneuil/spool"
	"verneuil/spool/sqlitefile"
)

// walIndexInterval is how long a writer is given to finish what it does to the
// wal-index: it takes microseconds.
const walIndexInterval = time.Millisecond

// indexes are the wal-indexes that are open, by path. Closing one would drop the
// locks that this process's connections have on it, so each stays open until
// its file has no name any more: then SQLite's last connection has deleted it. A
// replicator that ends leaves none of those behind (see ForgetWALIndex).
var indexes struct {
	sync.Mutex
	open map[string]*os.File
	// moved are those that stand elsewhere now, or are in use without a name. They are referred to
	// here, lest the garbage collector closes them.
	moved []*os.File
}

func openIndex(path string) (*os.File, error) {
	indexes.Lock()
	defer indexes.Unlock()
	indexes.moved = slices.DeleteFunc(indexes.moved, closeNameless)
	now, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if old := indexes.open[path]; old != nil {
		was, statErr := old.Stat()
		if err == nil && statErr == nil && os.SameFile(was, now) {
			return old, nil
		}
		delete(indexes.open, path)
		if !closeNameless(old) {
			indexes.moved = append(indexes.moved, old)
		}
	}
	if err != nil {
		return nil, err
	}
	f, err := openForReading(path, syscall.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	if indexes.open == nil {
		indexes.open = make(map[string]*os.File)
	}
	indexes.open[path] = f
	return f, nil
}

// ForgetWALIndex closes the wal-index of the database at path, if it is open here and has no name
// any more. It is safe for concurrent use.
func ForgetWALIndex(path string) {
	path += "-shm"
	indexes.Lock()
	defer indexes.Unlock()
	if f := indexes.open[path]; f != nil && closeNameless(f) {
		delete(indexes.open, path)
	}
}

// closeNameless closes f if its file is deleted, and no connection uses it: one may have
// it open when somebody else deletes it. It reports whether it did. Nobody can open it any more, so
// what it finds unused stays so.
func closeNameless(f *os.File) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	sys, ok := info.Sys().(*syscall.Stat_t)
	if !ok || sys.Nlink != 0 {
		return false
	}
	return closeUnused(f, func() (bool, error) { return indexLocked(f) })
}

// indexLocked reports whether a connection uses the wal-index f.
func indexLocked(f *os.File) (bool, error) {
	return (&SourceFile{f}).locked(sqlitefile.WALIndexLockFirst, sqlitefile.WALIndexLockBytes)
}

// openCommitted begins to read the database's WAL, and returns how many of its
// frames are committed. The WAL alone cannot tell: what a writer has left that was
// killed after its commit frame and before the wal-index is valid, and the next writer
// writes over it. A WAL that the wal-index has left behind counts as none:
// all of it is in the database.
//
// Without a wal-index, and with one that is not whole, or that is another WAL's and used by
// no connection, nobody is in the WAL but one under locking EXCLUSIVE from its first
// access on; who comes next takes whatever is valid.
func (w *wal) openCommitted(ctx context.Context) (frames int, err error) {
	for try := 1; ; try++ {
		if err := w.open(); err != nil {
			return 0, err
		}
		if w.reader == nil {
			return 0, nil
		}
		var index sqlitefile.WALIndex
		f, err := openIndex(w.sp.Path() + "-shm")
		if err == nil {
			index, err = sqlitefile.ReadWALIndex(f)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return w.validFrames(), w.fallBack()
		case err == nil && index.Salts == w.salts:
			if stale, err := w.indexIsStale(f, index); err != nil {
				return 0, err
			} else if stale {
				return w.validFrames(), w.fallBack()
			}
			w.wentBack(index.Frames)
			return max(index.Frames, w.published(w.salts)), nil
		case try < walTries:
		case err == nil:
			locked, err := indexLocked(f)
			if err != nil {
				return 0, fmt.Errorf("look at wal-index: %w", err)
			} else if !locked {
				return w.validFrames(), nil
			}
			w.reset()
			return 0, nil
		case errors.As(err, new(*fs.PathError)):
			return 0, fmt.Errorf("look at wal-index: %w", err)
		default:
			return w.validFrames(), nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-w.o.After(walIndexInterval):
		}
	}
}

// fallBack publishes no more frames than the next connection finds, where nobody uses the WAL and
// one of those that are published is damaged.
func (w *wal) fallBack() error {
	was, whole := w.st.WALEnd()
	published := w.st.WALPublished.Load()
	if !whole || was.Salts != w.salts {
		return nil
	}
	frames, intact, err := recovered(w.sp.Path(), was, w.o.OpenSource)
	if err != nil || intact {
		return err
	}
	w.st.Raise(spool.CauseForeign)
	w.st.WALPublished.CompareAndSwap(published, spool.WALPosition(w.salts, frames))
	return nil
}

// indexIsStale reports whether what a wal-index counts does not stand in the WAL, or behind a frame
// that is damaged, and no connection uses the index: then the WAL is an older one that was put
// back, or somebody has written to it, and the next connection will recover the index.
func (w *wal) indexIsStale(f *os.File, index sqlitefile.WALIndex) (bool, error) {
	if index.Frames == 0 {
		return false, nil
	}
	if locked, err := indexLocked(f); err != nil || locked {
		return false, wrap(err, "look at wal-index")
	}
	sum, err := w.reader.SumAt(index.Frames)
	if err != nil || sum != index.Sum {
		return err == nil, wrap(err, "read WAL")
	}
	_, intact, err := sqlitefile.Recover(w.file, index.Frames)
	return !intact, wrap(err, "read WAL")
}

// wentBack is told how many frames of the WAL are committed, or valid. If fewer are than are
// published, and the last published one does not stand there, an older WAL of the same salts was
// put in its place; if one before it is damaged, the wal-index was recovered up to there: then no
// more are published than there are. (Else a wal-index on the heap counts them.)
func (w *wal) wentBack(frames int) {
	published, sum := w.st.WALPublished.Load(), w.st.WALSum.Load()
	n := w.published(w.salts)
	if frames >= n || sum == 0 || w.reader == nil {
		return
	}
	if there, err := w.reader.SumAt(n); err != nil {
		return
	} else if there == sum {
		if _, intact, err := sqlitefile.Recover(w.file, n); err != nil || intact {
			return
		}
	}
	w.st.Raise(spool.CauseForeign)
	w.st.WALPublished.CompareAndSwap(published, spool.WALPosition(w.salts, frames))
}

// validFrames is how many frames of a WAL without a wal-index are committed: what is
// valid, but nothing of a commit that its owner says has failed.
func (w *wal) validFrames() int {
	if w.st.Undone() && w.st.WALSalts.Load() == w.salts {
		return w.published(w.salts)
	}
	return sqlitefile.AllFrames
}

// published returns how many frames of the WAL with these salts are published.
func (w *wal) published(salts uint64) int {
	published := w.st.WALPublished.Load()
	if w.st.WALSalts.Load() != salts || published>>32 != walSalt(salts) {
		return 0
	}
	return int(uint32(published))
}
