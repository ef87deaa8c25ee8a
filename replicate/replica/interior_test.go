package replica

import (
	"testing"

	"verneuil/chunkstore"
	"verneuil/spool/spooltest"
)

// Lookups below one parent are given more and more of its children, if those are
// interior pages, and a scan's next children in any case.
func TestFamilies(t *testing.T) {
	var children []uint32
	for i := range uint32(300) {
		children = append(children, 1000-i)
	}
	for _, c := range []struct {
		name     string
		interior bool
		misses   []int // indexes of children
		want     []int // how many more are wanted
	}{
		{"lookups of leaves", false, []int{200, 10, 290, 90}, []int{0, 0, 0, 0}},
		{
			"lookups through interior pages", true,
			[]int{200, 10, 299, 90, 200, 10}, []int{0, 2, 4, 4, 4, 4},
		},
		{"a scan", false, []int{50, 51, 53, 56, 61, 70, 90}, []int{0, 1, 2, 4, 8, 16, 16}},
		{"a scan, then a lookup", false, []int{50, 51, 200}, []int{0, 1, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var all families
			all.note(spooltest.InteriorPage(4096, children...), 4096, 17, 1000)
			for i, k := range c.misses {
				siblings, n := all.missed(children[k], c.interior)
				if n != c.want[i] {
					t.Errorf("miss %d: %d pages, want %d", i, n, c.want[i])
				}
				if n > 0 && k < 299 && siblings[0] != children[k+1] {
					t.Errorf("miss %d: page %d first, want %d", i, siblings[0], children[k+1])
				}
				// Many that arrive do not displace one that is of use.
				for j := range 2 * familiesMax {
					all.note(spooltest.InteriorPage(512, 5, 6), 512, uint32(1000+100*i+j), 1000)
				}
			}
			if len(all.all) != familiesMax {
				t.Errorf("%d families, want %d", len(all.all), familiesMax)
			}
		})
	}
}

// FuzzFamilies: whatever chunks arrive, nothing panics.
func FuzzFamilies(f *testing.F) {
	f.Add(spooltest.InteriorPage(512, 2, 3, 4), uint32(1))
	f.Add(append(make([]byte, 100), spooltest.InteriorPage(412, 2, 3)...), uint32(7))
	f.Fuzz(func(t *testing.T, chunk []byte, first uint32) {
		if len(chunk) > chunkstore.ChunkBytes {
			return
		}
		var all families
		all.note(chunk, 512, first, 100)
		all.missed(3, true)
	})
}
