package history

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"verneuil/chunkstore"
)

func example() *Record {
	r := &Record{Number: 7, Epoch: 3, Release: true, Body: []byte("one commit")}
	for i := range r.Writer {
		r.Writer[i] = byte(i)
	}
	for i := range r.Before {
		r.Before[i] = byte(0xa0 + i)
	}
	return r
}

// The stored form does not change by accident.
func TestRecordVector(t *testing.T) {
	const want = "56524e4c01020000" + "0000000000000007" + "0000000000000003" +
		"000102030405060708090a0b0c0d0e0f" +
		"a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf" +
		"6f6e6520636f6d6d6974" + // the body
		"fa5cd7aacb2494d04bdf32c49e52a7da26e88117a01a873c944b1fba31b9e39a"
	if got := hex.EncodeToString(example().Encode()); got != want {
		t.Errorf("stored as\n%s, want\n%s", got, want)
	}
}

func TestRecordRoundTrip(t *testing.T) {
	want := example()
	stored := want.Encode()
	got, err := Decode(7, stored)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Encode(), stored) || got.digest != want.digest ||
		string(got.Body) != "one commit" {
		t.Errorf("read back as %+v", got)
	}
	if _, err := Decode(8, stored); !errors.Is(err, chunkstore.ErrCorrupt) {
		t.Errorf("as number 8: %v, want ErrCorrupt", err)
	}
}

// Every bit of a stored record is covered.
func TestRecordDamage(t *testing.T) {
	stored := example().Encode()
	for i := range stored {
		for bit := range 8 {
			bad := bytes.Clone(stored)
			bad[i] ^= 1 << bit
			if _, err := Decode(7, bad); !errors.Is(err, chunkstore.ErrCorrupt) {
				t.Fatalf("byte %d, bit %d changed: %v, want ErrCorrupt", i, bit, err)
			}
		}
		if _, err := Decode(7, stored[:i]); !errors.Is(err, chunkstore.ErrCorrupt) {
			t.Fatalf("cut to %d bytes: %v, want ErrCorrupt", i, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(uint64(7), example().Encode())
	fence := &Record{Number: 1, Epoch: 1, Fence: true}
	f.Add(uint64(1), fence.Encode())
	f.Fuzz(func(t *testing.T, n uint64, stored []byte) {
		r, err := Decode(n, stored)
		if err != nil {
			if !errors.Is(err, chunkstore.ErrCorrupt) {
				t.Errorf("%v is not ErrCorrupt", err)
			}
			return
		}
		if again := r.Encode(); !bytes.Equal(again, stored) {
			t.Errorf("%x was read, and is written as %x", stored, again)
		}
	})
}
