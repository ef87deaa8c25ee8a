package chunkstore

import (
	"encoding/binary"
	"fmt"
)

// A pack is one object that holds several, each sealed by itself: a request has its price whatever
// its size. Stored form:
//
//	offset size
//	0      4    magic "VRNP"
//	4      1    format version, 1
//	5      1    reserved, zero
//	6      2    how many objects: 1 to 64; big-endian, as all numbers here
//	8      36*n each object's ID, and how long its stored form is
//	…           the stored forms, in that order
//
// A pack is named by the digest of what stands before the stored forms. So a [Place] is right for
// every pack of its name: another compressor, or another nonce, may make other stored forms, but
// none of another length.

const (
	packMagic       = "VRNP"
	packVersion     = 1
	packHeaderBytes = 8
	packEntryBytes  = 36

	// PackMax is how many objects a pack has at most: 4 MiB of a database.
	PackMax = 64
)

// Place is where the stored form of an object stands.
type Place struct {
	Pack          Digest // the name of the pack
	Offset, Bytes uint32 // in the pack
}

// Ref names an object, and says where it stands in a target. Where its Place is zero, that is not
// said: the object is known here, or lies nowhere yet. [ZeroID] lies nowhere and needs no Place. A
// Place is the same in each target that has the pack. Refs are compared with ==, and are equal when
// they name the same object in the same place.
type Ref struct {
	ID    ID
	Place Place
}

// Pack gathers objects that are stored together. It is one goroutine's. Its zero value is empty.
type Pack struct {
	ids    []ID
	stored [][]byte
}

// Len returns how many objects p has.
func (p *Pack) Len() int { return len(p.ids) }

// Add puts an object's stored form, which it retains, into p, which has less than [PackMax].
func (p *Pack) Add(id ID, stored []byte) {
	p.ids, p.stored = append(p.ids, id), append(p.stored, stored)
}

// Encode returns the stored form of p, which is not empty, its name, and where the objects stand,
// in the order in which they were added. Equal objects in equal order have equal names.
func (p *Pack) Encode() (stored []byte, name Digest, places []Place) {
	start := packHeaderBytes + packEntryBytes*len(p.ids)
	size := start
	for _, s := range p.stored {
		size += len(s)
	}
	stored = append(make([]byte, 0, size), packMagic...)
	stored = append(stored, packVersion, 0)
	stored = binary.BigEndian.AppendUint16(stored, uint16(len(p.ids)))
	for k, id := range p.ids {
		stored = append(stored, id[:]...)
		stored = binary.BigEndian.AppendUint32(stored, uint32(len(p.stored[k])))
	}
	name = Sum(stored)
	for _, s := range p.stored {
		places = append(places, Place{name, uint32(len(stored)), uint32(len(s))})
		stored = append(stored, s...)
	}
	return stored, name, places
}

// Piece is an object in a pack.
type Piece struct {
	ID
	Place
	Stored []byte // a part of the pack
}

// DecodePack returns what a stored pack called name holds, without opening it. It fails with
// [ErrCorrupt].
func DecodePack(name Digest, stored []byte) ([]Piece, error) {
	corrupt := func(format string, args ...any) error {
		return fmt.Errorf("pack %v: %s: %w", name, fmt.Sprintf(format, args...), ErrCorrupt)
	}
	if len(stored) < packHeaderBytes || string(stored[:4]) != packMagic {
		return nil, corrupt("%d bytes that do not begin as a pack", len(stored))
	}
	if stored[4] != packVersion {
		return nil, corrupt("format %d, this program knows %d", stored[4], packVersion)
	}
	n := int(binary.BigEndian.Uint16(stored[6:]))
	start := packHeaderBytes + packEntryBytes*n
	if n == 0 || n > PackMax || len(stored) < start {
		return nil, corrupt("%d bytes for %d objects", len(stored), n)
	}
	if Sum(stored[:start]) != name { // reserved bytes, too
		return nil, corrupt("its list has another digest")
	}
	pieces := make([]Piece, n)
	at := start
	for k := range pieces {
		entry := stored[packHeaderBytes+packEntryBytes*k:]
		size := int(binary.BigEndian.Uint32(entry[32:]))
		if size > len(stored)-at {
			return nil, corrupt("it ends in object %d of %d", k+1, n)
		}
		place := Place{name, uint32(at), uint32(size)}
		pieces[k] = Piece{ID(entry[:32]), place, stored[at : at+size]}
		at += size
	}
	if at != len(stored) {
		return nil, corrupt("%d bytes too many", len(stored)-at)
	}
	return pieces, nil
}
