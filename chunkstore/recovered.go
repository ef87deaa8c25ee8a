package chunkstore

import (
	"fmt"
	"runtime/debug"
)

// Beside runs f, and returns what waits for it. A panic is an error.
func Beside(f func() error) (wait func() error) {
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer recovered(&err)
		err = f()
	}()
	return func() error {
		<-done
		return err
	}
}

// recovered makes a panic an error: in a goroutine of ours it would end the host. It is deferred.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
	}
}
