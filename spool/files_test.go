package spool_test

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"verneuil/spool"
)

// rewriter rewrites the file cut of a spool.
type rewriter struct {
	*testing.T
	sp *spool.Spool
	n  int
}

func newRewriter(t *testing.T) *rewriter {
	t.Helper()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sp, err := spool.Create(root, filepath.Join(root, "a.db"), 0o700)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sp.Close() })
	return &rewriter{T: t, sp: sp}
}

func (w *rewriter) name() string { return filepath.Join(w.sp.Dir(), "cut") }

// rewrite gives the file other contents, and returns its inode.
func (w *rewriter) rewrite() (inode uint64) {
	w.Helper()
	w.n++
	want := bytes.Repeat([]byte{byte(w.n)}, w.n*7919%20_000) // longer and shorter ones
	if err := w.sp.RewriteFile("cut", want); err != nil {
		w.Fatal(err)
	}
	got, err := os.ReadFile(w.name())
	if err != nil || !bytes.Equal(got, want) {
		w.Fatalf("%d bytes, want %d; error %v", len(got), len(want), err)
	}
	info, err := os.Lstat(w.name())
	if err != nil {
		w.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

// A file is rewritten as a whole, by turns of two files.
func TestRewriteFile(t *testing.T) {
	w := newRewriter(t)
	first, second := w.rewrite(), w.rewrite()
	for range 10 {
		if one, other := w.rewrite(), w.rewrite(); one != first || other != second {
			t.Fatalf("inodes %d, %d: new files were made beside %d, %d", one, other, first, second)
		}
	}
}

// What is not ours alone is never written over.
func TestRewriteFileOfOthers(t *testing.T) {
	w := newRewriter(t)
	victim := filepath.Join(t.TempDir(), "victim")
	w.rewrite()
	for what, put := range map[string]func(in string) error{
		"nothing": func(string) error { return nil },
		"a directory": func(in string) error {
			return os.MkdirAll(filepath.Join(in, "full"), 0o700)
		},
		"a FIFO":      func(in string) error { return syscall.Mkfifo(in, 0o600) },
		"a link":      func(in string) error { return os.Symlink(victim, in) },
		"a hard link": func(in string) error { return os.Link(victim, in) },
	} {
		for _, in := range []string{w.name(), w.name() + ".new"} {
			if err := os.WriteFile(victim, []byte("not of the spool"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(in); err != nil {
				t.Fatal(err)
			}
			if err := put(in); err != nil {
				t.Fatal(err)
			}
			w.rewrite()
			w.rewrite() // which would write over what was in place
			w.rewrite()
			if b, err := os.ReadFile(victim); err != nil || string(b) != "not of the spool" {
				t.Fatalf("%s in place of %s: the other file has %d bytes, error %v", what,
					filepath.Base(in), len(b), err)
			}
			if err := os.Remove(victim); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A copy of ours stays what it was.
func TestRewriteFileCopied(t *testing.T) {
	w := newRewriter(t)
	w.rewrite()
	copied := filepath.Join(t.TempDir(), "copied")
	if err := os.Link(w.name(), copied); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(copied)
	if err != nil {
		t.Fatal(err)
	}
	w.rewrite()
	w.rewrite()
	if got, err := os.ReadFile(copied); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the copy has other bytes, error %v", err)
	}
}
