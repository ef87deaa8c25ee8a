package storetest

import (
	"fmt"

	"verneuil/chunkstore"
)

// Masked is a [chunkstore.Sealer] that has nothing in common with [chunkstore.Plain] but what the
// contract asks for: a test that passes with it has what it knows of stored bytes from the Sealer.
// It keeps no secret. Its value is its key.
type Masked byte

// mask is between the plain sealer's world and ours: its own inverse.
func (m Masked) mask(b []byte) []byte {
	masked := make([]byte, len(b))
	for i := range b {
		masked[i] = b[i] ^ byte(m)
	}
	return masked
}

// Identify returns an ID that depends on the key, but for zeros.
func (m Masked) Identify(plain []byte) chunkstore.ID {
	id := chunkstore.Plain{}.Identify(plain)
	if id == chunkstore.ZeroID {
		return id
	}
	return chunkstore.ID(m.mask(id[:]))
}

// Seal returns plain behind a mask, with the key before it.
func (m Masked) Seal(dst []byte, _ chunkstore.ID, plain []byte) []byte {
	return append(append(dst, byte(m)), m.mask(plain)...)
}

// Open is the inverse of Seal.
func (m Masked) Open(_ []byte, id chunkstore.ID, stored []byte) ([]byte, error) {
	if len(stored) == 0 || len(stored) > 1+chunkstore.ChunkBytes || stored[0] != byte(m) {
		return nil, fmt.Errorf("%w: no object of the key %d", chunkstore.ErrCorrupt, m)
	}
	plain := m.mask(stored[1:])
	if got := m.Identify(plain); got != id {
		return nil, fmt.Errorf("%w: object has the ID %v", chunkstore.ErrCorrupt, got)
	}
	return plain, nil
}

// BytesMax is one byte more than a chunk.
func (m Masked) BytesMax() int64 { return 1 + chunkstore.ChunkBytes }

// SealBody is Plain's behind the mask.
func (m Masked) SealBody(body []byte) []byte {
	return m.mask(chunkstore.Plain{}.SealBody(body))
}

// OpenBody is the inverse of SealBody.
func (m Masked) OpenBody(stored []byte) ([]byte, error) {
	return chunkstore.Plain{}.OpenBody(m.mask(stored))
}
