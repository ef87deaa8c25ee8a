package courier

import (
	"cmp"
	"time"

	"verneuil/spool"
)

// Status is how it stands with one target.
type Status struct {
	Name     string    `json:"name"`
	Sequence uint64    `json:"sequence"`          // last transaction that it has
	Manifest time.Time `json:"manifest,omitzero"` // when it took one last; zero: not yet
	Backlog  int       `json:"backlog_chunks"`
	Calls    int64     `json:"calls"` // by this replicator
	Busy     bool      `json:"busy"`
	Stopped  bool      `json:"stopped"` // another writer uses our name
	Error    string    `json:"error,omitempty"`
	// Records are those after the newest checkpoint. Bounded, unless there is a CheckpointError.
	Records         int    `json:"records"`
	CheckpointError string `json:"checkpoint_error,omitempty"`
	// Unguarded: the store does not keep the conditions of writes, so that a second writer under
	// our name may not be noticed.
	Unguarded bool `json:"unguarded,omitempty"`

	// Patrolled: each pack was touched, or put, in the round that ended then; zero: none has
	// ended yet.
	Patrolled   time.Time `json:"patrolled,omitzero"`
	Healed      int       `json:"healed"` // packs that were gone, and what stood there put again
	PatrolError string    `json:"patrol_error,omitempty"`
	// Damaged is how many objects somebody found to be damaged, who has read the target, that were
	// not put again yet: packs, and the newest version, if it cannot be read.
	Damaged int `json:"damaged_objects"`
}

// Status returns how it stands with each target, and whether one is not known to have what was
// published by then.
func (o *Office) Status(published spool.Point) (targets []Status, behind bool) {
	targets = make([]Status, 0, len(o.couriers))
	for _, c := range o.couriers {
		targets = append(targets, statusOf(c))
		behind = behind || !c.stock.point.Covers(published)
	}
	return targets, behind
}

func statusOf(c *Courier) Status {
	s := Status{
		Name: c.Name, Sequence: c.stock.point.Sequence, Manifest: c.stock.taken,
		Backlog: len(c.stock.missing), Calls: c.shelf.calls.Load(),
		Busy: c.state.Busy(), Stopped: c.state == Stopped, Unguarded: c.Unguarded(),
		Patrolled: c.beat.RoundEnded(), Healed: c.beat.Healed(), Damaged: c.damage.objects(),
	}
	if s.Records = c.stock.unsaved(); c.saver.err != nil {
		s.CheckpointError = c.saver.err.Error()
	}
	if err := c.beat.Err(); err != nil {
		s.PatrolError = err.Error()
	}
	if p := c.pushing; p != nil {
		s.Calls += p.uploads.calls.Load()
		s.Backlog = int(p.left.Load())
	}
	if err := cmp.Or(c.trouble.err, c.belief.err); err != nil {
		s.Error = err.Error()
	}
	return s
}
