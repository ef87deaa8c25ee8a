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
	err := parseHash(id[:], "object ID", s)
	return id, err
}

func parseHash(hash []byte, what, s string) error {
	if len(s) != 2*len(hash) {
		return fmt.Errorf("%s %q: want %d hex digits", what, s, 2*len(hash))
	}
	if _, err := hex.Decode(hash, []byte(s)); err != nil {
		return fmt.Errorf("%s %q: %w", what, s, err)
	}
	return nil
}

// String is 64 lower-case hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Digest is the BLAKE3-256 hash of any bytes, such as a manifest, or the list of a pack, which is
// called by it. It names no object.
type Digest [32]byte

// Sum returns the digest of b.
func Sum(b []byte) Digest { return blake3.Sum256(b) }

// ParseDigest is the inverse of [Digest.String].
func ParseDigest(s string) (Digest, error) {
	var d Digest
	err := parseHash(d[:], "digest", s)
	return d, err
}

// String is 64 lower-case hex digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }
