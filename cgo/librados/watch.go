package librados

/*
#include "functions.h"
*/
import "C"

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// Watch hears what others, and the same client, tell an object. It keeps its cluster from being
// closed until it is.
type Watch struct {
	io      *IO
	object  string
	id      uint64
	c       *C.Watch
	heard   func(data []byte)
	broken  func(error)
	closing sync.Once
}

// Watch begins to watch an object, which must be there (ENOENT), and takes the right to write it.
// heard is called with what [IO.Notify] says; broken once, if the watch ends, as the cluster has
// not been heard for timeout (0: the cluster's), or the object was removed: nothing is heard
// after that, and the caller closes the watch. Neither may block; they are called one at a time,
// and perhaps before Watch has returned.
func (io *IO) Watch(ctx context.Context, object string, timeout time.Duration,
	heard func(data []byte), broken func(error)) (*Watch, error) {
	if err := checkName(object); err != nil {
		return nil, err
	}
	if !io.cluster.scope.enter() {
		return nil, ErrClosed
	}
	z := C.CString(object)
	defer C.free(unsafe.Pointer(z))
	w := &Watch{io: io, object: object, heard: heard, broken: broken}
	table.mu.Lock()
	table.last++
	w.id = table.last
	table.watches[w.id] = w
	table.mu.Unlock()
	if w.c = C.watchNew(C.uint64_t(w.id), io.handle, z); w.c == nil {
		w.forget()
		w.io.cluster.scope.leave()
		return nil, io.fail("watch", object, -C.ENOMEM)
	}
	// It cannot be cancelled: what comes of it late is ended.
	began := make(chan error, 1)
	go func() {
		err := w.run("watch", func(c *C.Call) C.int {
			return C.callWatch(c, w.c, C.uint32_t(timeout/time.Second))
		}, func() { io.cluster.scope.has(w, true) })
		if err != nil {
			w.forget()
			w.flush()
		}
		began <- err
	}()
	select {
	case err := <-began:
		if err != nil {
			return nil, err
		}
		return w, nil
	case <-ctx.Done():
		go func() {
			if err := <-began; err == nil {
				w.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// run runs a call to its end. If it has succeeded, done is called then.
func (w *Watch) run(request string, start func(c *C.Call) C.int, done func()) error {
	w.io.cluster.scope.again() // it may be closing
	w.io.cluster.scope.linger(1)
	defer w.io.cluster.scope.linger(-1)
	one, err := beginIn(w.io.cluster.scope, start)
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return w.io.fail(request, w.object, -int(errno))
	} else if err != nil {
		return err
	}
	<-one.done
	defer one.free()
	if rc := int(one.c.rc); rc < 0 {
		return w.io.fail(request, w.object, rc)
	}
	done()
	return nil
}

// unwatch begins the call that ends the watch.
func (w *Watch) unwatch(c *C.Call) C.int {
	rc := C.callUnwatch(c, w.io.handle, w.c.handle)
	if rc >= 0 {
		w.io.cluster.scope.has(w, false)
	}
	return rc
}

func (w *Watch) forget() {
	table.mu.Lock()
	defer table.mu.Unlock()
	delete(table.watches, w.id)
}

// flush frees the watch when nothing can be heard any more. It leaves the cluster.
func (w *Watch) flush() {
	defer w.io.cluster.scope.leave()
	err := w.run("flush", func(c *C.Call) C.int {
		return C.callFlush(c, w.io.cluster.handle)
	}, func() {})
	if err == nil { // else it stays, as somebody may yet use it
		C.free(unsafe.Pointer(w.c))
	}
}

// Close ends the watch: nothing is heard after it, but for what is being told. It asks the cluster
// in the background.
func (w *Watch) Close() {
	w.closing.Do(func() {
		w.forget()
		go func() {
			// An error is one of a watch that is not there any more.
			_ = w.run("unwatch", w.unwatch, func() {})
			w.flush()
		}()
	})
}

// deliver tells what C has heard.
func (w *Watch) deliver(c *C.Call) {
	defer func() { _ = recover() }() // of the caller's functions: nobody hears it, nobody crashes
	if c.kind == C.CALL_HEARD {
		w.heard(C.GoBytes(unsafe.Pointer(c.pData), C.int(c.nData)))
		return
	}
	w.forget()
	w.broken(w.io.fail("watch", w.object, int(c.rc)))
}
