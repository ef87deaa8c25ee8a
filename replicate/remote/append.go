package remote

import (
	"context"
	"fmt"
	"time"

	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/bell"
	"verneuil/replicate/remote/compose"
)

// appending is a record of what is queued, on its way into the log. It is used with the pen.
type appending struct {
	q       *queue
	batch   []*entry
	step    *manifest.Step
	packs   []compose.Put // that it names
	bytes   int
	release bool // it gives the history back
	wanted  bool // to another machine

	settling settling
	rung     time.Time     // when others were told that it is about to be there
	took     time.Duration // for the store to answer
	tried    bool          // the store was asked, and has answered err
	err      error         // so far
}

// appendAll appends what is queued, until there is nothing.
func (q *queue) appendAll(ctx context.Context) {
	for !q.over() {
		q.appendSome(ctx)
	}
}

// over reports whether nothing is queued any more: then nobody appends.
func (q *queue) over() bool {
	d := q.d
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(q.entries) > 0 {
		return false
	}
	q.flush.running = false
	d.lease.keeper.lock.restSoon(&d.lease)
	return true
}

// appendSome appends one record of what is queued, or fails all of it.
func (q *queue) appendSome(ctx context.Context) {
	d := q.d
	q.gather(ctx)
	if err := d.take(ctx); err != nil {
		q.fail(err)
		return
	}
	defer d.give()
	if a := q.prepare(); a != nil {
		a.try(ctx)
		a.finish(ctx)
	}
}

// lead appends one record of what is queued, by the caller, who waits for it: to wake another
// goroutine may take another thread, and that as long as a store that is near. What is queued
// meanwhile is appended in the background, and so is the record if the pen is not free, or the
// store does not say at once that it has it: what ctx ends is not the append. The caller has called
// begin.
func (q *queue) lead(ctx context.Context) {
	d := q.d
	if !d.set.join() {
		return // as if the process died
	}
	defer d.set.working.Done()
	q.gather(ctx)
	select {
	case <-d.pen:
	default:
		d.set.run("append to a log", d, q.appendAll)
		return
	}
	if a := q.prepare(); a != nil {
		if a.try(ctx); a.err == nil {
			a.finish(ctx)
		} else if d.set.run("append to a log", d, func(ctx context.Context) {
			a.finish(ctx)
			d.give()
			q.appendAll(ctx)
		}) {
			return
		}
	}
	d.give()
	if !q.over() {
		d.set.run("append to a log", d, q.appendAll)
	}
}

// prepare makes the next record; nil: it cannot, and all that is queued has failed.
func (q *queue) prepare() *appending {
	d := q.d
	s := &d.story
	switch {
	case s.w == nil && s.lost.m != nil:
		q.fail(fmt.Errorf("%w: it has lost record %d, or what stands before it", ErrRolledBack,
			s.lost.at.Number))
		return nil
	case s.w == nil || s.w.State() != history.Owning:
		q.fail(fmt.Errorf("%w: %s", ErrLost, s.taker()))
		return nil
	}
	batch, packs, step, body, err := q.join()
	if err != nil {
		q.fail(err)
		return nil
	}
	a := &appending{q: q, batch: batch, packs: packs, step: step, bytes: len(body)}
	d.mu.Lock()
	k := &d.lease.keeper
	a.wanted = k.wanted
	a.release = (k.wanted || k.rival) && len(batch) == len(q.entries) &&
		d.users.leaving == nil && d.users.free()
	if a.release {
		d.users.shut()
	}
	d.mu.Unlock()
	a.err = s.w.Prepare(body, a.release)
	return a
}

// try asks the store once, until ctx ends.
func (a *appending) try(ctx context.Context) {
	if a.err != nil {
		return
	}
	s := &a.q.d.story
	a.settling = s.beginSettling(a.release)
	ctx, cancel := context.WithDeadline(ctx, a.settling.until)
	defer cancel()
	defer context.AfterFunc(s.d.set.ctx, cancel)()
	a.rung = time.Now()
	s.d.lease.news.Ring(bell.Record)
	a.err = s.w.Settle(ctx)
	a.took, a.tried = time.Since(a.rung), true
}

// finish asks again, if need be, and tells all whom it concerns how it has ended.
func (a *appending) finish(ctx context.Context) {
	q, d := a.q, a.q.d
	if a.tried {
		until, cancel := context.WithDeadline(ctx, a.settling.until)
		a.err = d.story.endSettling(until, a.settling, a.err)
		cancel()
	}
	if len(a.packs) > 0 { // the record may be there
		d.mu.Lock()
		d.lease.keeper.traced.named.add(a.packs...)
		d.mu.Unlock()
	}
	err := a.err
	if err == nil {
		if time.Since(a.rung) > bell.Early {
			d.lease.news.Ring(bell.Record)
		}
		err = q.appended(a.batch, a.step, a.bytes, a.took)
		if a.release {
			d.lease.gone(a.wanted)
		}
	} else if err = q.explain(ctx, a.batch, err); err == nil {
		q.publish(a.batch, 0)
		answer(a.batch)
	}
	if err != nil {
		q.fail(err)
	}
	if a.release {
		d.users.open()
	}
}
