package chunkstore

import (
	"encoding/hex"
	"fmt"

	"github.com/zeebo/blake3"
)

// ChunkBytes is the size of every chunk of a database but the last.
const ChunkBytes = 64 << 10

// ID names an object: the BLAKE3-256 hash of its plain bytes.
type ID [32]byte

// ZeroID is the ID of the chunk of [ChunkBytes] zero bytes, which is never stored.
var ZeroID = Sum(make([]byte, ChunkBytes))

// Sum returns the ID of plain.
func Sum(plain []byte) ID { return blake3.Sum256(plain) }

// ParseID is the inverse of [ID.String].
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 2*len(id) {
		return id, fmt.Errorf("chunk ID %q: want %d hex digits", s, 2*len(id))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return id, fmt.Errorf("chunk ID %q: %w", s, err)
	}
	return id, nil
}

// String is the object's key: 64 lower-case hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }
