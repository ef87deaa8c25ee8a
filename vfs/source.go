package vfs

import (
	"os"
	"slices"

	"verneuil/replicate"
)

// source is a live database file that a service's replicators read. Closing it
// would drop the locks of this process's connections to the file: so none is
// closed before the last connection is (see leaveFiles), and a replicator's Close
// does nothing.
type source struct {
	*replicate.SourceFile
	info os.FileInfo
}

func (s *source) Close() error { return nil }

// openSource opens the database at path for s, or finds it open.
func (e *Engine) openSource(s *service, path string) (replicate.Source, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	for _, known := range s.files {
		if os.SameFile(known.info, now) {
			return known, nil
		}
	}
	f, err := replicate.OpenSourceFile(path)
	if err != nil {
		return nil, err
	}
	opened := &source{SourceFile: f}
	s.files = append(s.files, opened) // whatever comes: it must not be closed now
	if opened.info, err = f.Stat(); err != nil {
		return nil, err
	}
	return opened, nil
}

// leaveFiles closes the files of s, the service of dir that has ended, and those
// that others have left: but not while the database is open again, nor while
// somebody has locked the file, perhaps a connection that does not use our VFS.
// That it asks for locks first, and then closes, is what SQLite does too
// (os_unix.c, unixClose).
func (e *Engine) leaveFiles(dir string, s *service) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if next := e.served[dir]; next != nil && next != s {
		next.files = append(next.files, s.files...)
	} else {
		e.left[dir] = append(e.left[dir], s.files...)
	}
	s.files = nil
	for dir, files := range e.left {
		e.left[dir] = slices.DeleteFunc(files, func(f *source) bool {
			locked, err := f.Locked()
			if locked || err != nil {
				return false
			}
			f.SourceFile.Close()
			return true
		})
		if len(e.left[dir]) == 0 {
			delete(e.left, dir)
		}
	}
}
