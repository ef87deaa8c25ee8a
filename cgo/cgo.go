package cgo

/*
#cgo CFLAGS: -std=gnu11 -O2 -Wall -Wextra -fvisibility=hidden
#include <stdlib.h>
#include "children.h"
#include "descriptors.h"
#include "goexports_types.h"
#include "gort.h"
#include "version.h"
#include "wake.h"
*/
import "C"

import (
	"bytes"
	"context"
	"io"
	"os"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"verneuil/cgo/librados"
	"verneuil/vfs"
)

func init() {
	vfs.Stderr = func(b []byte) {
		C.descriptorsSay((*C.char)(unsafe.Pointer(unsafe.SliceData(b))), C.size_t(len(b)))
	}
	librados.BeforeExit = func() {
		bells()
		C.exitHasClients()
		C.exitFirst()
	}
}

// Does not compile, for a key that stands twice, unless C and Go name the same version.
var _ = map[bool]struct{}{false: {}, C.VERNEUIL_VERSION == vfs.Program: {}}

// guard keeps a panic from crossing into the host. It logs the panic, and the function that
// deferred it returns the values of its named results.
func guard(what string) {
	if p := recover(); p != nil {
		vfs.Process().Panicked(what, p)
	}
}

// settings are asked for by every thread that opens a database before the first of them
// has an answer.
var settings = sync.OnceValue(func() vfs.Settings {
	s := vfs.Process().Settings()
	if s.Err == nil && s.SpoolingDir != "" {
		bells()
		hearChildren()
	}
	return s
})

//export goConfigure
func goConfigure(out *C.VerneuilSettings) {
	defer guard("configure")
	s := settings()
	*out = C.VerneuilSettings{permissions: C.uint(s.Permissions), targets: C.int(s.Targets),
		timeoutMs: C.int(s.Timeout.Milliseconds()),
		durableMs: C.int(s.DurableTimeout.Milliseconds()), purpose: C.ulonglong(s.Purpose)}
	if s.Err != nil {
		out.zError = C.CString(s.Err.Error())
		return
	}
	out.replicaFiles = C.int(b2i(s.ReplicaFiles))
	if s.Validate {
		out.validate = 1
	}
	out.azInclude, out.azExclude = stringList(s.Patterns.Include), stringList(s.Patterns.Exclude)
	if s.SpoolingDir != "" {
		out.replicate = 1
		out.zRoot = C.CString(s.SpoolingDir)
	}
}

// stringList returns a list for C, which frees it and its strings; nil if it is empty.
func stringList(list []string) **C.char {
	if len(list) == 0 {
		return nil
	}
	p := (**C.char)(C.calloc(C.size_t(len(list)+1), C.size_t(unsafe.Sizeof(uintptr(0)))))
	if p == nil {
		panic("out of memory")
	}
	for i, s := range list {
		unsafe.Slice(p, len(list)+1)[i] = C.CString(s)
	}
	return p
}

// hearChildren reads what forked children note of the databases that they have open.
func hearChildren() {
	fd := C.childrenPipe()
	if fd < 0 {
		return
	}
	f := os.NewFile(uintptr(fd), "children")
	go func() {
		defer guard("children")
		var note C.ChildNote
		for b := unsafe.Slice((*byte)(unsafe.Pointer(&note)), C.sizeof_ChildNote); ; {
			if _, err := io.ReadFull(f, b); err != nil {
				return
			}
			name, _, _ := bytes.Cut(b[unsafe.Offsetof(note.zName):], []byte{0})
			vfs.Process().Child(uint64(note.token), string(name), note.opened != 0)
		}
	}()
}

// hearBells wakes this process's replicators when a recorder of it rings, and has them send
// what is not sent when the process ends.
func hearBells() {
	C.bellListen()
	go func() {
		defer guard("wake")
		leave, hurry := sync.OnceFunc(func() { go exit() }), sync.OnceFunc(func() { go exitNow() })
		for heard := C.uint32_t(0); ; {
			heard = C.bellWait(heard)
			if C.exitIsUrgent() != 0 {
				hurry()
			}
			vfs.Process().Woken()
			runtime.Gosched() // who was woken runs in this thread, and not in another one, later
			if C.exitAsked() != 0 {
				leave()
			}
		}
	}()
}

func exit() {
	defer C.exitDone()
	defer guard("exit")
	defer librados.Shutdown(context.Background()) // C waits for a bounded time
	vfs.Process().Exit(C.EXIT_SEND_MS * time.Millisecond)
}

// exitNow is exit when that takes too long.
func exitNow() {
	defer C.exitDone()
	defer guard("exit")
	librados.Shutdown(context.Background())
}

//export goOpened
func goOpened(dir *C.char) {
	defer guard("open")
	defer C.free(unsafe.Pointer(dir))
	vfs.Process().Opened(C.GoString(dir))
}

//export goClosed
func goClosed(dir *C.char) {
	defer guard("close")
	defer C.free(unsafe.Pointer(dir))
	vfs.Process().Closed(C.GoString(dir))
}

//export goFlush
func goFlush(dir *C.char, ms C.int) (done C.int) {
	defer guard("flush")
	defer C.free(unsafe.Pointer(dir))
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
func goStatus(sqlite, problem, list, durable *C.char) (status *C.char) {
	defer guard("status")
	defer C.free(unsafe.Pointer(sqlite))
	defer C.free(unsafe.Pointer(problem))
	defer C.free(unsafe.Pointer(list))
	defer C.free(unsafe.Pointer(durable))
	return C.CString(string(vfs.Process().Status(vfs.Recorded{
		SQLite: C.GoString(sqlite), Problem: C.GoString(problem),
		NotReplicated: C.GoString(list), Durable: C.GoString(durable),
	})))
}
