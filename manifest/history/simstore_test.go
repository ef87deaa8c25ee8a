package history

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand"
	"runtime"
	"slices"
	"time"

	"verneuil/chunkstore"
)

// actor is a [Store] as one process sees it.
type actor struct {
	w     *world
	id    int
	rng   *rand.Rand
	takes bool // a takeover is under way
	since int  // in which step one began of a history that is its; 0: none is
	asks  bool // an Append is
	read  bool // the last Read found records
}

// do has carry carried out. It may be so later, or twice: it must not touch what its first call
// has returned.
func (a *actor) do(carry func()) error {
	r := &request{a.id, carry, make(chan fate)}
	a.w.requests <- r
	switch <-r.reply {
	case lost:
		return errLost
	case crashed:
		runtime.Goexit()
	}
	return nil
}

// once returns a do of a function that has a result: that of the first time, if it was answered.
func once[T any](a *actor, carry func() T) (T, error) {
	var first T
	calls := 0
	err := a.do(func() {
		v := carry()
		if calls++; calls == 1 {
			first = v
		}
	})
	if err != nil {
		var none T
		return none, err
	}
	return first, nil
}

func (a *actor) Log(lineage [16]byte) chunkstore.Log { return simLog{a, lineage} }

type newest struct {
	c    *Checkpoint
	etag int
}

func (a *actor) Newest(_ context.Context, etag string) (*Checkpoint, string, error) {
	n, err := once(a, func() newest { return newest{a.w.cp, a.w.etag} })
	switch {
	case err != nil:
		return nil, "", err
	case n.c == nil:
		return nil, "", chunkstore.ErrAbsent
	case fmt.Sprint(n.etag) == etag, etag != "" && a.ignores(),
		a.asks && a.w.fault == withoutT4:
		return nil, "", chunkstore.ErrUnmodified
	}
	c := *n.c
	return &c, fmt.Sprint(n.etag), nil
}

// ignores: the look is one of T2, which is left out.
func (a *actor) ignores() bool {
	if a.takes {
		return a.w.fault == withoutT2Writer
	} else if a.asks {
		return a.w.fault == withoutT2Refused
	}
	return a.w.fault == withoutT2Reader && a.read
}

func (a *actor) Replace(_ context.Context, c *Checkpoint, etag string) (string, error) {
	copied := *c
	now, err := once(a, func() int {
		w := a.w
		same := fmt.Sprint(w.etag) == etag || w.cp == nil && etag == ""
		if !same && (w.fault != withoutT3 || w.cp == nil || c.Number == 0) {
			return 0
		}
		w.cp, w.etag = &copied, w.etag+1
		w.puts = append(w.puts, put{copied.Number, w.steps})
		return w.etag
	})
	if err != nil {
		return "", err
	}
	if now == 0 {
		return "", chunkstore.ErrConflict
	}
	return fmt.Sprint(now), nil
}

type simLog struct {
	*actor
	lineage [16]byte
}

func (l simLog) String() string { return "the simulated log" }

func (l simLog) Append(ctx context.Context, n uint64, record []byte) error {
	_, err := l.AppendDated(ctx, n, record)
	return err
}

func (l simLog) AppendDated(_ context.Context, n uint64, record []byte) (at time.Time, err error) {
	record = slices.Clone(record)
	created, err := once(l.actor, func() bool {
		at = l.w.date()
		return l.w.create(l.lineage, n, record)
	})
	if err == nil && !created {
		err = chunkstore.ErrConflict
	}
	return at, err
}

// date is the time by the clock of whoever answers for the store: two of them are less than the
// grace apart.
func (w *world) date() time.Time {
	switch {
	case !w.dates:
		return time.Time{}
	case w.fault == withoutT9, !w.still:
		return time.Unix(1, int64(w.steps%7))
	}
	off := 0
	if w.grace > 1 {
		off = w.steps*7919%w.grace - w.grace/2
	}
	return time.Unix(1, int64(w.steps+off))
}

func (l simLog) Read(_ context.Context, from uint64, limit int) (all [][]byte, err error) {
	for n := from; len(all) < limit; n++ {
		r, err := once(l.actor, func() []byte { return l.w.logs[l.lineage][n] })
		if err != nil {
			return nil, err
		}
		if r == nil {
			break
		}
		all = append(all, r)
	}
	l.read = len(all) > 0
	return all, nil
}

func (l simLog) List(context.Context, uint64, uint64, func(chunkstore.LogEntry) bool) error {
	return nil
}

// Trim deletes in any order, and may end half-way.
func (l simLog) Trim(_ context.Context, before uint64, keep []uint64) error {
	numbers, err := once(l.actor, func() (all []uint64) {
		for n := range l.w.logs[l.lineage] {
			kept := slices.Contains(keep, n) && l.w.fault != withoutT1
			if n < before && n <= l.w.aged() && !kept {
				all = append(all, n)
			}
		}
		slices.Sort(all)
		l.w.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		return all
	})
	for _, n := range numbers {
		if err == nil {
			err = l.do(func() { delete(l.w.logs[l.lineage], n) })
		}
	}
	return err
}

// aged is the number of a checkpoint that was put long enough ago.
func (w *world) aged() (number uint64) {
	for _, p := range w.puts {
		if w.steps-p.step >= 2*w.grace || w.fault == withoutT5 {
			number = p.number
		}
	}
	return number
}

// create is what a store does, and the witness of the true history.
func (w *world) create(lineage [16]byte, n uint64, record []byte) bool {
	log := w.logs[lineage]
	if log == nil {
		log = map[uint64][]byte{}
		w.logs[lineage] = log
	}
	if log[n] != nil {
		return false
	}
	log[n] = record
	if head := uint64(len(w.records)); n <= head {
		return true // it was trimmed: nobody may believe it
	} else if n > head+1 {
		w.violate("H1: record %d was created after %d", n, head)
		return true
	}
	r, err := Decode(n, record)
	if err != nil {
		w.violate("%v", err)
		return true
	}
	switch {
	case r.Fence && r.Epoch != w.epoch+1:
		w.violate("H4: a fence of epoch %d after epoch %d", r.Epoch, w.epoch)
	case !r.Fence && (r.Epoch != w.epoch || r.Writer != w.owner):
		w.violate("H4: record %d of epoch %d by %x, while %x has epoch %d",
			n, r.Epoch, r.Writer[:2], w.owner[:2], w.epoch)
	case n > 1 && r.Before != w.records[n-2].digest:
		w.violate("H1: record %d follows another one", n)
	}
	w.records, w.epoch, w.owner = append(w.records, r), r.Epoch, r.Writer
	if r.Release {
		w.owner = [16]byte{}
	}
	if !r.Fence {
		w.txs = append(w.txs, binary.BigEndian.Uint64(r.Body))
	}
	return true
}
