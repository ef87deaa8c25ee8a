package remote

import (
	"context"
	"slices"
	"time"
)

const (
	// sleepTime is for how long SQLite's busy handler sleeps at most (main.c,
	// sqliteDefaultBusyCallback).
	sleepTime = 100 * time.Millisecond
	// wantTime is for how long a handle that could not reserve is taken for one that tries again.
	wantTime = 250 * time.Millisecond
	// turnTime is for how long such a handle waits for its turn, before SQLite sleeps again.
	turnTime = 25 * time.Millisecond
	// heldTime is for how long a handle whose turn has come need not reserve before another one may
	// take its place.
	heldTime = 10 * time.Millisecond
)

// The grip of a handle on the place of the writer. Go changes it with mu. The step from loose to
// firm is C's as well (cgo/remote.c). The numbers are cgo/remote.h's.
const (
	gripNone  = iota // it has no place
	gripLoose        // it has the place, and does not write: another one may take it
	gripFirm         // it has reserved
)

// users are a database's handles, of which one at a time may write: it has the place of the writer.
// Those that wait for it get it in order. It is guarded by database.mu.
type users struct {
	d       *database
	conns   int
	writer  *Conn         // has the place; nil: nobody
	until   time.Duration // until then nobody takes it from a writer whose grip is loose
	line    []*turn
	leaving chan struct{} // the lease is being given back, until it is closed; nil: it is not
}

// shut keeps handles from reserving until open: the lease is being given back. It is called with
// mu.
func (u *users) shut() { u.leaving = make(chan struct{}) }

// open is called without mu.
func (u *users) open() {
	u.d.mu.Lock()
	defer u.d.mu.Unlock()
	close(u.leaving)
	u.leaving = nil
}

// turn is that of a handle that waits.
type turn struct {
	c    *Conn
	came chan struct{} // closed when c has the place
}

// enter gives c the place of the writer, for good, and reports whether it did so.
func (u *users) enter(c *Conn) bool {
	if u.writer != c && len(u.line) == 0 && u.free() {
		u.writer = c
	}
	if u.writer == c {
		c.grip.Store(gripFirm)
	}
	return u.writer == c
}

// free reports whether nobody has the place, and takes it from who need not have it.
func (u *users) free() bool {
	if u.writer == nil {
		return true
	}
	if u.d.now() < u.until || !u.writer.grip.CompareAndSwap(gripLoose, gripNone) {
		return false
	}
	u.writer = nil
	return true
}

// loosen has c, which has the place, keep it for as long as nobody else wants it, and reports
// whether it does.
func (u *users) loosen(c *Conn) bool {
	if len(u.line) > 0 || u.d.lease.polite() {
		return false
	}
	u.until = 0
	c.grip.Store(gripLoose)
	return true
}

// kept reports whether c reads what it has committed last, which is durable, and this process has
// kept the machine's lock since. Who gives that back takes c's grip first, and c gets it again only
// in a call, after which it is asked anew. It is called without mu.
func (u *users) kept(c *Conn) bool {
	if done, err := c.onto.ended(); !done || err != nil || c.onto.m.Cut != c.cut {
		return false
	}
	u.d.mu.Lock()
	defer u.d.mu.Unlock()
	return u.writer == c && u.d.lease.keeper.lock.held()
}

// leave takes the place from c, and gives it to the next one who waits. It reports whether c had
// it, and nobody waits.
func (u *users) leave(c *Conn) (last bool) {
	if u.writer != c {
		return false
	}
	c.grip.Store(gripNone)
	u.writer = nil
	u.next()
	return u.writer == nil
}

// next gives the place, which is free, to the first one who waits.
func (u *users) next() {
	if len(u.line) > 0 {
		first := u.line[0]
		u.line = u.line[1:]
		u.writer, u.until = first.c, u.d.now()+heldTime
		first.c.grip.Store(gripLoose)
		close(first.came)
	}
}

// await waits a moment until c has the place of the writer. It is called without mu.
func (u *users) await(ctx context.Context, c *Conn) {
	t := &turn{c, make(chan struct{})}
	u.d.mu.Lock()
	if u.writer != c {
		u.line = append(u.line, t)
		if u.free() {
			u.next()
		}
	}
	has := u.writer == c
	u.d.mu.Unlock()
	if has {
		return
	}
	timer := time.NewTimer(turnTime)
	defer timer.Stop()
	select {
	case <-t.came:
	case <-timer.C:
	case <-ctx.Done():
	}
	u.d.mu.Lock()
	defer u.d.mu.Unlock()
	u.line = slices.DeleteFunc(u.line, func(o *turn) bool { return o == t })
	if u.writer != c && u.free() {
		u.next()
	}
}
