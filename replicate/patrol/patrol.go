package patrol

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/bits"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/backoff"
)

const (
	// slack is the part of the period that is no part of a round: a patrol
	// that is late by less still is in time.
	slack = 8
	// steps of a round: how often the tree is looked through.
	steps = 256
)

// State is what a patrol does.
type State int

// The states of a patrol, and the functions that take it from one to another:
//
//	          Begin, Resume               Start
//	Unknown ----------------> Resting -----------> UnderWay
//	                             ^                    |  (hurried by Start when it is late)
//	                             +--------------------+
//	                                     Done
const (
	Unknown  State = iota // where it is: neither a note nor the target's manifest was read
	Resting               // until something is due
	UnderWay              // a slice is
)

// Patrol is where the patrol of one target is. It belongs to one goroutine.
type Patrol struct {
	target *chunkstore.Target
	period time.Duration
	log    func() *slog.Logger

	until time.Time // what was due before, or at, this time is done; zero: not known
	since time.Time // nothing was left out from then on
	due   []duePack
	end   time.Time // until, when due is empty
	slice *Slice    // under way

	gone   int    // packs that were not there, and are to be put again
	goneAt uint64 // serial when such were found last
	healed int    // how many have been put again, since the spool was made
	note   Note

	trouble
}

// trouble is what a patrol has with its target.
type trouble struct {
	err   error // of the last slice
	retry time.Time
	pause backoff.Backoff
	said  bool // that nothing can be touched
}

// New returns the patrol of target, which touches each pack once in period; 0: it never does.
// log returns where it says that the target fails.
func New(target *chunkstore.Target, period time.Duration, log func() *slog.Logger) *Patrol {
	return &Patrol{
		target: target, period: period, log: log,
		trouble: trouble{pause: backoff.Backoff{First: time.Minute, Most: time.Hour}},
	}
}

// State returns what the patrol does.
func (p *Patrol) State() State {
	switch {
	case p.slice != nil:
		return UnderWay
	case p.until.IsZero():
		return Unknown
	}
	return Resting
}

// round is how long a round takes.
func (p *Patrol) round() time.Duration { return p.period - p.period/slack }

// lateAt is when the patrol begins to be late.
func (p *Patrol) lateAt() time.Time { return p.until.Add(p.period / slack) }

func (p *Patrol) late(now time.Time) bool { return now.After(p.lateAt()) }

// Begin decides where the patrol begins, now that the target's manifest was read, which is of
// the time stored; zero: there is none.
func (p *Patrol) Begin(now, stored time.Time) {
	switch {
	case p.period == 0:
		return
	case p.gone > 0: // and by the manifest they would be there
		p.resume()
		return
	case !p.until.IsZero():
		return
	}
	at := now
	if !stored.IsZero() && stored.Before(at) {
		at = stored
	}
	if earliest := now.Add(-p.round()); at.Before(earliest) {
		at = earliest
	}
	p.note = Note{Until: at, Since: at}
	p.resume()
}

// Resume begins where another process has left off, unless n says nothing that can be true.
func (p *Patrol) Resume(n Note) {
	if p.period > 0 && n.Until.After(time.Unix(0, 0)) && !n.Since.After(n.Until) {
		p.note = n
		p.resume()
	}
}

// resume goes back to where the note is, or would be.
func (p *Patrol) resume() {
	p.until, p.since, p.healed = p.note.Until, p.note.Since, p.note.Healed
	p.due, p.gone = nil, 0
	if p.slice != nil {
		p.slice.void = true
	}
}

// Note returns what is to be kept for [Patrol.Resume]. ok is false while there is nothing to keep.
func (p *Patrol) Note() (n Note, ok bool) {
	if p.gone == 0 {
		p.note = Note{p.until, p.since, p.healed}
	}
	return p.note, !p.note.Until.IsZero()
}

// Due returns when the patrol has something to do: ok is false while other things come first.
// others says that something else is to be sent to the target, or is being sent.
func (p *Patrol) Due(now time.Time, others bool) (at time.Time, ok bool) {
	switch {
	case p.period == 0:
		return at, false
	case p.slice != nil:
		return p.lateAt(), p.slice.patient
	case others && !p.late(now):
		return at, false
	case len(p.due) > 0:
		at = p.until
	default:
		at = p.until.Add(p.round() / steps)
	}
	if p.retry.After(at) {
		at = p.retry
	}
	return at, true
}

// SetBack is told the time before [Patrol.Due] is asked: the clock may have been set back.
func (p *Patrol) SetBack(now time.Time) {
	if p.until.After(now) {
		p.until, p.due = now, nil
		p.since = earlier(p.since, now)
		p.note.Until, p.note.Since = earlier(p.note.Until, now), earlier(p.note.Since, now)
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// Version is what a slice is to look after: the newest version that the target has.
type Version struct {
	Tree *manifest.Tree             // with places; what is not loaded is fetched
	Lost map[chunkstore.Digest]bool // packs that are known to be gone
	// Log is the name of the log of which the version needs Records, too.
	Log     string
	Records []uint64
}

// Start returns the slice that is due, for [Slice.Run] and then [Patrol.Done]. It goes on with
// the packs that are due; if there are none, with those that have become due since: then it
// asks for the version, which is the slice's from then on. If a slice is under way, Start returns
// nil, and ends it if it waits for others: the next one does not.
func (p *Patrol) Start(ctx context.Context, now time.Time, version func() Version) *Slice {
	if p.slice != nil {
		p.slice.patient = false
		p.slice.cancel()
		return nil
	}
	j := &Slice{
		t: p.target, patient: !p.late(now), due: p.due, until: p.until, end: p.end,
		round: p.round(), gone: make(map[chunkstore.Digest]bool),
	}
	if len(p.due) == 0 {
		if earliest := now.Add(-j.round); p.until.Before(earliest) {
			j.until = earliest // all of them are due
		}
		j.end, j.version = now, version()
	}
	j.ctx, j.cancel = context.WithCancel(ctx)
	if j.patient {
		j.ctx = chunkstore.Patient(j.ctx)
	}
	p.slice = j
	return j
}

// StepAside lets a push go first.
func (p *Patrol) StepAside() {
	if p.slice != nil && p.slice.patient {
		p.slice.yield.Store(true)
	}
}

// Done takes the result of the slice that was under way; err is that of [Slice.Run]. What is gone
// is told to [Patrol.Lost] by the caller, who knows whether the newest version names it.
func (p *Patrol) Done(j *Slice, now time.Time, err error) {
	p.slice = nil
	if !j.void {
		p.due, p.end = j.due, j.end
		if p.until.Before(j.until) {
			p.until = j.until
		}
	}
	if t := p.target; t != nil && chunkstore.CreatesOnly(t) && !p.said {
		p.said = true
		p.log().Warn("a policy denies touching what is in the target: it is only looked for. "+
			"No rule may expire it: set patrol_days to 0, and have gc run elsewhere",
			"target", t.Name)
	}
	switch {
	case err == nil:
		p.err = nil
		p.pause.Reset()
	case !errors.Is(err, context.Canceled):
		wait, level := p.pause.Next(), slog.LevelWarn
		if p.err != nil {
			level = slog.LevelInfo // as it has before
		}
		p.err, p.retry = err, now.Add(wait)
		p.log().Log(context.Background(), level, "patrol failed",
			"target", p.target.Name, "error", err, "retry_in", wait)
	}
}

// Missed is told that n packs, which the newest version names, are not in the target. serial is
// that of the moment: see [Patrol.PutAgain].
func (p *Patrol) Missed(n int, serial uint64) {
	p.gone += n
	p.goneAt = serial
}

// PutAgain is told that a push has put all that was missing when it began, at the time of serial
// began. It reports whether nothing is gone any more; anew says that something was until now.
func (p *Patrol) PutAgain(began uint64) (whole, anew bool) {
	switch {
	case p.gone == 0:
		return true, false
	case p.goneAt > began: // found while it was under way
		return false, false
	}
	p.healed += p.gone
	p.gone = 0
	return true, true
}

// Gone returns how many packs are gone, so that what stood there is to be put again.
func (p *Patrol) Gone() int { return p.gone }

// Healed returns how many packs were gone and had their objects put again, since the spool was
// made.
func (p *Patrol) Healed() int { return p.healed }

// Err returns why the last slice failed, nil if it did not.
func (p *Patrol) Err() error { return p.err }

// Until returns the time until which all that was due is done; zero: that is not known.
func (p *Patrol) Until() time.Time { return p.until }

// RoundEnded returns when the last whole round has ended; zero: there was none.
func (p *Patrol) RoundEnded() time.Time {
	if p.period == 0 || p.until.Sub(p.since) < p.round() {
		return time.Time{}
	}
	return p.until
}

// nextDue returns when after from a pack is due first: at most a round later.
func nextDue(name chunkstore.Digest, from time.Time, round time.Duration) time.Time {
	offset, _ := bits.Mul64(binary.BigEndian.Uint64(name[:]), uint64(round))
	phase := time.Duration(from.UnixNano()) % round
	wait := time.Duration(offset) - phase
	if wait <= 0 {
		wait += round
	}
	return from.Add(wait)
}
