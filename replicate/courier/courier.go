package courier

import (
	"bytes"
	"errors"
	"maps"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/backoff"
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
//	Pushing -> Strange   (*Courier).pushed: somebody else has put a manifest
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
	attempt uint64 // the serial of the last contact or push
	pushing *push  // under way
	calls   int64  // of the target, by what has ended
}

// stock is what a target is known to have.
type stock struct {
	exists  bool        // there is a manifest
	etag    string      // of it
	holds   []byte      // it, if it is one of our versions, as stored; else nil
	point   spool.Point // what it is known to include
	taken   time.Time   // when it took a manifest last; zero: not yet
	missing map[int]chunkstore.ID
	have    map[chunkstore.ID]bool // leaves and nodes
	notes
}

// trouble is why a target does not take what we have for it.
type trouble struct {
	err       error     // of the last attempt; nil: it has not failed
	since     uint64    // serial of the last attempt that failed
	retry     time.Time // not before
	backoff   backoff.Backoff
	conflicts int // pushes that met one, since the last that did not
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
	return last != nil && (c.stock.holds == nil || !bytes.Equal(c.stock.holds, last.Encoded))
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
	if found == nil {
		found = new(finding)
	}
	c.found = nil
	c.stock.compare(c.office.cutter.Last().Tree, found.tree)
	for i := range c.stock.missing {
		c.office.cutter.StoreWholeIfInline(i)
	}
	c.lose(found.gone)
}

// compare finds out what is missing of tree, where there is what the manifest of theirs names;
// nil: nothing.
func (s *stock) compare(tree, theirs *manifest.Tree) {
	s.missing = make(map[int]chunkstore.ID)
	s.have = make(map[chunkstore.ID]bool)
	had := 0
	if theirs != nil {
		had = theirs.Len()
		for id := range theirs.Objects() {
			s.have[id] = true
		}
	}
	for i := range tree.Len() {
		id := tree.At(i)
		if id != chunkstore.ZeroID && !s.put[id] && (i >= had || theirs.At(i) != id) {
			s.missing[i] = id
		}
	}
	if len(s.missing) == 0 || had == 0 {
		return
	}
	elsewhere := make(map[chunkstore.ID]bool, len(s.missing)) // is it, at another index?
	for _, id := range s.missing {
		elsewhere[id] = false
	}
	for i := range had {
		if _, ok := elsewhere[theirs.At(i)]; ok {
			elsewhere[theirs.At(i)] = true
		}
	}
	maps.DeleteFunc(s.missing, func(_ int, id chunkstore.ID) bool { return elsewhere[id] })
}

// forget drops what the last version does not name: a target may have collected it by the time
// that it is wanted again.
func (s *stock) forget(tree *manifest.Tree) {
	have := make(map[chunkstore.ID]bool, len(s.have))
	for id := range tree.Objects() {
		if s.have[id] {
			have[id] = true
		}
	}
	s.have = have
}

// unsay takes back that the target has what it had taken.
func (c *Courier) unsay() {
	c.stock.holds = nil
	if c.stock.point != (spool.Point{}) {
		c.stock.point = spool.Point{}
		c.office.o.Spool.State().ForgetPushed()
	}
}

// fail notes that an attempt failed.
func (c *Courier) fail(err error) {
	if c.office.o.Errands.Ending() {
		return // we are, not the target
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
