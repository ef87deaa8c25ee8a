package remote

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/bell"
	"verneuil/replicate/remote/machine"
	"verneuil/replicate/versions"
)

const (
	// lookInterval is how often the holder looks for a want, and who waits for a holder's signs.
	lookInterval = 250 * time.Millisecond
	// yieldTime is for how long who has given the lease to another machine lets that one go first.
	yieldTime = 3 * lookInterval
)

// beats are the two small objects beside a history by which machines are polite: the holder's
// heartbeat, and what a waiting one wants. Nothing depends on them but progress.
type beats struct {
	bucket      chunkstore.Bucket
	sealer      chunkstore.Sealer
	lease, want string // their keys
}

// beatsOf returns those of the database whose manifest has that key in t.
func beatsOf(t *chunkstore.Target, key string) beats {
	return beats{t.Chunks, t.Sealer, versions.LeaseKey(key), versions.WantKey(key)}
}

// beat is what either holds.
type beat struct {
	Epoch   uint64    `json:"epoch"` // of the holder
	Host    string    `json:"host"`  // of who has put it
	Program string    `json:"program"`
	PID     int       `json:"pid"`
	Since   time.Time `json:"since"`
	Count   uint64    `json:"count"` // no two are the same
}

const beatBytesMax = 4096

func beatOf(o manifest.Owner, epoch, count uint64) beat {
	return beat{epoch, o.Host, o.Program, o.PID, o.Since, count}
}

func (b beat) owner() manifest.Owner {
	return manifest.Owner{Host: b.Host, Program: b.Program, PID: b.PID, Since: b.Since}
}

func (s beats) put(ctx context.Context, key string, b beat) error {
	body, err := json.Marshal(b)
	if err != nil {
		return err
	}
	stored := chunkstore.SealBody(s.sealer, key, body)
	_, err = s.bucket.Put(ctx, key, stored, chunkstore.Condition{})
	return err
}

// get returns what is there, unless that has the given ETag. ok is false if there is nothing new.
// After an error nothing is known.
func (s beats) get(
	ctx context.Context, key, etag string,
) (b beat, newest string, ok bool, err error) {
	o, err := s.bucket.Get(ctx, key,
		chunkstore.GetOptions{IfNoneMatch: etag, BytesMax: beatBytesMax})
	switch {
	case errors.Is(err, chunkstore.ErrUnmodified), errors.Is(err, chunkstore.ErrAbsent):
		return beat{}, etag, false, nil
	case err != nil:
		return beat{}, etag, false, err
	}
	body, err := chunkstore.OpenBody(s.sealer, key, o.Body)
	if err != nil || json.Unmarshal(body, &b) != nil {
		b = beat{}
	}
	return b, o.ETag, true, nil
}

// lease is the right to write. It is guarded by database.mu; file, beats and bells do not change.
type lease struct {
	d      *database
	file   *machine.File
	beats  beats
	news   *bell.Bell // of records, and that the lease is free
	wants  *bell.Bell // of who wants it
	keeper keeper
	watch  watch
}

// hold has this process hold the machine's lock, and the lease. The caller is d.users.writer.
func (l *lease) hold(ctx context.Context) error {
	d := l.d
	if err := d.take(ctx); err != nil {
		return err
	}
	defer d.give()
	if err := d.story.open(ctx); err != nil {
		return err
	}
	if err := l.lock(ctx); err != nil {
		return err
	}
	if err := l.own(ctx); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !l.keeper.running {
		l.keeper.running = true
		d.set.run("keep a lease", d, l.keep)
	}
	return nil
}

// own sees to it that s's writer owns the history, and that what was read is its end. The machine's
// lock is held.
func (l *lease) own(ctx context.Context) error {
	d := l.d
	s := &d.story
	n := s.noted()
	ours := s.w.Name() // the machine's writer, whose lock this process has
	if n == nil && s.estranged() {
		s.fall()
	}
	_, left := l.file.Left() // before a state is stored
	if n != nil && !n.is(s.w) {
		if !d.set.broken.waitsForItself {
			ours = n.Name
		}
		ok, err := s.resume(ctx, n)
		if err != nil {
			return err
		} else if !ok {
			s.fall()
		} else {
			d.mu.Lock()
			l.keeper.traced.named.inherit(s.m)
			d.mu.Unlock()
		}
	}
	if s.w.State() == history.Owning {
		if d.current(s.w.At()) {
			return nil
		}
		if end, err := ends(ctx, s); end || err != nil {
			if end && n == nil { // the file is new
				s.note()
			}
			return err
		}
		s.fall()
	}
	// A history that nobody owned when it was last read need not be read: the fence is refused if
	// it has gone on.
	if !s.w.At().Released {
		if err := s.read(ctx, 0); err != nil {
			return err
		}
	}
	// Who writes by the file that was left has the old name.
	if left && !d.set.broken.trustsNewFiles {
		s.w.Rename()
		ours = s.w.Name()
	}
	return l.claim(ctx, ours)
}

// fall notes that the history is not this machine's any more.
func (s *story) fall() {
	s.w.Abandon()
	s.last = nil
	s.note()
	s.show()
}

// claim takes the history over from where it was read to, if nobody owns it, or its owner is dead,
// or was ours.
func (l *lease) claim(ctx context.Context, ours [16]byte) error {
	d := l.d
	s := &d.story
	at := s.w.At()
	own := s.by == s.w.Name() || s.by == ours
	free := at.Released || at.Number == 0 || own
	d.mu.Lock()
	dead := l.watch.dead(at) || d.set.broken.takesAnyTime
	if free && l.keeper.yields(at, d.now()) {
		d.mu.Unlock()
		return fmt.Errorf("%w: another machine, which waits, goes first", ErrBusy)
	}
	if !free && !dead {
		err := l.watch.busy(s.owner)
		l.watch.ask(d)
		d.mu.Unlock()
		return err
	}
	d.mu.Unlock()
	if err := d.shop.prove(ctx); err != nil {
		return denied(err)
	}
	if !free {
		d.log.Warn("taking over from an owner that shows no sign of life", "epoch", at.Epoch,
			"owner", s.owner, "timeout", d.set.o.LeaseTimeout)
	}
	owner := d.owner()
	body, err := owner.Encode()
	if err != nil {
		return err
	}
	wait := l.traceBeside(ctx) // records that this one would stand on may be gone
	s.w.Claim(body)
	err = settleFence(ctx, s)
	lost := wait()
	gone := cmp.Or(lost, err)
	switch {
	case errors.Is(gone, history.ErrLost):
		if reachable(ctx, s) {
			return restart(ctx, s)
		}
		return l.lose(gone)
	case errors.Is(lost, history.ErrBehind) && err == nil && !d.set.broken.ownsBehind:
		s.fall()
		s.w = nil // that record is in no history any more
		return errAnother
	case errors.Is(err, history.ErrBehind):
		if err := s.read(ctx, 0); err != nil {
			return err
		}
		if s.w.At().Is(at) {
			return l.anew(ctx)
		}
		return errFaster
	case err != nil:
		return denied(err)
	}
	s.owner = &owner
	s.moved(s.m)
	d.mu.Lock()
	defer d.mu.Unlock()
	k := &l.keeper
	k.traced.named.inherit(s.m)
	k.rival = !own && k.owned > 0 && d.now()-k.owned < d.set.o.LeaseLinger
	return nil
}

// denied is err, and says what it takes to write if the store refuses that.
func denied(err error) error {
	if errors.Is(err, chunkstore.ErrDenied) {
		return fmt.Errorf("%w: %w", ErrDenied, err)
	}
	return err
}

// moved notes that m is the version with the record that was just appended.
func (s *story) moved(m *manifest.Manifest) {
	next := *m
	next.At = s.w.At()
	s.m = &next
	s.note()
	s.alive()
	if next.At.Released {
		s.d.lease.news.Ring(bell.Free)
	}
}

// keeper keeps the lease while it is of use, and gives it back. It is guarded by database.mu.
type keeper struct {
	running bool
	lock    lock
	wanted  bool          // by another machine: the next record gives the history back
	rival   bool          // another machine is about to want it: the same, and nobody asks
	passed  bool          // the history was last given back for that
	owned   time.Duration // when the history was last given back; 0: never
	yield   time.Duration // until then another machine goes first, where the history was
	at      uint64        // at this record
	etag    string        // of the want that was last seen
	count   uint64        // of heartbeats
	traced  traced
}

// yields reports whether another machine goes first.
func (k *keeper) yields(at history.Position, now time.Duration) bool {
	return at.Number == k.at && now < k.yield
}

// keep looks after the lease until it is given back, or lost.
func (l *lease) keep(ctx context.Context) {
	d := l.d
	o := &d.set.o
	pause := min(o.look, o.LeaseLinger, o.LeaseRenewal)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wanted := l.wants.Hear(ctx, bell.Want)
	for l.tend(ctx) && restUntil(ctx, pause, wanted) {
	}
}

// rest waits, and reports whether ctx goes on.
func rest(ctx context.Context, pause time.Duration) bool { return restUntil(ctx, pause, nil) }

// restUntil is rest that ends early if something is heard.
func restUntil(ctx context.Context, pause time.Duration, heard <-chan struct{}) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-heard:
		return true
	case <-ctx.Done():
		return false
	}
}

// tend does what is due for the lease, and reports whether it is to be called again.
func (l *lease) tend(ctx context.Context) (again bool) {
	d := l.d
	o := &d.set.o
	ctx, cancel := context.WithTimeout(ctx, o.Deadline)
	defer cancel()
	at := d.story.seen.Load()
	if at == nil || !at.holder {
		d.mu.Lock()
		early := l.keeper.traced.doubtful(at) && !l.keeper.traced.due(d)
		d.mu.Unlock()
		return early || l.retire(ctx, at)
	}
	k := &l.keeper
	d.mu.Lock()
	rival := k.rival
	d.mu.Unlock()
	wanted := !rival && l.wanted(ctx, at.m.At.Epoch)
	now := d.now()
	d.mu.Lock()
	k.wanted = k.wanted || wanted
	l.rest() // a handle may have let its turn pass
	busy := k.lock.held() || d.writing()
	due := !busy && (k.wanted || k.rival || now-k.lock.used >= o.LeaseLinger)
	look := k.traced.due(d)
	d.mu.Unlock()
	if due {
		return !l.release(ctx)
	}
	if look {
		l.trace(ctx)
	}
	if now-at.sign >= o.LeaseRenewal {
		l.renew(ctx, at)
	}
	return true
}

// retire ends the keeper, unless the lease is held again, after a last look for what it has
// appended, which stands at that sight.
func (l *lease) retire(ctx context.Context, at *sight) (again bool) {
	d := l.d
	d.mu.Lock()
	look := l.keeper.traced.doubtful(at)
	d.mu.Unlock()
	if look {
		l.trace(ctx)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if at := d.story.seen.Load(); at != nil && at.holder || l.keeper.lock.held() {
		return true
	}
	l.keeper.running, l.keeper.wanted = false, false
	return false
}

// wanted reports whether another machine wants the lease of that epoch.
func (l *lease) wanted(ctx context.Context, epoch uint64) bool {
	d := l.d
	d.mu.Lock()
	etag := l.keeper.etag
	d.mu.Unlock()
	b, etag, ok, _ := l.beats.get(ctx, l.beats.want, etag) // else the next time
	d.mu.Lock()
	l.keeper.etag = etag
	d.mu.Unlock()
	return ok && b.Epoch == epoch
}

// renew shows a sign of life.
func (l *lease) renew(ctx context.Context, at *sight) {
	d := l.d
	began := d.now()
	d.mu.Lock()
	l.keeper.count++
	b := beatOf(d.owner(), at.m.At.Epoch, uint64(began)+l.keeper.count)
	d.mu.Unlock()
	if err := l.beats.put(ctx, l.beats.lease, b); err != nil {
		d.log.Info("the lease was not renewed", "error", err)
		return
	}
	if err := d.take(ctx); err != nil {
		return
	}
	defer d.give()
	// Only who has the machine's lock knows that nobody of the machine has gone on.
	d.mu.Lock()
	held := l.keeper.lock.held()
	d.mu.Unlock()
	s := &d.story
	if s.w == nil || s.w.State() != history.Owning || s.w.At().Epoch != b.Epoch {
		return
	}
	if !held {
		if locked, err := l.file.TryLock(); err != nil || !locked {
			return
		}
		defer l.file.Unlock()
		if n := s.noted(); n == nil || !n.is(s.w) {
			return
		}
	}
	// An answer that comes after the promise's end prolongs nothing: somebody who saw no sign until
	// then may have a fence under way, which only a record of ours would keep out.
	promised := l.file.Page().Alone(d.now())
	if s.sign = began; promised {
		s.alive()
	} else {
		s.show()
	}
}

// release gives the history back, unless somebody of this machine writes. It reports whether this
// process has it no more, or need not look after it.
func (l *lease) release(ctx context.Context) (done bool) {
	d := l.d
	d.mu.Lock()
	if d.writing() || d.users.leaving != nil {
		d.mu.Unlock()
		return false
	}
	d.users.shut()
	l.rest() // it may have been kept
	wanted := l.keeper.wanted
	d.mu.Unlock()
	err := l.giveBack(ctx, wanted)
	d.users.open()
	if err != nil {
		d.log.Info("the lease was not given back", "error", err)
	}
	return !l.retire(ctx, d.story.seen.Load())
}

// giveBack appends a record that gives the history back, for another machine if wanted.
func (l *lease) giveBack(ctx context.Context, wanted bool) error {
	d := l.d
	if err := d.take(ctx); err != nil {
		return err
	}
	defer d.give()
	s := &d.story
	locked, err := l.file.TryLock()
	if locked = locked && err == nil; locked {
		defer l.file.Unlock()
	}
	if s.w == nil || s.w.State() != history.Owning {
		return err
	}
	if !locked || s.goneOn() { // another process looks after the lease
		s.w.Abandon()
		s.show()
		return err
	}
	if err := s.w.Prepare(nil, true); err != nil {
		return err
	}
	if err := s.settle(ctx, true); err != nil {
		return err
	}
	l.gone(wanted)
	s.moved(s.m)
	return nil
}

// gone notes that the history was given back, for another machine if wanted.
func (l *lease) gone(wanted bool) {
	d := l.d
	d.mu.Lock()
	defer d.mu.Unlock()
	k := &l.keeper
	k.passed = k.rival
	k.wanted, k.rival, k.owned = false, false, d.now()
	if wanted {
		k.yield, k.at = d.now()+yieldTime, d.story.w.At().Number
	}
}

// leave is release at the end of the process, after what is not durable.
func (l *lease) leave(ctx context.Context) error {
	d := l.d
	if err := d.queue.drain(ctx); err != nil {
		return err
	}
	if at := d.story.seen.Load(); at == nil || !at.holder {
		return nil
	}
	d.mu.Lock()
	l.keeper.traced.named.heirs = nil  // who goes on looks for them
	if w := d.users.writer; w != nil { // its transaction ends with the process
		d.users.leave(w)
		l.rest()
	}
	d.mu.Unlock()
	l.release(ctx)
	l.news.Finish(ctx)
	return nil
}
