package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

const (
	// requestsAtOnce is how many requests run at a time unless the caller says otherwise:
	// enough to hide a store's latency.
	requestsAtOnce = 32
	// fetchedBytesMax bounds what is fetched, or being fetched, and not yet written: eleven
	// packs of what does not compress, thirty of what compresses well.
	fetchedBytesMax = 48 << 20
	// runChunks is how many neighbouring chunks are opened before they are written together.
	runChunks = 16
	// wholeFrom is how many chunks of a pack must be of use so that it is fetched whole.
	wholeFrom = chunkstore.PackMax / 2
)

// windowChunks is how many chunks are gone through together: 32 leaves, 1 GiB. A pack whose
// chunks stand in two windows is fetched for each; in return memory does not grow with
// the database. Only tests change it.
var windowChunks = 32 * 512

// ErrSource: a restore failed because it could not get something, not because of the file.
var ErrSource = errors.New("no target can give all that is needed")

// errWrite: a file that is being restored could not be written.
var errWrite = errors.New("the file cannot be written")

// sidedError is error, and of that side.
type sidedError struct {
	error
	side error
}

func (e *sidedError) Unwrap() []error { return []error{e.error, e.side} }

func writeError(err error) error { return &sidedError{err, errWrite} }

// Options say what to restore, and from where.
type Options struct {
	Manifest *manifest.Manifest // placed
	// Store gets what Manifest names; its Sealer is the one that made it.
	Store *chunkstore.Store
	// From is the target of Store that Manifest came from: it is asked first; nil: any.
	From *chunkstore.Target
	// Concurrency bounds the requests at a time; 0: 32.
	Concurrency int
	// Progress, if set, is told the bytes of the file that are in place, of
	// how many. Calls come one at a time, and done only grows; the last call of a
	// successful restore says done == total.
	Progress func(done, total int64)
	// Replace lets [File] replace a file that is not empty.
	Replace bool
}

// To writes the version that o.Manifest describes to w, which must be a new
// file of Manifest.FileBytes zeros: chunks of zeros are not written. Nothing is
// flushed. The first error ends it, after the requests that are under way; it
// names the chunk, leaf or node, and the pack, and is [ErrSource] if it is not w's. Every byte is
// verified (R5).
func To(ctx context.Context, w io.WriterAt, o Options) error {
	if f, ok := w.(*os.File); ok {
		w = &pacedFile{File: f} // not directly: it is read at once, perhaps
	}
	return restoreTo(ctx, w, nil, o)
}

// restoreTo is To; what is in kept, if it is not nil, may be right already, and is w's file.
func restoreTo(ctx context.Context, w io.WriterAt, kept *os.File, o Options) error {
	o.Concurrency = cmp.Or(max(o.Concurrency, 0), requestsAtOnce)
	r := &run{
		Options: o,
		w:       w,
		kept:    kept,
		tree:    o.Manifest.Tree(o.Store.Sealer()),
		room:    semaphore.NewWeighted(fetchedBytesMax),
		hauls:   make(chan *haul),
		desks:   make(chan desk, runtime.GOMAXPROCS(0)),
	}
	for range cap(r.desks) {
		r.desks <- newDesk()
	}
	group, ctx := errgroup.WithContext(ctx)
	for range o.Concurrency {
		group.Go(func() error { return r.work(ctx) })
	}
	err := r.plan(ctx)
	close(r.hauls)
	// A worker's error is the cause when plan stopped because of ctx.
	if workerErr := group.Wait(); workerErr != nil {
		err = workerErr
	}
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}

// run is one restore.
type run struct {
	Options
	w     io.WriterAt
	kept  *os.File // w's file, if an earlier restore has left something in it; else nil
	tree  *manifest.Tree
	room  *semaphore.Weighted // bytes that may be fetched (R4)
	hauls chan *haul
	desks chan desk // one for each processor

	mu   sync.Mutex // also held while Progress runs
	done int64
}

// want is an object that is needed, and for which chunks, ascending.
type want struct {
	chunkstore.Ref
	chunks []int
}

// byChunk reports whether h is fetched as a whole pack, which is opened chunk by chunk. Where there
// are caches, they have a say for each chunk.
func (r *run) byChunk(h *haul) bool { return h.whole() && !r.Store.Cached() }

// haul is what is wanted of a pack, in the order of the file: all of it, or what one request
// for a part of the pack brings.
type haul struct {
	pack  chunkstore.Digest
	wants []*want
}

// whole reports whether the pack is worth fetching as a whole.
func (h *haul) whole() bool { return len(h.wants) >= wholeFrom }

// bytes bounds the memory that h takes: what is fetched, and, unless it is a whole pack that is
// opened chunk by chunk, what is opened of it.
func (h *haul) bytes(byChunk bool) int64 {
	start, end := int64(h.wants[0].Place.Offset), int64(0)
	for _, w := range h.wants {
		start = min(start, int64(w.Place.Offset))
		end = max(end, w.Place.End())
	}
	n := end
	if !byChunk {
		n = end - start + int64(len(h.wants))*chunkstore.ChunkBytes
	}
	return min(n, fetchedBytesMax)
}

// requests returns h, or if it is not fetched whole, what each request for a part of it brings.
func (h *haul) requests() (parts []*haul) {
	if h.whole() {
		return []*haul{h}
	}
	slices.SortFunc(h.wants,
		func(a, b *want) int { return cmp.Compare(a.Place.Offset, b.Place.Offset) })
	end := uint32(0)
	for k, w := range h.wants {
		if k == 0 || w.Place.Offset > end && w.Place.Offset-end > chunkstore.GapMax {
			parts = append(parts, &haul{pack: h.pack})
		}
		part := parts[len(parts)-1]
		part.wants = append(part.wants, w)
		end = w.Place.Offset + w.Place.Bytes
	}
	return parts
}

// plan goes through the file and has workers fetch what it needs.
func (r *run) plan(ctx context.Context) error {
	chunks := r.Manifest.Chunks()
	for start := 0; start < chunks; start += windowChunks {
		hauls, err := r.window(ctx, start, min(start+windowChunks, chunks))
		if err != nil {
			return err
		}
		for _, h := range hauls {
			if err := r.room.Acquire(ctx, h.bytes(r.byChunk(h))); err != nil {
				return err
			}
			select {
			case r.hauls <- h:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return ctx.Err()
}

// window returns what is to be fetched for the chunks from start to end, in the order in which the
// file begins to need it. It puts in place what takes no fetch.
func (r *run) window(ctx context.Context, start, end int) (hauls []*haul, err error) {
	chunks := make([]int, end-start)
	for k := range chunks {
		chunks[k] = start + k
	}
	r.tree.Forget(start)
	refs, err := r.tree.LookupAll(ctx, chunks,
		func(ctx context.Context, refs []chunkstore.Ref) ([][]byte, error) {
			return r.Store.GetObjects(ctx, r.From, refs)
		})
	if err != nil {
		return nil, &sidedError{err, ErrSource}
	}
	right, err := r.verify(ctx, start, refs)
	if err != nil {
		return nil, err
	}
	ready := 0
	for k, ref := range refs {
		if ref.ID == chunkstore.ZeroID {
			right[k] = true
			if err := r.zeros(ctx, start+k); err != nil {
				return nil, err
			}
		}
		if right[k] {
			ready += r.Manifest.ChunkBytes(start + k)
		}
	}
	r.advance(ready)
	return packed(start, refs, right), nil
}

// packed returns what is wanted for chunks from start on, which are refs, but for those that are
// right.
func packed(start int, refs []chunkstore.Ref, right []bool) (hauls []*haul) {
	wants := make(map[chunkstore.ID]*want)
	packs := make(map[chunkstore.Digest]*haul)
	var order []*haul
	for k, ref := range refs {
		if right[k] {
			continue
		}
		if w := wants[ref.ID]; w != nil {
			w.chunks = append(w.chunks, start+k)
			continue
		}
		w := &want{Ref: ref, chunks: []int{start + k}}
		wants[ref.ID] = w
		h := packs[ref.Place.Pack]
		if h == nil {
			h = &haul{pack: ref.Place.Pack}
			packs[h.pack] = h
			order = append(order, h)
		}
		h.wants = append(h.wants, w)
	}
	for _, h := range order {
		hauls = append(hauls, h.requests()...)
	}
	return hauls
}

// zeros puts chunk i in place, which is zeros but for its inline pages.
func (r *run) zeros(ctx context.Context, i int) error {
	if len(r.Manifest.InlineOf(i)) == 0 {
		return nil
	}
	if _, err := r.w.WriteAt(r.Manifest.Overlay(i, nil), chunkAt(i)); err != nil {
		return fmt.Errorf("chunk %d: %w", i, writeError(err))
	}
	return ctx.Err()
}

// chunkAt returns where chunk i begins.
func chunkAt(i int) int64 { return int64(i) * chunkstore.ChunkBytes }

func (r *run) advance(n int) {
	if n == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done += int64(n)
	if r.Progress != nil {
		r.Progress(r.done, r.Manifest.FileBytes)
	}
}
