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
}

// Promise says that the version with that record is the newest until then, and that nobody need
// be asked. Only who holds the lock, and owns the history, may say so.
func (p *Page) Promise(number uint64, until time.Duration) {
	p.until.Store(0) // no reader takes the old time for the new number's
	p.number.Store(number)
	p.until.Store(uint64(max(until, 0)))
}

// Withdraw takes the promise back. It comes before a request by which a newer version may come
// about.
func (p *Page) Withdraw() { p.until.Store(0) }

// Newest reports whether the version with that record is promised to be the newest now.
func (p *Page) Newest(number uint64, now time.Duration) bool {
	until := p.until.Load() // before number: see the package
	return uint64(max(now, 0)) < until && p.number.Load() == number
}

// Number returns the record that was last promised to be the newest; 0: none was.
func (p *Page) Number() uint64 { return p.number.Load() }

// Until returns when the promise ends; 0: there is none.
func (p *Page) Until() time.Duration { return time.Duration(p.until.Load()) }

// Want says that a process has found the lock taken, and waits for it.
func (p *Page) Want(now time.Duration) { p.wanted.Store(uint64(max(now, 1))) }

// Wanted returns when a process last said so; 0: none did.
func (p *Page) Wanted() time.Duration { return time.Duration(p.wanted.Load()) }
