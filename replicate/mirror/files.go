package mirror

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"verneuil/chunkstore"
)

// files are a mirror's: mirror and dirty (see doc.go).
type files struct {
	dir         string
	file, dirty *os.File
	// whole: both were there when they were opened, and of lengths that fit. A kill may leave them
	// unfit, while the mirror's length changes.
	whole  bool
	rested uint64 // Stamp at rest
	guard  guard
}

func (f *files) both() []*os.File { return []*os.File{f.file, f.dirty} }

// open opens the files, or makes empty ones, and returns the mirror's length.
func (f *files) open() (bytes int64, err error) {
	err = f.openThem(0)
	f.whole = err == nil
	if errors.Is(err, fs.ErrNotExist) {
		f.close()
		err = f.openThem(os.O_CREATE)
	}
	if err != nil {
		return 0, err
	}
	st, err := f.file.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (f *files) openThem(flag int) (err error) {
	flag |= os.O_RDWR | syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	if f.file, err = os.OpenFile(filepath.Join(f.dir, "mirror"), flag, 0o600); err != nil {
		return err
	}
	f.dirty, err = os.OpenFile(filepath.Join(f.dir, "dirty"), flag, 0o600)
	return err
}

func (f *files) close() error {
	var errs []error
	for _, file := range f.both() {
		if file != nil {
			errs = append(errs, file.Close())
		}
	}
	f.file, f.dirty = nil, nil
	return errors.Join(errs...)
}

// rest closes the files until resume.
func (f *files) rest() {
	f.rested = f.Stamp()
	f.close() // what was written is in the kernel: no error of close takes it back
}

// resume opens the files again.
func (f *files) resume() error {
	err := f.openThem(0)
	if err == nil && f.Stamp() != f.rested {
		err = fmt.Errorf("%w: it was changed", chunkstore.ErrCorrupt)
	}
	return err
}
