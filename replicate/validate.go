package replicate

import (
	"context"
	"fmt"
	"time"

	"verneuil/replicate/errands"
	"verneuil/replicate/mirror"
)

// Verify brings the mirror up to date and compares it with the database, byte for
// byte; one in WAL mode with the database as checkpointed. The caller holds SQLite's
// write lock: of that of a rollback mode, or of the WAL, in which others may
// checkpoint meanwhile. It fails with ErrStandby if another live process replicates; a
// dead one's place is taken. It fails with ErrUnsettled if the mirror cannot be brought up to
// date while the caller holds the lock.
func (r *Replicator) Verify(ctx context.Context) error {
	r.verifying.Add(1)
	defer r.verifying.Add(-1)
	for {
		now := r.look()
		switch {
		case now.loop != nil:
			if moved, err := now.loop.verify(ctx); !moved {
				return wrap(err, "verify")
			}
		case now.stands == over:
			return fmt.Errorf("verify: %w", ErrStopped)
		case r.standsBy(now):
			return fmt.Errorf("verify: %w", ErrStandby)
		}
		r.hurry(now.spool)
		select {
		case <-ctx.Done():
			return fmt.Errorf("verify: %w", ctx.Err())
		case <-now.changed:
		case <-time.After(ticketPoll):
		}
	}
}

// verify compares the mirror with the database. moved says that the spool is another one, or the
// loop has ended.
func (l *loop) verify(ctx context.Context) (moved bool, err error) {
	type answer struct {
		verdict mirror.Verdict
		err     error
	}
	done := make(chan answer, 1)
	compare := func() {
		var a answer
		a.err = errands.Guarded(func() (err error) {
			a.verdict, err = l.tracker.Compare(ctx)
			return err
		})()
		done <- a
	}
	if asked, err := l.errands.Ask(ctx, compare); !asked {
		return err == nil, err
	}
	select {
	case a := <-done:
		return a.verdict == mirror.Replaced, a.err
	case <-l.errands.Ended():
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}
