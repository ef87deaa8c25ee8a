package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Somebody may put something else in the place of a file of ours: a directory, a link, a FIFO, a
// file that belongs to another user, a file that has a second name. We never wait for such a thing
// (files are opened with O_NONBLOCK and O_NOFOLLOW), and all of our files can be made again.

// RemoveJunk removes from the spool's directory what has a name of ours but was not made by us. The
// caller holds the lock, and has no other file open.
func (s *Spool) RemoveJunk() error {
	err := removeJunk(s.dir, func(name string) (want fs.FileMode, ok bool) {
		switch {
		case name == "wake":
			return fs.ModeNamedPipe, true
		case name == "tree":
			return fs.ModeDir, true
		}
		return 0, isFileOfReplicator(name)
	})
	if err == nil {
		err = removeJunk(filepath.Join(s.dir, "tree"), func(string) (fs.FileMode, bool) {
			return 0, true
		})
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove junk: %w", err)
	}
	return nil
}

// isFileOfReplicator reports whether name is that of a regular file which only the holder of the
// lock makes, or keeps open for long.
func isFileOfReplicator(name string) bool {
	for _, prefix := range []string{"log.", "free.", PutPrefix, HistoryPrefix, "source.json"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	switch strings.TrimSuffix(name, ".new") {
	case "boot", "mirror", "dirty", "cut", "cuts", "flush.json", "targets.json", "patrol.json",
		"copied.json", "status.json", "damaged.json", "aside", deletedName:
		return true
	}
	return false
}

// removeJunk removes the entries of dir whose type is not the one that want returns.
func removeJunk(dir string, want func(name string) (fs.FileMode, bool)) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		mode, ok := want(e.Name())
		if !ok {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // a recorder takes and gives segments
		} else if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		copied := info.Mode().IsRegular() && ok && st.Nlink > 1 // it is written to in place
		if info.Mode().Type() == mode && ok && int(st.Uid) == os.Geteuid() && !copied {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// openOrReplace opens a file of ours. It first removes anything else that has its name.
func openOrReplace(name string, flags int) (*os.File, error) {
	flags |= syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	f, err := os.OpenFile(name, flags, 0o600)
	if replaceable(name, err) {
		f, err = os.OpenFile(name, flags, 0o600)
	}
	return f, err
}

// replaceable reports whether opening or replacing name failed because something that is not ours
// was there, and removes that.
func replaceable(name string, err error) bool {
	if err == nil {
		return false
	}
	st, statErr := os.Lstat(name)
	return statErr == nil && !st.Mode().IsRegular() && os.RemoveAll(name) == nil
}
