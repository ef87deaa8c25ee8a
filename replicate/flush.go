package replicate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"verneuil/replicate/courier"
	"verneuil/spool"
)

// Flush returns nil when every target holds every transaction that was published
// before the call (I6), and an error that names the failing target otherwise. It
// overrides the pacing, and lets every target that has failed be tried once
// more, and a spool that could not be used. What a target was seen to be, and to have, more than a
// second before the call is looked at again. Run must be running in this process, or another
// process must replicate: then it asks that one, and waits.
func (r *Replicator) Flush(ctx context.Context) error {
	return r.flush(ctx, manner{trust: courier.FlushTrust, chain: courier.FlushTrust})
}

// Drain is Flush when nobody asks whether his data are safe: after the last connection to a
// database was closed. What a target is, is believed for a minute, pacing and pauses are kept, and
// what another process replicates is left to that one, until it is sent.
func (r *Replicator) Drain(ctx context.Context) error {
	return r.flush(ctx, manner{trust: courier.QuietTrust, chain: courier.ChainTrust, slow: true})
}

// manner is how a flush is done.
type manner struct {
	trust time.Duration // what was seen of a target so long ago is believed
	chain time.Duration // and so long ago that all records were there
	slow  bool          // at the pace of versions
	tidy  int           // so many records may not be without a checkpoint; 0: any number
}

func (r *Replicator) flush(ctx context.Context, how manner) error {
	if len(r.o.Store.Targets) == 0 {
		return fmt.Errorf("flush: %w", ErrNoTargets)
	}
	first, _ := r.failed()
	for {
		moved, err := r.flushOnce(ctx, how, first)
		switch {
		case !moved && err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("flush: %s: %w", r.Status().waits(), ctx.Err())
		case err != nil:
			return fmt.Errorf("flush: %w", err)
		}
	}
}

// waits says whom a flush waits for that has not ended.
func (s Status) waits() string {
	var late []string
	for _, t := range s.Targets {
		if t.Error != "" {
			late = append(late, t.Name+" ("+t.Error+")")
		} else if t.Busy || t.Sequence < s.Sequence {
			late = append(late, t.Name)
		}
	}
	switch {
	case len(late) > 0:
		return "not in time: waiting for " + strings.Join(late, ", ")
	case len(s.Targets) == 0 && s.Replicator != 0:
		return fmt.Sprintf("not in time: waiting for process %d, which replicates the database",
			s.Replicator)
	}
	return "not in time: " + cmp.Or(s.Error, s.State)
}

// flushOnce asks whoever replicates now. moved says that this is somebody else now, who is to be
// asked. first is how many attempts had failed when the flush was asked for.
func (r *Replicator) flushOnce(
	ctx context.Context, how manner, first int,
) (moved bool, err error) {
	now := r.look()
	failures, failure := r.failed()
	switch {
	case now.loop != nil:
		return now.loop.flush(ctx, how)
	case now.stands == over:
		return false, ErrStopped
	case failures > first+1: // one of two attempts began after the call
		return false, failure
	case how.slow:
		return r.awaitThere(ctx, now.spool, now.changed)
	default:
		return r.flushThere(ctx, now.spool, now.changed)
	}
}

// Leave is Flush by a process that ends: a base copy does not wait for a transaction of its
// own, which ends no more, and what a target is, is believed for a minute. What other processes
// publish after it they send themselves: see Retire.
func (r *Replicator) Leave(ctx context.Context) error {
	r.leaving.Store(true)
	r.Retire()
	return r.flush(ctx, manner{
		trust: courier.QuietTrust, chain: courier.ChainTrust, tidy: courier.LeaveRecords,
	})
}

// Retire says that the replicator may end, although others still write: whoever leaves his
// transactions to it looks whether it has been said (see ServedElsewhere), after he has published
// them. So if he has not seen it, they were published before, and Retire reports whether every
// target has all of it. Stay takes it back.
func (r *Replicator) Retire() (sent bool) {
	l := r.look().loop
	if l == nil {
		return true // nobody leaves anything to us
	}
	l.st.Leaving.Store(l.st.Replicator.Load())
	return l.st.PushedPoint().Covers(l.published())
}

// Stay says that the replicator does not end.
func (r *Replicator) Stay() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.loop != nil {
		r.loop.st.Leaving.Store(0)
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

// flush flushes with the loop that we are. moved says that it has ended first.
func (l *loop) flush(ctx context.Context, how manner) (moved bool, err error) {
	f := &flush{done: make(chan error, 1), ctx: ctx, slow: how.slow}
	f.Records = how.tidy
	if asked, err := l.errands.Ask(ctx, func() { l.flushes.add(f, how.trust, how.chain) }); !asked {
		return err == nil, err
	}
	select {
	case err := <-f.done:
		return false, err
	case <-l.errands.Ended():
		select {
		case err := <-f.done:
			return false, err
		default:
			return true, nil
		}
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// ErrOtherPurpose: whoever replicates a database does so under another host name, or to other
// targets, than the caller's: it cannot answer for these.
var ErrOtherPurpose = errors.New("replicates this database under another host name or to other " +
	"targets than the configuration here names; it must end, or get this configuration, first")

// errOtherBefore: so did who replicated it last.
var errOtherBefore = errors.New("it was last replicated under another host name or to other " +
	"targets than the configuration here names: what these have is not known until a program " +
	"with this configuration opens it, or verneuilctl sync is run")

// agrees fails if the process that replicates sp does not do it for our host name and targets.
func (r *Replicator) agrees(sp *spool.Spool) error {
	st := sp.State()
	if purpose := st.Purpose.Load(); purpose == r.purpose || purpose == 0 || !elsewhere(sp) {
		return nil // or there will be another one, and its terms
	}
	return fmt.Errorf("process %d %w", spool.Token(st.Replicator.Load()).PID(), ErrOtherPurpose)
}

// awaitThere returns when another process has sent all that is published, or, moved, after a
// while. What becomes of a deleted database is that process's to find out.
func (r *Replicator) awaitThere(
	ctx context.Context, sp *spool.Spool, changed <-chan struct{},
) (moved bool, err error) {
	if sp.Current() {
		if _, err := sp.Replaced(); err != nil {
			return false, err
		}
		if err := r.agrees(sp); err != nil {
			return false, err
		}
		st := sp.State()
		if st.Purpose.Load() == r.purpose && st.PushedPoint().Covers(st.PublishedPoint()) {
			return false, nil
		}
		r.hurry(sp)
	}
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-changed:
	case <-r.o.clock.after(standbyInterval):
	}
	return true, nil
}

const ticketPoll = 10 * time.Millisecond

// flushThere draws a ticket and waits for the process that holds the lock, or, moved, for us to.
func (r *Replicator) flushThere(
	ctx context.Context, sp *spool.Spool, changed <-chan struct{},
) (moved bool, err error) {
	st := sp.State()
	if !sp.Current() {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-changed:
		case <-time.After(standbyInterval):
		}
		return true, nil
	}
	terms := st.Terms.Load()
	if err := r.agrees(sp); err != nil {
		return false, err
	}
	ticket := st.FlushDrawn.Add(1)
	if err := sp.Wake(); err != nil { // it looks for tickets every second
		r.o.Log.Debug("flush", "error", err)
	}
	ticker := time.NewTicker(ticketPoll)
	defer ticker.Stop()
	awaited := awaiting{r: r, sp: sp, began: time.Now()}
	for {
		answered := st.FlushAnswered.Load() >= ticket // before done
		switch {
		case answered && st.Terms.Load() != terms:
			return true, nil // who has answered may have other targets
		case answered && st.FlushDone.Load() >= ticket:
			return false, nil
		case answered:
			select {
			case <-changed:
				return true, nil // it was us who answered: we know why
			default:
			}
			return false, unanswered(sp, ticket)
		case st.Lost():
			return true, nil
		}
		r.hurry(sp)
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-changed:
			return true, nil
		case <-ticker.C:
			if err := awaited.look(time.Now()); err != nil {
				return false, err
			}
		}
	}
}

// tellAfter is how long a process that is stopped is waited for before somebody is told of it.
const tellAfter = 2 * time.Second

// ErrReplicatorStopped: the process that replicates a database is stopped, and so answers nobody.
var ErrReplicatorStopped = errors.New("which replicates this database, is stopped, by a " +
	"signal or a debugger: have it go on (kill -CONT), or end it")

func errStopped(who spool.Token) error {
	return fmt.Errorf("process %d, %w", who.PID(), ErrReplicatorStopped)
}

// awaiting is a wait for the process that replicates sp.
type awaiting struct {
	r       *Replicator
	sp      *spool.Spool
	began   time.Time
	stopped time.Time // when it was first seen to be so; zero: it was not when last looked at
	looked  time.Time
	told    bool
}

// look looks at the process now and then. It tells the log once of one that is stopped, or does
// not answer for as long as a store may take, and fails if it is stopped for as long.
func (a *awaiting) look(now time.Time) error {
	if now.Sub(a.looked) < tellAfter/4 {
		return nil
	}
	a.looked = now
	who := spool.Token(a.sp.State().Replicator.Load())
	long := a.r.o.Store.Options().Timeout
	switch {
	case !who.Stopped():
		a.stopped = time.Time{}
	case a.stopped.IsZero():
		a.stopped = now
	case now.Sub(a.stopped) >= long:
		return errStopped(who)
	}
	stopped := !a.stopped.IsZero()
	since, limit := a.began, long
	if stopped {
		since, limit = a.stopped, tellAfter
	}
	if !a.told && now.Sub(since) >= limit {
		a.told = true
		a.r.o.Log.Warn("waiting for the process that replicates the database", "database",
			a.sp.Path(), "process", who.PID(), "stopped", stopped, "asked", now.Sub(a.began))
	}
	return nil
}
