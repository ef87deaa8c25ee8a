package spool

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrLocked: another live process, or another replicator of this one, holds the
// spool's lock.
var ErrLocked = errors.New("another process replicates this spool")

// lockKey is a lock file's device and inode.
type lockKey struct{ dev, ino uint64 }

// held are the lock files that this process has locked. The kernel's locks
// are per process, and any close of any descriptor of the file would drop them:
// a file in here is neither locked nor opened again. (flock has neither trouble, but a
// forked child would keep the lock when its parent is dead, and replicates nothing.)
//
// Another copy of this library in the process, with a SQLite library of its own, has its
// own held. What it has locked shows when an open file description asks ([lockFile.holder]).
var held = struct {
	sync.Mutex
	locks map[lockKey]bool
	kept  map[lockKey]*lockFile // whose closing would drop a lock of this process
}{locks: make(map[lockKey]bool), kept: make(map[lockKey]*lockFile)}

// Lock is a spool's replicator lock, held.
type Lock struct {
	spool *Spool
	file  *os.File
	key   lockKey
	pid   int
	token Token
}

// TryLock takes the spool's lock and stores our token as the replicator's, or
// fails with ErrLocked at once. The kernel gives it back when the process ends.
func (s *Spool) TryLock() (*Lock, error) {
	l, err := s.tryLock()
	if err != nil {
		return nil, fmt.Errorf("lock spool %s: %w", s.dir, err)
	}
	return l, nil
}

func (s *Spool) tryLock() (*Lock, error) {
	held.Lock()
	defer held.Unlock()
	token, err := Self()
	if err != nil {
		return nil, err
	}
	f, err := s.openLock()
	if err != nil {
		return nil, err
	}
	if pid, err := f.holder(); err != nil || pid != 0 {
		f.letGo(pid)
		return nil, cmp.Or(err, ErrLocked)
	}
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		f.letGo(0)
		if err == unix.EAGAIN || err == unix.EACCES {
			return nil, ErrLocked
		}
		return nil, &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	delete(held.kept, f.key)
	held.locks[f.key] = true
	s.state.Replicator.Store(uint64(token))
	return &Lock{spool: s, file: f.File, key: f.key, pid: os.Getpid(), token: token}, nil
}

// Served reports whether a replicator, of whatever process, has the spool's lock. The
// token in the state does not tell: a process that has become another program by exec
// keeps its number and its start time, and has lost the lock.
func (s *Spool) Served() (bool, error) {
	held.Lock()
	defer held.Unlock()
	f, err := s.openLock()
	switch {
	case errors.Is(err, ErrLocked):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("look at the lock of spool %s: %w", s.dir, err)
	}
	pid, err := f.holder()
	f.letGo(pid)
	if err != nil {
		return false, fmt.Errorf("look at the lock of spool %s: %w", s.dir, err)
	}
	return pid != 0, nil
}

// lockFile is a spool's file lock, open. held is locked while it is in use.
type lockFile struct {
	*os.File
	key lockKey
}

// openLock opens the file, or finds it open. It fails with ErrLocked if this process
// has locked it.
func (s *Spool) openLock() (*lockFile, error) {
	name := filepath.Join(s.dir, "lock")
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err == nil {
		key := lockKey{uint64(st.Dev), st.Ino}
		if held.locks[key] {
			return nil, ErrLocked
		} else if f := held.kept[key]; f != nil {
			return f, nil
		}
	}
	file, err := openOrReplace(name, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		file.Close()
		return nil, &fs.PathError{Op: "fstat", Path: name, Err: err}
	}
	f := &lockFile{file, lockKey{uint64(st.Dev), st.Ino}}
	if held.locks[f.key] { // somebody has moved our locked file here between the two looks
		held.kept[f.key] = f
		return nil, ErrLocked
	}
	return f, nil
}

// holder returns the number of the process that has the file locked, 0 if none has,
// -1 if it has none here.
func (f *lockFile) holder() (pid int, err error) {
	// As the owner of an open file description we are told of locks of our own process.
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
		return 0, &fs.PathError{Op: "look at lock", Path: f.Name(), Err: err}
	}
	switch {
	case lock.Type == unix.F_UNLCK:
		return 0, nil
	case lock.Pid == 0: // of another container
		return -1, nil
	}
	return int(lock.Pid), nil
}

// letGo closes the file, unless that would drop a lock that our own process, pid then, has.
func (f *lockFile) letGo(pid int) {
	if pid == os.Getpid() {
		held.kept[f.key] = f
		return
	}
	delete(held.kept, f.key)
	f.Close()
}

// Unlock gives the lock back.
func (l *Lock) Unlock() {
	held.Lock()
	defer held.Unlock()
	if l.pid == os.Getpid() {
		l.spool.state.Replicator.CompareAndSwap(uint64(l.token), 0)
	}
	l.file.Close()
	delete(held.locks, l.key)
}
