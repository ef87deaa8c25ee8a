package courier

import (
	"maps"
	"time"

	"verneuil/chunkstore"
	"verneuil/spool"
)

// notes keep which objects a target has durably, and where, although no manifest says so: for a
// successor, as long as the target's chunk bucket is the same.
type notes struct {
	sp      *spool.Spool
	target  string  // its ID
	journal *ledger // of put; nil before the first contact
	put     map[chunkstore.ID]chunkstore.Place
	known   time.Time                          // put is not older, or was in the journal then
	folded  map[chunkstore.ID]chunkstore.Place // likewise: by the last fold, for the next version
}

// of returns the journal of what was put while the target's chunk bucket was that one.
func (n notes) of(chunks chunkstore.Identity) *ledger {
	return ledgerOf(n.sp, n.target+" "+chunks.String())
}

func (n notes) clone() notes {
	n.put = maps.Clone(n.put)
	return n
}

// add notes, for this office, objects that the target has durably.
func (n *notes) add(put map[chunkstore.ID]chunkstore.Place, known time.Time) {
	if n.put == nil {
		n.put, n.known = put, known
	} else {
		maps.Copy(n.put, put)
	}
}

// named notes that the target has a manifest of ours, put by a push of so many runs: what it has
// besides is not to be relied on.
func (n *notes) named(runs int) error {
	if n.put == nil && runs < 2 {
		return nil
	}
	n.put = nil
	return n.journal.Remove()
}
