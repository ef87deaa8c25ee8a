package replica

import (
	"verneuil/spool/sqlitefile"
)

// A full-text search (FTS5) looks each of its terms up in every segment of its index, before it has
// the first row: a page of X_idx, then an interior page of X_data, and a leaf of it. On a cold
// replica these are three misses after one another for each segment. We do not know the term. But
// when the leaf in the first segment is missed, X_idx says between which terms it is, and so which
// pages of the other segments may have it. So all segments are looked through at once.

const (
	// termsSure is how many chunks may be under way for a search beyond what guesses may: it looks
	// into every segment whatever it finds, so that they are hardly guesses.
	termsSure = 16
	// termPagesMax bounds how many pages of a segment are fetched that may have the term.
	termPagesMax = 2
	// termRowsMax bounds how many rows of one page are looked at.
	termRowsMax = 16
)

// termLookup is the search for a term in one segment.
type termLookup struct {
	s        *snapshot
	roots    sqlitefile.FTS5
	segment  int64
	from, to []byte // between which the term is; to is nil: it is not known
}

// noteTermPage is told that a page of a table was missed: p, whose number is page.
func (r *Reader) noteTermPage(p []byte, page uint32) {
	roots, ok := r.s.roots().fts5[r.f.interior.root(page)]
	if !ok {
		return
	}
	// It is read when the first search has the list of segments.
	r.prefetchPages([]uint32{roots.Config}, 1)
	first, last, ok := sqlitefile.LeafRows(p)
	if !ok {
		return
	}
	l := termLookup{s: r.s, roots: roots}
	for row := first; row <= last && row < first+termRowsMax && l.segment == 0; row++ {
		segment, at := sqlitefile.FTS5Place(row)
		if from, to, ok := l.between(segment, at); ok {
			l.segment, l.from, l.to = segment, from, to
		}
	}
	if l.segment == 0 {
		return // the list of segments, or where a long term goes on
	}
	var others []termLookup
	for _, segment := range l.segments() {
		if segment != l.segment {
			other := l
			other.segment = segment
			others = append(others, other)
		}
	}
	r.s.loadAhead(lookUpTerms(&r.guesses, others))
}

// between returns between which terms those on a page of a segment are, as far as that is here.
func (l *termLookup) between(segment, page int64) (from, to []byte, ok bool) {
	if segment == 0 {
		return nil, nil, false
	}
	nodes, _ := l.walk(func(n *sqlitefile.FTS5Node) uint32 { return n.ChildAt(segment, page) })
	return sqlitefile.Join(nodes).Range(segment, page)
}

// walk goes down from the root of the index, as far as pages are here. It returns those it
// passed, and the first that is not here.
func (l *termLookup) walk(
	child func(*sqlitefile.FTS5Node) uint32,
) (nodes []*sqlitefile.FTS5Node, missing uint32) {
	page := l.roots.Idx
	for range depthMax {
		p := l.s.pageIfHere(page)
		if p == nil {
			return nodes, page
		}
		n := sqlitefile.ReadFTS5Node(p, l.s.usable(), l.s.pages())
		if n == nil {
			break
		}
		nodes = append(nodes, n)
		if page = child(n); page == 0 {
			break
		}
	}
	return nodes, 0
}

// segments returns all segments, if the page with their list is here.
func (l *termLookup) segments() []int64 {
	page := newRowWalk(l.s).leaf(l.roots.Data, sqlitefile.FTS5StructureRow)
	return sqlitefile.FTS5Segments(l.s.pageIfHere(page), l.s.usable())
}

// missing returns the pages that l needs next.
func (l *termLookup) missing() (pages []uint32) {
	nodes, page := l.walk(
		func(n *sqlitefile.FTS5Node) uint32 { return n.Child(l.segment, l.from) })
	if page != 0 {
		return []uint32{page}
	}
	walk := newRowWalk(l.s)
	for k, at := range sqlitefile.Join(nodes).Pages(l.segment, l.from, l.to) {
		page, _ := walk.missing(l.roots.Data, sqlitefile.FTS5Rowid(l.segment, at))
		if page != 0 && k < termPagesMax {
			pages = append(pages, page)
		}
	}
	return pages
}

// lookUpTerms returns what lookups need next, as far as there is room, and goes on with them when
// it has come.
func lookUpTerms(g *guesses, lookups []termLookup) (wants []want) {
	if len(lookups) == 0 {
		return nil
	}
	s := lookups[0].s
	waiting := map[int][]termLookup{} // by the chunk that they wait for
	for _, l := range lookups {
		last := -1
		for _, page := range l.missing() {
			if i := s.chunkOf(page); i != last {
				waiting[i], last = append(waiting[i], l), i
			}
		}
	}
	room := g.room() + termsSure
	for i, theirs := range waiting {
		if room--; room < 0 {
			break
		}
		g.guess(i)
		wants = append(wants, want{i, g, func() []want {
			if !s.complete(i) {
				return nil
			}
			return lookUpTerms(g, theirs)
		}})
	}
	return wants
}
