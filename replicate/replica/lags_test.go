package replica

import (
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

// TestLags: which version is no news to a replica.
func TestLags(t *testing.T) {
	a, b := new(chunkstore.Target), new(chunkstore.Target)
	version := func(lineage byte, sequence uint64, at int64) *manifest.Manifest {
		return &manifest.Manifest{
			Lineage:  [16]byte{lineage},
			Sequence: sequence,
			Time:     time.Unix(at, 0),
		}
	}
	prev := &snapshot{m: version(1, 10, 100), from: a}
	for name, c := range map[string]struct {
		m    *manifest.Manifest
		from *chunkstore.Target
		want bool
	}{
		"older":                                {version(1, 9, 90), a, true},
		"older, of a target that lags":         {version(1, 9, 90), b, true},
		"newer":                                {version(1, 11, 110), b, false},
		"newer, by a clock set back":           {version(1, 11, 10), b, false},
		"another lineage that took its place":  {version(2, 1, 90), a, false},
		"another lineage, of one that lags":    {version(2, 99, 90), b, true},
		"another lineage that was begun later": {version(2, 1, 110), b, false},
	} {
		if got := lags(c.m, c.from, prev); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
