package replicate

import (
	"context"
	"errors"
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
		r.mu.Lock()
		s, sp, changed, standing, stopped := r.session, r.spool, r.changed, r.standing, r.stopped
		r.mu.Unlock()
		switch {
		case s != nil:
			if err := s.do(ctx, s.verify); !errors.Is(err, errMoved) {
				return wrap(err, "verify")
			}
		case stopped:
			return fmt.Errorf("verify: %w", ErrStopped)
		case standing && elsewhere(sp):
			return fmt.Errorf("verify: %w", ErrStandby)
		}
		r.hurry(sp)
		select {
		case <-ctx.Done():
			return fmt.Errorf("verify: %w", ctx.Err())
		case <-changed:
		case <-time.After(ticketPoll):
		}
	}
}

// do runs f in the session's goroutine. It fails with errMoved if the session ends.
func (s *session) do(ctx context.Context, f func(context.Context) error) error {
	done := make(chan error, 1)
	if err := s.errands.Ask(ctx, func() { done <- errands.Guarded(func() error { return f(ctx) })() }); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-s.errands.Ended():
		return errMoved
	case <-ctx.Done():
		return ctx.Err()
	}
}

// verify compares the mirror with the database. It fails with errMoved if the spool is another one.
func (s *session) verify(ctx context.Context) error {
	verdict, err := s.tracker.Compare(ctx)
	if verdict == mirror.Replaced {
		return errMoved
	}
	return err
}
