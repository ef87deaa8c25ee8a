package remote

import "time"

// broken are rules that are left out, so that this package's simulation shows that it finds that,
// or that nothing depends on them but progress. Nobody else can set it.
type broken struct {
	losses

	lostIsRefused  bool // an answer that was lost is taken for a refusal
	staysReleased  bool // who has given the history back goes on without a fence
	leavesPromise  bool // a promise holds while the history is given back
	keepsTip       bool // what was committed last is the newest, whatever the page promises
	hearsNothing   bool // a look at the heartbeat that fails has seen that there is no new one
	keepsLocks     bool // a lock that nobody gives back is waited for
	needsNoLock    bool // the machine's lock counts as taken (R7)
	takesAnyTime   bool // every owner is taken for dead (R7)
	trustsNewFiles bool // who finds the machine's file deleted is the machine's writer still
	waitsForItself bool // what this machine's writer has appended is another's
	overstaysTip   bool // what was committed last is the newest for ten minutes longer
}

// losses are those of them by which it is found out what a store has lost.
type losses struct {
	looksNever   bool // nobody asks for what was appended (R11)
	ownsBehind   bool // an owner that finds a checkpoint of others goes on (R11)
	mendsNothing bool // nobody looks for packs that were named (R6)
	beginsAnew   bool // who finds no database makes one, whatever there was
	readsLost    bool // who only reads asks for nothing that he has read (R12)
}

// tipTime is the time by which it is decided whether what was committed last is the newest.
func (b *broken) tipTime(now time.Duration) time.Duration {
	if b.overstaysTip {
		return now - 10*time.Minute
	}
	return now
}
