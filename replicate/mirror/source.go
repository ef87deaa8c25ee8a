package mirror

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"verneuil/spool/sqlitefile"
)

// Source is the live database file, read without SQLite's locks.
type Source interface {
	io.ReaderAt
	// Size returns the file's length.
	Size() (int64, error)
	// Reserved returns the ID of a process, one of whose connections holds SQLite's RESERVED
	// lock or more; 0 if there is none, -1 if it cannot be told which.
	Reserved() (pid int, err error)
	// Exclusive is Reserved for EXCLUSIVE, without which nobody writes to the file.
	Exclusive() (pid int, err error)
	Close() error
}

// holed is a [Source] that knows where it has holes.
type holed interface {
	// NextData is [NextData].
	NextData(off int64) (int64, error)
}

// SourceFile is a [Source] by plain system calls. SQLite is not asked to read: in its process it
// may be configured for one thread, be shut down, or be counting. A process that closes any
// descriptor of a file loses all POSIX locks that it has on the file, SQLite's too: whoever closes
// a SourceFile makes sure that there are none (see CloseUnused).
type SourceFile struct{ f *os.File }

var _ Source = (*SourceFile)(nil)

// OpenSourceFile opens the database file at path.
func OpenSourceFile(path string) (*SourceFile, error) {
	f, err := openForReading(path, 0)
	if err != nil {
		return nil, err
	}
	return &SourceFile{f}, nil
}

// openForReading opens the file at path. Whatever stands there, it does not wait, unless somebody
// has a lease (see Unused), which only regular files have.
func openForReading(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|flags, 0)
	if errors.Is(err, unix.EAGAIN) {
		return os.OpenFile(path, os.O_RDONLY|flags, 0)
	}
	return f, err
}

func (s *SourceFile) ReadAt(b []byte, off int64) (int, error) { return s.f.ReadAt(b, off) }

// NextData is [NextData].
func (s *SourceFile) NextData(off int64) (int64, error) { return NextData(s.f, off) }

// Stat describes the file, which may not be the one at its path any more.
func (s *SourceFile) Stat() (os.FileInfo, error) { return s.f.Stat() }

// Size returns the length of the database file, in bytes.
func (s *SourceFile) Size() (int64, error) {
	info, err := s.f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Reserved asks whether a read lock could be had from the RESERVED byte on:
// readers do not mind, but whoever holds RESERVED does, and so does one who
// holds EXCLUSIVE alone to roll back a hot journal.
func (s *SourceFile) Reserved() (pid int, err error) {
	return s.conflict(unix.F_RDLCK, sqlitefile.ReservedByte, 1+sqlitefile.SharedBytes)
}

// Exclusive asks whether a lock could be had as readers have it.
func (s *SourceFile) Exclusive() (pid int, err error) {
	return s.conflict(unix.F_RDLCK, sqlitefile.SharedFirst, sqlitefile.SharedBytes)
}

// Locked reports whether some connection, of whatever process, holds any lock.
func (s *SourceFile) Locked() (bool, error) {
	return s.locked(sqlitefile.PendingByte, sqlitefile.LockBytes)
}

// locked reports whether anybody holds any lock on these bytes.
func (s *SourceFile) locked(start, n int64) (bool, error) {
	pid, err := s.conflict(unix.F_WRLCK, start, n)
	return pid != 0, err
}

// conflict returns who holds a lock that excludes one of that kind; see Reserved for the numbers.
// It asks as the owner of an open file description, not as the process, so that the locks of this
// process's own connections are somebody else's, too (fcntl(2)).
func (s *SourceFile) conflict(kind int16, start, n int64) (pid int, err error) {
	lock := unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: start, Len: n}
	raw, err := s.f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var lockErr error
	err = raw.Control(func(fd uintptr) { lockErr = unix.FcntlFlock(fd, unix.F_OFD_GETLK, &lock) })
	if err == nil {
		err = lockErr
	}
	if err != nil {
		return 0, fmt.Errorf("look at locks of %s: %w", s.f.Name(), err)
	}
	if lock.Type == unix.F_UNLCK {
		return 0, nil
	}
	// 0: of another PID namespace (the kernel's locks_translate_pid)
	return cmp.Or(int(lock.Pid), -1), nil
}

func (s *SourceFile) Close() error { return s.f.Close() }

// CloseUnused closes the file, unless a connection, of whatever process, has it open: one
// that holds no lock now may take one before it is closed. It reports whether it did.
func (s *SourceFile) CloseUnused() bool {
	return closeUnused(s.f, s.Locked)
}

// closeUnused closes f if nobody else has its file open, or, where that cannot be learned
// (no leases here, or the file is another user's), if it is not locked.
func closeUnused(f *os.File, locked func() (bool, error)) bool {
	free, err := Unused(f)
	if err != nil {
		isLocked, lockErr := locked()
		free = !isLocked && lockErr == nil
	}
	return free && f.Close() == nil
}

// Unused reports whether nobody but f has its file open: then a write lease can be had
// (fcntl(2)), which is given back at once. Whoever opens the file meanwhile waits until then. (A
// lease that stayed until the close would not end with it in a process that has forked.)
// It fails where there are no leases, or where the file is another user's.
func Unused(f *os.File) (bool, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return false, err
	}
	var leaseErr error
	err = raw.Control(func(fd uintptr) {
		// Who opens the file meanwhile also makes a signal, by default one that kills.
		if _, leaseErr = unix.FcntlInt(fd, unix.F_SETSIG, int(unix.SIGURG)); leaseErr != nil {
			return
		}
		if _, leaseErr = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_WRLCK); leaseErr == nil {
			_, leaseErr = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_UNLCK)
		}
	})
	switch err = cmp.Or(err, leaseErr); {
	case errors.Is(err, unix.EAGAIN):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("lease %s: %w", f.Name(), err)
	}
	return true, nil
}
