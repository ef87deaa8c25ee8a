package upkeep

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/versions"
)

const (
	// requestsAtOnce is how many requests run at once unless the caller says otherwise:
	// enough to hide a store's latency.
	requestsAtOnce = 32
	// readsAtOnce is how many packs are read at once: 40 MiB with what is opened.
	readsAtOnce = 8
	// leafChunks is how many chunks a leaf has, at most.
	leafChunks = 512
	// windowChunks is how many chunks are looked at together: 32 leaves, 1 GiB. A pack whose chunks
	// stand in two windows is read for each; in return memory grows only with distinct objects.
	windowChunks = 32 * leafChunks
)

// Verifier checks that a target can give every byte of the versions in it. What
// versions share is looked at once. It is for one goroutine.
type Verifier struct {
	target  *chunkstore.Target
	o       VerifyOptions
	packs   map[chunkstore.Digest]*pack
	objects int

	mu    sync.Mutex
	known map[chunkstore.Ref]error // leaves and nodes that were asked for; nil: it was read
}

// VerifyOptions of a [Verifier].
type VerifyOptions struct {
	Read        bool // read and hash chunks, too: else their packs are only looked for
	Touch       bool // touch what is found, so that it does not expire
	Concurrency int  // requests at a time; 0: 32. At most 8 read whole packs
	// Progress is told how many bytes of the version's file have been verified;
	// nil: nobody wants to know. Calls come one at a time.
	Progress func(done, total int64)
}

// NewVerifier returns a verifier of t that has looked at nothing yet.
func NewVerifier(t *chunkstore.Target, o VerifyOptions) *Verifier {
	o.Concurrency = cmp.Or(max(o.Concurrency, 0), requestsAtOnce)
	if o.Read {
		o.Concurrency = min(o.Concurrency, readsAtOnce)
	}
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	return &Verifier{target: t, o: o, packs: make(map[chunkstore.Digest]*pack),
		known: make(map[chunkstore.Ref]error)}
}

// Objects returns how many distinct chunks, leaves and nodes were looked at.
func (v *Verifier) Objects() int { return v.objects }

// Packs returns how many packs were looked at.
func (v *Verifier) Packs() int { return len(v.packs) }

// Named returns the newest version that the target has of the database whose manifest has that key,
// which must be the one of the database that it speaks of. With Touch, it touches the records that
// the version needs.
func (v *Verifier) Named(ctx context.Context, key string) (*manifest.Manifest, error) {
	f, err := versions.OpenNewest(ctx, v.target, key)
	if err != nil {
		return nil, err
	}
	m := f.Newest()
	if !v.o.Touch || m.At.Lineage == [16]byte{} {
		return m, nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(v.o.Concurrency)
	for _, n := range versions.Needed(m.At, f.Reader().Seen()) {
		group.Go(func() error {
			err := v.target.TouchRecord(ctx, versions.LogName(m.At.Lineage), n)
			if gone(err) { // trimmed, as a checkpoint has it by now; it was read a moment ago
				return nil
			}
			return err
		})
	}
	return m, group.Wait()
}

// Verify looks for all that m names: it gets the leaves and nodes, and looks for each pack once, or
// reads from it what m names, once for each window of the file. It returns what is dangling or
// damaged, in the order of the file, one error each, which names the pack that is gone, or the
// object that is damaged in one, and wraps [chunkstore.ErrAbsent] or [chunkstore.ErrCorrupt]. err
// is why it could not look.
func (v *Verifier) Verify(ctx context.Context, m *manifest.Manifest) (faults []error, err error) {
	if v.o.Touch {
		if err := v.target.TouchIdentity(ctx); err != nil && !chunkstore.IsFault(err) {
			return nil, err
		}
	}
	w := &survey{Verifier: v, m: m, tree: m.Tree(v.target.Sealer)}
	for start := 0; start < m.Chunks(); start += windowChunks {
		w.start = start
		err := w.gather(ctx, min(start+windowChunks, m.Chunks()))
		if err == nil {
			err = w.check(ctx)
		}
		faults = append(faults, w.faults()...)
		if err != nil {
			return faults, err
		}
	}
	return faults, nil
}

// survey is the verification of one version, window by window.
type survey struct {
	*Verifier
	m    *manifest.Manifest
	tree *manifest.Tree
	done int64 // chunks that were looked at

	// of the window
	start   int                          // its first chunk
	refs    []chunkstore.Ref             // what the version has for its chunks; zero: unknown
	names   map[chunkstore.Digest]*named // what they stand in, and leaves and nodes
	trees   []chunkstore.Ref             // leaves and nodes that were read
	missing []fault                      // leaves and nodes that are gone
}

// named is a pack of the version, and the chunks that it has of it, in their order.
type named struct {
	*pack
	chunks []int
}

// fault is one of a version's, and the chunk that it concerns first.
type fault struct {
	chunk int
	err   error
}

// gather finds out what the version names for the window, which ends before end.
func (w *survey) gather(ctx context.Context, end int) (err error) {
	w.names, w.trees, w.missing = make(map[chunkstore.Digest]*named), nil, nil
	chunks := make([]int, end-w.start)
	for k := range chunks {
		chunks[k] = w.start + k
	}
	w.tree.Forget(w.start)
	if w.refs, err = w.tree.LookupAll(ctx, chunks, w.fetch); chunkstore.IsFault(err) {
		err = w.gatherSome(ctx, end)
	}
	for k, ref := range w.refs {
		switch ref.ID {
		case chunkstore.ID{}:
		case chunkstore.ZeroID:
			w.done++
		default:
			n := w.nameObject(ref)
			n.chunks = append(n.chunks, w.start+k)
		}
	}
	for _, ref := range w.trees {
		w.nameObject(ref)
	}
	return err
}

// gatherSome finds out what there is where some leaves or nodes are gone: each of them is named,
// and what the others, and patches, name is found.
func (w *survey) gatherSome(ctx context.Context, end int) error {
	w.refs = make([]chunkstore.Ref, end-w.start)
	// What patches name can be looked for also without the leaf.
	for _, p := range w.m.Patches {
		if w.start <= p.Index && p.Index < end {
			w.refs[p.Index-w.start] = p.Ref
		}
	}
	for leaf := w.start; leaf < end; leaf += leafChunks {
		last := min(leaf+leafChunks, end) - 1
		for i := leaf; i <= last; i++ {
			ref, err := w.tree.Lookup(ctx, i, w.fetch)
			if chunkstore.IsFault(err) {
				err = fmt.Errorf("chunks %d to %d: %w", i, last, err)
				w.missing = append(w.missing, fault{i, err})
				break
			} else if err != nil {
				return err
			}
			w.refs[i-w.start] = ref
		}
	}
	return nil
}

// nameObject notes that the version has something in ref's pack.
func (w *survey) nameObject(ref chunkstore.Ref) *named {
	n := w.names[ref.Place.Pack]
	if n == nil {
		p := w.packs[ref.Place.Pack]
		if p == nil {
			p = &pack{name: ref.Place.Pack}
			w.packs[ref.Place.Pack] = p
		}
		n = &named{pack: p}
		w.names[ref.Place.Pack] = n
	}
	return n
}

// fetch is a [manifest.Fetch] of leaves and nodes. One that is known to be bad is
// not asked for again.
func (w *survey) fetch(ctx context.Context, refs []chunkstore.Ref) ([][]byte, error) {
	for _, ref := range refs {
		w.mu.Lock()
		err := w.known[ref]
		w.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
	plain, err := w.target.GetObjects(ctx, refs)
	if err != nil && (len(refs) > 1 || !chunkstore.IsFault(err)) {
		return nil, err // which of them it is is found out one by one
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ref := range refs {
		if _, known := w.known[ref]; !known {
			w.objects++
		}
		w.known[ref] = err
	}
	if err == nil {
		w.trees = append(w.trees, refs...)
	}
	return plain, err
}

// check looks at the window's packs, in the order in which the file has need of them.
func (w *survey) check(ctx context.Context) error {
	all := make([]*named, 0, len(w.names))
	for _, n := range w.names {
		all = append(all, n)
	}
	first := func(n *named) int {
		if len(n.chunks) == 0 {
			return -1
		}
		return n.chunks[0]
	}
	slices.SortFunc(all, func(a, b *named) int { return cmp.Compare(first(a), first(b)) })
	progress := func(chunks int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.done += int64(chunks)
		w.o.Progress(min(w.done*chunkstore.ChunkBytes, w.m.FileBytes), w.m.FileBytes)
	}
	progress(0)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(w.o.Concurrency)
	for _, n := range all {
		refs := make([]chunkstore.Ref, len(n.chunks))
		for k, i := range n.chunks {
			refs[k] = w.refs[i-w.start]
		}
		fresh := n.fresh(refs)
		w.objects += len(fresh)
		group.Go(func() error {
			err := n.look(ctx, w.target, w.o, fresh)
			if err == nil {
				progress(len(n.chunks))
			}
			return err
		})
	}
	return group.Wait()
}

// faults returns what was found in the window, in the order of the file.
func (w *survey) faults() (errs []error) {
	all := w.missing
	for _, n := range w.names {
		if n.fault != nil && len(n.chunks) > 0 {
			err := fmt.Errorf("%d chunks, from %d on: %w", len(n.chunks), n.chunks[0], n.fault)
			all = append(all, fault{n.chunks[0], err})
			continue
		} else if n.fault != nil {
			all = append(all, fault{-1, fmt.Errorf("leaves or nodes: %w", n.fault)})
		}
		for _, i := range n.chunks {
			if err := n.damaged[w.refs[i-w.start]]; err != nil {
				all = append(all, fault{i, fmt.Errorf("chunk %d: %w", i, err)})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b fault) int { return cmp.Compare(a.chunk, b.chunk) })
	for _, f := range all {
		errs = append(errs, f.err)
	}
	return errs
}
