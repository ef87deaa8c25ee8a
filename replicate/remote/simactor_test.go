package remote

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"verneuil/replicate/remote/compose"
	"verneuil/replicate/remote/machine"
)

// actor is one thread of a process, with a connection.
type actor struct {
	p       *process
	rng     *rand.Rand
	c       *Conn
	mode    Mode
	off     bool // synchronous=OFF
	seen    int  // the longest list that it has read from a durable version
	durable bool // what it read last is

	place    Place // as of its last call
	reserved bool
}

// moved is what C does after each call.
func (a *actor) moved() {
	if a.c.hints.taken {
		a.p.w.mu.Lock()
		a.p.w.counts.Turns++
		a.p.w.mu.Unlock()
	}
	a.place = a.c.Place()
	a.reserved = a.reserved && a.place.Held
}

// alone is what C does to learn whether no other machine can have gone on.
func (a *actor) alone() bool {
	page, b := (*machine.Page)(a.c.Words().Lease), &a.p.w.variant.broken
	return page.Alone(b.tipTime(a.p.h.now())) || b.keepsTip
}

// isTip is what C does to learn whether its place is still the process's last one.
func (a *actor) isTip(serial uint64) bool {
	return serial != 0 && (*atomic.Uint64)(a.c.Words().Tip).Load() == serial
}

// work does what an application does: it opens the database, reads and writes a few times, and
// closes it.
func (a *actor) work() {
	ctx := context.Background()
	for range 1 + a.rng.IntN(2) {
		if a.rest(ctx) != nil {
			return
		}
		a.mode, a.seen = Mode{ReadOnly: a.rng.IntN(4) == 0 && !a.p.w.turns}, 0
		a.off = a.rng.IntN(6) == 0 || a.p.w.early && a.rng.IntN(3) > 0
		a.mode.Follow = a.mode.ReadOnly && !a.p.w.long && a.rng.IntN(2) == 0
		c, err := a.p.set.Open(ctx, simName, a.mode)
		a.p.w.believes(err)
		if err != nil {
			continue
		}
		a.c = c
		a.moved()
		n := 2 + a.rng.IntN(6)
		if a.p.w.mute > 0 {
			n += 6
		} else if a.p.w.turns {
			n += 20
		}
		for range n {
			if a.rest(ctx) != nil {
				break
			}
			a.once(ctx)
		}
		c.Close()
		if a.p.killed() {
			return
		}
	}
}

// once runs one transaction, which may be interrupted, or says one of the pragmas.
func (a *actor) once(ctx context.Context) {
	if a.p.w.turns && a.rng.IntN(8) > 0 && !a.mode.ReadOnly {
		a.write(ctx)
		return
	}
	if !a.p.w.rich {
		if a.mode.ReadOnly || a.rng.IntN(3) == 0 {
			a.read(ctx)
		} else {
			a.write(ctx)
		}
		return
	}
	if a.rng.IntN(8) == 0 {
		var cancel context.CancelFunc
		patience := time.Duration(a.rng.ExpFloat64() * float64(time.Second))
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	switch n := a.rng.IntN(24); {
	case n == 0:
		a.c.Release(ctx)
		a.moved()
	case n == 1:
		a.c.Refresh(ctx)
		a.moved()
	case a.mode.ReadOnly || n < 9:
		a.read(ctx)
	default:
		a.write(ctx)
	}
}

// rest is the time between two transactions. It fails if the process was killed.
func (a *actor) rest(ctx context.Context) error {
	scale := []time.Duration{0, 0, 0, 50 * time.Millisecond, 2 * time.Second, 15 * time.Second,
		3 * time.Minute}[a.rng.IntN(7)]
	if a.p.w.variant.overstaysTip {
		scale = 15 * time.Second // who has written says nothing until another one goes on
	} else if a.p.w.mute > 0 {
		scale = 3 * time.Second
	} else if a.p.w.early && a.rng.IntN(8) > 0 {
		scale = 10 * time.Millisecond
	} else if a.p.w.turns && a.rng.IntN(8) > 0 {
		scale = 500 * time.Millisecond
	}
	if a.p.w.long && a.rng.IntN(5) == 0 {
		scale = 15 * time.Minute
	} else if a.p.w.cleaned || a.p.w.slow {
		scale = min(scale, 2*time.Second)
	} else if a.p.w.held {
		scale = min(scale, 15*time.Second)
	}
	if a.reserved { // or its signs of life are all that happens
		scale = min(scale, 15*time.Second)
	}
	return a.p.sleep(ctx, time.Duration(a.rng.ExpFloat64()*float64(scale)))
}

// begin is what C does at the beginning of a transaction, which is about to write if writes.
func (a *actor) begin(ctx context.Context, writes bool) error {
	defer a.moved()
	if a.mode.Follow {
		a.c.Adopt()
		return nil
	}
	w, number := a.p.w, a.place.Number
	writes = w.told > 0 && !a.mode.ReadOnly && writes != (w.ticks.Load()%w.told == 0)
	tip := (*atomic.Uint64)(a.c.Words().Tip).Load()
	if writes && tip != 0 && tip != a.place.Tip {
		return a.c.Share(ctx, true)
	}
	if a.place.Tip != 0 && a.alone() && a.isTip(a.place.Tip) {
		return nil
	}
	if page := (*machine.Page)(a.c.Words().Lease); number != 0 &&
		page.Newest(number, a.p.h.now()-w.variant.overstay) {
		w.mu.Lock()
		w.counts.Fast++
		w.mu.Unlock()
		return nil
	}
	return a.c.Share(ctx, writes)
}

// list reads the version that is open.
func (a *actor) list(ctx context.Context) ([]uint32, error) {
	return a.p.w.whole(a.c.r.Size(), func(p []byte, off int64) error {
		return a.c.Read(ctx, p, off)
	})
}

// view is begin and list, and checks what was read. It returns what no later read may lack.
func (a *actor) view(ctx context.Context, writes bool) (list []uint32, err error) {
	w := a.p.w
	w.mu.Lock()
	least, began := w.known, w.now()
	w.mu.Unlock()
	w.trace("process %d %p begins", a.p.id, a.c)
	err = a.begin(ctx, writes)
	w.believes(err)
	if err != nil {
		return nil, err
	}
	m := a.c.r.Manifest()
	list, err = a.list(ctx)
	w.trace("process %d %p reads %x: %d, at least %d: %v", a.p.id, a.c, m.Cut[:2], len(list), least,
		err)
	w.mu.Lock()
	defer w.mu.Unlock()
	if tear := (torn{}); errors.As(err, &tear) {
		w.violate("R4: process %d, version %d: %v", a.p.id, m.Sequence, err)
	}
	unclear(w, "reads", err)
	if err != nil || a.p.killed() {
		return nil, errors.Join(err, errDead)
	}
	w.counts.Reads++
	stored, durable := w.lists[m.Cut]
	if a.durable = durable; !durable { // it is of this process alone, so far
		w.counts.Dirty++
		return list, nil
	}
	switch {
	case !slices.Equal(list, stored):
		w.violate("R4: process %d has %v, the version %v", a.p.id, list, stored)
		return list, nil
	case len(list) < a.seen && w.back.histories == 0:
		w.violate("R4: process %d went back from %d transactions to %d", a.p.id, a.seen, len(list))
	case len(list) < least && !a.mode.Follow && w.timely(): // not once the store was put back
		w.violate("R2: process %d read %d transactions of %d", a.p.id, len(list), least)
	case !a.mode.Follow && w.back.over(w, began) && lacks(w.txs, list):
		w.violate("R12: process %d read at %v what the store has lost at %v: %v", a.p.id, began,
			w.back.at, list)
	}
	if a.c.at == nil { // else the process does not know yet that it is durable
		a.seen = len(list)
	}
	return list, nil
}

// read is a transaction that reads.
func (a *actor) read(ctx context.Context) {
	call := a.p.w.ticks.Add(1)
	list, err := a.view(ctx, false)
	if err == nil && !a.mode.Follow && a.durable {
		a.p.w.note(operation{actor: a, call: call, list: list})
	}
}

// write is a transaction that writes; done says whether it was committed.
func (a *actor) write(ctx context.Context) (done bool, err error) {
	w := a.p.w
	call := w.ticks.Add(1)
	list, err := a.view(ctx, true)
	if err != nil {
		return false, err
	}
	if err = a.reserve(ctx); err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		unclear(w, "reserves", err)
		switch {
		case errors.Is(err, ErrBusy):
			w.counts.Busy++
		case errors.Is(err, ErrStale):
			w.counts.Stale++
		case w.back.explains(err):
		case a.p.killed() || errors.Is(err, errLost) || errors.Is(err, context.DeadlineExceeded):
		default:
			w.violate("process %d reserves: %v", a.p.id, err)
		}
		return false, err
	}
	defer a.unreserve()
	for a.rng.IntN(3) > 0 || a.rest(ctx) == nil {
		again := a.rng.IntN(4) == 0
		tx := w.begin(a.rng, list)
		tx.outcome, err = a.commit(ctx, tx, list, !again)
		w.note(operation{actor: a, call: call, list: list, tx: tx})
		if !again || err != nil {
			return tx.outcome == committed, err
		}
		list, call = append(slices.Clip(list), tx.id), w.ticks.Add(1)
	}
	return false, errDead
}

// reserve is what C does for a RESERVED lock.
func (a *actor) reserve(ctx context.Context) error {
	a.reserved = true
	grip := (*atomic.Uint32)(a.c.Words().Grip)
	if a.isOnto() && grip.CompareAndSwap(gripLoose, gripFirm) {
		if a.isOnto() {
			a.p.w.mu.Lock()
			a.p.w.counts.Again++
			a.p.w.mu.Unlock()
			return nil
		}
		a.unreserve()
	}
	defer a.moved()
	return a.c.Reserve(ctx)
}

// isOnto reports whether C takes what a reads for what may be written on by a firm grip.
func (a *actor) isOnto() bool {
	page := (*machine.Page)(a.c.Words().Lease)
	return a.isTip(a.place.Onto) || a.place.Kept && a.place.Number != 0 &&
		page.Newest(a.place.Number, a.p.h.now()-a.p.w.variant.overstay)
}

// unreserve is what C does when the lock is given up.
func (a *actor) unreserve() {
	if a.reserved {
		a.c.Unreserve()
		a.moved()
	}
}

// begin draws a transaction that is made on list.
func (w *world) begin(rng *rand.Rand, list []uint32) *transaction {
	w.mu.Lock()
	defer w.mu.Unlock()
	tx := &transaction{id: uint32(len(w.txs) + 1), length: 1}
	if len(list) > 0 {
		tx.length = w.txs[list[len(list)-1]-1].length
	}
	switch rng.IntN(8) {
	case 0, 1, 2:
		tx.length += rng.IntN(4)
	case 3:
		tx.length = 1 + rng.IntN(tx.length)
	}
	most := 4
	if w.big {
		tx.length, most = max(tx.length, 36), 10 // what is inline gets too much
	}
	if rng.IntN(24) == 0 {
		tx.length, most = max(tx.length, 18), 30 // too many to travel inline
	}
	chosen := map[int]bool{}
	for range rng.IntN(most) {
		if tx.length > 1 {
			chosen[1+rng.IntN(tx.length-1)] = true
		}
	}
	for b := range chosen {
		tx.blocks = append(tx.blocks, b)
	}
	slices.Sort(tx.blocks)
	w.txs = append(w.txs, tx)
	return tx
}

// commit is what C does at COMMIT.
func (a *actor) commit(
	ctx context.Context, tx *transaction, list []uint32, pass bool,
) (o outcome, err error) {
	w := a.p.w
	list = append(slices.Clip(list), tx.id)
	written := append([]int{0}, tx.blocks...)
	ch := compose.Change{Bytes: int64(tx.length) * block}
	for _, b := range written {
		ch.Offsets = append(ch.Offsets, int64(b)*block)
	}
	ch.Read = func(k int, p []byte) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.fill(p, written[k], tx.id, list)
		return nil
	}
	o = refused
	moved, err := a.c.Commit(ctx, ch, Way{Pass: pass, Early: a.off})
	defer a.moved()
	if err == nil && a.off {
		o = unknown
	} else if err == nil {
		if o, err = committed, a.c.Wait(ctx); err != nil {
			o = unknown
			if (errors.Is(err, ErrLost) || errors.Is(err, ErrRolledBack)) &&
				!errors.Is(err, ErrUnknown) {
				o = refused
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.p.killed() {
		return unknown, errDead
	}
	unclear(w, "commits", err)
	switch {
	case o != unknown && err == nil && !moved:
		w.violate("transaction %d of process %d changed nothing", tx.id, a.p.id)
	case err != nil && w.back.explains(err):
	case err != nil && o == unknown && !errors.Is(err, ErrUnknown):
		w.violate("process %d waits: %v", a.p.id, err)
	case o == refused && tx.appended:
		w.violate("R3: transaction %d is in the log, and was refused: %v", tx.id, err)
	case o == committed && !tx.appended:
		if tx.acked = w.now(); !w.back.lost(tx, w.doubtTime()) {
			w.violate("R2: transaction %d is not in the log", tx.id)
		}
	case o == committed && w.back.kind == newestManifest && !w.back.again &&
		w.now() > w.back.at+w.doubtTime():
		w.violate("R11: transaction %d is answered for at %v, and the database cannot be opened "+
			"since %v", tx.id, w.now(), w.back.at)
	case o == committed:
		w.known = max(w.known, slices.Index(w.list(), tx.id)+1)
	}
	w.trace("process %d %p has committed %d (off %v): %d, %v", a.p.id, a.c, tx.id, a.off, o, err)
	tx.outcome, tx.acked = o, w.now()
	switch o {
	case committed:
		w.counts.Acked++
	case refused:
		w.counts.Refused++
	default:
		w.counts.Unknown++
	}
	return o, err
}
