package machine

import (
	"sync/atomic"
	"time"
)

// Page is what all processes of the machine map. C reads it, too: its offsets are cgo/remote.h's.
// All times are CLOCK_BOOTTIME's. It is safe for concurrent use, by all of them.
type Page struct {
	until  atomic.Uint64 // ns
	number atomic.Uint64
	wanted atomic.Uint64 // ns

	sequence atomic.Uint64 // of the state; 0: there is none

	kept atomic.Uint64 // ns
}

// Promise says that until then no other machine goes on, and that the version with that record is
// the newest, so that nobody need be asked; 0: only who holds the lock knows which version is. Only
// he, if he owns the history, may say so.
func (p *Page) Promise(number uint64, until time.Duration) {
	p.until.Store(0) // no reader takes the old time for the new number's
	p.number.Store(number)
	p.until.Store(uint64(max(until, 0)))
}

// Withdraw takes the promise back. It comes before a request after which another machine may go on.
func (p *Page) Withdraw() { p.until.Store(0) }

// Hide says that there is a newer version, which only who holds the lock knows. That no other
// machine goes on is promised still.
func (p *Page) Hide() { p.number.Store(0) }

// Newest reports whether the version with that record is promised to be the newest now.
func (p *Page) Newest(number uint64, now time.Duration) bool {
	alone := p.Alone(now) // before number: see the package
	return alone && number != 0 && p.number.Load() == number
}

// Alone reports whether it is promised that no other machine has gone on by now.
func (p *Page) Alone(now time.Duration) bool { return uint64(max(now, 0)) < p.until.Load() }

// Number returns the record that was last promised to be the newest; 0: none was, or [Page.Hide].
func (p *Page) Number() uint64 { return p.number.Load() }

// Want says that a process has found the lock taken, and waits for it.
func (p *Page) Want(now time.Duration) { p.wanted.Store(uint64(max(now, 1))) }

// Wanted returns when a process last said so; 0: none did.
func (p *Page) Wanted() time.Duration { return time.Duration(p.wanted.Load()) }

// Keep says that whoever has the lock does not write, and gives it back at that time unless he
// writes again; 0: he has given it back.
func (p *Page) Keep(until time.Duration) { p.kept.Store(uint64(max(until, 0))) }

// Kept returns what Keep has said last. Who has said it may be dead.
func (p *Page) Kept() time.Duration { return time.Duration(p.kept.Load()) }

// Stored returns which state the file has, of those that are stored by and by; 0: none.
func (p *Page) Stored() uint64 { return p.sequence.Load() }
