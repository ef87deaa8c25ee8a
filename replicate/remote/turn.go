package remote

import (
	"context"

	"verneuil/manifest/history"
)

// hints are what became of it when SQLite seemed about to write (Share's writes). It runs a
// statement that writes, but perhaps to another database of the connection.
type hints struct {
	given bool // at the last Share, and Reserve was not called since
	taken bool // and Share has gone by it
	right int  // so many in a row were right
	vain  int  // so many were gone by, and wrong
}

// reserved notes that the transaction writes.
func (h *hints) reserved() {
	if h.given {
		h.given, h.taken = false, false
		h.right++
	}
}

// begin notes that a transaction begins, which seems about to write if writes, and reports whether
// to go by that: four times as many have to be right before that for each that was wrong.
func (h *hints) begin(writes bool) bool {
	if h.given { // the last one has only read
		h.right = 0
		if h.taken {
			h.vain++
		}
	}
	h.given, h.taken = writes, false
	return writes && (h.right+1)>>min(2*h.vain, 30) > 0
}

// crowded reports whether other handles of this process write, too, and wait for the store, or for
// their turn. Who has a transaction open is another thing: SQLite is told at once that it is busy.
// It is called without mu.
func (c *Conn) crowded() bool {
	d := c.d
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.users.line) > 0 || d.queue.tip() != nil
}

// mayTake reports whether nobody owns the history, which was given to a rival a moment ago.
func (c *Conn) mayTake() bool {
	d := c.d
	at := d.story.seen.Load()
	d.mu.Lock()
	defer d.mu.Unlock()
	k := &d.lease.keeper
	return k.passed && d.now()-k.owned < d.set.o.LeaseLinger &&
		at != nil && !at.holder && at.m.At.Released
}

// takeTurn takes the lease for c, which is about to write, if it is free once what the rival has
// written was read. It reports whether it did so; else nothing is to be concluded.
func takeTurn(ctx context.Context, c *Conn) bool {
	d := c.d
	l := &d.lease
	d.mu.Lock()
	had := d.users.writer == c
	entered := d.users.leaving == nil && d.queue.tip() == nil && d.users.enter(c)
	d.mu.Unlock()
	if !entered {
		return false
	}
	free, err := readTurn(ctx, d)
	if free && err == nil {
		err = l.hold(ctx)
	}
	took := free && err == nil
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case took || had: // another handle may have it, if c does not write after all
		c.grip.Store(gripLoose)
		d.users.until = d.now() + heldTime
	case d.users.leave(c):
		l.rest()
	}
	return took
}

// readTurn reads what the rival has written, up to where it has given the history back, and
// reports whether it has. Whether it is the end nobody is asked: the fence is refused if not.
func readTurn(ctx context.Context, d *database) (free bool, err error) {
	if err := d.take(ctx); err != nil {
		return false, err
	}
	defer d.give()
	s := &d.story
	if s.w == nil || s.w.State() != history.Following {
		return false, nil
	}
	if s.by == s.w.Name() {
		s.cuts, s.jumped = make(map[[16]byte]bool), false
		err = readUntil(ctx, s, func() bool { return s.by != s.w.Name() && s.w.At().Released })
	}
	return err == nil && s.w != nil && s.w.At().Released, err
}
