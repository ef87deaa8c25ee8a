package manifest_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"

	"verneuil/chunkstore"
	. "verneuil/manifest"
)

// names returns so many names of packs.
func names(n int) (names []byte) {
	for k := range n {
		names = append(binary.BigEndian.AppendUint32(names, uint32(k)), make([]byte, 28)...)
	}
	return names
}

// TestBombs: objects that are small in a store, and large when decoded, are refused
// before they take much more memory than the largest manifest does (I2).
func TestBombs(t *testing.T) {
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string][]byte{
		"empty patches": bytes.Repeat([]byte{14<<3 | 2, 0}, BytesMax/2-100),
		"packs that nothing is in": protowire.AppendBytes(
			protowire.AppendTag(nil, 23, protowire.BytesType), names(BytesMax/32-100)),
		"empty inline pages": bytes.Repeat([]byte{15<<3 | 2, 0}, BytesMax/2-100),
		"unknown fields":     bytes.Repeat([]byte{13 << 3, 0}, BytesMax/2-100),
		"zeros":              make([]byte, 4*BytesMax),
	} {
		sum := chunkstore.Sum(body)
		stored := encoder.EncodeAll(body, append([]byte("VRNM\x03\x01\x00\x00"), sum[:]...))
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
