package replica_test

import (
	"bytes"
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	_ "github.com/mattn/go-sqlite3"

	"verneuil/chunkstore"
	"verneuil/replicate/publishtest"
	. "verneuil/replicate/replica"
	"verneuil/spool/sqlitefile"
)

// deep returns a database of so many rows of 3,000 bytes, and the root page of its table.
func deep(t *testing.T, rows int) (file []byte, root uint32) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "db")
	db, err := sql.Open("sqlite3", name)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{
		"pragma journal_mode=off", "pragma synchronous=off",
		"create table t(id integer primary key, b)",
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Exec(`insert into t with recursive c(i) as
		(select 1 union all select i+1 from c where i<?) select i, randomblob(3000) from c`,
		rows); err != nil {
		t.Fatal(err)
	}
	if err := db.QueryRow("select rootpage from sqlite_schema").Scan(&root); err != nil {
		t.Fatal(err)
	}
	if file, err = os.ReadFile(name); err != nil {
		t.Fatal(err)
	}
	return file, root
}

// TestColdQuery: how many requests one after the other, and how many objects, it takes to open a
// database of 20 MB, and to read a row by its key, however many records follow the checkpoint.
func TestColdQuery(t *testing.T) {
	const rows = 5000
	file, root := deep(t, rows)
	warm(t)
	type query struct{ records, open, trips, objects int }
	for _, c := range []struct {
		what        string
		large       bool // leaves are not fetched at once
		near        bool // but a checkpoint says where the interior level is
		everySecond bool // there was a record
		queries     []query
	}{
		{"small", false, false, false, []query{{0, 2, 4, 3}, {10, 2, 4, 3}, {20, 3, 5, 3}}},
		{"written to all the time", false, false, true, []query{{20, 2, 4, 3}}},
		{"large", true, false, false, []query{{0, 2, 5, 3}}},
		{"large, and near", true, true, true, []query{{0, 2, 4, 3}, {20, 2, 4, 3}}},
	} {
		t.Run(c.what, func(t *testing.T) {
			p := newColdSource(t, bytes.Clone(file), root)
			if c.everySecond {
				p.Time = bubbleBegins
			}
			if c.near {
				p.nearLevel()
			}
			p.begin()
			for _, q := range c.queries {
				for p.records < q.records { // scattered, as updates of rows are
					p.next(int64((p.records+1)*7919%rows) * testPage)
				}
				synctest.Test(t, func(t *testing.T) {
					<-time.After(time.Duration(q.records) * time.Second)
					open, trips, objects := p.coldQuery(t, c.large, rows/3)
					if open != q.open || trips != q.trips || objects > q.objects {
						t.Errorf("%d records: %d trips to open, %d in all, %d objects; want %v",
							q.records, open, trips, objects, q)
					}
				})
			}
		})
	}
}

// bubbleBegins is when time begins in a bubble of package synctest.
var bubbleBegins = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// coldSource is a database as deep makes it, the root of which travels inline.
type coldSource struct {
	*source
	file    []byte
	root    uint32
	records int // since the checkpoint
}

func newColdSource(t *testing.T, file []byte, root uint32) *coldSource {
	p := &coldSource{source: newSource(t), file: file, root: root}
	p.Records()
	return p
}

func (p *coldSource) rootAt() int64 { return int64(p.root-1) * testPage }

// nearLevel has near the level below the root.
func (p *coldSource) nearLevel() {
	page := p.file[p.rootAt():][:testPage]
	for _, child := range sqlitefile.Children(page, false, int64(len(p.file)/testPage)) {
		p.Near = append(p.Near, int(int64(child-1)*testPage/chunkstore.ChunkBytes))
	}
	slices.Sort(p.Near)
	p.Near = slices.Compact(p.Near)
}

// begin puts the checkpoint.
func (p *coldSource) begin() {
	for range 2 { // with the second one there is a fence
		p.Publish(p.file, 0, p.rootAt())
	}
	p.Checkpoint(false)
}

// next appends a record of a change at off.
func (p *coldSource) next(off int64) {
	p.file[off+2000]++
	p.Publish(p.file, 0, p.rootAt(), off)
	p.records++
}

// coldQuery reads a row in a process that has nothing. Trips and objects are in all.
func (p *coldSource) coldQuery(
	t *testing.T, large bool, rowid int64,
) (open, trips, objects int) {
	const latency = 100 * time.Millisecond
	wait := func() error { <-time.After(latency); return nil }
	p.Hooks.Set(func(string) error { return wait() }, wait)
	p.Hooks.OnRecord(func(string) error { return wait() })
	defer p.Hooks.Set(nil, nil)
	defer p.Hooks.OnRecord(nil)
	defer func() { <-time.After(time.Minute) }() // goroutines that are kept for a while
	before, began := p.Hooks.Objects(), time.Now()
	all, err := NewSet(Options{Store: p.Store, TempDir: p.t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	if large {
		all.SetLeavesAtOnce(0)
	}
	r, err := all.Open(t.Context(), p.URI())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	open = int(time.Since(began) / latency)
	byKey(t, r, p.root, rowid)
	return open, int(time.Since(began) / latency), p.Hooks.Objects() - before
}

// warm has made, outside of a bubble, what a process makes once.
func warm(t *testing.T) {
	t.Helper()
	var s chunkstore.Plain
	b := make([]byte, 1000)
	_, err := chunkstore.OpenObject(s, nil, s.Identify(b),
		chunkstore.SealObject(s, nil, s.Identify(b), b))
	if err == nil {
		_, err = chunkstore.DecodeBody(chunkstore.EncodeBody(b))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// byKey reads the pages that SQLite reads for a row.
func byKey(t *testing.T, r *Reader, root uint32, rowid int64) {
	t.Helper()
	pages := r.Size() / publishtest.PageBytes
	for page := root; ; {
		b, _, err := r.ReadPage(context.Background(), page)
		if err != nil {
			t.Fatal(err)
		}
		node := sqlitefile.ReadTableNode(b, false, pages)
		if node == nil {
			return
		}
		page = node.Child(rowid)
	}
}
