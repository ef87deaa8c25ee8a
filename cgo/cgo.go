package cgo

/*
#cgo CFLAGS: -std=gnu11 -O2 -Wall -Wextra -fvisibility=hidden
#include <stdlib.h>
#include "goexports_types.h"
#include "recorder_source.h"
*/
import "C"

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
	"unsafe"

	"verneuil/replicate"
	"verneuil/vfs"
)

func init() { vfs.OpenSource = openSource }

// guard keeps a panic from crossing into the host: it is logged, and the
// function that deferred it returns what its named results hold.
func guard(what string) {
	if p := recover(); p != nil {
		vfs.Process().Panicked(what, p)
	}
}

//export goConfigure
func goConfigure(out *C.VerneuilSettings) {
	defer guard("configure")
	s := vfs.Process().Settings()
	*out = C.VerneuilSettings{permissions: C.uint(s.Permissions)}
	if s.Err != nil {
		out.zError = C.CString(s.Err.Error())
		return
	}
	if s.Validate {
		out.validate = 1
	}
	if s.SpoolingDir != "" {
		out.replicate = 1
		out.zRoot = C.CString(s.SpoolingDir)
	}
}

//export goOpened
func goOpened(dir *C.char) {
	defer guard("open")
	vfs.Process().Opened(C.GoString(dir))
}

//export goClosed
func goClosed(dir *C.char) {
	defer guard("close")
	vfs.Process().Closed(C.GoString(dir))
}

//export goFlush
func goFlush(dir *C.char, ms C.int) (done C.int) {
	defer guard("flush")
	if vfs.Process().Flush(C.GoString(dir), time.Duration(ms)*time.Millisecond) == nil {
		done = 1
	}
	return done
}

//export goValidate
func goValidate(dir *C.char) (ok C.int) {
	defer guard("validate")
	if vfs.Process().Validate(C.GoString(dir)) == nil {
		ok = 1
	}
	return ok
}

//export goStatus
func goStatus(problem *C.char) (status *C.char) {
	defer guard("status")
	return C.CString(string(vfs.Process().Status(C.GoString(problem))))
}

//export goExit
func goExit(ms C.int) {
	defer guard("exit")
	vfs.Process().Exit(time.Duration(ms) * time.Millisecond)
}

// source is the live database file, read through the base VFS.
type source struct {
	p    *C.RecorderSource
	path string
	file os.FileInfo // that was opened
}

var _ replicate.Source = (*source)(nil)

// sources are the files that are open, by path. They are never closed while their
// file stands at the path: even SQLite's own close may drop a lock that another
// thread of this process acquires at that moment (os_unix.c, unixClose: the
// descriptor is closed after pLockMutex was left).
var sources struct {
	sync.Mutex
	open map[string]*source
}

func openSource(path string) (replicate.Source, error) {
	sources.Lock()
	defer sources.Unlock()
	now, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if s := sources.open[path]; s != nil && os.SameFile(s.file, now) {
		return s, nil
	}
	z := C.CString(path)
	defer C.free(unsafe.Pointer(z))
	s := &source{path: path, file: now}
	if rc := C.recorderSourceOpen(z, &s.p); rc != 0 {
		return nil, fmt.Errorf("open database %s: SQLite result code %d", path, int(rc))
	}
	if sources.open == nil {
		sources.open = make(map[string]*source)
	}
	sources.open[path] = s // one of another file is forgotten, not closed: somebody may be reading it
	return s, nil
}

// sqliteIOErrShortRead is SQLITE_IOERR_SHORT_READ: the read reached the file's
// end, and the rest of the buffer is zero.
const sqliteIOErrShortRead = 522

// ReadAt is io.ReaderAt's, but that bytes past the file's end read as zeros
// before io.EOF is returned.
func (s *source) ReadAt(b []byte, off int64) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	switch rc := C.recorderSourceRead(s.p, unsafe.Pointer(&b[0]), C.int(len(b)), C.longlong(off)); rc {
	case 0:
		return len(b), nil
	case sqliteIOErrShortRead:
		size, err := s.Size()
		if err != nil {
			return 0, err
		}
		return int(max(0, min(size-off, int64(len(b))))), io.EOF
	default:
		return 0, fmt.Errorf("read database at %d: SQLite result code %d", off, int(rc))
	}
}

func (s *source) Size() (int64, error) {
	var n C.longlong
	if rc := C.recorderSourceSize(s.p, &n); rc != 0 {
		return 0, fmt.Errorf("size of database: SQLite result code %d", int(rc))
	}
	return int64(n), nil
}

func (s *source) Reserved() (bool, error) {
	var reserved C.int
	if rc := C.recorderSourceReserved(s.p, &reserved); rc != 0 {
		return false, fmt.Errorf("look for a reserved lock: SQLite result code %d", int(rc))
	}
	return reserved != 0, nil
}

// Close leaves the file open, for the next time.
func (s *source) Close() error { return nil }
