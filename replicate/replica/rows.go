package replica

import (
	"slices"
	"sync"

	"verneuil/chunkstore"
	"verneuil/spool/sqlitefile"
)

// A query by an index reads a leaf of the index, and then for each entry a row of the table: on
// a cold replica each is a miss after the other. But the leaf names the rows that come next. So
// when one is missed, it is remembered, as a scan. When a page of its table is missed that has one
// of its rows, the pages of the rows after that are fetched, through the table's interior pages:
// those of rows with the same key at once, and others from the second row on, as far as there
// is room for guesses. That does not wait for the page that was missed, where its place in the tree
// says which row it is for. When half of them are read, the next ones are fetched. Below an
// interior page there are many rows, of which the leaf may name several: then the table's leaf is
// awaited. A scan may go up or down: the second row shows it.

const (
	// scansMax is how many indexes a query goes through at a time.
	scansMax = 4
	// rowsMax bounds how many entries are looked at for one launch.
	rowsMax = 1024
)

// indexScan is a leaf of an index that was missed, and where in it SQLite is.
type indexScan struct {
	root    uint32 // of the index
	table   uint32 // root page of its table
	leaf    uint32 // the last one of which entries has the entries
	entries []sqlitefile.IndexEntry
	down    bool // it goes from the last entry to the first: so entries are turned round
	misses  int  // rows whose pages were missed
	passed  int  // misses of which it was not sure which entry they were for
	depth   int  // of the table's leaves below its root; 0: not known
	at      int  // entry whose row was missed last
	next    int  // entry whose row was not looked for yet
}

// noteIndexLeaf is told of a page that was missed: p, whose number is page.
func (r *Reader) noteIndexLeaf(p []byte, page uint32) {
	entries := sqlitefile.IndexEntries(p, r.s.usable())
	if len(entries) == 0 {
		return
	}
	root := r.f.interior.root(page)
	table, ok := r.s.roots().index[root]
	if !ok {
		return
	}
	scan := &indexScan{root: root, table: table, leaf: page, entries: entries}
	k := slices.IndexFunc(r.scans, func(old *indexScan) bool { return old.root == root })
	if k >= 0 {
		old := r.scans[k]
		up, down := r.f.interior.after(old.leaf) == page, r.f.interior.after(page) == old.leaf
		if up && !old.down || down && old.down { // it goes on
			scan.misses, scan.depth = old.misses, old.depth
			if old.down {
				scan.turn()
				scan.at, scan.next = 0, 0
			}
		}
		r.scans = slices.Delete(r.scans, k, k+1)
	} else if len(r.scans) == scansMax {
		r.scans = r.scans[:scansMax-1]
	}
	r.scans = slices.Insert(r.scans, 0, scan)
}

// rowMiss is a page on the way to a row of a scan, that a reader waits for.
type rowMiss struct {
	r     *Reader
	s     *snapshot
	scan  *indexScan
	depth int     // of the page below the root of its table
	rows  []int64 // that wait for the same chunk, and for whose leaves there is room kept
}

// missedRow is told of a page that was missed, before it comes: where it is known which row it is
// for, the rows after that one need not wait for it. It returns nil where that is not known.
// Otherwise its came or failed is to be called once.
func (r *Reader) missedRow(page uint32) *rowMiss {
	root := r.f.interior.root(page)
	for _, scan := range r.scans {
		if scan.table != root || page == root {
			continue
		}
		walk := newRowWalk(r.s)
		k, depth, sure := scan.locate(walk, page)
		leaf := scan.depth > 0 && depth == scan.depth
		if k >= 0 && (leaf || sure || scan.passed > 0) {
			scan.come(k)
			return &rowMiss{r, r.s, scan, depth, r.launch(scan, walk, r.s.chunkOf(page))}
		}
	}
	return nil
}

// came says that the page is here, which is a leaf or not.
func (m *rowMiss) came(leaf bool) {
	if leaf {
		m.scan.depth = m.depth
	}
	if len(m.rows) > 0 {
		m.s.loadAhead(m.r.below(m.s, m.scan.table, m.rows))
	}
}

// failed says that the page will not be here.
func (m *rowMiss) failed() { m.r.guesses.keep(-len(m.rows)) }

// noteTablePage is told that a page of a table was missed, a leaf or not, and has come. missedRow
// did not know its row.
func (r *Reader) noteTablePage(page uint32, leaf bool) {
	root := r.f.interior.root(page)
	for _, scan := range r.scans {
		if scan.table != root {
			continue
		}
		walk := newRowWalk(r.s)
		k, depth, sure := scan.locate(walk, page)
		if k < 0 {
			continue
		}
		if !leaf && !sure && scan.passed == 0 {
			scan.passed++ // the leaf comes next, and says more
			return
		}
		if leaf {
			scan.depth = depth
		}
		scan.come(k)
		r.launch(scan, walk, -1)
		return
	}
}

// locate is find, by which a scan learns its direction.
func (scan *indexScan) locate(walk *rowWalk, page uint32) (k, depth int, sure bool) {
	if scan.misses == 1 && scan.turns(walk, page) {
		scan.turn()
	}
	return scan.find(walk, page)
}

// come notes that a page on the way to the row of entry k is missed.
func (scan *indexScan) come(k int) {
	if scan.misses == 0 || k != scan.at {
		scan.misses++
	}
	scan.at, scan.next = k, max(scan.next, k+1)
}

// turns reports whether page, on the way to the second row that was missed, is nearer before the
// first one than after it.
func (scan *indexScan) turns(walk *rowWalk, page uint32) bool {
	passes := func(k int) bool {
		return 0 <= k && k < len(scan.entries) &&
			walk.passes(scan.table, scan.entries[k].Rowid, page) >= 0
	}
	for far := range min(len(scan.entries), rowsMax) {
		if passes(scan.at + far) {
			return false
		} else if passes(scan.at - far) {
			return true
		}
	}
	return false
}

// turn turns the scan round.
func (scan *indexScan) turn() {
	n := len(scan.entries)
	turned := make([]sqlitefile.IndexEntry, n)
	for k, e := range scan.entries {
		turned[n-1-k] = sqlitefile.IndexEntry{
			Rowid: e.Rowid, Same: k+1 < n && scan.entries[k+1].Same,
		}
	}
	scan.entries, scan.down = turned, !scan.down
	scan.at = n - 1 - scan.at
	scan.next = scan.at + 1
}

// find returns the first entry from the last one on whose row is below page, or on it, and how far
// below the root that is; -1 if there is none. sure says that it is the one that is read: there
// is none with another key, or the scan was found before.
func (scan *indexScan) find(walk *rowWalk, page uint32) (k, depth int, sure bool) {
	k, other := -1, false
	for n := scan.at; n < min(len(scan.entries), scan.at+rowsMax); n++ {
		other = other || !scan.entries[n].Same
		at := walk.passes(scan.table, scan.entries[n].Rowid, page)
		switch {
		case at < 0:
		case k < 0:
			k, depth, other = n, at, false
			if scan.misses > 0 {
				return k, depth, true
			}
		case other:
			return k, depth, false
		}
	}
	return k, depth, true
}

// launchMore goes on with the newest scan, if half of what may be guessed is used up.
func (r *Reader) launchMore() {
	if len(r.scans) > 0 && r.scans[0].misses > 1 && r.guesses.room() >= guessFree/2 {
		r.launch(r.scans[0], newRowWalk(r.s), -1)
	}
}

// launch fetches what the rows after scan.next lie in, as far as there is room. Chunk coming, if it
// is not -1, is fetched already: what it returns are the rows that wait for it.
func (r *Reader) launch(scan *indexScan, walk *rowWalk, coming int) []int64 {
	var waves []*wave
	mine := &wave{chunk: coming}
	for room, n := r.guesses.room(), 0; room > 0 && n < rowsMax; n++ {
		if scan.next == len(scan.entries) && (scan.misses < 2 || !r.extend(scan)) {
			break
		}
		entry := scan.entries[scan.next]
		if scan.misses < 2 && !entry.Same {
			break // a lookup, as far as is known
		}
		scan.next++
		page, depth := walk.missing(scan.table, entry.Rowid)
		if page == 0 {
			continue
		}
		i := r.s.chunkOf(page)
		k := slices.IndexFunc(waves, func(w *wave) bool { return w.chunk == i })
		w := mine
		switch {
		case i == coming:
		case k >= 0:
			w = waves[k]
		default:
			w = &wave{chunk: i, first: scan.next - 1}
			waves = append(waves, w)
			if !r.guesses.has(i) {
				room--
			}
		}
		if scan.depth == 0 || depth < scan.depth { // its leaf comes later
			w.rows = append(w.rows, entry.Rowid)
			room--
		}
	}
	r.guesses.keep(len(mine.rows))
	r.start(scan, waves)
	return mine.rows
}

// start fetches the chunks of waves, and keeps room for the leaves of their rows.
func (r *Reader) start(scan *indexScan, waves []*wave) {
	s, table := r.s, scan.table // r may move on meanwhile
	wants := make([]want, len(waves))
	for k, w := range waves {
		r.guesses.keep(len(w.rows))
		wants[k] = want{w.chunk, &r.guesses, func() []want { return r.below(s, table, w.rows) }}
	}
	n := s.loadAhead(wants)
	for _, w := range waves[n:] {
		r.guesses.keep(-len(w.rows))
	}
	if n < len(waves) {
		scan.next = waves[n].first // later
	}
}

// wave are the rows that wait for a chunk.
type wave struct {
	chunk int
	first int // the first row's entry
	rows  []int64
}

// extend adds the entries of the next leaf of the index, if that is there.
func (r *Reader) extend(scan *indexScan) bool {
	next := r.f.interior.after(scan.leaf)
	if scan.down {
		next = r.f.interior.before(scan.leaf)
	}
	page := r.s.pageIfHere(next)
	if page == nil {
		return false
	}
	more := indexScan{entries: sqlitefile.IndexEntries(page, r.s.usable())}
	if scan.down {
		more.turn()
	}
	scan.entries = append(slices.Clone(scan.entries[scan.at:]), more.entries...)
	scan.leaf, scan.next, scan.at = next, scan.next-scan.at, 0
	return len(more.entries) > 0
}

// below returns what to load for rows whose interior page has come, and for which there is room
// kept.
func (r *Reader) below(s *snapshot, table uint32, rows []int64) (wants []want) {
	defer r.guesses.keep(-len(rows)) // when those are guessed that take the room
	walk, asked := newRowWalk(s), map[int]bool{}
	for _, row := range rows {
		page, _ := walk.missing(table, row)
		if page == 0 || asked[s.chunkOf(page)] {
			continue
		}
		asked[s.chunkOf(page)] = true
		r.guesses.guess(s.chunkOf(page))
		wants = append(wants, want{chunk: s.chunkOf(page), by: &r.guesses})
	}
	return wants
}

// rowWalk finds the pages of rows in what is there of one version. Each of its interior pages is
// decoded once.
type rowWalk struct {
	s     *snapshot
	nodes map[uint32]*sqlitefile.TableNode
}

func newRowWalk(s *snapshot) *rowWalk {
	return &rowWalk{s, map[uint32]*sqlitefile.TableNode{}}
}

// depthMax is more levels than a b-tree has.
const depthMax = 20

// missing returns the first page on the way from root to a row that is not there, and how
// far below root that is; 0 if all are.
func (w *rowWalk) missing(root uint32, rowid int64) (page uint32, depth int) {
	page = root
	for depth := range depthMax {
		n, here := w.node(page)
		if !here {
			return page, depth
		}
		if n == nil {
			break // a leaf
		}
		page = n.Child(rowid)
	}
	return 0, 0
}

// leaf returns the page at the end of the way from root to a row; 0 if it is not here.
func (w *rowWalk) leaf(root uint32, rowid int64) uint32 {
	page := root
	for range depthMax {
		n, here := w.node(page)
		if !here {
			return 0
		}
		if n == nil {
			return page
		}
		page = n.Child(rowid)
	}
	return 0
}

// passes returns how far below root page is on the way to a row; -1 if it is not.
func (w *rowWalk) passes(root uint32, rowid int64, page uint32) int {
	at := root
	for depth := range depthMax {
		if at == page {
			return depth
		}
		n, _ := w.node(at)
		if n == nil {
			break
		}
		at = n.Child(rowid)
	}
	return -1
}

// node returns an interior page; nil if it is a leaf, or not here.
func (w *rowWalk) node(page uint32) (n *sqlitefile.TableNode, here bool) {
	if n, ok := w.nodes[page]; ok {
		return n, true
	}
	p := w.s.pageIfHere(page)
	if p == nil {
		return nil, false
	}
	n = sqlitefile.ReadTableNode(p, page == 1, w.s.pages())
	w.nodes[page] = n
	return n, true
}

// pages is how many pages the version has.
func (s *snapshot) pages() int64 { return s.m.FileBytes / int64(max(1, s.m.PageBytes)) }

// chunkOf returns the chunk that has a page.
func (s *snapshot) chunkOf(page uint32) int {
	return int((int64(page) - 1) * int64(s.m.PageBytes) / chunkstore.ChunkBytes)
}

// pageIfHere returns a page as SQLite would read it; nil if it is not here, or there is none.
func (s *snapshot) pageIfHere(page uint32) []byte {
	if page == 0 || s.m.PageBytes == 0 || int64(page) > s.pages() {
		return nil
	}
	p := make([]byte, s.m.PageBytes)
	off := (int64(page) - 1) * int64(s.m.PageBytes)
	if ok, err := s.readAt(p, s.chunkOf(page), off); !ok || err != nil {
		return nil
	}
	return p
}

// usable is a page's size without the bytes that the database reserves in each.
func (s *snapshot) usable() int {
	const reserved = 20 // file format, section 1.3.4
	return s.m.PageBytes - int(s.table.head.header[reserved])
}

// schema is what the schema says of the roots of b-trees. It is read once, when an index is read:
// then it is there.
type schema struct {
	once  sync.Once
	index map[uint32]uint32          // of indexes: their tables' roots
	fts5  map[uint32]sqlitefile.FTS5 // full-text indexes, by the root of their data
}

// roots returns what the schema says, as far as it is there.
func (s *snapshot) roots() *schema {
	s.schema.once.Do(func() {
		first := s.pageIfHere(1)
		if first == nil {
			return
		}
		pages := [][]byte{first}
		for _, child := range sqlitefile.Children(first, true, s.pages()) {
			if p := s.pageIfHere(child); p != nil {
				pages = append(pages, p)
			}
		}
		s.schema.index = sqlitefile.IndexRoots(pages...)
		s.schema.fts5 = map[uint32]sqlitefile.FTS5{}
		for _, f := range sqlitefile.FTS5Roots(pages...) {
			s.schema.fts5[f.Data] = f
		}
	})
	return &s.schema
}
