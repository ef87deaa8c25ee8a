package courier

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/cutter"
	"verneuil/replicate/patrol"
	"verneuil/replicate/versions"
)

// What an office does for the patrols of its targets: it tells them the time, what else there
// is to send, and what the last version is made of; and it puts again what they find gone.

func loadPatrols(o *Office) {
	notes := patrol.ReadNotes(o.o.Spool)
	for _, c := range o.couriers {
		if n, ok := notes[c.id]; ok {
			c.beat.Resume(n)
		}
	}
}

// savePatrols writes patrol.json. A target from which something is gone stays where it
// was before, until that is put again: a successor has to find it.
func (o *Office) savePatrols() {
	notes := make(map[string]patrol.Note)
	for _, c := range o.couriers {
		if n, ok := c.beat.Note(); ok {
			notes[c.id] = n
		}
	}
	if err := patrol.WriteNotes(o.o.Spool, notes); err != nil && !errors.Is(err, fs.ErrNotExist) {
		o.o.Log.Warn("patrol.json was not written", "error", err)
	}
}

// beat is the patrol of a courier's target.
type beat struct {
	of *Courier
	*patrol.Patrol
}

// Patrol returns the target's patrol, to be looked at.
func (c *Courier) Patrol() *patrol.Patrol { return c.beat.Patrol }

// begin decides where the patrol begins, now that the target's manifest was read; m is nil if there
// is none.
func (b *beat) begin(m *manifest.Manifest) {
	var stored time.Time
	if m != nil {
		stored = m.Time
	}
	b.Begin(b.of.office.now(), stored)
}

// PatrolDue returns when the patrol has something to do: ok is false while other things come
// first.
func (c *Courier) PatrolDue() (at time.Time, ok bool) {
	if c.office.cutter.State() != cutter.Saved || !c.state.Known() {
		return at, false
	}
	return c.beat.Due(c.office.now(), c.state.Busy() || c.Behind())
}

// Patrol begins what is due for each target.
func (o *Office) Patrol() {
	now := o.now()
	for _, c := range o.couriers {
		c.beat.SetBack(now)
		if at, ok := c.PatrolDue(); ok && !at.After(now) {
			c.beat.slice(now)
		}
	}
}

// slice begins the part of the patrol that is due.
func (b *beat) slice(now time.Time) {
	c, e := b.of, b.of.office.o.Errands
	slice := b.Start(e.Context(), now, func() patrol.Version {
		v := patrol.Version{Tree: c.stock.tree.Clone(), Lost: maps.Clone(c.stock.lost)}
		if mark := c.stock.mark; mark != nil {
			v.Log = versions.LogName(mark.At().Lineage)
			v.Records = versions.Needed(mark.At(), mark.Seen())
		}
		return v
	})
	if slice == nil {
		return
	}
	run := func(context.Context) error { return slice.Run() }
	e.Go(run, func(err error) { b.done(slice, err) })
}

// done takes a slice's result.
func (b *beat) done(slice *patrol.Slice, err error) {
	c := b.of
	c.shelf.calls.Add(slice.Calls())
	if c.office.o.Errands.Ending() {
		err = context.Canceled // we are ending, not the target
	}
	b.Done(slice, c.office.now(), err)
	b.lose(slice.Gone())
	if unread := slice.Unread(); unread != nil {
		c.belief.suspect(unreadTree + unread.Error())
	}
	if b.needs(slice.Hole()) {
		c.belief.suspect(fmt.Sprintf("record %d of its log is gone", slice.Hole().Number))
	}
	c.office.savePatrols()
}

// needs reports whether the target's version cannot do without the record that is gone.
func (b *beat) needs(h patrol.Hole) bool {
	mark := b.of.stock.mark
	return h.Number > 0 && mark != nil && h.Log == versions.LogName(mark.At().Lineage) &&
		h.Number > mark.Seen()
}

// lose notes packs that the target has not got, although its manifest names them. It is behind,
// then: a push puts anew what stood there. A chunk that differs from its object by inline pages
// cannot be had again: the next version stores it whole (I7).
func (b *beat) lose(gone map[chunkstore.Digest]bool) {
	c := b.of
	if len(gone) == 0 {
		return
	}
	if !c.stock.tree.Loaded() {
		c.belief.suspect("packs are gone")
		return
	}
	packs, chunks := c.stock.lose(gone, c.office.cutter.Last().Tree)
	for _, i := range chunks {
		c.office.cutter.StoreWholeIfInline(i)
	}
	if packs == 0 && len(chunks) == 0 {
		return // the version that named them is gone, too
	}
	b.Missed(packs, c.office.o.Serial.Next())
	c.unsay() // I9: a flush waits until they are there
	c.log().Error("packs were gone from the target, which its newest version names; "+
		"what stood there is put again",
		"target", c.Name, "packs", packs, "chunks", len(chunks))
}

// loseAgain notes of the version that a push has just put what was found to be gone meanwhile.
func (b *beat) loseAgain() {
	c, s := b.of, &b.of.stock
	again := s.since
	s.lost, s.since = nil, nil
	if len(again) == 0 {
		return
	}
	if !s.tree.Loaded() {
		c.belief.suspect("packs are gone")
		return
	}
	_, chunks := s.lose(again, c.office.cutter.Last().Tree)
	for _, i := range chunks {
		c.office.cutter.StoreWholeIfInline(i)
	}
}

// unreadTree says, before an error, what was found of a target.
const unreadTree = "a leaf or node of its version's tree cannot be read: "

// heal takes note of a push that has put all that was missing when it began.
func (c *Courier) heal() {
	switch whole, anew := c.beat.PutAgain(c.attempt); {
	case !whole:
		c.unsay()
	case anew:
		c.office.savePatrols()
	}
}
