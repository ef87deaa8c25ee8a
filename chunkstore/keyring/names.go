package keyring

import (
	"crypto/subtle"
	"encoding/binary"

	"golang.org/x/crypto/chacha20"
)

// sumBytes is the length of the hash before a sealed name.
const sumBytes = 16

// nameSealer seals names: see "Names" in the package's comment.
type nameSealer struct {
	key  []byte
	sums hashers
}

func newNameSealer(identity secret) *nameSealer {
	return &nameSealer{identity.derive("name cipher", chacha20.KeySize),
		hashersOf(identity.derive("name sum", secretBytes))}
}

func (n *nameSealer) sum(name []byte) []byte {
	sum := n.sums.sum(name)
	return sum[:sumBytes]
}

// stream encrypts, or decrypts, name in place.
func (n *nameSealer) stream(sum, name []byte) {
	nonce := make([]byte, chacha20.NonceSizeX)
	copy(nonce, sum)
	binary.BigEndian.PutUint64(nonce[sumBytes:], uint64(len(name)))
	cipher, err := chacha20.NewUnauthenticatedCipher(n.key, nonce)
	if err != nil {
		panic(err) // key and nonce have the right lengths
	}
	cipher.XORKeyStream(name, name)
}

// SealName seals a name with the identity: see [chunkstore.Sealer].
func (s Sealer) SealName(name []byte) []byte {
	n := s.r.names
	if n == nil {
		return nil
	}
	sealed := append(n.sum(name), name...)
	n.stream(sealed[:sumBytes], sealed[sumBytes:])
	return sealed
}

// OpenName is the inverse of SealName: see [chunkstore.Sealer].
func (s Sealer) OpenName(sealed []byte) (name []byte, ok bool) {
	n := s.r.names
	if n == nil || len(sealed) < sumBytes {
		return nil, false
	}
	name = append(name, sealed[sumBytes:]...)
	n.stream(sealed[:sumBytes], name)
	if subtle.ConstantTimeCompare(n.sum(name), sealed[:sumBytes]) == 0 {
		return nil, false
	}
	return name, true
}
