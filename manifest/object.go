package manifest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"verneuil/chunkstore"
)

const (
	// fanout is the number of entries of a full leaf or node. A cold lookup fetches a
	// leaf for about each chunk: they shall be small beside it. This many take 21 KiB, and
	// 32 bytes for each pack. To a writer it matters little, who puts the leaves of a
	// version together: with 256, 512 and 1,024, scattered inserts (replicate/cutter's
	// BenchmarkBudget) take 1.39, 1.38 and 1.37 requests each at 200 MB, 1.50 at 10 GB, and
	// bytes within 1 %. But with 256 a database of more than 1 GiB has nodes, one request
	// more to a lookup.
	fanoutBits = 9
	fanout     = 1 << fanoutBits
	// topMax is the most entries that a manifest has directly.
	topMax = 64
)

// LeavesAtOnce bounds the leaves, as they are stored, that a reader fetches together who opens a
// database, before he needs any: 15 full ones, of 480 MiB of a database.
const LeavesAtOnce = 320 << 10

// LeavesBytes returns about how much all leaves take of a tree of so many chunks, as stored.
func LeavesBytes(chunks int) int { return chunks * (idBytes + placeBytes) }

// span returns the number of chunks under an object of the given height:
// 1 for a chunk (height 0), 512 for a leaf (1), and so on.
func span(height int) int { return 1 << (fanoutBits * height) }

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// levelsFor returns the height of the top entries for a file of so many chunks:
// the smallest at which there are at most topMax of them.
func levelsFor(chunks int) int {
	levels := 0
	for ceilDiv(chunks, span(levels)) > topMax {
		levels++
	}
	return levels
}

// object is a leaf (height 1), a node (2 and up), or the root, which is a
// manifest's top and has no object of its own in a store. Its identity never
// changes (I5); its content may be fetched later, by loadAll. A nil *object is one
// below which all is zeros.
type object struct {
	ref    chunkstore.Ref
	height int
	chunks int // chunks under it, at most span(height)

	content atomic.Pointer[content]
	mu      sync.Mutex
	fetch   *flight // under mu: the one fetch that is running, if any
}

// content is what an object holds; immutable.
type content struct {
	entries
	kids []*object // nil in a leaf; kids[k].ref is entry k
}

// newContent returns what an object of that height, with so many chunks under it, holds. Kids of
// one Ref and size become one object, so that a node costs what its distinct entries do.
func newContent(e entries, height, chunks int) *content {
	c := &content{entries: e}
	if height == 1 {
		return c
	}
	type extent struct {
		ref    chunkstore.Ref
		chunks int
	}
	seen := make(map[extent]*object)
	c.kids = make([]*object, e.n)
	for k := range e.n {
		x := extent{e.at(k), min(span(height-1), chunks-k*span(height-1))}
		if x.ref.ID == chunkstore.ZeroID {
			continue
		}
		if seen[x] == nil {
			seen[x] = &object{ref: x.ref, height: height - 1, chunks: x.chunks}
		}
		c.kids[k] = seen[x]
	}
	return c
}

// kidOf returns which entry of an object of that height chunk i is under.
func kidOf(height, i int) int { return i % span(height) / span(height-1) }

// flight is one running fetch, for others to wait for.
type flight struct {
	done      chan struct{} // closed when the rest is set
	content   *content
	err       error
	abandoned bool // no verdict on the object: the fetcher's ctx ended, or another one's failed
}

// load returns o's content, through fetch if it is not there yet.
func (o *object) load(ctx context.Context, fetch Fetch) (*content, error) {
	for {
		if c := o.content.Load(); c != nil {
			return c, nil
		}
		if err := loadAll(ctx, []*object{o}, fetch); err != nil {
			return nil, err
		}
	}
}

// loadAll fetches the contents of objects, distinct ones, where they are not there yet. At most one
// fetch runs for an object at a time: others wait for it and share its result, except that they
// try on their own when it ended for its own ctx's sake, or perhaps another object's.
func loadAll(ctx context.Context, objects []*object, fetch Fetch) error {
	for len(objects) > 0 {
		var mine, theirs []*object
		var flights, running []*flight
		for _, o := range objects {
			o.mu.Lock()
			switch {
			case o.content.Load() != nil:
			case o.fetch != nil:
				theirs, running = append(theirs, o), append(running, o.fetch)
			default:
				o.fetch = &flight{done: make(chan struct{}), abandoned: true}
				mine, flights = append(mine, o), append(flights, o.fetch)
			}
			o.mu.Unlock()
		}
		if len(mine) > 0 {
			if err := run(ctx, mine, flights, fetch); err != nil {
				return err
			}
		}
		objects = nil
		for k, f := range running {
			select {
			case <-f.done:
			case <-ctx.Done():
				return ctx.Err()
			}
			switch {
			case f.abandoned:
				objects = append(objects, theirs[k])
			case f.err != nil:
				return f.err
			}
		}
	}
	return nil
}

// run performs flights, to which the fetches of objects were set. A fetch that panics leaves them
// abandoned.
func run(ctx context.Context, objects []*object, flights []*flight, fetch Fetch) error {
	defer func() {
		for k, o := range objects {
			o.mu.Lock()
			o.fetch = nil
			o.mu.Unlock()
			close(flights[k].done)
		}
	}()
	refs := make([]chunkstore.Ref, len(objects))
	for k, o := range objects {
		refs[k] = o.ref
	}
	plain, err := fetch(ctx, refs)
	if err != nil {
		if len(objects) == 1 {
			err = fmt.Errorf("%s: %w", objects[0], err)
			flights[0].err, flights[0].abandoned = err, ctx.Err() != nil
		}
		return err
	}
	var first error
	for k, o := range objects {
		f := flights[k]
		f.abandoned = false
		if f.content, f.err = o.parse(plain[k]); f.err == nil {
			o.content.Store(f.content)
		} else if first == nil {
			first = f.err
		}
	}
	return first
}

// forget gives up the content of the objects below o that are for its first n chunks alone.
func (o *object) forget(n int) {
	c := o.content.Load()
	if c == nil || o.height == 1 {
		return
	}
	// The kid that chunk n is in; equal ones before it are the same object
	at := n / span(o.height-1)
	for _, kid := range c.kids[:min(at, len(c.kids))] {
		if kid != nil && (at == len(c.kids) || kid != c.kids[at]) {
			kid.content.Store(nil)
		}
	}
	if at < len(c.kids) && c.kids[at] != nil {
		c.kids[at].forget(n - at*span(o.height-1))
	}
}

func (o *object) String() string {
	if o.height == 1 {
		return fmt.Sprintf("leaf %s", o.ref.ID)
	}
	return fmt.Sprintf("node %s", o.ref.ID)
}

// parse makes o's content of its plain bytes.
func (o *object) parse(plain []byte) (*content, error) {
	e, err := parseEntries(plain, ceilDiv(o.chunks, span(o.height-1)))
	if err == nil && (e.packs > 0) != (o.ref.Place != chunkstore.Place{}) {
		err = fmt.Errorf("it stands in a pack and its entries do not, or the reverse: %w",
			chunkstore.ErrCorrupt)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o, err)
	}
	return newContent(e, o.height, o.chunks), nil
}

// loaded returns o's content, which is there.
func (o *object) loaded() *content {
	c := o.content.Load()
	if c == nil {
		panic(fmt.Sprintf("manifest: %s: the tree is not loaded", o))
	}
	return c
}
