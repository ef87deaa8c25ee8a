package librados

/*
#include "functions.h"
*/
import "C"

import (
	"context"
	"sync"
)

// BeforeExit is called when the library was opened, and when a client has connected for the first
// time. When a process ends by exit(), the C library runs what was registered last, first: so what
// is registered in BeforeExit runs before librados's own globals are destroyed, which its threads
// use. It must have [Shutdown] called. It is set before the first use, if at all: a Go program ends
// without that.
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

// Shutdown ends the threads of all clients, at the end of the process, until ctx ends. It waits for
// those alone who are in a blocking function of librados. Calls that are under way never end.
func Shutdown(ctx context.Context) {
	clients.mu.Lock()
	defer clients.mu.Unlock()
	clients.ended = true
	var all sync.WaitGroup
	for c := range clients.all {
		if calm := c.scope.end(); calm != nil {
			all.Go(func() {
				select {
				case <-calm:
					C.radosShutdown(c.handle)
				case <-ctx.Done():
				}
			})
		}
	}
	all.Wait()
}
