package chunkstore_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/storetest"
)

// packOf packs chunks, sealed.
func packOf(s chunkstore.Sealer, chunks ...[]byte) *chunkstore.Pack {
	var p chunkstore.Pack
	for _, plain := range chunks {
		id := s.Identify(plain)
		p.Add(id, chunkstore.SealObject(s, nil, id, plain))
	}
	return &p
}

func TestPack(t *testing.T) {
	for _, n := range []int{1, 2, chunkstore.PackMax} {
		var chunks [][]byte
		for i := range n {
			chunks = append(chunks, storetest.Text(uint64(i), 1+i*i*16))
		}
		for _, sealer := range []chunkstore.Sealer{chunkstore.Plain{}, storetest.Keyed()} {
			stored, name, places := packOf(sealer, chunks...).Encode(sealer)
			pieces, err := chunkstore.DecodePack(sealer, name, stored)
			if err != nil || len(pieces) != n || len(places) != n {
				t.Fatalf("%d of %d chunks, %v", len(pieces), n, err)
			}
			for k, piece := range pieces {
				part := stored[places[k].Offset:][:places[k].Bytes]
				if piece.Place != places[k] || !bytes.Equal(piece.Stored, part) {
					t.Errorf("chunk %d is at %v, want %v", k, piece.Place, places[k])
				}
				plain, err := chunkstore.OpenObject(sealer, nil, piece.ID, part)
				if err != nil || !bytes.Equal(plain, chunks[k]) {
					t.Errorf("chunk %d: %v", k, err)
				}
			}
			_, again, _ := packOf(sealer, chunks...).Encode(sealer)
			if again != name {
				t.Error("the same chunks have another name")
			}
			slices.Reverse(chunks)
			if _, other, _ := packOf(sealer, chunks...).Encode(sealer); n > 1 && other == name {
				t.Error("another order has the same name")
			}
			slices.Reverse(chunks)
		}
	}
}

// A place is right for every pack of its name: stored forms of another length give another name.
func TestPackNameHasLengths(t *testing.T) {
	var long, short chunkstore.Pack
	long.Add(chunkstore.ID{1}, make([]byte, 10))
	short.Add(chunkstore.ID{1}, make([]byte, 9))
	_, a, _ := long.Encode(chunkstore.Plain{})
	_, b, _ := short.Encode(chunkstore.Plain{})
	if a == b {
		t.Error("two packs with other places have one name")
	}
}

// Equal packs have one name on one day, and never the name of a day before (I8).
func TestI8PackNameHasDay(t *testing.T) {
	midnight := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	name := func(at time.Time) chunkstore.Digest {
		p := chunkstore.NewPack()
		defer p.Recycle() // the next one has its memory, and not its day
		p.Date(at)
		p.Add(chunkstore.ID{1}, []byte("stored"))
		_, name, _ := p.Encode(chunkstore.Plain{})
		return name
	}
	if name(midnight) != name(midnight.Add(24*time.Hour-1)) {
		t.Error("one day, two names")
	}
	if name(midnight) == name(midnight.Add(-1)) ||
		name(midnight) == name(midnight.AddDate(0, 0, 1)) {
		t.Error("two days, one name")
	}
	before := time.Now()
	p := chunkstore.NewPack()
	p.Add(chunkstore.ID{1}, []byte("stored"))
	_, today, _ := p.Encode(chunkstore.Plain{})
	if today != name(before) && today != name(time.Now()) {
		t.Error("a pack that has no date is not of today")
	}
}

// The stored form does not change by accident.
func TestPackVector(t *testing.T) {
	var p chunkstore.Pack
	p.Date(time.Date(2026, 11, 29, 23, 59, 59, 0, time.UTC))
	p.Add(chunkstore.ID(bytes.Repeat([]byte{0x11}, 32)), []byte("first"))
	p.Add(chunkstore.ID(bytes.Repeat([]byte{0x22}, 32)), []byte("2nd"))
	stored, name, places := p.Encode(chunkstore.Plain{})
	want := "56524e5002000002" + "00005132" +
		"1111111111111111111111111111111111111111111111111111111111111111" + "00000005" +
		"2222222222222222222222222222222222222222222222222222222222222222" + "00000003" +
		"6669727374" + "326e64"
	if got := hex.EncodeToString(stored); got != want {
		t.Errorf("stored as %s, want %s", got, want)
	}
	want = "3f1ec3adeffa40ae7e6ab425a75f63050741ed42a1eaf9b4eb70f3d6af6c3420"
	if name.String() != want {
		t.Errorf("called %v, want %s", name, want)
	}
	if places[1] != (chunkstore.Place{Pack: name, Offset: 89, Bytes: 3}) {
		t.Errorf("places %v", places)
	}
}

// Damage before the stored forms is found by the name, and in them by the objects' IDs.
func TestPackDamage(t *testing.T) {
	plain := storetest.Text(1, 300)
	chunks := [][]byte{plain, plain[:100]}
	stored, name, _ := packOf(chunkstore.Plain{}, chunks...).Encode(chunkstore.Plain{})
	for i := range stored {
		bad := bytes.Clone(stored)
		bad[i] ^= 1
		pieces, err := chunkstore.DecodePack(chunkstore.Plain{}, name, bad)
		if err != nil {
			storetest.MustBe(t, err, chunkstore.ErrCorrupt)
			continue
		}
		for k, piece := range pieces {
			got, err := chunkstore.OpenObject(chunkstore.Plain{}, nil, piece.ID, piece.Stored)
			if err != nil {
				storetest.MustBe(t, err, chunkstore.ErrCorrupt)
			} else if !bytes.Equal(got, chunks[k]) { // some bits of a zstd frame mean nothing
				t.Errorf("byte %d changed: another object, and no error", i)
			}
		}
	}
	for n := range stored {
		_, err := chunkstore.DecodePack(chunkstore.Plain{}, name, stored[:n])
		storetest.MustBe(t, err, chunkstore.ErrCorrupt)
	}
	_, err := chunkstore.DecodePack(chunkstore.Plain{}, name, append(stored, 0))
	storetest.MustBe(t, err, chunkstore.ErrCorrupt)
}

func FuzzPack(f *testing.F) {
	stored, _, _ := packOf(chunkstore.Plain{}, []byte("a"), []byte("bc")).Encode(chunkstore.Plain{})
	f.Add(stored)
	f.Fuzz(func(t *testing.T, stored []byte) {
		const header, entry = 12, 36
		if len(stored) < header {
			return
		}
		n := int(stored[6])<<8 | int(stored[7])
		name := chunkstore.Sum(stored[:min(len(stored), header+entry*n)])
		pieces, err := chunkstore.DecodePack(chunkstore.Plain{}, name, stored)
		if err != nil {
			storetest.MustBe(t, err, chunkstore.ErrCorrupt)
			return
		}
		var p chunkstore.Pack
		day := int64(binary.BigEndian.Uint32(stored[8:]))
		p.Date(time.Unix(day*24*60*60, 0))
		for _, piece := range pieces {
			p.Add(piece.ID, piece.Stored)
		}
		again, sameName, _ := p.Encode(chunkstore.Plain{})
		if !bytes.Equal(again, stored) || sameName != name {
			t.Errorf("%x was read, and is written as %x", stored, again)
		}
	})
}
