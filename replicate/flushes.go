package replicate

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"verneuil/replicate/courier"
	"verneuil/replicate/mirror"
	"verneuil/spool"
)

// certainty is what is known of changes that nobody has recorded, when a flush is to be answered
// with yes.
//
//	         look: a recorder is in the way            look: likewise
//	unasked ─────────────────────────────▶ askedOnce ──────────────────▶ certain
//	   │  look: the generation is another one  │                            ▲
//	   └───────────────────────────────────────┴────────────────────────────┘
//
// A look that finds nothing ends the flush. After any other one it waits for what is published by
// then. A look that could not be made changes nothing.
type certainty uint8

const (
	unasked   certainty = iota // nobody has looked yet
	askedOnce                  // the look is made once more: a recorder was in its way
	certain                    // what was unrecorded is published by now
)

// askPause is how long a recorder that was in the way of a look has to end its transaction.
const askPause = 10 * time.Millisecond

// flush is a wish that every target has what was published before it.
type flush struct {
	courier.Want
	failures uint64 // of the tracker, when it was asked for
	sure     certainty
	again    time.Time // when it is looked at next: a recorder was in the way

	ticket uint64 // of another process; 0: our own
	done   chan error
	ctx    context.Context // our own: of who waits
	slow   bool            // at the pace of versions
}

// flushes are those that wait, and the tickets that other processes draw for theirs.
type flushes struct {
	sp      *spool.Spool
	tracker *mirror.Tracker
	serial  *courier.Serial
	outcome func(courier.Want) (done bool, err error) // at the targets
	now     func() time.Time
	damage  func() // takes note of what those have found who draw tickets
	log     *slog.Logger
	// began is when a Sync did, which believes what it has seen itself; zero: it is no Sync.
	began time.Time

	waiting []*flush
	tickets uint64 // taken so far
}

// add notes a flush that begins now, and believes what was seen at most trust ago, and that all
// records are there if they were at most chain ago.
func (fs *flushes) add(f *flush, trust, chain time.Duration) {
	now := fs.now()
	f.Since, f.Chain = now.Add(-trust), now.Add(-chain)
	if !fs.began.IsZero() {
		f.Since, f.Chain = fs.began, fs.began
	}
	f.Serial, f.Point = fs.serial.Next(), fs.sp.State().PublishedPoint()
	f.failures = fs.tracker.Failures()
	fs.waiting = append(fs.waiting, f)
}

// drawn returns the last ticket that another process has drawn, and whether it is one to
// take now. A Sync leaves to the next replicator what it cannot answer: who has drawn it waits for
// the lock.
func (fs *flushes) drawn() (ticket uint64, take bool) {
	ticket = fs.sp.State().FlushDrawn.Load()
	return ticket, ticket > fs.tickets && !fs.tracker.Lags()
}

// takeTickets takes what other processes have drawn.
func (fs *flushes) takeTickets() {
	if fs.tickets == 0 {
		fs.tickets = fs.sp.State().FlushAnswered.Load()
	}
	if drawn, take := fs.drawn(); take {
		fs.damage()
		fs.tickets = drawn
		fs.add(&flush{ticket: drawn}, courier.FlushTrust, courier.FlushTrust)
	}
}

// wants returns what the flushes that wait want.
func (fs *flushes) wants() []courier.Want {
	wants := make([]courier.Want, 0, len(fs.waiting))
	for _, f := range fs.waiting {
		wants = append(wants, f.Want)
	}
	return wants
}

// hurried reports whether somebody waits for a version.
func (fs *flushes) hurried() bool {
	return slices.ContainsFunc(fs.waiting, func(f *flush) bool { return !f.slow })
}

// awaited reports whether somebody who waits asked for a flush after serial.
func (fs *flushes) awaited(serial uint64) bool {
	return slices.ContainsFunc(fs.waiting, func(f *flush) bool {
		return f.Serial > serial && !f.slow
	})
}

// asked reports whether somebody who waits asked for a flush after the mirror could not be
// brought up.
func (fs *flushes) asked() bool {
	return slices.ContainsFunc(fs.waiting, func(f *flush) bool {
		return f.failures == fs.tracker.Failures() && !f.slow
	})
}

// pauses returns when flushes are looked at again for which a recorder was in the way.
func (fs *flushes) pauses() (at []time.Time) {
	for _, f := range fs.waiting {
		if f.again.After(fs.now()) { // else it waits for something else
			at = append(at, f.again)
		}
	}
	return at
}

// answer tells those who wait for a flush what has become of it (I6). ctx bounds looks.
func (fs *flushes) answer(ctx context.Context) {
	open := fs.waiting[:0]
	for _, f := range fs.waiting {
		done, err := fs.ended(f)
		if done && err == nil && f.sure != certain {
			done, err = fs.look(ctx, f)
		}
		switch {
		case f.ctx != nil && f.ctx.Err() != nil: // nobody waits any more
		case !done:
			open = append(open, f)
		case f.ticket == 0:
			f.done <- err
		default:
			fs.answerTicket(f.ticket, err)
		}
	}
	clear(fs.waiting[len(open):])
	fs.waiting = open
}

// ended reports whether a flush has ended, and how: with an error only when every target either
// has it all or has failed since it was asked for.
func (fs *flushes) ended(f *flush) (done bool, err error) {
	if fs.tracker.Phase() == mirror.Failed && fs.tracker.Failures() > f.failures {
		return true, fs.tracker.Err()
	}
	return fs.outcome(f.Want)
}

// look looks for changes that nobody has recorded, and reports whether a flush has ended that
// every target has answered. If it has not, as the generation was raised, here or since the flush
// was asked for, it waits for what is published by now: what nobody had published is of the
// new generation. If a recorder was in the way it looks once more; should one be in the way
// then, too, it has published since, and had looked itself before it first wrote.
func (fs *flushes) look(ctx context.Context, f *flush) (done bool, err error) {
	st := fs.sp.State()
	switch verdict, err := fs.tracker.Suspect(ctx); {
	case err != nil:
		return true, err
	case verdict == mirror.Replaced:
		return false, nil // the next replicator answers
	case verdict == mirror.InTheWay:
		f.sure++
		f.again = fs.now().Add(askPause)
	case verdict == mirror.Untold: // nobody was in the way: nothing was looked for
		f.again = fs.now().Add(askPause)
	default:
		f.sure = certain
		if st.Generation.Load() == f.Point.Generation {
			return true, nil
		}
	}
	f.Point = st.PublishedPoint()
	return false, nil
}

// answerTicket tells the processes that drew tickets up to this one. An earlier one may be
// answered later: a recorder was in its way. Numbers only grow.
func (fs *flushes) answerTicket(ticket uint64, err error) {
	st := fs.sp.State()
	if err == nil {
		st.FlushDone.Store(max(ticket, st.FlushDone.Load()))
	} else {
		fs.explain(ticket, err)
	}
	st.FlushAnswered.Store(max(ticket, st.FlushAnswered.Load()))
}

// refusal is what flush.json keeps: why the last ticket that failed did. It is
// written before FlushAnswered says so.
type refusal struct {
	Ticket uint64 `json:"ticket"`
	Error  string `json:"error"`
}

const (
	refusalName     = "flush.json"
	refusalBytesMax = 64 << 10
	// refusalTextMax bounds the text, in JSON at most 6 times as long.
	refusalTextMax = 8 << 10
)

// explain leaves err for the processes that drew tickets up to this one.
func (fs *flushes) explain(ticket uint64, err error) {
	text := err.Error()
	b, err := json.Marshal(refusal{ticket, text[:min(len(text), refusalTextMax)]})
	if err == nil {
		err = fs.sp.WriteFile(refusalName, b)
	}
	if err != nil {
		fs.log.Warn("flush.json was not written", "error", err)
	}
}

// unanswered is the error of a ticket that another process answered with no.
func unanswered(sp *spool.Spool, ticket uint64) error {
	err := fmt.Errorf("process %d, which replicates this database, could not push it",
		spool.Token(sp.State().Replicator.Load()).PID())
	var why refusal
	b, readErr := sp.ReadFile(refusalName, refusalBytesMax)
	if readErr == nil && json.Unmarshal(b, &why) == nil && why.Ticket >= ticket {
		return fmt.Errorf("%w: %s", err, why.Error)
	}
	if full := spool.TryWrite(sp.Dir()); full != nil { // nor could it say why
		err = fmt.Errorf("%w: %w", err, full)
	}
	return err
}
