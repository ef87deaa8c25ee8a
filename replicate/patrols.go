package replicate

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/cutter"
	"verneuil/replicate/patrol"
)

// What the session does for the patrols of its targets: it tells them the time, what else there
// is to send, and what its newest version is made of; and it puts again what they find gone.

func (s *session) loadPatrols() {
	notes := patrol.ReadNotes(s.sp)
	for _, t := range s.targets {
		if n, ok := notes[t.id]; ok {
			t.patrol.Resume(n)
		}
	}
}

// savePatrols writes patrol.json. A target from which something is gone stays where it
// was before, until that is put again: a successor has to find it.
func (s *session) savePatrols() {
	notes := make(map[string]patrol.Note)
	for _, t := range s.targets {
		if n, ok := t.patrol.Note(); ok {
			notes[t.id] = n
		}
	}
	if err := patrol.WriteNotes(s.sp, notes); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log().Warn("patrol.json was not written", "error", err)
	}
}

// beginPatrol decides where the patrol of a target begins whose manifest was read; m is
// nil if there is none.
func (s *session) beginPatrol(t *target, m *manifest.Manifest) {
	var stored time.Time
	if m != nil {
		stored = m.Time
	}
	t.patrol.Begin(s.now(), stored)
}

// patrolDue returns when the patrol of t has something to do: ok is false while other
// things come first.
func (s *session) patrolDue(t *target) (at time.Time, ok bool) {
	if s.cutter.State() != cutter.Saved || !t.known || t.conflict != nil {
		return at, false
	}
	return t.patrol.Due(s.now(), t.busy || s.behind(t))
}

// patrolTargets begins what is due for each target.
func (s *session) patrolTargets() {
	now := s.now()
	for _, t := range s.targets {
		t.patrol.SetBack(now)
		if at, ok := s.patrolDue(t); ok && !at.After(now) {
			s.beginSlice(t, now)
		}
	}
}

func (s *session) beginSlice(t *target, now time.Time) {
	slice := t.patrol.Start(s.ctx, now, func() patrol.Version {
		return patrol.Version{
			Tree:    s.cutter.Last().Tree.Clone(),
			Missing: maps.Clone(t.missing),
			Have:    maps.Clone(t.have),
		}
	})
	if slice == nil {
		return
	}
	s.work.Go(func() {
		err := guarded(slice.Run)()
		s.send(func() { s.sliceDone(t, slice, err) })
	})
}

// sliceDone takes a slice's result.
func (s *session) sliceDone(t *target, slice *patrol.Slice, err error) {
	t.calls += slice.Calls()
	if s.ctx.Err() != nil {
		err = context.Canceled // we are ending, not the target
	}
	t.patrol.Done(slice, s.now(), err)
	s.lost(t, slice.Gone())
	s.savePatrols()
}

// lost notes objects that a target has not got, although its manifest names them. It is
// behind, then: a push puts them. A chunk that differs from its object by inline
// pages cannot be had again: the next cut stores it whole (I7).
func (s *session) lost(t *target, gone map[chunkstore.ID]bool) {
	if len(gone) == 0 {
		return
	}
	named, tree := make(map[chunkstore.ID]bool), s.cutter.Last().Tree
	for i := range tree.Len() {
		id := tree.At(i)
		if !gone[id] {
			continue
		}
		named[id] = true
		t.missing[i] = id
		s.cutter.StoreWholeIfInline(i)
	}
	for id := range tree.Objects() {
		if gone[id] {
			named[id] = true
			delete(t.have, id)
		}
	}
	for id := range gone {
		delete(t.put, id)
	}
	if len(named) == 0 {
		return // the version that named them is gone, too
	}
	s.serial++
	t.patrol.Lost(len(named), s.serial)
	s.unsay(t) // a flush waits until they are there
	s.log().Error("objects were gone from the target, which its newest version names; they are put again",
		"target", t.Name, "objects", len(named))
}

// healed takes note of a push that has put all that was missing when it began.
func (s *session) healed(t *target) {
	switch whole, anew := t.patrol.PutAgain(t.attempt); {
	case !whole:
		s.unsay(t)
	case anew:
		s.savePatrols()
	}
}
