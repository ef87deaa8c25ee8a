package chunkstore

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// Remains are what a pack may be made of again, beside what is left of it.
type Remains struct {
	Known []Ref     // objects that stand in it, in any order, maybe twice; it may have others, too
	Twins []*Target // which may have the same pack
	// Plain returns the plain bytes of an object, of which it is not sure; nil: it has not got
	// them.
	Plain func(ctx context.Context, id ID) []byte
}

// MendPack puts the pack called name again as it was, where it is damaged or gone: the same objects
// in the same places, for all versions that name it. It is the same pack if its list has the
// digest that is its name, and each object has its ID. MendPack fails with [ErrAbsent] or
// [ErrCorrupt] if it cannot be made of what there is, and with [ErrDenied] where a policy denies
// replacing it.
func MendPack(ctx context.Context, t *Target, name Digest, r Remains) error {
	m := &mending{t: t, name: name, Remains: r}
	err := m.gather(ctx)
	if err == nil {
		err = m.put(ctx)
	}
	if err != nil {
		return fmt.Errorf("mend pack %v: %w", name, err)
	}
	return nil
}

// mending is a pack that is put again.
type mending struct {
	Remains
	t      *Target
	name   Digest
	fault  error  // why the pack cannot be used
	stored []byte // what is left of it; nil: nothing is
	twins  [][]Piece
	head   [][]byte // first bytes of packs that may have its day and edition
	list   []Ref    // all that stands in it; nil: not known
}

// gather reads what is left of the pack, and what twins have.
func (m *mending) gather(ctx context.Context) error {
	o, err := m.t.Chunks.Get(ctx, m.name.String(), GetOptions{BytesMax: packBytesMax(m.t.Sealer)})
	if err != nil && !IsFault(err) {
		return err
	}
	m.fault, m.stored = err, o.Body
	if err == nil {
		var pieces []Piece
		if pieces, m.fault = DecodePack(m.t.Sealer, m.name, o.Body); m.fault == nil {
			m.take(o.Body, pieces)
		} else if checkPackHeader(o.Body) == nil {
			m.head = append(m.head, o.Body[:packHeaderBytes])
		}
	}
	for _, twin := range m.Twins {
		var pieces []Piece
		o, err := twin.getPack(ctx, m.name, func(p []Piece) error {
			pieces = p
			return nil
		})
		if err == nil {
			m.take(o.Body, pieces)
			m.twins = append(m.twins, pieces)
		} else if ctx.Err() != nil {
			return err
		}
	}
	if m.list == nil {
		m.list = m.contiguous()
	}
	if m.list == nil {
		return fmt.Errorf("its list is lost, and not all is known that stood in it: %w", m.fault)
	}
	return nil
}

// take takes the list from a stored pack of that name, which has these pieces.
func (m *mending) take(stored []byte, pieces []Piece) {
	if m.list == nil {
		m.head = [][]byte{stored[:packHeaderBytes]}
		for _, p := range pieces {
			m.list = append(m.list, Ref{p.ID, p.Place})
		}
	}
}

// contiguous returns what is known of the pack if it fills it, as far as that can be told.
func (m *mending) contiguous() []Ref {
	refs := slices.Clone(m.Known)
	slices.SortFunc(refs, func(a, b Ref) int {
		return cmp.Or(cmp.Compare(a.Place.Offset, b.Place.Offset), bytes.Compare(a.ID[:], b.ID[:]))
	})
	refs = slices.Compact(refs)
	at := uint32(packHeaderBytes + packEntryBytes*len(refs))
	for _, ref := range refs {
		if ref.Place.Offset != at {
			return nil
		}
		at += ref.Place.Bytes
	}
	return refs
}

// put makes the pack, and puts it.
func (m *mending) put(ctx context.Context) error {
	p := new(Pack)
	for k, ref := range m.list {
		stored := m.find(ctx, k, ref)
		if stored == nil {
			return fmt.Errorf("object %v, %d of %d in it, is nowhere else: %w", ref.ID, k+1,
				len(m.list), cmp.Or(m.fault, ErrCorrupt))
		}
		p.Add(ref.ID, stored)
	}
	if len(m.list) == 0 || len(m.list) > PackMax || !m.date(p) {
		return fmt.Errorf("what is known that stood in it is not all: %w",
			cmp.Or(m.fault, ErrCorrupt))
	}
	body, _, _ := p.Encode(m.t.Sealer)
	_, err := m.t.Chunks.Put(ctx, m.name.String(), body, Condition{})
	return err
}

// find returns the stored form of the object that is the pack's number k; nil: nobody has it.
func (m *mending) find(ctx context.Context, k int, ref Ref) []byte {
	whole := func(stored []byte) bool {
		_, err := OpenObject(m.t.Sealer, nil, ref.ID, stored)
		return err == nil && len(stored) == int(ref.Place.Bytes)
	}
	at, end := int(ref.Place.Offset), int(ref.Place.End())
	if end <= len(m.stored) && whole(m.stored[at:end]) {
		return m.stored[at:end]
	}
	for _, pieces := range m.twins {
		if whole(pieces[k].Stored) {
			return pieces[k].Stored
		}
	}
	if plain := m.Plain(ctx, ref.ID); plain != nil {
		if stored := SealObject(m.t.Sealer, nil, ref.ID, plain); whole(stored) {
			return stored
		}
	}
	return nil
}

// date gives p, which is filled, the day and edition with which it has the name; ok is false if
// there are none. Where the pack's first bytes are lost, too, they are tried: the digest tells.
func (m *mending) date(p *Pack) (ok bool) {
	is := func() bool {
		name, _ := p.Places()
		return name == m.name
	}
	for _, head := range m.head {
		if p.day, p.edition = binary.BigEndian.Uint32(head[8:]), head[5]; is() {
			return true
		}
	}
	p.Date(time.Now().Add(24 * time.Hour))
	for last := p.day; p.day > 0 && last-p.day < daysTried; p.day-- {
		for edition := range 1 << 8 {
			if p.edition = uint8(edition); is() {
				return true
			}
			if last-p.day >= editionsTried {
				break
			}
		}
	}
	return false
}

const (
	daysTried     = 10 * 365 // a tenth of a second for the largest pack
	editionsTried = 60       // days for which others than 0 are tried: a third of a second
)
