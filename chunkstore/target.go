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

// Target is one place that holds whole databases: their packs and their
// manifests. It is safe for concurrent use.
type Target struct {
	Name      string // for messages; without secrets
	Chunks    Bucket // of packs
	Manifests Bucket
	Sealer    Sealer // of what is in Chunks; not changed after the first use

	slots  chan struct{} // of [Target.Slot]; nil: no bound
	failed atomic.Int64  // when it last failed a [Store]'s Get, Unix ns; 0: it is well

	createsOnly atomic.Bool // packs may be put only where there is none: a policy denies the rest
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

// SlotIfFree is [Target.Slot] for one more request beside others, which may have a slot: it does
// not wait. ok is false if none is free.
func SlotIfFree(t *Target) (release func(), ok bool) {
	if t.slots == nil {
		return func() {}, true
	}
	select {
	case t.slots <- struct{}{}:
		return func() { <-t.slots }, true
	default:
		return nil, false
	}
}

// PutPack stores p, which has 1 to [PackMax] objects, and returns where they stand, in the order in
// which they were added, and how many bytes were sent. The pack is durable on return (I3): for
// many, [Target.Batch] is faster. p is not changed, nor retained once PutPack has returned nil.
func (t *Target) PutPack(ctx context.Context, p *Pack) (
	places []Place, storedBytes int, err error,
) {
	return putPack(ctx, t, p, func(ctx context.Context, key string, body []byte) error {
		_, err := t.Chunks.Put(ctx, key, body, Condition{})
		return err
	})
}

// putPack is PutPack by put, which is unconditional. What is found in its place, where nothing may
// be replaced, is of this very day (I8), and is read: [PutOnce].
func putPack(ctx context.Context, t *Target, p *Pack,
	put func(ctx context.Context, key string, body []byte) error) ([]Place, int, error) {
	body, name, places, err := p.encode(t.Sealer)
	if err == nil {
		err = putOnce(ctx, t, name.String(), body, put, func(stored []byte) error {
			pieces, err := DecodePack(t.Sealer, name, stored)
			if err == nil {
				err = t.openAll(pieces)
			}
			return err
		})
	}
	if err != nil {
		return nil, 0, fmt.Errorf("put pack: %w", err)
	}
	return places, len(body), nil
}

// GetPack returns the pieces of the pack called name, whose list it has verified; it has not opened
// them. It fails with ErrAbsent and ErrCorrupt.
func (t *Target) GetPack(ctx context.Context, name Digest) (pieces []Piece, err error) {
	_, err = t.getPack(ctx, name, func(p []Piece) error {
		pieces = p
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("get pack: %w", err)
	}
	return pieces, nil
}

func (t *Target) getPack(ctx context.Context, name Digest,
	check func(pieces []Piece) error) (Object, error) {
	most := packBytesMax(t.Sealer)
	return GetWhole(ctx, t.Chunks, name.String(), GetOptions{BytesMax: most, About: most},
		func(body []byte) error {
			pieces, err := DecodePack(t.Sealer, name, body)
			if err == nil {
				err = check(pieces)
			}
			return err
		})
}

// GetObject returns the plain bytes of the object that ref names, verified (I1), by one request for
// the part of the pack in which it stands. It fails with ErrAbsent if there is no such pack, and
// with ErrCorrupt if the object does not stand in it there, or if ref does not say where it should.
// [ZeroID] costs no request. It is for asking this very target; [Store.GetObject] asks the caches,
// too.
func (t *Target) GetObject(ctx context.Context, ref Ref) ([]byte, error) {
	return t.alone().GetObject(ctx, t, ref)
}

// GetObjects is [Store.GetObjects] for asking this very target, and no caches.
func (t *Target) GetObjects(ctx context.Context, refs []Ref) (plain [][]byte, err error) {
	return t.alone().GetObjects(ctx, t, refs)
}

// alone returns a store that has nothing but t.
func (t *Target) alone() *Store {
	o := Options{Concurrency: cap(t.slots), Sealer: t.Sealer}
	return &Store{Targets: []*Target{t}, options: o.WithDefaults()}
}

// GetManifest is Manifests.Get for a manifest that check finds whole: else it fails with
// check's error, which wraps ErrCorrupt.
func (t *Target) GetManifest(ctx context.Context, key string, opts GetOptions,
	check func(body []byte) error) (Object, error) {
	return GetWhole(ctx, t.Manifests, key, opts, check)
}

// wholeTries is how often an object is asked for that arrives damaged: as a rule it is
// so in the store, but something on the way may have done it.
const wholeTries = 3

// GetWhole is Get of an object of b that check must like: while it says ErrCorrupt, it is asked for
// again, up to 3 times in all. It fails as Get and check do.
func GetWhole(ctx context.Context, b Bucket, key string, opts GetOptions,
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

// HasPack says whether the target has a pack called name, which is not shorter than least bytes, as
// far as the store says how long it is. Else it does not verify the pack but for how it begins: it
// may be a damaged one, or one that is not durable yet (I3), so that no manifest may be put because
// of it.
func (t *Target) HasPack(ctx context.Context, name Digest, least int64) (bool, error) {
	_, err := t.StatPack(ctx, name, least)
	return err == nil, notFault(err)
}

func notFault(err error) error {
	if IsFault(err) {
		return nil
	}
	return err
}

// StatPack returns how long the pack called name is; 0: the store does not say. It fails with
// ErrAbsent, and with ErrCorrupt if what has the name does not begin as a pack, or is said to be
// shorter than least bytes. It asks for those first bytes: a [Bucket.Stat] may have to read all,
// and says nothing of what cannot be read.
func (t *Target) StatPack(ctx context.Context, name Digest, least int64) (int64, error) {
	o, err := GetWhole(ctx, t.Chunks, name.String(), GetOptions{Length: packHeaderBytes},
		checkPackHeader)
	if err != nil {
		return 0, fmt.Errorf("look for pack: %w", err)
	} else if o.Bytes > 0 && o.Bytes < least {
		return 0, fmt.Errorf("look for pack: %w: %d bytes, and has %d at least", ErrCorrupt,
			o.Bytes, least)
	}
	return o.Bytes, nil
}

// LackingPacks returns which of names the target has no pack of, that is, those of which
// [Target.HasPack] says no; names has how long each is at least. It lists the bucket, as far as
// that takes fewer requests than to ask for each of them; concurrency is how many of those run at
// once.
func (t *Target) LackingPacks(ctx context.Context, names map[Digest]int64,
	concurrency int) (map[Digest]bool, error) {
	lacking := make(map[Digest]bool, len(names))
	for name := range names {
		lacking[name] = true
	}
	listed, last := 0, ""
	err := t.Chunks.List(ctx, "", func(o Object) bool {
		if name, err := ParseDigest(o.Key); err == nil && o.Bytes >= names[name] {
			delete(lacking, name)
		}
		listed++
		last = o.Key
		return listed/listPage <= len(names)/2
	})
	if err == nil && listed/listPage <= len(names)/2 {
		return lacking, nil // the list has ended
	} else if ctx.Err() != nil {
		return nil, ctx.Err()
	} else if err != nil {
		last = "" // it may not be allowed to list
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(1, concurrency))
	for name := range maps.Clone(lacking) {
		if name.String() <= last {
			continue
		}
		group.Go(func() (err error) {
			defer recovered(&err)
			has, err := t.HasPack(ctx, name, names[name])
			mu.Lock()
			defer mu.Unlock()
			if has {
				delete(lacking, name)
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
