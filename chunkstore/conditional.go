package chunkstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
)

// ErrUnguarded: the store does not create an object on the condition that there is none.
var ErrUnguarded = errors.New("the store does not keep the condition If-None-Match: *")

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
	return prove(ctx, t.Manifests, manifests, t.Sealer)
}

func prove(ctx context.Context, b Bucket, id Identity, s Sealer) (kept bool, err error) {
	c, ok := b.(Conditional)
	if !ok {
		return true, nil
	}
	body, err := encodeMarker(id, s)
	if err != nil {
		return false, err
	}
	return c.ProveConditions(ctx, MarkerKey, body)
}

// ProveLog is ProveConditions of the bucket of chunks, where logs are ([NewLog]).
func (t *Target) ProveLog(ctx context.Context, chunks Identity) (kept bool, err error) {
	return prove(ctx, t.Chunks, chunks, t.Sealer)
}

// Permitted is a [Bucket] that can tell without a request that nothing can be put.
type Permitted interface {
	// MayPut fails with ErrDenied if nothing can. If it does not fail, it is not known.
	MayPut() error
}

// Buckets are the identities of a target's two.
type Buckets struct{ Chunks, Manifests Identity }

// Prove finds out whether databases can live in t: each bucket gets an [Identity] if it has none,
// and is asked whether it keeps conditions. Of a process that has asked before, that takes a
// request for each bucket. The caller needs the right to write: where it is known that he has not,
// it fails with [ErrDenied]. It fails with [ErrUnguarded], which says what to do.
func (t *Target) Prove(ctx context.Context) (ids Buckets, err error) {
	for _, b := range []struct {
		Bucket
		id *Identity
	}{{t.Chunks, &ids.Chunks}, {t.Manifests, &ids.Manifests}} {
		if p, ok := b.Bucket.(Permitted); ok {
			err = p.MayPut()
		}
		if err == nil {
			*b.id, err = Identify(ctx, b.Bucket, t.Sealer)
		}
		if err != nil {
			return Buckets{}, err
		}
		kept, err := prove(ctx, b.Bucket, *b.id, t.Sealer)
		if err == nil && !kept {
			err = unguarded(b.Bucket)
		}
		if err != nil {
			return Buckets{}, err
		}
	}
	return ids, nil
}

func unguarded(b Bucket) error {
	return fmt.Errorf("%v: %w: two machines could both commit, and one would lose what it "+
		"committed. Databases can live in AWS S3, MinIO, a directory, and Ceph in a bucket "+
		"without versioning; to this store, replicate local databases", b, ErrUnguarded)
}

// createRacers is how many try to create one object at once.
const createRacers = 8

// ProveCreates has the bucket of chunks create one object several times at once, in the way that
// records are, after [Target.Prove]. It fails with [ErrUnguarded] if it does not say of exactly one
// that it was the first, or then has another one's: some stores look first, and then write. It
// takes ten requests. A store may pass by chance; one that is right never fails.
func (t *Target) ProveCreates(ctx context.Context) error {
	var random [16]byte
	rand.Read(random[:]) // never fails
	key := WantKeyPrefix + hex.EncodeToString(random[:])
	var racers sync.WaitGroup
	errs := make([]error, createRacers)
	for i := range errs {
		racers.Go(func() {
			defer recovered(&errs[i])
			_, errs[i] = t.Chunks.Put(ctx, key, []byte{byte(i)}, Condition{IfNone: true})
		})
	}
	racers.Wait()
	o, err := t.Chunks.Get(ctx, key, GetOptions{})
	deleted := t.Chunks.Delete(context.WithoutCancel(ctx), key)
	if deleted != nil && !errors.Is(deleted, ErrDenied) { // writers need no right to delete
		return fmt.Errorf("probe: %w", deleted)
	}
	first := -1
	for i, e := range errs {
		switch {
		case e == nil && first < 0:
			first = i
		case e == nil:
			return unguarded(t.Chunks)
		case !errors.Is(e, ErrConflict):
			return fmt.Errorf("probe: %w", e)
		}
	}
	switch {
	case err != nil:
		return fmt.Errorf("probe: %w", err)
	case first < 0 || len(o.Body) != 1 || int(o.Body[0]) != first:
		return unguarded(t.Chunks)
	}
	return nil
}

// Unguarded reports whether a second writer under one name may not be noticed, as the store does
// not keep conditions.
func (t *Target) Unguarded() bool {
	c, ok := t.Manifests.(Conditional)
	return ok && c.Unguarded()
}
