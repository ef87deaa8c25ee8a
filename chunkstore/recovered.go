package chunkstore

import (
	"fmt"
	"runtime/debug"
)

// recovered makes a panic an error: in a goroutine of ours it would end the host. It is deferred.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
	}
}
