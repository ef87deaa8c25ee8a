package librados

/*
#include "calls.h"
#include "functions.h"
*/
import "C"

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// BeforeExit is called before the library is opened, when it was, and when a client has connected
// for the first time. When a process ends by exit(), the C library runs what was registered last,
// first: so what is registered in BeforeExit runs before librados's own globals are destroyed,
// which its threads use. It must have [Shutdown] called. It is set before the first use, if at all:
// a Go program ends without that.
var BeforeExit func()

func beforeExit() {
	if BeforeExit != nil {
		BeforeExit()
	}
}

// clients are the connected ones.
var clients struct {
	mu    sync.Mutex
	all   map[*Cluster]bool // nil: there was none yet
	ended bool              // the process is ending: there will be no more
}

// connects has who opens librados, or connects a client, which is not one of clients yet.
var connects = newScope()

// add has a client that has connected end with the process, or fails, as that is ending.
func (c *Cluster) add() error {
	clients.mu.Lock()
	defer clients.mu.Unlock()
	if clients.ended {
		return ErrClosed
	}
	if clients.all == nil {
		clients.all = make(map[*Cluster]bool)
		beforeExit()
	}
	clients.all[c] = true
	return nil
}

// shutdown is held by who shuts down.
var shutdown sync.Mutex

// settleTime is how long answers are waited for that librados might crash on.
const settleTime = 2 * time.Second

// settle ends all watches, and waits until nothing is to be told of any: if that comes while
// librados shuts down, it asserts that it does not (Objecter::_do_watch_notify), or uses a session
// that it has just dropped (Objecter::linger_cancel). If no OSD answers, nothing comes, either. The
// caller has ended the scope, and nobody is inside.
func (c *Cluster) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	select {
	case <-c.scope.still:
	case <-ctx.Done():
	}
	var all []*call
	run := func(start func(*C.Call) C.int) {
		c.scope.again()
		if one, err := launch(c.scope, start); err == nil {
			all = append(all, one)
		}
	}
	answered := func() {
		for _, one := range all {
			select {
			case <-one.done:
			case <-ctx.Done():
			}
		}
	}
	for _, w := range c.scope.watched() {
		run(w.unwatch)
	}
	answered()
	run(func(one *C.Call) C.int { return C.callFlush(one, c.handle) })
	answered()
}

// Shutdown ends the threads of all clients, at the end of the process, until ctx ends: from then on
// [Connect] and all calls fail with [ErrClosed]. It waits for those alone who are in a blocking
// function of librados, or connect. Calls that are under way never end.
func Shutdown(ctx context.Context) {
	shutdown.Lock()
	defer shutdown.Unlock()
	if calm := connects.end(); calm != nil {
		select {
		case <-calm:
		case <-ctx.Done():
		}
	}
	clients.mu.Lock()
	clients.ended = true
	all := slices.Collect(maps.Keys(clients.all))
	clients.mu.Unlock()
	var ends sync.WaitGroup
	for _, c := range all {
		ends.Go(func() { c.end(ctx) })
	}
	ends.Wait()
}

// end shuts c down, or waits until somebody else has, until ctx ends.
func (c *Cluster) end(ctx context.Context) {
	calm := c.scope.end()
	select {
	case <-calm: // never if it is nil: somebody else ends it
		c.settle(ctx)
		C.radosShutdown(c.handle)
		close(c.down)
	case <-c.down:
	case <-ctx.Done():
	}
}
