package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"verneuil/chunkstore"
)

// Target is the conformance test: what every target's buckets do alike.
func Target(t *testing.T, target *chunkstore.Target) {
	t.Run("chunks", func(t *testing.T) {
		Bucket(t, target.Chunks, func(i int) string {
			return chunkstore.Sum([]byte{byte(i)}).String()
		})
	})
	t.Run("manifests", func(t *testing.T) {
		Bucket(t, target.Manifests, func(i int) string {
			return fmt.Sprintf("%04x-verneuil%%3Ahost%%3A%%2F%%2Fa+b(c)*'!~", i)
		})
	})
	t.Run("versions", func(t *testing.T) { Versions(t, target.Manifests.(chunkstore.Versioned)) })
	t.Run("packs", func(t *testing.T) { PutGetPack(t, target) })
	t.Run("damage", func(t *testing.T) { testDamage(t, target) })
	t.Run("lacking", func(t *testing.T) { testLacking(t, target) })
	t.Run("batch", func(t *testing.T) { testBatch(t, target) })
	t.Run("touch", func(t *testing.T) { testTouch(t, target) })
	t.Run("prove", func(t *testing.T) { testProve(t, target) })
}

// testProve: databases can live in each target of ours, and the probe leaves no object.
func testProve(t *testing.T, target *chunkstore.Target) {
	ids, err := target.Prove(t.Context())
	if err != nil || ids.Chunks == ids.Manifests || ids.Chunks == (chunkstore.Identity{}) ||
		ids.Manifests == (chunkstore.Identity{}) {
		t.Errorf("identities %v, %v", ids, err)
	}
	if again, err := target.Prove(t.Context()); err != nil || again != ids {
		t.Errorf("identities %v, and then %v, %v", ids, again, err)
	}
	if err := target.ProveCreates(t.Context()); err != nil {
		t.Error(err)
	}
	if left := Listed(t, target.Chunks, chunkstore.WantKeyPrefix, 1); len(left) > 0 {
		t.Errorf("the probe leaves %v", left)
	}
}

// PackOf returns a pack of objects, which s has sealed, and refs to them without places.
func PackOf(s chunkstore.Sealer, objects ...[]byte) (*chunkstore.Pack, []chunkstore.Ref) {
	p, refs := new(chunkstore.Pack), make([]chunkstore.Ref, len(objects))
	for k, plain := range objects {
		h := chunkstore.Hash(s, plain)
		p.Seal(s, h)
		refs[k].ID = h.ID()
	}
	return p, refs
}

// PutObjects puts objects to target in one pack, and returns refs to them. The test ends if it
// cannot.
func PutObjects(t testing.TB, target *chunkstore.Target, objects ...[]byte) []chunkstore.Ref {
	t.Helper()
	p, refs := PackOf(target.Sealer, objects...)
	places, _, err := target.PutPack(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	for k := range refs {
		refs[k].Place = places[k]
	}
	return refs
}

// fullPack returns as many objects as a pack takes, of all lengths.
func fullPack(seed uint64) [][]byte {
	objects := make([][]byte, chunkstore.PackMax)
	for k := range objects {
		objects[k] = Text(seed+uint64(k), 1+k*k*16)
	}
	objects[1], objects[2] = nil, Noise(seed, chunkstore.ChunkBytes)
	return objects
}

// PutGetPack: objects are found after they were put, under their own IDs alone (I1, I2), one by
// one, several at once, and with the pack.
func PutGetPack(t *testing.T, target *chunkstore.Target) {
	for _, objects := range [][][]byte{{{}}, {[]byte("x")}, fullPack(9)} {
		putGet(t, target, objects)
	}
	ctx := t.Context()
	var p chunkstore.Pack
	MustBe(t, p.SealChecked(target.Sealer, target.Sealer.Identify([]byte("a")), []byte("b")),
		chunkstore.ErrMismatch) // I2
	if _, _, err := target.PutPack(ctx, &p); err == nil {
		t.Error("put an empty pack")
	}
	for range chunkstore.PackMax + 1 {
		p.Seal(target.Sealer, chunkstore.Hash(target.Sealer, []byte("x")))
	}
	if _, _, err := target.PutPack(ctx, &p); err == nil {
		t.Error("put a pack of too many objects")
	}
	if got, err := target.GetObject(ctx, chunkstore.Ref{ID: chunkstore.ZeroID}); err != nil ||
		!bytes.Equal(got, make([]byte, chunkstore.ChunkBytes)) {
		t.Errorf("get zeros: %d bytes, %v", len(got), err)
	}
}

func putGet(t *testing.T, target *chunkstore.Target, objects [][]byte) {
	ctx := t.Context()
	p, refs := PackOf(target.Sealer, objects...)
	stored, name, places := p.Encode(target.Sealer)
	for k := range refs {
		refs[k].Place = places[k]
	}
	if has, err := target.HasPack(ctx, name, 1); has || err != nil {
		t.Errorf("has %v before put: %v, %v", name, has, err)
	}
	_, err := target.GetObject(ctx, refs[0])
	MustBe(t, err, chunkstore.ErrAbsent)
	_, err = target.GetPack(ctx, name)
	MustBe(t, err, chunkstore.ErrAbsent)
	placesPut, n, err := target.PutPack(ctx, p)
	if err != nil || n != len(stored) || len(placesPut) != len(objects) {
		t.Fatalf("put pack of %d objects: %d bytes, %v", len(objects), n, err)
	}
	if has, err := target.HasPack(ctx, name, 1); !has || err != nil {
		t.Errorf("has %v after put: %v, %v", name, has, err)
	}
	pieces, err := target.GetPack(ctx, name)
	if err != nil || len(pieces) != len(objects) {
		t.Fatalf("pack of %d objects, %v; want %d", len(pieces), err, len(objects))
	}
	for k, ref := range refs {
		if placesPut[k] != ref.Place || pieces[k].ID != ref.ID || pieces[k].Place != ref.Place {
			t.Errorf("object %d: put at %v, found at %v, want %v", k, placesPut[k], pieces[k].Place,
				ref.Place)
		}
		got, err := chunkstore.OpenObject(target.Sealer, nil, ref.ID, pieces[k].Stored)
		if err != nil || !bytes.Equal(got, objects[k]) {
			t.Errorf("object %d of the pack: %d bytes, %v", k, len(got), err)
		}
		got, err = target.GetObject(ctx, ref)
		if err != nil || !bytes.Equal(got, objects[k]) {
			t.Errorf("object %d: %d bytes, %v; want %d", k, len(got), err, len(objects[k]))
		}
	}
	all, err := target.GetObjects(ctx, refs)
	if err != nil {
		t.Fatal(err)
	}
	for k, got := range all {
		if !bytes.Equal(got, objects[k]) {
			t.Errorf("object %d of many: %d bytes, want %d", k, len(got), len(objects[k]))
		}
	}
}

// damaged is a pack in a target, and what is asked of it.
type damaged struct {
	*testing.T
	target *chunkstore.Target
	name   chunkstore.Digest
	stored []byte
	refs   []chunkstore.Ref
}

func (d *damaged) put(body []byte) {
	d.Helper()
	MustPut(d.T, d.target.Chunks, d.name.String(), string(body), chunkstore.Condition{})
}

// must gets ref, alone and with another, which is to fail so; nil: or not.
func (d *damaged) must(ref chunkstore.Ref, kind error) {
	d.Helper()
	got, err := d.target.GetObject(d.Context(), ref)
	if kind == nil && err == nil {
		return
	}
	MustBe(d.T, err, kind)
	if got != nil {
		d.Errorf("%v, and %d bytes", err, len(got))
	}
	_, err = d.target.GetObjects(d.Context(), []chunkstore.Ref{d.refs[0], ref})
	MustBe(d.T, err, kind)
}

// testDamage: whatever is not as it should be is ErrCorrupt or ErrAbsent, and never bytes (I1).
func testDamage(t *testing.T, target *chunkstore.Target) {
	p, refs := PackOf(target.Sealer, Noise(1, 3000), Text(2, 9000), Text(3, 70))
	stored, name, places := p.Encode(target.Sealer)
	for k := range refs {
		refs[k].Place = places[k]
	}
	d := &damaged{t, target, name, stored, refs}
	d.put(stored)
	d.must(refs[len(refs)-1], nil)
	testWrongPlaces(d)
	testSpoiledPacks(d)
	if err := target.Chunks.Delete(t.Context(), name.String()); err != nil {
		t.Fatal(err)
	}
	d.must(refs[0], chunkstore.ErrAbsent)
}

func testWrongPlaces(d *damaged) {
	ref := d.refs[len(d.refs)-1]
	is := ref.Place
	for what, place := range map[string]chunkstore.Place{
		"none":            {},
		"no offset":       {Pack: d.name, Bytes: 10},
		"no length":       {Pack: d.name, Offset: is.Offset},
		"another object":  d.refs[0].Place,
		"a byte before":   {Pack: d.name, Offset: is.Offset - 1, Bytes: is.Bytes},
		"a byte short":    {Pack: d.name, Offset: is.Offset, Bytes: is.Bytes - 1},
		"a byte long":     {Pack: d.name, Offset: is.Offset, Bytes: is.Bytes + 1},
		"beyond the end":  {Pack: d.name, Offset: uint32(len(d.stored)), Bytes: 10},
		"far beyond it":   {Pack: d.name, Offset: 1<<32 - 1, Bytes: 1<<32 - 1},
		"all of the pack": {Pack: d.name, Offset: 1, Bytes: 1<<32 - 1},
	} {
		if ref.Place = place; ref.Place == is {
			d.Fatal(what)
		}
		d.must(ref, chunkstore.ErrCorrupt)
	}
	ref.Place = is
	ref.Place.Pack = chunkstore.Sum([]byte("another"))
	d.must(ref, chunkstore.ErrAbsent)
}

func testSpoiledPacks(d *damaged) {
	ctx := d.Context()
	before, last := d.refs[len(d.refs)-2], d.refs[len(d.refs)-1]
	list := func(kind error) {
		d.Helper()
		if _, err := d.target.GetPack(ctx, d.name); err != nil || kind != nil {
			MustBe(d.T, err, kind)
		}
	}
	end := int(last.Place.Offset + last.Place.Bytes) // a Sealer may have put something behind
	d.put(d.stored[:end-1])
	d.must(last, chunkstore.ErrCorrupt)
	d.must(before, nil)
	list(chunkstore.ErrCorrupt)
	if n, err := d.target.StatPack(ctx, d.name, 0); err != nil || n != int64(end-1) {
		d.Errorf("it has %d bytes, %v; want %d", n, err, end-1)
	}
	for _, body := range [][]byte{nil, []byte("VRNP"), []byte("not a pack")} {
		d.put(body)
		d.must(last, chunkstore.ErrCorrupt)
		_, err := d.target.StatPack(ctx, d.name, 0)
		MustBe(d.T, err, chunkstore.ErrCorrupt)
		if has, err := d.target.HasPack(ctx, d.name, 1); has || err != nil {
			d.Errorf("has %q for a pack: %v, %v", body, has, err)
		}
	}
	changed := bytes.Clone(d.stored)
	changed[last.Place.Offset+last.Place.Bytes/2] ^= 0x40
	d.put(changed)
	d.must(last, chunkstore.ErrCorrupt)
	d.must(before, nil)
	list(nil)
	changed = bytes.Clone(d.stored)
	changed[20] ^= 1
	d.put(changed)
	d.must(last, nil)
	list(chunkstore.ErrCorrupt)
}

// testLacking: of many packs, those are named that are not there, and no other.
func testLacking(t *testing.T, target *chunkstore.Target) {
	ctx := t.Context()
	var there, gone []chunkstore.Digest
	for i := range 9 {
		p, _ := PackOf(target.Sealer, fmt.Appendf(nil, "lacking %d", i))
		_, name, _ := p.Encode(target.Sealer)
		if i%3 == 0 {
			gone = append(gone, name)
			continue
		}
		there = append(there, name)
		if _, _, err := target.PutPack(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	names := map[chunkstore.Digest]int64{}
	for _, name := range append(there, gone...) {
		names[name] = 1
	}
	lacking, err := target.LackingPacks(ctx, names, 2)
	if err != nil || len(lacking) != len(gone) {
		t.Fatalf("%d of %d are lacking, %v", len(lacking), len(names), err)
	}
	for _, name := range gone {
		if !lacking[name] {
			t.Errorf("%v is not lacking", name)
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = target.LackingPacks(ended, map[chunkstore.Digest]int64{there[0]: 1}, 1)
	MustBe(t, err, context.Canceled)
}

// testBatch: what every target's batches do alike (I3).
func testBatch(t *testing.T, target *chunkstore.Target) {
	ctx := t.Context()
	for _, n := range []int{0, 1, 5, 100} {
		batch := target.Batch()
		refs := make([]chunkstore.Ref, n)
		object := func(i int) []byte { return fmt.Appendf(nil, "object %d", i) }
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() {
				p, of := PackOf(target.Sealer, object(i))
				stored, _, _ := p.Encode(target.Sealer)
				places, bytes, err := batch.Put(ctx, p)
				if err != nil || bytes != len(stored) {
					t.Errorf("put: %d bytes, %v", bytes, err)
					return
				}
				refs[i] = chunkstore.Ref{ID: of[0].ID, Place: places[0]}
			})
		}
		all.Wait()
		for range 2 {
			if err := batch.Sync(ctx); err != nil {
				t.Errorf("sync of %d packs: %v", n, err)
			}
		}
		for i, ref := range refs {
			if got, err := target.GetObject(ctx, ref); err != nil || !bytes.Equal(got, object(i)) {
				t.Errorf("got %q, %v; want %q", got, err, object(i))
			}
		}
		if err := batch.Close(); err != nil {
			t.Error(err)
		}
	}
	batch := target.Batch()
	defer batch.Close()
	if _, _, err := batch.Put(ctx, new(chunkstore.Pack)); err == nil {
		t.Error("put an empty pack")
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	p, _ := PackOf(target.Sealer, []byte("a"))
	_, _, err := batch.Put(ended, p)
	MustBe(t, err, context.Canceled)
	MustBe(t, batch.Sync(ended), context.Canceled)
}

// untouchable hides all but [chunkstore.Bucket] of a bucket.
type untouchable struct{ chunkstore.Bucket }

// testTouch: a touch makes a pack newer, and nothing else; also where the bucket
// cannot do it.
func testTouch(t *testing.T, target *chunkstore.Target) {
	ctx, end := context.WithTimeout(t.Context(), 20*time.Minute)
	defer end()
	plain := Text(11, chunkstore.ChunkBytes)
	p, refs := PackOf(target.Sealer, plain, plain[:9])
	body, name, places := p.Encode(target.Sealer)
	refs[0].Place = places[0]
	if _, ok := target.Chunks.(chunkstore.Toucher); !ok {
		t.Fatalf("%v cannot touch", target.Chunks)
	}
	bare := chunkstore.NewTarget("bare", untouchable{target.Chunks}, nil)
	bare.Sealer = target.Sealer
	for _, target := range []*chunkstore.Target{target, bare} {
		MustBe(t, target.TouchPack(ctx, name), chunkstore.ErrAbsent)
		if _, err := target.Chunks.Stat(ctx, name.String()); !errors.Is(err, chunkstore.ErrAbsent) {
			t.Fatalf("there is an object because it was touched: %v", err)
		}
		if _, _, err := target.PutPack(ctx, p); err != nil {
			t.Fatal(err)
		}
		put, err := target.Chunks.Stat(ctx, name.String())
		if err != nil {
			t.Fatal(err)
		}
		touched := put
		// S3 tells time by seconds; versitygw needs package s3's copyMax
		for !touched.Modified.After(put.Modified) {
			if err := target.TouchPack(ctx, name); err != nil {
				t.Fatal(err)
			}
			if touched, err = target.Chunks.Stat(ctx, name.String()); err != nil {
				t.Fatal(err)
			}
		}
		if touched.ETag != put.ETag || touched.Bytes != put.Bytes {
			t.Errorf("touched %+v; it was %+v", touched, put)
		}
		if got, err := target.GetObject(ctx, refs[0]); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("after a touch: %d bytes, %v", len(got), err)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		MustBe(t, target.TouchPack(ended, name), context.Canceled)
		if err := target.Chunks.Delete(ctx, name.String()); err != nil {
			t.Fatal(err)
		}
	}
	// What has to be read to be put again is verified (I2).
	damaged := bytes.Clone(body)
	damaged[len(damaged)-1] ^= 1
	MustPut(t, target.Chunks, name.String(), string(damaged), chunkstore.Condition{})
	MustBe(t, bare.TouchPack(ctx, name), chunkstore.ErrCorrupt)
	if err := target.Chunks.Delete(ctx, name.String()); err != nil {
		t.Fatal(err)
	}
}
