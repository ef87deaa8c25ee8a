package librados

/*
#include "functions.h"
*/
import "C"

import (
	"context"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// IO reads and writes the objects of a pool in a namespace. It is safe for concurrent use. Its
// errors are of the kind [Error], or the context's.
//
// Where a pool or the cluster is full, a write fails with EDQUOT or ENOSPC, and is not held back.
type IO struct {
	cluster         *Cluster
	handle          C.rados_ioctx_t
	pool            int64
	name, namespace string
}

// Cluster returns the client.
func (io *IO) Cluster() *Cluster { return io.cluster }

// Pool returns the pool's number and, as it was at first, its name.
func (io *IO) Pool() (id int64, name string) { return io.pool, io.name }

// Namespace returns the namespace, which may be empty.
func (io *IO) Namespace() string { return io.namespace }

// fail returns the error of a request.
func (io *IO) fail(request, object string, rc int) error {
	e := newError(request, rc)
	e.Object, e.Pool, e.Namespace = object, io.name, io.namespace
	if e.Errno == syscall.ENOENT {
		err := io.cluster.scope.ask(func() C.int {
			_, rc := io.cluster.poolName(io.pool)
			return C.int(rc)
		})
		e.noPool = err == syscall.ENOENT
	}
	return e
}

// call runs a call about an object, and frees it, after take was called, if it succeeded.
func (io *IO) call(ctx context.Context, request, object string,
	start func(c *C.Call, object *C.char) C.int, take func(c *C.Call)) error {
	if err := checkName(object); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	z := C.CString(object)
	defer C.free(unsafe.Pointer(z))
	one, err := begin(io.cluster.scope, func(c *C.Call) C.int { return start(c, z) })
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return io.fail(request, object, -int(errno))
	} else if err != nil {
		return err
	}
	if err := one.wait(ctx, io.handle); err != nil {
		return err
	}
	defer one.free()
	if rc := int(one.c.rc); rc < 0 {
		return io.fail(request, object, rc)
	}
	take(one.c)
	return nil
}

// Write carries out w, and returns the version of the object that it has made. It is durable then.
func (io *IO) Write(ctx context.Context, object string, w *WriteOp) (version uint64, err error) {
	if w.err != nil {
		return 0, w.err
	}
	err = io.call(ctx, "write", object, w.start(io),
		func(c *C.Call) { version = uint64(c.version) })
	return version, err
}

// WriteHere is Write that has the caller's thread wait in librados, which wakes it some changes of
// threads sooner: for who writes one by one.
func (io *IO) WriteHere(ctx context.Context, object string, w *WriteOp) (
	version uint64, err error,
) {
	if w.err != nil {
		return 0, w.err
	}
	if err := checkName(object); err != nil {
		return 0, err
	}
	z := C.CString(object)
	defer C.free(unsafe.Pointer(z))
	version, rc, err := here(ctx, io, func(c *C.Call) C.int { return w.start(io)(c, z) })
	if err == nil && rc < 0 {
		err = io.fail("write", object, rc)
	}
	return version, err
}

// Read carries out r. Fewer bytes than wanted are what stands before the object's end.
func (io *IO) Read(ctx context.Context, object string, r *ReadOp) (got *Result, err error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	err = io.call(ctx, "read", object, func(c *C.Call, z *C.char) C.int {
		if !r.prepare(c) {
			return -C.ENOMEM
		}
		return C.callRead(c, io.handle, z)
	}, func(c *C.Call) { got = r.result(c) })
	return got, err
}

// Notify has all who watch the object hear data, and returns when they have, and how many. After
// timeout it fails with ETIMEDOUT: some have not. It fails with ENOENT if there is no such object.
func (io *IO) Notify(ctx context.Context, object string, data []byte, timeout time.Duration) (
	heard int, err error,
) {
	err = io.call(ctx, "notify", object, func(c *C.Call, z *C.char) C.int {
		c.lingers = 1
		io.cluster.scope.linger(1)
		rc := C.callNotify(c, io.handle, z, pointer(data), C.int(len(data)),
			C.uint64_t(max(1, timeout.Milliseconds())))
		if rc < 0 {
			io.cluster.scope.linger(-1)
		}
		return rc
	}, func(c *C.Call) {
		// The reply begins with the number of acknowledgements (librados.h, rados_notify2).
		if c.nReply >= 4 {
			b := unsafe.Slice((*byte)(unsafe.Pointer(c.pReply)), 4)
			heard = int(binary.LittleEndian.Uint32(b))
		}
	})
	return heard, err
}

// List returns the names of all objects, in no order, for which want says yes. What is written
// meanwhile may be among them.
func (io *IO) List(ctx context.Context, want func(name string) bool) (names []string, err error) {
	var given atomic.Bool
	got := make(chan []string, 1)
	err = detached(ctx, io.cluster.scope, func() error {
		var list C.rados_list_ctx_t
		if rc := C.listOpen(io.handle, &list); rc < 0 {
			return io.fail("list", "", int(rc))
		}
		defer C.listClose(list)
		var names []string
		for !given.Load() {
			var z *C.char
			if rc := C.listNext(list, &z); rc == -C.ENOENT {
				break
			} else if rc < 0 {
				return io.fail("list", "", int(rc))
			}
			if name := C.GoString(z); want(name) {
				names = append(names, name)
			}
		}
		if _, rc := io.cluster.poolName(io.pool); rc == -C.ENOENT {
			return io.fail("list", "", -C.ENOENT)
		}
		got <- names
		return nil
	})
	if err != nil {
		given.Store(true)
		return nil, err
	}
	return <-got, nil
}
