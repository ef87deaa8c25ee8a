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
	// leaf for about each chunk: they shall be small beside it. But then top is longer,
	// which every manifest holds, and scattered changes rewrite more of them. Against
	// 1,024 entries and 96 patches, this many and 72 cost scattered inserts (replicate's
	// BenchmarkBudget) 2 % more requests at 200 MB, 18 % at 10 GB and 10 % at 1 TB, and 0,
	// 4 and 15 % fewer bytes. With 256 it is 5, 25 and 29 % more requests, and a
	// database of more than 1 GiB has nodes, one request more to a lookup.
	fanoutBits = 9
	fanout     = 1 << fanoutBits
	// topMax is the most IDs that a manifest names directly.
	topMax = 64
)

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
// changes (I5); its content may be fetched later, by load.
type object struct {
	by     *maker
	id     chunkstore.ID
	height int
	chunks int // chunks under it, at most span(height)

	content atomic.Pointer[content]
	mu      sync.Mutex
	fetch   *flight // under mu: the one fetch that is running, if any
}

// content is what an object holds; immutable.
type content struct {
	plain []byte    // the entries' IDs, as stored
	kids  []*object // nil in a leaf; kids[k].id is entry k
}

func (c *content) entry(k int) chunkstore.ID {
	return chunkstore.ID(c.plain[k*idBytes:][:idBytes])
}

// flight is one running fetch, for others to wait for.
type flight struct {
	done      chan struct{} // closed when the rest is set
	content   *content
	err       error
	abandoned bool // the fetcher's own ctx ended: no verdict on the object
}

// newObject returns an object whose content is not loaded, unless id says that it
// is full of ZeroIDs: then it is the shared one, which costs no fetch and no memory.
func (m *maker) newObject(id chunkstore.ID, height, chunks int) *object {
	if height <= zeroHeightMax && chunks == span(height) {
		if z := m.fullZero(height); z.id == id {
			return z
		}
	}
	return &object{by: m, id: id, height: height, chunks: chunks}
}

// madeObject returns an object with plain and kids for content, which must match.
func (m *maker) madeObject(height, chunks int, plain []byte, kids []*object) *object {
	o := &object{by: m, id: m.sealer.Identify(plain), height: height, chunks: chunks}
	if height <= zeroHeightMax && chunks == span(height) {
		if z := m.fullZero(height); z.id == o.id {
			return z
		}
	}
	o.content.Store(&content{plain: plain, kids: kids})
	return o
}

// zeroHeightMax is the height of the largest shared object of zeros: 8 TiB.
const zeroHeightMax = 3

// maker makes the objects of the trees of one Sealer, which names them. It has the full objects of
// zeros, which all those trees share.
type maker struct {
	sealer    chunkstore.Sealer
	fullZeros [zeroHeightMax + 1]struct {
		once sync.Once
		o    *object
	}
}

// makers has the one *maker of each Sealer of the process, of which there are as many as there are
// keys.
var makers sync.Map

func makerFor(s chunkstore.Sealer) *maker {
	m, ok := makers.Load(s)
	if !ok {
		m, _ = makers.LoadOrStore(s, &maker{sealer: s})
	}
	return m.(*maker)
}

// fullZero returns the one full object of that height with nothing but ZeroIDs in its leaves.
func (m *maker) fullZero(height int) *object {
	z := &m.fullZeros[height]
	z.once.Do(func() { z.o = m.makeZero(height, span(height)) })
	return z.o
}

// zeroObject returns an object of the given extent with nothing but ZeroIDs in its leaves.
func (m *maker) zeroObject(height, chunks int) *object {
	if height <= zeroHeightMax && chunks == span(height) {
		return m.fullZero(height)
	}
	return m.makeZero(height, chunks)
}

func (m *maker) makeZero(height, chunks int) *object {
	n := ceilDiv(chunks, span(height-1))
	o := &object{by: m, height: height, chunks: chunks}
	c := &content{plain: make([]byte, 0, n*idBytes)}
	for k := range n {
		id := chunkstore.ZeroID
		if height > 1 {
			kid := m.zeroObject(height-1, min(span(height-1), chunks-k*span(height-1)))
			c.kids = append(c.kids, kid)
			id = kid.id
		}
		c.plain = append(c.plain, id[:]...)
	}
	o.id = m.sealer.Identify(c.plain)
	o.content.Store(c)
	return o
}

// load returns o's content, through fetch if it is not there yet. At most one
// fetch runs for an object at a time: others wait for it and share its result,
// except that they try on their own when it ended for its own ctx's sake.
func (o *object) load(ctx context.Context, fetch Fetch) (*content, error) {
	for {
		o.mu.Lock()
		if c := o.content.Load(); c != nil {
			o.mu.Unlock()
			return c, nil
		}
		f := o.fetch
		if f == nil {
			f = &flight{done: make(chan struct{}), abandoned: true}
			o.fetch = f
			o.mu.Unlock()
			return o.run(ctx, fetch, f)
		}
		o.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if !f.abandoned {
			return f.content, f.err
		}
	}
}

// run performs f, of which o.fetch was set to. A fetch that panics leaves f abandoned.
func (o *object) run(ctx context.Context, fetch Fetch, f *flight) (*content, error) {
	defer func() {
		o.mu.Lock()
		o.fetch = nil
		o.mu.Unlock()
		close(f.done)
	}()
	plain, err := fetch(ctx, o.id)
	if err == nil {
		f.content, err = o.parse(plain)
	}
	if err != nil {
		f.err = fmt.Errorf("%s %s: %w", o.noun(), o.id, err)
	} else {
		o.content.Store(f.content)
	}
	f.abandoned = err != nil && ctx.Err() != nil
	return f.content, f.err
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
		if (at == len(c.kids) || kid != c.kids[at]) && !kid.isFullZero() {
			kid.content.Store(nil)
		}
	}
	if at < len(c.kids) {
		c.kids[at].forget(n - at*span(o.height-1))
	}
}

func (o *object) isFullZero() bool {
	return o.height <= zeroHeightMax && o.chunks == span(o.height) && o == o.by.fullZero(o.height)
}

func (o *object) noun() string {
	if o.height == 1 {
		return "leaf"
	}
	return "node"
}

// parse makes o's content of its plain bytes. Kids of one ID and size become one
// object, so that a node costs what its distinct entries do.
func (o *object) parse(plain []byte) (*content, error) {
	n := ceilDiv(o.chunks, span(o.height-1))
	if len(plain) != n*idBytes {
		return nil, fmt.Errorf("%d bytes, want %d IDs of %d: %w", len(plain), n, idBytes,
			chunkstore.ErrCorrupt)
	}
	c := &content{plain: plain}
	if o.height == 1 {
		return c, nil
	}
	type extent struct {
		id     chunkstore.ID
		chunks int
	}
	seen := make(map[extent]*object)
	c.kids = make([]*object, n)
	for k := range n {
		e := extent{c.entry(k), min(span(o.height-1), o.chunks-k*span(o.height-1))}
		if seen[e] == nil {
			seen[e] = o.by.newObject(e.id, o.height-1, e.chunks)
		}
		c.kids[k] = seen[e]
	}
	return c, nil
}
