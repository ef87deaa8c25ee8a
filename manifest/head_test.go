package manifest_test

import (
	"testing"
	"time"

	. "verneuil/manifest"
)

// TestHead lists the pairs that there can be: who comes after whom, who is taken, and what a
// writer makes of what it finds.
func TestHead(t *testing.T) {
	at := func(lineage byte, epoch, sequence uint64, seconds int64) Head {
		return Head{[16]byte{lineage}, epoch, sequence, time.Unix(seconds, 0)}
	}
	own := at(1, 3, 10, 100)
	for name, c := range map[string]struct {
		found             Head
		after, supersedes bool     // own comes after it, own is taken
		wrote, else_      Standing // of it, if own's writer wrote it, and if not
	}{
		"the same":                       {at(1, 3, 10, 100), false, false, Past, Another},
		"the same numbers, another time": {at(1, 3, 10, 50), false, false, Past, Another},
		"before it":                      {at(1, 3, 9, 90), true, true, Past, Another},
		"before it, by a clock set back": {at(1, 3, 9, 900), true, true, Past, Another},
		"after it":                       {at(1, 3, 11, 110), false, false, Later, Later},
		"after it, by a clock set back":  {at(1, 3, 11, 50), false, false, Later, Later},
		"an earlier epoch":               {at(1, 2, 99, 90), true, true, Past, Past},
		"an earlier epoch, later":        {at(1, 2, 99, 900), true, true, Past, Past},
		"a later epoch":                  {at(1, 4, 1, 110), false, false, TakenOver, TakenOver},
		"a later epoch, earlier":         {at(1, 4, 1, 50), false, false, TakenOver, TakenOver},
		"another lineage, earlier": {at(2, 9, 99, 90), false, true, OtherLineage,
			OtherLineage},
		"another lineage, later": {at(2, 1, 1, 110), false, false, OtherLineage,
			OtherLineage},
		"another lineage, the same time": {at(2, 3, 10, 100), false, false, OtherLineage,
			OtherLineage},
		"another lineage, no time at all": {Head{Lineage: [16]byte{2}}, false, true, OtherLineage,
			OtherLineage},
	} {
		if got := own.After(c.found); got != c.after {
			t.Errorf("%s: after: %v", name, got)
		}
		if got := own.Supersedes(c.found); got != c.supersedes {
			t.Errorf("%s: supersedes: %v", name, got)
		}
		if c.supersedes && c.found.Supersedes(own) {
			t.Errorf("%s: each supersedes the other", name)
		}
		if got := own.Find(c.found, true); got != c.wrote {
			t.Errorf("%s: what we wrote is %v", name, got)
		}
		if got := own.Find(c.found, false); got != c.else_ {
			t.Errorf("%s: what we did not write is %v", name, got)
		}
	}
}
