package replicate

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"math/bits"
	"slices"
	"sync/atomic"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/backoff"
	"verneuil/replicate/cutter"
)

// The patrol lets a chunk bucket have a rule by which objects expire, as the cheapest
// way to be rid of those that no version names any more: it makes young what the
// version in a target does name, chunks, leaves and nodes, once in each round. What it
// finds gone is put again.
//
// Rounds follow the wall clock, and the ID of an object says when in a round it is due:
// so the work is spread evenly, whatever the database does meanwhile, and all that has
// to be remembered of a target is one time, until which everything that was due is done.
// If that is lost, the time of the target's manifest stands for it, or the round
// before now, whichever is later: no object waits longer than two rounds.
//
// The patrol is in no hurry: it sends one request at a time, only while no push is under
// way, and only what others leave of the rate (chunkstore.Patient). When it is late, it
// takes its turn like a push. It must not starve: objects would be lost.

const (
	// patrolSlack is the part of the period that is no part of a round: a patrol
	// that is late by less still is in time.
	patrolSlack = 8
	// patrolSteps of a round: how often the tree is looked through.
	patrolSteps = 256
	// patrolSlice is how many objects are touched until the session hears of it.
	patrolSlice = 64

	patrolName     = "patrol.json"
	patrolBytesMax = 1 << 20
)

// patrol is where the patrol of a target is.
type patrol struct {
	until  time.Time // what was due before, or at, this time is done; zero: not known
	since  time.Time // nothing was left out from then on
	due    []dueObject
	end    time.Time // until, when due is empty
	slice  *slice    // under way
	gone   int       // objects that were not there, and are to be put again
	goneAt uint64    // serial when such were found last
	healed int       // how many have been put again, since the spool was made
	note   patrolNote
	err    error
	retry  time.Time
	pause  backoff.Backoff
}

// markerID stands for the marker of a chunk bucket's identity among the objects to be touched.
var markerID = chunkstore.Sum([]byte(chunkstore.MarkerKey))

// dueObject is an object, and when it is, or was, due.
type dueObject struct {
	id chunkstore.ID
	at time.Time
}

// patrolNote is what patrol.json keeps of a target. Unlike the rest of the spool it is
// valid beyond the boot: it says what has happened elsewhere.
type patrolNote struct {
	Until  time.Time `json:"until"`
	Since  time.Time `json:"since"`
	Healed int       `json:"healed"`
}

// patrolRound is how long a round takes.
func (s *session) patrolRound() time.Duration {
	return s.r.o.PatrolPeriod - s.r.o.PatrolPeriod/patrolSlack
}

func (s *session) patrolStep() time.Duration { return s.patrolRound() / patrolSteps }

// lateAt is when the patrol of t begins to be late.
func (s *session) lateAt(t *target) time.Time {
	return t.patrol.until.Add(s.r.o.PatrolPeriod / patrolSlack)
}

func (s *session) late(t *target) bool { return s.now().After(s.lateAt(t)) }

// nextDue returns when after from an object is due first: at most a round later.
func nextDue(id chunkstore.ID, from time.Time, round time.Duration) time.Time {
	offset, _ := bits.Mul64(binary.BigEndian.Uint64(id[:]), uint64(round))
	phase := time.Duration(from.UnixNano()) % round
	wait := time.Duration(offset) - phase
	if wait <= 0 {
		wait += round
	}
	return from.Add(wait)
}

func (s *session) loadPatrol() {
	if s.r.o.PatrolPeriod == 0 {
		return
	}
	notes := make(map[string]patrolNote)
	b, err := s.sp.ReadFile(patrolName, patrolBytesMax)
	if err != nil || json.Unmarshal(b, &notes) != nil {
		return // the manifests' times do
	}
	for _, t := range s.targets {
		if n, ok := notes[t.id]; ok && n.Until.After(time.Unix(0, 0)) && !n.Since.After(n.Until) {
			t.patrol.note = n
			t.patrol.resume()
		}
	}
}

// resume goes back to where patrol.json is, or would be.
func (p *patrol) resume() {
	p.until, p.since, p.healed = p.note.Until, p.note.Since, p.note.Healed
	p.due, p.gone = nil, 0
	if p.slice != nil {
		p.slice.void = true
	}
}

// savePatrol writes patrol.json. A target from which something is gone stays where it
// was before, until that is put again: a successor has to find it.
func (s *session) savePatrol() {
	notes := make(map[string]patrolNote)
	for _, t := range s.targets {
		p := &t.patrol
		if p.gone == 0 {
			p.note = patrolNote{p.until, p.since, p.healed}
		}
		if !p.note.Until.IsZero() {
			notes[t.id] = p.note
		}
	}
	b, err := json.Marshal(notes)
	if err == nil {
		err = s.sp.WriteFile(patrolName, b)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log().Warn("patrol.json was not written", "error", err)
	}
}

// beginPatrol decides where the patrol of a target begins whose manifest was read; m is
// nil if there is none.
func (s *session) beginPatrol(t *target, m *manifest.Manifest) {
	switch p := &t.patrol; {
	case s.r.o.PatrolPeriod == 0:
		return
	case p.gone > 0: // and by the manifest they would be there
		p.resume()
		return
	case !p.until.IsZero():
		return
	}
	at := s.now()
	if m != nil && m.Time.Before(at) {
		at = m.Time
	}
	if earliest := s.now().Add(-s.patrolRound()); at.Before(earliest) {
		at = earliest
	}
	t.patrol.note = patrolNote{Until: at, Since: at}
	t.patrol.resume()
}

// patrolDue returns when the patrol of t has something to do: ok is false while other
// things come first.
func (s *session) patrolDue(t *target) (at time.Time, ok bool) {
	p := &t.patrol
	switch {
	case s.r.o.PatrolPeriod == 0 || s.cutter.State() != cutter.Saved || !t.known || t.conflict != nil:
		return at, false
	case p.slice != nil:
		return s.lateAt(t), p.slice.patient
	case (t.busy || s.behind(t)) && !s.late(t):
		return at, false
	case len(p.due) > 0:
		at = p.until
	default:
		at = p.until.Add(s.patrolStep())
	}
	if p.retry.After(at) {
		at = p.retry
	}
	return at, true
}

// patrol begins what is due for each target.
func (s *session) patrol() {
	now := s.now()
	for _, t := range s.targets {
		p := &t.patrol
		if p.until.After(now) { // the clock was set back
			p.until, p.due = now, nil
			p.since = earlier(p.since, now)
			p.note.Until, p.note.Since = earlier(p.note.Until, now), earlier(p.note.Since, now)
		}
		at, ok := s.patrolDue(t)
		switch {
		case !ok || at.After(now):
		case p.slice != nil:
			p.slice.hurry()
		default:
			s.beginSlice(t, now)
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// slice is a part of a patrol, on its way. It shares nothing that changes.
type slice struct {
	t       *chunkstore.Target
	patient bool // the session's
	void    bool // the session's: what was done does not count
	cancel  context.CancelFunc
	yield   atomic.Bool

	due   []dueObject // left; nil with a tree: to be found
	until time.Time
	end   time.Time
	round time.Duration

	tree    *manifest.Tree
	missing map[int]chunkstore.ID
	have    map[chunkstore.ID]bool

	calls int64
	gone  map[chunkstore.ID]bool
}

// beginSlice goes on with the objects that are due; if there are none, with those that
// have become due since.
func (s *session) beginSlice(t *target, now time.Time) {
	p := &t.patrol
	j := &slice{
		t: t.Target, patient: !s.late(t), due: p.due, until: p.until, end: p.end,
		round: s.patrolRound(), gone: make(map[chunkstore.ID]bool),
	}
	if len(p.due) == 0 {
		if earliest := now.Add(-j.round); p.until.Before(earliest) {
			j.until = earliest // all of them are due
		}
		j.end, j.tree, j.missing, j.have = now, s.cutter.Last().Tree.Clone(), maps.Clone(t.missing), maps.Clone(t.have)
	}
	ctx, cancel := context.WithCancel(s.ctx)
	j.cancel = cancel
	if j.patient {
		ctx = chunkstore.Patient(ctx)
	}
	p.slice = j
	s.work.Go(func() {
		defer cancel()
		err := guarded(func() error { return j.run(ctx) })()
		s.send(func() { s.sliceDone(t, j, err) })
	})
}

// hurry ends a slice that waits for others: the next one does not.
func (j *slice) hurry() {
	j.patient = false
	j.cancel()
}

// stepAside lets a push go first.
func (p *patrol) stepAside() {
	if p.slice != nil && p.slice.patient {
		p.slice.yield.Store(true)
	}
}

func (j *slice) run(ctx context.Context) error {
	if j.tree != nil {
		j.due = j.find()
	}
	for len(j.due) > 0 && j.calls < patrolSlice && !j.yield.Load() {
		d := j.due[0]
		j.calls++
		if d.id == markerID {
			// One that is gone is found by a look, and has all put again.
			if err := j.t.TouchIdentity(ctx); err != nil && !chunkstore.IsFault(err) {
				return err
			}
		} else if err := j.t.TouchChunk(ctx, d.id); chunkstore.IsFault(err) {
			j.gone[d.id] = true
		} else if err != nil {
			return err
		}
		j.due, j.until = j.due[1:], d.at
	}
	if len(j.due) == 0 {
		j.until = j.end
	}
	return nil
}

// find returns the objects that the target has and that are due, in their order.
func (j *slice) find() []dueObject {
	missing := make(map[chunkstore.ID]bool, len(j.missing))
	for _, id := range j.missing {
		missing[id] = true
	}
	var due []dueObject
	look := func(id chunkstore.ID) {
		if at := nextDue(id, j.until, j.round); !at.After(j.end) && !missing[id] && id != chunkstore.ZeroID {
			due = append(due, dueObject{id, at})
		}
	}
	look(markerID)
	for i := range j.tree.Len() {
		look(j.tree.At(i))
	}
	for id := range j.tree.Objects() {
		if j.have[id] {
			look(id)
		}
	}
	slices.SortFunc(due, func(a, b dueObject) int { return cmp.Or(a.at.Compare(b.at), slices.Compare(a.id[:], b.id[:])) })
	return slices.Compact(due)
}

// sliceDone takes a slice's result.
func (s *session) sliceDone(t *target, j *slice, err error) {
	p := &t.patrol
	p.slice = nil
	t.calls += j.calls
	if !j.void {
		p.due, p.end = j.due, j.end
		if p.until.Before(j.until) {
			p.until = j.until
		}
	}
	s.lost(t, j.gone)
	switch {
	case s.ctx.Err() != nil:
	case err != nil && !errors.Is(err, context.Canceled):
		wait, level := p.pause.Next(), slog.LevelWarn
		if p.err != nil {
			level = slog.LevelInfo // as it has before
		}
		p.err, p.retry = err, s.now().Add(wait)
		s.log().Log(s.ctx, level, "patrol failed", "target", t.Name, "error", err, "retry_in", wait)
	case err == nil:
		p.err = nil
		p.pause.Reset()
	}
	s.savePatrol()
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
	t.patrol.gone += len(named)
	t.patrol.goneAt = s.serial
	s.unsay(t) // a flush waits until they are there
	s.log().Error("objects were gone from the target, which its newest version names; they are put again",
		"target", t.Name, "objects", len(named))
}

// healed takes note of a push that has put all that was missing when it began.
func (s *session) healed(t *target) {
	p := &t.patrol
	switch {
	case p.gone == 0:
	case p.goneAt > t.attempt: // found while it was under way
		s.unsay(t)
	default:
		p.healed += p.gone
		p.gone = 0
		s.savePatrol()
	}
}

// patrolled returns when the last whole round of the patrol of t has ended; zero: there
// was none.
func (s *session) patrolled(t *target) time.Time {
	if s.r.o.PatrolPeriod == 0 || t.patrol.until.Sub(t.patrol.since) < s.patrolRound() {
		return time.Time{}
	}
	return t.patrol.until
}
