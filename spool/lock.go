package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

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
var held = struct {
	sync.Mutex
	locks map[lockKey]bool
	moved []*os.File // that turned out to be of one of locks
}{locks: make(map[lockKey]bool)}

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
	name := filepath.Join(s.dir, "lock")
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err == nil && held.locks[lockKey{uint64(st.Dev), st.Ino}] {
		return nil, ErrLocked
	}
	token, err := Self()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Fstat(int(f.Fd()), &st)
	key := lockKey{uint64(st.Dev), st.Ino}
	if err == nil && held.locks[key] {
		// Somebody has moved our locked file here between the two looks. Closing it
		// would drop the lock: keep it open.
		held.moved = append(held.moved, f) // referred to, lest it is collected and so closed
		return nil, ErrLocked
	}
	if err == nil {
		err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	}
	if err != nil {
		f.Close()
		if err == unix.EAGAIN || err == unix.EACCES {
			err = ErrLocked
		} else {
			err = &fs.PathError{Op: "lock", Path: name, Err: err}
		}
		return nil, err
	}
	held.locks[key] = true
	s.state.Replicator.Store(uint64(token))
	return &Lock{spool: s, file: f, key: key, pid: os.Getpid(), token: token}, nil
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
