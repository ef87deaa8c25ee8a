package mirror

import (
	"fmt"
)

// Phase is what a [Tracker] has made of its mirror, and what it waits for.
//
//	NewTracker
//	    │
//	    ▼     bringUp           Rest
//	 Opened ──────────▶ Following ⇄ Resting
//	    │                ▲     │   Resume
//	    │        bringUp │     │ Update, Compare: the log alone does not bring the mirror up
//	    │                │     ▼
//	    └────────────▶ Copying ⇄ AwaitingTransaction, AwaitingTimes
//	                     │   pause
//	                     ▼ fail
//	              Interrupted, Chasing, Failed ──▶ back to Following or Copying, by Update
//
//	arc                                    function
//	(none)      -> Opened                  NewTracker
//	any         -> Copying                 baseCopy, for as long as it lasts
//	Copying     -> AwaitingTransaction     (*copying).pause, and back when it returns
//	Copying     -> AwaitingTimes           (*copying).pause, and back when it returns
//	any         -> Following               (*Tracker).bringUp: the mirror has all of the log
//	Interrupted -> Following               (*Tracker).Compare, which has brought the mirror up
//	any         -> Interrupted             (*Tracker).stop: a check, or the end of the context
//	any         -> Chasing, Failed, Ended  (*Tracker).stop; (*Tracker).Fail, by the owner
//	Following   -> Resting                 (*Tracker).Rest
//	Resting     -> Following               (*Tracker).Resume
//
// Whether a mirror in the phase Following equals the database is a matter of the state page, which
// other processes change: see [Tracker.Current] and [Tracker.CaughtUp].
type Phase uint8

// The phases.
const (
	// Opened: the files are open, and nothing was brought up yet.
	Opened Phase = iota
	// Following: the mirror had all of the log when it was last looked at.
	Following
	// Copying: a base copy is being made.
	Copying
	// AwaitingTransaction: a base copy waits for a transaction to end.
	AwaitingTransaction
	// AwaitingTimes: a base copy waits until the times of the database's file are old enough to
	// tell of its next change.
	AwaitingTimes
	// Interrupted: a base copy was given up, as somebody waits for Compare, who may hold the lock
	// that it waited for. The next Update begins again.
	Interrupted
	// Chasing: the database changed meanwhile. Update tries again when Retry says so, and a flush
	// waits for that. Err says what has changed.
	Chasing
	// Failed: Err says why. Update tries again when Retry says so, or if it is asked to. A flush
	// fails.
	Failed
	// Resting: as Following, but the files are closed until Resume.
	Resting
	// Ended: a test has the tracker die here. It is of no use any more.
	Ended
)

var phases = [...]string{
	Opened: "opened", Following: "following", Copying: "copying the database",
	AwaitingTransaction: "waiting for a transaction to end",
	AwaitingTimes:       "waiting until the times of the database's file tell of its next change",
	Interrupted:         "interrupted for a check", Chasing: "chasing", Failed: "failed",
	Resting: "resting", Ended: "ended",
}

// String returns what a status says of the phase.
func (p Phase) String() string {
	if int(p) < len(phases) {
		return phases[p]
	}
	return fmt.Sprintf("phase %d", uint8(p))
}
