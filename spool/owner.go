package spool

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Trust fails, and says why, if the spool's directory dir, or the directory above it, cannot be
// trusted: another user may have made it, in /tmp say, to read the database, or to make us send
// another one to him. It fails with fs.ErrNotExist if one of them does not exist. Recorders do the
// same (cgo, spool_dir.c).
//
// Root is no exception: the database's owner could not use the files that root would leave here.
func Trust(dir string) error {
	root := filepath.Dir(dir)
	if err := trust(root, true); err != nil {
		return err
	}
	for above := filepath.Dir(root); ; above = filepath.Dir(above) {
		var st unix.Stat_t
		if unix.Stat(above, &st) == nil && st.Mode&0o002 != 0 && st.Mode&unix.S_ISVTX == 0 {
			return fmt.Errorf("anybody may write to %s, above %s (mode %04o): "+
				"chmod +t or o-w it", above, root, st.Mode&0o7777)
		}
		if above == filepath.Dir(above) {
			return trust(dir, false)
		}
	}
}

// RootMode returns the mode of a new spooling directory for replication_spooling_dir_permissions:
// its owner may do everything, and if others may write to it, it gets the sticky bit, so that
// nobody can replace what is another user's.
func RootMode(permissions fs.FileMode) fs.FileMode {
	mode := permissions.Perm() | 0o700
	if mode&0o022 != 0 {
		mode |= fs.ModeSticky
	}
	return mode
}

// trust checks one directory. A spooling directory may belong to root, who provides it for all, and
// others may write to it if it is sticky: they make spools of their own there, but cannot put
// another directory in the place of ours.
func trust(dir string, shared bool) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: dir, Err: err}
	}
	self := uint32(os.Geteuid())
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return fmt.Errorf("%s is a symbolic link, which is not followed: name the directory itself",
			dir)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return &fs.PathError{Op: "open", Path: dir, Err: unix.ENOTDIR}
	case st.Uid != self && shared && st.Uid != 0:
		return fmt.Errorf("%s belongs to another user (%d, not %d): "+
			"name a replication_spooling_dir that this user owns, "+
			"or let root make it for everybody (mode 1777)", dir, st.Uid, self)
	case st.Uid != self && !shared:
		return fmt.Errorf(
			"%s belongs to another user (%d, not %d), who opened the database first: "+
				"that user's processes replicate it, and that user flushes it", dir, st.Uid, self)
	case shared && st.Mode&0o022 != 0 && st.Mode&unix.S_ISVTX == 0:
		return fmt.Errorf("other users may write to %s (mode %04o), "+
			"and could replace what is in it: chmod +t or go-w it", dir, st.Mode&0o7777)
	case !shared && st.Mode&0o022 != 0:
		return fmt.Errorf("other users may write to %s (mode %04o)", dir, st.Mode&0o7777)
	}
	return nil
}
