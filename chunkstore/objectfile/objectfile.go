package objectfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
)

// What the files of a store and of a cache are made with: they are their owner's.
const (
	DirPerm  = 0o700
	FilePerm = 0o600
)

// Open opens the file called name for reading. It fails with [chunkstore.ErrAbsent] if there is
// none, and with [chunkstore.ErrCorrupt] if it is no regular file. It neither follows nor waits for
// what is none of ours: a link, of whatever file, or a FIFO. (Directories may be links: an operator
// may spread them over disks.)
func Open(name string) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, chunkstore.ErrAbsent
	// a link; a socket, a device without a driver
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO):
		return nil, nil, fmt.Errorf("%w: %s is not a regular file", chunkstore.ErrCorrupt, name)
	case err != nil:
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%w: %s is not a regular file", chunkstore.ErrCorrupt, name)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// SetTimes is os.Chtimes, but that it does not follow a link.
func SetTimes(name string, accessed, modified time.Time) error {
	times := []unix.Timespec{unix.NsecToTimespec(accessed.UnixNano()),
		unix.NsecToTimespec(modified.UnixNano())}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, name, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "utimensat", Path: name, Err: err}
	}
	return nil
}

// IgnoreAbsent returns err, or nil if it says that there is no such file.
func IgnoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// RemoveUnlocked removes a regular file that nobody has locked (flock(2)): what a process
// was writing that was killed. One that is locked, or is gone, is no error.
func RemoveUnlocked(name string) error {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return IgnoreAbsent(&fs.PathError{Op: "open", Path: name, Err: err})
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &fs.PathError{Op: "fstat", Path: name, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil
	}
	return IgnoreAbsent(os.Remove(name))
}
