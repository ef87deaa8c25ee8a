package sqlitefile_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	_ "github.com/mattn/go-sqlite3"

	"verneuil/spool/sqlitefile"
)

// database is a file that SQLite wrote, and SQLite to ask.
type database struct {
	*sql.DB
	file []byte
}

const pageBytes = 1024

func newDatabase(t *testing.T, statements ...string) database {
	t.Helper()
	name := filepath.Join(t.TempDir(), "db")
	db, err := sql.Open("sqlite3", name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	for _, s := range append([]string{"pragma page_size=1024"}, statements...) {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	file, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return database{db, file}
}

func (d database) page(n uint32) []byte { return d.file[(n-1)*pageBytes : n*pageBytes] }

func (d database) pages() int64 { return int64(len(d.file) / pageBytes) }

func (d database) root(t *testing.T, name string) (root uint32) {
	t.Helper()
	row := d.QueryRow("select rootpage from sqlite_schema where name=?", name)
	if err := row.Scan(&root); err != nil {
		t.Fatal(err)
	}
	return root
}

// leaves calls yield with the leaf pages of a tree, in order.
func (d database) leaves(root uint32, yield func(page []byte)) {
	children := sqlitefile.Children(d.page(root), root == 1, d.pages())
	if children == nil {
		yield(d.page(root))
	}
	for _, child := range children {
		d.leaves(child, yield)
	}
}

// What the leaves of an index name is what SQLite finds by it. (Interior pages hold entries,
// too, so that some are missing here.)
func TestIndexEntries(t *testing.T) {
	d := newDatabase(t, "create table t(id integer primary key, a, b)",
		`insert into t with recursive c(i) as (select -300 union all select i+1 from c where i<3000)
			select i*i*i, i%70, case i%4 when 0 then null when 1 then i/200 when 2 then 'x'||i%3
			else zeroblob(i%2000) end from c`,
		"create index i on t(a, b)")
	var want []sqlitefile.IndexEntry
	rows, err := d.Query(`select id, a is lag(a) over w and b is lag(b) over w from t
		window w as (order by a, b, id) order by a, b, id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var e sqlitefile.IndexEntry
		if err := rows.Scan(&e.Rowid, &e.Same); err != nil {
			t.Fatal(err)
		}
		want = append(want, e)
	}
	at, found, same := 0, 0, 0
	d.leaves(d.root(t, "i"), func(page []byte) {
		for k, e := range sqlitefile.IndexEntries(page, pageBytes) {
			for at < len(want) && want[at].Rowid != e.Rowid {
				at++
			}
			if at == len(want) {
				t.Fatalf("row %d is not next in the index", e.Rowid)
			}
			if e.Same && (k == 0 || !want[at].Same) {
				t.Fatalf("row %d has not the key of the one before", e.Rowid)
			}
			if found++; e.Same {
				same++
			}
		}
	})
	if found < len(want)/2 || same < 100 {
		t.Errorf("%d entries of %d found, %d with the key of the one before",
			found, len(want), same)
	}
}

// The way from a table's root to each row ends at the leaf that has it.
func TestTableNode(t *testing.T) {
	d := newDatabase(t, "create table t(id integer primary key, s)",
		`insert into t with recursive c(i) as
			(select -3000 union all select i+1 from c where i<3000)
			select i*i*i, zeroblob(40) from c`)
	root := d.root(t, "t")
	depth := 0
	for i := int64(-3000); i <= 3000; i += 7 {
		page := root
		for depth = 0; ; depth++ {
			n := sqlitefile.ReadTableNode(d.page(page), false, d.pages())
			if n == nil {
				break
			}
			page = n.Child(i * i * i)
		}
		if !leafHas(d.page(page), i*i*i) {
			t.Fatalf("row %d is not on page %d", i*i*i, page)
		}
	}
	if depth < 2 {
		t.Errorf("the tree has %d levels: too few to test", depth)
	}
}

// leafHas reads a table's leaf page in another way than the code under test.
func leafHas(page []byte, rowid int64) bool {
	if page[0] != 13 {
		return false
	}
	cells := int(page[3])<<8 | int(page[4])
	for k := range cells {
		at := int(page[8+2*k])<<8 | int(page[9+2*k])
		for page[at] >= 0x80 { // the payload's length
			at++
		}
		at++
		var v uint64
		for n := 0; ; n++ {
			if n == 8 {
				v = v<<8 | uint64(page[at])
				break
			}
			v = v<<7 | uint64(page[at]&0x7f)
			if page[at] < 0x80 {
				break
			}
			at++
		}
		if int64(v) == rowid {
			return true
		}
	}
	return false
}

func TestIndexRoots(t *testing.T) {
	d := newDatabase(t, "create table a(x, y unique)", "create table b(x)",
		"create view v as select 1", "create index bx on b(x)", "create index ax on a(x)")
	got := sqlitefile.IndexRoots(d.page(1))
	want := map[string]string{"sqlite_autoindex_a_1": "a", "ax": "a", "bx": "b"}
	if len(got) != len(want) {
		t.Errorf("found %v", got)
	}
	for index, table := range want {
		if got[d.root(t, index)] != d.root(t, table) {
			t.Errorf("index %s is not of table %s: %v", index, table, got)
		}
	}
}

// What ANALYZE makes is found, whatever the schema's encoding is.
func TestStatRoot(t *testing.T) {
	for _, encoding := range []string{"pragma encoding='UTF-8'", "pragma encoding='UTF-16le'"} {
		statements := []string{encoding, "create table a(x unique)", "insert into a values(1)"}
		if got := sqlitefile.StatRoot(newDatabase(t, statements...).page(1)); got != 0 {
			t.Errorf("%s: page %d, and nothing was analyzed", encoding, got)
		}
		d := newDatabase(t, append(statements, "analyze")...)
		if got, want := sqlitefile.StatRoot(d.page(1)), d.root(t, "sqlite_stat1"); got != want {
			t.Errorf("%s: page %d, want %d", encoding, got, want)
		}
	}
}

func FuzzIndex(f *testing.F) {
	page := make([]byte, 512)
	copy(page, []byte{10, 0, 0, 0, 1, 1, 0xf8, 0, 1, 0xf8})
	copy(page[0x1f8:], []byte{4, 3, 1, 1, 5, 9})
	f.Add(page)
	f.Add(append([]byte{13}, page[1:]...))
	f.Fuzz(func(t *testing.T, page []byte) {
		for range sqlitefile.IndexEntries(page, len(page)) {
		}
		sqlitefile.IndexRoots(page, page)
		for _, first := range []bool{false, true} {
			if n := sqlitefile.ReadTableNode(page, first, 100); n != nil {
				if child := n.Child(7); child < 2 || child > 100 {
					t.Errorf("child %d", child)
				}
			}
		}
	})
}
