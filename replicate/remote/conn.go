package remote

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"verneuil/manifest"
	"verneuil/replicate/remote/compose"
	"verneuil/replicate/replica"
)

// Conn is one open handle on a database, at one version. It is used by one goroutine at a time.
type Conn struct {
	d    *database
	r    *replica.Reader
	mode Mode

	at  *entry   // what c reads, if it was committed by this process; nil: it came from the store
	cut [16]byte // of what c reads

	base *manifest.Manifest // what c's next commit is made on, while it has reserved, or may soon
	onto *entry             // that it stands on; nil: it is durable
	grip atomic.Uint32      // on the place of the writer
	held bool               // Unreserve is to be called
	// wanted is when c last could not reserve: it is about to try again, on the newest version.
	wanted time.Duration
	hints  hints

	// Of a commit that Wait has not ended: where c goes back to if it fails.
	mine   *entry
	before place
}

// place is what a handle reads.
type place struct {
	v   *replica.Version
	at  *entry
	cut [16]byte
}

// arrive notes what c reads, which came from the store.
func (c *Conn) arrive() {
	c.at, c.cut = nil, c.r.Manifest().Cut
}

// Words are addresses of what C reads, and Grip of what it writes, without a call. They stay valid
// until the connection closes.
type Words struct {
	Newest  unsafe.Pointer // atomic uint32: change counter of the newest known durable version
	Lease   unsafe.Pointer // [machine.Page]
	Checked unsafe.Pointer // atomic uint64: when, by CLOCK_BOOTTIME in ns, the last look began
	// that found the newest known version to be the newest
	// Tip is the last version that is not durable yet, an atomic uint64; 0: there is none. It is
	// the newest while the page promises that no other machine goes on, which is loaded before it.
	Tip  unsafe.Pointer
	Grip unsafe.Pointer // atomic uint32: on the place of the writer
}

// Words are those of c.
func (c *Conn) Words() Words {
	d := c.d
	return Words{
		Newest: c.r.Newest(), Lease: unsafe.Pointer(d.lease.file.Page()),
		Checked: unsafe.Pointer(&d.checked), Tip: unsafe.Pointer(&d.newest),
		Grip: unsafe.Pointer(&c.grip),
	}
}

// Place is where a connection is. What is not 0 saves a call: see the package.
type Place struct {
	Table unsafe.Pointer // of the version that is read; stays valid until the connection moves on
	// Number is what the page has while that version is the newest.
	Number uint64
	// Tip is what Words.Tip has while it is the last one of this process.
	Tip uint64
	// Onto is what Words.Tip has while who has a loose grip may make it a firm one, and write.
	Onto uint64
	// Kept: who has a loose grip may do so as well while the page has Number.
	Kept bool
	Held bool // Unreserve is to be called, in the end
}

// Place is c's, until the next call that is not Read or Ahead.
func (c *Conn) Place() Place {
	// C may have made the grip firm.
	p := Place{Table: c.r.Table(), Held: c.held || c.grip.Load() == gripFirm}
	if c.wanted > 0 {
		return p // Share is to be called, for c's turn
	}
	p.Number = c.number()
	if c.at != nil {
		p.Tip = c.at.serial
	}
	if c.onto != nil && c.grip.Load() == gripLoose {
		p.Onto, p.Kept = c.onto.serial, c.d.users.kept(c)
	}
	return p
}

// number is Place.Number: 0 if what c reads is not the newest that is known, or is not durable.
func (c *Conn) number() uint64 {
	if at := c.d.story.seen.Load(); at != nil && at.lost == nil && at.m.Cut == c.cut {
		return stamp(at.m.At)
	}
	return 0
}

// Size is the length of the file at the version that c reads.
func (c *Conn) Size() int64 { return c.r.Size() }

// Share moves c to the newest version, as a read transaction begins. It may ask the store. If c
// seems about to write, or could not reserve a moment ago, it waits a moment for its turn where
// others write, too, and gets the place of the writer.
func (c *Conn) Share(ctx context.Context, writes bool) error {
	d := c.d
	again := c.wanted > 0 && d.now()-c.wanted < wantTime
	c.wanted = 0
	writes = c.hints.begin(writes)
	wants := again || writes && c.crowded()
	c.hints.taken = wants && !again
	if wants {
		d.users.await(ctx, c)
	}
	if again {
		d.awaitLock(ctx)
	}
	if c.stays(wants) {
		return nil
	}
	if again && d.lease.await(ctx) && c.number() != 0 {
		return nil // the watch has asked meanwhile, and found nothing newer
	}
	if writes && c.mayTake() {
		c.hints.taken = takeTurn(ctx, c) || c.hints.taken
	}
	d.queue.reveal(ctx)
	// What is promised now has all that was answered for; what is published is no older.
	page := d.lease.file.Page()
	if page.Alone(d.now()) {
		c.Adopt()
		if page.Newest(c.number(), d.now()) {
			return nil
		}
	}
	return c.Refresh(ctx)
}

// stays moves c to the end of what is queued, if it is about to write there, or has written there,
// and no other machine can have gone on.
func (c *Conn) stays(wants bool) bool {
	d := c.d
	d.mu.Lock()
	defer d.mu.Unlock()
	tip := d.queue.tip()
	if tip == nil || !d.alone() {
		return false
	}
	if !wants || d.users.writer != c {
		if c.at == nil {
			return false
		}
		if done, _ := c.at.ended(); done {
			return false
		}
	}
	if c.at != tip {
		c.r.MoveTo(tip.v)
		c.at, c.cut = tip, tip.m.Cut
	}
	if d.users.writer == c && !d.lease.polite() {
		c.base, c.onto = tip.m, tip
	}
	return true
}

// Adopt moves on to the newest version that is known, and reports whether that is another one. It
// never waits for the store.
func (c *Conn) Adopt() bool {
	if !c.r.Adopt() {
		return false
	}
	c.arrive()
	return true
}

// Reserve has c write, alone, until Unreserve. It fails with [ErrBusy], [ErrStale] and
// [ErrReadOnly], at once; only the lease itself may be waited for, where it is free.
func (c *Conn) Reserve(ctx context.Context) error {
	d := c.d
	if c.mode.ReadOnly {
		return d.wrap(ErrReadOnly)
	}
	c.hints.reserved()
	onto, err := c.enter(ctx)
	if err == nil && onto == nil {
		if err = d.lease.hold(ctx); err == nil {
			err = c.found(ctx)
		}
	}
	if err != nil {
		c.Unreserve()
		c.wanted = max(d.now(), 1)
		return d.wrap(err)
	}
	return nil
}

// enter takes the place of the writer in this process. onto is what is queued, that c stands on;
// nil: the lease is to be seen to.
func (c *Conn) enter(ctx context.Context) (onto *entry, err error) {
	d := c.d
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.users.leaving != nil {
		left := d.users.leaving
		d.mu.Unlock()
		select {
		case <-left:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		d.mu.Lock()
		if err != nil {
			return nil, err
		}
	}
	if !d.users.enter(c) {
		return nil, fmt.Errorf("%w: another connection of this process", ErrBusy)
	}
	c.held = true
	tip := d.queue.tip()
	if tip == nil {
		return nil, nil
	}
	if d.lease.polite() {
		return nil, fmt.Errorf("%w: another process of this machine goes first", ErrBusy)
	}
	if c.at != tip && c.cut != tip.m.Cut {
		return nil, ErrStale
	}
	c.base, c.onto = tip.m, tip
	return tip, nil
}

// found takes the newest version, which is durable, for what c writes on. It fails with ErrStale if
// c reads another.
func (c *Conn) found(ctx context.Context) error {
	d := c.d
	if err := d.take(ctx); err != nil {
		return err
	}
	defer d.give()
	if d.story.m.Cut != c.cut {
		return ErrStale
	}
	c.base, c.onto = d.story.m, nil
	return nil
}

// Way is how a commit goes on.
type Way struct {
	// Pass: c's owner reserves again before it writes again, so that others of this process may
	// write on top of it at once.
	Pass bool
	// Early: COMMIT answers before the version is durable. Else Wait is called next.
	Early bool
}

// Commit has the change that was made to the version that c reads become the next version, which
// c reads from then on, if moved: else there was no change. The version is durable when Wait says
// so. After an error nothing is committed.
func (c *Conn) Commit(ctx context.Context, ch compose.Change, way Way) (moved bool, err error) {
	d := c.d
	c.hints.reserved() // C may have made the grip firm
	if c.base == nil {
		return false, d.wrap(fmt.Errorf("%w: this connection has not reserved", ErrLost))
	}
	if err := c.settled(ctx); err != nil {
		return false, d.wrap(err)
	}
	// What c reads may stand on another tree by now, or be folded.
	if err := c.r.Restate(c.base); err != nil {
		return false, d.wrap(err)
	}
	draft, err := d.composer.Compose(ctx, c.base, ch, c.r)
	if err != nil || draft == nil {
		return false, d.wrap(err)
	}
	v, err := c.r.Derive(ctx, draft.Version, draft.Version.ChangeCounter, draft.Chunks)
	if err != nil {
		return false, d.wrap(err)
	}
	e := &entry{
		draft: draft, step: draft.Step(c.base), m: draft.Version, v: v, early: way.Early,
		done: make(chan struct{}),
	}
	c.before = place{c.r.Version(), c.at, c.cut}
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.onto != nil {
		_, err = c.onto.ended()
	}
	if err == nil && d.users.writer != c {
		err = fmt.Errorf("%w: the process ends", ErrLost)
	}
	if err != nil {
		v.Release()
		c.forgetBefore()
		return false, d.wrap(err)
	}
	c.r.MoveTo(v)
	c.at, c.cut, c.mine = e, e.m.Cut, e
	c.base, c.onto = e.m, e
	d.queue.push(e)
	if way.Pass {
		c.held = false
		if !d.users.loosen(c) {
			d.users.leave(c)
			c.base, c.onto = nil, nil
		}
	}
	return true, nil
}

// settled forgets an earlier commit of c, at synchronous=OFF, waits until there is room in the
// queue, and takes what c writes on in its newest form. It fails if that has failed.
func (c *Conn) settled(ctx context.Context) error {
	d := c.d
	d.mu.Lock()
	c.forgetBefore()
	full := len(d.queue.entries) >= queueMax
	d.mu.Unlock()
	if full {
		if err := d.queue.drain(ctx); err != nil {
			return err
		}
	}
	if c.onto == nil {
		return nil
	}
	if done, err := c.onto.ended(); err != nil {
		return err
	} else if done {
		return c.found(ctx)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c.base = c.onto.m
	return nil
}

// Wait waits until what c has committed is durable. It fails with [ErrLost] and [ErrUnknown]: then
// c reads what it has read before, until Share.
func (c *Conn) Wait(ctx context.Context) error {
	e, d := c.mine, c.d
	if e == nil {
		return nil
	}
	d.mu.Lock()
	leads := d.queue.begin()
	d.mu.Unlock()
	if leads {
		d.queue.lead(ctx)
	}
	select {
	case <-e.done:
	case <-d.set.ctx.Done():
		c.back()
		return d.wrap(ErrUnknown)
	case <-ctx.Done():
		// It goes on: what becomes of it is not known.
		c.back()
		return d.wrap(fmt.Errorf("%w: %w", ErrUnknown, context.Cause(ctx)))
	}
	if e.err != nil {
		c.back()
		return d.wrap(e.err)
	}
	c.forgetBefore()
	return nil
}

// back has c read what it has read before its commit, and write no more.
func (c *Conn) back() {
	b := c.before
	if b.v != nil {
		c.r.MoveTo(b.v)
		c.at, c.cut = b.at, b.cut
	}
	c.forgetBefore()
	c.base, c.onto = nil, nil
}

// forgetBefore notes that c's last commit needs nothing more of c.
func (c *Conn) forgetBefore() {
	if c.before.v != nil {
		c.before.v.Release()
	}
	c.before, c.mine = place{}, nil
}

// Unreserve ends what Reserve has begun. It need not be called after a commit that passed the place
// on.
func (c *Conn) Unreserve() {
	d := c.d
	if c.grip.Load() == gripFirm {
		c.hints.reserved()
	}
	c.base, c.onto, c.held = nil, nil, false
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.users.leave(c) {
		d.lease.rest()
	}
}

// Read fills p with the bytes at off, all of which lie in the file, fetching what is not there.
func (c *Conn) Read(ctx context.Context, p []byte, off int64) error { return c.r.Read(ctx, p, off) }

// Ahead is called by a reader that comes to a marked chunk: time to fetch more.
func (c *Conn) Ahead(i int) { c.r.Ahead(i) }

// Flush waits until all that COMMIT has answered for in this process is durable. It fails if some
// of it is not, or if the last commit of the process has failed.
func (c *Conn) Flush(ctx context.Context) error {
	d := c.d
	if err := d.queue.drain(ctx); err != nil {
		return d.wrap(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wrap(d.queue.failed)
}

// Release gives the lease back now. It fails with [ErrBusy] if this process writes.
func (c *Conn) Release(ctx context.Context) error {
	d := c.d
	if err := d.queue.drain(ctx); err != nil {
		return d.wrap(err)
	}
	ctx, cancel := context.WithTimeout(ctx, d.set.o.Deadline)
	defer cancel()
	look := time.NewTicker(releaseLook)
	defer look.Stop()
	for {
		if at := d.story.seen.Load(); at == nil || !at.holder || d.lease.release(ctx) {
			return nil
		}
		d.mu.Lock()
		free := d.users.free()
		d.mu.Unlock()
		if !free {
			return d.wrap(fmt.Errorf("%w: another connection of this process", ErrBusy))
		}
		select { // what has just been appended is being cleared up, or the keeper gives it back
		case <-look.C:
		case <-ctx.Done():
			return d.wrap(fmt.Errorf("%w: the lease is in use", ErrBusy))
		}
	}
}

// releaseLook is how often Release looks whether the lease can be given back.
const releaseLook = 5 * time.Millisecond

// Refresh asks the store for the newest version, also where nobody need be asked, and moves on.
func (c *Conn) Refresh(ctx context.Context) error {
	if err := c.r.Refresh(ctx, true); err != nil {
		return c.d.wrap(err)
	}
	c.arrive()
	return c.d.wrap(outlived(ctx, c.d, c.r.Manifest()))
}

// Close gives up the version, and what was reserved.
func (c *Conn) Close() {
	c.Unreserve()
	c.forgetBefore()
	c.r.Close()
	c.d.mu.Lock()
	c.d.users.conns--
	c.d.mu.Unlock()
	c.d.set.leave(c.d)
}
