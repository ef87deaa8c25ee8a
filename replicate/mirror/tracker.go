package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"verneuil/chunkstore"
	"verneuil/replicate/backoff"
	"verneuil/spool"
)

// Options of a [Tracker]. All but Still, Ahead and Fault are needed. The functions are
// called by the goroutine that calls the tracker.
type Options struct {
	Spool *spool.Spool // the caller holds its lock

	// OpenSource opens the database. It is called for each base copy, as another file may stand at
	// the path by then.
	OpenSource func() (Source, error)
	// Prove fails if the spool is not the caller's any more: then the mirror must not count.
	Prove func() error
	// Checking reports whether somebody waits for Compare, who may hold SQLite's write lock: a base
	// copy does not wait for a transaction then.
	Checking func() bool
	// Leaving reports whether the process ends: a base copy does not wait for its own transaction.
	Leaving func() bool

	Now   func() time.Time
	After func(time.Duration) <-chan time.Time

	Log      *slog.Logger
	Trouble  slog.Level                            // of what keeps the mirror from being brought up
	Progress func(phase string, done, total int64) // of a base copy, in bytes
	Entered  func(Phase)                           // a base copy begins, or waits for something

	// Still says what the database's files were before the caller's read transaction began, which
	// lasts until the tracker is closed: the database does not change. Nil: it does.
	Still *Seen
	// Ahead returns what takes the pieces of a base copy, which begins. Nil: nobody does.
	Ahead func() Taker
	// Fault, in tests, returns the error by which the work ends at a named point; nil elsewhere.
	Fault func(point string) error
}

// Taker takes the pieces of a base copy while it goes on.
type Taker interface {
	// Take offers p, which has the n bytes of the database from off on, and is in the mirror. Who
	// needs p for longer than the call retains it. It reports whether a target puts it now.
	Take(ctx context.Context, p *Piece, off int64, n int) (taken bool)
	// End says that there are no more pieces.
	End()
}

// The pauses after a mirror could not be brought up grow from retryFirst to retryMost.
const (
	retryFirst = 50 * time.Millisecond
	retryMost  = 5 * time.Second
)

// Tracker keeps a mirror equal to its database. It has the mirror, applies the changelog and the
// WAL to it, makes base copies, and looks for what nobody has recorded. Only the holder of the
// spool's lock may have one, and only one goroutine may use it.
type Tracker struct {
	*ground
	log changelog
	wal *wal

	phase      Phase
	err        error  // why the mirror is not up to date; nil if it is
	told       bool   // the log says so
	failures   uint64 // how often it could not be brought up
	backoff    backoff.Backoff
	retry      time.Time // when to try again; of no meaning without err
	distrusted bool      // the files were not what was left
}

// NewTracker opens the mirror in the spool, or makes an empty one. Close it.
func NewTracker(o Options) (*Tracker, error) {
	m, err := Open(o.Spool.Dir())
	if err != nil {
		return nil, err
	}
	g := &ground{o: o, sp: o.Spool, st: o.Spool.State(), mirror: m,
		rhythm: rhythm{every: lookMost}}
	t := &Tracker{
		ground: g, wal: newWAL(g),
		backoff: backoff.Backoff{First: retryFirst, Most: retryMost},
	}
	t.log = changelog{g, t.wal}
	if err := t.open(); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

func (t *Tracker) open() error {
	if !t.mirror.Guard(t.st.MirrorStamp) {
		if err := t.giveUp(); err != nil {
			return err
		}
	}
	copied, err := t.copiedBefore()
	if err != nil {
		return err
	}
	switch {
	case copied && !t.distrusted:
		t.st.MirrorGeneration.Store(t.st.Generation.Load())
		t.st.MirrorSequence.Store(t.st.Sequence.Load())
		t.log.free(t.st.Head())
		if err := t.note(); err != nil {
			return err
		}
	case t.stable():
		t.Distrust()
	}
	// What an older state has left.
	if err := spool.Trim(t.sp.Dir(), t.st.Tail(), t.st.Tail()); err != nil {
		return err
	}
	if now, err := spool.StampOf(t.sp.Path()); err == nil {
		t.wal.high = now.Bytes
	}
	return nil
}

// Close closes the mirror's files, which views read: they must be closed. It notes what a
// successor may believe of the files, if the spool is still ours.
func (t *Tracker) Close() {
	if t.stable() {
		t.leave(t.Current())
	}
	if t.o.Prove() == nil {
		t.mirror.Seal()
	}
	t.mirror.Close()
	t.wal.reset()
}

// Mirror returns the mirror, which the tracker closes. Its contents count while
// [Tracker.Current] says so.
func (t *Tracker) Mirror() *Mirror { return t.mirror }

// Phase returns what the tracker is about.
func (t *Tracker) Phase() Phase { return t.phase }

// Err returns why the mirror is not up to date; nil if nothing is in the way.
func (t *Tracker) Err() error { return t.err }

// Failures returns how often the mirror could not be brought up. It only grows.
func (t *Tracker) Failures() uint64 { return t.failures }

// Retry returns when Update tries again, if Err is not nil.
func (t *Tracker) Retry() time.Time { return t.retry }

// LookAfter returns how soon Update is worth another call, if recorders publish all the time and
// nobody waits for what they do. 0: it is now.
func (t *Tracker) LookAfter() time.Duration {
	if t.err != nil {
		return lookMost // at Retry
	}
	if t.st.MirrorGeneration.Load() != t.st.Generation.Load() { // which is no matter of amounts
		return 0
	}
	return max(t.rhythm.at.Add(t.rhythm.every).Sub(t.now()), 0)
}

// Current reports whether the mirror is the database as of the last published
// transaction it was brought to, so that a cut may be made of it (spool I3, I4).
func (t *Tracker) Current() bool {
	return t.err == nil && t.st.MirrorGeneration.Load() == t.st.Generation.Load()
}

// CaughtUp reports whether everything that is published is known to be in the mirror.
func (t *Tracker) CaughtUp() bool {
	return t.st.MirrorGeneration.Load() == t.st.Generation.Load() && t.st.Head() == t.st.Tail() &&
		!t.wal.behind() && t.st.Sequence.Load() == t.st.MirrorSequence.Load()
}

// Point returns what the mirror includes: the generation that it is of, and the sequence of the
// last transaction.
func (t *Tracker) Point() (generation, sequence uint64) {
	return t.st.MirrorGeneration.Load(), t.st.MirrorSequence.Load()
}

// Update brings the mirror up to the published head, by the log or by a base copy, and reports
// whether that was any work. Err says what is in the way. After a failure it does nothing until
// Retry, unless it is asked to.
func (t *Tracker) Update(ctx context.Context, asked bool) (progress bool) {
	switch {
	case t.err == nil && t.CaughtUp():
		t.rhythm.end(t.now())
		return false
	case t.err != nil && !asked && t.now().Before(t.retry):
		return false
	}
	err := t.Recheck()
	if err == nil {
		err = t.bringUp(ctx)
	}
	if err != nil {
		t.stop(ctx, err)
		return true
	}
	if t.told {
		t.o.Log.Warn("mirror is up to date again")
	}
	t.rhythm.end(t.now())
	t.backoff.Reset()
	t.told = false
	return true
}

// Fail notes that a version could not be made of the mirror: it is brought up again.
func (t *Tracker) Fail(err error) { t.stop(context.Background(), err) }

// stop notes why the mirror could not be brought up.
func (t *Tracker) stop(ctx context.Context, err error) {
	switch {
	case t.died != nil:
		t.phase = Ended
	case errors.Is(err, errYield) || ctx.Err() != nil:
		t.phase, t.err, t.retry = Interrupted, err, t.now()
		return
	case errors.Is(err, errAgain): // all in a day's work
		t.o.Log.Info("mirror is not up to date yet", "reason", err)
		t.phase = Chasing
	default:
		if t.err == nil || t.err.Error() != err.Error() {
			t.o.Log.Log(ctx, t.o.Trouble, "mirror is not up to date: nothing is sent until it is",
				"error", err)
			t.told = t.o.Trouble >= slog.LevelWarn
		}
		t.phase = Failed
	}
	t.err = err
	t.failures++
	t.retry = t.now().Add(t.backoff.Next())
}

// follow notes that nothing is in the way.
func (t *Tracker) follow() { t.phase, t.err = Following, nil }

// bringUp applies what is published, or makes a base copy if that does not bring the mirror up.
func (t *Tracker) bringUp(ctx context.Context) error {
	if dead, err := t.deadWriter(); err != nil {
		return err
	} else if dead == hotLeft {
		return ErrHot
	}
	if t.st.MirrorGeneration.Load() == t.st.Generation.Load() {
		sequence, salts := t.st.Sequence.Load(), t.st.WALSalts.Load() // in this order, before head
		err := t.log.apply(ctx, t.st.Head())
		if err == nil {
			t.follow()
			return t.wal.bringUp(sequence, salts)
		}
		if !errors.Is(err, chunkstore.ErrCorrupt) {
			return err
		}
		// Nothing is lost: the database has it. Whoever waits need not hear of it.
		t.o.Log.Warn("changelog is damaged: the mirror is compared with the database", "error", err)
	}
	if err := baseCopy(ctx, t, t.stable()); err != nil {
		return err
	}
	t.follow()
	return nil
}

// Apply applies the log, so that it is freed, while a long cut is made of the mirror.
func (t *Tracker) Apply(ctx context.Context) error {
	if err := t.log.apply(ctx, t.st.Head()); err != nil {
		return err
	}
	if !t.Current() {
		return fmt.Errorf("%w: %v", errAgain, t.st.Cause())
	}
	return nil
}

// Recheck gives the mirror up if somebody else has changed its files: before it is used.
func (t *Tracker) Recheck() error {
	if t.mirror.AsLeft() {
		return nil
	}
	t.o.Log.Warn("another program has changed the mirror: it will be compared with the database")
	return t.giveUp()
}

// Distrust has the mirror compared with the database: somebody has read what was not written.
func (t *Tracker) Distrust() { t.st.MirrorGeneration.Store(spool.NoMirror) }

// giveUp has the mirror compared with the database, and all of it with the last cut.
func (t *Tracker) giveUp() error {
	t.Distrust()
	t.distrusted = true
	return t.mirror.MarkAll() // what dirty says is about another one
}

// Rest closes the files that are only needed to work, and reports whether it did: not while the
// mirror is behind or a view is open. Nothing but Resume and Close may be called then.
func (t *Tracker) Rest() bool {
	if t.err != nil || !t.mirror.Rest() {
		return false
	}
	t.wal.rest()
	t.phase = Resting
	return true
}

// Resume opens them again. After an error the tracker is of no use.
func (t *Tracker) Resume() error {
	if err := t.mirror.Resume(); err != nil {
		t.Distrust()
		return err
	}
	t.phase = Following
	return t.wal.resume()
}
