package compose_test

import (
	"bytes"
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	_ "github.com/mattn/go-sqlite3"

	"verneuil/manifest"
	"verneuil/replicate/remote/compose"
	"verneuil/spool/sqlitefile"
)

// grown is a database that SQLite writes, and its versions.
type grown struct {
	*world
	t    *testing.T
	name string
	sql  *sql.DB
	size int // of a page
}

func newGrown(t *testing.T, pragma string, size int, b compose.Budgets) *grown {
	t.Helper()
	g := &grown{
		world: &world{bucket: newBucket(), base: new(manifest.Manifest)}, t: t,
		name: filepath.Join(t.TempDir(), "db"), size: size,
	}
	g.target = newTarget(g.bucket)
	g.c = compose.New(compose.Options{Target: g.target, Budgets: b})
	db, err := sql.Open("sqlite3", g.name)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	g.sql = db
	g.exec(pragma)
	return g
}

func (g *grown) exec(statements ...string) {
	g.t.Helper()
	for _, s := range statements {
		_, err := g.sql.Exec(s)
		must(g.t, err)
	}
}

// commit makes the next version of what the file has now.
func (g *grown) commit() {
	g.t.Helper()
	file, err := os.ReadFile(g.name)
	must(g.t, err)
	ch := &change{bytes: int64(len(file)), blocks: make(map[int64][]byte)}
	for off := 0; off < len(file); off += compose.BlockBytes {
		end := min(off+compose.BlockBytes, len(file))
		if end > len(g.bytes) || !bytes.Equal(file[off:end], g.bytes[off:end]) {
			rest := make([]byte, off+compose.BlockBytes-end)
			ch.blocks[int64(off)] = append(file[off:end:end], rest...)
		}
	}
	d, err := g.c.Compose(g.t.Context(), g.base, ch.asChange(), g.file())
	must(g.t, err)
	g.base, g.bytes = d.Version, file
	g.check()
}

// fold folds what can be.
func (g *grown) fold() {
	g.t.Helper()
	f, err := g.c.Fold(g.t.Context(), g.base, g.file())
	must(g.t, err)
	if f != nil {
		g.base = f.Onto(g.base).Version
	}
	g.check()
}

func (g *grown) check() {
	g.t.Helper()
	if got := content(g.t, g.target, g.base); !bytes.Equal(got, g.bytes) {
		g.t.Fatal("the version has other bytes")
	}
}

// levels returns the interior pages of the tree with that root, by levels.
func (g *grown) levels(root uint32) (all [][]uint32) {
	for level := []uint32{root}; ; {
		var below []uint32
		for _, n := range level {
			page := g.bytes[int(n-1)*g.size:][:g.size]
			below = append(below,
				sqlitefile.Children(page, n == 1, int64(len(g.bytes)/g.size))...)
		}
		if below == nil {
			return all
		}
		all, level = append(all, level), below
	}
}

// inline counts those of pages that are inline.
func (g *grown) inline(pages []uint32) (n int) {
	for _, page := range pages {
		off := int64(page-1) * int64(g.size)
		if manifest.Covered(g.base.InlineOf(int(off>>16)), off, off+int64(g.size)) {
			n++
		}
	}
	return n
}

func (g *grown) root(name string) (root uint32) {
	g.t.Helper()
	must(g.t, g.sql.QueryRow("select rootpage from sqlite_schema where name=?", name).Scan(&root))
	return root
}

const manyRows = `insert into t with recursive c(i) as (select 1 union all select i+1 from c
	where i<6000) select null, hex(randomblob(60)), zeroblob(300) from c`

// TestCrown: the interior pages of all trees are inline, from the import on, after transactions of
// any size, and after folds; of what a fold can fold, nothing else is.
func TestCrown(t *testing.T) {
	for pragma, size := range map[string]int{
		"pragma page_size=4096": 4096, "pragma page_size=1024": 1024,
		"pragma page_size=16384": 16384,
	} {
		t.Run(pragma, func(t *testing.T) {
			budgets := compose.Budgets{Crown: 4 << 20, Soft: 8 << 20, Hard: 16 << 20}
			g := newGrown(t, pragma, size, budgets)
			crown := func(what string) {
				t.Helper()
				for _, name := range []string{"t", "i"} {
					for k, level := range g.levels(g.root(name)) {
						if n := g.inline(level); n != len(level) {
							t.Errorf("%s: of level %d of %s, %d of %d pages are inline", what, k,
								name, n, len(level))
						}
					}
				}
			}
			g.exec("create table t(id integer primary key, s, b)", "create index i on t(s)",
				manyRows)
			g.commit()
			crown("import")
			for range 4 {
				g.exec("insert into t(s, b) values(hex(randomblob(60)), zeroblob(300))")
				g.commit()
			}
			g.fold()
			crown("fold")
			g.exec("update t set s=hex(randomblob(61)) where id%3=0") // the index grows
			g.commit()
			crown("large transaction")
			g.exec("delete from t where id%5<2", "vacuum")
			g.commit()
			crown("vacuum")
			g.exec("update t set b=zeroblob(301) where id=4")
			g.commit()
			g.fold()
			crown("fold")
			all := map[int64]bool{}
			for _, name := range []string{"t", "i"} {
				for _, level := range g.levels(g.root(name)) {
					for _, n := range level {
						all[int64(n-1)*int64(size)/compose.BlockBytes] = true
					}
				}
			}
			for _, p := range g.base.Inline {
				block := p.Offset / compose.BlockBytes
				if size <= compose.BlockBytes && block != 0 && !all[block] {
					t.Errorf("block %d is inline yet", block)
				}
			}
		})
	}
}

// TestCrownAtTheEnd: a block that the file's end cuts off belongs to the crown, and so do the pages
// below those in it: in the import, in a large transaction, and after a fold.
func TestCrownAtTheEnd(t *testing.T) {
	const size = 512
	budgets := compose.Budgets{Crown: 4 << 20, Soft: 8 << 20, Hard: 16 << 20}
	g := newGrown(t, "pragma page_size=512", size, budgets)
	crown := func(what string) {
		t.Helper()
		for k, level := range g.levels(g.root("t")) {
			if n := g.inline(level); n != len(level) {
				t.Errorf("%s: of level %d, %d of %d pages are inline", what, k, n, len(level))
			}
		}
	}
	// cutOff says that the lowest interior page but one of the right edge is in such a block.
	cutOff := func() bool {
		file, err := os.Open(g.name)
		must(t, err)
		defer file.Close()
		info, err := file.Stat()
		must(t, err)
		var edge []uint32
		for n := g.root("t"); ; {
			page := make([]byte, size)
			_, err := file.ReadAt(page, int64(n-1)*size)
			must(t, err)
			below := sqlitefile.Children(page, false, info.Size()/size)
			if below == nil {
				break
			}
			edge = append(edge, n)
			n = below[len(below)-1]
		}
		end := info.Size() / compose.BlockBytes
		return info.Size()%compose.BlockBytes > 0 && len(edge) > 2 &&
			int64(edge[len(edge)-2]-1)*size/compose.BlockBytes == end
	}
	g.exec("pragma journal_mode=memory", "pragma synchronous=off", "create table t(b)")
	grow := func() {
		for k := 0; !cutOff(); k++ {
			if k == 20000 {
				t.Fatal("no such page is in the last block")
			}
			g.exec("insert into t values(zeroblob(400))")
		}
	}
	for _, what := range []string{"import", "large transaction"} {
		g.exec("insert into t with recursive c(i) as (select 1 union all select i+1 from c " +
			"where i<9000) select zeroblob(400) from c")
		grow()
		g.commit()
		crown(what)
	}
	g.exec("update t set b=zeroblob(399) where rowid%700=0")
	g.commit()
	g.fold()
	crown("fold")
}

// TestCrownFits: of a level that has no room nothing is inline, and the schema's own pages are.
func TestCrownFits(t *testing.T) {
	budgets := compose.Budgets{Crown: 28 << 10, Soft: 80 << 10}
	g := newGrown(t, "pragma page_size=4096", 4096, budgets)
	for k := range 30 {
		g.exec("create table " + string(rune('a'+k%26)) + string(rune('a'+k/26)) +
			"(x, y, z /*" + string(bytes.Repeat([]byte{'-'}, 400)) + "*/)")
	}
	g.exec("create table t(id integer primary key, s, b)", manyRows, manyRows, manyRows)
	g.commit()
	if schema := g.levels(1); len(schema) != 1 {
		t.Fatalf("the schema has %d levels of interior pages", len(schema))
	}
	page := g.bytes[:4096]
	leaves := sqlitefile.Children(page, true, int64(len(g.bytes)/4096))
	if n := g.inline(leaves); n != len(leaves) {
		t.Errorf("%d of %d pages of the schema are inline", n, len(leaves))
	}
	levels := g.levels(g.root("t"))
	if len(levels) != 2 || len(levels[1]) < 3 {
		t.Fatalf("the table has levels of %v pages", levels)
	}
	if g.inline(levels[0]) != 1 || g.inline(levels[1]) != 0 {
		t.Errorf("of its levels %d and %d pages are inline, want 1 and 0", g.inline(levels[0]),
			g.inline(levels[1]))
	}
}
