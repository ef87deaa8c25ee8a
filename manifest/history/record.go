package history

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/zeebo/blake3"

	"verneuil/chunkstore"
)

// Digest is the BLAKE3-256 of a stored record without its last 32 bytes, which are the digest.
type Digest [32]byte

const (
	magic         = "VRNL"
	formatVersion = 1
	headerBytes   = 72
	digestBytes   = 32

	flagFence   = 1
	flagRelease = 2
)

// Record is one step of a history. Body is opaque; it is not copied.
type Record struct {
	Number  uint64 // from 1
	Epoch   uint64 // of the writer
	Writer  [16]byte
	Before  Digest // of record Number-1; zero in record 1
	Fence   bool   // Writer takes over with it
	Release bool   // Writer gives the history back with it
	Body    []byte

	digest Digest // of its stored form
}

// Encode returns the stored form, and notes its digest in r.
func (r *Record) Encode() []byte {
	b := make([]byte, headerBytes, headerBytes+len(r.Body)+digestBytes)
	copy(b, magic)
	b[4] = formatVersion
	if r.Fence {
		b[5] |= flagFence
	}
	if r.Release {
		b[5] |= flagRelease
	}
	binary.BigEndian.PutUint64(b[8:], r.Number)
	binary.BigEndian.PutUint64(b[16:], r.Epoch)
	copy(b[24:], r.Writer[:])
	copy(b[40:], r.Before[:])
	b = append(b, r.Body...)
	r.digest = blake3.Sum256(b)
	return append(b, r.digest[:]...)
}

// Decode reads a stored record, whose number must be n. It fails with
// [chunkstore.ErrCorrupt]. Body is a part of stored.
func Decode(n uint64, stored []byte) (*Record, error) {
	corrupt := func(what string, args ...any) error {
		return fmt.Errorf("record %d: %s: %w", n, fmt.Sprintf(what, args...), chunkstore.ErrCorrupt)
	}
	if len(stored) < headerBytes+digestBytes || !bytes.HasPrefix(stored, []byte(magic)) {
		return nil, corrupt("%d bytes that do not begin as a record", len(stored))
	}
	if stored[4] != formatVersion {
		return nil, corrupt("format %d, which a newer program wrote", stored[4])
	}
	plain, sum := stored[:len(stored)-digestBytes], stored[len(stored)-digestBytes:]
	r := &Record{
		Number:  binary.BigEndian.Uint64(stored[8:]),
		Epoch:   binary.BigEndian.Uint64(stored[16:]),
		Writer:  [16]byte(stored[24:40]),
		Before:  Digest(stored[40:72]),
		Fence:   stored[5]&flagFence != 0,
		Release: stored[5]&flagRelease != 0,
		Body:    plain[headerBytes:],
		digest:  blake3.Sum256(plain),
	}
	switch {
	case r.digest != Digest(sum):
		return nil, corrupt("another digest")
	case stored[5]&^(flagFence|flagRelease) != 0 || stored[6] != 0 || stored[7] != 0:
		return nil, corrupt("reserved bits are set")
	case r.Number != n:
		return nil, corrupt("it says that it is number %d", r.Number)
	case r.Epoch == 0 || n == 1 && r.Before != (Digest{}):
		return nil, corrupt("impossible header")
	}
	return r, nil
}
