package sqlitefile_test

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"verneuil/spool/sqlitefile"
)

// fullText is a database with a full-text index of several segments, and the shell to ask.
type fullText struct {
	t    *testing.T
	name string
	file []byte
}

func newFullText(t *testing.T) *fullText {
	t.Helper()
	f := &fullText{t: t, name: filepath.Join(t.TempDir(), "db")}
	script := `pragma page_size=1024; create virtual table x using fts5(a);
		insert into x(x, rank) values('pgsz', 512); insert into x(x, rank) values('automerge', 0);`
	for k := range 7 {
		script += fmt.Sprintf(`insert into x with recursive c(i) as
			(select 1 union all select i+1 from c where i<%d)
			select hex(i*7919%%4000)||' '||hex(i*104729%%3000+%d) from c;`, 150*(k+1), k)
	}
	f.run(script)
	var err error
	if f.file, err = os.ReadFile(f.name); err != nil {
		t.Fatal(err)
	}
	return f
}

// run returns the rows that statements give, as lists of columns.
func (f *fullText) run(statements string) (rows [][]string) {
	f.t.Helper()
	out, err := osexec.Command("sqlite3", "-batch", "-bail", f.name, statements).CombinedOutput()
	if err != nil {
		f.t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "|"))
	}
	return rows
}

func (f *fullText) page(n uint32) []byte { return f.file[(n-1)*pageBytes:][:pageBytes] }

func (f *fullText) pages() int64 { return int64(len(f.file) / pageBytes) }

func (f *fullText) number(text string) int64 {
	f.t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}

// node reads a page of x_idx.
func (f *fullText) node(page uint32) *sqlitefile.FTS5Node {
	f.t.Helper()
	n := sqlitefile.ReadFTS5Node(f.page(page), pageBytes, f.pages())
	if n == nil {
		f.t.Fatalf("page %d of x_idx cannot be read", page)
	}
	return n
}

// way returns the nodes from the root down.
func (f *fullText) way(
	page uint32, child func(*sqlitefile.FTS5Node) uint32,
) (nodes []*sqlitefile.FTS5Node) {
	for page != 0 {
		n := f.node(page)
		nodes = append(nodes, n)
		page = child(n)
	}
	return nodes
}

// What we read of a full-text index is what SQLite says of it, and each entry is found by its term
// and by its page.
func TestFTS5(t *testing.T) {
	f := newFullText(t)
	roots := sqlitefile.FTS5Roots(f.page(1))
	if len(roots) != 1 {
		t.Fatalf("full-text indexes %v, want one", roots)
	}
	for name, root := range map[string]uint32{
		"x_data": roots[0].Data, "x_idx": roots[0].Idx, "x_config": roots[0].Config,
	} {
		want := f.run("select rootpage from sqlite_schema where name='" + name + "'")[0][0]
		if strconv.Itoa(int(root)) != want {
			t.Errorf("%s has its root on page %d, want %s", name, root, want)
		}
	}
	var segments []int64
	var entries []sqlitefile.FTS5Entry
	for _, row := range f.run("select segid, hex(term), pgno>>1 from x_idx order by segid, term") {
		term, err := hex.DecodeString(row[1])
		if err != nil {
			t.Fatal(err)
		}
		e := sqlitefile.FTS5Entry{Segment: f.number(row[0]), Term: term, Page: f.number(row[2])}
		entries = append(entries, e)
		if !slices.Contains(segments, e.Segment) {
			segments = append(segments, e.Segment)
		}
	}
	if len(f.node(roots[0].Idx).Entries) == len(entries) || len(segments) < 5 {
		t.Fatalf("%d entries of %d segments: all on one page, or too few", len(entries),
			len(segments))
	}
	for k, e := range entries {
		var to []byte
		if k+1 < len(entries) && entries[k+1].Segment == e.Segment {
			to = entries[k+1].Term
		}
		nodes := f.way(roots[0].Idx,
			func(n *sqlitefile.FTS5Node) uint32 { return n.Child(e.Segment, e.Term) })
		if pages := sqlitefile.Join(nodes).Pages(e.Segment, e.Term, to); !slices.Equal(pages,
			[]int64{e.Page}) {
			t.Errorf("term %q of segment %d is on pages %d, want %d", e.Term, e.Segment, pages,
				e.Page)
		}
		nodes = f.way(roots[0].Idx,
			func(n *sqlitefile.FTS5Node) uint32 { return n.ChildAt(e.Segment, e.Page) })
		from, upTo, ok := sqlitefile.Join(nodes).Range(e.Segment, e.Page)
		if !ok || !bytes.Equal(from, e.Term) || upTo != nil && !bytes.Equal(upTo, to) {
			t.Errorf("page %d of segment %d has %q to %q (%v), want %q to %q", e.Page, e.Segment,
				from, upTo, ok, e.Term, to)
		}
		row := sqlitefile.FTS5Rowid(e.Segment, e.Page)
		if s, p := sqlitefile.FTS5Place(row); s != e.Segment || p != e.Page {
			t.Errorf("row %d is page %d of segment %d, want %d of %d", row, p, s, e.Page, e.Segment)
		}
		if k%50 == 0 && len(f.run(fmt.Sprintf("select 1 from x_data where id=%d", row))) != 1 {
			t.Errorf("x_data has no row %d", row)
		}
	}
	got := f.segments(roots[0].Data)
	slices.Sort(got)
	if !slices.Equal(got, segments) {
		t.Errorf("segments %d, want %d", got, segments)
	}
}

// segments looks for the list of segments on all leaves of x_data.
func (f *fullText) segments(page uint32) (all []int64) {
	f.t.Helper()
	for _, child := range sqlitefile.Children(f.page(page), false, f.pages()) {
		all = append(all, f.segments(child)...)
	}
	if first, last, ok := sqlitefile.LeafRows(f.page(page)); ok {
		if cmp.Compare(first, last) > 0 {
			f.t.Errorf("page %d has rows %d to %d", page, first, last)
		}
		all = append(all, sqlitefile.FTS5Segments(f.page(page), pageBytes)...)
	}
	return all
}

// FuzzFTS5: whatever is on a page, nothing panics, and what is said of it is no more than it has.
func FuzzFTS5(f *testing.F) {
	f.Add([]byte{10, 0, 0, 0, 1, 0, 0, 0, 0, 12, 8, 4, 1, 14, 1, 7, '0', 4})
	f.Add([]byte{13, 0, 0, 0, 1, 0, 0, 0, 0, 10, 9, 10, 3, 0, 26, 0, 0, 0, 0, 1, 1, 1})
	f.Fuzz(func(t *testing.T, page []byte) {
		page = append(page, make([]byte, max(0, 512-len(page)))...)
		if n := sqlitefile.ReadFTS5Node(page, len(page), 100); n != nil {
			if len(n.Entries) > len(page) {
				t.Errorf("%d entries on %d bytes", len(n.Entries), len(page))
			}
			sqlitefile.Join([]*sqlitefile.FTS5Node{n, n}).Pages(1, []byte("0"), nil)
			n.Child(1, []byte("0"))
			n.ChildAt(1, 1)
			n.Range(1, 1)
		}
		if s := sqlitefile.FTS5Segments(page, len(page)); len(s) > len(page) {
			t.Errorf("%d segments in %d bytes", len(s), len(page))
		}
		sqlitefile.LeafRows(page)
		sqlitefile.FTS5Roots(page)
	})
}
