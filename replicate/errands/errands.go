// Package errands runs what takes time for a goroutine that must not wait. Each errand has a
// goroutine of its own, changes nothing that others see, and ends with a function that the owner
// runs: so the owner's state needs no lock. A panic in an errand is an error: nothing of ours may
// end the host. The package imports nothing of ours.
package errands

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
)

// Errands are those of one owner. Go, Tell and Ask are safe for concurrent use.
type Errands struct {
	ctx    context.Context
	stop   context.CancelFunc
	work   sync.WaitGroup
	events chan func()
	ended  chan struct{} // closed when the owner runs nothing any more
}

// New returns errands that end with ctx.
func New(ctx context.Context) *Errands {
	e := &Errands{events: make(chan func()), ended: make(chan struct{})}
	e.ctx, e.stop = context.WithCancel(ctx)
	return e
}

// Context is that of the errands.
func (e *Errands) Context() context.Context { return e.ctx }

// Ending reports whether errands are to end: what fails now says nothing.
func (e *Errands) Ending() bool { return e.ctx.Err() != nil }

// Go has run run, and then has the owner run done with its error, unless that has ended.
func (e *Errands) Go(run func(context.Context) error, done func(error)) {
	e.work.Go(func() {
		err := Guarded(func() error { return run(e.ctx) })()
		e.Tell(func() { done(err) })
	})
}

// Run runs f, which Wait waits for.
func (e *Errands) Run(f func()) {
	e.work.Go(func() { _ = Guarded(func() error { f(); return nil })() })
}

// Tell has the owner run f. It returns false if the owner has ended, or ends first: then f is not
// run.
func (e *Errands) Tell(f func()) bool {
	select {
	case e.events <- f:
		return true
	case <-e.ended:
		return false
	}
}

// Ask is Tell for who waits no longer than ctx lasts: then it fails with its error. It returns
// false and no error if the owner has ended.
func (e *Errands) Ask(ctx context.Context, f func()) (asked bool, err error) {
	select {
	case e.events <- f:
		return true, nil
	case <-e.ended:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// Events brings what the owner has to run.
func (e *Errands) Events() <-chan func() { return e.events }

// Ended is closed when the owner runs nothing any more.
func (e *Errands) Ended() <-chan struct{} { return e.ended }

// End says that the owner runs nothing any more. It is called once.
func (e *Errands) End() { close(e.ended) }

// Stop ends the errands.
func (e *Errands) Stop() { e.stop() }

// Wait returns when all errands have ended. Stop and End come first.
func (e *Errands) Wait() { e.work.Wait() }

// Guarded returns f with panics made errors.
func Guarded(f func() error) func() error {
	return func() (err error) {
		defer Recovered(&err)
		return f()
	}
}

// Recovered makes a panic an error. It is deferred.
func Recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
	}
}
