package chunkstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// resealTries bounds how often a pack is read again that somebody else puts at the same time.
const resealTries = 3

// FreshPack reports whether the pack called name, of so many bytes, is sealed with the newest key.
// It asks for its last bytes alone: a pack is of one key ([Pack.Encode]). It fails with ErrAbsent
// and ErrCorrupt.
func FreshPack(ctx context.Context, t *Target, name Digest, bytes int64) (bool, error) {
	tail := int64(Overhead(t.Sealer))
	if bytes < packHeaderBytes+tail {
		return false, fmt.Errorf("pack %v: %w: %d bytes", name, ErrCorrupt, bytes)
	}
	if tail == 0 {
		return true, nil
	}
	o, err := t.Chunks.Get(ctx, name.String(), GetOptions{Offset: bytes - tail, Length: tail})
	if err != nil {
		return false, fmt.Errorf("look at pack %v: %w", name, err)
	}
	return t.Sealer.Fresh(o.Body), nil
}

// ResealPack puts the pack called name again, sealed with the newest key: as long as it was, and
// with the same objects in the same places. What somebody else puts there meanwhile is not lost. It
// fails as GetPack, with [ErrKey], and with [ErrConflict] if others put it again and again.
func ResealPack(ctx context.Context, t *Target, name Digest) error {
	var err error
	for range resealTries {
		var pieces []Piece
		var o Object
		o, err = t.getPack(ctx, name, func(p []Piece) error {
			pieces = p
			return nil
		})
		if err != nil {
			break
		}
		p := Pack{day: binary.BigEndian.Uint32(o.Body[8:]), edition: o.Body[5]} // its list is whole
		for _, piece := range pieces {
			var again []byte
			about := aboutObject + string(piece.ID[:])
			if again, err = Rewrapped(t.Sealer, about, piece.Stored); err != nil {
				return fmt.Errorf("reseal pack %v: object %v: %w", name, piece.ID, err)
			}
			p.Add(piece.ID, again)
		}
		stored, is, _ := p.Encode(t.Sealer)
		if is != name {
			return fmt.Errorf("reseal pack %v: it would be called %v", name, is)
		}
		_, err = t.Chunks.Put(ctx, name.String(), stored, Condition{IfMatch: o.ETag})
		if !errors.Is(err, ErrConflict) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("reseal pack %v: %w", name, err)
	}
	return nil
}

// FreshRecord reports whether record n of the log called name is sealed with the newest key. It
// asks for its first bytes alone. It fails with ErrAbsent.
func FreshRecord(ctx context.Context, t *Target, name string, n uint64) (bool, error) {
	o, err := t.Chunks.Get(ctx, RecordKey(name, n), GetOptions{Length: SealHeadBytes})
	if err != nil {
		return false, fmt.Errorf("look at record %d of log %s: %w", n, name, err)
	}
	return t.Sealer.Fresh(o.Body), nil
}
