package replicate

import (
	"errors"
	"time"

	"verneuil/spool"
)

// proveEvery is how often a spool is proved to be there, and its lock to be ours, while its
// replicator sleeps: some system calls for each.
const proveEvery = 10 * time.Second

// refreshEvery is how often the times of a spool's files are made new. Cleaners of /tmp take what
// is a day old, or ten.
const refreshEvery = 6 * time.Hour

// errLost says why nothing is published any more.
var errLost = errors.New("the spool, or the database, was deleted or replaced")

// tenure is a spool whose lock we hold, for as long as it lasts.
type tenure struct {
	sp   *spool.Spool
	lock *spool.Lock

	kept, refreshed time.Time // when due and stale were last true
	report          reporter
}

// prove fails if the spool is not there any more, or not ours: then nothing must be published,
// here or in a target. Any goroutine may ask.
func (t *tenure) prove() error {
	if !t.sp.Current() {
		return errLost
	}
	return t.lock.Held()
}

// end returns how the tenure has ended: goesOn if it has not.
func (t *tenure) end() (ending, error) {
	if !t.sp.Current() {
		return spoolLost, errLost
	}
	switch err := t.lock.Held(); {
	case err == nil:
		return goesOn, nil
	case errors.Is(err, spool.ErrTaken):
		return lockTaken, err
	default:
		return failed, err
	}
}

// complete reports whether the spool has what others may have removed from it, and is ours. Any
// goroutine may ask.
func (t *tenure) complete(wake *spool.Wake) bool {
	return t.prove() == nil && (wake == nil || wake.Current()) && t.sp.Complete()
}

// due reports whether the spool was not looked at lately.
func (t *tenure) due(now time.Time) bool {
	if now.Sub(t.kept) < proveEvery && !now.Before(t.kept) {
		return false
	}
	t.kept = now
	return true
}

// stale reports whether the times of the spool's files are to be made new.
func (t *tenure) stale(now time.Time) bool {
	if now.Sub(t.refreshed) < refreshEvery && !now.Before(t.refreshed) {
		return false
	}
	t.refreshed = now
	return true
}
