package replica

import (
	"testing"

	"verneuil/manifest"
)

// TestF8SchemaCookies: a schema cookie is shown again only where the writer has followed
// every transaction in between and the file's own is the same.
func TestF8SchemaCookies(t *testing.T) {
	type version struct {
		lineage           byte
		epoch, continuity uint64
		file, shown       uint32
	}
	for name, versions := range map[string][]version{
		"one line": {
			{1, 1, 9, 3, 3}, {1, 1, 9, 3, 3}, {1, 1, 9, 4, 4}, {1, 1, 9, 6, 6}, {1, 1, 9, 6, 6},
		},
		"another file": {
			{1, 1, 9, 3, 3}, {1, 1, 8, 3, 4}, {1, 1, 8, 3, 4}, {1, 1, 8, 4, 5},
		},
		"there and back": {
			{1, 1, 9, 3, 3}, {1, 1, 8, 3, 4}, {1, 1, 9, 3, 5},
		},
		"another epoch": {
			{1, 1, 9, 3, 3}, {1, 2, 9, 3, 4},
		},
		"another lineage": {
			{1, 1, 9, 3, 3}, {2, 1, 9, 3, 4},
		},
		"nothing is known": {
			{1, 1, 0, 3, 3}, {1, 1, 0, 3, 4}, {1, 1, 0, 3, 5},
		},
		"set back": {
			{1, 1, 9, 7, 7}, {1, 1, 9, 3, 8}, {1, 1, 9, 7, 12}, {1, 1, 9, 7, 12},
		},
		"set far ahead": {
			{1, 1, 9, 3, 3}, {1, 1, 9, 1 << 30, 4}, {1, 1, 9, 1<<30 + 1, 5},
		},
		"a lower one of a file": {
			{1, 1, 9, 100, 100}, {1, 1, 8, 1, 101}, {1, 1, 8, 2, 102},
		},
		"around the end": {
			{1, 1, 9, 1<<32 - 1, 1<<32 - 1}, {1, 1, 9, 0, 0}, {1, 1, 8, 0, 1},
		},
		"the file has none": {
			{1, 1, 9, 0, 0}, {1, 1, 9, 1, 1},
		},
		"an older one comes late": {
			{1, 1, 9, 5, 5}, {1, 1, 9, 6, 6}, {1, 1, 9, 5, 7}, {1, 1, 9, 6, 8},
		},
	} {
		var c cookies
		for k, v := range versions {
			m := &manifest.Manifest{
				Lineage:    [16]byte{v.lineage},
				Epoch:      v.epoch,
				Continuity: v.continuity,
			}
			if got := c.show(m, v.file); got != v.shown {
				t.Errorf("%s: version %d shows %d, want %d", name, k, got, v.shown)
			}
		}
	}
}
