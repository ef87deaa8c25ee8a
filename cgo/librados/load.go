package librados

/*
#cgo CFLAGS: -std=gnu11 -O2 -Wall -Wextra -fvisibility=hidden
#cgo linux LDFLAGS: -ldl
#include "functions.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"
)

// Library is the name under which librados is looked for.
const Library = "librados.so.2"

// ErrNoLibrary: there is no librados on this machine.
var ErrNoLibrary = errors.New("RADOS needs the library " + Library +
	" (Debian, Ubuntu: apt-get install librados2)")

var library struct {
	mu     sync.Mutex
	loaded bool
}

var beforeLoading = sync.OnceFunc(beforeExit)

// Load opens librados, unless that was done. It fails with [ErrNoLibrary] if there is none; it may
// be called again when it was installed. A library that was opened stays.
func Load() error {
	library.mu.Lock()
	defer library.mu.Unlock()
	if library.loaded {
		return nil
	}
	beforeLoading()
	name := C.CString(Library)
	defer C.free(unsafe.Pointer(name))
	var missing C.int
	if message := C.radosLoad(name, &missing); message != nil {
		defer C.free(unsafe.Pointer(message))
		if missing != 0 {
			return fmt.Errorf("%w: %s", ErrNoLibrary, C.GoString(message))
		}
		return fmt.Errorf("%s is too old: %s", Library, C.GoString(message))
	}
	library.loaded = true
	beforeExit()
	go dispatch()
	return nil
}

// Version returns the version of the interface that the loaded library has.
func Version() (major, minor, extra int) {
	var a, b, c C.int
	C.radosVersion(&a, &b, &c)
	return int(a), int(b), int(c)
}
