package replica_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
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

// TestColdQuery: how many requests one after the other, and how many bytes, it takes to open a
// database of 50 MB, and to read a row by its key, however many records follow the checkpoint.
func TestColdQuery(t *testing.T) {
	const rows = 12_500
	file, root := deep(t, rows)
	p := newSource(t)
	p.Records()
	rootAt := int64(root-1) * testPage
	for range 2 { // with the second one there is a fence
		p.Publish(file, 0, rootAt)
	}
	p.Checkpoint(false)
	warm(t)
	behind := 0
	for _, c := range []struct{ records, open, trips int }{
		{0, 2, 4}, {10, 2, 4}, {70, 3, 5},
	} {
		for ; behind < c.records; behind++ { // scattered, as updates of rows are
			at := int64((behind+1)*7919%rows) * testPage
			file[at+2000]++
			p.Publish(file, 0, rootAt, at)
		}
		synctest.Test(t, func(t *testing.T) {
			const latency = 100 * time.Millisecond
			wait := func() error { <-time.After(latency); return nil }
			p.Hooks.Set(func(string) error { return wait() }, wait)
			p.Hooks.OnRecord(func(string) error { return wait() })
			defer p.Hooks.Set(nil, nil)
			defer p.Hooks.OnRecord(nil)
			defer func() { <-time.After(time.Minute) }() // goroutines that are kept for a while
			objects, began := p.Hooks.Objects(), time.Now()
			all, err := NewSet(Options{Store: p.Store, TempDir: p.t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			defer all.Close()
			r, err := all.Open(t.Context(), p.URI())
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			open := int(time.Since(began) / latency)
			byKey(t, r, root, rows/3)
			trips := int(time.Since(began) / latency)
			objects = p.Hooks.Objects() - objects
			if open != c.open || trips != c.trips || objects > 2+2 { // leaves, and chunks
				t.Errorf("%d records: %d trips to open, %d in all, %d objects; want %d, %d, 4",
					c.records, open, trips, objects, c.open, c.trips)
			}
		})
	}
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
