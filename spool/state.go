package spool

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
)

const (
	stateBytes   = 4096
	stateMagic   = "VRNSTATE"
	stateVersion = 2
	pathOffset   = 1024

	// PathBytesMax bounds the canonical path of a database that can be spooled.
	PathBytesMax = 3062 // the field ends in a NUL; recorders take no longer ones (SPOOL_PATH_MAX)

	// FlagLost in State.Flags tells recorders to attach again.
	FlagLost = 1

	// FlagUndone in State.Flags: in the WAL with the published salts, frames beyond the published
	// ones may be valid although their commit has failed.
	FlagUndone = 2

	// NoMirror as State.MirrorGeneration: the mirror belongs to no generation. They
	// begin at 1.
	NoMirror = 0

	// logAllowance is what a new state allows the changelog, as in the recorder.
	logAllowance = 64 << 20
)

// Cause says why a generation was raised.
type Cause uint32

// The causes; the same numbers as in cgo/spool.h.
const (
	CauseNew      Cause = 1
	CauseReplaced Cause = 2
	CauseForeign  Cause = 3
	CauseCrash    Cause = 4
	CauseLogFull  Cause = 5
	CauseLogError Cause = 6
	CauseWAL      Cause = 7
	CauseIO       Cause = 8
	CauseTimes    Cause = 9
)

var causes = [...]string{
	CauseNew:      "new spool",
	CauseReplaced: "another file is at the database's path",
	CauseForeign:  "somebody wrote without the extension",
	CauseCrash:    "a process died in the middle of a transaction",
	CauseLogFull:  "the changelog outgrew its allowance",
	CauseLogError: "the changelog could not be written",
	CauseWAL:      "frames of the WAL were lost",
	CauseIO:       "a write to the database failed",
	CauseTimes: "the times of the database's file are too coarse to tell whether somebody " +
		"else wrote",
}

func (c Cause) String() string {
	if int(c) < len(causes) && causes[c] != "" {
		return causes[c]
	}
	return fmt.Sprintf("cause %d", uint32(c))
}

// DatabaseVersion returns the value of [State.DBVersion] for a database with that change counter.
func DatabaseVersion(changeCounter uint32) uint64 { return 1<<32 | uint64(changeCounter) }

// State is the state page, mapped and shared with every process that writes the
// database. doc.go says what each field means and who stores it (I2). It is valid
// as long as its [Spool] is reachable.
type State struct {
	Magic            [8]byte
	Version          uint32
	Flags            atomic.Uint32
	BootID           [16]byte
	Dev, Ino, Birth  uint64
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
	LogAllowance     uint64
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

var _ = [1]struct{}{}[unsafe.Sizeof(State{})-stateBytes] // one page, or this does not compile

// Head returns the end of the published log.
func (s *State) Head() Position { return Position(s.head.Load()) }

// SetHead publishes the log up to p. Only the holder of SQLite's write lock may call it.
func (s *State) SetHead(p Position) { s.head.Store(uint64(p)) }

// Tail returns the position up to which everything has been applied.
func (s *State) Tail() Position { return Position(s.tail.Load()) }

// SetTail frees what is before p. Only the replicator may call it.
func (s *State) SetTail(p Position) { s.tail.Store(uint64(p)) }

// Cause returns why the generation was last raised.
func (s *State) Cause() Cause { return Cause(s.cause.Load()) }

// Raise raises the generation: the log alone can no longer bring the mirror up to date. Any process
// may call it.
func (s *State) Raise(c Cause) {
	s.cause.Store(uint32(c))
	s.Generation.Add(1)
}

// Lost reports whether the directory was deleted or replaced.
func (s *State) Lost() bool { return s.Flags.Load()&FlagLost != 0 }

// Undone reports whether [FlagUndone] is set.
func (s *State) Undone() bool { return s.Flags.Load()&FlagUndone != 0 }

// SetLost tells recorders to attach again.
func (s *State) SetLost() { s.Flags.Or(FlagLost) }

// Path returns the canonical path of the database.
func (s *State) Path() string {
	path, _, _ := bytes.Cut(s.PathField[:], []byte{0})
	return string(path)
}

// validate checks that the page is a state of this boot. Errors wrap
// [chunkstore.ErrCorrupt].
func (s *State) validate() error {
	switch err := s.validateFormat(); {
	case err != nil:
		return err
	case s.BootID == [16]byte{}:
		return fmt.Errorf("%w: state names no boot: is /proc mounted?", chunkstore.ErrCorrupt)
	case s.BootID != bootID():
		return fmt.Errorf("%w: state is from another boot", chunkstore.ErrCorrupt)
	}
	return nil
}

// validateFormat checks that the page is a state, from whatever boot.
func (s *State) validateFormat() error {
	switch {
	case string(s.Magic[:]) != stateMagic:
		return fmt.Errorf("%w: not a state page", chunkstore.ErrCorrupt)
	case s.Version != stateVersion:
		return fmt.Errorf("%w: state of format version %d", chunkstore.ErrCorrupt, s.Version)
	case s.PathField[0] != '/' || s.PathField[len(s.PathField)-1] != 0:
		return fmt.Errorf("%w: state without a path", chunkstore.ErrCorrupt)
	}
	return nil
}

// Spool is one database's spool, open in this process. It is safe for concurrent use; doc.go says
// who may do what with its files and its state.
type Spool struct {
	dir   string
	state *State
	ino   uint64 // of the state's file
	dev   uint64
}

// Open opens the spool in dir, which a recorder or [Create] has made. It fails with fs.ErrNotExist
// if there is none, and with [chunkstore.ErrCorrupt] if it is not from this boot.
func Open(dir string) (*Spool, error) {
	err := Trust(dir)
	var s *Spool
	if err == nil {
		s, err = open(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open spool %s: %w", dir, err)
	}
	return s, nil
}

func open(dir string) (*Spool, error) {
	f, err := os.OpenFile(filepath.Join(dir, "state"),
		os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return mapState(dir, f)
}

// mapState maps the state in f, which may be closed afterwards.
func mapState(dir string, f *os.File) (*Spool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("stat state: %w", err)
	}
	if st.Size != stateBytes || st.Nlink > 1 {
		return nil, fmt.Errorf("%w: state of %d bytes, with %d names", chunkstore.ErrCorrupt,
			st.Size, st.Nlink)
	}
	page, err := unix.Mmap(int(f.Fd()), 0, stateBytes, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map state: %w", err)
	}
	s := &Spool{dir: dir, state: (*State)(unsafe.Pointer(&page[0])), ino: st.Ino,
		dev: uint64(st.Dev)}
	if err := s.state.validate(); err != nil {
		unix.Munmap(page)
		return nil, err
	}
	// Not in Close: somebody may ask for a status at any time.
	runtime.AddCleanup(s, func(page []byte) { unix.Munmap(page) }, page)
	return s, nil
}

// Dir returns the spool's directory.
func (s *Spool) Dir() string { return s.dir }

// Path returns the canonical path of the database.
func (s *Spool) Path() string { return s.state.Path() }

// State returns the state page. Keep s reachable as long as you use it.
func (s *Spool) State() *State { return s.state }

// Close does nothing: the spool holds only a page, which is unmapped when s is unreachable.
func (s *Spool) Close() error { return nil }

// Current reports whether the state's file is still the one in the directory, and is not lost. If
// the spool was deleted or replaced, or the page was overwritten, it marks the state as lost, so
// that recorders attach again.
func (s *Spool) Current() bool {
	defer runtime.KeepAlive(s)
	var st unix.Stat_t
	err := unix.Stat(filepath.Join(s.dir, "state"), &st)
	if s.state.validate() != nil || err == nil && (st.Ino != s.ino || uint64(st.Dev) != s.dev) ||
		err == unix.ENOENT || err == unix.ENOTDIR {
		s.state.SetLost()
	}
	return !s.state.Lost()
}
