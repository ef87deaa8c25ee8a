package cutter

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/mirror"
	"verneuil/spool"
)

// foldWorld is a mirror of which versions are cut, and somebody who makes their objects, as
// couriers do, and lacks some.
type foldWorld struct {
	*testing.T
	rng     *rand.Rand
	mirror  *mirror.Mirror
	cutter  *Cutter
	objects map[chunkstore.ID][]byte
	lacks   map[int]bool
	folds   bool // there can be folds
	renamed map[int]chunkstore.ID

	fold *Fold
	ids  []chunkstore.ID // of what fold makes

	begun, taken, inline, whole int
}

func (w *foldWorld) Lacks(i int) bool { return w.lacks[i] }

func (w *foldWorld) Renamed(i int, id chunkstore.ID) { w.renamed[i] = id }

func (w *foldWorld) Shortened(int) {}

func (w *foldWorld) Folds() bool { return w.folds }

func (w *foldWorld) Stores() []chunkstore.Identity { return nil }

// change changes the mirror: most often some sectors, sometimes all of a chunk, or its length.
func (w *foldWorld) change() {
	const chunk = chunkstore.ChunkBytes
	some := make([]byte, sectorBytes)
	if w.rng.IntN(30) == 0 {
		some = make([]byte, chunk)
	}
	for k := range some {
		some[k] = byte(w.rng.Uint32())
	}
	if w.rng.IntN(10) == 0 {
		clear(some)
	}
	at := int64(1+w.rng.IntN(int(w.mirror.Size()/sectorBytes)-1)) * sectorBytes
	var err error
	switch w.rng.IntN(100) {
	case 0:
		err = w.mirror.Truncate(int64(8+w.rng.IntN(16*chunk/sectorBytes)) * sectorBytes)
	case 1:
		err = w.mirror.Doubt(int(at / chunk))
	default:
		_, err = w.mirror.WriteAt(some, at)
	}
	if err != nil {
		w.Fatal(err)
	}
}

// cut makes a version, and checks that it is the mirror (C1, C4).
func (w *foldWorld) cut(what string) {
	w.Helper()
	clear(w.renamed)
	ids, fold := w.ids, w.cutter.fold
	if _, err := w.cutter.Cut(w.Context()); err != nil {
		w.Fatal(what, err)
	}
	m, tree := w.cutter.last.Manifest, w.cutter.last.Tree
	for i, id := range w.renamed {
		if tree.At(i).ID == id && w.objects[id] == nil && id != chunkstore.ZeroID {
			b, err := w.mirror.Chunk(i, make([]byte, chunkstore.ChunkBytes))
			if err != nil {
				w.Fatal(what, err)
			}
			if got := (chunkstore.Plain{}).Identify(b); got != id {
				w.Fatalf("%s: nobody can make the object of chunk %d", what, i)
			}
			w.objects[id] = b
			w.whole++
		}
	}
	if fold != nil && w.cutter.fold == nil {
		w.taken += len(ids)
	}
	if m.FileBytes != w.mirror.Size() {
		w.Fatalf("%s: the version has %d bytes, want %d", what, m.FileBytes, w.mirror.Size())
	}
	for i := range m.Chunks() {
		n := m.ChunkBytes(i)
		chunk := bytes.Clone(w.objects[tree.At(i).ID])
		chunk = append(chunk, make([]byte, chunkstore.ChunkBytes)...)[:n]
		want, err := w.mirror.Chunk(i, make([]byte, chunkstore.ChunkBytes))
		if err != nil {
			w.Fatal(what, err)
		}
		if !bytes.Equal(m.Overlay(i, chunk), want) {
			w.Fatalf("%s: chunk %d is not the mirror's", what, i)
		}
		if w.lacks[i] && len(m.InlineOf(i)) > 0 && i > 0 {
			w.Fatalf("%s: chunk %d, whose object somebody lacks, has pages inline", what, i)
		}
	}
	w.inline = max(w.inline, bytesOf(m.Inline))
}

func bytesOf(pages []manifest.Page) (n int) {
	for _, p := range pages {
		n += len(p.Data)
	}
	return n
}

// beginFold begins a fold, if one is asked for: what it makes is as the mirror is now.
func (w *foldWorld) beginFold() {
	if w.fold = w.cutter.BeginFold(); w.fold == nil {
		return
	}
	w.begun++
	w.ids = nil
	for _, i := range w.fold.Chunks {
		b, err := w.mirror.Chunk(i, make([]byte, chunkstore.ChunkBytes))
		if err != nil {
			w.Fatal(err)
		}
		h := chunkstore.HashChunk(chunkstore.Plain{}, b)
		w.ids, w.objects[h.ID()] = append(w.ids, h.ID()), b
	}
	if again := w.cutter.BeginFold(); again != nil {
		w.Fatal("two folds at a time")
	}
}

// TestFoldModel: whatever changes before a fold begins, while it goes on, and before the next
// version takes it, and whether it fails or not: each version is the database.
func TestFoldModel(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			foldModel(t, seed)
		})
	}
}

func foldModel(t *testing.T, seed uint64) {
	w := newFoldWorld(t, seed)
	for n := range 60 {
		for range 1 + w.rng.IntN(40) {
			w.change()
		}
		w.folds = w.rng.IntN(8) > 0
		if w.rng.IntN(8) == 0 {
			w.lacks = map[int]bool{w.rng.IntN(16): true}
		}
		w.cut(fmt.Sprint("version ", n))
		for i := range w.lacks { // those of which there is no more than the old object
			if w.renamed[i] != (chunkstore.ID{}) {
				delete(w.lacks, i)
			}
		}
		if w.fold == nil {
			for range w.rng.IntN(3) { // the loop may be late
				w.change()
			}
			w.beginFold()
		} else if w.rng.IntN(2) == 0 {
			ids := w.ids
			if w.rng.IntN(4) == 0 {
				ids = nil // it has failed
			}
			w.fold.End(ids)
			w.fold = nil
		}
	}
	if w.begun < 3 || w.taken == 0 || w.whole == 0 {
		t.Errorf("%d folds were begun, %d chunks taken, %d stored whole: this tests little",
			w.begun, w.taken, w.whole)
	}
	if most := inlineFoldMax + 64<<10; w.inline > most {
		t.Errorf("%d bytes travel inline, more than %d", w.inline, most)
	}
}

func newFoldWorld(t *testing.T, seed uint64) *foldWorld {
	dir := t.TempDir()
	db := filepath.Join(dir, "a.db")
	if err := os.WriteFile(db, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sp, err := spool.Create(filepath.Join(dir, "spool"), db, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	w := &foldWorld{
		T: t, rng: rand.New(rand.NewPCG(seed, 1)), objects: make(map[chunkstore.ID][]byte),
		renamed: make(map[int]chunkstore.ID), lacks: make(map[int]bool),
	}
	if w.mirror, err = mirror.Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.mirror.Close() })
	files, err := OpenFiles(sp, chunkstore.Plain{})
	if err != nil {
		t.Fatal(err)
	}
	w.cutter = New(Options{
		Contents: w.mirror, Files: files, Sealer: chunkstore.Plain{}, Audience: w,
		Sign: func(*manifest.Manifest) {}, Prove: func() error { return nil }, Log: slog.Default(),
	})
	header := make([]byte, 12*chunkstore.ChunkBytes)
	copy(header, "SQLite format 3\x00")
	header[16], header[18], header[19] = 4096>>8, 1, 1
	if _, err := w.mirror.WriteAt(header, 0); err != nil {
		t.Fatal(err)
	}
	if err := w.cutter.Adopt(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	w.cut("the first version")
	return w
}
