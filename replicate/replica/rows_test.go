package replica_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3"

	"verneuil/chunkstore"
	"verneuil/replicate/publishtest"
	. "verneuil/replicate/replica"
	"verneuil/spool/sqlitefile"
)

// indexed returns a database whose index names rows that lie far from each other, ten for each
// key, and the root pages of the table and the index.
func indexed(t testing.TB, rows int) (file []byte, table, index uint32) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "db")
	db, err := sql.Open("sqlite3", name)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{
		`create table t(id integer primary key, k, s)`,
		fmt.Sprintf(`insert into t
			with recursive c(i) as (select 1 union all select i+1 from c where i<%[1]d)
			select i, i*7919%%%[1]d/10, hex(randomblob(300)) from c`, rows),
		`create index by_k on t(k)`,
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	const roots = `select a.rootpage, b.rootpage from sqlite_schema a, sqlite_schema b
		where a.name='t' and b.name='by_k'`
	if err := db.QueryRow(roots).Scan(&table, &index); err != nil {
		t.Fatal(err)
	}
	if file, err = os.ReadFile(name); err != nil {
		t.Fatal(err)
	}
	return file, table, index
}

// query reads what SQLite would for the rows of n index entries, waiting until all that is fetched
// ahead has come. It returns how often it had to wait, and how many chunks it needs. The roots
// travel inline.
func query(
	t *testing.T, all *Set, r *Reader, table, index uint32, n int, down bool,
) (waits, needed int) {
	t.Helper()
	chunks := map[uint32]bool{}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	read := func(page uint32) []byte {
		p, missed, err := r.ReadPage(context.Background(), page)
		if err != nil {
			t.Fatal(err)
		}
		if page != table && page != index {
			chunks[(page-1)/(chunkstore.ChunkBytes/publishtest.PageBytes)] = true
		}
		if missed {
			waits++
			for !all.Quiet() {
				<-tick.C
			}
		}
		return p
	}
	pages := r.Size() / publishtest.PageBytes
	leaf := index
	for {
		children := sqlitefile.Children(read(leaf), false, pages)
		if children == nil {
			break
		}
		leaf = children[len(children)/2]
	}
	entries := sqlitefile.IndexEntries(read(leaf), publishtest.PageBytes)
	if len(entries) < n {
		t.Fatalf("%d entries in a leaf", len(entries))
	}
	if down {
		slices.Reverse(entries)
	}
	for _, e := range entries[:n] {
		for page := table; ; {
			node := sqlitefile.ReadTableNode(read(page), false, pages)
			if node == nil {
				break
			}
			page = node.Child(e.Rowid)
		}
	}
	return waits, len(chunks)
}

// An index's leaf says which rows come next: they are fetched together, and few in vain.
func TestRowsAhead(t *testing.T) {
	file, table, index := indexed(t, 20_000)
	for _, c := range []struct {
		rows, waitsMax int
		down           bool
	}{
		{1, 3, false},
		{10, 5, false}, // about one key: its rows are known with the first
		{100, 10, false},
		{1, 3, true},
		{10, 5, true},
		{100, 10, true},
	} {
		p := newSource(t)
		root := func(page uint32) int64 { return int64(page-1) * publishtest.PageBytes }
		p.Publish(file, 0, root(table), root(index))
		all := p.follow(Options{})
		waits, needed := query(t, all, p.open(all), table, index, c.rows, c.down)
		gets := p.Hooks.Objects() - 1 // without the leaf of the tree
		t.Logf("%d rows: %d chunks needed, %d fetched in %d requests, %d waits",
			c.rows, needed, gets, p.Hooks.Gets()-1, waits)
		if waits > c.waitsMax {
			t.Errorf("%d rows: waited %d times, at most %d wanted", c.rows, waits, c.waitsMax)
		}
		vainMax := 8 + needed/3
		if c.rows == 1 {
			vainMax = 4 // of the rows with the same key, that nobody reads here
		}
		if gets-needed > vainMax {
			t.Errorf("%d rows: %d chunks needed, %d fetched, at most %d more wanted",
				c.rows, needed, gets, vainMax)
		}
	}
}

// FuzzF9ReadAhead: whatever is in the pages of a database, what is fetched ahead because of it
// changes nothing of what is read, and nothing panics.
func FuzzF9ReadAhead(f *testing.F) {
	good, table, index := indexed(f, 6000)
	pages := uint32(len(good) / publishtest.PageBytes)
	for seed := range uint64(12) {
		f.Add(seed, uint16(8*seed))
	}
	f.Fuzz(func(t *testing.T, seed uint64, damages uint16) {
		random := rand.New(rand.NewPCG(seed, 0))
		file := bytes.Clone(good)
		for range damages % 512 { // most of them in headers, and where cells and children are
			page := 1 + random.IntN(int(pages)-1)
			at := min(random.IntN(publishtest.PageBytes), random.IntN(publishtest.PageBytes))
			file[page*publishtest.PageBytes+at] = byte(random.Uint32())
		}
		p := newSource(t)
		root := func(page uint32) int64 { return int64(page-1) * publishtest.PageBytes }
		p.Publish(file, 0, root(table), root(index))
		all := p.follow(Options{})
		r := p.open(all)
		read := func(page uint32) []byte {
			got, _, err := r.ReadPage(t.Context(), page)
			if err != nil {
				t.Fatalf("page %d: %v", page, err)
			}
			want := file[(page-1)*publishtest.PageBytes:][:publishtest.PageBytes]
			if page > 1 && !bytes.Equal(got, want) {
				t.Fatalf("page %d has other bytes", page)
			}
			return got
		}
		read(1)
		for range 20 { // a leaf of the index, a row that it names, and something else
			leaf := index
			for range 20 {
				children := sqlitefile.Children(read(leaf), false, int64(pages))
				if children == nil {
					break
				}
				leaf = children[random.IntN(len(children))]
			}
			entries := sqlitefile.IndexEntries(read(leaf), publishtest.PageBytes)
			for k := range min(len(entries), 1+random.IntN(20)) {
				for page, depth := table, 0; depth < 20; depth++ {
					node := sqlitefile.ReadTableNode(read(page), false, int64(pages))
					if node == nil {
						break
					}
					page = node.Child(entries[k].Rowid)
				}
			}
			read(1 + random.Uint32N(pages))
		}
	})
}
