package librados

/*
#include "functions.h"
*/
import "C"

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"unsafe"
)

// call is one that is under way.
type call struct {
	c     *C.Call
	done  chan struct{} // closed once c is the caller's
	given bool          // up: who finds that it has ended frees it. Guarded by table.mu
	over  bool          // done is closed, likewise
	scope *scope
}

// table has what librados may speak of.
var table = struct {
	mu      sync.Mutex
	last    uint64
	calls   map[uint64]*call
	watches map[uint64]*Watch
}{calls: make(map[uint64]*call), watches: make(map[uint64]*Watch)}

// dispatch takes what librados has queued, and tells those whom it concerns.
func dispatch() {
	for {
		for c := C.callsTake(); c != nil; {
			next := c.pNext
			deliver(c)
			c = next
		}
		// Who was told goes on, on this thread, at once: else another one would have to be woken.
		runtime.Gosched()
	}
}

func deliver(c *C.Call) {
	if c.kind != C.CALL_ENDED {
		defer C.callFree(c)
		table.mu.Lock()
		w := table.watches[uint64(c.id)]
		table.mu.Unlock()
		if w != nil {
			w.deliver(c)
		}
		return
	}
	table.mu.Lock()
	one := table.calls[uint64(c.id)]
	delete(table.calls, uint64(c.id))
	if c.lingers != 0 {
		defer one.scope.linger(-1)
	}
	one.over = true
	given := one.given
	table.mu.Unlock()
	close(one.done)
	if given {
		one.free()
	}
}

// scope counts the calls and watches of a cluster, so that nothing that they use is freed before
// they end.
type scope struct {
	mu     sync.Mutex
	n      int
	closed bool
	idle   chan struct{} // closed once closed and n is 0

	// For the end of the process, which waits for nobody but those who are in librados right now.
	inside int                         // who is in a function of librados
	ended  bool                        // nobody may enter any more
	calm   chan struct{}               // closed once ended and inside is 0
	here   map[*C.Call]C.rados_ioctx_t // what threads wait for in librados

	watches map[*Watch]bool // that the cluster has, and nobody has begun to end
	lingers int             // how many that begin or end a watch, or notify, are not answered
	isStill bool            // ended, and lingers has been 0
	still   chan struct{}   // closed once isStill
}

func newScope() *scope {
	return &scope{idle: make(chan struct{}), calm: make(chan struct{}),
		still: make(chan struct{}), watches: make(map[*Watch]bool),
		here: make(map[*C.Call]C.rados_ioctx_t)}
}

// in reports whether a function of librados may be called. Then out must be called.
func (s *scope) in() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	s.inside++
	return true
}

func (s *scope) out() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inside--
	if s.ended && s.inside == 0 {
		close(s.calm)
	}
}

// end keeps everybody out, and returns what is closed when nobody is inside; nil: it did so before.
func (s *scope) end() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil
	}
	s.closed, s.ended = true, true
	for c, io := range s.here {
		C.radosCancel(io, c.completion)
	}
	if s.inside == 0 {
		close(s.calm)
	}
	s.settled()
	return s.calm
}

// ask runs f, which asks librados what it answers at once. It fails with [ErrClosed], or with the
// Errno that f returns.
//
// Invariant: no handle is given to librados but in a scope, or in [Cluster.Close], which frees them
// when nobody is in it any more, and at the end of the process. Who is in a call, and needs
// something else, enters again.
func (s *scope) ask(f func() C.int) error {
	if !s.enter() {
		return ErrClosed
	}
	defer s.leave()
	if !s.in() {
		return ErrClosed
	}
	defer s.out()
	if rc := f(); rc < 0 {
		return syscall.Errno(-rc)
	}
	return nil
}

// linger counts a call that begins or ends a watch, or notifies, by 1 when it begins, by -1 when it
// has ended.
func (s *scope) linger(by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lingers += by
	s.settled()
}

// has notes whether the cluster has a watch that nobody has begun to end.
func (s *scope) has(w *Watch, does bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if does {
		s.watches[w] = true
	} else {
		delete(s.watches, w)
	}
}

// watched returns those watches.
func (s *scope) watched() []*Watch {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.watches))
}

// settled closes still if it is time to. The caller has mu.
func (s *scope) settled() {
	if s.ended && s.lingers == 0 && !s.isStill {
		s.isStill = true
		close(s.still)
	}
}

// again enters a scope that the caller has entered.
func (s *scope) again() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
}

// enter reports whether a call may begin. Then leave must be called.
func (s *scope) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.n++
	return true
}

func (s *scope) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n--
	if s.closed && s.n == 0 && !s.ended {
		close(s.idle)
	}
}

// close has no more calls begin, and reports whether it was the first to do so.
func (s *scope) close() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.closed = true
	if s.n == 0 {
		close(s.idle)
	}
	return true
}

// begin begins a call, as start does it.
func begin(s *scope, start func(*C.Call) C.int) (*call, error) {
	if !s.enter() {
		return nil, ErrClosed
	}
	return beginIn(s, start)
}

// beginIn is begin for who has entered the scope for it, which is left when the call is freed.
func beginIn(s *scope, start func(*C.Call) C.int) (*call, error) {
	if !s.in() {
		s.leave()
		return nil, ErrClosed
	}
	defer s.out()
	return launch(s, start)
}

// launch is beginIn for who is in librados, or keeps others out of it.
func launch(s *scope, start func(*C.Call) C.int) (*call, error) {
	one := &call{done: make(chan struct{}), scope: s}
	table.mu.Lock()
	table.last++
	id := table.last
	table.calls[id] = one
	table.mu.Unlock()
	rc := C.int(-C.ENOMEM)
	if one.c = C.callNew(C.uint64_t(id)); one.c != nil {
		rc = start(one.c)
	}
	if rc >= 0 {
		return one, nil
	}
	table.mu.Lock()
	delete(table.calls, id)
	table.mu.Unlock()
	one.free()
	return nil, syscall.Errno(-rc)
}

// free frees a call that has ended.
func (one *call) free() {
	C.callFree(one.c)
	one.scope.leave()
}

// wait waits for a call. If ctx ends first, the call is given up, and cancelled if io is not nil.
// After an error it must not be used any more; else the caller frees it.
func (one *call) wait(ctx context.Context, io C.rados_ioctx_t) error {
	select {
	case <-one.done:
		return nil
	case <-ctx.Done():
	}
	if io != nil && one.scope.in() {
		C.radosCancel(io, one.c.completion)
		one.scope.out()
	}
	table.mu.Lock()
	one.given = !one.over
	given := one.given
	table.mu.Unlock()
	if given {
		return ctx.Err()
	}
	<-one.done
	if one.c.rc == -C.ECANCELED { // by us, or the answer to a comparison: nobody can tell
		one.free()
		return ctx.Err()
	}
	return nil
}

// here runs a call that start begins, and waits for it in librados. If ctx ends, or the process, it
// is cancelled.
func here(ctx context.Context, io *IO, start func(*C.Call) C.int) (
	version uint64, rc int, err error,
) {
	s := io.cluster.scope
	if err := ctx.Err(); err != nil {
		return 0, 0, err
	}
	if !s.enter() {
		return 0, 0, ErrClosed
	}
	defer s.leave()
	if !s.in() {
		return 0, 0, ErrClosed
	}
	defer s.out()
	c := C.callNewHere()
	if c == nil {
		return 0, -C.ENOMEM, nil
	}
	defer C.callFree(c)
	if rc := start(c); rc < 0 {
		return 0, int(rc), nil
	}
	cancel := s.waits(c, io.handle)
	stop := context.AfterFunc(ctx, cancel)
	C.callAwait(c)
	stop()
	ended := s.waited(c)
	if c.rc == -C.ECANCELED { // by us, or the answer to a comparison: nobody can tell
		if ended {
			err = ErrClosed
		} else {
			err = ctx.Err()
		}
	}
	return uint64(c.version), int(c.rc), err
}

// waits notes that a thread waits in librados for c, and returns what cancels that.
func (s *scope) waits(c *C.Call, io C.rados_ioctx_t) (cancel func()) {
	cancel = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, ok := s.here[c]; ok {
			C.radosCancel(io, c.completion)
		}
	}
	s.mu.Lock()
	s.here[c] = io
	ended := s.ended
	s.mu.Unlock()
	if ended {
		cancel()
	}
	return cancel
}

// waited ends what waits has begun, and reports whether the process is ending. After it c is not
// cancelled any more.
func (s *scope) waited(c *C.Call) (ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.here, c)
	return s.ended
}

// detached runs f, which blocks, in a goroutine of its own, and returns when it has returned or ctx
// ends: then nothing that f sets may be looked at.
func detached(ctx context.Context, s *scope, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !s.enter() {
		return ErrClosed
	}
	done := make(chan error, 1)
	go func() {
		var err error
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
			s.leave()
			done <- err
		}()
		if !s.in() {
			err = ErrClosed
			return
		}
		defer s.out()
		err = f()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pointer is that of b's bytes, for a call that copies them; never nil.
func pointer(b []byte) *C.char {
	if len(b) == 0 {
		return &none
	}
	return (*C.char)(unsafe.Pointer(unsafe.SliceData(b)))
}

var none C.char
