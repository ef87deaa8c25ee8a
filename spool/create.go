package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
)

const (
	attachTries    = 2000
	attachInterval = time.Millisecond
	createTries    = 3
)

// identity says which file is at a path: a file with a reused inode number has another birth
// time.
type identity struct{ dev, ino, birth uint64 }

func fileIdentity(path string) (identity, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return identity{}, &fs.PathError{Op: "statx", Path: path, Err: err}
	}
	id := identity{dev: uint64(st.Dev_major)<<32 | uint64(st.Dev_minor), ino: st.Ino}
	if st.Mask&unix.STATX_BTIME != 0 {
		id.birth = uint64(st.Btime.Sec)*1e9 + uint64(st.Btime.Nsec)
	}
	return id, nil
}

// Create finds or makes the spool under root for the database at dbPath, a canonical absolute
// path. It does what a recorder does when it attaches (cgo, spool_state.c): a state is lost, and is
// replaced, if it is from another boot, or belongs to another path or to another file that was at
// the path. Create makes root, and directories that are missing above it, with permissions. Create
// and [Open] fail if [Trust] does.
func Create(root, dbPath string, permissions fs.FileMode) (*Spool, error) {
	s, err := create(root, dbPath, permissions)
	for try := 1; errors.Is(err, fs.ErrNotExist) && try < createTries; try++ { // see removeRemains
		s, err = create(root, dbPath, permissions)
	}
	if err != nil {
		return nil, fmt.Errorf("create spool of %s: %w", dbPath, err)
	}
	return s, nil
}

func create(root, dbPath string, permissions fs.FileMode) (*Spool, error) {
	if len(dbPath) > PathBytesMax || !filepath.IsAbs(dbPath) {
		return nil, fmt.Errorf("path must be absolute and at most %d bytes long", PathBytesMax)
	}
	id, err := fileIdentity(dbPath)
	if err != nil {
		return nil, err
	}
	dir := Dir(root, dbPath)
	if err := os.MkdirAll(root, RootMode(permissions)); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if err := Trust(dir); err != nil {
		return nil, err
	}
	_ = unix.Mkfifo(filepath.Join(dir, "wake"), 0o600) // without it commits are found later
	unlock, err := lockAttach(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	old, err := open(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, chunkstore.ErrCorrupt):
		return makeState(dir, dbPath, id, nil)
	case err != nil:
		return nil, err
	case old.Path() != dbPath:
		return makeState(dir, dbPath, id, nil)
	case old.state.identity() != id:
		old.state.SetLost()
	}
	if !old.state.Lost() {
		return old, nil
	}
	s, err := makeState(dir, dbPath, id, old.state)
	if err == nil {
		_ = s.Wake() // the old one's replicator, which finds out for itself if that fails
	}
	return s, err
}

// identity says which file the spool belongs to.
func (s *State) identity() identity {
	return identity{s.Dev.Load(), s.Ino.Load(), s.Birth.Load()}
}

// Replaced reports whether another file than the spool's is at the path. If so, it marks the state
// as lost.
func (s *Spool) Replaced() (bool, error) {
	id, err := fileIdentity(s.Path())
	if err != nil || id == s.state.identity() {
		return false, err
	}
	s.state.SetLost()
	return true, nil
}

// firstSegment is the number of a new state's first segment: the time, but beyond the segments that
// handles of the state before may still write, so that none of those is ever taken for ours.
func firstSegment(old *State) uint32 {
	first := uint32(time.Now().Unix())
	if old != nil {
		first = max(first, old.Head().Segment()+uint32(old.LogAllowance.Load()/SegmentBytes)+2)
	}
	return first
}

// lockAttach takes the attach lock, which is held for moments only.
func lockAttach(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "attach"),
		os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	ticker := time.NewTicker(attachInterval)
	defer ticker.Stop()
	for try := 0; ; try++ {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if err != unix.EINTR && (err != unix.EWOULDBLOCK || try == attachTries) {
			f.Close()
			return nil, &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
		<-ticker.C
	}
	return func() {
		// A child that was forked meanwhile has the descriptor, too
		unix.Flock(int(f.Fd()), unix.LOCK_UN)
		f.Close()
	}, nil
}

// makeState makes a new state, which is complete before it gets its name. old is the state before,
// or nil.
func makeState(dir, dbPath string, id identity, old *State) (*Spool, error) {
	name := filepath.Join(dir, "state.new")
	// Not O_TRUNC: if the directory was emptied, another process may hold an attach lock of its
	// own, and have the file of this name mapped.
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	boot := bootID()
	b := make([]byte, stateBytes)
	copy(b, stateMagic)
	b[8] = stateVersion
	copy(b[16:], boot[:])
	copy(b[pathOffset:], dbPath)
	if _, err := f.WriteAt(b, 0); err != nil { // blocks are allocated: no SIGBUS later
		return nil, err
	}
	s, err := mapState(dir, f)
	if err != nil {
		return nil, err
	}
	st := s.state
	st.Dev.Store(id.dev)
	st.Ino.Store(id.ino)
	st.Birth.Store(id.birth)
	cause := CauseNew
	if old != nil && old.identity() != id {
		cause = CauseReplaced
	}
	st.Raise(cause)
	st.SetHead(At(firstSegment(old), SegmentHeaderBytes))
	st.SetTail(st.Head())
	st.DBSize.Store(-1)
	st.LogAllowance.Store(logAllowance)
	if err := os.Rename(name, filepath.Join(dir, "state")); err != nil {
		return nil, err
	}
	if !s.Current() {
		return nil, fmt.Errorf("another process makes a state at the same time")
	}
	return s, nil
}
