package remote

import (
	"context"
	"fmt"
	"time"

	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/bell"
)

// watch looks for signs of life of the owner, for who waits. It is guarded by database.mu.
type watch struct {
	running bool
	asked   time.Duration // when somebody last wanted to write
	at      history.Position
	etag    string        // of the heartbeat
	beat    *beat         // nil: none was seen
	since   time.Duration // when at or the heartbeat were last seen to be others than before
	looked  time.Duration // when a look began that saw no change for the lease's timeout
	wants   uint64        // the epoch that was asked for
	seen    time.Duration // when the last look began that was answered
	ended   chan struct{} // is closed when the next look has ended; nil: nobody waits for that
}

// dead reports whether the owner of the history at that position shows no sign of life.
func (w *watch) dead(at history.Position) bool {
	return w.running && w.looked > 0 && w.is(at)
}

// is reports whether the end of the history was at that position when w last looked.
func (w *watch) is(at history.Position) bool {
	return w.since > 0 && w.at.Is(at)
}

// busy says who holds the lease.
func (w *watch) busy(owner *manifest.Owner) error {
	if owner == nil && w.beat != nil {
		o := w.beat.owner()
		owner = &o
	}
	if owner == nil {
		return fmt.Errorf("%w: another machine", ErrBusy)
	}
	return fmt.Errorf("%w: %s", ErrBusy, owner)
}

// ask has the owner watched. It is called with mu.
func (w *watch) ask(d *database) {
	w.asked = d.now()
	if !w.running {
		*w = watch{running: true, asked: w.asked, ended: w.ended}
		d.set.run("watch a lease", d, d.lease.watchOwner)
	}
}

// await waits, while the owner is watched, until a look has ended that began after the call, and
// reports whether one was answered: then the story is the newest, and nobody need ask again.
func (l *lease) await(ctx context.Context) (looked bool) {
	d := l.d
	began := d.now()
	timer := time.NewTimer(3 * d.set.o.look)
	defer timer.Stop()
	for {
		d.mu.Lock()
		w := &l.watch
		if looked = w.seen > began; looked || !w.running {
			d.mu.Unlock()
			return looked
		}
		if w.ended == nil {
			w.ended = make(chan struct{})
		}
		ended := w.ended
		d.mu.Unlock()
		select {
		case <-ended:
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// watchOwner watches the owner for as long as somebody wants to write.
func (l *lease) watchOwner(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	free := l.news.Hear(ctx, bell.Free)
	for l.lookAt(ctx) && restUntil(ctx, l.d.set.o.look, free) {
	}
}

// lookAt looks for the owner's signs of life, and reports whether to go on.
func (l *lease) lookAt(ctx context.Context) (again bool) {
	d := l.d
	ctx, cancel := context.WithTimeout(ctx, d.set.o.Deadline)
	defer cancel()
	began := d.now()
	d.mu.Lock()
	etag := l.watch.etag
	d.mu.Unlock()
	at, owned, err := l.readOn(ctx)
	found, etag, changed, beatErr := l.beats.get(ctx, l.beats.lease, etag)
	if err == nil && !d.set.broken.hearsNothing {
		err = beatErr
	}
	if err != nil {
		d.log.Info("waiting for the lease", "error", err)
	}
	now := d.now()
	d.mu.Lock()
	w := &l.watch
	if w.etag = etag; changed && found.Epoch == at.Epoch {
		w.beat = &found
	}
	timeout := d.set.o.LeaseTimeout
	if err == nil && !w.is(at) {
		w.at, changed = at, true
	}
	switch {
	case changed:
		w.since, w.looked = now, 0
	case err == nil && began-w.since >= timeout:
		w.looked = began
	}
	stuck := l.keeper.lock.stuck > 0 && now-l.keeper.lock.stuck <= 2*timeout
	if err == nil && !owned && !stuck || now-w.asked > 2*timeout {
		w.running = false
	}
	if err == nil {
		w.seen = began
	}
	if w.ended != nil {
		close(w.ended)
		w.ended = nil
	}
	again = w.running
	want := again && err == nil && w.wants != at.Epoch
	if want {
		w.wants = at.Epoch
	}
	d.mu.Unlock()
	if want {
		b := beatOf(d.owner(), at.Epoch, uint64(now))
		if err := l.beats.put(ctx, l.beats.want, b); err != nil {
			d.log.Info("the lease could not be asked for", "error", err)
		}
		l.wants.Ring(bell.Want)
	}
	return again
}

// readOn reads to the end of the history, and says whether another one owns it.
func (l *lease) readOn(ctx context.Context) (at history.Position, owned bool, err error) {
	d := l.d
	if err := d.take(ctx); err != nil {
		return history.Position{}, false, err
	}
	defer d.give()
	s := &d.story
	if err := s.newest(ctx); err != nil {
		return history.Position{}, false, err
	}
	at = s.w.At()
	return at, s.w.State() == history.Following && !at.Released, nil
}
