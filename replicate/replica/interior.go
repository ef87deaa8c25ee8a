package replica

import (
	"slices"
	"sync"

	"verneuil/manifest"
	"verneuil/spool/sqlitefile"
)

// SQLite reads a b-tree from the root down, and learns a page's number from its
// parent: on a cold replica the misses of a lookup come one after another. So the
// children of interior pages that arrive are remembered, as families, and when a
// child is missed that is an interior page itself, or the next one in order after the
// last, some of its siblings are fetched as well.

const (
	// familiesMax bounds what a follower remembers, to 2 KiB each with 4 KiB pages.
	familiesMax = 128
	// siblingsMax bounds how many pages are fetched because of one in a scan.
	siblingsMax = 16
	// lookupSiblingsMax does so for lookups, of which each misses a leaf, too.
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
		if children := sqlitefile.Children(chunk[at:at+pageBytes], page == 1, pages); len(
			children) > 1 {
			f.add(&family{page: page, children: children, last: -siblingsReach})
		}
	}
}

// noteInline notes which inline pages of m are interior pages: of a root no chunk may be fetched
// that would be noted.
func (f *families) noteInline(m *manifest.Manifest, pages []manifest.Page) {
	for _, p := range pages {
		if n := int64(m.PageBytes); n > 0 && p.Offset%n == 0 {
			f.note(p.Data, m.PageBytes, uint32(p.Offset/n)+1, m.FileBytes/n)
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
			return slices.Concat(
				m.children[k+1:],
				m.children[:k],
			), min(2*(m.misses-1), lookupSiblingsMax)
		}
		m.ahead = 0
		return nil, 0
	}
	return nil, 0
}

// parent returns the family that has page, and where; nil if it is not known.
func (f *families) parent(page uint32) (m *family, k int) {
	for _, m := range f.all {
		if k := slices.Index(m.children, page); k >= 0 {
			return m, k
		}
	}
	return nil, 0
}

// root returns the page at the root of page's tree, as far as is known.
func (f *families) root(page uint32) uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range depthMax {
		m, _ := f.parent(page)
		if m == nil {
			break
		}
		page = m.page
	}
	return page
}

// after returns the page that follows page below the same parent; 0 if none is known.
func (f *families) after(page uint32) uint32 { return f.beside(page, 1) }

// before returns the page that page follows below the same parent; 0 if none is known.
func (f *families) before(page uint32) uint32 { return f.beside(page, -1) }

func (f *families) beside(page uint32, by int) uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m, k := f.parent(page); m != nil && 0 <= k+by && k+by < len(m.children) {
		return m.children[k+by]
	}
	return 0
}
