package chunkstore_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"verneuil/chunkstore"
	"verneuil/chunkstore/storetest"
)

// noise returns n bytes that do not compress; the same for the same seed.
// text returns n bytes that compress about as a database does.
func TestObjectRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 7, 511, 512, 4096, 32768, chunkstore.ChunkBytes - 1,
		chunkstore.ChunkBytes} {
		for name, plain := range map[string][]byte{"noise": storetest.Noise(1, n),
			"text": storetest.Text(1, n), "zero": make([]byte, n)} {
			stored := chunkstore.SealObject(chunkstore.Plain{}, nil, chunkstore.ID{}, plain)
			if len(stored) > n+8 {
				t.Errorf("%s of %d bytes: stored as %d, want at most 8 more", name, n, len(stored))
			}
			if name != "noise" && n > 511 && len(stored) > n*3/4 {
				t.Errorf("%s of %d bytes: stored as %d: not compressed", name, n, len(stored))
			}
			id := chunkstore.Plain{}.Identify(plain)
			got, err := chunkstore.OpenObject(chunkstore.Plain{}, nil, id, stored)
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s of %d bytes: decoded to %d bytes, %v", name, n, len(got), err)
			}
		}
	}
}

// What compresses only because some bytes come more often than others, or only because something is
// repeated, is compressed, beside bytes that do not compress, too.
func TestObjectOfUnevenBytes(t *testing.T) {
	const n = chunkstore.ChunkBytes
	each := func(f func(i int, c byte) byte) []byte {
		b := storetest.Noise(1, n)
		for i, c := range b {
			b[i] = f(i, c)
		}
		return b
	}
	noise := storetest.Noise(2, n)
	for _, c := range []struct {
		name  string
		plain []byte
		most  float64 // of n
	}{
		{"seven bits", each(func(_ int, c byte) byte { return c & 0x7f }), 0.89},
		{"hex", []byte(hex.EncodeToString(noise[:n/2])), 0.52},
		{"small numbers", each(func(i int, c byte) byte { return c * byte(i&1) }), 0.66},
		{"pages with a tail of zeros", each(func(i int, c byte) byte {
			if i&4095 > 3600 {
				return 0
			}
			return c
		}), 0.9},
		{"noise again", append(bytes.Clone(noise[:n/2]), noise[:n/2]...), 0.52},
		{"half noise", append(bytes.Clone(noise[:n/2]), storetest.Text(1, n/2)...), 0.86},
	} {
		stored := chunkstore.SealObject(chunkstore.Plain{}, nil, chunkstore.ID{}, c.plain)
		if got := float64(len(stored)) / n; got > c.most {
			t.Errorf("%s: stored as %.3f of it, want at most %.2f", c.name, got, c.most)
		}
		id := chunkstore.Plain{}.Identify(c.plain)
		got, err := chunkstore.OpenObject(chunkstore.Plain{}, nil, id, stored)
		if err != nil || !bytes.Equal(got, c.plain) {
			t.Errorf("%s: decoded to %d bytes, %v", c.name, len(got), err)
		}
	}
}

// Vectors of format version 1, never to be changed.
func TestObjectVectors(t *testing.T) {
	vectors := []struct{ plain, stored string }{
		{"", "56524e4301000000"},
		{"hello", "56524e430100000068656c6c6f"},
		{strings.Repeat("verneuil ", 100),
			"56524e430101000028b52ffd400084028d0000487665726e6575696c20015409032d7819"},
	}
	for _, v := range vectors {
		stored, err := hex.DecodeString(v.stored)
		if err != nil {
			t.Fatal(err)
		}
		id := chunkstore.Plain{}.Identify([]byte(v.plain))
		got, err := chunkstore.OpenObject(chunkstore.Plain{}, nil, id, stored)
		if err != nil || string(got) != v.plain {
			t.Errorf("%.20q: decoded to %.20q, %v; encoded now %x", v.plain, got, err,
				chunkstore.SealObject(chunkstore.Plain{}, nil, chunkstore.ID{}, []byte(v.plain)))
		}
	}
}

func TestI1DamagedObjects(t *testing.T) {
	plain := storetest.Text(2, chunkstore.ChunkBytes)
	id := chunkstore.Plain{}.Identify(plain)
	stored := chunkstore.SealObject(chunkstore.Plain{}, nil, chunkstore.ID{}, plain)
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	header := func(codec byte) []byte { return []byte{'V', 'R', 'N', 'C', 1, codec, 0, 0} }
	changed := func(at int) []byte {
		b := bytes.Clone(stored)
		b[at] ^= 0x40
		return b
	}
	half := encoder.EncodeAll(plain[:40000], nil)
	cases := map[string][]byte{
		"empty":        nil,
		"short header": stored[:7],
		"header only":  stored[:8],
		"truncated":    stored[:len(stored)-1],
		"magic":        changed(0),
		"version":      changed(4),
		"codec":        changed(5),
		"reserved":     changed(7),
		"payload":      changed(len(stored) / 2),
		"another": chunkstore.SealObject(chunkstore.Plain{}, nil, chunkstore.ID{},
			storetest.Text(3, 1000)),
		"raw, too long": append(header(0), make([]byte, chunkstore.ChunkBytes+1)...),
		"zstd bomb":     encoder.EncodeAll(make([]byte, 100<<20), header(1)),
		"two frames":    append(append(header(1), half...), half...),
		"a little long": encoder.EncodeAll(storetest.Text(2, chunkstore.ChunkBytes+8), header(1)),
	}
	for name, damaged := range cases {
		for _, buf := range [][]byte{nil, make([]byte, 0, chunkstore.ChunkBytes),
			make([]byte, 0, chunkstore.OpenBytes), make([]byte, 0, 1<<20)} {
			got, err := chunkstore.OpenObject(chunkstore.Plain{}, buf, id, damaged)
			if !errors.Is(err, chunkstore.ErrCorrupt) {
				t.Errorf("%s: %d bytes, error %v; want ErrCorrupt", name, len(got), err)
			}
		}
	}
}

func FuzzDecodeObject(f *testing.F) {
	f.Add(chunkstore.SealObject(chunkstore.Plain{}, nil, chunkstore.ID{}, nil))
	f.Add(chunkstore.SealObject(chunkstore.Plain{}, nil, chunkstore.ID{}, []byte("hello")))
	f.Add(chunkstore.SealObject(chunkstore.Plain{}, nil, chunkstore.ID{}, storetest.Text(1, 5000)))
	f.Fuzz(func(t *testing.T, b []byte) {
		// b as a stored object: no panic, and nothing but the ID's own bytes.
		id := chunkstore.Plain{}.Identify(b)
		if plain, err := chunkstore.OpenObject(chunkstore.Plain{}, nil, id, b); err == nil &&
			(chunkstore.Plain{}).Identify(plain) != id {
			t.Fatalf("accepted %d bytes of another hash", len(plain))
		} else if err != nil && !errors.Is(err, chunkstore.ErrCorrupt) {
			t.Fatalf("error of no kind: %v", err)
		}
		// b as plain bytes: Decode after Encode is the identity.
		if len(b) <= chunkstore.ChunkBytes {
			stored := chunkstore.SealObject(chunkstore.Plain{}, []byte("before"),
				chunkstore.ID{}, b)
			plain, err := chunkstore.OpenObject(chunkstore.Plain{}, nil, id, stored[len("before"):])
			if err != nil || !bytes.Equal(plain, b) {
				t.Fatalf("round trip of %d bytes: %d bytes, %v", len(b), len(plain), err)
			}
		}
	})
}

func BenchmarkEncodeObject(b *testing.B) {
	blobs := storetest.Noise(1, chunkstore.ChunkBytes)
	for at := 0; at < len(blobs); at += 8192 { // of 8 KiB each, on pages of 4 KiB
		clear(blobs[at+3611 : at+4096])
	}
	for name, plain := range map[string][]byte{
		"text": storetest.Text(1, chunkstore.ChunkBytes), "blobs": blobs,
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			var stored []byte
			for b.Loop() {
				stored = chunkstore.SealObject(chunkstore.Plain{}, nil, chunkstore.ID{}, plain)
			}
			b.ReportMetric(float64(len(stored))/float64(len(plain)), "ratio")
		})
	}
}

func BenchmarkDecodeObject(b *testing.B) {
	plain := storetest.Text(1, chunkstore.ChunkBytes)
	id := chunkstore.Plain{}.Identify(plain)
	stored := chunkstore.SealObject(chunkstore.Plain{}, nil, chunkstore.ID{},
		plain)
	b.SetBytes(int64(len(plain)))
	for b.Loop() {
		if _, err := chunkstore.OpenObject(chunkstore.Plain{}, nil, id, stored); err != nil {
			b.Fatal(err)
		}
	}
}
