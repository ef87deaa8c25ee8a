package remote

import (
	"context"

	"verneuil/manifest/history"
)

// habitWrites is after how many transactions in a row that wrote, of those that began with the
// history given to a rival, a handle is taken for one that is about to write.
const habitWrites = 3

// habit is what a handle does as a rule when its transaction begins with the history given to a
// rival. Who is about to write takes the lease at once: its fence proves that what was read is the
// end, and nobody need be asked for that.
type habit struct {
	begun  bool // such a transaction, and Reserve was not called yet
	took   bool // and the lease was taken for it
	writes int  // so many in a row have written
	vain   int  // so many times the lease was taken for who only read
}

// reserved notes that the transaction writes.
func (h *habit) reserved() {
	if h.begun {
		h.begun, h.took = false, false
		h.writes++
	}
}

// begin notes that a transaction begins, with the history given to a rival if inTurns, and reports
// whether it is about to write, as it seems.
func (h *habit) begin(inTurns bool, enough int) bool {
	if h.begun { // the last one has only read
		h.writes = 0
		if h.took {
			h.vain++
		}
	}
	h.begun, h.took = inTurns, false
	return inTurns && h.writes>>min(2*h.vain, 30) >= enough
}

// mayWrite reports whether c, whose transaction begins, is about to write, as it seems, and nobody
// owns the history, which was given to a rival a moment ago.
func (c *Conn) mayWrite() bool {
	d := c.d
	at := d.story.seen.Load()
	d.mu.Lock()
	k := &d.lease.keeper
	inTurns := !c.mode.ReadOnly && k.passed && d.now()-k.owned < d.set.o.LeaseLinger &&
		at != nil && !at.holder && at.m.At.Released
	d.mu.Unlock()
	return c.habit.begin(inTurns, d.set.o.habit)
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
