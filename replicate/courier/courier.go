package courier

import (
	"errors"
	"maps"
	"strings"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/backoff"
	"verneuil/replicate/bell"
	"verneuil/spool"
)

// State is what a courier knows of its target, and what it does there.
//
//	          Contact            contacted
//	Strange ──────────▶ Asking ────────────▶ Idle
//	 ▲ ▲ ▲                │ │                │  │ ▲
//	 │ │ └─ contacted: ───┘ │ contacted:     │  │ │
//	 │ │    it failed       ▼ a conflict     │  │ │
//	 │ │                 Stopped             │  │ │
//	 │ └── looked: it is not what it was ────┘  │ │
//	 │                                     Push │ │ pushed
//	 │     pushed: the manifest is another      ▼ │
//	 ├─────────────────────────────────────── Pushing
//	 │     pushed                               │
//	 └──────────────────── Doubted ◀────────────┘ looked: it is not what it was
//
//	arc                  function
//	(none)  -> Strange   (*Office).open
//	Strange -> Asking    (*Courier).Contact
//	Asking  -> Idle      (*Courier).contacted
//	Asking  -> Strange   (*Courier).contacted, after an error
//	Asking  -> Stopped   (*Courier).contacted: another writer uses our name (I5)
//	Idle    -> Pushing   (*Courier).Push
//	Pushing -> Idle      (*Courier).pushed, also after an error
//	Pushing -> Strange   (*Courier).pushed: somebody else has put a manifest, or a leaf is gone
//	Idle    -> Strange   (*Courier).looked: it is not what it was
//	Pushing -> Doubted   (*Courier).looked, likewise
//	Doubted -> Strange   (*Courier).pushed
//
// Beside it, a target may be in trouble: the last attempt failed, in whatever state it was made.
// Then the next one waits, but for who asks for a flush. And a look may be under way in any state.
type State uint8

// The states.
const (
	// Strange: what the target has is not known.
	Strange State = iota
	// Asking: a contact is under way.
	Asking
	// Idle: what the target has is known, and nothing is brought to it.
	Idle
	// Pushing: a push is under way.
	Pushing
	// Doubted: a push is under way, and the target was found not to be what it was meanwhile.
	Doubted
	// Stopped: another writer uses our name. Nothing is done here any more.
	Stopped
)

// Known reports whether it is known what the target has and lacks.
func (s State) Known() bool { return s == Idle || s == Pushing }

// Busy reports whether a contact or a push is under way.
func (s State) Busy() bool { return s == Asking || s == Pushing || s == Doubted }

// Courier brings the versions of one database to one target. It belongs to the goroutine that
// owns its [Office]. Contacts, pushes and looks run in goroutines of their own and change nothing
// here: their results come back as errands do.
type Courier struct {
	*chunkstore.Target
	office *Office
	id     string // in targets.json

	state   State
	met     bool // contacted before
	stock   stock
	found   *finding // by the last contact, until it was compared with a version of ours
	ids     identities
	ack     ack
	belief  belief
	trouble trouble
	beat    beat
	shelf   *shelf
	saver   saver
	work
}

// work is what is done at a target.
type work struct {
	attempt uint64 // the serial of the last contact or push
	pushing *push  // under way
	diary   *diary // of the target's history; nil: see diaryOf
	repack  repack
	fold    *folding   // under way; nil: none is, or the target is another since
	damage  damage     // that others have found, and that is not put again yet
	news    *bell.Bell // tells replicas that follow of what was pushed
}

// trouble is why a target does not take what we have for it.
type trouble struct {
	err       error     // of the last attempt; nil: it has not failed
	since     uint64    // serial of the last attempt that failed
	retry     time.Time // not before
	backoff   backoff.Backoff
	surprises int // pushes that found the target to be another than contacts, one after the other
}

// The pauses after an attempt that failed grow from retryFirst to retryMost.
const (
	retryFirst = time.Second
	retryMost  = time.Minute
)

// State returns the courier's state.
func (c *Courier) State() State { return c.state }

// ID returns what names the target in the spool's files.
func (c *Courier) ID() string { return c.id }

// Point returns what the target is known to include; zero: nothing.
func (c *Courier) Point() spool.Point { return c.stock.point }

// Ready reports whether the target can be pushed to, or contacted, now.
func (c *Courier) Ready() bool {
	if c.state.Busy() || c.state == Stopped {
		return false
	}
	t := &c.trouble
	return t.err == nil || !c.office.now().Before(t.retry) || c.office.o.Awaited(t.since)
}

// Behind reports whether the target lacks the last version.
func (c *Courier) Behind() bool {
	last := c.office.cutter.Last()
	return last != nil && (c.stock.holds == noCut || c.stock.holds != last.Manifest.Cut)
}

// begin numbers an attempt.
func (c *Courier) begin(s State) {
	c.attempt = c.office.o.Serial.Next()
	c.state = s
}

// compare finds out what the target lacks of the last version. What is missing and overridden by
// inline pages exists nowhere any more: the next version stores it whole.
func (c *Courier) compare() {
	found := c.found
	c.found = nil
	s, names := &c.stock, manifest.NewTree(c.office.o.Sealer, 0)
	s.tree = names
	if found == nil {
		found = new(finding)
	} else if found.tree != nil {
		s.tree, names = found.tree, found.names
	}
	s.compare(c.office.cutter.Last().Tree, names)
	for i := range s.missing {
		c.office.cutter.StoreWholeIfInline(i)
	}
	c.beat.lose(found.gone)
	maps.DeleteFunc(found.torn, func(name chunkstore.Digest, _ bool) bool {
		return found.gone[name]
	})
	if len(found.torn) > 0 {
		c.beat.Missed(len(found.torn), c.office.o.Serial.Next())
	}
}

// unsay takes back that the target has what it had taken.
func (c *Courier) unsay() {
	c.stock.holds = noCut
	if c.stock.point != (spool.Point{}) {
		c.stock.point = spool.Point{}
		c.office.o.Spool.State().ForgetPushed()
	}
}

// refused is the error of a record that the store does not take, told as what it is: the store has
// answered. (Whether an attempt before that has put the record is not known all the same.)
type refused struct{ error }

func (r refused) Unwrap() error { return r.error }

func (r refused) Error() string {
	cause := strings.ReplaceAll(r.error.Error(), history.ErrUnsettled.Error()+": ", "")
	return "the store refuses our credentials, or they may not put it: " + cause
}

// fail notes that an attempt failed.
func (c *Courier) fail(err error) {
	if c.office.o.Errands.Ending() {
		return // we are, not the target
	}
	if errors.Is(err, history.ErrUnsettled) && errors.Is(err, chunkstore.ErrDenied) {
		err = refused{err}
	}
	t, now := &c.trouble, c.office.now()
	t.err, t.since = err, c.attempt
	if errors.Is(err, chunkstore.ErrNoAnswer) {
		// It has had its time: who came meanwhile need not give it as much again.
		t.since = c.office.o.Serial.Next()
	}
	wait := t.backoff.Next()
	t.retry = now.Add(wait)
	c.log().Info("push failed", "target", c.Name, "error", err, "retry_in", wait)
	if o := c.office.o.Outages; o != nil {
		o.failed(c.log(), now, c.Target, c.office.key, err)
	}
}

// stop notes that another writer uses our name (I5).
func (c *Courier) stop(err error) {
	c.state = Stopped
	c.trouble.err, c.trouble.since = err, c.attempt
	c.log().Error("stopped replicating to a target: another writer uses our name; "+
		"if this database is the rightful one, delete its spool directory to take over",
		"target", c.Name, "manifest", c.office.key, "spool", c.office.o.Spool.Dir(), "error", err)
}

// well notes that the target has taken, or shows that it has, the last version.
func (c *Courier) well() {
	if o := c.office.o.Outages; o != nil {
		o.succeeded(c.log(), c.office.now(), c.Target, c.office.key)
	}
}
