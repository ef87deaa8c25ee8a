package chunkstore

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"
)

// A pack is one object that holds several, each sealed by itself: a request has its price whatever
// its size. Stored form:
//
//	offset size
//	0      4    magic "VRNP"
//	4      1    format version, 2
//	5      1    edition: 0, or what was drawn so that it has another name than one that is damaged
//	6      2    how many objects: 1 to 64; big-endian, as all numbers here
//	8      4    the day on which it was begun, counted from 1970-01-01 (UTC)
//	12     36*n each object's ID, and how long its stored form is
//	…           the stored forms, in that order
//
// Of the entries a [Sealer] may make other bytes, as many: then what it adds follows the stored
// forms. A pack is named by the digest of what plainly stands before the stored forms. So a [Place]
// is right for every pack of its name: another compressor, key or nonce may make other stored
// forms, but none of another length.
//
// Equal packs that are put on one day are one. On another day they have another name, for the sake
// of who deletes a pack that nothing has named for days: between his look whether it is still old,
// and its end, nobody can put one of that name (package upkeep). Version 1 had no day, and was
// never released.

const (
	packMagic       = "VRNP"
	packVersion     = 2
	packHeaderBytes = 12
	packEntryBytes  = 36

	// PackMax is how many objects a pack has at most: 4 MiB of a database.
	PackMax = 64
)

// Place is where the stored form of an object stands.
type Place struct {
	Pack          Digest // the name of the pack
	Offset, Bytes uint32 // in the pack
}

// End returns how long p's pack is at least: as far as the object goes.
func (p Place) End() int64 { return int64(p.Offset) + int64(p.Bytes) }

// ObjectsMax returns how many objects p's pack has at most: their list stands before them all. That
// is how many it has, if p is the place of the first one.
func (p Place) ObjectsMax() int {
	return max(0, min(PackMax, (int(p.Offset)-packHeaderBytes)/packEntryBytes))
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
	day     uint32 // 0: it is not begun
	edition uint8  // 0, but for what is put in the place of another: see Packing.Edition
	expect  int    // how many objects it will have, as it seems
	ids     []ID
	sizes   []uint32
	body    []byte // packListMax bytes, of which the last ones are for the list; the stored forms
}

// packListMax is how long the list of a pack is at most, with its header.
const packListMax = packHeaderBytes + packEntryBytes*PackMax

// PackListBytes returns how long the list of a pack of so many objects is, with its header.
func PackListBytes(objects int) int64 { return packHeaderBytes + packEntryBytes*int64(objects) }

// packBytesMax bounds a pack of objects that s has sealed: 4 MiB and a little.
func packBytesMax(s Sealer) int64 {
	return packListMax + PackMax*ObjectBytesMax(s) + int64(Overhead(s))
}

// Len returns how many objects p has.
func (p *Pack) Len() int { return len(p.ids) }

// Clone returns a copy of p, which is not empty, in memory of its own.
func (p *Pack) Clone() *Pack {
	c := *p
	c.ids, c.sizes, c.body = slices.Clone(p.ids), slices.Clone(p.sizes), slices.Clone(p.body)
	return &c
}

// StoredBytes is how long the objects of p are.
func (p *Pack) StoredBytes() (n int64) {
	for _, size := range p.sizes {
		n += int64(size)
	}
	return n
}

// Expect says how many objects p will have, so that it need not grow for each of them: fresh memory
// costs more than what is sealed into it. It is no promise.
func (p *Pack) Expect(objects int) { p.expect = objects }

// makeRoom has p have room for all that are to come, if they are like those that there are.
func (p *Pack) makeRoom(s Sealer) {
	have, most := len(p.ids), int(ObjectBytesMax(s))
	if have > 0 && p.expect > have && cap(p.body)-len(p.body) < most {
		stored := len(p.body) - packListMax
		p.body = roomFor(p.body, (stored+stored/16)/have*(p.expect-have-1)+most+frameBytesMax)
	}
}

// Seal has s seal h, which is none of [ZeroID], and puts it into p, which has less than
// [PackMax] objects.
func (p *Pack) Seal(s Sealer, h Hashed) {
	p.begin()
	p.makeRoom(s)
	was := len(p.body)
	p.body = SealObject(s, p.body, h.id, h.plain)
	p.ids, p.sizes = append(p.ids, h.id), append(p.sizes, uint32(len(p.body)-was))
}

// SealChecked is Seal of bytes that may not be id's: then it fails with [ErrMismatch], and p is as
// it was (I2).
func (p *Pack) SealChecked(s Sealer, id ID, plain []byte) error {
	if len(plain) > ChunkBytes {
		return fmt.Errorf("seal object %v: %d bytes, more than %d", id, len(plain), ChunkBytes)
	}
	h := Hash(s, plain)
	if h.id != id { // I2
		return fmt.Errorf("seal object %v: %w: %v", id, ErrMismatch, h.id)
	}
	p.Seal(s, h)
	return nil
}

// Add puts a copy of an object's stored form, which is not empty, into p, which has less than
// [PackMax] objects.
func (p *Pack) Add(id ID, stored []byte) {
	p.begin()
	p.body = append(roomFor(p.body, len(stored)), stored...)
	p.ids, p.sizes = append(p.ids, id), append(p.sizes, uint32(len(stored)))
}

// Date says on which day p is begun. Else it is the day when the first object is added, by this
// machine's clock.
func (p *Pack) Date(t time.Time) {
	p.day = uint32(max(1, min(t.Unix()/secondsPerDay, math.MaxUint32)))
}

const secondsPerDay = 24 * 60 * 60

func (p *Pack) begin() {
	if p.day == 0 {
		p.Date(time.Now())
	}
	if p.body == nil {
		p.body = make([]byte, packListMax, packListMax+objectBytesMax+frameBytesMax)
	}
}

// Reset empties p, which keeps its memory for other objects. A pack that is put must not be reset
// before the put has returned nil: after an error a connection may still be reading it.
func (p *Pack) Reset() {
	p.day, p.edition, p.expect = 0, 0, 0
	p.ids, p.sizes = p.ids[:0], p.sizes[:0]
	p.body = p.body[:min(len(p.body), packListMax)]
}

// Places returns the name of p, which is not empty, and where the objects stand, in the order in
// which they were added. Equal objects in equal order have equal names, on one day.
func (p *Pack) Places() (name Digest, places []Place) {
	list := p.list(nil)
	name = Sum(list)
	places = make([]Place, len(p.ids))
	at := uint32(len(list))
	for k, n := range p.sizes {
		places[k] = Place{name, at, n}
		at += n
	}
	return name, places
}

// list appends the plain list of p to dst.
func (p *Pack) list(dst []byte) []byte {
	dst = append(dst, packMagic...)
	dst = append(dst, packVersion, p.edition)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(p.ids)))
	dst = binary.BigEndian.AppendUint32(dst, p.day)
	for k, id := range p.ids {
		dst = append(dst, id[:]...)
		dst = binary.BigEndian.AppendUint32(dst, p.sizes[k])
	}
	return dst
}

// Encode returns the stored form of p, which is not empty, for a target of s, and what
// [Pack.Places] does. stored is p's own memory: it is valid until p changes. All of it is sealed
// with one key: what was sealed with an older one, a moment ago, is sealed anew. (Who adds what
// nobody can open keeps that as it is.)
func (p *Pack) Encode(s Sealer) (stored []byte, name Digest, places []Place) {
	name, places = p.Places()
	size := packHeaderBytes + packEntryBytes*len(p.ids)
	stored = p.body[packListMax-size:]
	for {
		tail := p.sealList(s, name, stored[:0])
		stale := false
		p.each(func(id ID, object []byte) {
			if s.Fresh(object) {
				return
			}
			again, err := Rewrapped(s, aboutObject+string(id[:]), object)
			if err == nil && len(again) == len(object) {
				copy(object, again)
				stale = true
			}
		})
		if !stale {
			return append(stored, tail...), name, places
		}
	}
}

// sealList writes the list to dst, as s seals it, and returns what is to follow the objects.
func (p *Pack) sealList(s Sealer, name Digest, dst []byte) (tail []byte) {
	list := p.list(dst)
	before, after := s.Overhead()
	if before+after == 0 {
		return nil
	}
	entries := list[packHeaderBytes:]
	wrapped := Wrapped(s, aboutList+string(name[:]), entries)
	copy(entries, wrapped[before:])
	return append(wrapped[:before], wrapped[before+len(entries):]...)
}

// openList returns the plain list of a stored pack, of which it has so many bytes, and the rest.
func openList(s Sealer, name Digest, stored []byte, size int) (list, rest []byte, err error) {
	before, after := s.Overhead()
	end := len(stored) - before - after
	if size > end {
		return nil, nil, fmt.Errorf("%d bytes, shorter than its list: %w", len(stored), ErrCorrupt)
	}
	list, tail := stored[:size], stored[end:]
	entries := list[packHeaderBytes:]
	wrapped := entries
	if before+after > 0 {
		wrapped = slices.Concat(tail[:before], entries, tail[before:])
	}
	plain, err := s.Unwrap(nil, aboutList+string(name[:]), wrapped)
	if err != nil {
		return nil, nil, fmt.Errorf("its list: %w", err)
	}
	if before+after > 0 {
		list = slices.Concat(list[:packHeaderBytes], plain)
	}
	return list, stored[:end], nil
}

// each calls f with what p has, in its order.
func (p *Pack) each(f func(id ID, stored []byte)) {
	rest := p.body[min(len(p.body), packListMax):]
	for k, id := range p.ids {
		n := p.sizes[k]
		f(id, rest[:n:n])
		rest = rest[n:]
	}
}

// encode is Encode of a pack that may have too many objects, or none.
func (p *Pack) encode(s Sealer) (stored []byte, name Digest, places []Place, err error) {
	if len(p.ids) == 0 || len(p.ids) > PackMax {
		err = fmt.Errorf("pack of %d objects, want 1 to %d", len(p.ids), PackMax)
		return nil, Digest{}, nil, err
	}
	stored, name, places = p.Encode(s)
	return stored, name, places, nil
}

// Piece is an object in a pack.
type Piece struct {
	ID
	Place
	Stored []byte // a part of the pack, whose memory all its pieces share
}

// checkPackHeader fails with [ErrCorrupt] unless stored begins as a pack does.
func checkPackHeader(stored []byte) error {
	if len(stored) < packHeaderBytes || string(stored[:4]) != packMagic {
		return fmt.Errorf("%d bytes that do not begin as a pack: %w", len(stored), ErrCorrupt)
	}
	if stored[4] != packVersion {
		return fmt.Errorf("format %d, this program knows %d: %w",
			stored[4], packVersion, ErrCorrupt)
	}
	return nil
}

// FindPiece returns the piece of a pack that ref names; pieces are those of [DecodePack]. ok is
// false if another object, or none, stands there.
func FindPiece(pieces []Piece, ref Ref) (piece Piece, ok bool) {
	k, found := slices.BinarySearchFunc(pieces, ref.Place.Offset,
		func(p Piece, offset uint32) int { return cmp.Compare(p.Offset, offset) })
	if !found || pieces[k].ID != ref.ID || pieces[k].Place != ref.Place {
		return Piece{}, false
	}
	return pieces[k], true
}

// DecodePack returns what a stored pack of a target of s holds that is called name, without opening
// it. It fails with [ErrCorrupt], and with [ErrKey].
func DecodePack(s Sealer, name Digest, stored []byte) ([]Piece, error) {
	corrupt := func(format string, args ...any) error {
		return fmt.Errorf("pack %v: %s: %w", name, fmt.Sprintf(format, args...), ErrCorrupt)
	}
	if err := checkPackHeader(stored); err != nil {
		return nil, fmt.Errorf("pack %v: %w", name, err)
	}
	n := int(binary.BigEndian.Uint16(stored[6:]))
	start := packHeaderBytes + packEntryBytes*n
	if n == 0 || n > PackMax || len(stored) < start {
		return nil, corrupt("%d bytes for %d objects", len(stored), n)
	}
	if binary.BigEndian.Uint32(stored[8:]) == 0 {
		return nil, corrupt("it is of no day")
	}
	list, stored, err := openList(s, name, stored, start)
	if err != nil {
		return nil, fmt.Errorf("pack %v: %w", name, err)
	}
	if Sum(list) != name { // reserved bytes, too
		return nil, corrupt("its list has another digest")
	}
	pieces := make([]Piece, n)
	at := start
	for k := range pieces {
		entry := list[packHeaderBytes+packEntryBytes*k:]
		size := int(binary.BigEndian.Uint32(entry[32:]))
		if size == 0 || size > len(stored)-at {
			return nil, corrupt("object %d of %d has %d bytes, of %d", k+1, n, size, len(stored)-at)
		}
		place := Place{name, uint32(at), uint32(size)}
		pieces[k] = Piece{ID(entry[:32]), place, stored[at : at+size : at+size]}
		at += size
	}
	if at != len(stored) {
		return nil, corrupt("%d bytes too many", len(stored)-at)
	}
	return pieces, nil
}
