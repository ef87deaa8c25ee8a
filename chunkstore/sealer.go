package chunkstore

import (
	"errors"
	"fmt"
	"sync"
)

// Sealer gives objects their IDs, and is between the plain bytes of all that a target holds and
// what is stored of them. A configuration chooses it ([Options].Sealer); whoever names, stores or
// reads has it from the [Store] or the [Target]: no format knows of it. [Plain] stores bytes as
// they are; chunkstore/keyring encrypts them.
//
// What is sealed is bound to what it is about: an object's ID, a pack's name, a record's key.
// Where it is stored under another name, Unwrap refuses it.
//
// Implementations are comparable, and safe for concurrent use. Equal ones do the same.
type Sealer interface {
	// Identify returns the ID of plain, which is at most [ChunkBytes] long. Equal bytes have equal
	// IDs, others have others. [ChunkBytes] zeros have [ZeroID].
	Identify(plain []byte) ID
	// Overhead returns how many bytes Wrap puts before the plain bytes, and after them.
	Overhead() (before, after int)
	// Wrap seals in place: b is so many bytes, whatever they are, the plain ones, and so many more.
	Wrap(about string, b []byte)
	// Unwrap returns the plain bytes of what Wrap has made, of the same about. It fails with
	// [ErrKey] if the keys for it are not here, and with [ErrCorrupt] for what Wrap cannot have
	// made. The result may lie in stored, which does not change, or else in buf, if that has room.
	Unwrap(buf []byte, about string, stored []byte) (plain []byte, err error)
	// Fresh reports whether stored, of which the first bytes are enough, is sealed as Wrap would do
	// it now. It does not verify it.
	Fresh(stored []byte) bool
	// SealName returns what stands for name in a key, 16 bytes longer than it: equal for equal
	// names, whatever keys come and go, and telling nothing of it to who has not the identity.
	// nil: names are no secrets.
	SealName(name []byte) []byte
	// OpenName returns the name of which SealName has made sealed. ok is false if it has not.
	OpenName(sealed []byte) (name []byte, ok bool)
	// Ring names the keys, as far as IDs and names depend on them, and reports whether there are
	// older ones, so that what they have sealed is better sealed anew. Empty: nothing is encrypted.
	Ring() (name string, older bool)
}

// ErrKey: something is sealed with keys that the configuration does not have, or not sealed where
// it has some. It is a matter of configuration: what is stored may be whole, and whoever cannot
// read it must not replace it, nor conclude anything from it. It never comes with [ErrCorrupt].
var ErrKey = errors.New("the key does not fit")

// What the plain bytes of a thing are bound to.
const (
	aboutObject = "object "
	aboutList   = "list "
)

// SealObject appends to dst, which may be nil, what is stored of plain under id: at least one byte,
// and at most so many as a [Pack] has room for. It does not check that id is plain's.
func SealObject(s Sealer, dst []byte, id ID, plain []byte) []byte {
	before, after := s.Overhead()
	start := len(dst)
	dst = roomFor(dst, before+objectHeaderBytes+len(plain)+frameBytesMax+after)
	dst = encodeObject(dst[:start+before], plain)
	dst = roomFor(dst, after)
	dst = dst[:len(dst)+after]
	s.Wrap(aboutObject+string(id[:]), dst[start:])
	return dst
}

// openScratch is for objects between decryption and decompression.
var openScratch = sync.Pool{New: func() any {
	b := make([]byte, objectBytesMax)
	return &b
}}

// OpenObject returns the plain bytes of what is stored under id. It fails with [ErrCorrupt] if
// stored is no such object (I1), and with [ErrKey]. The result is never longer than [ChunkBytes],
// whatever stored claims. It may lie in stored, or else in buf, if that has a capacity of
// [ChunkBytes], or better [OpenBytes]; a nil buf is for who wants to keep it.
func OpenObject(s Sealer, buf []byte, id ID, stored []byte) ([]byte, error) {
	if int64(len(stored)) > ObjectBytesMax(s) {
		return nil, fmt.Errorf("%w: object of %d bytes", ErrCorrupt, len(stored))
	}
	scratch := openScratch.Get().(*[]byte)
	defer openScratch.Put(scratch)
	encoded, err := s.Unwrap((*scratch)[:0], aboutObject+string(id[:]), stored)
	if err != nil {
		return nil, err
	}
	plain, err := decodeObject(buf, encoded)
	if err != nil {
		return nil, err
	}
	if before, _ := s.Overhead(); before > 0 && len(plain) > 0 &&
		len(encoded) > objectHeaderBytes && &plain[0] == &encoded[objectHeaderBytes] {
		plain = append(buf[:0:cap(buf)], plain...) // it lies in scratch
	}
	if got := s.Identify(plain); got != id { // I1
		return nil, fmt.Errorf("%w: object's bytes have the ID %v", ErrCorrupt, got)
	}
	return plain, nil
}

// ObjectBytesMax bounds what SealObject appends.
func ObjectBytesMax(s Sealer) int64 { return objectBytesMax + int64(Overhead(s)) }

// Overhead returns how many bytes s adds to what it seals.
func Overhead(s Sealer) int {
	before, after := s.Overhead()
	return before + after
}

// Wrapped returns what s stores of plain, in a buffer of its own where it stores something else.
func Wrapped(s Sealer, about string, plain []byte) []byte {
	before, after := s.Overhead()
	if before+after == 0 {
		return plain
	}
	b := make([]byte, before+len(plain)+after)
	copy(b[before:], plain)
	s.Wrap(about, b)
	return b
}

// SealBody returns what s stores under key of a small body that is no manifest.
func SealBody(s Sealer, key string, body []byte) []byte {
	return Wrapped(s, key, EncodeBody(body))
}

// OpenBody is the inverse of SealBody. It fails with [ErrCorrupt] and [ErrKey].
func OpenBody(s Sealer, key string, stored []byte) ([]byte, error) {
	body, err := s.Unwrap(nil, key, stored)
	if err != nil {
		return nil, err
	}
	return DecodeBody(body)
}

// Rewrapped returns stored, sealed as s would do it now; stored itself, if it is so already.
func Rewrapped(s Sealer, about string, stored []byte) ([]byte, error) {
	if s.Fresh(stored) {
		return stored, nil
	}
	plain, err := s.Unwrap(nil, about, stored)
	if err != nil {
		return nil, err
	}
	return Wrapped(s, about, plain), nil
}

// Hashed is bytes and their ID, which nobody need check again. The bytes must not
// change while it is used.
type Hashed struct {
	id    ID
	plain []byte
}

// Hash has s compute the ID of plain, which it retains; at most [ChunkBytes] of it. Only targets
// with that Sealer may be given the result.
func Hash(s Sealer, plain []byte) Hashed { return Hashed{s.Identify(plain), plain} }

// HashChunk hashes what a tree has for a chunk: zeros of any length are a whole chunk of them. Any
// goroutine may call it. It keeps b where [Hash] does.
func HashChunk(s Sealer, b []byte) Hashed {
	for _, c := range b {
		if c != 0 {
			return Hash(s, b)
		}
	}
	return Zeros
}

// Zeros is the chunk of zero bytes, which needs no hash.
var Zeros = Hashed{ZeroID, make([]byte, ChunkBytes)}

// ID returns the ID.
func (h Hashed) ID() ID { return h.id }
