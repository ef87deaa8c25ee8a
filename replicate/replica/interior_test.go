package replica

import (
	"encoding/binary"
	"slices"
	"testing"
)

// interiorPage builds a table's interior page whose children are those.
func interiorPage(pageBytes int, children ...uint32) []byte {
	p := make([]byte, pageBytes)
	p[0] = 5
	n := len(children) - 1
	binary.BigEndian.PutUint16(p[3:], uint16(n))
	binary.BigEndian.PutUint32(p[8:], children[n])
	for i, c := range children[:n] {
		at := pageBytes - 8*(i+1)
		binary.BigEndian.PutUint16(p[12+2*i:], uint16(at))
		binary.BigEndian.PutUint32(p[at:], c)
	}
	return p
}

func TestInteriorChildren(t *testing.T) {
	want := []uint32{7, 3, 900, 5}
	page := interiorPage(4096, want...)
	if got := interiorChildren(page, false, 1000); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := interiorChildren(page, false, 899); got != nil {
		t.Errorf("a child beyond the file: %v", got)
	}
	page[0] = 13
	if got := interiorChildren(page, false, 1000); got != nil {
		t.Errorf("a leaf has children %v", got)
	}
	first := append(make([]byte, 100), interiorPage(3996, 2, 3)...)
	at := binary.BigEndian.Uint16(first[112:]) // the offsets of page 1 count from the start of the file
	binary.BigEndian.PutUint16(first[112:], at+100)
	if got := interiorChildren(first, true, 3); !slices.Equal(got, []uint32{2, 3}) {
		t.Errorf("page 1: got %v", got)
	}
}

func FuzzInteriorChildren(f *testing.F) {
	f.Add(interiorPage(512, 2, 3, 4), false)
	f.Add(append(make([]byte, 100), interiorPage(412, 2, 3)...), true)
	f.Fuzz(func(t *testing.T, page []byte, first bool) {
		for _, c := range interiorChildren(page, first, 100) {
			if c < 2 || c > 100 {
				t.Errorf("child %d", c)
			}
		}
		if len(page) > 65536 {
			return
		}
		var all families
		all.note(page, 512, 1, 100)
		all.missed(3, true)
	})
}

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
		{"lookups through interior pages", true, []int{200, 10, 299, 90, 200, 10}, []int{0, 2, 4, 4, 4, 4}},
		{"a scan", false, []int{50, 51, 53, 56, 61, 70, 90}, []int{0, 1, 2, 4, 8, 16, 16}},
		{"a scan, then a lookup", false, []int{50, 51, 200}, []int{0, 1, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var all families
			all.note(interiorPage(4096, children...), 4096, 17, 1000)
			for i, k := range c.misses {
				siblings, n := all.missed(children[k], c.interior)
				if n != c.want[i] {
					t.Errorf("miss %d: %d pages, want %d", i, n, c.want[i])
				}
				if n > 0 && k < 299 && siblings[0] != children[k+1] {
					t.Errorf("miss %d: page %d first, want %d", i, siblings[0], children[k+1])
				}
				for j := range 2 * familiesMax { // many that arrive do not displace one that is of use
					all.note(interiorPage(512, 5, 6), 512, uint32(1000+100*i+j), 1000)
				}
			}
			if len(all.all) != familiesMax {
				t.Errorf("%d families, want %d", len(all.all), familiesMax)
			}
		})
	}
}
