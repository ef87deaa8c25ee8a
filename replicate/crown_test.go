package replicate

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/mattn/go-sqlite3"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/courier"
	"verneuil/replicate/replica"
	"verneuil/spool/sqlitefile"
)

// rooted is a world whose database has a table of several levels: the root is page 300,
// in chunk 18, and hardly compresses.
func rooted(t *testing.T) (w *world, root func(fill byte)) {
	w = newWorld(t, 1, 1)
	w.roots = []uint32{2, 300, 0, 8}
	root = func(fill byte) {
		page := bytes.Repeat([]byte{fill}, w.page)
		rand.NewChaCha8([32]byte{fill}).Read(page[1024:])
		page[0] = 5
		w.write(299, page)
	}
	w.begin()
	for n := 1; n < 3200; n++ {
		w.write(n, w.pageOf(n, 0, byte(100+n%100)))
	}
	root(1)
	w.commit()
	return w, root
}

// inlineAt reports whether m carries page n, from 1, as a whole.
func (w *world) inlineAt(m *manifest.Manifest, n int) bool {
	off := int64(n-1) * int64(w.page)
	return slices.ContainsFunc(m.Inline,
		func(p manifest.Page) bool { return p.Offset == off && len(p.Data) == w.page })
}

func TestRootsTravel(t *testing.T) {
	w, root := rooted(t)
	r := w.replicator()
	stop := w.run(r)
	check := func(what string, inline bool, most int) {
		t.Helper()
		puts, _ := w.chunks[0].calls()
		w.mustFlush(r)
		m := w.equal(0, what)
		if w.inlineAt(m, 300) != inline || w.inlineAt(m, 2) || w.inlineAt(m, 8) {
			t.Errorf("%s: of the root pages %d travel, want 1: %v", what, len(m.Inline)-1, inline)
		}
		if after, _ := w.chunks[0].calls(); after-puts > most {
			t.Errorf("%s: %d objects were put, want at most %d", what, after-puts, most)
		}
	}
	check("first", true, 1000)
	commit := func(change func()) {
		w.begin()
		change()
		w.commit()
	}
	commit(func() { w.write(1600, w.pageOf(1600, 0, 3)) })
	check("another page changed", true, 0)
	commit(func() { root(2) })
	check("the root changed", true, 0)
	stop() // what the next one knows of it, it knows of the manifest
	r = w.replicator()
	stop = w.run(r)
	commit(func() { w.write(1601, w.pageOf(1601, 0, 4)) })
	check("another replicator", true, 0)
	anew := func(fill byte) { // so much of the root's chunk changes that it is stored anew
		for n := 290; n < 296; n++ {
			w.write(n, w.pageOf(n, 0, fill))
		}
	}
	commit(func() { anew(5); root(3) })
	check("its chunk was stored anew", true, 1)
	w.roots = []uint32{300, 300, 1 << 31}
	commit(func() {})
	check("a schema that makes no sense", true, 0)
	commit(func() { anew(7); w.write(299, w.pageOf(299, 0, 13)) })
	check("the root became a leaf", false, 1)
	commit(func() { root(4) })
	check("and interior again", true, 0)
	w.roots = nil
	commit(func() { anew(8) })
	check("the table was dropped", false, 1)
	stop()
}

// parent returns an interior page of a table that has these two children.
func (w *world) parent(left, right uint32) []byte {
	page := make([]byte, w.page)
	page[0], page[4] = 5, 1 // one cell
	at := w.page - 5
	binary.BigEndian.PutUint32(page[8:], right)
	binary.BigEndian.PutUint16(page[5:], uint16(at))
	binary.BigEndian.PutUint16(page[12:], uint16(at))
	binary.BigEndian.PutUint32(page[at:], left)
	page[at+4] = 9
	return page
}

// The pages below a root travel, too, if all of them are interior, and fit.
func TestChildrenOfRootsTravel(t *testing.T) {
	w, _ := rooted(t)
	r := w.replicator()
	defer w.run(r)()
	loud := func(n uint32, fill byte) []byte { // does not compress
		page := w.parent(n, n+1)
		rand.NewChaCha8([32]byte{fill}).Read(page[64 : w.page-64])
		return page
	}
	for _, c := range []struct {
		what     string
		change   func()
		children bool
	}{
		{"they are interior", func() {
			w.write(299, w.parent(400, 500))
			w.write(399, w.parent(401, 402))
			w.write(499, w.parent(501, 502))
		}, true},
		{"one is a leaf", func() { w.write(499, w.pageOf(499, 0, 13)) }, false},
		{"both are interior again", func() {
			w.write(499, loud(501, 1))
			w.write(299, w.parent(400, 500))
		}, true},
		{"they do not fit", func() {
			w.roots = []uint32{300}
			for root := uint32(600); root < 690; root += 10 { // 8 KiB below each
				w.roots = append(w.roots, root)
				w.write(int(root-1), w.parent(root+1, root+2))
				w.write(int(root), loud(root+3, byte(root)))
				w.write(int(root+1), loud(root+5, byte(root+1)))
			}
		}, true},
	} {
		w.begin()
		c.change()
		w.commit()
		w.mustFlush(r)
		m := w.equal(0, c.what)
		if !w.inlineAt(m, 300) || w.inlineAt(m, 400) != c.children ||
			w.inlineAt(m, 500) != c.children || w.inlineAt(m, 681) || w.inlineAt(m, 682) {
			t.Errorf("%s: want the root, and its children: %v", c.what, c.children)
		}
	}
}

// Of a large database a checkpoint says where the pages are that a reader comes to after those that
// travel. Another process, which has not read the tree, goes on without a leaf.
func TestBelowTheCrownIsNear(t *testing.T) {
	w, _ := rooted(t)
	clock := w.withClock()
	withClock := w.options
	w.options = func(o *Options) { withClock(o); o.leavesAtOnce = 1 }
	check := func(what string, pages ...int) {
		t.Helper()
		m := w.checkpoint(0)
		w.equal(0, what)
		for _, page := range pages {
			if !slices.ContainsFunc(m.Patches, func(p manifest.Patch) bool {
				return p.Index == (page-1)*w.page/chunkstore.ChunkBytes
			}) {
				t.Errorf("%s: the checkpoint at %d does not say where page %d is, but: %v", what,
					m.At.Number, page, m.Patches)
			}
		}
	}
	for root := uint32(704); len(w.roots) < 60; root += 16 { // more than a tree has patches
		w.roots = append(w.roots, root)
	}
	w.begin()
	w.write(299, w.parent(400, 500))
	w.write(399, w.parent(401, 402))
	w.write(499, w.parent(501, 1802))
	w.commit()
	r := w.replicator()
	stop := w.run(r)
	w.mustFlush(r)
	stop()
	check("first", 401, 501, 704, 1584, 1802)
	for _, c := range []struct {
		what   string
		last   uint32 // a page below
		change int    // another page
		goesOn bool   // who has put the record puts the checkpoint
		gets   int
	}{
		{"another process", 1802, 1600, true, 0},
		{"one that makes no version", 1802, 1700, false, 0},
		{"another page is below", 2502, 1750, true, 1}, // the leaf says where that is
		{"and then", 2502, 1900, true, 0},
	} {
		w.begin()
		w.write(499, w.parent(501, c.last))
		w.write(c.change, w.pageOf(c.change, 0, 3))
		w.commit()
		r := w.replicator()
		stop := w.run(r)
		w.mustFlush(r)
		if !c.goesOn {
			stop()
			r = w.replicator()
			stop = w.run(r)
			w.mustFlush(r)
		}
		_, before := w.chunks[0].calls()
		w.saveCheckpoint(r, clock, 0)
		_, after := w.chunks[0].calls()
		stop()
		if after-before != c.gets {
			t.Errorf("%s: %d leaves were fetched, want %d", c.what, after-before, c.gets)
		}
		check(c.what, 401, 501, 704, 1584, int(c.last))
	}
}

// What SQLite reads with the schema travels, although it is a leaf.
func TestStatTravels(t *testing.T) {
	w, _ := rooted(t)
	r := w.replicator()
	defer w.run(r)()
	for k, c := range []struct {
		what   string
		name   string
		page   []byte
		inline bool
	}{
		{"a leaf", "sqlite_stat1", w.pageOf(1, 0, 13), true},
		{"it is too large for one", "sqlite_stat1", w.parent(400, 500), true},
		{"a leaf again", "sqlite_stat1", w.pageOf(1, 0, 13), true},
		{"of another table", "t", w.pageOf(1, 0, 13), false},
	} {
		w.names = []string{c.name}
		w.begin()
		w.write(1, c.page)
		for n := 2; n < 14; n++ { // so much that the chunk is stored anew
			w.write(n, w.pageOf(n, 0, byte(101+2*k)))
		}
		w.commit()
		w.mustFlush(r)
		if m := w.equal(0, c.what); w.inlineAt(m, 2) != c.inline || !w.inlineAt(m, 300) {
			t.Errorf("%s: it travels: %v, want %v; and the other root", c.what, !c.inline, c.inline)
		}
	}
}

// Roots that are as in their objects cost a spool that was lost, or a copy, nothing.
func TestRootsAreTakenOver(t *testing.T) {
	w, _ := rooted(t)
	w.mustSync("first", nil)
	name := manifest.PlainName("host", w.db)
	version := func() uint64 { return w.manifest(0).Sequence }
	before, stored := version(), bytes.Clone(w.manifests[0].objects[name])
	w.loseSpool()
	w.attach()
	puts, gets := w.chunks[0].calls()
	w.mustSync("another spool", nil)
	if after := version(); after != before || !bytes.Equal(w.manifests[0].objects[name], stored) {
		t.Errorf("version %d, want %d", after, before)
	}
	if p, g := w.chunks[0].calls(); p != puts || g-gets > 2+courier.SampleObjects {
		// the leaf, what is below page 1, and a few to see
		t.Errorf("%d puts and %d gets", p-puts, g-gets)
	}
}

// A reader that has nothing reads page 1 and the root without a request for a chunk.
func TestRootCostsNoChunk(t *testing.T) {
	w, _ := rooted(t)
	w.mustSync("first", nil)
	all, err := replica.NewSet(replica.Options{Store: w.store(), TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	_, before := w.chunks[0].calls()
	reader, err := all.Open(context.Background(), "verneuil://host"+w.db)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	page, want := make([]byte, w.page), w.database()
	// The leaf comes with the opening, sooner or later; the next page takes its chunk, too.
	for n, gets := range []int{300: 1, 301: 2} {
		if n < 300 {
			continue
		}
		if err := reader.Read(context.Background(), page, int64(n-1)*int64(w.page)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(page, want[(n-1)*w.page:][:w.page]) {
			t.Errorf("page %d: other bytes", n)
		}
		_, after := w.chunks[0].calls()
		if got := after - before; got > gets || got < gets && n > 300 {
			t.Errorf("page %d took %d gets, want %d", n, got, gets)
		}
	}
	_, before = w.chunks[0].calls()
	if err := reader.Read(context.Background(), page, 300*int64(w.page)); err != nil {
		t.Fatal(err)
	}
	if _, after := w.chunks[0].calls(); after != before {
		t.Error("the chunk of page 301 is not there")
	}
}

// An application's schema takes several pages, which lie apart. Who has nothing reads them and the
// roots of its tables without a request for a chunk, and then one for a row's page.
func TestSchemaOfSeveralPagesTravels(t *testing.T) {
	w := newWorld(t, 1, 1)
	name := filepath.Join(t.TempDir(), "application.db")
	db, err := sql.Open("sqlite3", name)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for k := range 18 {
		for _, statement := range []string{
			fmt.Sprintf("create table t%d(b, c /* %s */)", k, strings.Repeat("why ", 150)),
			fmt.Sprintf(`insert into t%d(b) with recursive c(i) as
				(select 1 union all select i+1 from c where i<40) select randomblob(3000) from c`, k),
		} {
			if _, err := db.Exec(statement); err != nil {
				t.Fatal(err)
			}
		}
	}
	want, err := os.ReadFile(name)
	if err == nil {
		err = os.WriteFile(w.db, want, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.mustSync("first", nil)
	all, err := replica.NewSet(replica.Options{Store: w.store(), TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	reader, err := all.Open(context.Background(), "verneuil://host"+w.db)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	_, before := w.chunks[0].calls()
	read := func(page uint32, gets int) []byte {
		t.Helper()
		b, off := make([]byte, 4096), int(page-1)*4096
		if err := reader.Read(context.Background(), b, int64(off)); err != nil {
			t.Fatal(err)
		}
		if page > 1 && !bytes.Equal(b, want[off:off+4096]) {
			t.Errorf("page %d: other bytes", page)
		}
		if _, after := w.chunks[0].calls(); after-before != gets {
			t.Errorf("page %d: %d gets in all, want %d", page, after-before, gets)
		}
		return b
	}
	pages, first := int64(len(want)/4096), read(1, 0)
	schema := sqlitefile.Children(first, true, pages)
	var leaf uint32
	roots := 0
	for _, page := range schema {
		for _, root := range sqlitefile.SchemaRoots(read(page, 0), false, 99) {
			leaf = sqlitefile.Children(read(root, 0), false, pages)[20]
			roots++
		}
	}
	if len(schema) < 3 || roots != 18 {
		t.Fatalf("%d pages of the schema name %d roots", len(schema), roots)
	}
	read(leaf, 1)
}
