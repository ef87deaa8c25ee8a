package restore

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"verneuil/replicate/mirror"
	"verneuil/spool/sqlitefile"
)

// errNotFlushed: the file has its name, but a crash of the machine may take it away.
var errNotFlushed = errors.New("the file is in place, but flushing its directory")

// PutInPlace gives a file that is flushed, temp, the name path, in the same directory, and
// flushes that. It refuses what [File] does, also if another process has made path since
// the caller asked [Replaceable]; where the file system cannot tell (NFS), what came in the last
// moment is replaced.
func PutInPlace(temp, path string, replace bool) error {
	if err := refuse(path, replace); err != nil {
		return err
	}
	flags := uint(unix.RENAME_NOREPLACE)
	if _, err := os.Lstat(path); err == nil {
		flags = 0
	}
	err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, path, flags)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: temp, New: path, Err: err}
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("%w: %w", errNotFlushed, err)
	}
	return nil
}

// refuse fails if what stands at path, or beside it, must not be replaced.
func refuse(path string, replace bool) error {
	if err := cmp.Or(Replaceable(path, replace), refuseJournals(path)); err != nil {
		return err
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // there is none, or it is no file of ours
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	free, err := mirror.Unused(f)
	if err != nil { // there are no leases, or not for us: locks tell of who is using it just now
		free, err = unlocked(fd)
	}
	if err == nil && !free {
		return errors.New("another process has the file open: end it first, or move the file away")
	}
	return nil
}

// unlocked reports whether nobody holds a lock of SQLite's on the database file fd.
func unlocked(fd int) (bool, error) {
	lock := unix.Flock_t{
		Type: unix.F_WRLCK, Whence: io.SeekStart,
		Start: sqlitefile.PendingByte, Len: sqlitefile.LockBytes,
	}
	err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lock)
	return lock.Type == unix.F_UNLCK, err
}

// Replaceable fails if path is taken by what a file that is renamed to it must not replace:
// /dev/null would be gone, for everybody; of a symbolic link nobody knows whether it, or
// what it leads to, is meant. Unless replace is set, it fails with [fs.ErrExist] if path is
// a file that is not empty: a database, perhaps, that is newer than what takes its place.
func Replaceable(path string, replace bool) error {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return nil // if it cannot be looked at, nothing can be put there either
	case info.Mode().IsRegular():
		if replace || info.Size() == 0 {
			return nil
		}
		return &fs.PathError{Op: "write", Path: path, Err: fs.ErrExist}
	case info.IsDir():
		return fmt.Errorf("%s is a directory", path)
	case info.Mode().Type() == fs.ModeSymlink:
		return fmt.Errorf("%s is a symbolic link: name the file itself", path)
	}
	return fmt.Errorf("%s is not a regular file", path)
}

// refuseJournals fails if SQLite would find a journal for the database path.
func refuseJournals(path string) error {
	for _, suffix := range []string{"-journal", "-wal"} {
		info, err := os.Stat(path + suffix)
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
			continue
		}
		if err != nil {
			return err
		}
		return fmt.Errorf(
			"%s is not empty: it would be replayed on the restored database; move it away first",
			path+suffix)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
