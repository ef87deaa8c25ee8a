package replica

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/locate"
)

const (
	// leavesAhead bounds how many are fetched with the third one that is missed: two are what a
	// point lookup needs.
	leavesAhead = 32
	// leavesMax bounds a leafCache: some 10 MiB, the leaves of 16 GiB. Trees hold their own.
	leavesMax = 512
)

// tree says where a version's chunks are. Its leaves and nodes come from the follower's cache, as
// versions share most of them.
type tree struct {
	f    *follower
	m    *manifest.Manifest
	from *chunkstore.Target // that has it; nil: the source is one object
	tree *manifest.Tree

	fetched atomic.Int64 // leaves that were missing when somebody read
}

func newTree(f *follower, found locate.Found) *tree {
	m := found.Manifest
	return &tree{f: f, m: m, from: found.From, tree: m.Tree(f.all.options.Store.Sealer())}
}

// refs returns where chunks are, in their order.
func (t *tree) refs(ctx context.Context, chunks []int) ([]chunkstore.Ref, error) {
	return t.tree.LookupAll(ctx, chunks, t.fetch)
}

// refsAhead is refs for who reads, or for what is read ahead: soon he may need other leaves.
func (t *tree) refsAhead(
	ctx context.Context, chunks []int,
) (refs []chunkstore.Ref, err error) {
	defer recoverTo(&err)
	return t.tree.LookupAll(ctx, chunks, t.fetchAhead)
}

// fetchBeside fetches, in the background, the leaf of a chunk that is found without, of a large
// database: who comes to the lowest interior page of a table, which a writer has near, goes on to a
// page that was written about when that one was.
func (t *tree) fetchBeside(i int) {
	leaf, ok := t.m.Leaf(i)
	if _, near := patchOf(t.m, i); ok && near && storedBytes(t.m.Top) > t.f.all.leavesAtOnce {
		t.fetchInBackground(t.f.leaves.lacking([]chunkstore.Ref{leaf}, nil))
	}
}

// fetch is a [manifest.Fetch].
func (t *tree) fetch(ctx context.Context, refs []chunkstore.Ref) ([][]byte, error) {
	return t.f.leaves.fetch(ctx, t.f, t.from, refs)
}

// fetchAhead is fetch, but with the third leaf all that are missing yet are fetched: a query that
// reads here and there would have them one after the other.
func (t *tree) fetchAhead(ctx context.Context, refs []chunkstore.Ref) ([][]byte, error) {
	const least = 3
	asked := int64(len(t.f.leaves.lacking(refs, nil)))
	if asked > 0 && t.m.Levels == 1 && len(t.m.Top) <= leavesAhead {
		if n := t.fetched.Add(asked); n >= least && n-asked < least {
			t.fetchInBackground(t.f.leaves.lacking(t.m.Top, refs))
		}
	}
	return t.fetch(ctx, refs)
}

func storedBytes(refs []chunkstore.Ref) (bytes int) {
	for _, ref := range refs {
		bytes += int(ref.Place.Bytes)
	}
	return bytes
}

// fetchLeaves fetches the leaves of m, which from has, in the background, if they are few: who
// opens it reads, as a rule, and waits for records meanwhile. A query by an index would need one
// after the other, and they lie together in a pack.
func (f *follower) fetchLeaves(m *manifest.Manifest, from *chunkstore.Target) {
	if m.Levels == 1 && storedBytes(m.Top) <= f.all.leavesAtOnce {
		t := newTree(f, locate.Found{Manifest: m, From: from})
		t.fetchInBackground(f.leaves.lacking(m.Top, nil))
	}
}

// fetchInBackground fetches leaves, as many as there is room for.
func (t *tree) fetchInBackground(refs []chunkstore.Ref) {
	n := t.f.all.enterAhead(len(refs))
	if n == 0 {
		return
	}
	go func() {
		defer t.f.all.leave(n)
		defer t.f.all.makeRoom(n)
		var err error
		defer recoverTo(&err)
		_, err = t.fetch(t.f.all.ctx, refs[:n]) // nobody's error
	}()
}

// leafCache keeps leaves and nodes, which outlive versions. Its zero value is empty.
type leafCache struct {
	mu     sync.Mutex
	plain  map[chunkstore.ID][]byte
	coming map[chunkstore.ID]*leafFetch
}

// leafFetch is a fetch of leaves and nodes; done is closed when plain or err is set.
type leafFetch struct {
	refs  []chunkstore.Ref
	done  chan struct{}
	plain map[chunkstore.ID][]byte
	err   error
}

// lacking returns those of refs, each once, that c has not and nobody fetches; none of but.
func (c *leafCache) lacking(refs, but []chunkstore.Ref) (lacking []chunkstore.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := map[chunkstore.ID]bool{chunkstore.ZeroID: true}
	for _, ref := range but {
		known[ref.ID] = true
	}
	for _, ref := range refs {
		if !known[ref.ID] && c.plain[ref.ID] == nil && c.coming[ref.ID] == nil {
			lacking = append(lacking, ref)
		}
		known[ref.ID] = true
	}
	return lacking
}

// fetch returns leaves and nodes, in the order of refs. What is not there, and not on its way, is
// got together, from in if that has it, in a goroutine of its own: it outlives a caller whose ctx
// ends, but who comes after that does not wait for it.
func (c *leafCache) fetch(
	ctx context.Context, f *follower, in *chunkstore.Target, refs []chunkstore.Ref,
) ([][]byte, error) {
	plain := make([][]byte, len(refs))
	for {
		mine, all := c.begin(f, in, refs, plain)
		if len(all) == 0 {
			return plain, nil
		}
		for _, l := range all {
			select {
			case <-l.done:
			case <-ctx.Done():
				c.abandon(l)
				return nil, context.Cause(ctx)
			}
			if l.err != nil && (l == mine || len(l.refs) == 1) {
				return nil, l.err
			} // else perhaps another one's fault: it is tried again
			for k, ref := range refs {
				if plain[k] == nil {
					plain[k] = l.plain[ref.ID]
				}
			}
		}
	}
}

// begin puts what c has of refs, where plain has nothing, into plain. It returns the fetches of the
// others, of which mine, if it is not nil, begins now.
func (c *leafCache) begin(
	f *follower, in *chunkstore.Target, refs []chunkstore.Ref, plain [][]byte,
) (mine *leafFetch, all []*leafFetch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, ref := range refs {
		if plain[k] == nil {
			plain[k] = c.plain[ref.ID]
		}
		if plain[k] != nil {
			continue
		}
		l := c.coming[ref.ID]
		if l == nil {
			if mine == nil {
				mine = &leafFetch{done: make(chan struct{})}
			}
			l = mine
			l.refs = append(l.refs, ref)
			if c.coming == nil {
				c.coming = map[chunkstore.ID]*leafFetch{}
			}
			c.coming[ref.ID] = l
		}
		if !slices.Contains(all, l) {
			all = append(all, l)
		}
	}
	if mine != nil {
		go c.run(f, in, mine)
	}
	return mine, all
}

// run performs l.
func (c *leafCache) run(f *follower, in *chunkstore.Target, l *leafFetch) {
	defer close(l.done)
	plain, err := f.fetchEntered(in, l.refs)
	c.mu.Lock()
	defer c.mu.Unlock()
	l.err, l.plain = err, map[chunkstore.ID][]byte{}
	for k, ref := range l.refs {
		if err == nil {
			l.plain[ref.ID] = plain[k]
			c.putLocked(ref.ID, plain[k])
		}
	}
	c.abandonLocked(l)
}

// fetchEntered is fetchObjects in a goroutine of its own.
func (f *follower) fetchEntered(
	in *chunkstore.Target, refs []chunkstore.Ref,
) (plain [][]byte, err error) {
	defer recoverTo(&err)
	if !f.all.enter() {
		return nil, errClosed
	}
	defer f.all.leave(1)
	return f.fetchObjects(in, refs)
}

// abandon sees to it that nobody comes to wait for l any more.
func (c *leafCache) abandon(l *leafFetch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abandonLocked(l)
}

func (c *leafCache) abandonLocked(l *leafFetch) {
	for _, ref := range l.refs {
		if c.coming[ref.ID] == l {
			delete(c.coming, ref.ID)
		}
	}
}

func (c *leafCache) putLocked(id chunkstore.ID, plain []byte) {
	if c.plain == nil {
		c.plain = map[chunkstore.ID][]byte{}
	}
	for old := range c.plain {
		if len(c.plain) < leavesMax {
			break
		}
		delete(c.plain, old)
	}
	c.plain[id] = plain
}
