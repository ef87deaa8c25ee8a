package replicate

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"verneuil/replicate/courier"
	"verneuil/replicate/cutter"
	"verneuil/replicate/errands"
	"verneuil/replicate/mirror"
	"verneuil/spool"
)

// awakeFor is how long a replicator looks for more work, by polling, before it
// arms the recorders: waking it at every commit would cost the application a
// third of its speed.
const awakeFor = 10 * time.Millisecond

// restAfter is how long there must be nothing to do until files are closed that
// are not needed to be woken: a process may have thousands of databases open, and
// not as many descriptors.
const restAfter = time.Second

// session is a replicator while it holds the lock. All of it belongs to the
// goroutine of run, but for what is said otherwise; others send functions to
// events. Pushes and contacts run in goroutines of their own and change nothing
// here: their results come as events.
type session struct {
	r    *Replicator
	sp   *spool.Spool
	lock *spool.Lock
	st   *spool.State

	tracker *mirror.Tracker
	mirror  *mirror.Mirror // the tracker's
	cutter  *cutter.Cutter // makes versions of the mirror

	lastCut time.Time // what the pace counts from
	wanted  time.Time // since when a cut is; zero: none is

	began    time.Time
	office   *courier.Office // brings versions to targets
	serial   courier.Serial  // numbers requests and attempts, in their order
	flushes  []*flush
	outcomes func(courier.Want) (done bool, err error) // of flushes, at the targets
	tickets  uint64                                    // taken so far

	errands         *errands.Errands
	kick            chan struct{} // the FIFO was read
	wake            *spool.Wake
	kept, refreshed time.Time // see keep
	arming          uint32    // how often the recorders were armed
}

func newSession(ctx context.Context, r *Replicator, sp *spool.Spool, lock *spool.Lock) (*session, error) {
	s := &session{
		r: r, sp: sp, lock: lock, st: sp.State(), began: r.o.clock.now(),
		errands: errands.New(ctx), kick: make(chan struct{}, 1),
	}
	s.begin()
	s.lastCut = s.pace()
	s.st.Leaving.Store(0)
	if err := s.open(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// begin notes for whom we replicate: what was sent to other targets, or under another name, says
// nothing of ours. Who waits for an answer sees that it would be another's.
func (s *session) begin() {
	was := s.st.Purpose.Swap(0)
	s.st.Terms.Add(1)
	if was != s.r.purpose {
		s.st.ForgetPushed()
	}
	s.st.Purpose.Store(s.r.purpose)
}

func (s *session) open() (err error) {
	if err := s.sp.RemoveJunk(); err != nil {
		return err
	}
	if err := s.sp.ResetIfOld(); err != nil {
		return err
	}
	if s.tracker, err = mirror.NewTracker(s.trackerOptions()); err != nil {
		return err
	}
	s.mirror = s.tracker.Mirror()
	s.office = courier.New(s.courierOptions(), s.r.o.Store.Targets)
	s.outcomes = s.office.Outcome
	if s.cutter, err = s.newCutter(); err != nil {
		return err
	}
	s.listen()
	if err := s.cutter.Load(s.errands.Context(), s.r.o.Host, s.sp.Path()); err != nil {
		return err
	}
	s.office.Open(s.cutter)
	return nil
}

// trackerOptions say what the mirror is of, and who else is to be asked.
func (s *session) trackerOptions() mirror.Options {
	o := mirror.Options{
		Spool: s.sp, OpenSource: s.r.o.OpenSource, Prove: s.prove,
		Checking: func() bool { return s.r.verifying.Load() > 0 }, Leaving: s.r.leaving.Load,
		Now: s.r.o.clock.now, After: s.r.o.clock.after,
		Log: s.log(), Trouble: slog.LevelWarn, Progress: s.r.o.Progress,
		Entered: func(p mirror.Phase) { s.r.setState(p.String()) },
		Still:   s.r.o.still,
		Fault:   s.fault,
	}
	if s.r.o.Reported {
		o.Trouble = slog.LevelInfo
	}
	if s.r.o.still != nil {
		o.Ahead = func() mirror.Taker { return s.office.Ahead() }
	}
	return o
}

// courierOptions say what the couriers bring, and who waits for them.
func (s *session) courierOptions() courier.Options {
	o := &s.r.o
	return courier.Options{
		Spool: s.sp, Tracker: s.tracker, Sealer: o.Store.Sealer(), Host: o.Host,
		Patrol: o.PatrolPeriod, Still: o.still != nil,
		Uploads: courier.Uploads{
			Concurrency: o.Concurrency, RunObjects: o.runObjects, Progress: o.Progress,
		},
		Clock: s.now, Errands: s.errands, Serial: &s.serial, Prove: s.prove, Awaited: s.flushWants,
		Sent: &s.r.sent, Outages: o.Outages, Reported: o.Reported, Log: s.log(),
	}
}

// close gives back what newSession took. Pushes have ended.
func (s *session) close() {
	s.errands.Stop()
	if s.wake != nil {
		s.wake.Close()
	}
	s.errands.Wait()
	if s.tracker != nil {
		s.tracker.Close()
	}
	s.st.Armed.Store(0)
}

// run repeats apply, cut and push, and sleeps when there is nothing to do.
func (s *session) run(ctx context.Context) error {
	defer s.errands.End()
	active := s.r.o.clock.now()
	for {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case s.died("loop"):
			return errDied
		}
		if err := s.prove(); err != nil {
			return err
		}
		s.keep()
		s.takeTickets()
		progress := s.tracker.Update(ctx, s.asked())
		if s.tracker.Phase() == mirror.Ended {
			return errDied
		}
		if err := s.distribute(); err != nil {
			if errors.Is(err, errDied) {
				return err
			}
			s.tracker.Fail(err)
		}
		s.office.LookAgain(s.wants())
		s.office.Patrol()
		s.publishStatus()
		if len(s.flushes) > 0 {
			if err := s.prove(); err != nil {
				return err
			}
		}
		s.answer()
		s.mirror.Seal()
		if progress {
			active = s.now()
		}
		woken, err := s.wait(ctx, active)
		if err != nil {
			return err
		}
		if woken {
			active = s.now()
		}
	}
}

// listen has recorders of other processes wake us. Where that cannot be, or a cleaner has
// removed the FIFO, what they commit is found when it is looked for (watch.go).
func (s *session) listen() {
	if s.wake != nil {
		s.wake.Close()
	}
	var err error
	if s.wake, err = s.sp.OpenWake(); err != nil {
		s.log().Warn("other processes cannot wake this replicator: it looks for their commits every second", "error", err)
		return
	}
	wake := s.wake
	s.errands.Run(func() {
		for wake.Wait() == nil {
			s.kickOnce()
		}
	})
}

func (s *session) kickOnce() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// wait returns when there may be something to do: true if somebody said so,
// false if a timer did.
func (s *session) wait(ctx context.Context, active time.Time) (woken bool, err error) {
	generation, sequence := s.st.Generation.Load(), s.st.Sequence.Load()
	if s.tracker.Err() == nil && !s.tracker.CaughtUp() {
		return true, nil
	}
	timer, pending := s.nextTimer()
	sooner := func(left time.Duration) {
		if !pending || left < timer {
			timer, pending = left, true
		}
	}
	resting := false
	if idle := s.now().Sub(active); idle < awakeFor {
		sooner(min(awakeFor-idle, s.tracker.LookAfter()))
	} else {
		// Sequentially consistent: a commit after this look sees that we are armed.
		s.arming = max(1, s.arming+1) // who has read the number before does not take this one away
		s.st.Armed.Store(s.arming)
		_, ticket := s.ticketDrawn()
		if ticket || s.st.Generation.Load() != generation || s.st.Sequence.Load() != sequence {
			s.st.Armed.Store(0)
			return true, nil
		}
		defer s.sleep(generation, sequence)()
		if idle >= restAfter {
			resting = s.tracker.Rest()
		} else {
			sooner(restAfter - idle)
		}
	}
	var alarm <-chan time.Time
	if pending {
		alarm = s.r.o.clock.after(timer)
	}
	defer s.st.Armed.Store(0)
	var event func()
	woken = true
	select {
	case <-ctx.Done():
		return true, nil
	case event = <-s.errands.Events():
	case <-s.kick:
	case <-alarm:
		woken = s.st.Generation.Load() != generation || s.st.Sequence.Load() != sequence
	}
	if resting {
		err = s.tracker.Resume()
	}
	if event != nil {
		event() // whoever sent it may wait for it
	}
	return woken, err
}

// nextTimer returns how long it is until something is due by the clock. What would be due
// but for something else that comes first must not count: its timer would end at once,
// again and again.
func (s *session) nextTimer() (d time.Duration, pending bool) {
	add := func(at time.Time) {
		if left := max(at.Sub(s.now()), 0); !pending || left < d {
			d, pending = left, true
		}
	}
	for _, f := range s.flushes {
		if f.again.After(s.now()) { // else it waits for something else
			add(f.again)
		}
	}
	failed := s.tracker.Err() != nil
	if failed {
		add(s.tracker.Retry())
	}
	cuts := !failed && s.cutter.Due() && (s.cutter.Last() != nil || s.office.Adoptable())
	for _, at := range s.office.Deadlines(!failed, cuts, s.due()) {
		add(at)
	}
	return d, pending
}

func (s *session) now() time.Time { return s.r.o.clock.now() }

// died: has a test named this point?
func (s *session) died(at string) bool { return s.r.o.fault != nil && s.r.o.fault(at) }

// fault fails where a test has named this point.
func (s *session) fault(at string) error {
	if s.died(at) {
		return errDied
	}
	return nil
}
