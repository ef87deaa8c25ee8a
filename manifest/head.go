package manifest

import "time"

// Head is where a version stands among all that were put under its name. The rules of who
// succeeds whom are here, and nowhere else.
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

// Supersedes reports whether h is to be taken where both are known. In one lineage that is the
// later version. Numbers of two lineages cannot be compared: there it is the one that was
// written later, by its writer's clock.
func (h Head) Supersedes(o Head) bool {
	if h.Lineage == o.Lineage {
		return h.After(o)
	}
	return h.Time.After(o.Time)
}

// Standing says what a version that was found in a target means to a writer.
type Standing int

// The standings. All but Past belong to another writer, whose version must not be replaced.
const (
	Past         Standing = iota // the writer may replace it
	OtherLineage                 // its lineage is another
	TakenOver                    // somebody has taken over from the writer's epoch
	Later                        // its epoch is the writer's, who has not come so far
	Another                      // the writer has come as far, but has not written this one
)

// Find returns what found means to a writer that has come as far as h. wrote says whether the
// writer knows that it has written this very object: a clone of its disk may have done so,
// which has all that it has. An earlier epoch of the lineage is the past of the writer that
// took over from it.
func (h Head) Find(found Head, wrote bool) Standing {
	switch {
	case found.Lineage != h.Lineage:
		return OtherLineage
	case found.Epoch > h.Epoch:
		return TakenOver
	case found.Epoch < h.Epoch:
		return Past
	case found.Sequence > h.Sequence:
		return Later
	case !wrote:
		return Another
	}
	return Past
}
