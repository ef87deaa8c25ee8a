package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// ErrMismatch: the bytes to store under an ID are not what it says.
var ErrMismatch = errors.New("the bytes have another hash")

// Target is one place that holds whole databases: their chunks and their
// manifests. It is safe for concurrent use.
type Target struct {
	Name      string // for messages; without secrets
	Chunks    Bucket
	Manifests Bucket
	Sealer    Sealer // of what is in Chunks; not changed after the first use

	slots  chan struct{} // of [Target.Slot]; nil: no bound
	failed atomic.Int64  // when it last failed a [Store]'s Get, Unix ns; 0: it is well
}

// NewTarget makes a target of two buckets, with the Sealer [Plain].
func NewTarget(name string, chunks, manifests Bucket) *Target {
	return &Target{Name: name, Chunks: chunks, Manifests: manifests, Sealer: Plain{}}
}

// Bound makes n the number of slots there are. It is called before the first use.
func (t *Target) Bound(n int) { t.slots = make(chan struct{}, n) }

// Slot waits for one of the places that all who use the target in this process share: who
// replicates takes one for each request, or few in a row, and before the memory for it.
// Nobody waits for a second one while he has one. It fails only if ctx ends first; else
// release must be called once.
func (t *Target) Slot(ctx context.Context) (release func(), err error) {
	if t.slots == nil {
		return func() {}, ctx.Err()
	}
	select {
	case t.slots <- struct{}{}:
		return func() { <-t.slots }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a slot of %s: %w", t.Name, ctx.Err())
	}
}

// PutChunk stores plain under id, after checking that it is what id says (I2),
// and returns how many bytes were sent. It fails with ErrMismatch if it is not. It
// stores [ZeroID] by doing nothing. The object is durable on return (I3): for
// many, [Target.Batch] is faster. plain is not retained.
func (t *Target) PutChunk(ctx context.Context, id ID, plain []byte) (storedBytes int, err error) {
	return putChunk(ctx, t.Sealer, id, plain,
		func(ctx context.Context, key string, body []byte) error {
			_, err := t.Chunks.Put(ctx, key, body, Condition{})
			return err
		})
}

func putChunk(ctx context.Context, s Sealer, id ID, plain []byte,
	put func(ctx context.Context, key string, body []byte) error) (storedBytes int, err error) {
	if len(plain) > ChunkBytes {
		return 0, fmt.Errorf("put chunk %v: %d bytes, more than %d", id, len(plain), ChunkBytes)
	}
	h := Hash(s, plain)
	if h.id != id { // I2
		return 0, fmt.Errorf("put chunk %v: %w: %v", id, ErrMismatch, h.id)
	}
	return h.put(ctx, s, put)
}

// put stores h as s seals it.
func (h Hashed) put(ctx context.Context, s Sealer,
	put func(ctx context.Context, key string, body []byte) error) (storedBytes int, err error) {
	if h.id == ZeroID {
		return 0, nil
	}
	stored := s.Seal(h.id, h.plain)
	if err := put(ctx, h.id.String(), stored); err != nil {
		return 0, fmt.Errorf("put chunk: %w", err)
	}
	return len(stored), nil
}

// GetChunk returns the plain bytes of id, verified (I1). It fails with ErrAbsent
// and ErrCorrupt. It is for asking this very target; [Store.GetChunk] asks the
// caches, too.
func (t *Target) GetChunk(ctx context.Context, id ID) ([]byte, error) {
	if id == ZeroID {
		return make([]byte, ChunkBytes), nil
	}
	plain, _, err := t.getChunk(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("get chunk %v: %w", id, err)
	}
	return plain, nil
}

func (t *Target) getChunk(ctx context.Context, id ID) (plain, stored []byte, err error) {
	o, err := getWhole(ctx, t.Chunks, id.String(), GetOptions{BytesMax: t.Sealer.BytesMax()},
		func(body []byte) error {
			plain, err = t.Sealer.Open(id, body)
			return err
		})
	return plain, o.Body, err
}

// GetManifest is Manifests.Get for a manifest that check finds whole: else it fails with
// check's error, which wraps ErrCorrupt.
func (t *Target) GetManifest(ctx context.Context, key string, opts GetOptions,
	check func(body []byte) error) (Object, error) {
	return getWhole(ctx, t.Manifests, key, opts, check)
}

// wholeTries is how often an object is asked for that arrives damaged: as a rule it is
// so in the store, but something on the way may have done it.
const wholeTries = 3

func getWhole(ctx context.Context, b Bucket, key string, opts GetOptions,
	check func(body []byte) error) (Object, error) {
	for try := 1; ; try++ {
		o, err := b.Get(ctx, key, opts)
		if err != nil {
			return Object{}, err
		}
		if err = check(o.Body); err == nil {
			return o, nil
		}
		if try == wholeTries || !errors.Is(err, ErrCorrupt) {
			return o, fmt.Errorf("get %s in %v: %w", key, b, err)
		}
	}
}

// HasChunk says whether the target has an object called id, which it does not
// verify: it may be a damaged one, or one that is not durable yet (I3), so that no
// manifest may be put because of it. The target has [ZeroID].
func (t *Target) HasChunk(ctx context.Context, id ID) (bool, error) {
	if id == ZeroID {
		return true, nil
	}
	_, err := t.Chunks.Stat(ctx, id.String())
	if errors.Is(err, ErrAbsent) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("look for chunk: %w", err)
	}
	return true, nil
}

// Lacking returns which of ids the target has no object of, that is, those of which
// [Target.HasChunk] says no. It lists the bucket, as far as that takes fewer requests than to ask
// for each of them.
func (t *Target) Lacking(ctx context.Context, ids map[ID]bool,
	concurrency int) (map[ID]bool, error) {
	lacking := maps.Clone(ids)
	delete(lacking, ZeroID)
	listed, last := 0, ""
	err := t.Chunks.List(ctx, "", func(o Object) bool {
		if id, err := ParseID(o.Key); err == nil {
			delete(lacking, id)
		}
		listed++
		last = o.Key
		return listed/listPage <= len(ids)/2
	})
	if err == nil && listed/listPage <= len(ids)/2 {
		return lacking, nil // the list has ended
	} else if ctx.Err() != nil {
		return nil, ctx.Err()
	} else if err != nil {
		last = "" // it may not be allowed to list
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(1, concurrency))
	for id := range maps.Clone(lacking) {
		if id.String() <= last {
			continue
		}
		group.Go(func() (err error) {
			defer recovered(&err)
			has, err := t.HasChunk(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			if has {
				delete(lacking, id)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return lacking, nil
}

// listPage is how many keys a store returns for one request of a list.
const listPage = 1000

// failures gathers what the targets of a list said.
type failures []error

func (f *failures) add(t *Target, err error) {
	*f = append(*f, fmt.Errorf("%s: %w", t.Name, err))
}

// err is of the kind that decides what to do: if a target could not be asked,
// the object may yet be found there, so that it is neither absent nor corrupt;
// else it is corrupt if a target has it damaged, else absent.
func (f failures) err() error {
	if len(f) == 0 {
		return errors.New("no target to ask: replication_targets names no s3 or dir")
	}
	var unknown, corrupt []error
	for _, err := range f {
		switch {
		case errors.Is(err, ErrCorrupt):
			corrupt = append(corrupt, err)
		case !errors.Is(err, ErrAbsent):
			unknown = append(unknown, err)
		}
	}
	kind := []error(f)
	if unknown != nil {
		kind = unknown
	} else if corrupt != nil {
		kind = corrupt
	}
	return &failuresError{all: f, kind: kind}
}

// failuresError tells of all failures, but is only what the decisive ones are.
type failuresError struct{ all, kind []error }

func (e *failuresError) Error() string {
	texts := make([]string, len(e.all))
	for i, err := range e.all {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (e *failuresError) Unwrap() []error { return e.kind }
