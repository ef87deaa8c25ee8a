package chunkstore

import (
	"encoding/hex"
	"fmt"

	"github.com/zeebo/blake3"
)

// ChunkBytes is the size of every chunk of a database but the last.
const ChunkBytes = 64 << 10

// ID names a stored object. A [Sealer] gives it; it depends on the object's plain bytes.
type ID [32]byte

// ZeroID is the ID of the chunk of [ChunkBytes] zero bytes, which is never stored. It is the same
// with every [Sealer].
var ZeroID = ID(Sum(make([]byte, ChunkBytes)))

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

// Digest is the BLAKE3-256 hash of any bytes, such as a name or a manifest. It names no object.
type Digest [32]byte

// Sum returns the digest of b.
func Sum(b []byte) Digest { return blake3.Sum256(b) }

// String is 64 lower-case hex digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }
