package cutter

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"verneuil/chunkstore"
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
	objects := func(texts ...string) func(func(chunkstore.ID, []byte) bool) {
		return func(yield func(chunkstore.ID, []byte) bool) {
			for _, text := range texts {
				if !yield((chunkstore.Plain{}).Identify([]byte(text)), []byte(text)) {
					return
				}
			}
		}
	}
	if err := c.Save(1, []byte("1"), objects("a", "b")); err != nil {
		t.Fatal(err)
	}
	if err := c.Save(2, []byte("2"), objects("b", "c")); err != nil {
		t.Fatal(err)
	}
	if c, err = OpenFiles(s, chunkstore.Plain{}); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{"a": false, "b": true, "c": true} {
		b, err := c.Object(context.Background(), (chunkstore.Plain{}).Identify([]byte(text)))
		if (err == nil && string(b) == text) != want {
			t.Errorf("object %q: %q, %v", text, b, err)
		}
	}
	if err := s.ResetIfOld(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.Dir(), "cut")); err == nil {
		t.Error("cut without a boot ID survives")
	}
}
