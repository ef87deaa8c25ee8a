package mirror

import (
	"errors"
	"fmt"
	"time"

	"verneuil/spool"
)

// What keeps a mirror from being equal to its database. These are for people: a [Phase] and a
// [Verdict] say what comes next.
var (
	errAgain = errors.New("the database changed during the copy")
	errBusy  = errors.New("a transaction is in progress")
	errYield = errors.New("interrupted for a check")
	// errReplaced: the log is another file's.
	errReplaced = errors.New("the spool, or the database, was deleted or replaced")

	// ErrHeld is in [Tracker.Err] while somebody without a recorder keeps EXCLUSIVE.
	ErrHeld = errors.New("a program without the extension has the database locked (EXCLUSIVE): " +
		"what it has written may not be committed")
	// ErrLeaving is in [Tracker.Err] if the process ends, and its transaction keeps the database
	// from being copied.
	ErrLeaving = errors.New("the process ends in the middle of a transaction")
)

// ground is what a tracker and its parts stand on.
type ground struct {
	o      Options
	sp     *spool.Spool
	st     *spool.State
	mirror *Mirror
	rhythm rhythm
	died   error // the error by which a test ended the work; nil elsewhere
}

func (g *ground) now() time.Time { return g.o.Now() }

// fault fails where a test has named this point: then nothing more is done.
func (g *ground) fault(point string) error {
	if g.o.Fault != nil && g.died == nil {
		g.died = g.o.Fault(point)
	}
	return g.died
}

// stable reports whether the database does not change while we run.
func (g *ground) stable() bool { return g.o.Still != nil }

// note has the state page say what the file is like, in which nobody writes now.
func (g *ground) note() error {
	old := g.st.DBStamp.Load()
	now, err := spool.StampOf(g.sp.Path())
	if err != nil {
		return fmt.Errorf("look at database: %w", err)
	}
	g.st.DBStamp.CompareAndSwap(old, now.Sum()) // else a recorder has just left it
	return nil
}

// look compares the database's file, as it is now, with what the last recorder has left.
func (g *ground) look() (spool.Left, error) {
	l, err := g.st.Look(g.sp.Path())
	return l, wrap(err, "look at database")
}

// believe raises the generation unless the database's file is what we take it for.
func (g *ground) believe(l spool.Left) {
	switch l {
	case spool.LeftChanged:
		g.st.Raise(spool.CauseForeign)
	case spool.LeftMaybe:
		g.st.Raise(spool.CauseTimes)
	}
}
