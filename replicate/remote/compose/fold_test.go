package compose_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"verneuil/manifest"
	"verneuil/replicate/remote/compose"
)

// TestC5FoldWhileOthersWrite: what has changed since is left; page 1 does not matter.
func TestC5FoldWhileOthersWrite(t *testing.T) {
	w := newWorld(t)
	w.write(t, 0, 3, 40, 41) // chunks 0 and 2
	before := w.base
	f, err := w.c.Fold(t.Context(), before, w.file())
	must(t, err)
	w.write(t, 0, 41, 16*7+1) // page 1, chunk 2 again, chunk 7, which has had none
	d := f.Onto(w.base)
	if d == nil {
		t.Fatal("nothing was folded")
	}
	if got := content(t, w.target, d.Version); !bytes.Equal(got, w.bytes) {
		t.Fatal("a fold has changed bytes")
	}
	var left []int64
	for _, p := range d.Version.Inline {
		left = append(left, p.Offset/4096)
	}
	if fmt.Sprint(left) != "[0 37 40 41 113]" {
		t.Fatalf("blocks %v are inline", left)
	}
	if again := f.Onto(d.Version); again != nil {
		t.Fatal("folded twice")
	}
}

// TestC5FoldsOfOtherVersions: chunks are left that look as they did, but have other objects, or
// show more of them.
func TestC5FoldsOfOtherVersions(t *testing.T) {
	w := newWorld(t)
	w.bytes = w.bytes[:len(w.bytes)-3*compose.BlockBytes] // the last chunk has an inline page
	w.write(t, 0, 3, 99*16+5)
	f, err := w.c.Fold(t.Context(), w.base, w.file())
	must(t, err)
	const chunk = 2
	folds := func(m *manifest.Manifest, i int) bool {
		d := f.Onto(m)
		return d != nil && slices.ContainsFunc(d.Changed, func(p manifest.Patch) bool {
			return p.Index == i
		})
	}
	if !folds(w.base, chunk) || !folds(w.base, 99) || !folds(w.base, 0) {
		t.Fatal("not folded")
	}
	other := *w.base
	other.Patches = slices.Clone(other.Patches)
	other.Patches[chunk].Ref = other.Patches[chunk+1].Ref
	if folds(&other, chunk) || !folds(&other, chunk+2) {
		t.Error("the chunk's object is another")
	}
	longer := *w.base
	longer.FileBytes += compose.BlockBytes
	if folds(&longer, 99) {
		t.Error("the chunk is longer")
	}
	packed, _, err := w.c.Checkpoint(t.Context(), w.base)
	must(t, err)
	if folds(packed, chunk) {
		t.Error("the version has another tree")
	}
	bare := *w.base
	bare.Inline = bare.Inline[1:]
	if bare.Inline[0].Offset == 0 || folds(&bare, 0) {
		t.Error("page 1 is not inline")
	}
	f, err = w.c.Fold(t.Context(), packed, w.file())
	must(t, err)
	if !folds(packed, chunk) {
		t.Fatal("not folded")
	}
	other = *packed
	other.Top = slices.Clone(other.Top)
	other.Top[0].Place.Offset++
	if folds(&other, chunk) {
		t.Error("the version has another tree")
	}
}

// TestC5FoldThroughCheckpoints: what is folded while a checkpoint is put, or before or after it was
// begun, serves versions that stand on that.
func TestC5FoldThroughCheckpoints(t *testing.T) {
	for name, steps := range map[string]string{
		"folded before": "fwcwe", "folded after": "cwfwe", "folded at it": "fce", "two": "fcwewce",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var f *compose.Folded
			var from, packed *manifest.Manifest
			var err error
			block := int64(5) // of chunk 0, then of the others that have inline pages
			for _, step := range steps {
				switch step {
				case 'f':
					f, err = w.c.Fold(t.Context(), w.base, w.file())
				case 'w':
					w.write(t, block, block+16)
					block += 32
				case 'c':
					from = w.base
					packed, _, err = w.c.Checkpoint(t.Context(), from)
				case 'e':
					was := w.base
					w.base = compose.Rebase(from, packed, w.base)
					if w.base == was {
						t.Fatal("not rebased")
					}
					f = f.Rebase(from, packed)
				}
				must(t, err)
			}
			inline := len(w.base.Inline)
			d := f.Onto(w.base)
			if d == nil || inline-len(d.Version.Inline) < 40 {
				t.Fatalf("%d pages were inline, and after a fold %+v", inline, d)
			}
			if got := content(t, w.target, d.Version); !bytes.Equal(got, w.bytes) {
				t.Fatal("other bytes")
			}
		})
	}
}
