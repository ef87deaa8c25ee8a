package patrol

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"verneuil/chunkstore"
)

// slicePacks is how many packs are touched until the patrol hears of it.
const slicePacks = 64

// markerName stands for the marker of a chunk bucket's identity among the packs to be touched.
var markerName = chunkstore.Sum([]byte(chunkstore.MarkerKey))

// duePack is a pack, or a record, and when it is, or was, due.
type duePack struct {
	name  chunkstore.Digest // of the pack; of a record, what stands for it
	at    time.Time
	least int64 // how long the pack is at least

	log    string // of the record
	record uint64 // 0: it is a pack
}

// touch fails with ErrAbsent or ErrCorrupt if it is gone. Where a policy denies that, it looks
// whether it is there.
func (d duePack) touch(ctx context.Context, t *chunkstore.Target) error {
	if chunkstore.CreatesOnly(t) {
		return d.look(ctx, t)
	}
	err := d.renew(ctx, t)
	if errors.Is(err, chunkstore.ErrDenied) && chunkstore.CreatesOnly(t) {
		err = d.look(ctx, t)
	}
	return err
}

// look fails with ErrAbsent or ErrCorrupt if it is gone.
func (d duePack) look(ctx context.Context, t *chunkstore.Target) error {
	switch {
	case d.record > 0:
		records, err := chunkstore.NewBucketLog(t.Chunks, d.log).Read(ctx, d.record, 1)
		if err == nil && len(records) == 0 {
			err = fmt.Errorf("record %d of log %s: %w", d.record, d.log, chunkstore.ErrAbsent)
		}
		return err
	case d.name == markerName:
		_, err := chunkstore.ReadIdentity(ctx, t.Chunks)
		return err
	}
	_, err := t.StatPack(ctx, d.name, d.least)
	return err
}

func (d duePack) renew(ctx context.Context, t *chunkstore.Target) error {
	switch {
	case d.record > 0:
		return t.TouchRecord(ctx, d.log, d.record)
	case d.name == markerName:
		return t.TouchIdentity(ctx)
	}
	return t.TouchPack(ctx, d.name)
}

// Slice is a part of a patrol, on its way. It shares nothing that changes.
type Slice struct {
	t      *chunkstore.Target
	ctx    context.Context
	cancel context.CancelFunc
	yield  atomic.Bool

	// These are the patrol's.
	patient bool // it waits for others
	void    bool // what was done does not count

	due   []duePack // left; nil with a version: to be found
	until time.Time
	end   time.Time
	round time.Duration

	version Version // without a tree: due is known

	calls  int64
	gone   map[chunkstore.Digest]bool
	hole   Hole
	unread error
}

// Hole is a record that is gone from a log.
type Hole struct {
	Log    string
	Number uint64 // 0: none is
}

// Calls returns how many requests were sent, once Run has returned.
func (j *Slice) Calls() int64 { return j.calls }

// Gone returns the packs that are absent or damaged, once Run has returned.
func (j *Slice) Gone() map[chunkstore.Digest]bool { return j.gone }

// Hole returns the last record that is absent, once Run has returned: it may have been trimmed.
func (j *Slice) Hole() Hole { return j.hole }

// Unread returns, once Run has returned, why a leaf or node of the version cannot be had: it is
// absent or damaged, so that nobody knows what else is to be touched. Nil: all can.
func (j *Slice) Unread() error { return j.unread }

// Run touches what is due, in any goroutine, until it was told to step aside or has done enough.
// It is called once.
func (j *Slice) Run() error {
	defer j.cancel()
	if j.version.Tree != nil {
		switch err := j.version.Tree.Load(j.ctx, j.fetch); {
		case chunkstore.IsFault(err):
			j.unread = err
			return err
		case err != nil:
			return err
		}
		j.due = j.find()
	}
	for touched := 0; len(j.due) > 0 && touched < slicePacks && !j.yield.Load(); touched++ {
		d := j.due[0]
		j.calls++
		switch err := d.touch(j.ctx, j.t); {
		case err == nil:
		case !chunkstore.IsFault(err):
			return err
		case d.record > 0:
			j.hole = Hole{d.log, d.record}
		case d.name != markerName: // that one a look finds gone, and has all put again
			j.gone[d.name] = true
		}
		j.due, j.until = j.due[1:], d.at
	}
	if len(j.due) == 0 {
		j.until = j.end
	}
	return nil
}

// fetch gets leaves and nodes of the version, which are in the target.
func (j *Slice) fetch(ctx context.Context, refs []chunkstore.Ref) ([][]byte, error) {
	j.calls++
	return j.t.GetObjects(ctx, refs)
}

// find returns the packs that the target has and that are due, in their order.
func (j *Slice) find() []duePack {
	var due []duePack
	packs := make(map[chunkstore.Digest]int64) // how long they are at least
	add := func(d duePack) {
		if d.at = nextDue(d.name, j.until, j.round); !d.at.After(j.end) {
			due = append(due, d)
		}
	}
	look := func(p chunkstore.Place) {
		if !j.version.Lost[p.Pack] {
			packs[p.Pack] = max(packs[p.Pack], p.End())
		}
	}
	add(duePack{name: markerName})
	for _, n := range j.version.Records {
		log := j.version.Log
		name := chunkstore.Sum(binary.BigEndian.AppendUint64([]byte(log), n))
		add(duePack{name: name, log: log, record: n})
	}
	for i := range j.version.Tree.Len() {
		if ref := j.version.Tree.At(i); ref.ID != chunkstore.ZeroID {
			look(ref.Place)
		}
	}
	for ref := range j.version.Tree.Objects() {
		look(ref.Place)
	}
	for name, least := range packs {
		add(duePack{name: name, least: least})
	}
	slices.SortFunc(due, func(a, b duePack) int {
		return cmp.Or(a.at.Compare(b.at), slices.Compare(a.name[:], b.name[:]))
	})
	return due
}
