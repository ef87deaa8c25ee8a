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

// leftMost is how many files may stay open because somebody else has them open. Of more,
// those are closed that nobody has locked.
const leftMost = 64

// leaveFiles closes the files of s, the service of dir that has ended, and those
// that others have left: but not while the database is open again, nor while
// anybody else has the file open, perhaps by another VFS of this process: whose locks
// would be dropped, also those that it takes between a look at them and the close.
func (e *Engine) leaveFiles(dir string, s *service) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if next := e.served[dir]; next != nil && next != s {
		next.files = append(next.files, s.files...)
	} else {
		e.left[dir] = append(e.left[dir], s.files...)
	}
	s.files = nil
	n := 0
	for _, files := range e.left {
		n += len(files)
	}
	for dir, files := range e.left {
		e.left[dir] = slices.DeleteFunc(files, func(f *source) bool {
			closed := f.CloseUnused()
			if !closed && n > leftMost {
				locked, err := f.Locked()
				closed = !locked && err == nil && f.SourceFile.Close() == nil
			}
			if closed {
				n--
			}
			return closed
		})
		if len(e.left[dir]) == 0 {
			delete(e.left, dir)
		}
	}
}
