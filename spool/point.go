package spool

import (
	"math"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Point is a moment in a database's history. Both numbers only grow: whoever has reached a point
// has every transaction that was published before it. The zero Point is before all of them.
type Point struct{ Generation, Sequence uint64 }

// Covers reports whether whoever has reached p has also reached q.
func (p Point) Covers(q Point) bool {
	return p.Generation >= q.Generation && p.Sequence >= q.Sequence
}

// PublishedPoint returns the point that a flush has to reach now.
func (s *State) PublishedPoint() Point { return Point{s.Generation.Load(), s.Sequence.Load()} }

// PushedPoint returns the point that every target has.
func (s *State) PushedPoint() Point {
	return Point{s.PushedGeneration.Load(), s.PushedSequence.Load()}
}

// SetPushed notes the point that every target has. Only the holder of the spool's lock may call it.
func (s *State) SetPushed(p Point) {
	s.PushedSequence.Store(p.Sequence)
	s.PushedGeneration.Store(p.Generation)
}

// SetSome notes the point that some target has. Only the holder of the spool's lock may call it.
func (s *State) SetSome(p Point) {
	s.SomeSequence.Store(p.Sequence)
	s.SomeGeneration.Store(p.Generation)
}

// SomePoint returns the point that some target has.
func (s *State) SomePoint() Point {
	return Point{s.SomeGeneration.Load(), s.SomeSequence.Load()}
}

// TellStored wakes the commits that wait until targets have them, in all processes. It is called
// after SetPushed or SetSome.
func (s *State) TellStored() {
	defer runtime.KeepAlive(s.of)
	s.stored.Add(1)
	const wake = 1 // FUTEX_WAKE, of linux/futex.h, between processes
	// it wakes whoever waits, and fails for nobody
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(s.stored.at)), wake,
		math.MaxInt32, 0, 0, 0)
}

// ForgetPushed notes that we do not know what the targets have, all of them or some. Only the
// holder of the spool's lock may call it.
func (s *State) ForgetPushed() {
	s.PushedGeneration.Store(0)
	s.PushedSequence.Store(0)
	s.SomeGeneration.Store(0)
	s.SomeSequence.Store(0)
}
