package spool

import (
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// page is the layout of the state page, which C shares (cgo, spool.h). doc.go says what each field
// means.
type page struct {
	Magic            [8]byte
	Version          uint32
	Flags            atomic.Uint32
	BootID           [16]byte
	Dev              atomic.Uint64
	Ino              atomic.Uint64
	Birth            atomic.Uint64
	Generation       atomic.Uint64
	Sequence         atomic.Uint64
	Writing          atomic.Uint64 // a Token
	head             atomic.Uint64
	DBVersion        atomic.Uint64
	DBSize           atomic.Int64
	Armed            atomic.Uint32
	cause            atomic.Uint32
	tail             atomic.Uint64
	Replicator       atomic.Uint64 // a Token
	MirrorGeneration atomic.Uint64
	MirrorSequence   atomic.Uint64
	PushedGeneration atomic.Uint64
	PushedSequence   atomic.Uint64
	Published        atomic.Uint64
	Dropped          atomic.Uint64
	PublishedAt      atomic.Int64
	FlushDrawn       atomic.Uint64
	FlushDone        atomic.Uint64
	FlushAnswered    atomic.Uint64
	LogAllowance     atomic.Uint64
	WALSalts         atomic.Uint64
	WALPublished     atomic.Uint64
	WALConsumed      atomic.Uint64
	_                uint64
	MirrorStamp      atomic.Uint64
	DBStamp          atomic.Uint64 // a Stamp's Sum
	StampedBy        atomic.Uint64 // a Token
	StampSettled     atomic.Uint64 // a Stamp's Sum
	Checkpointing    atomic.Uint64 // a Token
	WALSum           atomic.Uint64
	WALConsumedSum   atomic.Uint64
	_                [80]byte
	LockIno          atomic.Uint64 // at 384
	_                [56]byte
	Purpose          atomic.Uint64
	Terms            atomic.Uint64
	_                [576 - 464]byte
	CutAt            atomic.Int64
	Leaving          atomic.Uint64 // a Token
	SomeGeneration   atomic.Uint64
	SomeSequence     atomic.Uint64
	stored           atomic.Uint32
	_                uint32
	Wanted           atomic.Uint64
	_                [768 - 624]byte
	Continuity       atomic.Uint64
	_                [pathOffset - 776]byte
	PathField        [stateBytes - pathOffset - 8]byte
	Holder           atomic.Uint64 // a Token
}

var _ = [1]struct{}{}[unsafe.Sizeof(page{})-stateBytes] // one page, or this does not compile

// mapping is a state's file in memory. It is unmapped when nothing refers to it any more. No method
// unmaps it, since somebody may ask for a status at any time.
//
// Invariant: nobody reads or writes the page but through a word of [State] or one of its methods,
// which keep the mapping reachable until they are done. A pointer into the page would not: the
// garbage collector does not follow pointers to memory that is not its own.
type mapping struct{ bytes []byte }

// newMapping takes over b, which mmap returned.
func newMapping(b []byte) *mapping {
	m := &mapping{b}
	runtime.AddCleanup(m, func(b []byte) { unix.Munmap(b) }, b)
	return m
}

// Word is a word of the state page. It has methods of [sync/atomic]'s types, and keeps the page
// mapped.
type Word[T any, A Atomic[T]] struct {
	at A
	of *mapping
}

// Atomic is what [Word] needs of a pointer to a type of [sync/atomic].
type Atomic[T any] interface {
	Load() T
	Store(T)
	Add(T) T
	Swap(T) T
	And(T) T
	Or(T) T
	CompareAndSwap(was, is T) bool
}

type (
	uint32Word = Word[uint32, *atomic.Uint32]
	uint64Word = Word[uint64, *atomic.Uint64]
	int64Word  = Word[int64, *atomic.Int64]
)

// Load returns the word.
func (w Word[T, A]) Load() T {
	defer runtime.KeepAlive(w.of)
	return w.at.Load()
}

// Store sets the word to v.
func (w Word[T, A]) Store(v T) {
	defer runtime.KeepAlive(w.of)
	w.at.Store(v)
}

// Add adds v and returns the sum.
func (w Word[T, A]) Add(v T) T {
	defer runtime.KeepAlive(w.of)
	return w.at.Add(v)
}

// Swap sets the word to v and returns what it was.
func (w Word[T, A]) Swap(v T) T {
	defer runtime.KeepAlive(w.of)
	return w.at.Swap(v)
}

// And keeps the bits of v and returns what the word was.
func (w Word[T, A]) And(v T) T {
	defer runtime.KeepAlive(w.of)
	return w.at.And(v)
}

// Or sets the bits of v and returns what the word was.
func (w Word[T, A]) Or(v T) T {
	defer runtime.KeepAlive(w.of)
	return w.at.Or(v)
}

// CompareAndSwap sets the word to is if it is was, and reports whether it did.
func (w Word[T, A]) CompareAndSwap(was, is T) bool {
	defer runtime.KeepAlive(w.of)
	return w.at.CompareAndSwap(was, is)
}

// State is the state of a spool: the page that is mapped by every process that writes the database,
// or a copy. doc.go says what each word means and who stores it (I2). A State, and each of its
// words, is valid as long as it is reachable.
type State struct {
	page *page
	of   *mapping // nil: a copy

	Flags            uint32Word
	Dev              uint64Word
	Ino              uint64Word
	Birth            uint64Word
	Generation       uint64Word
	Sequence         uint64Word
	Writing          uint64Word // a Token
	head             uint64Word
	DBVersion        uint64Word
	DBSize           int64Word
	Armed            uint32Word
	cause            uint32Word
	tail             uint64Word
	Replicator       uint64Word // a Token
	MirrorGeneration uint64Word
	MirrorSequence   uint64Word
	PushedGeneration uint64Word
	PushedSequence   uint64Word
	Published        uint64Word
	Dropped          uint64Word
	PublishedAt      int64Word
	FlushDrawn       uint64Word
	FlushDone        uint64Word
	FlushAnswered    uint64Word
	LogAllowance     uint64Word
	WALSalts         uint64Word
	WALPublished     uint64Word
	WALConsumed      uint64Word
	MirrorStamp      uint64Word
	DBStamp          uint64Word // a Stamp's Sum
	StampedBy        uint64Word // a Token
	StampSettled     uint64Word // a Stamp's Sum
	Checkpointing    uint64Word // a Token
	WALSum           uint64Word
	WALConsumedSum   uint64Word
	LockIno          uint64Word
	Purpose          uint64Word
	Terms            uint64Word
	CutAt            int64Word
	Leaving          uint64Word // a Token
	SomeGeneration   uint64Word
	SomeSequence     uint64Word
	stored           uint32Word
	Wanted           uint64Word
	Continuity       uint64Word
	Holder           uint64Word // a Token
}

// newState returns the state in p, which lies in of.
func newState(p *page, of *mapping) *State {
	return &State{
		page: p, of: of,
		Flags:            uint32Word{&p.Flags, of},
		Dev:              uint64Word{&p.Dev, of},
		Ino:              uint64Word{&p.Ino, of},
		Birth:            uint64Word{&p.Birth, of},
		Generation:       uint64Word{&p.Generation, of},
		Sequence:         uint64Word{&p.Sequence, of},
		Writing:          uint64Word{&p.Writing, of},
		head:             uint64Word{&p.head, of},
		DBVersion:        uint64Word{&p.DBVersion, of},
		DBSize:           int64Word{&p.DBSize, of},
		Armed:            uint32Word{&p.Armed, of},
		cause:            uint32Word{&p.cause, of},
		tail:             uint64Word{&p.tail, of},
		Replicator:       uint64Word{&p.Replicator, of},
		MirrorGeneration: uint64Word{&p.MirrorGeneration, of},
		MirrorSequence:   uint64Word{&p.MirrorSequence, of},
		PushedGeneration: uint64Word{&p.PushedGeneration, of},
		PushedSequence:   uint64Word{&p.PushedSequence, of},
		Published:        uint64Word{&p.Published, of},
		Dropped:          uint64Word{&p.Dropped, of},
		PublishedAt:      int64Word{&p.PublishedAt, of},
		FlushDrawn:       uint64Word{&p.FlushDrawn, of},
		FlushDone:        uint64Word{&p.FlushDone, of},
		FlushAnswered:    uint64Word{&p.FlushAnswered, of},
		LogAllowance:     uint64Word{&p.LogAllowance, of},
		WALSalts:         uint64Word{&p.WALSalts, of},
		WALPublished:     uint64Word{&p.WALPublished, of},
		WALConsumed:      uint64Word{&p.WALConsumed, of},
		MirrorStamp:      uint64Word{&p.MirrorStamp, of},
		DBStamp:          uint64Word{&p.DBStamp, of},
		StampedBy:        uint64Word{&p.StampedBy, of},
		StampSettled:     uint64Word{&p.StampSettled, of},
		Checkpointing:    uint64Word{&p.Checkpointing, of},
		WALSum:           uint64Word{&p.WALSum, of},
		WALConsumedSum:   uint64Word{&p.WALConsumedSum, of},
		LockIno:          uint64Word{&p.LockIno, of},
		Purpose:          uint64Word{&p.Purpose, of},
		Terms:            uint64Word{&p.Terms, of},
		CutAt:            int64Word{&p.CutAt, of},
		Leaving:          uint64Word{&p.Leaving, of},
		SomeGeneration:   uint64Word{&p.SomeGeneration, of},
		SomeSequence:     uint64Word{&p.SomeSequence, of},
		stored:           uint32Word{&p.stored, of},
		Wanted:           uint64Word{&p.Wanted, of},
		Continuity:       uint64Word{&p.Continuity, of},
		Holder:           uint64Word{&p.Holder, of},
	}
}
