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
