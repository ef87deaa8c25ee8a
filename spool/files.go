package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
)

// WriteFile makes b the contents of the file called name in the spool, completely or not at all.
// Like everything in a spool, it is not fsynced.
func (s *Spool) WriteFile(name string, b []byte) error { return writeFile(s.dir, name, b) }

// RewriteFile is WriteFile for a file that is written again and again, and that only the holder of
// the lock reads. The file that is replaced stays, under another name, and the next call writes
// over it: to make a new file, and to remove the old one, takes most of the time that WriteFile
// takes.
func (s *Spool) RewriteFile(name string, b []byte) error {
	f, err := openSpare(filepath.Join(s.dir, name+".new"))
	if err != nil {
		return err
	}
	return putInPlace(f, filepath.Join(s.dir, name), b, true)
}

// openSpare opens a file of ours that nothing needs, to be written over, or makes one. What has
// another name, too, may be somebody's copy of what was there: it is not written to.
func openSpare(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err == nil {
		info, err := f.Stat()
		if err == nil && info.Mode().IsRegular() && info.Sys().(*syscall.Stat_t).Nlink == 1 {
			return f, nil
		}
		f.Close()
	}
	if !errors.Is(err, fs.ErrNotExist) {
		_ = os.RemoveAll(name) // if it stays, to make another one fails
	}
	return openOrReplace(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
}

// ErrUnwritable: a spool's file system is full, or cannot be written to for another reason.
var ErrUnwritable = errors.New("nothing can be written to the spool: make room there, and flush " +
	"again; the database has what was committed")

// TryWrite fails with [ErrUnwritable], and with why, if a chunk cannot be written to the spool in
// dir. It leaves nothing there.
func TryWrite(dir string) error {
	f, err := os.CreateTemp(dir, "aside.new*")
	if err == nil {
		_, err = f.Write(make([]byte, chunkstore.ChunkBytes))
		err = errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	if err == nil {
		return nil
	}
	var at *fs.PathError
	if errors.As(err, &at) {
		err = at.Err // not the name, which nobody knows
	}
	return fmt.Errorf("%w (%s: %w)", ErrUnwritable, dir, err)
}

// ReadFile reads the file called name in the spool, of at most bytesMax bytes.
func (s *Spool) ReadFile(name string, bytesMax int64) ([]byte, error) {
	return readFile(s.dir, name, bytesMax)
}

// OpenFile opens the file called name in the spool, one of the replicator's, with flags as for
// [os.OpenFile]. If something else has that name, it is removed. The caller closes the file.
func (s *Spool) OpenFile(name string, flags int) (*os.File, error) {
	return openOrReplace(filepath.Join(s.dir, name), flags)
}

func writeFile(dir, name string, b []byte) error {
	temp := filepath.Join(dir, name+".new")
	f, err := openOrReplace(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	return putInPlace(f, filepath.Join(dir, name), b, false)
}

// putInPlace makes b the contents of f, and closes and renames it. If keep says so, what had its
// new name gets its old one.
func putInPlace(f *os.File, name string, b []byte, keep bool) error {
	_, err := f.Write(b)
	if keep && err == nil {
		err = f.Truncate(int64(len(b)))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	// If a rename replaces a file, ext4 begins to write the new one to disk, for the sake of
	// programs that do not fsync (ext4_rename). An exchange does not cause that.
	if unix.Renameat2(unix.AT_FDCWD, f.Name(), unix.AT_FDCWD, name, unix.RENAME_EXCHANGE) == nil {
		if !keep {
			_ = os.RemoveAll(f.Name()) // b is in place, whatever becomes of the old file
		}
		return nil
	}
	err = os.Rename(f.Name(), name)
	if replaceable(name, err) {
		err = os.Rename(f.Name(), name)
	}
	return err
}

func readFile(dir, name string, bytesMax int64) ([]byte, error) {
	f, err := os.OpenFile(filepath.Join(dir, name),
		os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil && (!st.Mode().IsRegular() || st.Size() > bytesMax) {
		err = fmt.Errorf("%s: %w: not a file of at most %d bytes", f.Name(), chunkstore.ErrCorrupt,
			bytesMax)
	}
	if err != nil {
		return nil, err
	}
	b := make([]byte, st.Size())
	n, err := f.ReadAt(b, 0)
	if n == len(b) {
		err = nil
	}
	return b[:n], err
}

// PutPrefix begins the names of the files that say what a target has durably: see package courier.
const PutPrefix = "put."

// HistoryPrefix is how the names of files begin that say how far a target's history goes: see
// package courier.
const HistoryPrefix = "history."

// ResetIfOld empties the replicator's files if they are from another boot: none of them was
// fsynced. The caller holds the lock, and has none of them open.
func (s *Spool) ResetIfOld() error {
	boot := bootID()
	if b, err := s.ReadFile("boot", 64); err == nil && string(b) == string(boot[:]) {
		return nil
	}
	s.state.MirrorGeneration.Store(NoMirror)
	names := []string{"mirror", "dirty", "cut", "cuts", "tree", "targets.json", "copied.json",
		"status.json"}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("reset spool: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), PutPrefix) || strings.HasPrefix(e.Name(), HistoryPrefix) {
			names = append(names, e.Name())
		}
	}
	for _, name := range names {
		if err := os.RemoveAll(filepath.Join(s.dir, name)); err != nil {
			return fmt.Errorf("reset spool: %w", err)
		}
	}
	if err := s.WriteFile("boot", boot[:]); err != nil {
		return fmt.Errorf("reset spool: %w", err)
	}
	return nil
}

// Complete reports whether the files exist that a successor needs, or a process that asks for a
// flush.
func (s *Spool) Complete() bool {
	for _, name := range []string{"source.json", "boot", "tree"} {
		if _, err := os.Lstat(filepath.Join(s.dir, name)); errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return true
}

// KeepBoot notes again that the replicator's files are from this boot. The caller has held the lock
// since [Spool.ResetIfOld].
func (s *Spool) KeepBoot() error {
	boot := bootID()
	return s.WriteFile("boot", boot[:])
}
