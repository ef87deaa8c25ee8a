package replica

import (
	"encoding/binary"
	"slices"
	"sync"
)

// SQLite reads a b-tree from the root down, and learns a page's number from its
// parent: on a cold replica the misses of a lookup come one after another. So the
// children of interior pages that arrive are remembered, as families, and when a
// child is missed that is an interior page itself, or the next one in order after the
// last, some of its siblings are fetched as well.

const (
	// familiesMax bounds what a follower remembers, to 2 KiB each with 4 KiB pages.
	familiesMax = 64
	// siblingsMax bounds how many pages are fetched because of one in a scan.
	siblingsMax = aheadMax / 2
	// lookupSiblingsMax does so for lookups, of which each misses a leaf, too: what is
	// fetched early is at most twice what is asked for.
	lookupSiblingsMax = 4
	// siblingsReach is how far the next miss in order may be after the last: those
	// between them were there.
	siblingsReach = 4 * siblingsMax
)

// families are the interior pages of one source that arrived lately. They are hints:
// of any version, and perhaps wrong, which costs a fetch of no use.
type families struct {
	mu   sync.Mutex
	all  []*family
	tick int
}

// family is the children of one interior page. Its fields are guarded by families.mu.
type family struct {
	page     uint32
	children []uint32
	used     int // the tick of the last miss of a child, or of arrival
	misses   int // of children
	last     int // index of the child that was missed last
	ahead    int // how many were fetched because of that, if in order
}

// note remembers the interior pages in chunk, of which the first page is number first.
func (f *families) note(chunk []byte, pageBytes int, first uint32, pages int64) {
	if pageBytes <= 0 {
		return
	}
	for at := 0; at+pageBytes <= len(chunk); at += pageBytes {
		page := first + uint32(at/pageBytes)
		if children := interiorChildren(chunk[at:at+pageBytes], page == 1, pages); len(children) > 1 {
			f.add(&family{page: page, children: children, last: -siblingsReach})
		}
	}
}

func (f *families) add(n *family) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tick++
	n.used = f.tick
	for i, old := range f.all {
		if old.page == n.page {
			n.misses, n.used = old.misses, max(n.used, old.used)
			f.all[i] = n
			return
		}
	}
	if len(f.all) < familiesMax {
		f.all = append(f.all, n)
		return
	}
	// Those without a miss go first: as a rule their children are leaves.
	worst := slices.MinFunc(f.all, func(a, b *family) int {
		if (a.misses > 0) != (b.misses > 0) {
			if a.misses > 0 {
				return 1
			}
			return -1
		}
		return a.used - b.used
	})
	*worst = *n
}

// missed is told that page was missed, which is an interior one or not. It returns
// what of its family to fetch as well: the first n of siblings that are not there.
func (f *families) missed(page uint32, interior bool) (siblings []uint32, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.all {
		k := slices.Index(m.children, page)
		if k < 0 {
			continue
		}
		f.tick++
		m.used = f.tick
		m.misses++
		next := m.last < k && k <= m.last+siblingsReach
		m.last = k
		switch {
		case next: // in the order of keys: a scan
			m.ahead = min(max(1, 2*m.ahead), siblingsMax)
			return m.children[k+1:], m.ahead
		case interior: // lookups: with each miss more it is likelier that all will be needed
			return slices.Concat(m.children[k+1:], m.children[:k]), min(2*(m.misses-1), lookupSiblingsMax)
		}
		m.ahead = 0
		return nil, 0
	}
	return nil, 0
}

// interiorChildren returns the children of a b-tree page in the order of their keys,
// or nil if it is not an interior page (file format, section 1.6). What it is given
// may be anything; children lie within the file's pages.
func interiorChildren(page []byte, first bool, pages int64) []uint32 {
	header := 0
	if first {
		header = headerBytes
	}
	const headerLength = 12 // of an interior page
	if len(page) < header+headerLength || !isInterior(page[header]) {
		return nil
	}
	cells := int(binary.BigEndian.Uint16(page[header+3:]))
	pointers := page[header+headerLength:]
	if cells == 0 || 2*cells > len(pointers) {
		return nil
	}
	children := make([]uint32, 0, cells+1)
	for i := range cells {
		at := int(binary.BigEndian.Uint16(pointers[2*i:]))
		if at < header+headerLength+2*cells || at+4 > len(page) {
			return nil
		}
		children = append(children, binary.BigEndian.Uint32(page[at:]))
	}
	children = append(children, binary.BigEndian.Uint32(page[header+8:]))
	for _, child := range children {
		if child < 2 || int64(child) > pages {
			return nil
		}
	}
	return children
}

// isInterior: the types of interior pages, of an index and of a table.
func isInterior(pageType byte) bool { return pageType == 2 || pageType == 5 }
