package replica_test

import (
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"verneuil/chunkstore"
	"verneuil/replicate/publishtest"
	. "verneuil/replicate/replica"
	"verneuil/spool/sqlitefile"
)

// fullText returns a database whose full-text index has so many segments, and other pages between
// theirs, and its roots. A term of its last row is 'needle'.
func fullText(t *testing.T, segments int) (file []byte, roots sqlitefile.FTS5) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "db")
	var script strings.Builder
	script.WriteString(`create virtual table x using fts5(a, content=''); create table pad(b);
		insert into x(x, rank) values('automerge', 0), ('crisismerge', 1000);`)
	for k := range segments {
		fmt.Fprintf(&script, `begin; insert into x(rowid, a) with recursive c(i) as
			(select 1 union all select i+1 from c where i<8000)
			select %d+i, hex(i*7919+%d)||' needle' from c; commit;
			insert into pad values(randomblob(1000000));`, 8000*k, k)
	}
	out, err := osexec.Command("sqlite3", "-batch", "-bail", name, script.String()).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if file, err = os.ReadFile(name); err != nil {
		t.Fatal(err)
	}
	all := sqlitefile.FTS5Roots(file[:publishtest.PageBytes])
	if len(all) != 1 {
		t.Fatalf("%d full-text indexes", len(all))
	}
	return file, all[0]
}

// search reads what SQLite would to look a term up in each segment, waiting until all that is
// fetched ahead has come. It returns how often it had to wait, and how many chunks it needs.
func search(
	t *testing.T, all *Set, r *Reader, roots sqlitefile.FTS5, term string,
) (segments, waits, needed int) {
	t.Helper()
	chunks := map[uint32]bool{}
	pages := r.Size() / publishtest.PageBytes
	read := func(page uint32) []byte {
		p, missed, err := r.ReadPage(t.Context(), page)
		if err != nil {
			t.Fatal(err)
		}
		chunks[(page-1)/(chunkstore.ChunkBytes/publishtest.PageBytes)] = true
		if missed {
			waits++
			awaitQuiet(all)
		}
		return p
	}
	row := func(rowid int64) []byte {
		for page := roots.Data; ; {
			p := read(page)
			n := sqlitefile.ReadTableNode(p, false, pages)
			if n == nil {
				return p
			}
			page = n.Child(rowid)
		}
	}
	list := sqlitefile.FTS5Segments(row(sqlitefile.FTS5StructureRow), publishtest.PageBytes)
	read(roots.Config)
	slices.Reverse(list)
	for _, segment := range list {
		var nodes []*sqlitefile.FTS5Node
		for page := roots.Idx; page != 0; {
			n := sqlitefile.ReadFTS5Node(read(page), publishtest.PageBytes, pages)
			nodes = append(nodes, n)
			page = n.Child(segment, []byte(term))
		}
		at := sqlitefile.Join(nodes).Pages(segment, []byte(term), []byte(term+"\x00"))
		row(sqlitefile.FTS5Rowid(segment, at[0]))
	}
	return len(list), waits, len(chunks)
}

// A search looks into all segments at once when it has found the place in the first.
func TestTermsAhead(t *testing.T) {
	file, roots := fullText(t, 9)
	p := newSource(t)
	p.Publish(file, 0)
	all := p.follow(Options{})
	segments, waits, needed := search(t, all, p.open(all), roots, "03330")
	brought := p.Hooks.Objects() - 1 // without the leaf of the tree
	t.Logf("%d segments: %d chunks needed, %d fetched in %d requests, %d waits", segments, needed,
		brought, p.Hooks.Gets()-1, waits)
	// For the list of segments, the way to the term in the first one, and in all others.
	if segments < 9 || waits > 6 {
		t.Errorf("%d segments: waited %d times, at most 6 wanted", segments, waits)
	}
	if vainMax := 8 + needed/3; brought-needed > vainMax {
		t.Errorf("%d chunks needed, %d fetched, at most %d more wanted", needed, brought, vainMax)
	}
}
