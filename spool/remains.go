package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
	"unsafe"

	"verneuil/chunkstore"
)

// A spool outlives its database if that is deleted or renamed. As much as possible of what it has
// is sent. Then [Sweep], which processes call now and then, removes it.

const (
	// sentKept is how long a spool stays if everything was sent. The database may soon be back: it
	// may be about to be replaced, or its file system may not be mounted just now. If the spool was
	// removed, that costs a comparison with the target.
	sentKept = 10 * time.Minute
	// unsentKept is how long a spool stays if something was not sent, so that people learn of it.
	unsentKept = 7 * 24 * time.Hour

	// deletedName is an empty file in the spool. Its mtime is when Sweep first saw the deletion.
	deletedName = "deleted"
)

// Remains is the spool of a database that was deleted, or renamed.
type Remains struct {
	Path   string    // where the database was
	Sent   bool      // every target has all that was published
	Unsent uint64    // transactions that not every target has
	Lost   bool      // these cannot be sent any more, as that would need the database
	Last   time.Time // when the last transaction was published; zero: there was none
}

// RemainsOf looks at the spool in dir, from this boot or an earlier one. It returns nil if the
// database has not been deleted, or if it cannot tell. It fails with fs.ErrNotExist if there is no
// spool.
func RemainsOf(dir string) (*Remains, error) {
	st, err := peekState(dir)
	if err != nil {
		return nil, fmt.Errorf("look at spool %s: %w", dir, err)
	}
	if _, err := os.Stat(st.Path()); !errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	r := &Remains{Path: st.Path()}
	generation, sequence := st.Generation.Load(), st.Sequence.Load()
	sent := st.PushedSequence.Load()
	r.Sent = st.PushedGeneration.Load() >= generation && sent >= sequence
	if !r.Sent {
		r.Unsent = sequence - min(sent, sequence)
		r.Lost = st.MirrorGeneration.Load() != generation || st.page.BootID != bootID()
	}
	if at := st.PublishedAt.Load(); at != 0 {
		r.Last = time.Unix(0, at)
	}
	return r, nil
}

// peekState returns a copy of the state in dir. It may be from an earlier boot, but it must
// describe the database that dir is named after.
func peekState(dir string) (*State, error) {
	if err := Trust(dir); err != nil {
		return nil, err
	}
	b, err := readFile(dir, "state", stateBytes)
	if err != nil {
		return nil, err
	}
	p := new(page)
	if copy(unsafe.Slice((*byte)(unsafe.Pointer(p)), stateBytes), b) < stateBytes {
		return nil, fmt.Errorf("%w: state of %d bytes", chunkstore.ErrCorrupt, len(b))
	}
	s := newState(p, nil)
	if err := s.validateFormat(); err != nil {
		return nil, err
	}
	if Name(s.Path()) != filepath.Base(dir) {
		return nil, fmt.Errorf("%w: it belongs to %q", chunkstore.ErrCorrupt, s.Path())
	}
	return s, nil
}

// Sweep removes the spool in dir if its database was deleted a while ago: ten minutes after the
// first call that finds it deleted, or seven days after that if something was not sent. A spool
// stays if somebody replicates it, or attaches to it meanwhile.
func Sweep(dir string, now time.Time) (removed bool, err error) {
	mark := filepath.Join(dir, deletedName)
	r, err := RemainsOf(dir)
	if err != nil {
		return false, err
	}
	if r == nil {
		if err := os.Remove(mark); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		return false, nil
	}
	st, err := os.Lstat(mark)
	if errors.Is(err, fs.ErrNotExist) {
		f, err := os.OpenFile(mark, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
		if err == nil {
			err = f.Close()
		}
		return false, err
	} else if err != nil {
		return false, err
	}
	kept := sentKept
	if !r.Sent {
		kept = unsentKept
	}
	if now.Sub(st.ModTime()) < kept {
		return false, nil
	}
	if err := removeRemains(dir); err != nil {
		return false, fmt.Errorf("remove spool %s: %w", dir, err)
	}
	return true, nil
}

var errInUse = errors.New("it is in use")

// removeRemains removes the spool in dir, if nobody replicates it, and its database is still
// deleted. It removes the state last, so that the next Sweep finds what a kill leaves. A process
// that waits for the attach lock meanwhile finds no directory when it gets the lock, and starts
// again.
func removeRemains(dir string) error {
	var live *State
	if s, err := Open(dir); err == nil { // a spool from an earlier boot has no replicator
		lock, err := s.TryLock()
		if err != nil {
			return err
		}
		defer lock.Unlock()
		live = s.state
	}
	unlock, err := lockAttach(dir)
	if err != nil {
		return err
	}
	defer unlock()
	if r, err := RemainsOf(dir); err != nil || r == nil {
		return errors.Join(err, errInUse)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if live != nil {
		live.SetLost()
	}
	last := []string{"state", "lock", "attach"}
	for _, e := range entries {
		if e.Name() != last[0] && e.Name() != last[1] && e.Name() != last[2] {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	for _, name := range last {
		err := os.Remove(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return os.Remove(dir)
}
