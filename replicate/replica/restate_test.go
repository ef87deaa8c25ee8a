package replica_test

import (
	"bytes"
	"context"
	"testing"

	"verneuil/chunkstore"
	"verneuil/manifest"
	. "verneuil/replicate/replica"
)

// TestRestateEqualObjects: two chunks that have one object, and other pages inline, stay apart when
// their version is described anew.
func TestRestateEqualObjects(t *testing.T) {
	file := random(70*chunkstore.ChunkBytes, 1)
	clear(file[4*chunkstore.ChunkBytes:])
	f := newFed(t, file)
	r := f.open(f.follow(Options{Linger: -1}))

	next := *f.newest
	next.Sequence++
	next.Cut[0]++
	file = bytes.Clone(file)
	for k, i := range []int{5, 8} {
		next.Patches = append(next.Patches, manifest.Patch{Index: i,
			Ref: chunkstore.Ref{ID: chunkstore.ZeroID}})
		page := manifest.Page{Offset: int64(i)*chunkstore.ChunkBytes + int64(1+k)*block,
			Data: bytes.Repeat([]byte{byte(1 + k)}, block)}
		next.Inline = append(next.Inline, page)
		copy(file[page.Offset:], page.Data)
	}
	v, err := r.Derive(context.Background(), &next, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.MoveTo(v)
	v.Release()
	got := make([]byte, 16*chunkstore.ChunkBytes)
	same := func(when string) {
		t.Helper()
		if err := r.ReadBase(context.Background(), got[block:], block); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got[block:], file[block:len(got)]) {
			t.Fatalf("%s, other bytes are read", when)
		}
	}
	same("derived")

	anew := next
	anew.Inline = nil
	for _, p := range next.Inline { // the same bytes, in two pages each
		half := int64(len(p.Data) / 2)
		anew.Inline = append(anew.Inline, manifest.Page{Offset: p.Offset, Data: p.Data[:half]},
			manifest.Page{Offset: p.Offset + half, Data: p.Data[half:]})
	}
	if err := r.Restate(&anew); err != nil {
		t.Fatal(err)
	}
	same("restated")
}

// TestRestateCutGrown: what was inline when a version was described anew does not come back where
// the file was cut off, and grows again, over the same object.
func TestRestateCutGrown(t *testing.T) {
	t.Run("step by step", func(t *testing.T) { cutGrown(t, true, false) })
	t.Run("at once", func(t *testing.T) { cutGrown(t, false, false) })
	t.Run("with a checkpoint between", func(t *testing.T) { cutGrown(t, false, true) })
}

// cutGrown has a reader that sees the file while it is cut off, or does not. The last version has a
// tree of its own if packed says so.
func cutGrown(t *testing.T, sees, packed bool) {
	const chunks = 70
	file := random(chunks*chunkstore.ChunkBytes, 1)
	last := file[(chunks-1)*chunkstore.ChunkBytes:]
	clear(last)
	f := newFed(t, file)
	r := f.open(f.follow(Options{Linger: -1}))
	m := f.newest
	next := func() *manifest.Manifest {
		n := *m
		n.Sequence++
		n.Cut[0]++
		m = &n
		return m
	}
	derive := func() {
		t.Helper()
		v, err := r.Derive(context.Background(), m, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.MoveTo(v)
		v.Release()
	}
	next().Patches = []manifest.Patch{{Index: chunks - 1,
		Ref: chunkstore.Ref{ID: chunkstore.ZeroID}}}
	page := manifest.Page{Offset: m.FileBytes - 2*block, Data: bytes.Repeat([]byte{1}, block)}
	m.Inline = []manifest.Page{page}
	derive()
	got := make([]byte, len(last))
	read := func() {
		t.Helper()
		off := int64(chunks-1) * chunkstore.ChunkBytes
		if err := r.ReadBase(context.Background(), got, off); err != nil {
			t.Fatal(err)
		}
	}
	read()
	anew := *m
	anew.Inline = []manifest.Page{{Offset: page.Offset, Data: page.Data[:block/2]},
		{Offset: page.Offset + block/2, Data: page.Data[block/2:]}}
	if err := r.Restate(&anew); err != nil {
		t.Fatal(err)
	}
	m = &anew
	next().FileBytes -= 3 * block
	m.Inline = nil
	if sees {
		derive()
	}
	next().FileBytes += 3 * block
	if packed {
		zero := chunkstore.Ref{ID: chunkstore.ZeroID}
		m.Patches = append([]manifest.Patch{{Index: 1, Ref: zero}, {Index: 2, Ref: zero},
			{Index: 3, Ref: zero}}, m.Patches...)
		m = f.packed(m)
	}
	derive()
	if read(); !bytes.Equal(got, last) {
		t.Error("what was cut off is read again")
	}
}
