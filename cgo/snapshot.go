package cgo

/*
#include "snapshot.h"
#include "verneuil.h"
*/
import "C"

import (
	"context"
	"errors"
	rt "runtime/cgo"
	"sync"
	"time"
	"unsafe"

	"verneuil/replicate/replica"
	"verneuil/vfs"
)

func reader(h C.uintptr_t) *replica.Reader { return rt.Handle(h).Value().(*replica.Reader) }

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// opened tells C where its reader is.
func opened(h C.uintptr_t, r *replica.Reader) C.SnapshotOpened {
	return C.SnapshotOpened{
		hReader: h, bAuto: C.int(b2i(r.WantsAuto())), pTable: r.Table(), pNewest: r.Newest(),
	}
}

// report writes an error to the buffer that C lends, truncated to its length.
func report(err error, zErr *C.char, nErr C.int) C.int {
	buffer := unsafe.Slice((*byte)(unsafe.Pointer(zErr)), int(nErr))
	buffer[copy(buffer[:len(buffer)-1], err.Error())] = 0
	return 1
}

// recoverTo turns a panic into an error for C. It is to be deferred.
func recoverTo(rc *C.int, what string) {
	if p := recover(); p != nil {
		*rc = 1
		vfs.Process().Panicked(what, p)
	}
}

//export goSnapshotOpen
func goSnapshotOpen(zURI *C.char, out *C.SnapshotOpened, zErr *C.char, nErr C.int) (rc C.int) {
	defer recoverTo(&rc, "open a replica")
	r, err := vfs.Process().OpenReplica(context.Background(), C.GoString(zURI))
	if err != nil {
		return report(err, zErr, nErr)
	}
	*out = opened(C.uintptr_t(rt.NewHandle(r)), r)
	return 0
}

//export goSnapshotClose
func goSnapshotClose(h C.uintptr_t) {
	defer guard("close a replica")
	r := reader(h)
	rt.Handle(h).Delete()
	r.Close()
}

//export goSnapshotRead
func goSnapshotRead(h C.uintptr_t, p unsafe.Pointer, n C.int, off C.int64_t,
	db unsafe.Pointer) (rc C.int) {
	rc = C.SQLITE_IOERR_READ
	defer guard("read from a replica")
	ctx, end := untilInterrupted(db)
	defer end()
	err := reader(h).Read(ctx, unsafe.Slice((*byte)(p), int(n)), int64(off))
	switch {
	case err == nil:
		return C.SQLITE_OK
	case errors.Is(err, errInterrupted):
		return C.SQLITE_INTERRUPT
	}
	vfs.Process().Log().Error("replica cannot be read", "source", reader(h).Source(), "error", err)
	return rc
}

var errInterrupted = errors.New("interrupted")

// interruptPoll is how often a call that waits looks for sqlite3_interrupt().
const interruptPoll = 20 * time.Millisecond

// interrupts are the calls that wait, each with the connection that may be interrupted. They share
// a timer, which runs on for a moment when nobody waits any more: one for each call would wake one
// of the runtime's threads each time.
var interrupts = struct {
	mu      sync.Mutex
	waiting map[*unsafe.Pointer]context.CancelCauseFunc
	called  bool        // since the last look
	timer   *time.Timer // nil: it does not run
}{waiting: make(map[*unsafe.Pointer]context.CancelCauseFunc)}

func lookForInterrupts() {
	interrupts.mu.Lock()
	defer interrupts.mu.Unlock()
	for db, cancel := range interrupts.waiting {
		if C.snapshotInterrupted(*db) != 0 {
			cancel(errInterrupted)
		}
	}
	if interrupts.called || len(interrupts.waiting) > 0 {
		interrupts.called = false
		interrupts.timer.Reset(interruptPoll)
	} else {
		interrupts.timer = nil
	}
}

// untilInterrupted returns a context that ends with errInterrupted when the host
// interrupts the connection at db, which waits for us. Nothing looks at db once
// end has returned.
func untilInterrupted(db unsafe.Pointer) (ctx context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	interrupts.mu.Lock()
	defer interrupts.mu.Unlock()
	interrupts.waiting[&db], interrupts.called = cancel, true
	if interrupts.timer == nil {
		interrupts.timer = time.AfterFunc(interruptPoll, lookForInterrupts)
	}
	return ctx, func() {
		interrupts.mu.Lock()
		delete(interrupts.waiting, &db)
		interrupts.mu.Unlock()
		cancel(nil)
	}
}

//export goSnapshotAhead
func goSnapshotAhead(h C.uintptr_t, chunk C.uint32_t) {
	defer guard("read ahead in a replica")
	reader(h).Ahead(int(chunk))
}

//export goSnapshotAdopt
func goSnapshotAdopt(h C.uintptr_t) (table unsafe.Pointer) {
	defer guard("adopt a version")
	r := reader(h)
	table = r.Table()
	r.Adopt()
	return r.Table()
}

//export goSnapshotRefresh
func goSnapshotRefresh(h C.uintptr_t, force C.int, db unsafe.Pointer, out *C.SnapshotOpened,
	zErr *C.char, nErr C.int) (rc C.int) {
	defer recoverTo(&rc, "refresh a replica")
	ctx, end := untilInterrupted(db)
	defer end()
	r := reader(h)
	if err := r.Refresh(ctx, force != 0); err != nil {
		vfs.Process().Log().Error("replica cannot be refreshed", "source", r.Source(), "error", err)
		return report(err, zErr, nErr)
	}
	*out = opened(h, r)
	return 0
}

//export goSnapshotRequest
func goSnapshotRequest(h C.uintptr_t) {
	defer guard("reload a replica")
	reader(h).Request()
}

//export goSnapshotAuto
func goSnapshotAuto(h C.uintptr_t, on C.int) {
	defer guard("set auto refresh")
	reader(h).SetAuto(on != 0)
}

//export goSnapshotTimes
func goSnapshotTimes(h C.uintptr_t, ctime C.int, seconds *C.int64_t, nanoseconds *C.int) {
	defer guard("time of a replica")
	r := reader(h)
	t := r.Checked()
	if ctime != 0 {
		t = r.SourceCtime()
	}
	if !t.IsZero() {
		*seconds, *nanoseconds = C.int64_t(t.Unix()), C.int(t.Nanosecond())
	}
}
