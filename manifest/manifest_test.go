package manifest_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"verneuil/chunkstore"
	. "verneuil/manifest"
)

// sample returns a manifest that uses every field: 100 chunks (one leaf), the
// last of 512 bytes.
func sample() *Manifest {
	page1 := bytes.Repeat([]byte("SQLite format 3\x00"), 4096/16)
	return &Manifest{
		Host: "höst", Path: "/srv/\xff bad.db", Program: "verneuil test",
		Lineage: [16]byte{1, 2, 3, 15: 16}, Epoch: 7, Sequence: 1<<40 + 3,
		Time: time.Unix(1700000000, 123456789).UTC(), SourceCtime: time.Unix(-5, 1).UTC(),
		FileBytes: 99*chunkstore.ChunkBytes + 512, PageBytes: 512, ChangeCounter: 1<<32 - 1,
		Cut:    [16]byte{5, 15: 6},
		Levels: 1, Top: []chunkstore.Ref{testRef(1)},
		Patches: []Patch{{0, testRef(100)}, {1, testRef(2)}, {99, zeroRef}},
		Inline: []Page{{0, page1}, {65024, make([]byte, 512)},
			{99 * chunkstore.ChunkBytes, bytes.Repeat([]byte{9}, 512)}},
	}
}

// unplacedSample is the sample as a cutter saves it.
func unplacedSample() *Manifest {
	m := sample()
	m.Top = unplaced(m.Top)
	for k := range m.Patches {
		m.Patches[k].Place = chunkstore.Place{}
	}
	return m
}

func TestI3DecodeAfterEncodeIsTheIdentity(t *testing.T) {
	empty := &Manifest{}
	small := sample()
	small.FileBytes, small.Levels, small.Top = 1, 0, []chunkstore.Ref{testRef(3)}
	small.Patches, small.Inline = nil, nil
	random := sample() // does not compress: stored raw
	random.Continuity = 1<<63 + 5
	random.Stores = []chunkstore.Identity{{1}, {2}}
	random.Inline = random.Inline[:1]
	random.Inline[0].Data = make([]byte, 65536-512)
	rng := rand.NewChaCha8([32]byte{1})
	rng.Read(random.Inline[0].Data)
	rng.Read(random.Cut[:])
	for name, m := range map[string]*Manifest{"empty": empty, "small": small, "sample": sample(),
		"random": random} {
		stored, err := m.Encode(chunkstore.Plain{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := Decode(chunkstore.Plain{}, stored)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(got, m) {
			t.Errorf("%s: got %+v, want %+v", name, got, m)
		}
		if again, _ := got.Encode(chunkstore.Plain{}); !bytes.Equal(again, stored) { // I4
			t.Errorf("%s: encodes to other bytes the second time", name)
		}
		wantRaw := name == "random"
		if (stored[5] == 0) != wantRaw {
			t.Errorf("%s: codec %d, raw wanted: %v", name, stored[5], wantRaw)
		}
	}
}

func TestTimesOutOfRangeAreUnknown(t *testing.T) {
	m := sample()
	m.SourceCtime = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	stored, err := m.Encode(chunkstore.Plain{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Decode(chunkstore.Plain{}, stored); err != nil || !got.SourceCtime.IsZero() {
		t.Fatalf("%v, %v", got, err)
	}
}

func TestI1EncodeRefusesWhatDecodeWould(t *testing.T) {
	for name, damage := range map[string]func(*Manifest){
		"page size 0":      func(m *Manifest) { m.PageBytes = 0 },
		"page size 513":    func(m *Manifest) { m.PageBytes = 513 },
		"page size 256":    func(m *Manifest) { m.PageBytes = 256 },
		"page size 131072": func(m *Manifest) { m.PageBytes = 131072 },
		"file of -1":       func(m *Manifest) { m.FileBytes = -1 },
		"huge file":        func(m *Manifest) { m.FileBytes = 1<<48 - 1<<17 + 1 },
		"levels 0":         func(m *Manifest) { m.Levels = 0 },
		"levels 2":         func(m *Manifest) { m.Levels = 2 },
		"no top":           func(m *Manifest) { m.Top = nil },
		"two in top":       func(m *Manifest) { m.Top = append(m.Top, testRef(8)) },
		"patch repeated":   func(m *Manifest) { m.Patches[1].Index = 0 },
		"patches disordered": func(m *Manifest) {
			m.Patches[1].Index = 99
			m.Patches[2].Index = 98
		},
		"patch beyond the end": func(m *Manifest) { m.Patches[2].Index = 100 },
		"patch before":         func(m *Manifest) { m.Patches[0].Index = -1 },
		"patches, levels 0": func(m *Manifest) {
			m.FileBytes, m.Levels, m.Inline = 64<<16, 0, nil
			m.Top = slices.Repeat(m.Top, 64)
			m.Patches = m.Patches[:1]
		},
		"empty inline":         func(m *Manifest) { m.Inline[0].Data = nil },
		"odd inline":           func(m *Manifest) { m.Inline[0].Data = make([]byte, 511) },
		"inline at odd offset": func(m *Manifest) { m.Inline[1].Offset++ },
		"inline before":        func(m *Manifest) { m.Inline[0].Offset = -512 },
		"inline overlap":       func(m *Manifest) { m.Inline[1].Offset = 4096 - 512 },
		"inline disorder": func(m *Manifest) {
			m.Inline[0], m.Inline[1] = m.Inline[1], m.Inline[0]
		},
		"inline crosses":        func(m *Manifest) { m.Inline[1].Data = make([]byte, 1024) },
		"inline beyond the end": func(m *Manifest) { m.Inline[2].Data = make([]byte, 1024) },
		"top without a place":   func(m *Manifest) { m.Top[0].Place = chunkstore.Place{} },
		"patch without a place": func(m *Manifest) { m.Patches[0].Place = chunkstore.Place{} },
		"place of no bytes":     func(m *Manifest) { m.Patches[0].Place.Bytes = 0 },
		"zeros with a place":    func(m *Manifest) { m.Patches[2].Place = testRef(1).Place },
		"host not UTF-8":        func(m *Manifest) { m.Host = "\xff" },
		"too long":              func(m *Manifest) { m.Path = strings.Repeat("x", BytesMax) },
	} {
		m := sample()
		damage(m)
		if stored, err := m.Encode(chunkstore.Plain{}); err == nil {
			t.Errorf("%s: encoded", name)
			if _, err := Decode(chunkstore.Plain{}, stored); err == nil {
				t.Errorf("%s: and decoded", name)
			}
		}
	}
}

func TestDecodeOfDamagedObjects(t *testing.T) {
	stored, err := sample().Encode(chunkstore.Plain{})
	if err != nil {
		t.Fatal(err)
	}
	for n := range stored {
		_, err := Decode(chunkstore.Plain{}, stored[:n])
		if !errors.Is(err, chunkstore.ErrCorrupt) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
		for _, bit := range []byte{1, 0x80} {
			damaged := bytes.Clone(stored)
			damaged[n] ^= bit
			m, err := Decode(chunkstore.Plain{}, damaged)
			if err == nil && !reflect.DeepEqual(m, sample()) || err != nil &&
				!errors.Is(err, chunkstore.ErrCorrupt) {
				t.Fatalf("byte %d changed: %v", n, err)
			}
		}
	}
	for _, b := range [][]byte{nil, bytes.Repeat([]byte{0}, 100),
		append([]byte("VRNM\x03\x01\x00\x00"), make([]byte, BytesMax)...)} {
		if _, err := Decode(chunkstore.Plain{}, b); !errors.Is(err, chunkstore.ErrCorrupt) {
			t.Fatalf("%d bytes: %v", len(b), err)
		}
	}
}

func TestOverlay(t *testing.T) {
	m := sample()
	base := bytes.Repeat([]byte{5}, chunkstore.ChunkBytes)
	got := m.Overlay(0, base)
	want := bytes.Clone(base)
	copy(want, m.Inline[0].Data)
	copy(want[65024:], make([]byte, 512))
	if !bytes.Equal(got, want) {
		t.Error("chunk 0: inline pages not laid over")
	}
	if &got[0] == &base[0] || base[0] != 5 {
		t.Error("chunk 0: base was changed or returned")
	}
	if got := m.Overlay(1, base[:1000]); !bytes.Equal(got,
		append(bytes.Clone(base[:1000]), make([]byte, 64536)...)) {
		t.Error("chunk 1: not extended by zeros")
	}
	if got := m.Overlay(1, nil); !bytes.Equal(got, make([]byte, chunkstore.ChunkBytes)) {
		t.Error("chunk 1: nil is not zeros")
	}
	if got := m.Overlay(99, base); !bytes.Equal(got, bytes.Repeat([]byte{9}, 512)) {
		t.Errorf("chunk 99: %d bytes", len(got))
	}
	m.Inline = nil
	if got := m.Overlay(99, base); !bytes.Equal(got, base[:512]) {
		t.Errorf("chunk 99 without inline page: %d bytes", len(got))
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range []*Manifest{{}, sample(), unplacedSample()} {
		stored, err := m.Encode(chunkstore.Plain{})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(stored, false)
		f.Add(stored[40:], true)
	}
	addVectors(f, func(stored []byte) { f.Add(stored, false) })
	f.Fuzz(func(t *testing.T, stored []byte, bodyOnly bool) {
		if bodyOnly { // let the fuzzer past the checksum
			sum := chunkstore.Sum(stored)
			stored = append(append([]byte("VRNM\x03\x00\x00\x00"), sum[:]...), stored...)
		}
		m, err := Decode(chunkstore.Plain{}, stored)
		if err != nil {
			if !errors.Is(err, chunkstore.ErrCorrupt) {
				t.Fatalf("not marked as corrupt: %v", err)
			}
			return
		}
		again, err := m.Encode(chunkstore.Plain{})
		if err != nil {
			t.Fatalf("decoded, but does not encode: %v", err) // I1
		}
		if m2, err := Decode(chunkstore.Plain{}, again); err != nil || !reflect.DeepEqual(m, m2) {
			t.Fatalf("%v: %+v, %+v", err, m, m2)
		}
	})
}
