package upkeep

import (
	"cmp"
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/locate"
)

const (
	// requestsAtOnce is how many requests run at once unless the caller says otherwise:
	// enough to hide a store's latency.
	requestsAtOnce = 32
	// batchChunks is how many chunks are looked for together: two leaves' worth.
	batchChunks = 1024
)

// Verifier checks that a target can give every byte of the versions in it. What
// versions share is looked at once. It is for one goroutine.
type Verifier struct {
	target *chunkstore.Target
	o      VerifyOptions

	mu     sync.Mutex
	looked map[chunkstore.ID]error // chunks, leaves and nodes; nil: it is there
}

// VerifyOptions of a [Verifier].
type VerifyOptions struct {
	Read        bool // read and hash chunks, too: else they are only looked for
	Touch       bool // touch what is found, so that it does not expire
	Concurrency int  // requests at a time; 0: 32
	// Progress is told how many bytes of the version's file have been verified;
	// nil: nobody wants to know. Calls come one at a time.
	Progress func(done, total int64)
}

// NewVerifier returns a verifier of t that has looked at nothing yet.
func NewVerifier(t *chunkstore.Target, o VerifyOptions) *Verifier {
	o.Concurrency = cmp.Or(max(o.Concurrency, 0), requestsAtOnce)
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	return &Verifier{target: t, o: o, looked: make(map[chunkstore.ID]error)}
}

// Objects returns how many distinct chunks, leaves and nodes were looked at.
func (v *Verifier) Objects() int { return len(v.looked) }

// Named returns the manifest that the target has under key, which must be the one
// of the database that it speaks of.
func (v *Verifier) Named(ctx context.Context, key string) (*manifest.Manifest, error) {
	var m *manifest.Manifest
	_, err := v.target.GetManifest(
		ctx,
		key,
		chunkstore.GetOptions{BytesMax: manifest.BytesMax},
		func(body []byte) (err error) {
			m, err = locate.DecodeNamed(v.target.Sealer, key, body)
			return err
		},
	)
	return m, err
}

// Verify looks for all that m names, leaves and nodes before the chunks that they
// name. It returns what is dangling or damaged, one error each, which names the
// object and wraps [chunkstore.ErrAbsent] or [chunkstore.ErrCorrupt]. Leaves and
// nodes are always read and hashed. err is why it could not look.
func (v *Verifier) Verify(ctx context.Context, m *manifest.Manifest) (faults []error, err error) {
	if v.o.Touch {
		if err := v.target.TouchIdentity(ctx); err != nil && !chunkstore.IsFault(err) {
			return nil, err
		}
	}
	tree := m.Tree(v.target.Sealer)
	patches := m.Patches
	for start := 0; start < m.Chunks(); start += batchChunks {
		end := min(start+batchChunks, m.Chunks())
		tree.Forget(start)
		wanted := make(map[chunkstore.ID]int) // and the first chunk that it stands for
		want := func(id chunkstore.ID, i int) {
			if _, ok := wanted[id]; !ok {
				wanted[id] = i
			}
		}
		// What patches name can be looked for also without the leaf.
		for ; len(patches) > 0 && patches[0].Index < end; patches = patches[1:] {
			want(patches[0].ID, patches[0].Index)
		}
		for i := start; i < end; i++ {
			id, err := tree.Lookup(ctx, i, v.object)
			if chunkstore.IsFault(err) {
				faults = append(faults, fmt.Errorf("chunks %d to %d: %w", i, end-1, err))
				break
			} else if err != nil {
				return faults, err
			}
			want(id, i)
		}
		more, err := v.chunks(ctx, wanted)
		faults = append(faults, more...)
		if err != nil {
			return faults, err
		}
		v.o.Progress(min(int64(end)*chunkstore.ChunkBytes, m.FileBytes), m.FileBytes)
	}
	return faults, nil
}

// object is a [manifest.Fetch] of leaves and nodes. One that is known to be bad is
// not asked for again.
func (v *Verifier) object(ctx context.Context, id chunkstore.ID) ([]byte, error) {
	if err, ok := v.known(id); ok && err != nil {
		return nil, err
	}
	b, err := v.target.GetChunk(ctx, id)
	if err == nil && v.o.Touch {
		err = v.target.TouchChunk(ctx, id)
	}
	return b, v.note(id, err)
}

// chunks looks for each of wanted.
func (v *Verifier) chunks(
	ctx context.Context, wanted map[chunkstore.ID]int,
) (faults []error, err error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(v.o.Concurrency)
	var mu sync.Mutex
	for id, i := range wanted {
		group.Go(func() error {
			err, ok := v.known(id)
			if !ok {
				err = v.note(id, v.look(ctx, id))
			}
			if !chunkstore.IsFault(err) {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			faults = append(faults, fmt.Errorf("chunk %d: %w", i, err))
			return nil
		})
	}
	err = group.Wait()
	return faults, err
}

func (v *Verifier) look(ctx context.Context, id chunkstore.ID) error {
	if v.o.Read {
		if _, err := v.target.GetChunk(ctx, id); err != nil || !v.o.Touch {
			return err
		}
	}
	if v.o.Touch {
		return v.target.TouchChunk(ctx, id)
	}
	has, err := v.target.HasChunk(ctx, id)
	if err == nil && !has {
		err = fmt.Errorf("chunk %v: %w", id, chunkstore.ErrAbsent)
	}
	return err
}

func (v *Verifier) known(id chunkstore.ID) (error, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	err, ok := v.looked[id]
	return err, ok
}

// note keeps what was found out about id, and returns it.
func (v *Verifier) note(id chunkstore.ID, err error) error {
	if err == nil || chunkstore.IsFault(err) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.looked[id] = err
	}
	return err
}
