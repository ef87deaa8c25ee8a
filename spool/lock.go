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

// held has the locks of this process, by their files. The kernel's locks belong to a process, and
// are dropped when any descriptor of the file is closed. So a file in held is neither locked nor
// opened again. (flock has neither problem. But a forked child would keep the lock after its
// parent's death, and a child does not replicate.)
//
// Another copy of this library in the process, with a SQLite library of its own, has a held of its
// own. A query by an open file description shows what it has locked ([lockFile.holder]).
var held = struct {
	sync.Mutex
	locks map[lockKey]*Lock
	kept  map[lockKey]*lockFile // closing these would drop a lock of another copy
}{locks: make(map[lockKey]*Lock), kept: make(map[lockKey]*lockFile)}

// ErrTaken: the lock's file, or the spool, was removed or replaced while we held the lock.
var ErrTaken = errors.New("the spool's lock was taken away")

// Lock is a spool's replicator lock, held.
type Lock struct {
	spool  *Spool
	file   *lockFile
	more   []*lockFile // the same file, opened before we knew that; closed by Unlock
	dir    *os.File
	dirKey lockKey
	pid    int
	token  Token
}

// TryLock takes the spool's lock and stores our token as the replicator's, or fails with ErrLocked
// at once. The kernel drops the lock when the process ends.
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
	dir, err := s.lockDir(f.key)
	if err != nil {
		f.letGo(0)
		return nil, err
	}
	dirKey, err := keyOf(dir)
	if err != nil {
		dir.Close()
		f.letGo(0)
		return nil, err
	}
	delete(held.kept, f.key)
	l := &Lock{spool: s, file: f, dir: dir, dirKey: dirKey, pid: os.Getpid(), token: token}
	held.locks[f.key] = l
	s.state.LockIno.Store(f.key.ino)
	s.state.Replicator.Store(uint64(token))
	return l, nil
}

// lockDir locks the spool's directory, after the lock file with that key: see doc.go.
func (s *Spool) lockDir(key lockKey) (*os.File, error) {
	dir, err := os.OpenFile(s.dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK && s.state.LockIno.Load() != key.ino {
		dir.Close()
		return nil, ErrLocked
	}
	return dir, nil // on a file system that cannot lock directories, only the file is locked
}

// keyOf returns the device and inode of an open file.
func keyOf(f *os.File) (lockKey, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return lockKey{}, &fs.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	return lockKey{uint64(st.Dev), st.Ino}, nil
}

// Held checks that the lock is still ours, and that it is the lock of the spool at its path. Its
// error wraps [ErrTaken]. Any goroutine may call it.
func (l *Lock) Held() error {
	if token := Token(l.spool.state.Replicator.Load()); token != l.token {
		return fmt.Errorf("%w: process %d replicates", ErrTaken, token.PID())
	}
	for _, o := range []struct {
		name string
		file *os.File
		key  lockKey
	}{{l.spool.dir, l.dir, l.dirKey}, {l.file.Name(), l.file.File, l.file.key}} {
		var st unix.Stat_t
		err := unix.Lstat(o.name, &st)
		if err == unix.EACCES {
			// We have become another user. A file that was removed has no link any more
			if err = unix.Fstat(int(o.file.Fd()), &st); err == nil && st.Nlink == 0 {
				err = unix.ENOENT
			}
		}
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrTaken, o.name, err)
		} else if o.key != (lockKey{uint64(st.Dev), st.Ino}) {
			return fmt.Errorf("%w: another file is at %s", ErrTaken, o.name)
		}
	}
	if pid, err := l.file.holder(); err != nil || pid != l.pid {
		return fmt.Errorf("%w: %s is not locked by this process any more", ErrTaken, l.file.Name())
	}
	return nil
}

// Refresh updates the times of the spool's files, so that a cleaner that goes by age spares them.
// It leaves out the mirror's files, which we recognize by their times (Refresh in
// replicate/mirror).
func (l *Lock) Refresh() {
	now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_OMIT}}
	touch := func(name string) {
		_ = unix.UtimesNanoAt(unix.AT_FDCWD, name, now, unix.AT_SYMLINK_NOFOLLOW)
	}
	for _, dir := range []string{l.spool.dir, filepath.Join(l.spool.dir, "tree")} {
		touch(dir)
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if e.Name() != "mirror" && e.Name() != "dirty" {
				touch(filepath.Join(dir, e.Name()))
			}
		}
	}
}

// Served reports whether a replicator of any process has the spool's lock. The token in the state
// does not tell: a process that executes another program keeps its number and its start time, but
// has lost the lock.
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
	if err == nil && pid == 0 && s.state.LockIno.Load() != f.key.ino {
		// The file that the holder has locked may have been removed
		var dir *os.File
		if dir, err = s.lockDir(f.key); errors.Is(err, ErrLocked) {
			return true, nil
		} else if err == nil {
			err = dir.Close()
		}
	}
	if err != nil {
		return false, fmt.Errorf("look at the lock of spool %s: %w", s.dir, err)
	}
	return pid != 0, nil
}

// lockFile is a spool's lock file, open. The caller has locked held while it uses one.
type lockFile struct {
	*os.File
	key lockKey
}

// openLock opens the lock file, or finds it open. It fails with ErrLocked if this process has
// locked it: then the file must not be opened.
func (s *Spool) openLock() (*lockFile, error) {
	name := filepath.Join(s.dir, "lock")
	var st unix.Stat_t
	switch err := unix.Lstat(name, &st); err {
	case nil:
		key := lockKey{uint64(st.Dev), st.Ino}
		if held.locks[key] != nil {
			return nil, ErrLocked
		} else if f := held.kept[key]; f != nil {
			return f, nil
		}
	case unix.ENOENT:
	default:
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	file, err := openOrReplace(name, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	key, err := keyOf(file)
	if err != nil {
		file.Close()
		return nil, err
	}
	f := &lockFile{file, key}
	if l := held.locks[key]; l != nil { // it was moved here after the first look
		l.more = append(l.more, f)
		return nil, ErrLocked
	}
	return f, nil
}

// holder returns the number of the process that has the file locked: 0 if none has, -1 if that
// process has no number here.
func (f *lockFile) holder() (pid int, err error) {
	// A query by an open file description also shows the locks of our own process.
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

// letGo closes the file, unless our own process (pid) holds a lock that this would drop.
func (f *lockFile) letGo(pid int) {
	if pid == os.Getpid() {
		held.kept[f.key] = f
		return
	}
	delete(held.kept, f.key)
	f.Close()
}

// Unlock releases the lock.
func (l *Lock) Unlock() {
	held.Lock()
	defer held.Unlock()
	if l.pid == os.Getpid() {
		l.spool.state.Replicator.CompareAndSwap(uint64(l.token), 0)
	}
	if l.dir != nil {
		l.dir.Close()
	}
	l.file.Close()
	for _, f := range l.more {
		f.Close()
	}
	delete(held.locks, l.file.key)
}
