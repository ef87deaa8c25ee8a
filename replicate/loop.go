package replicate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"syscall"
	"time"

	"verneuil/manifest"
	"verneuil/replicate/courier"
	"verneuil/replicate/cutter"
	"verneuil/replicate/errands"
	"verneuil/replicate/mirror"
	"verneuil/spool"
)

// awakeFor is how long a replicator looks for more work, by polling, as often as
// [mirror.Tracker.LookAfter] says, before it arms the recorders: waking it at every commit would
// cost the application a third of its speed.
const awakeFor = 10 * time.Millisecond

// waitsAgain is for how long after a commit that somebody waited for the next one is expected: all
// that is published is applied at once then.
const waitsAgain = time.Second

// restAfter is how long there must be nothing to do until files are closed that
// are not needed to be woken: a process may have thousands of databases open, and
// not as many descriptors.
const restAfter = time.Second

// activity is what a loop does.
//
//	           wait: nothing          wait: for awakeFor         wait: for restAfter
//	          is to be done now
//	Working ───────────────────▶ Awake ───────────────▶ Armed ────────────────────▶ Resting
//	   ▲                           │                      │                            │
//	   └───────────────────────────┴──────────────────────┴────────────────────────────┘
//	             run: an event, the bell or a timer; from Resting, files are opened again
//
// Any of them ends in an ending, which run returns.
type activity uint8

const (
	working activity = iota // a round of run is under way
	awake                   // it looks for more by polling
	armed                   // it sleeps, and recorders wake it
	resting                 // likewise, and the mirror's files are closed
)

// ending is how a loop, or an attempt to begin one, has ended.
type ending uint8

const (
	goesOn    ending = iota // it has not
	stopped                 // its context has
	lockedOut               // somebody else has the lock
	lockTaken               // the lock was taken from us
	spoolLost               // the spool, or the database, was deleted or replaced
	failed                  // for another reason
	killed                  // by a test, at a named point
)

// loop replicates while we hold the spool's lock: it keeps the mirror current, has versions made,
// and has them brought to the targets. All of it belongs to the goroutine of run, but for what is
// said otherwise; others have it do things by its errands.
type loop struct {
	r       *Replicator
	tenure  tenure
	st      *spool.State
	tracker *mirror.Tracker // keeps the mirror current
	cutter  *cutter.Cutter  // makes versions of the mirror
	office  *courier.Office // brings them to targets
	errands *errands.Errands
	serial  courier.Serial // numbers requests and attempts, in their order

	pace    pace
	flushes flushes
	bell    bell
	cut     uint64 // the sequence that the last version includes, or that needs none
	does    activity
	last    moments
	died    bool // a test has named a point that was passed
}

// moments are when something happened last.
type moments struct {
	active time.Time // something was to be done
	waited time.Time // somebody waited for his commit
}

// newLoop opens what is in a spool. Close the loop, also one that never ran.
func newLoop(ctx context.Context, r *Replicator, sp *spool.Spool, lock *spool.Lock) (*loop, error) {
	now := r.o.clock.now()
	l := &loop{
		r: r, tenure: tenure{sp: sp, lock: lock}, st: sp.State(), errands: errands.New(ctx),
		pace: newPace(sp.State(), r.o.ManifestInterval, now), last: moments{active: now},
	}
	l.bell = newBell(sp, l.errands, l.log())
	l.announce()
	if err := l.open(); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// announce notes for whom we replicate: what was sent to other targets, or under another name,
// says nothing of ours. Who waits for an answer sees that it would be another's.
func (l *loop) announce() {
	was := l.st.Purpose.Swap(0)
	l.st.Terms.Add(1)
	if was != l.r.purpose {
		l.st.ForgetPushed()
	}
	l.st.Purpose.Store(l.r.purpose)
	l.st.Leaving.Store(0)
}

func (l *loop) open() (err error) {
	sp, o := l.tenure.sp, &l.r.o
	if err := sp.RemoveJunk(); err != nil {
		return err
	}
	if err := sp.ResetIfOld(); err != nil {
		return err
	}
	if l.tracker, err = mirror.NewTracker(l.trackerOptions()); err != nil {
		return err
	}
	l.flushes = flushes{
		sp: sp, tracker: l.tracker, serial: &l.serial, outcome: l.outcome, now: l.now, log: l.log(),
	}
	if o.still != nil {
		l.flushes.began = l.last.active
	}
	l.office = courier.New(l.courierOptions(), o.Store.Targets)
	files, err := cutter.OpenFiles(sp, o.Store.Sealer())
	if err != nil {
		return err
	}
	l.cutter = cutter.New(cutter.Options{
		Contents: l.tracker.Mirror(), Files: files, Sealer: o.Store.Sealer(), Audience: l.office,
		Sign: l.sign, Prove: l.tenure.prove, Meanwhile: l.tracker.Apply,
		Log: l.log(), Fault: l.fault,
	})
	l.bell.listen()
	if err := l.cutter.Load(l.errands.Context(), o.Host, sp.Path()); err != nil {
		return err
	}
	l.office.Open(l.cutter)
	l.flushes.damage = func() { courier.TakeDamage(l.office) }
	return nil
}

// trackerOptions say what the mirror is of, and who else is to be asked.
func (l *loop) trackerOptions() mirror.Options {
	o := mirror.Options{
		Spool: l.tenure.sp, OpenSource: l.r.o.OpenSource, Prove: l.tenure.prove,
		Checking: func() bool { return l.r.verifying.Load() > 0 }, Leaving: l.r.leaving.Load,
		Now: l.r.o.clock.now, After: l.r.o.clock.after,
		Log: l.log(), Trouble: slog.LevelWarn, Progress: l.r.o.Progress,
		Entered: func(p mirror.Phase) { l.r.setState(p.String()) },
		Still:   l.r.o.still,
		Fault:   l.fault,
	}
	if l.r.o.Reported {
		o.Trouble = slog.LevelInfo
	}
	if l.r.o.still != nil {
		o.Ahead = func() mirror.Taker { return l.office.Ahead() }
	}
	return o
}

// courierOptions say what the couriers bring, and who waits for them.
func (l *loop) courierOptions() courier.Options {
	o := &l.r.o
	c := courier.Options{
		Spool: l.tenure.sp, Tracker: l.tracker, Sealer: o.Store.Sealer(), Host: o.Host,
		Patrol: o.PatrolPeriod, Still: o.still != nil,
		Uploads: courier.Uploads{
			Concurrency: o.Concurrency, RunObjects: o.runObjects, PackObjects: o.packObjects,
			LeavesAtOnce: o.leavesAtOnce, RepackAfter: o.repackAfter, Progress: o.Progress,
		},
		Clock: l.now, Errands: l.errands, Serial: &l.serial,
		Prove:   l.tenure.prove,
		Waiters: courier.Waiters{Awaited: l.flushes.awaited, Taken: l.publishPushed},
		Sent:    &l.r.sent, Outages: o.Outages, Log: l.log(),
	}
	if o.Reported {
		c.Outages = nil
	}
	return c
}

// sign fills in where a version comes from.
func (l *loop) sign(m *manifest.Manifest) {
	m.Host, m.Path, m.Program = l.r.o.Host, l.tenure.sp.Path(), l.r.o.Program
	m.Continuity, m.Time = l.st.Continuity.Load(), l.now()
	if st, err := os.Stat(m.Path); err == nil {
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			m.SourceCtime = time.Unix(sys.Ctim.Unix())
		}
	}
}

// close gives back what newLoop took. run has ended.
func (l *loop) close() {
	if l.office != nil {
		courier.Finish(l.errands.Context(), l.office)
	}
	l.errands.Stop()
	l.bell.close()
	l.errands.Wait()
	if l.tracker != nil {
		l.tracker.Close()
	}
	l.bell.disarm()
	l.tenure.report.close(l.tenure.sp)
}

// run repeats apply, cut and push, and sleeps when there is nothing to do. err says more of how it
// ended, if that can be said.
func (l *loop) run(ctx context.Context) (end ending, err error) {
	defer l.errands.End()
	for {
		if ctx.Err() != nil {
			return stopped, ctx.Err()
		}
		if end, err := l.round(ctx); end != goesOn {
			return end, err
		}
		woken, err := l.wait(ctx)
		if err != nil {
			return failed, err
		}
		l.does = working
		if woken {
			l.last.active = l.now()
		}
	}
}

// round does what is to be done now.
func (l *loop) round(ctx context.Context) (end ending, err error) {
	if l.fault("loop") != nil {
		return killed, errDied
	}
	if end, err := l.tenure.end(); end != goesOn {
		return end, err
	}
	l.keep()
	l.flushes.takeTickets()
	progress := l.tracker.Update(ctx, l.flushes.asked())
	if l.died {
		return killed, errDied
	}
	if err := l.distribute(); l.died {
		return killed, errDied
	} else if err != nil {
		l.tracker.Fail(err)
	}
	l.office.LookAgain(l.flushes.wants())
	l.office.Patrol()
	courier.ForgetMended(l.office)
	l.publishStatus()
	if len(l.flushes.waiting) > 0 {
		if end, err := l.tenure.end(); end != goesOn {
			return end, err
		}
	}
	l.flushes.answer(l.errands.Context())
	l.tracker.Mirror().Seal()
	if progress {
		l.last.active = l.now()
	}
	return goesOn, nil
}

// distribute has a version made if one is due, and starts what can be started for each target.
func (l *loop) distribute() error {
	l.publishPushed()
	l.office.Contact()
	l.office.TakeHashes()
	l.office.Checkpoint(l.flushes.wants())
	if !l.tracker.Current() { // I2: else it is no state that the database had
		return nil
	}
	ctx := l.errands.Context()
	if l.cutter.State() == cutter.Blank {
		if !l.office.Adoptable() {
			return nil
		}
		if err := l.tracker.Recheck(); err != nil || !l.tracker.Current() {
			return err
		}
		if err := l.office.Adopt(ctx); err != nil {
			return fmt.Errorf("adopt: %w", err)
		}
	}
	if l.cutter.Due() {
		now := l.now()
		l.pace.want(now)
		if !l.office.AnyReady() || now.Before(l.pace.due()) && !l.hurried() {
			return nil
		}
		if err := l.tracker.Recheck(); err != nil || !l.tracker.Current() {
			return err
		}
		made, err := l.cutter.Cut(ctx)
		if err != nil {
			return fmt.Errorf("cut: %w", err)
		}
		l.pace.made(now, made)
	}
	l.cut = l.mirrorPoint().Sequence
	l.office.Push(l.mirrorPoint())
	runtime.Gosched() // what is pushed goes on in this thread, and not in another one, later
	l.office.Fold()
	l.publishPushed()
	return nil
}

// mirrorPoint is what the mirror includes.
func (l *loop) mirrorPoint() spool.Point {
	generation, sequence := l.tracker.Point()
	return spool.Point{Generation: generation, Sequence: sequence}
}

// hurried reports whether somebody waits for the next version: a flush, or a durable commit.
func (l *loop) hurried() bool { return l.flushes.hurried() || l.awaited() }

// awaited reports whether a durable commit waits for a version that is not made yet.
func (l *loop) awaited() bool { return l.st.Wanted.Load() > l.cut }

// publishPushed stores what every target has, and what some target has, and tells the commits that
// wait for that. A Sync does not say it of what is not its caller's.
func (l *loop) publishPushed() {
	if len(l.office.Couriers()) == 0 || l.tracker.Lags() {
		return
	}
	all, some := l.office.Reached()
	was, someWas := l.st.PushedPoint(), l.st.SomePoint()
	if all.Covers(was) {
		l.st.SetPushed(all)
	}
	if some.Covers(someWas) {
		l.st.SetSome(some)
	}
	if l.st.PushedPoint() != was || l.st.SomePoint() != someWas {
		l.st.TellStored()
	}
}

// outcome reports whether a flush has ended at the targets, and how.
func (l *loop) outcome(w courier.Want) (done bool, err error) {
	if len(l.office.Couriers()) == 0 {
		return true, ErrNoTargets
	}
	return l.office.Outcome(w)
}

// wait returns when there may be something to do: true if somebody said so,
// false if a timer did. It fails if files that were closed cannot be opened again.
func (l *loop) wait(ctx context.Context) (woken bool, err error) {
	was := l.published()
	// Who waits for his commit is in no hurry to commit again: he had better wake us at once.
	waits := l.st.Wanted.Load() >= max(was.Sequence, 1)
	now, behind := l.now(), l.tracker.Err() == nil && !l.tracker.CaughtUp()
	if waits || l.awaited() {
		l.last.waited = now
	}
	// Nobody is told who waits for his commit while others go on to commit.
	asked := now.Sub(l.last.waited) < waitsAgain || l.hurried()
	if behind && (asked || l.tracker.LookAfter() == 0) {
		return true, nil
	}
	next := l.deadline()
	if idle := now.Sub(l.last.active); behind || idle < awakeFor && !waits {
		l.does = awake
		look := l.tracker.LookAfter()
		if !behind {
			look = min(look, awakeFor-idle)
		}
		next.add(look)
	} else {
		l.does = armed
		l.bell.arm()
		defer l.bell.disarm()
		if _, ticket := l.flushes.drawn(); ticket || l.published() != was {
			return true, nil
		}
		defer sleep(l, was)()
		if idle < restAfter {
			next.add(restAfter - idle)
		} else if l.tracker.Rest() {
			l.does = resting
		}
	}
	var alarm <-chan time.Time
	if next.pending {
		alarm = l.r.o.clock.after(next.left)
	}
	var event func()
	woken = true
	select {
	case <-ctx.Done():
		return true, nil
	case event = <-l.errands.Events():
	case <-l.bell.rung:
	case <-alarm:
		woken = l.published() != was
	}
	if l.does == resting {
		err = l.tracker.Resume()
	}
	if event != nil {
		event() // whoever sent it may wait for it
	}
	return woken, err
}

// published is what recorders have published.
func (l *loop) published() spool.Point { return l.st.PublishedPoint() }

// timer is the earliest of some moments.
type timer struct {
	left    time.Duration
	pending bool // there is one
}

func (t *timer) add(left time.Duration) {
	if left = max(left, 0); !t.pending || left < t.left {
		*t = timer{left, true}
	}
}

// deadline returns when something is due by the clock. What would be due but for something else
// that comes first must not count: its timer would end at once, again and again.
func (l *loop) deadline() (next timer) {
	now, current := l.now(), l.tracker.Err() == nil
	at := append(l.flushes.pauses(), l.tenure.report.due()...)
	if !current {
		at = append(at, l.tracker.Retry())
	}
	due := current && l.cutter.Due() && (l.cutter.State() != cutter.Blank || l.office.Adoptable())
	at = append(at, l.office.Deadlines(current, due, l.pace.due())...)
	for _, at := range at {
		next.add(at.Sub(now))
	}
	return next
}

// keep makes anew what others have removed from the spool, when it was not looked for lately.
func (l *loop) keep() {
	now := l.now()
	if !l.tenure.due(now) {
		return
	}
	if !l.tenure.complete(l.bell.wake) {
		l.restore()
	}
	if l.tenure.stale(now) {
		l.tenure.lock.Refresh()
		l.tracker.Mirror().Refresh()
	}
}

// restore makes anew what is missing.
func (l *loop) restore() {
	if !l.bell.stillListens() {
		l.bell.listen()
	}
	err := errors.Join(l.tenure.sp.KeepBoot(), l.cutter.Restore())
	if l.r.source != nil {
		err = errors.Join(err, l.tenure.sp.WriteSourceConfig(*l.r.source))
	}
	if err != nil {
		l.log().Warn("a file of the spool is missing, and cannot be made again", "error", err)
	}
}

func (l *loop) log() *slog.Logger { return l.r.o.Log }

func (l *loop) now() time.Time { return l.r.o.clock.now() }

// fault fails where a test has named this point: then the loop ends as if it had been killed there.
func (l *loop) fault(at string) error {
	if l.r.o.fault == nil || !l.r.o.fault(at) {
		return nil
	}
	l.died = true
	return errDied
}
