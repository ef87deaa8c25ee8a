package spool

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
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
	defer runtime.KeepAlive(s.of)
	path, _, _ := bytes.Cut(s.page.PathField[:], []byte{0})
	return string(path)
}

// validate checks that the page is a state of this boot. Errors wrap
// [chunkstore.ErrCorrupt].
func (s *State) validate() error {
	defer runtime.KeepAlive(s.of)
	switch err := s.validateFormat(); {
	case err != nil:
		return err
	case s.page.BootID == [16]byte{}:
		return fmt.Errorf("%w: state names no boot: is /proc mounted?", chunkstore.ErrCorrupt)
	case s.page.BootID != bootID():
		return fmt.Errorf("%w: state is from another boot", chunkstore.ErrCorrupt)
	}
	return nil
}

// validateFormat checks that the page is a state, from whatever boot.
func (s *State) validateFormat() error {
	defer runtime.KeepAlive(s.of)
	switch {
	case string(s.page.Magic[:]) != stateMagic:
		return fmt.Errorf("%w: not a state page", chunkstore.ErrCorrupt)
	case s.page.Version != stateVersion:
		return fmt.Errorf("%w: state of format version %d", chunkstore.ErrCorrupt, s.page.Version)
	case s.page.PathField[0] != '/' || s.page.PathField[len(s.page.PathField)-1] != 0:
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
	b, err := unix.Mmap(int(f.Fd()), 0, stateBytes, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map state: %w", err)
	}
	state := newState((*page)(unsafe.Pointer(&b[0])), newMapping(b))
	if err := state.validate(); err != nil {
		return nil, err
	}
	return &Spool{dir: dir, state: state, ino: st.Ino, dev: uint64(st.Dev)}, nil
}

// Dir returns the spool's directory.
func (s *Spool) Dir() string { return s.dir }

// Path returns the canonical path of the database.
func (s *Spool) Path() string { return s.state.Path() }

// State returns the state.
func (s *Spool) State() *State { return s.state }

// Close does nothing: the spool holds only its state, which is unmapped when nobody refers to it.
func (s *Spool) Close() error { return nil }

// Current reports whether the state's file is still the one in the directory, and is not lost. If
// the spool was deleted or replaced, or the page was overwritten, it marks the state as lost, so
// that recorders attach again.
func (s *Spool) Current() bool {
	var st unix.Stat_t
	err := unix.Stat(filepath.Join(s.dir, "state"), &st)
	if s.state.validate() != nil || err == nil && (st.Ino != s.ino || uint64(st.Dev) != s.dev) ||
		err == unix.ENOENT || err == unix.ENOTDIR {
		s.state.SetLost()
	}
	return !s.state.Lost()
}
