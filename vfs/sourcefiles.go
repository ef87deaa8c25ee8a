package vfs

import (
	"os"
	"slices"
	"sync"

	"verneuil/replicate/mirror"
)

// sourceFiles holds the live database files that the services' replicators read. Closing one would
// drop the locks that this process's connections have on the file. So a file stays open while its
// database is open here, and while anybody else has it open, perhaps through another VFS of this
// process. sourceFiles is safe for concurrent use, and looks at no file under its mutex.
type sourceFiles struct {
	mu sync.Mutex
	of map[string]*databaseFiles // by the directory of the spool
}

// databaseFiles holds the files of one database: several, if the file at its path was replaced.
// sourceFiles.mu guards its fields.
type databaseFiles struct {
	users   int // services, and connections that are being opened
	open    []*source
	closing chan struct{} // some files, which are not in open, are being closed until it is closed
}

// source is a file that a replicator has open; its Close does nothing.
type source struct {
	*mirror.SourceFile
	info os.FileInfo
}

func (s *source) Close() error { return nil }

func newSourceFiles() *sourceFiles { return &sourceFiles{of: make(map[string]*databaseFiles)} }

// use keeps the files of dir from being closed until [sourceFiles.leave], or drop. It does not stop
// a close that has begun.
func (f *sourceFiles) use(dir string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.useLocked(dir)
}

func (f *sourceFiles) useLocked(dir string) {
	if f.of[dir] == nil {
		f.of[dir] = &databaseFiles{}
	}
	f.of[dir].users++
}

// useAfterClosing waits until no file of dir is being closed, and then does what use does.
func (f *sourceFiles) useAfterClosing(dir string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.of[dir] != nil && f.of[dir].closing != nil {
		closing := f.of[dir].closing
		f.mu.Unlock()
		<-closing
		f.mu.Lock()
	}
	f.useLocked(dir)
}

// drop is the opposite of use if a service uses the files as well.
func (f *sourceFiles) drop(dir string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.of[dir].users--
	f.forgetLocked(dir)
}

// forgetLocked forgets dir if there is nothing to remember.
func (f *sourceFiles) forgetLocked(dir string) {
	if d := f.of[dir]; d.users == 0 && len(d.open) == 0 && d.closing == nil {
		delete(f.of, dir)
	}
}

// openFile opens the database at path, whose spool is dir and in use, or finds it open. The file
// system may not answer.
func (f *sourceFiles) openFile(dir, path string) (mirror.Source, error) {
	now, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if known := f.find(dir, now); known != nil {
		return known, nil
	}
	file, err := mirror.OpenSourceFile(path)
	if err != nil {
		return nil, err
	}
	opened := &source{SourceFile: file}
	opened.info, err = file.Stat()
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.of[dir]
	d.open = append(d.open, opened) // whatever comes: it must not be closed now
	if err != nil {
		return nil, err
	}
	return opened, nil
}

// find returns the open file of dir that now describes; nil: there is none.
func (f *sourceFiles) find(dir string, now os.FileInfo) *source {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, known := range f.of[dir].open {
		if known.info != nil && os.SameFile(known.info, now) {
			return known
		}
	}
	return nil
}

// leftMost is how many files may stay open because somebody else has them open. If there are more,
// those that nobody has locked are closed.
const leftMost = 64

// leave is called by a service of dir that ends. It closes the files of all databases that no
// service of this process needs, and that nobody else has open: a close would drop the other one's
// locks, even those that it takes between our look at them and the close. Whoever opens a database
// meanwhile waits ([sourceFiles.useAfterClosing]), but only for the files of that database.
func (f *sourceFiles) leave(dir string) {
	f.mu.Lock()
	f.of[dir].users--
	f.forgetLocked(dir)
	n := 0
	var left []string
	for dir, d := range f.of {
		if d.users == 0 && len(d.open) > 0 {
			left, n = append(left, dir), n+len(d.open)
		}
	}
	f.mu.Unlock()
	for _, dir := range left {
		n -= f.closeLeft(dir, n > leftMost)
	}
}

// closeLeft closes the files that are left of dir. If there are tooMany, it also closes those that
// others have open but nobody has locked. It returns how many it closed.
func (f *sourceFiles) closeLeft(dir string, tooMany bool) int {
	f.mu.Lock()
	d := f.of[dir]
	if d == nil || d.users > 0 || d.closing != nil {
		f.mu.Unlock()
		return 0
	}
	files := d.open
	d.open, d.closing = nil, make(chan struct{})
	f.mu.Unlock()
	n := len(files)
	files = slices.DeleteFunc(files, func(file *source) bool { return file.closed(tooMany) })
	f.mu.Lock()
	defer f.mu.Unlock()
	d.open = append(d.open, files...)
	close(d.closing)
	d.closing = nil
	f.forgetLocked(dir)
	return n - len(files)
}

// closed closes the file if nobody else has it open; if there are tooMany, also if nobody has it
// locked. It reports whether it did.
func (s *source) closed(tooMany bool) bool {
	if s.CloseUnused() {
		return true
	}
	if !tooMany {
		return false
	}
	locked, err := s.Locked()
	return !locked && err == nil && s.SourceFile.Close() == nil
}
