package s3

import (
	"context"
	"errors"

	"verneuil/chunkstore"
)

// Whether a store keeps the conditions of a Put is believed only when it has been seen to
// refuse Puts whose conditions do not hold: some stores and proxies ignore them, and say nothing.

// noETag is no object's.
const noETag = `"00000000000000000000000000000000"`

func (b *bucket) Unguarded() bool { return b.noConds.Load() || b.looks.Load() }

func (b *bucket) ProveConditions(ctx context.Context, key string,
	body []byte) (kept bool, err error) {
	switch {
	case b.proved.Load():
		return true, nil
	case b.Unguarded():
		b.looks.Store(true) // a store that answers 501 has said so to an earlier Put
		return false, nil
	}
	for _, cond := range []chunkstore.Condition{{IfNone: true}, {IfMatch: noETag}} {
		switch _, err := b.Put(ctx, key, body, cond); {
		case err == nil:
			b.ignores()
			return false, nil
		case cond.IfMatch != "" && errors.Is(err, chunkstore.ErrDenied):
			// A policy lets nobody replace what is there: that is refused, too.
		case !errors.Is(err, chunkstore.ErrConflict):
			return false, err
		}
	}
	b.proved.Store(true)
	return true, nil
}

// ignores notes that the store has put what it had to refuse.
func (b *bucket) ignores() {
	if !b.looks.Swap(true) && !b.noConds.Load() { // else that was said
		b.client.options.Log.Warn("store ignores the conditions of writes: "+
			"a second writer under the same name may not be noticed", "bucket", b.String())
	}
}

// lookFirst is what can be done for a condition that the store does not keep.
func (b *bucket) lookFirst(ctx context.Context, key string, cond chunkstore.Condition) error {
	o, err := b.Stat(ctx, key)
	switch {
	case errors.Is(err, chunkstore.ErrAbsent):
		return cond.Check(nil)
	case err != nil:
		return err
	}
	return cond.Check(&o)
}

// putBare is for a store that refuses If-Match with the ETag as it gave it: Ceph's radosgw 16 (and
// what is built on it) compares it without its quotes. That it is so shows in the object, which has
// the very ETag; then the bare form is tried, and if it is taken, and another is refused in that
// form, remembered. conflict is the answer to the quoted one.
func putBare(
	ctx context.Context, b *bucket, p putRequest, conflict error,
) (stored, error) {
	present, err := b.Stat(ctx, p.key)
	if err != nil || present.ETag != p.cond.IfMatch {
		return stored{}, conflict
	}
	p.bare = true
	o, err := b.putOnce(ctx, p)
	if err != nil {
		return stored{}, conflict
	}
	if !b.client.bareETags.Swap(true) {
		b.client.options.Log.Info("store compares ETags without their quotes", "bucket", b.String())
		p.cond.IfMatch = noETag
		// the same bytes: it does not compare at all
		if again, err := b.putOnce(ctx, p); err == nil {
			o = again
			b.ignores()
		}
	}
	return o, nil
}
