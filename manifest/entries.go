package manifest

import (
	"encoding/binary"
	"errors"
	"fmt"

	"verneuil/chunkstore"
)

const (
	countsBytes = 4  // how many packs, how many entries
	placeBytes  = 10 // index of a pack, offset, length
	digestBytes = len(chunkstore.Digest{})
)

var errMixed = errors.New("some entries have a place and some have none")

// table is the packs that a leaf, a node or a manifest names, in order of first use, while its
// places are encoded. Its zero value is empty.
type table struct {
	names []byte
	index map[chunkstore.Digest]uint16
}

// append adds the stored form of ref's place to b.
func (t *table) append(b []byte, ref chunkstore.Ref) []byte {
	if ref.Place == (chunkstore.Place{}) {
		return append(b, make([]byte, placeBytes)...)
	}
	k, ok := t.index[ref.Place.Pack]
	if !ok {
		if t.index == nil {
			t.index = make(map[chunkstore.Digest]uint16)
		}
		k = uint16(len(t.index)) // at most 64 for top, one for each patch, 512 in a leaf
		t.index[ref.Place.Pack] = k
		t.names = append(t.names, ref.Place.Pack[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, k)
	b = binary.BigEndian.AppendUint32(b, ref.Place.Offset)
	return binary.BigEndian.AppendUint32(b, ref.Place.Bytes)
}

// tableReader reads places in their order, and checks that a table has made them (I1).
type tableReader struct {
	names []byte
	used  int
}

// newTableReader fails if a name is there twice.
func newTableReader(names []byte) (*tableReader, error) {
	seen := make(map[chunkstore.Digest]bool, len(names)/digestBytes)
	for rest := names; len(rest) > 0; rest = rest[digestBytes:] {
		if len(rest) < digestBytes {
			return nil, fmt.Errorf("packs' names of %d bytes", len(names))
		}
		name := chunkstore.Digest(rest[:digestBytes])
		if seen[name] {
			return nil, fmt.Errorf("pack %v is named twice", name)
		}
		seen[name] = true
	}
	return &tableReader{names: names}, nil
}

// read returns the place that b is for an object.
func (t *tableReader) read(id chunkstore.ID, b []byte) (chunkstore.Place, error) {
	if len(b) != placeBytes {
		return chunkstore.Place{}, fmt.Errorf("place of %d bytes", len(b))
	}
	if id == chunkstore.ZeroID {
		if [placeBytes]byte(b) != [placeBytes]byte{} {
			return chunkstore.Place{}, errors.New("zeros have a place")
		}
		return chunkstore.Place{}, nil
	}
	k := int(binary.BigEndian.Uint16(b))
	if k > t.used || (k+1)*digestBytes > len(t.names) {
		return chunkstore.Place{}, fmt.Errorf("pack %d of %d after %d", k,
			len(t.names)/digestBytes, t.used)
	}
	t.used = max(t.used, k+1)
	place := placeIn(t.names, b)
	if place.Bytes == 0 {
		return place, errMixed
	}
	return place, nil
}

// end fails if there are packs that no place is in.
func (t *tableReader) end() error {
	if t.used*digestBytes != len(t.names) {
		return fmt.Errorf("%d packs for places in %d", len(t.names)/digestBytes, t.used)
	}
	return nil
}

// placeIn returns the place that b is, where names are the packs.
func placeIn(names, b []byte) chunkstore.Place {
	k := int(binary.BigEndian.Uint16(b))
	return chunkstore.Place{
		Pack:   chunkstore.Digest(names[k*digestBytes:][:digestBytes]),
		Offset: binary.BigEndian.Uint32(b[2:]), Bytes: binary.BigEndian.Uint32(b[6:]),
	}
}

// placed reports whether refs have places; zeros have none, and count for neither. It fails if
// they are mixed, or if zeros have one.
func placed(refs []chunkstore.Ref) (bool, error) {
	var all placing
	for k := range refs {
		if err := all.add(&refs[k]); err != nil {
			return false, err
		}
	}
	return all.end()
}

// placing finds out whether refs have places. Its zero value has seen none.
type placing struct{ placed, unplaced bool }

func (p *placing) add(ref *chunkstore.Ref) error {
	has := ref.Place != chunkstore.Place{}
	switch {
	case has && ref.ID == chunkstore.ZeroID:
		return errors.New("zeros have a place")
	case has && ref.Place.Bytes == 0:
		return fmt.Errorf("object %v has a place of no bytes", ref.ID)
	case has:
		p.placed = true
	case ref.ID != chunkstore.ZeroID:
		p.unplaced = true
	}
	return nil
}

func (p *placing) end() (placed bool, err error) {
	if p.placed && p.unplaced {
		return false, errMixed
	}
	return p.placed, nil
}

// entries are those of a leaf or node, in its stored form (doc.go). Immutable.
type entries struct {
	plain    []byte
	packs, n int
}

// newEntries encodes refs, of which all have places or none.
func newEntries(refs []chunkstore.Ref) entries {
	e := entries{n: len(refs)}
	var t table
	var places []byte
	for _, ref := range refs {
		places = t.append(places, ref)
	}
	if e.packs = len(t.index); e.packs == 0 {
		places = nil
	}
	e.plain = make([]byte, 0, countsBytes+len(t.names)+e.n*idBytes+len(places))
	e.plain = binary.BigEndian.AppendUint16(e.plain, uint16(e.packs))
	e.plain = binary.BigEndian.AppendUint16(e.plain, uint16(e.n))
	e.plain = append(e.plain, t.names...)
	for _, ref := range refs {
		e.plain = append(e.plain, ref.ID[:]...)
	}
	e.plain = append(e.plain, places...)
	return e
}

// parseEntries is the inverse of newEntries for n refs, not all of which are zeros. Other bytes are
// corrupt. It retains plain.
func parseEntries(plain []byte, n int) (entries, error) {
	corrupt := func(format string, args ...any) (entries, error) {
		return entries{}, fmt.Errorf(format+": %w", append(args, chunkstore.ErrCorrupt)...)
	}
	if len(plain) < countsBytes || int(binary.BigEndian.Uint16(plain[2:])) != n {
		return corrupt("%d bytes that do not begin as %d entries", len(plain), n)
	}
	e := entries{plain, int(binary.BigEndian.Uint16(plain)), n}
	want := countsBytes + e.packs*digestBytes + n*idBytes
	if e.packs > 0 {
		want += n * placeBytes
	}
	if len(plain) != want {
		return corrupt("%d bytes, want %d for %d entries in %d packs", len(plain), want, n, e.packs)
	}
	zeros := true
	t, err := newTableReader(e.names())
	for k := 0; k < n && err == nil; k++ {
		id := e.id(k)
		zeros = zeros && id == chunkstore.ZeroID
		if e.packs > 0 {
			_, err = t.read(id, e.place(k))
		}
	}
	if err == nil {
		err = t.end()
	}
	if err != nil {
		return corrupt("%v", err)
	}
	if zeros {
		return corrupt("entries are all zeros")
	}
	return e, nil
}

func (e entries) names() []byte { return e.plain[countsBytes:][:e.packs*digestBytes] }

func (e entries) id(k int) chunkstore.ID {
	return chunkstore.ID(e.plain[countsBytes+e.packs*digestBytes+k*idBytes:][:idBytes])
}

// ids returns the first n IDs as they are stored, and whether there are as many.
func (e entries) ids(n int) ([]byte, bool) {
	if n > e.n {
		return nil, false
	}
	return e.plain[countsBytes+e.packs*digestBytes:][:n*idBytes], true
}

// place returns entry k's, stored; there are packs.
func (e entries) place(k int) []byte {
	return e.plain[countsBytes+e.packs*digestBytes+e.n*idBytes+k*placeBytes:][:placeBytes]
}

// at returns entry k.
func (e entries) at(k int) chunkstore.Ref {
	ref := chunkstore.Ref{ID: e.id(k)}
	if e.packs > 0 && ref.ID != chunkstore.ZeroID {
		ref.Place = placeIn(e.names(), e.place(k))
	}
	return ref
}

// refs returns all entries, in a new slice; nil: there are none.
func (e entries) refs() (refs []chunkstore.Ref) {
	for k := range e.n {
		refs = append(refs, e.at(k))
	}
	return refs
}

// in reports whether some entry stands in one of packs.
func (e entries) in(packs map[chunkstore.Digest]bool) bool {
	for names := e.names(); len(names) > 0; names = names[digestBytes:] {
		if packs[chunkstore.Digest(names[:digestBytes])] {
			return true
		}
	}
	return false
}
