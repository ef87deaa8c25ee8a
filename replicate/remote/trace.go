package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/remote/compose"
	"verneuil/replicate/versions"
)

// traced is how far what was appended was found in the store. It is guarded by database.mu.
type traced struct {
	at     history.Position // zero: nowhere yet
	moment time.Duration    // when the last look began that found it there
	asked  time.Duration    // when this machine last began one, as far as is known
	named  named
}

// doubtful reports whether what stands at that sight was not looked for yet; nil: nothing does. It
// is called with mu.
func (t *traced) doubtful(at *sight) bool {
	return at != nil && !at.m.At.Is(t.at) || len(t.named.packs) > 0
}

// due reports whether it is time for a look, for who writes. It is called with mu.
func (t *traced) due(d *database) bool { return d.now()-t.asked >= d.set.o.LeaseRenewal }

// trace asks the store whether what was read and appended is there still. If it is not, nothing
// more is called stored that stands on it (R11). Nor is it if the history has gone on, or another
// one was begun, while this machine owns what it takes for the history.
func (l *lease) trace(ctx context.Context) error {
	d := l.d
	if err := d.take(ctx); err != nil {
		return err
	}
	s := &d.story
	var r *history.Reader
	if s.w != nil {
		r = s.w.Reader().Clone()
	}
	d.give()
	if r == nil {
		return errors.New("the history is opened anew") // and what was read of it may be gone
	}
	err := l.traceFor(ctx, r)
	if err == nil || errors.Is(err, history.ErrBehind) && !errors.Is(err, history.ErrLost) {
		err = cmp.Or(l.keeper.traced.named.mend(ctx, d), err)
	}
	if !errors.Is(err, history.ErrBehind) { // nor an ErrLost
		return err
	}
	if takeErr := d.take(ctx); takeErr != nil {
		return takeErr
	}
	defer d.give()
	if s.w == nil || s.w.At().Lineage != r.At().Lineage {
		return err // somebody else has found out
	}
	if !errors.Is(err, history.ErrLost) { // what was read may be ahead of r only
		if s.w.State() == history.Owning && !d.set.broken.ownsBehind {
			disown(ctx, s)
		}
		return err
	}
	if locked, err := l.file.TryLock(); locked && err == nil {
		defer l.file.Unlock()
	}
	err = l.lose(err)
	d.queue.fail(err)
	return err
}

// disown gives the history up, which this machine owns, if another one has taken its place, or has
// gone on without it. The caller has the pen.
func disown(ctx context.Context, s *story) {
	d := s.d
	d.mu.Lock()
	held := d.lease.keeper.lock.held()
	d.mu.Unlock()
	if !held { // without the lock it is not known what the machine's file has
		if locked, err := d.lease.file.TryLock(); err != nil || !locked {
			return // another process of this machine writes, and looks
		}
		defer d.lease.file.Unlock()
	}
	// Or another process of this machine has gone on, or has given the history back.
	if n := s.noted(); n != nil && n.is(s.w) &&
		errors.Is(s.w.Reader().Look(ctx), history.ErrBehind) {
		abandon(s)
	}
}

// traceFor is trace of what r has read, and only says what it finds.
func (l *lease) traceFor(ctx context.Context, r *history.Reader) error {
	d := l.d
	if d.set.broken.looksNever {
		return nil
	}
	d.mu.Lock()
	t := &l.keeper.traced
	began := d.now()
	t.asked = began
	d.mu.Unlock()
	err := r.Trace(ctx)
	switch {
	case err == nil:
		d.mu.Lock()
		t.at, t.moment = r.At(), began
		d.mu.Unlock()
	case !errors.Is(err, history.ErrLost):
		d.log.Info("it was not found out whether the store has what was appended", "error", err)
	}
	return err
}

// traceBeside begins traceFor if it is due, for who sends a request meanwhile, and returns what
// waits for it. The caller has the pen until then.
func (l *lease) traceBeside(ctx context.Context) (wait func() error) {
	l.d.mu.Lock()
	due := l.keeper.traced.due(l.d)
	l.d.mu.Unlock()
	if !due {
		return func() error { return nil }
	}
	r := l.d.story.w.Reader().Clone()
	return chunkstore.Beside(func() error { return l.traceFor(ctx, r) })
}

// lose notes that the store has lost some of what was read and appended. The caller has the pen.
func (l *lease) lose(lost error) error {
	d := l.d
	s := &d.story
	d.mu.Lock()
	t := &l.keeper.traced
	doubt := (d.now() - t.moment).Round(time.Millisecond)
	d.log.Error("the store has lost what was called stored", "after_record", t.at.Number,
		"up_to_record", s.w.At().Number, "found_there_before", doubt, "error", lost)
	t.at = s.w.At()
	d.mu.Unlock()
	return rolledBack(s, lost)
}

// lose notes that the store has lost what was read of it: it is opened anew.
func lose(s *story, lost error) error {
	s.lost = loss{at: s.w.At(), m: s.m}
	var pack packLost
	if errors.As(lost, &pack) {
		s.lost.pack = pack
	}
	s.d.saver.forget()
	s.w, lost = nil, fmt.Errorf("%w: %w", ErrRolledBack, lost)
	s.seen.Store(&sight{m: s.m, lost: lost})
	return lost
}

// outlived fails if the store has nothing any more that is as new as m, which is durable: it was
// put back, and others have gone on, so that there are as many records again.
func outlived(ctx context.Context, d *database, m *manifest.Manifest) error {
	if at := d.story.seen.Load(); at == nil || !m.Head().After(at.m.Head()) {
		return nil
	}
	if err := d.take(ctx); err != nil {
		return err
	}
	defer d.give()
	s := &d.story
	d.mu.Lock()
	queued := len(d.queue.entries) > 0
	d.mu.Unlock()
	if queued || s.w == nil || !m.Head().After(s.m.Head()) || d.set.broken.readsLost {
		return nil
	}
	err := lose(s, fmt.Errorf("its newest version is %d, and %d was read of it", s.m.Sequence,
		m.Sequence))
	s.lost.m = m
	return err
}

// abandon notes that the history has gone on without this machine, or is none any more. What the
// machine's file has is seen to by who takes its lock next.
func abandon(s *story) {
	s.d.log.Warn("the history has gone on without this machine", "record", s.w.At().Number)
	s.d.lease.file.Page().Withdraw()
	s.w.Abandon()
	s.last = nil
	s.show()
}

// remains asks from time to time whether the store has what was read, if nothing was since that
// place.
func remains(ctx context.Context, s *story, since history.Position) error {
	now := s.d.now()
	if !s.w.At().Is(since) {
		s.remained = now
	}
	if now-s.remained < s.d.set.o.LeaseTimeout || s.d.set.broken.readsLost {
		return nil
	}
	err := s.w.Reader().Remains(ctx)
	switch {
	case errors.Is(err, history.ErrLost):
		s.d.log.Error("the store has lost what was read", "up_to_record", since.Number,
			"error", err)
		return lose(s, err) // what the machine's file has is the writer's
	case err == nil:
		s.remained = now
	}
	return err
}

// Who is told so tries again.
var (
	errFaster  = fmt.Errorf("%w: another one was faster", ErrBusy)
	errAnother = fmt.Errorf("%w: another history was begun", ErrBusy)
)

// anew begins another history with what was read, if the next record is none of this one (history's
// T7). It fails with ErrBusy: the caller tries again.
func (l *lease) anew(ctx context.Context) error {
	s := &l.d.story
	if stray, err := s.w.Reader().Astray(ctx); err != nil {
		return err
	} else if !stray {
		return errFaster
	}
	// Or what was read is none of it.
	err := s.w.Reader().Look(ctx)
	if err == nil {
		err = s.w.Reader().Stand(ctx, history.Position{})
	}
	switch {
	case errors.Is(err, history.ErrLost):
		return l.lose(err)
	case errors.Is(err, history.ErrBehind):
		return errFaster
	case err != nil:
		return err
	}
	return restart(ctx, s)
}

// reachable reports whether who opens the history now comes to where s is: what the store has lost
// is nothing that anybody needs, but records cannot be checked by it any more.
func reachable(ctx context.Context, s *story) bool {
	r, _, err := history.Open(ctx, s.d.histories, s.d.set.o.History)
	for end := false; err == nil && !end; {
		var step history.Step
		step, err = r.Next(ctx)
		end = step.Empty() || step.End
	}
	return err == nil && r.At().Is(s.w.At())
}

// restart begins another history with what s has read. It fails with ErrBusy, as anew does.
func restart(ctx context.Context, s *story) error {
	d := s.d
	m, _, err := d.composer.Checkpoint(ctx, s.m)
	if err != nil {
		return err
	}
	compose.Anew(m)
	if s.w.State() == history.Owning { // or those who have read our fence stay there
		if err := s.w.Leave(ctx); err != nil {
			s.fall()
			return err
		}
	}
	at, etag := s.w.At(), s.w.Reader().ETag()
	r, err := versions.Begin(ctx, d.shop.t, d.key, d.histories, d.set.o.History, m, etag)
	if errors.Is(err, chunkstore.ErrConflict) {
		s.fall()
		s.w = nil
		return errFaster
	} else if err != nil {
		return err
	}
	d.log.Warn("the store was put back to an older copy: what is there goes on in a new history",
		"record", at.Number)
	s.w, s.m, s.by, s.owner = history.NewWriter(r), m, [16]byte{}, nil
	s.fall()
	return errAnother
}
