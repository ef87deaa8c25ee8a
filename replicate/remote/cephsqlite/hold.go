package cephsqlite

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"verneuil/cgo/librados"
)

const (
	lockName        = "striper.lock"
	lockDescription = "verneuilctl import"
	// lockLease is libcephsqlite's; within it a lock ends that nobody renews.
	lockLease    = 30 * time.Second
	lockRenewal  = 2 * time.Second
	lockPoll     = 500 * time.Millisecond
	lockPatience = 40 * time.Second
)

// hold is the lock of a database, as long as ctx has not ended.
type hold struct {
	place  *librados.IO
	object string
	cookie string
	ctx    context.Context // ends, with the reason, when the lock is lost
	lose   context.CancelCauseFunc
	keeper sync.WaitGroup
}

// take takes the lock, which it keeps until release.
func take(ctx context.Context, place *librados.IO, n Name, o Options) (*hold, error) {
	h := &hold{place: place, object: object(n.File, 0), cookie: rand.Text()}
	patience := time.NewTimer(cmp.Or(o.Patience, lockPatience))
	defer patience.Stop()
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		err := place.Lock(ctx, h.object, lockName, h.cookie, lockDescription, lockLease,
			librados.Take)
		if err == nil {
			break
		} else if !errors.Is(err, syscall.EBUSY) {
			return nil, fmt.Errorf("lock it: %w", err)
		}
		select {
		case <-tick.C:
		case <-patience.C:
			return nil, h.busy(ctx, err)
		case <-ctx.Done():
			return nil, h.busy(context.WithoutCancel(ctx), context.Cause(ctx))
		}
	}
	h.ctx, h.lose = context.WithCancelCause(ctx)
	h.keeper.Go(h.keep)
	return h, nil
}

// busy says who has the lock, which err says that we cannot have.
func (h *hold) busy(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(ctx, lockRenewal)
	defer cancel()
	list, _, _, _ := h.place.Lockers(ctx, h.object, lockName) // else it is not known
	if len(list) == 0 {
		return fmt.Errorf("somebody has its lock: %w", err)
	}
	l, place := list[0], ""
	if _, pool := h.place.Pool(); pool != "" {
		place = fmt.Sprintf(" --pool %s --namespace '%s'", pool, h.place.Namespace())
	}
	return fmt.Errorf("%s at %s has its lock: end that program, or, if it is dead, "+
		"rados%s lock break %s %s %s --lock-cookie %s: %w",
		l.Client, l.Address, place, h.object, lockName, l.Client, l.Cookie, err)
}

// confirm fails if we have not had the lock all the time.
func (h *hold) confirm(ctx context.Context) error {
	err := h.place.Lock(ctx, h.object, lockName, h.cookie, lockDescription, lockLease,
		librados.MustRenew)
	if err != nil {
		return fmt.Errorf("its lock was lost: %w", err)
	}
	return nil
}

func (h *hold) keep() {
	tick := time.NewTicker(lockRenewal)
	defer tick.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-tick.C:
		}
		if err := h.confirm(h.ctx); err != nil {
			h.lose(err)
			return
		}
	}
}

// release gives the lock back. It is no error if we have it no more.
func (h *hold) release() error {
	h.lose(context.Canceled)
	h.keeper.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.ctx), lockLease)
	defer cancel()
	err := h.place.Unlock(ctx, h.object, lockName, h.cookie)
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return err
}
