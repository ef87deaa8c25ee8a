package upkeep

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"verneuil/chunkstore"
)

// pack is what is known of a pack. Its name apart, it is one goroutine's at a time.
type pack struct {
	name    chunkstore.Digest
	found   bool // it was looked for, and is there
	touched bool
	bytes   int64                    // how long it is, where that is known
	seen    []object                 // that were looked at, ascending
	damaged map[chunkstore.Ref]error // of seen, those that are not there as they should
	fault   error                    // the pack is gone, or damaged in another way
}

// object is one of a pack, in little memory: a database has many.
type object struct {
	id            chunkstore.ID
	offset, bytes uint32
}

func compare(a, b object) int {
	return cmp.Or(cmp.Compare(a.offset, b.offset), cmp.Compare(a.bytes, b.bytes),
		bytes.Compare(a.id[:], b.id[:]))
}

// fresh returns the distinct ones of refs that were not looked at yet, ascending, and takes note of
// them.
func (p *pack) fresh(refs []chunkstore.Ref) (fresh []chunkstore.Ref) {
	was := len(p.seen)
	for _, ref := range refs {
		o := object{ref.ID, ref.Place.Offset, ref.Place.Bytes}
		if _, seen := slices.BinarySearchFunc(p.seen[:was], o, compare); !seen {
			p.seen = append(p.seen, o)
		}
	}
	added := p.seen[was:]
	slices.SortFunc(added, compare)
	added = slices.Compact(added)
	for _, o := range added {
		place := chunkstore.Place{Pack: p.name, Offset: o.offset, Bytes: o.bytes}
		fresh = append(fresh, chunkstore.Ref{ID: o.id, Place: place})
	}
	p.seen = p.seen[:was+len(added)]
	slices.SortFunc(p.seen, compare)
	return fresh
}

// look looks for the pack, or reads the objects that refs name, ascending, which have not been
// looked at yet. err is why it could not look.
func (p *pack) look(ctx context.Context, t *chunkstore.Target, o VerifyOptions,
	refs []chunkstore.Ref) error {
	var err error
	switch {
	case p.fault != nil:
		return nil
	case p.name == (chunkstore.Digest{}):
		err = fmt.Errorf("objects without a place: %w", chunkstore.ErrCorrupt)
	case o.Read && len(refs) > 0:
		err = p.read(ctx, t, refs)
	case !o.Touch && !p.found:
		p.bytes, err = t.StatPack(ctx, p.name, 0)
		err = p.inPack(err)
	}
	if err == nil && o.Touch && !p.touched {
		err = p.inPack(t.TouchPack(ctx, p.name))
		p.touched = err == nil
	}
	switch {
	case chunkstore.IsFault(err):
		p.fault = err
		return nil
	case err != nil:
		return err
	}
	p.found = true
	for _, ref := range refs {
		if p.bytes > 0 && ref.Place.End() > p.bytes {
			p.note(ref, fmt.Errorf("object %v: %w: its pack %v has %d bytes, and ends before it",
				ref.ID, chunkstore.ErrCorrupt, p.name, p.bytes))
		}
	}
	return nil
}

// inPack has err, if it is not nil, name the pack.
func (p *pack) inPack(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("pack %v: %w", p.name, err)
}

func (p *pack) note(ref chunkstore.Ref, err error) {
	if p.damaged == nil {
		p.damaged = make(map[chunkstore.Ref]error)
	}
	p.damaged[ref] = err
}

// read reads the objects that refs name: with the whole pack, where it has little else. It fails if
// the pack is gone, or its list is damaged, or it cannot look; damaged objects are noted.
func (p *pack) read(ctx context.Context, t *chunkstore.Target, refs []chunkstore.Ref) error {
	var wanted, end int64
	for _, ref := range refs {
		wanted += int64(ref.Place.Bytes)
		end = max(end, ref.Place.End())
	}
	var err error
	if end <= chunkstore.GapMax || 2*wanted >= end {
		var pieces []chunkstore.Piece
		if pieces, err = t.GetPack(ctx, p.name); err == nil {
			p.open(t.Sealer, pieces, refs)
			return nil
		}
	} else if _, err = t.GetObjects(ctx, refs); err == nil {
		return nil
	}
	if !chunkstore.IsFault(err) {
		return err
	}
	for _, ref := range refs {
		_, one := t.GetObject(ctx, ref)
		switch {
		case one == nil:
		case errors.Is(one, chunkstore.ErrCorrupt):
			p.note(ref, one)
		default: // gone, or it cannot look
			return p.inPack(one)
		}
	}
	if len(p.damaged) > 0 {
		return nil
	}
	return p.inPack(err) // not its objects
}

// open opens the pieces of the pack that refs name.
func (p *pack) open(s chunkstore.Sealer, pieces []chunkstore.Piece, refs []chunkstore.Ref) {
	buf := make([]byte, 0, chunkstore.OpenBytes)
	for _, ref := range refs {
		piece, ok := chunkstore.FindPiece(pieces, ref)
		if !ok {
			p.note(ref, fmt.Errorf("object %v: %w: it does not stand at %d in pack %v",
				ref.ID, chunkstore.ErrCorrupt, ref.Place.Offset, p.name))
		} else if _, err := chunkstore.OpenObject(s, buf, ref.ID, piece.Stored); err != nil {
			p.note(ref, fmt.Errorf("object %v in pack %v: %w", ref.ID, p.name, err))
		}
	}
}
