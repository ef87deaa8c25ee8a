package chunkstore

import (
	"encoding/hex"
	"fmt"

	"github.com/zeebo/blake3"
)

// Plain is the [Sealer] of objects that anybody may read who has the store: an ID is the BLAKE3-256
// hash of the plain bytes, which are stored as they are.
type Plain struct{}

// Identify returns the hash of plain: see [Sealer].
func (Plain) Identify(plain []byte) ID { return blake3.Sum256(plain) }

// Overhead is none.
func (Plain) Overhead() (before, after int) { return 0, 0 }

// Wrap does nothing.
func (Plain) Wrap(string, []byte) {}

// Unwrap returns stored. It fails with [ErrKey] if that is encrypted.
func (Plain) Unwrap(_ []byte, _ string, stored []byte) ([]byte, error) {
	if key, ok := SealedWith(stored); ok {
		return nil, fmt.Errorf("%w: it is encrypted with the key %v, and the configuration has "+
			"no key: give it the key_file (or key_command) that it was written with", ErrKey, key)
	}
	return stored, nil
}

// Fresh is true: there are no keys.
func (Plain) Fresh([]byte) bool { return true }

// SealName returns nil: names are no secrets.
func (Plain) SealName([]byte) []byte { return nil }

// OpenName opens nothing.
func (Plain) OpenName([]byte) (name []byte, ok bool) { return nil, false }

// Ring is empty: nothing is encrypted.
func (Plain) Ring() (name string, older bool) { return "", false }

// What is encrypted begins so, whatever it is:
//
//	offset size
//	0      4    magic "SEAL"
//	4      1    format version, 1
//	5      3    the first bytes of the BLAKE3-256 of the key's name: damage is not another key
//	8      8    the key's name
//
// No plain form of anything begins with the magic, nor differs from it in a few bits.
const (
	sealMagic   = "SEAL"
	sealVersion = 1
	// SealHeadBytes is how long that is.
	SealHeadBytes = 16
)

// KeyName tells keys apart. It is no secret.
type KeyName [8]byte

// String is 16 lower-case hex digits.
func (n KeyName) String() string { return hex.EncodeToString(n[:]) }

// PutSealHead writes how what is sealed with that key begins to b, of SealHeadBytes.
func PutSealHead(b []byte, key KeyName) {
	copy(b, sealMagic)
	b[4] = sealVersion
	sum := Sum(key[:])
	copy(b[5:8], sum[:])
	copy(b[8:SealHeadBytes], key[:])
}

// SealedWith returns the name of the key that stored says it is sealed with. ok is false if it does
// not begin as what is sealed does.
func SealedWith(stored []byte) (key KeyName, ok bool) {
	if len(stored) < SealHeadBytes {
		return KeyName{}, false
	}
	key = KeyName(stored[8:SealHeadBytes])
	var head [SealHeadBytes]byte
	PutSealHead(head[:], key)
	return key, string(head[:]) == string(stored[:SealHeadBytes])
}
