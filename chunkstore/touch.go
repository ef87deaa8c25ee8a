package chunkstore

import (
	"context"
	"errors"
	"fmt"
)

// Toucher is a [Bucket] that can make an object new again without its bytes being
// sent, so that a rule by which objects expire counts from now.
type Toucher interface {
	// Touch makes Modified of the object called key the present time; nothing else of
	// it changes. It fails with ErrAbsent if there is none. It is for packs: where a
	// bucket keeps versions, it may add one.
	Touch(ctx context.Context, key string) error
}

// TouchIdentity makes the marker of the chunk bucket's identity young, as TouchPack does a pack.
func (t *Target) TouchIdentity(ctx context.Context) error {
	if err := touch(ctx, t.Chunks, MarkerKey, markerBytesMax); err != nil {
		return fmt.Errorf("touch the identity of %v: %w", t.Chunks, err)
	}
	return nil
}

// TouchRecord makes record n of the log called name, as [NewLog] has it, young, as TouchPack
// does a pack. It fails with ErrAbsent.
func (t *Target) TouchRecord(ctx context.Context, name string, n uint64) error {
	if err := touch(ctx, t.Chunks, RecordKey(name, n), RecordBytesMax); err != nil {
		return fmt.Errorf("touch record %d of log %s: %w", n, name, err)
	}
	return nil
}

// touch makes an object of b young, which has so many bytes at most. Where that takes a put, nobody
// else's is lost by it.
func touch(ctx context.Context, b Bucket, key string, bytesMax int64) error {
	err := errors.ErrUnsupported
	if toucher, ok := b.(Toucher); ok {
		err = toucher.Touch(ctx, key)
	}
	if !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, ErrAbsent) {
		return err
	}
	o, err := b.Get(ctx, key, GetOptions{BytesMax: bytesMax})
	if err == nil {
		_, err = b.Put(ctx, key, o.Body, Condition{IfMatch: o.ETag})
	}
	return err
}

// TouchPack makes the pack called name as young as if it had just been put. It fails with
// ErrAbsent, and may fail with ErrCorrupt: the pack is not verified, unless it has to be read and
// put again, as the bucket is no [Toucher], or says to a copy that there is none: only who reads it
// believes that.
//
// It fails with ErrDenied where a policy denies replacing, which is remembered then: see
// [CreatesOnly].
func (t *Target) TouchPack(ctx context.Context, name Digest) error {
	err := errors.ErrUnsupported
	if toucher, ok := t.Chunks.(Toucher); ok {
		err = toucher.Touch(ctx, name.String())
	}
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, ErrAbsent) {
		var o Object
		if o, err = t.getPack(ctx, name, t.openAll); err == nil { // I2
			if _, err = t.Chunks.Put(ctx, name.String(), o.Body, Condition{}); err != nil &&
				errors.Is(err, ErrDenied) {
				t.createsOnly.Store(true)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("touch pack %v: %w", name, err)
	}
	return nil
}

// openAll fails with ErrCorrupt unless each of a pack's pieces is what its ID says.
func (t *Target) openAll(pieces []Piece) error {
	buf := make([]byte, 0, OpenBytes)
	for k, piece := range pieces {
		if _, err := OpenObject(t.Sealer, buf, piece.ID, piece.Stored); err != nil {
			return fmt.Errorf("object %d of %d, %v: %w", k+1, len(pieces), piece.ID, err)
		}
	}
	return nil
}
