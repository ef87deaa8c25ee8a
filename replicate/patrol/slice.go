package patrol

import (
	"cmp"
	"context"
	"slices"
	"sync/atomic"
	"time"

	"verneuil/chunkstore"
)

// sliceObjects is how many objects are touched until the patrol hears of it.
const sliceObjects = 64

// markerID stands for the marker of a chunk bucket's identity among the objects to be touched.
var markerID = chunkstore.ID(chunkstore.Sum([]byte(chunkstore.MarkerKey)))

// dueObject is an object, and when it is, or was, due.
type dueObject struct {
	id chunkstore.ID
	at time.Time
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

	due   []dueObject // left; nil with a version: to be found
	until time.Time
	end   time.Time
	round time.Duration

	version Version // without a tree: due is known

	calls int64
	gone  map[chunkstore.ID]bool
}

// Calls returns how many requests were sent, once Run has returned.
func (j *Slice) Calls() int64 { return j.calls }

// Gone returns the objects that are absent or damaged, once Run has returned.
func (j *Slice) Gone() map[chunkstore.ID]bool { return j.gone }

// Run touches what is due, in any goroutine, until it was told to step aside or has done enough.
// It is called once.
func (j *Slice) Run() error {
	defer j.cancel()
	if j.version.Tree != nil {
		j.due = j.find()
	}
	for len(j.due) > 0 && j.calls < sliceObjects && !j.yield.Load() {
		d := j.due[0]
		j.calls++
		if d.id == markerID {
			// One that is gone is found by a look, and has all put again.
			if err := j.t.TouchIdentity(j.ctx); err != nil && !chunkstore.IsFault(err) {
				return err
			}
		} else if err := j.t.TouchChunk(j.ctx, d.id); chunkstore.IsFault(err) {
			j.gone[d.id] = true
		} else if err != nil {
			return err
		}
		j.due, j.until = j.due[1:], d.at
	}
	if len(j.due) == 0 {
		j.until = j.end
	}
	return nil
}

// find returns the objects that the target has and that are due, in their order.
func (j *Slice) find() []dueObject {
	missing := make(map[chunkstore.ID]bool, len(j.version.Missing))
	for _, id := range j.version.Missing {
		missing[id] = true
	}
	var due []dueObject
	look := func(id chunkstore.ID) {
		if at := nextDue(id, j.until, j.round); !at.After(j.end) && !missing[id] &&
			id != chunkstore.ZeroID {
			due = append(due, dueObject{id, at})
		}
	}
	look(markerID)
	for i := range j.version.Tree.Len() {
		look(j.version.Tree.At(i))
	}
	for id := range j.version.Tree.Objects() {
		if j.version.Have[id] {
			look(id)
		}
	}
	slices.SortFunc(due, func(a, b dueObject) int {
		return cmp.Or(a.at.Compare(b.at), slices.Compare(a.id[:], b.id[:]))
	})
	return slices.Compact(due)
}
