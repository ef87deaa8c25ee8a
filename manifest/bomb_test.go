package manifest_test

import (
	"bytes"
	"errors"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"

	"verneuil/chunkstore"
	. "verneuil/manifest"
)

// TestBombs: objects that are small in a store, and large when decoded, are refused
// before they take much more memory than the largest manifest does (I2).
func TestBombs(t *testing.T) {
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string][]byte{
		"empty patches":      bytes.Repeat([]byte{14<<3 | 2, 0}, BytesMax/2-100),
		"empty inline pages": bytes.Repeat([]byte{15<<3 | 2, 0}, BytesMax/2-100),
		"unknown fields":     bytes.Repeat([]byte{13 << 3, 0}, BytesMax/2-100),
		"zeros":              make([]byte, 4*BytesMax),
	} {
		sum := chunkstore.Sum(body)
		stored := encoder.EncodeAll(body, append([]byte("VRNM\x02\x01\x00\x00"), sum[:]...))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Decode(chunkstore.Plain{}, stored)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, chunkstore.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 128*BytesMax {
			t.Errorf("%s: %d bytes stored, %d allocated", name, len(stored), allocated)
		}
	}
}
