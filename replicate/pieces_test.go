package replicate

import (
	"sync/atomic"
	"testing"
	"time"
)

// heldClock is the system's until it is held. Then no time passes, and no timer ends.
type heldClock struct {
	systemClock
	held  atomic.Pointer[time.Time]
	timer func(d time.Duration) // is told of what is asked for since
}

func (c *heldClock) now() time.Time {
	if at := c.held.Load(); at != nil {
		return *at
	}
	return c.systemClock.now()
}

func (c *heldClock) after(d time.Duration) <-chan time.Time {
	if c.held.Load() == nil {
		return c.systemClock.after(d)
	}
	c.timer(d)
	return nil
}

// TestAppliesInPieces: a replicator whose database is written to all the time does not run after
// each commit: it sleeps while there is something to apply, not for longer than a look may take.
// Who waits does not wait for that.
func TestAppliesInPieces(t *testing.T) {
	w := newWorld(t, 1, 1)
	var commits atomic.Int64
	var slept atomic.Bool
	clock := &heldClock{timer: func(d time.Duration) {
		if d <= 10*time.Millisecond && !w.applied() {
			slept.Store(true)
		}
	}}
	w.options = func(o *Options) {
		o.clock = clock
		o.fault = func(at string) bool {
			if at == "apply" && commits.Add(-1) >= 0 { // while it applies one, there is another
				w.transact(100)
			}
			return false
		}
	}
	w.transact(100)
	r := w.replicator()
	defer w.run(r)()
	w.mustFlush(r)
	clock.held.Store(new(time.Now()))
	commits.Store(100)
	w.transact(100)
	r.Woken()
	w.until("sleeps with something to apply", slept.Load)
	commits.Store(0)
	w.mustFlush(r)
	w.mustFlush(r) // what was committed while the first one began
	if !w.applied() {
		t.Error("a flush has left something")
	}
	w.equal(0, "after the flush")
}
