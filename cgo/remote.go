package cgo

/*
#include <stdlib.h>
#include "descriptors.h"
#include "remote.h"
#include "spill.h"

static inline int noteSpill(int fd, Spill *p) {
	Ours ours;
	if (descriptorsNote(fd, &ours)) return -1;
	p->fdGo = fd;
	p->dev = ours.dev;
	p->ino = ours.ino;
	return 0;
}
*/
import "C"

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	rt "runtime/cgo"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"verneuil/replicate/remote"
	"verneuil/replicate/remote/compose"
	"verneuil/vfs"
)

// remoteConn is a handle's connection, with its database's name for the log.
type remoteConn struct {
	*remote.Conn
	name   string
	visits *visits
}

func conn(h C.uintptr_t) remoteConn { return rt.Handle(h).Value().(remoteConn) }

// place tells C where the connection is.
func (c remoteConn) place(out *C.RemotePlace) {
	p := c.Place()
	*out = C.RemotePlace{
		pTable: p.Table, iNumber: C.uint64_t(p.Number), iTip: C.uint64_t(p.Tip),
		iOnto: C.uint64_t(p.Onto), isKept: C.int(b2i(p.Kept)), isHeld: C.int(b2i(p.Held)),
	}
}

// bells are heard from the first database on, so that the process's end is not missed.
var bells = sync.OnceFunc(hearBells)

// remoteCodes are the result codes of what the connection of a remote database answers. What is not
// here, or was not an answer of the database, is the default of the method that it is for.
var remoteCodes = []struct {
	err error
	rc  C.int
}{
	{errInterrupted, C.SQLITE_INTERRUPT},
	{remote.ErrBusy, C.SQLITE_BUSY},
	{remote.ErrStale, C.SQLITE_BUSY_SNAPSHOT},
	{remote.ErrReadOnly, C.SQLITE_READONLY},
	{remote.ErrDenied, C.SQLITE_READONLY},
	{syscall.ENOSPC, C.SQLITE_FULL},
	{syscall.EDQUOT, C.SQLITE_FULL},
}

// codeOf returns the result code of err, whose default is otherwise.
func codeOf(err error, otherwise C.int) C.int {
	if err == nil {
		return C.SQLITE_OK
	}
	for _, c := range remoteCodes {
		if errors.Is(err, c.err) {
			return c.rc
		}
	}
	return otherwise
}

// tell logs err, which kept the host from what, and returns its result code. A conflict is no
// error: SQLite's busy handler asks again, many times a second.
func (c remoteConn) tell(what string, err error, otherwise C.int) C.int {
	rc := codeOf(err, otherwise)
	switch rc {
	case C.SQLITE_OK, C.SQLITE_INTERRUPT:
	case C.SQLITE_READONLY:
		if errors.Is(err, remote.ErrDenied) {
			vfs.Process().Log().Error("remote: cannot "+what, "database", c.name, "error", err)
		}
	case C.SQLITE_BUSY, C.SQLITE_BUSY_SNAPSHOT:
		vfs.Process().Log().Info("remote: cannot "+what+" now", "database", c.name, "reason", err)
	default:
		vfs.Process().Log().Error("remote: cannot "+what, "database", c.name, "error", err)
	}
	return rc
}

// visits is when a handle's thread has come to Go.
type visits struct{ last, yielded time.Duration }

// visitsSlice is for how long a thread comes back again and again until it yields.
const visitsSlice = 5 * time.Millisecond

var started = time.Now()

// note notes a visit. To the runtime many visits are one goroutine, which waits in C between them.
// When that has gone on for 10 ms without passing through the scheduler, the runtime's monitor
// preempts it, and takes its processor away whenever it is in C; and while there is something to
// take it looks every 20 µs, which costs more than a commit. So who comes often begins a new slice
// of time now and then.
func (v *visits) note() {
	now := time.Since(started)
	often := now-v.last < visitsSlice
	if v.last = now; often && now-v.yielded >= visitsSlice {
		v.yielded = now
		runtime.Gosched()
	}
}

// waiting is the function of that name, for one of the handle's visits.
func (c remoteConn) waiting(db unsafe.Pointer, f func(ctx context.Context) error) error {
	c.visits.note()
	return waiting(db, f)
}

// waiting runs f, which may wait until the host interrupts the connection at db.
func waiting(db unsafe.Pointer, f func(ctx context.Context) error) error {
	ctx, end := untilInterrupted(db)
	defer end()
	err := f(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errInterrupted) &&
		!errors.Is(err, remote.ErrUnknown) && !errors.Is(err, remote.ErrLost) {
		return fmt.Errorf("%w: %w", errInterrupted, err)
	}
	return err
}

//export goRemoteStores
func goRemoteStores() (list **C.char) {
	defer guard("list the stores")
	return stringList(vfs.Process().RemoteStores())
}

// waitingProcs is how many more processors the runtime is given for the host's threads that wait
// for a store.
const waitingProcs = 16

// moreProcs has the runtime run more goroutines at once than there are processors, unless the user
// has said how many. A goroutine that waits in C keeps one of the runtime's processors (P) until
// the runtime's monitor takes it away, which looks every 20 µs to 10 ms: so those that wait for
// calls keep all of them, and whoever is woken meanwhile waits for that. It is for hosts of
// databases in a store, whose threads come to Go for each commit.
var moreProcs = sync.OnceFunc(func() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + waitingProcs)
	}
})

//export goRemoteOpen
func goRemoteOpen(zName *C.char, m *C.RemoteMode, out *C.RemoteOpened) (rc C.int) {
	rc = C.SQLITE_CANTOPEN
	defer guard("open a database in a store")
	bells()
	moreProcs()
	name := C.GoString(zName)
	r, err := vfs.Process().OpenRemote(context.Background(), name, remote.Mode{
		ReadOnly: m.readOnly != 0, Create: m.create != 0, Follow: m.follow != 0,
	})
	c := remoteConn{r, name, new(visits)}
	if err != nil {
		return c.tell("open the database", err, C.SQLITE_CANTOPEN)
	}
	w := c.Words()
	*out = C.RemoteOpened{
		pNewest: w.Newest, pLease: w.Lease, pChecked: w.Checked, pTip: w.Tip, pGrip: w.Grip,
		hConn: C.uintptr_t(rt.NewHandle(c)),
	}
	c.place(&out.place)
	return C.SQLITE_OK
}

//export goRemoteExists
func goRemoteExists(zName *C.char, out *C.int) (rc C.int) {
	rc = C.SQLITE_IOERR_ACCESS
	defer guard("look for a database in a store")
	name := C.GoString(zName)
	exists, err := vfs.Process().RemoteExists(context.Background(), name)
	*out = C.int(b2i(exists))
	return remoteConn{name: name}.tell("look for the database", err, rc)
}

//export goRemoteClose
func goRemoteClose(h C.uintptr_t) {
	defer guard("close a database in a store")
	c := conn(h)
	rt.Handle(h).Delete()
	c.Close()
}

//export goRemoteRead
func goRemoteRead(h C.uintptr_t, p unsafe.Pointer, n C.int, off C.int64_t,
	db unsafe.Pointer) (rc C.int) {
	rc = C.SQLITE_IOERR_READ
	defer guard("read from a database in a store")
	c := conn(h)
	err := c.waiting(db, func(ctx context.Context) error {
		return c.Read(ctx, unsafe.Slice((*byte)(p), int(n)), int64(off))
	})
	return c.tell("read", err, rc)
}

//export goRemoteAhead
func goRemoteAhead(h C.uintptr_t, chunk C.uint32_t) {
	defer guard("read ahead in a database in a store")
	conn(h).Ahead(int(chunk))
}

//export goRemoteShare
func goRemoteShare(h C.uintptr_t, writes C.int, db unsafe.Pointer, out *C.RemotePlace) (rc C.int) {
	rc = C.SQLITE_IOERR_LOCK
	defer guard("share a database in a store")
	c := conn(h)
	defer c.place(out)
	share := func(ctx context.Context) error { return c.Share(ctx, writes != 0) }
	return c.tell("begin a transaction", c.waiting(db, share), rc)
}

//export goRemoteAdopt
func goRemoteAdopt(h C.uintptr_t, out *C.RemotePlace) {
	defer guard("adopt a version of a database in a store")
	c := conn(h)
	defer c.place(out)
	c.Adopt()
}

//export goRemoteReserve
func goRemoteReserve(h C.uintptr_t, db unsafe.Pointer, out *C.RemotePlace) (rc C.int) {
	rc = C.SQLITE_IOERR_LOCK
	defer guard("reserve a database in a store")
	c := conn(h)
	defer c.place(out)
	return c.tell("begin to write", c.waiting(db, c.Reserve), rc)
}

//export goRemoteUnreserve
func goRemoteUnreserve(h C.uintptr_t, out *C.RemotePlace) {
	defer guard("end writing to a database in a store")
	c := conn(h)
	defer c.place(out)
	c.Unreserve()
}

// change describes what C's overlay has. It is good until C's call returns.
func change(p *C.RemoteChange) compose.Change {
	offsets := make([]int64, int(p.nBlock))
	copy(offsets, unsafe.Slice((*int64)(unsafe.Pointer(p.aOffset)), len(offsets)))
	overlay := p.pOverlay
	var spilled spillReader
	return compose.Change{
		Bytes:   int64(p.nByte),
		Offsets: offsets,
		Read: func(k int, block []byte) error {
			_ = block[compose.BlockBytes-1]
			at := C.remoteBlock(overlay, C.int64_t(offsets[k]), unsafe.Pointer(&block[0]))
			if at < 0 {
				return nil
			}
			if spilled.file == nil {
				spilled.file = rt.Handle(C.remoteSpill(overlay)).Value().(*os.File)
			}
			if err := spilled.read(block[:compose.BlockBytes], int64(at)); err != nil {
				return fmt.Errorf("read what the transaction has written: %w", err)
			}
			return nil
		},
	}
}

// spillAhead is how many bytes are read at once: C writes as many (cgo/overlay.c).
const spillAhead = 16 * compose.BlockBytes

// spillReader reads blocks of a file to which nobody writes: some more at once, as what was written
// in order is read in order.
type spillReader struct {
	file *os.File
	at   int64  // where buf stands
	buf  []byte // what was read last
}

func (r *spillReader) read(block []byte, at int64) error {
	if at < r.at || at+int64(len(block)) > r.at+int64(len(r.buf)) {
		if r.buf == nil {
			r.buf = make([]byte, 0, spillAhead)
		}
		n, err := r.file.ReadAt(r.buf[:cap(r.buf)], at)
		if r.at, r.buf = at, r.buf[:n]; n < len(block) {
			return cmp.Or(err, io.ErrUnexpectedEOF)
		}
	}
	copy(block, r.buf[at-r.at:])
	return nil
}

//export goRemoteCommit
func goRemoteCommit(h C.uintptr_t, p *C.RemoteChange, db unsafe.Pointer,
	out *C.RemotePlace) (rc C.int) {
	rc = C.SQLITE_IOERR_WRITE
	defer guard("commit to a database in a store")
	c := conn(h)
	defer c.place(out)
	err := c.waiting(db, func(ctx context.Context) error {
		wait := p.wait != 0
		_, err := c.Commit(ctx, change(p), remote.Way{Pass: p.pass != 0, Early: !wait})
		if err == nil && wait {
			err = c.Wait(ctx)
		}
		return err
	})
	return c.tell("commit", err, rc)
}

//export goRemoteWait
func goRemoteWait(h C.uintptr_t, db unsafe.Pointer, out *C.RemotePlace) (rc C.int) {
	rc = C.SQLITE_IOERR_FSYNC
	defer guard("make a commit durable in a store")
	c := conn(h)
	defer c.place(out)
	return c.tell("commit", c.waiting(db, c.Wait), rc)
}

// complain logs err like tell, and gives C a copy of its text.
func (c remoteConn) complain(what string, err error, zErr **C.char) C.int {
	if err == nil {
		return C.SQLITE_OK
	}
	*zErr = C.CString(err.Error())
	return c.tell(what, err, C.SQLITE_ERROR)
}

//export goRemoteRefresh
func goRemoteRefresh(h C.uintptr_t, db unsafe.Pointer, out *C.RemotePlace,
	zErr **C.char) (rc C.int) {
	rc = C.SQLITE_ERROR
	defer guard("refresh a database in a store")
	c := conn(h)
	defer c.place(out)
	return c.complain("refresh", c.waiting(db, c.Refresh), zErr)
}

//export goRemoteFlush
func goRemoteFlush(h C.uintptr_t, db unsafe.Pointer, zErr **C.char) (rc C.int) {
	rc = C.SQLITE_ERROR
	defer guard("flush a database in a store")
	c := conn(h)
	return c.complain("flush", c.waiting(db, c.Flush), zErr)
}

//export goRemoteRelease
func goRemoteRelease(h C.uintptr_t, db unsafe.Pointer, zErr **C.char) (rc C.int) {
	rc = C.SQLITE_ERROR
	defer guard("give the lease of a database in a store back")
	c := conn(h)
	return c.complain("give the lease back", c.waiting(db, c.Release), zErr)
}

//export goSpillOpen
func goSpillOpen(p *C.Spill) (failed C.int) {
	failed = 1
	defer guard("make a temporary file")
	f, err := vfs.Process().TempFile()
	if err == nil && C.noteSpill(C.int(f.Fd()), p) != 0 {
		f.Close()
		err = errors.New("fstat")
	}
	if err != nil {
		vfs.Process().Log().Error("remote: a transaction that does not fit into memory needs a "+
			"file in tempdir", "error", err)
		return failed
	}
	p.hFile = C.uintptr_t(rt.NewHandle(f))
	return 0
}

//export goSpillClose
func goSpillClose(h C.uintptr_t) {
	defer guard("close a temporary file")
	f := rt.Handle(h).Value().(*os.File)
	rt.Handle(h).Delete()
	f.Close()
}
