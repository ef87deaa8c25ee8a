package courier

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/versions"
	"verneuil/spool"
)

// diaryWorld is a history in a directory, and a diary of who writes it.
type diaryWorld struct {
	*testing.T
	d       *diary
	shelf   *shelf
	w       *history.Writer
	version *manifest.Manifest // that the history has
}

func newDiaryWorld(t *testing.T) *diaryWorld {
	config := []chunkstore.TargetConfig{&dir.Config{Path: t.TempDir()}}
	store, err := chunkstore.Open(t.Context(), config, chunkstore.Options{CallsPerSecond: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	db := filepath.Join(t.TempDir(), "a.db")
	if err := os.WriteFile(db, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sp, err := spool.Create(t.TempDir(), db, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sp.Close() })
	m := &manifest.Manifest{
		Host: "h", Path: "/a.db", PageBytes: 4096, FileBytes: 64 << 10, Sequence: 1,
		Top: []chunkstore.Ref{{ID: chunkstore.ZeroID}},
	}
	shelf := newShelf(store.Targets[0], manifest.PlainName(m.Host, m.Path))
	body, err := m.Encode(chunkstore.Plain{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := history.Create(t.Context(), shelf, versions.Options(), [16]byte{1}, body, "")
	if err != nil {
		t.Fatal(err)
	}
	w := history.NewWriter(r)
	if err := w.Take(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return &diaryWorld{t, newDiary(sp), shelf, w, m}
}

func newDiary(sp *spool.Spool) *diary {
	return &diary{
		sp: sp, log: slog.Default(), name: "history.x", chunks: chunkstore.Identity{1},
	}
}

// prepare notes a record of the next version, which is told as a whole or as a step.
func (d *diaryWorld) prepare(whole bool) (next *manifest.Manifest) {
	d.Helper()
	n := *d.version
	n.Sequence++
	n.Inline = append([]manifest.Page{}, n.Inline...)
	n.Inline = append(n.Inline, manifest.Page{
		Offset: int64(n.Sequence) * 512, Data: make([]byte, 512),
	})
	step := d.version.StepTo(&n, nil, 1)
	if whole {
		step = n.WholeStep()
	}
	body, err := step.Encode()
	if err != nil {
		d.Fatal(err)
	}
	if err := d.w.Prepare(body, false); err != nil {
		d.Fatal(err)
	}
	d.d.note(d.w, d.version, &n)
	return &n
}

func (d *diaryWorld) settle(next *manifest.Manifest) {
	d.Helper()
	if err := d.w.Settle(d.Context()); err != nil {
		d.Fatal(err)
	}
	d.version = next
	d.d.note(d.w, next, next)
}

// check compares what the next process reads.
func (d *diaryWorld) check(what string, number, sequence uint64, pages int) {
	d.Helper()
	w, m, err := newDiary(d.d.sp).read(d.shelf)
	if err != nil {
		d.Fatalf("%s: %v", what, err)
	}
	if w.At().Number != number || m.Sequence != sequence || len(m.Inline) != pages {
		d.Errorf("%s: at record %d, version %d with %d pages; want %d, %d, %d", what,
			w.At().Number, m.Sequence, len(m.Inline), number, sequence, pages)
	}
}

func (d *diaryWorld) bytes() []byte {
	b, err := os.ReadFile(filepath.Join(d.d.sp.Dir(), d.d.name))
	if err != nil {
		d.Fatal(err)
	}
	return b
}

// TestDiaryNotes: what is read is the last note that is whole, with the record that was not settled
// in it.
func TestDiaryNotes(t *testing.T) {
	d := newDiaryWorld(t)
	d.d.note(d.w, d.version, d.version)
	d.check("after a takeover", 1, 1, 0)
	for k := range 3 {
		began := len(d.bytes())
		next := d.prepare(k == 1)
		prepared := d.bytes()
		d.check("prepared", uint64(k+1), uint64(k+2), k+1)
		d.settle(next)
		settled := d.bytes()
		d.check("settled", uint64(k+2), uint64(k+2), k+1)
		if len(prepared) <= began || len(settled) <= len(prepared) {
			t.Fatalf("%d, %d, %d bytes: it was written anew", began, len(prepared), len(settled))
		}
		if k < 2 {
			continue
		}
		name := filepath.Join(d.d.sp.Dir(), d.d.name)
		for n := began; n < len(settled); n++ {
			if err := os.WriteFile(name, settled[:n], 0o600); err != nil {
				t.Fatal(err)
			}
			if n < len(prepared) {
				d.check("cut short", 3, 3, 2)
			} else {
				d.check("cut short", 3, 4, 3)
			}
		}
		for n := range settled {
			b := append([]byte{}, settled...)
			b[n] ^= 0x40
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
			w, m, err := newDiary(d.d.sp).read(d.shelf)
			if err == nil && (w.At().Number == 4 || len(m.Inline) > int(w.At().Number)) {
				t.Fatalf("byte %d: it is at record %d, with %d pages", n, w.At().Number,
					len(m.Inline))
			}
		}
	}
}

// TestDiaryIsWrittenAnew where it cannot go on: as somebody has removed or changed it, as it is
// long, or as it has another version.
func TestDiaryIsWrittenAnew(t *testing.T) {
	d := newDiaryWorld(t)
	name := filepath.Join(d.d.sp.Dir(), d.d.name)
	d.d.note(d.w, d.version, d.version)
	pages := 0
	for what, change := range map[string]func(){
		"nothing": func() {},
		"gone":    func() { os.Remove(name) },
		"cut":     func() { os.Truncate(name, 10) },
		"longer":  func() { os.WriteFile(name, append(d.bytes(), 1), 0o600) },
		"full":    func() { d.d.most = 0 },
		"another": func() { m := *d.version; d.version = &m },
		"a link":  func() { os.Remove(name); os.Symlink("/dev/null", name) },
	} {
		change()
		next := d.prepare(false)
		pages++
		d.check(what+", prepared", uint64(pages), uint64(pages+1), pages)
		change()
		d.settle(next)
		d.check(what, uint64(pages+1), uint64(pages+1), pages)
	}
}

// TestDiaryWhileUnsettled: a checkpoint ends while it is not known whether a record is there.
func TestDiaryWhileUnsettled(t *testing.T) {
	d := newDiaryWorld(t)
	d.d.note(d.w, d.version, d.version)
	next := d.prepare(false)
	described := *d.version // as package courier's adopt makes it
	d.d.note(d.w, &described, next)
	d.check("unsettled", 1, 2, 1)
	d.settle(next)
	d.check("settled", 2, 2, 1)
}
