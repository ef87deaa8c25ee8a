package vfs

import (
	"maps"
	"os"
	"slices"

	"verneuil/replicate/mirror"
)

// source is a live database file that a service's replicators read. Closing it
// would drop the locks of this process's connections to the file: so none is
// closed before the last connection is (see leaveFiles), and a replicator's Close
// does nothing.
type source struct {
	*mirror.SourceFile
	info os.FileInfo
}

func (s *source) Close() error { return nil }

// openSource opens the database at path for s, or finds it open. The file system may not answer: the
// engine's lock is not held.
func (e *Engine) openSource(s *service, path string) (mirror.Source, error) {
	now, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	for _, known := range s.files {
		if known.info != nil && os.SameFile(known.info, now) {
			e.mu.Unlock()
			return known, nil
		}
	}
	e.mu.Unlock()
	f, err := mirror.OpenSourceFile(path)
	if err != nil {
		return nil, err
	}
	opened := &source{SourceFile: f}
	opened.info, err = f.Stat()
	e.mu.Lock()
	defer e.mu.Unlock()
	s.files = append(s.files, opened) // whatever comes: it must not be closed now
	if err != nil {
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
// would be dropped, also those that it takes between a look at them and the close. Who opens
// a database meanwhile waits, for the files of that database alone.
func (e *Engine) leaveFiles(dir string, s *service) {
	e.mu.Lock()
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
	dirs := slices.Collect(maps.Keys(e.left))
	e.mu.Unlock()
	for _, dir := range dirs {
		n -= e.closeLeft(dir, n > leftMost)
	}
}

// closeLeft closes what files are left of dir, of those in use also the ones that nobody has locked if
// there are tooMany. It returns how many it closed.
func (e *Engine) closeLeft(dir string, tooMany bool) int {
	e.mu.Lock()
	files, closing := e.left[dir], make(chan struct{})
	if len(files) == 0 || e.closing[dir] != nil {
		e.mu.Unlock()
		return 0
	}
	delete(e.left, dir)
	if e.closing == nil {
		e.closing = make(map[string]chan struct{})
	}
	e.closing[dir] = closing
	e.mu.Unlock()
	n := len(files)
	files = slices.DeleteFunc(files, func(f *source) bool {
		if f.CloseUnused() {
			return true
		}
		locked, err := true, error(nil)
		if tooMany {
			locked, err = f.Locked()
		}
		return !locked && err == nil && f.SourceFile.Close() == nil
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.closing, dir)
	close(closing)
	if s := e.served[dir]; s != nil {
		s.files = append(s.files, files...)
	} else if len(files) > 0 {
		e.left[dir] = append(e.left[dir], files...)
	}
	return n - len(files)
}

// awaitClosing returns, with mu held, when no file of dir is being closed.
func (e *Engine) awaitClosing(dir string) {
	e.mu.Lock()
	for e.closing[dir] != nil {
		closing := e.closing[dir]
		e.mu.Unlock()
		<-closing
		e.mu.Lock()
	}
}
