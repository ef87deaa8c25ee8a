package mirror

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"verneuil/spool"
	"verneuil/spool/sqlitefile"
)

// openWAL opens the WAL of the database at path. There is no reader if there is no WAL, or one
// without a valid header. A WAL has no locks of SQLite's: it may be opened and closed by name.
func openWAL(path string) (*os.File, *sqlitefile.WALReader, error) {
	f, err := os.OpenFile(path+"-wal", os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	} else if err != nil {
		return nil, nil, fmt.Errorf("open WAL: %w", err)
	}
	r, err := sqlitefile.NewWALReader(f)
	if err == nil {
		return f, r, nil
	}
	f.Close()
	if errors.Is(err, sqlitefile.ErrNoWAL) {
		return nil, nil, nil
	}
	return nil, nil, fmt.Errorf("read WAL: %w", err)
}

// Beside is what lies beside a database that makes SQLite read another one than was recorded.
type Beside uint8

// What LookBeside finds.
const (
	NothingBeside Beside = iota // or it cannot be told, as a recorder is about to change it
	HotBeside                   // a rollback journal, which SQLite will play back
	NoWALBeside                 // no WAL, or an empty one, but one is published
	WALBeside                   // another WAL than is published, or one that goes on
)

// LookBeside looks at the journal and the WAL of the database at path. See lookAtWAL for what it
// costs.
func LookBeside(path string, st *spool.State, open func() (Source, error)) (Beside, error) {
	if hot, err := HotJournal(path, open); err != nil {
		return NothingBeside, err
	} else if hot {
		return HotBeside, nil
	}
	left, lies, err := lookAtWAL(path, st, open)
	switch {
	case err != nil || left != spool.LeftChanged:
		return NothingBeside, err
	case lies.Frames == 0:
		return NoWALBeside, nil
	}
	return WALBeside, nil
}

// lookAtWAL compares the WAL that lies beside the database at path with what is published, and
// returns where it ends: at the last commit that whoever opens the database next finds in it. What
// is read is the header and the last published frame, and what follows that; all of it, if nobody
// uses it. It takes no lock. It opens the wal-index and, by open, the database, to see whether
// somebody uses it, or is about to publish it. It says [spool.LeftMoving] then.
func lookAtWAL(path string, st *spool.State, open func() (Source, error)) (
	spool.Left, spool.WALEnd, error,
) {
	published, whole := st.WALEnd()
	lies, err := endOfWAL(path, published, st.Undone())
	if err != nil {
		return spool.LeftAlone, lies, err
	}
	if whole && continues(lies, published) {
		frames, intact, err := recovered(path, published, open)
		if err != nil || intact {
			return spool.LeftAlone, lies, err
		}
		lies.Frames, lies.Sum = frames, 0
	}
	index, err := openIndex(path + "-shm")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return spool.LeftAlone, lies, fmt.Errorf("look at wal-index: %w", err)
	} else if err == nil {
		left, err := byIndex(index, published, &lies)
		if err != nil || left == spool.LeftMoving || left == spool.LeftAlone && whole {
			return left, lies, err
		}
	}
	src, err := open()
	if err != nil {
		return spool.LeftAlone, lies, err
	}
	defer src.Close()
	if writer, err := src.Exclusive(); err != nil {
		return spool.LeftAlone, lies, fmt.Errorf("look at locks: %w", err)
	} else if writer != 0 {
		return spool.LeftMoving, lies, nil // under locking EXCLUSIVE there is no wal-index
	}
	if now, still := st.WALEnd(); now != published || still != whole {
		return spool.LeftMoving, lies, nil
	}
	return spool.LeftChanged, lies, nil
}

// recovered returns how many of the published frames of a WAL, of which the last one stands,
// whoever uses it finds there, or opens the database next: recovery stops where one is damaged,
// also in the middle, and who uses the WAL goes by a wal-index that was recovered. intact says that
// it finds all.
func recovered(path string, published spool.WALEnd, open func() (Source, error)) (
	frames int, intact bool, err error,
) {
	if published.Frames == 0 {
		return 0, true, nil
	}
	index, err := openIndex(path + "-shm")
	if err == nil {
		if locked, err := indexLocked(index); err != nil {
			return 0, true, fmt.Errorf("look at wal-index: %w", err)
		} else if locked {
			now, err := sqlitefile.ReadWALIndex(index)
			fewer := err == nil && now.Salts == published.Salts && now.Frames < published.Frames
			return now.Frames, !fewer, nil // one that is being written says nothing
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return 0, true, fmt.Errorf("look at wal-index: %w", err)
	}
	src, err := open()
	if err != nil {
		return 0, true, err
	}
	defer src.Close()
	// Under locking EXCLUSIVE the wal-index is on the heap.
	if writer, err := src.Exclusive(); err != nil || writer != 0 {
		return 0, true, wrap(err, "look at locks")
	}
	f, r, err := openWAL(path)
	if err != nil || r == nil || r.Salts != published.Salts {
		return 0, true, err
	}
	defer f.Close()
	frames, intact, err = sqlitefile.Recover(f, published.Frames)
	return frames, intact, wrap(err, "read WAL")
}

// continues reports whether a WAL ends where it is published to end. One without a commit is as
// good as none.
func continues(lies, published spool.WALEnd) bool {
	if lies.Frames == 0 || published.Frames == 0 {
		return lies.Frames == published.Frames
	}
	return lies.Salts == published.Salts && lies.Frames == published.Frames &&
		(published.Sum == 0 || lies.Sum == published.Sum)
}

// endOfWAL returns where the WAL ends for who opens the database next, if nobody uses it now. If it
// has the last frame that is published, it is read from there on. undone says that what follows
// that was rolled back.
func endOfWAL(path string, published spool.WALEnd, undone bool) (end spool.WALEnd, err error) {
	f, r, err := openWAL(path)
	if err != nil || r == nil {
		return end, err
	}
	defer f.Close()
	end.Salts = r.Salts
	if r.Salts == published.Salts && published.Sum != 0 {
		there, err := r.SumAt(published.Frames)
		if err != nil {
			return end, fmt.Errorf("read WAL: %w", err)
		}
		if there == published.Sum {
			end = published
			r.Skip(published.Frames, published.Sum)
		}
	}
	if undone && end.Frames > 0 {
		return end, nil
	}
	for {
		_, err := r.NextCommit(sqlitefile.AllFrames, func(sqlitefile.WALFrame) error { return nil })
		if err == io.EOF {
			return end, nil
		} else if err != nil {
			return end, fmt.Errorf("read WAL: %w", err)
		}
		end.Frames, end.Sum = r.Frames(), r.Sum()
	}
}

// byIndex looks at the wal-index of a WAL that is not what was published. Who uses it goes by that.
func byIndex(f *os.File, published spool.WALEnd, lies *spool.WALEnd) (spool.Left, error) {
	if used, err := indexLocked(f); err != nil || !used {
		return spool.LeftChanged, wrap(err, "look at wal-index")
	}
	index, err := sqlitefile.ReadWALIndex(f)
	if errors.Is(err, sqlitefile.ErrWALBusy) {
		return spool.LeftMoving, nil
	} else if err != nil {
		return spool.LeftAlone, err
	}
	switch {
	case index.Salts == lies.Salts:
		lies.Frames, lies.Sum = index.Frames, index.Sum
		if index.Frames == 0 {
			lies.Sum = 0
		}
	case index.Frames == 0: // all of it is in the database
		lies.Frames, lies.Sum = 0, 0
	}
	writing, err := (&SourceFile{f}).locked(sqlitefile.WALIndexLockFirst, 1)
	switch {
	case err != nil:
		return spool.LeftAlone, fmt.Errorf("look at wal-index: %w", err)
	case writing:
		return spool.LeftMoving, nil
	case continues(*lies, published):
		return spool.LeftAlone, nil
	}
	return spool.LeftChanged, nil
}

// found publishes the WAL that lies there, if it is what the mirror has of it, and not what is
// published: whoever has published that has no lock under which it could do so now.
func (w *wal) found() error {
	has := spool.WALEnd{Salts: w.salts, Frames: w.applied}
	if w.applied > 0 {
		has.Sum = w.sum
	}
	if was, whole := w.st.WALEnd(); whole && was == has {
		return nil
	}
	is, err := w.publishLying(func(lies spool.WALEnd) bool { return lies == has })
	if is && has.Salts != 0 {
		w.setConsumed(spool.WALPosition(has.Salts, has.Frames), has.Sum)
	}
	return err
}

// publishLying publishes the WAL that lies there, if it is another one than is published, and the
// mirror has it. It reports whether it did.
func (g *ground) publishLying(has func(lies spool.WALEnd) bool) (bool, error) {
	was, _ := g.st.WALEnd()
	left, lies, err := lookAtWAL(g.sp.Path(), g.st, g.o.OpenSource)
	if err != nil || left != spool.LeftChanged || !has(lies) {
		return false, err
	}
	return g.st.FindWAL(was, lies), nil
}
