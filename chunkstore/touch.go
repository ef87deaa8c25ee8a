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
	// it changes. It fails with ErrAbsent if there is none. It is for chunks: where a
	// bucket keeps versions, it may add one.
	Touch(ctx context.Context, key string) error
}

// TouchIdentity makes the marker of the chunk bucket's identity young, as TouchChunk does an
// object.
func (t *Target) TouchIdentity(ctx context.Context) error {
	err := errors.ErrUnsupported
	if toucher, ok := t.Chunks.(Toucher); ok {
		err = toucher.Touch(ctx, MarkerKey)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		var o Object
		if o, err = t.Chunks.Get(ctx, MarkerKey, GetOptions{BytesMax: markerBytesMax}); err == nil {
			_, err = t.Chunks.Put(ctx, MarkerKey, o.Body, Condition{IfMatch: o.ETag})
		}
	}
	if err != nil {
		return fmt.Errorf("touch the identity of %v: %w", t.Chunks, err)
	}
	return nil
}

// TouchChunk makes the object called id as young as if it had just been put. It fails with
// ErrAbsent, and may fail with ErrCorrupt: the object is not verified, unless it has to be read and
// put again, as the bucket is no [Toucher], or says to a copy that there is none: only who reads it
// believes that. [ZeroID] costs no I/O.
func (t *Target) TouchChunk(ctx context.Context, id ID) error {
	if id == ZeroID {
		return nil
	}
	err := errors.ErrUnsupported
	if toucher, ok := t.Chunks.(Toucher); ok {
		err = toucher.Touch(ctx, id.String())
	}
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, ErrAbsent) {
		var stored []byte
		if _, stored, err = t.getChunk(ctx, id); err == nil {
			_, err = t.Chunks.Put(ctx, id.String(), stored, Condition{})
		}
	}
	if err != nil {
		return fmt.Errorf("touch chunk %v: %w", id, err)
	}
	return nil
}
