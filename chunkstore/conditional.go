package chunkstore

import "context"

// Conditional is a [Bucket] whose conditions somebody else keeps, or not.
type Conditional interface {
	// ProveConditions asks the store, once, to put body, which is what the object called key
	// holds, on conditions that do not hold: so it does no harm if the store does. It
	// reports whether it refused. If not, each Put with a condition looks first, which finds
	// another writer but for a moment, and the log says so, once.
	ProveConditions(ctx context.Context, key string, body []byte) (kept bool, err error)
	// Unguarded reports whether the store is known not to keep conditions.
	Unguarded() bool
}

// ProveConditions is that of the bucket of manifests, with its marker, which must be there. What is
// no [Conditional] keeps them itself.
func (t *Target) ProveConditions(ctx context.Context, manifests Identity) (kept bool, err error) {
	return prove(ctx, t.Manifests, manifests)
}

func prove(ctx context.Context, b Bucket, id Identity) (kept bool, err error) {
	c, ok := b.(Conditional)
	if !ok {
		return true, nil
	}
	body, err := encodeMarker(id)
	if err != nil {
		return false, err
	}
	return c.ProveConditions(ctx, MarkerKey, body)
}

// ProveLog is ProveConditions of the bucket of chunks, where logs are ([NewBucketLog]).
func (t *Target) ProveLog(ctx context.Context, chunks Identity) (kept bool, err error) {
	return prove(ctx, t.Chunks, chunks)
}

// Unguarded reports whether a second writer under one name may not be noticed, as the store does
// not keep conditions.
func (t *Target) Unguarded() bool {
	c, ok := t.Manifests.(Conditional)
	return ok && c.Unguarded()
}
