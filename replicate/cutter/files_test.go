package cutter

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/spool"
)

// TestFiles: what a saved cut names is there, what it does not name goes; and nothing is believed
// of files that are of another boot, as far as is known.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	db := filepath.Join(dir, "a.db")
	if err := os.WriteFile(db, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := spool.Create(filepath.Join(dir, "spool"), db, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	c, err := OpenFiles(s, chunkstore.Plain{})
	if err != nil {
		t.Fatal(err)
	}
	ref := func(text string) chunkstore.Ref {
		return chunkstore.Ref{ID: (chunkstore.Plain{}).Identify([]byte(text))}
	}
	objects := func(texts ...string) func(func(chunkstore.Ref, []byte) bool) {
		return func(yield func(chunkstore.Ref, []byte) bool) {
			for _, text := range texts {
				if !yield(ref(text), []byte(text)) {
					return
				}
			}
		}
	}
	cut := func(sequence uint64) *manifest.Manifest {
		return &manifest.Manifest{Sequence: sequence, Cut: [16]byte{byte(sequence)}}
	}
	if err := c.Save(cut(1), objects("a", "b")); err != nil {
		t.Fatal(err)
	}
	if err := c.Save(cut(2), objects("b", "c")); err != nil {
		t.Fatal(err)
	}
	if c, err = OpenFiles(s, chunkstore.Plain{}); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{"a": false, "b": true, "c": true} {
		b, err := c.objects(context.Background(), []chunkstore.Ref{ref(text)})
		if (err == nil && string(b[0]) == text) != want {
			t.Errorf("object %q: %q, %v", text, b, err)
		}
	}
	for _, w := range []struct {
		sequence uint64
		cut      [16]byte
		want     bool
	}{
		{1, [16]byte{1}, true}, {2, [16]byte{2}, true}, {1, [16]byte{2}, false},
		{2, [16]byte{3}, false}, {2, [16]byte{}, false},
		{0, [16]byte{}, false}, {3, [16]byte{}, false}, // a hole of the file, and beyond its end
		{1 + cutsKept, [16]byte{1}, true}, // nobody has two cuts of one Cut
	} {
		if got := c.Wrote(w.sequence, w.cut); got != w.want {
			t.Errorf("wrote %d, %x: %v", w.sequence, w.cut, got)
		}
	}
	if err := s.ResetIfOld(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.Dir(), "cut")); err == nil {
		t.Error("cut without a boot ID survives")
	}
}
