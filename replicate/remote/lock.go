package remote

import (
	"context"
	"fmt"
	"time"

	"verneuil/replicate/remote/machine"
)

const (
	// politeTime is for how long a process of this machine goes on writing while another one waits.
	politeTime = 50 * time.Millisecond
	// lockPause is how often who waits for the machine's lock looks whether it is free.
	lockPause = time.Millisecond
	// stuckTime is after how long the holder of the machine's lock is watched: one that lives gives
	// it on in less, as a rule, and to watch it takes requests.
	stuckTime = time.Second
	// keepTime is for how long the lock is kept after a record, for a handle that writes again.
	keepTime = 5 * time.Millisecond
	// shyTime is for how long it is not, after another process of this machine was seen to write.
	shyTime = time.Second
)

// lock is the machine's lock, as this process takes it. It is guarded by database.mu.
type lock struct {
	since   time.Duration // when it was taken; 0: this process has it not
	used    time.Duration // when it was last held
	first   time.Duration // since when it is taken again and again
	left    uint64        // the state that the file had when it was given back
	blocked time.Duration // when it was first found taken since; 0: it was not
	stuck   time.Duration // when it was last found taken, likewise
	others  time.Duration // when another process was last seen to write, or to wait; 0: never
	kept    time.Duration // since when it is kept for a handle that writes again
	end     *time.Timer   // ends that
}

func (k *lock) held() bool { return k.since != 0 }

// again reports whether it was given back a moment ago, and nobody has written since.
func (k *lock) again(now time.Duration, page *machine.Page) bool {
	return now-k.used < politeTime && page.Stored() == k.left
}

// leaves reports whether this process leaves it to another one, which waits for it, until that has
// written: it has written itself for long enough.
func (k *lock) leaves(now time.Duration, page *machine.Page) bool {
	return k.again(now, page) && now-k.first >= politeTime && wanted(page, now)
}

// wanted reports whether a process waits for the lock.
func wanted(page *machine.Page, now time.Duration) bool {
	at := page.Wanted()
	return at > 0 && now-at < politeTime
}

// lock has this process hold the machine's lock, until rest. The caller is d.users.writer. It waits
// for a lock that another process only keeps: that one has no transaction open.
func (l *lease) lock(ctx context.Context) error {
	for {
		err := l.keeper.lock.take(l)
		kept := l.file.Page().Kept()
		if err == nil || kept == 0 || l.d.now()-kept >= politeTime || !rest(ctx, lockPause) {
			return err
		}
	}
}

func (k *lock) take(l *lease) error {
	d := l.d
	page, now := l.file.Page(), d.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if k.held() {
		return nil
	}
	if k.leaves(now, page) {
		return fmt.Errorf("%w: another process of this machine goes first", ErrBusy)
	}
	locked, err := l.tryLock()
	if err != nil {
		return err
	} else if locked {
		if k.since = max(now, 1); !k.again(now, page) {
			k.first = k.since
		}
		if k.used > 0 && page.Stored() != k.left {
			k.others = k.since
		}
		k.blocked, k.stuck = 0, 0
		return nil
	}
	k.others = max(now, 1)
	if k.blocked == 0 || now-k.stuck > 2*d.set.o.LeaseTimeout {
		k.blocked = now
	}
	if k.stuck = now; now-k.blocked >= stuckTime {
		l.watch.ask(d)
	}
	page.Want(now)
	return fmt.Errorf("%w: another process of this machine", ErrBusy)
}

// tryLock takes the machine's lock, if it is free, or if who has it shows no sign of life, which is
// a process that was stopped, or one that has left the lock to a forked child. Then the others get
// another lock, and the log decides between the two. It is called with the pen, and mu.
func (l *lease) tryLock() (locked bool, err error) {
	locked, err = l.file.TryLock()
	if b := l.d.set.broken; b.keepsLocks || b.needsNoLock {
		return locked || b.needsNoLock, err
	}
	if locked || err != nil || !l.watch.dead(l.d.story.w.At()) {
		return locked, err
	}
	l.d.log.Warn("giving up a lock whose holder shows no sign of life", "file", l.file.Name(),
		"timeout", l.d.set.o.LeaseTimeout)
	if err := l.file.Break(); err != nil {
		return false, err
	}
	return l.file.TryLock()
}

// awaitLock waits until the machine's lock may be taken, for as long as SQLite's busy handler would
// sleep, and miss that.
func (d *database) awaitLock(ctx context.Context) {
	file, k := d.lease.file, &d.lease.keeper.lock
	for end := d.now() + sleepTime; ; {
		now := d.now()
		d.mu.Lock()
		leaves := k.leaves(now, file.Page())
		free := k.held() || !leaves && file.Free()
		d.mu.Unlock()
		if free || now >= end {
			return
		}
		if !leaves {
			file.Page().Want(now)
		}
		if !rest(ctx, lockPause) {
			return
		}
	}
}

// polite reports whether this process has had the machine's lock for long enough, as another one
// waits for it. It is called with mu.
func (l *lease) polite() bool {
	now, k := l.d.now(), &l.keeper.lock
	return k.held() && now-k.since > politeTime && wanted(l.file.Page(), now)
}

// rest gives the machine's lock back if nothing needs it. It is called with mu.
func (l *lease) rest() {
	d, k := l.d, &l.keeper.lock
	if !k.held() || k.keeps(d) || d.writing() {
		return
	}
	page := l.file.Page()
	k.since, k.used, k.left = 0, d.now(), page.Stored()
	page.Keep(0)
	l.file.Unlock()
}

// restSoon is rest after a record. It keeps the lock for a moment, for the handle that has written
// that: if it writes again, it does so without a call (doc.go). It is called with mu.
func (k *lock) restSoon(l *lease) {
	k.kept = l.d.now()
	k.used = k.kept
	if l.rest(); !k.held() {
		return
	}
	l.file.Page().Keep(k.kept + keepTime)
	if k.end == nil {
		k.end = time.AfterFunc(keepTime, func() {
			l.d.mu.Lock()
			defer l.d.mu.Unlock()
			l.rest()
		})
	} else {
		k.end.Reset(keepTime)
	}
}

// keeps reports whether the lock is kept for a handle whose grip is loose: for a moment, and while
// nobody else wants to write, in this process, on this machine, or elsewhere. It is called with mu.
func (k *lock) keeps(d *database) bool {
	u, l, now := &d.users, &d.lease, d.now()
	if u.writer == nil || u.writer.grip.Load() != gripLoose || now-k.kept >= keepTime {
		return false
	}
	if wanted(l.file.Page(), now) {
		k.others = now
	}
	at := d.story.seen.Load()
	return (k.others == 0 || now-k.others >= shyTime) && at != nil && at.holder &&
		d.queue.failed == nil && u.leaving == nil && !l.keeper.wanted && !l.keeper.rival
}
