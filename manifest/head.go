package manifest

import "time"

// Head is where a version stands among those that were put under its name. Here are the rules
// of who succeeds whom; there are no others.
type Head struct {
	Lineage  [16]byte
	Epoch    uint64
	Sequence uint64
	Time     time.Time
}

// Head returns where m stands.
func (m *Manifest) Head() Head { return Head{m.Lineage, m.Epoch, m.Sequence, m.Time} }

// After reports whether h comes after o in one lineage. Times do not matter: clocks are set.
func (h Head) After(o Head) bool {
	return h.Lineage == o.Lineage && (h.Epoch > o.Epoch || h.Epoch == o.Epoch &&
		h.Sequence > o.Sequence)
}

// Supersedes reports whether who knows of both should take h: in one lineage it is the later, of
// two lineages, whose numbers say nothing of each other, the one that was written later by
// its writer's clock.
func (h Head) Supersedes(o Head) bool {
	if h.Lineage == o.Lineage {
		return h.After(o)
	}
	return h.Time.After(o.Time)
}

// Standing is what a version found in a target is to a writer.
type Standing int

// The standings. All but Past are another writer's: what he wrote must not be replaced.
const (
	Past         Standing = iota // the writer may replace it
	OtherLineage                 // it is of another lineage
	TakenOver                    // somebody has taken over from the writer's epoch
	Ahead                        // it is of the writer's epoch, and he has not come so far
	Another                      // he has come as far, but has not written this one
)

// Find returns what found is to a writer that has come as far as h. wrote says whether the writer
// knows that he has written that very object himself; another may have, who has all that he has:
// a clone of his disk. An earlier epoch of the lineage is past for whoever took over from it.
func (h Head) Find(found Head, wrote bool) Standing {
	switch {
	case found.Lineage != h.Lineage:
		return OtherLineage
	case found.Epoch > h.Epoch:
		return TakenOver
	case found.Epoch < h.Epoch:
		return Past
	case found.Sequence > h.Sequence:
		return Ahead
	case !wrote:
		return Another
	}
	return Past
}
