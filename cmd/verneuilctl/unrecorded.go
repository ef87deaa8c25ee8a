package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"

	"verneuil/spool"
	"verneuil/vfs"
)

// A database whose spool could not be made is not recorded, and leaves nothing by which status
// would know of it: but a directory without a state, if there was room for that, and a spooling
// directory that still cannot be written to.

// whyUnwritable says why nothing can be written to the spooling directory root; nil: something can
// be. It writes there only if the file system says that it has no room.
func whyUnwritable(root string) error {
	var at unix.Statfs_t
	err := vfs.Usable(root)
	if err == nil && unix.Statfs(root, &at) == nil && at.Blocks > 0 && at.Bavail == 0 {
		err = spool.TryWrite(root)
	}
	if cause := unix.Errno(0); errors.As(err, &cause) {
		return cause
	}
	return err
}

// unwritable fails if nothing can be written to the spooling directory root: status does not know
// of databases that are opened now.
func unwritable(root string) error {
	err := whyUnwritable(root)
	if err == nil {
		return nil
	}
	return fmt.Errorf("nothing can be written to %s: %w: a database that is opened now is not "+
		"recorded, and perhaps not shown here; it is once there is room", root, err)
}

// withoutSpool is how it stands with the database at path, which has no spool in root.
func withoutSpool(root, path string) standing {
	s := standing{}
	s.Path, s.Spool, s.State = path, spool.Dir(root, path), "not recorded"
	s.Error = "not recorded: it has no spool in " + root
	if err := whyUnwritable(root); err != nil {
		s.Error += fmt.Sprintf(", where nothing can be written: %v: mend that; a process "+
			"that has the database open tries it again every 10 s", err)
	} else {
		s.Error += ": no program has written to it with this configuration since the machine was " +
			"started, or none could make the spool: verneuil_status() in the program says why"
	}
	return s
}

var spoolName = regexp.MustCompile(`^(.*)-[0-9a-f]{16}$`)

// unmade is how it stands with each database of whose spool in root there is only the directory.
func unmade(root string) (all []standing, err error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		dir := filepath.Join(root, entry.Name())
		part := spoolName.FindStringSubmatch(entry.Name())
		if part == nil || !entry.IsDir() || isSpool(dir) {
			continue
		}
		path, err := url.PathUnescape(part[1])
		if err != nil || spool.Name(path) != entry.Name() {
			path = dir // the name has only the path's end
		} else if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		all = append(all, withoutSpool(root, path))
	}
	return all, nil
}
