package replicate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"verneuil/replicate/courier"
	"verneuil/replicate/errands"
	"verneuil/replicate/mirror"
	"verneuil/spool"
)

// flush is a wish that every target has what was published before it.
type flush struct {
	courier.Want
	failures uint64 // of the tracker, when it was asked for
	ticket   uint64 // of another process; 0: our own
	done     chan error
	ctx      context.Context // our own: of who waits
	slow     bool            // at the pace of versions
	asks     int             // of suspect, that it may yet be asked
	again    time.Time       // when it is asked next: a recorder was in the way
}

// Flush returns nil when every target holds every transaction that was published
// before the call (I6), and an error that names the failing target otherwise. It
// overrides the pacing, and lets every target that has failed be tried once
// more, and a spool that could not be used. What a target was seen to be, and to have, more than a
// second before the call is looked at again. Run must be running in this process, or another process must replicate: then
// it asks that one, and waits.
func (r *Replicator) Flush(ctx context.Context) error {
	return r.flush(ctx, manner{trust: courier.FlushTrust})
}

// Drain is Flush when nobody asks whether his data are safe: after the last connection to a
// database was closed. What a target is, is believed for a minute, pacing and pauses are kept, and
// what another process replicates is left to that one, until it is sent.
func (r *Replicator) Drain(ctx context.Context) error {
	return r.flush(ctx, manner{trust: courier.QuietTrust, slow: true})
}

// manner is how a flush is done.
type manner struct {
	trust time.Duration // what was seen of a target so long ago is believed
	slow  bool          // at the pace of versions
}

func (r *Replicator) flush(ctx context.Context, how manner) error {
	if len(r.o.Store.Targets) == 0 {
		return fmt.Errorf("flush: %w", ErrNoTargets)
	}
	r.mu.Lock()
	first := r.failures
	r.mu.Unlock()
	for {
		r.mu.Lock()
		s, sp, changed, stopped, failures, failure := r.session, r.spool, r.changed, r.stopped, r.failures, r.failure
		r.mu.Unlock()
		var err error
		switch {
		case s != nil:
			err = s.flushHere(ctx, how)
		case stopped:
			err = ErrStopped
		case failures > first+1: // one of two attempts began after the call
			err = failure
		case how.slow:
			err = r.awaitThere(ctx, sp, changed)
		default:
			err = r.flushThere(ctx, sp, changed)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("flush: %w (%s)", ctx.Err(), r.Status().State)
		}
		if !errors.Is(err, errMoved) {
			return fmt.Errorf("flush: %w", err)
		}
	}
}

// Leave is Flush by a process that ends: a base copy does not wait for a transaction of its
// own, which ends no more, and what a target is, is believed for a minute. What other processes
// publish after it they send themselves: see Retire.
func (r *Replicator) Leave(ctx context.Context) error {
	r.leaving.Store(true)
	r.Retire()
	return r.flush(ctx, manner{trust: courier.QuietTrust})
}

// Retire says that the replicator may end, although others still write: whoever leaves his
// transactions to it looks whether it has been said (see ServedElsewhere), after he has published
// them. So if he has not seen it, they were published before, and Retire reports whether every
// target has all of it. Stay takes it back.
func (r *Replicator) Retire() (sent bool) {
	r.mu.Lock()
	s := r.session
	r.mu.Unlock()
	if s == nil {
		return true // nobody leaves anything to us
	}
	s.st.Leaving.Store(s.st.Replicator.Load())
	return s.st.PushedPoint().Covers(s.st.PublishedPoint())
}

// Stay says that the replicator does not end.
func (r *Replicator) Stay() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.session; s != nil {
		s.st.Leaving.Store(0)
	}
}

// ServedElsewhere reports whether another process replicates the database, which will send what
// is published by now.
func (r *Replicator) ServedElsewhere() bool {
	sp := r.currentSpool()
	st := sp.State()
	if !sp.Current() || !elsewhere(sp) || r.ours() || r.agrees(sp) != nil {
		return false
	}
	return st.Leaving.Load() == 0 || st.Leaving.Load() != st.Replicator.Load()
}

// errMoved: who replicates has changed; ask again.
var errMoved = errands.ErrOver

// flushHere flushes with the session that we are.
func (s *session) flushHere(ctx context.Context, how manner) error {
	f := &flush{done: make(chan error, 1), ctx: ctx, slow: how.slow}
	if err := s.errands.Ask(ctx, func() { s.addFlush(f, how.trust) }); err != nil {
		return err
	}
	select {
	case err := <-f.done:
		return err
	case <-s.errands.Ended():
		select {
		case err := <-f.done:
			return err
		default:
			return errMoved
		}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// addFlush notes a flush that begins now, and believes what was seen at most trust ago; of a Sync,
// what it has seen itself.
func (s *session) addFlush(f *flush, trust time.Duration) {
	f.Since = s.now().Add(-trust)
	if s.r.o.still != nil {
		f.Since = s.began
	}
	f.Serial, f.Point, f.asks = s.serial.Next(), s.st.PublishedPoint(), 2
	f.failures = s.tracker.Failures()
	s.flushes = append(s.flushes, f)
}

// askPause is how long a recorder that was in suspect's way has to end its transaction.
const askPause = 10 * time.Millisecond

// ticketDrawn returns the last ticket that another process has drawn, and whether it is one to
// take now. A Sync leaves to the next session what it cannot answer: who has drawn it waits for the lock.
func (s *session) ticketDrawn() (ticket uint64, take bool) {
	ticket = s.st.FlushDrawn.Load()
	return ticket, ticket > s.tickets && !s.tracker.Lags()
}

// takeTickets takes what other processes have drawn.
func (s *session) takeTickets() {
	if s.tickets == 0 {
		s.tickets = s.st.FlushAnswered.Load()
	}
	drawn, take := s.ticketDrawn()
	if !take {
		return
	}
	s.tickets = drawn
	s.addFlush(&flush{ticket: drawn}, courier.FlushTrust)
}

// wants returns what the flushes that wait want.
func (s *session) wants() []courier.Want {
	wants := make([]courier.Want, 0, len(s.flushes))
	for _, f := range s.flushes {
		wants = append(wants, f.Want)
	}
	return wants
}

// hurried reports whether somebody waits for a version.
func (s *session) hurried() bool {
	return slices.ContainsFunc(s.flushes, func(f *flush) bool { return !f.slow })
}

// flushWants reports whether somebody who waits asked for a flush after serial.
func (s *session) flushWants(serial uint64) bool {
	for _, f := range s.flushes {
		if f.Serial > serial && !f.slow {
			return true
		}
	}
	return false
}

// asked reports whether somebody who waits asked for a flush after the mirror could not be
// brought up.
func (s *session) asked() bool {
	return slices.ContainsFunc(s.flushes, func(f *flush) bool {
		return f.failures == s.tracker.Failures() && !f.slow
	})
}

// answer tells those who wait for a flush what has become of it.
func (s *session) answer() {
	open := s.flushes[:0]
	for _, f := range s.flushes {
		done, err := s.outcome(f)
		if done && err == nil && f.asks > 0 {
			done, err = s.assure(f)
		}
		switch {
		case f.ctx != nil && f.ctx.Err() != nil: // nobody waits any more
		case !done:
			open = append(open, f)
		case f.ticket == 0:
			f.done <- err
		default:
			// An earlier one may be answered later: a recorder was in its way. Numbers only grow.
			if err == nil {
				s.st.FlushDone.Store(max(f.ticket, s.st.FlushDone.Load()))
			} else {
				s.explain(f.ticket, err)
			}
			s.st.FlushAnswered.Store(max(f.ticket, s.st.FlushAnswered.Load()))
		}
	}
	clear(s.flushes[len(open):])
	s.flushes = open
}

// assure asks suspect, and reports whether a flush has ended that every target has
// answered. If it has not, as the generation was raised, here or since the flush was asked
// for, it waits for what is published by now: what nobody had published is of the
// new generation. If a recorder was in the way it asks once more; should one be in the way
// then, too, it has published since, and had looked itself before it first wrote.
func (s *session) assure(f *flush) (done bool, err error) {
	f.asks--
	switch verdict, err := s.tracker.Suspect(s.errands.Context()); {
	case err != nil:
		return true, err
	case verdict == mirror.Replaced:
		return false, nil // the next session answers
	case verdict == mirror.InTheWay:
		f.again = s.now().Add(askPause)
	case verdict == mirror.Untold: // nobody was in the way: it has not been asked
		f.asks++
		f.again = s.now().Add(askPause)
	default:
		f.asks = 0
		if s.st.Generation.Load() == f.Point.Generation {
			return true, nil
		}
	}
	f.Point = s.st.PublishedPoint()
	return false, nil
}

// outcome reports whether a flush has ended, and how: with an error only when
// every target either has it all or has failed since it was asked for.
func (s *session) outcome(f *flush) (done bool, err error) {
	if len(s.office.Couriers()) == 0 {
		return true, ErrNoTargets
	}
	if s.tracker.Phase() == mirror.Failed && s.tracker.Failures() > f.failures {
		return true, s.tracker.Err()
	}
	return s.outcomes(f.Want)
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
func (s *session) explain(ticket uint64, err error) {
	text := err.Error()
	b, err := json.Marshal(refusal{ticket, text[:min(len(text), refusalTextMax)]})
	if err == nil {
		err = s.sp.WriteFile(refusalName, b)
	}
	if err != nil {
		s.log().Warn("flush.json was not written", "error", err)
	}
}

// unanswered is the error of a ticket that another process answered with no.
func unanswered(sp *spool.Spool, ticket uint64) error {
	err := fmt.Errorf("process %d, which replicates this database, could not push it", spool.Token(sp.State().Replicator.Load()).PID())
	var why refusal
	b, readErr := sp.ReadFile(refusalName, refusalBytesMax)
	if readErr == nil && json.Unmarshal(b, &why) == nil && why.Ticket >= ticket {
		err = fmt.Errorf("%w: %s", err, why.Error)
	}
	return err
}

// ErrOtherPurpose: whoever replicates a database does so under another host name, or to other
// targets, than the caller's: it cannot answer for these.
var ErrOtherPurpose = errors.New("replicates this database under another host name or to other targets than the configuration here names; " +
	"it must end, or get this configuration, first")

// agrees fails if the process that replicates sp does not do it for our host name and targets.
func (r *Replicator) agrees(sp *spool.Spool) error {
	st := sp.State()
	if purpose := st.Purpose.Load(); purpose == r.purpose || purpose == 0 || !elsewhere(sp) {
		return nil // or there will be another one, and its terms
	}
	return fmt.Errorf("process %d %w", spool.Token(st.Replicator.Load()).PID(), ErrOtherPurpose)
}

// awaitThere returns nil if another process has sent all that is published, and else, after
// a while, errMoved. What becomes of a deleted database is that process's to find out.
func (r *Replicator) awaitThere(ctx context.Context, sp *spool.Spool, changed <-chan struct{}) error {
	if sp.Current() {
		if _, err := sp.Replaced(); err != nil {
			return err
		}
		if err := r.agrees(sp); err != nil {
			return err
		}
		if st := sp.State(); st.Purpose.Load() == r.purpose && st.PushedPoint().Covers(st.PublishedPoint()) {
			return nil
		}
		r.hurry(sp)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-changed:
	case <-r.o.clock.after(standbyInterval):
	}
	return errMoved
}

const ticketPoll = 10 * time.Millisecond

// flushThere draws a ticket and waits for the process that holds the lock, or for us to.
func (r *Replicator) flushThere(ctx context.Context, sp *spool.Spool, changed <-chan struct{}) error {
	st := sp.State()
	if !sp.Current() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-time.After(standbyInterval):
		}
		return errMoved
	}
	terms := st.Terms.Load()
	if err := r.agrees(sp); err != nil {
		return err
	}
	ticket := st.FlushDrawn.Add(1)
	if err := sp.Wake(); err != nil { // it looks for tickets every second
		r.o.Log.Debug("flush", "error", err)
	}
	ticker := time.NewTicker(ticketPoll)
	defer ticker.Stop()
	for {
		answered := st.FlushAnswered.Load() // before done
		switch {
		case answered >= ticket && st.Terms.Load() != terms:
			return errMoved // who has answered may have other targets
		case answered >= ticket && st.FlushDone.Load() >= ticket:
			return nil
		case answered >= ticket:
			select {
			case <-changed:
				return errMoved // it was us who answered: we know why
			default:
			}
			return unanswered(sp, ticket)
		case st.Lost():
			return errMoved
		}
		r.hurry(sp)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
			return errMoved
		case <-ticker.C:
		}
	}
}
