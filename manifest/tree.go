package manifest

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sort"

	"golang.org/x/sync/errgroup"

	"verneuil/chunkstore"
)

// Fetch returns the plain bytes of a stored object, verified against its ID.
// The caller owns them. It may be called concurrently.
type Fetch func(ctx context.Context, id chunkstore.ID) ([]byte, error)

// Tree maps chunk indexes to IDs: the top, leaves and nodes, and patches of a
// manifest, in memory. [Tree.Lookup] and [Tree.Load] may run concurrently with
// each other, also in clones; nothing else may.
//
// Leaves and nodes never change (I5). Changes gather as patches, and Pack
// makes new objects of them along the paths from the top, so that a cut costs
// what changed, a clone costs the patches, and parts that are all zeros cost
// nothing: they are shared.
type Tree struct {
	chunks int

	// The version of the last Pack: an object of height levels+1 whose entries are the top
	root  *object
	valid int // entries of root from here on are void: they count as ZeroID

	patches map[int][]Patch // by leaf (index / fanout), ascending; never an empty slice
	patched int             // how many in all
}

// NewTree returns a loaded tree of so many chunks, all ZeroID. Its leaves and nodes have IDs of s.
func NewTree(s chunkstore.Sealer, chunks int) *Tree {
	return &Tree{chunks: chunks, root: makerFor(s).zeroObject(1, 0), patches: make(map[int][]Patch)}
}

// Tree returns the tree of m, which has IDs of s: leaves and nodes are not loaded yet.
func (m *Manifest) Tree(s chunkstore.Sealer) *Tree {
	t := NewTree(s, m.Chunks())
	by := t.root.by
	t.valid = t.chunks
	plain := make([]byte, 0, len(m.Top)*idBytes)
	var kids []*object
	for k, id := range m.Top {
		plain = append(plain, id[:]...)
		if m.Levels > 0 {
			kids = append(kids, by.newObject(id, m.Levels,
				min(span(m.Levels), t.chunks-k*span(m.Levels))))
		}
	}
	t.root = by.madeObject(m.Levels+1, t.chunks, plain, kids)
	for _, p := range m.Patches {
		t.patches[p.Index/fanout] = append(t.patches[p.Index/fanout], p)
	}
	t.patched = len(m.Patches)
	return t
}

// Len returns the number of chunks.
func (t *Tree) Len() int { return t.chunks }

// Clone returns an independent copy. It shares leaves and nodes, also those that
// either loads later.
func (t *Tree) Clone() *Tree {
	c := *t
	c.patches = make(map[int][]Patch, len(t.patches))
	for leaf, patches := range t.patches {
		c.patches[leaf] = slices.Clone(patches)
	}
	return &c
}

// At returns the ID of chunk i of a loaded tree. It panics if i is out of range
// or the leaf is not there.
func (t *Tree) At(i int) chunkstore.ID {
	id, ok := t.peek(i)
	if !ok {
		panic(fmt.Sprintf("manifest: chunk %d: the tree is not loaded", i))
	}
	return id
}

// Lookup returns the ID of chunk i, loading the leaf and the nodes above it
// through fetch if need be. Errors name the object, and wrap what fetch said or
// [chunkstore.ErrCorrupt]. It panics if i is out of range.
func (t *Tree) Lookup(ctx context.Context, i int, fetch Fetch) (chunkstore.ID, error) {
	if id, ok := t.peek(i); ok {
		return id, nil
	}
	o := t.root
	for {
		c, err := o.load(ctx, fetch)
		if err != nil {
			return chunkstore.ID{}, err
		}
		k := i % span(o.height) / span(o.height-1)
		if o.height == 1 {
			return c.entry(k), nil
		}
		o = c.kids[k]
	}
}

// peek returns the ID of chunk i if that takes no fetch.
func (t *Tree) peek(i int) (chunkstore.ID, bool) {
	t.check(i)
	patches := t.patches[i/fanout]
	if k, ok := findPatch(patches, i); ok {
		return patches[k].ID, true
	}
	return t.base(i)
}

// base is peek without the patches.
func (t *Tree) base(i int) (chunkstore.ID, bool) {
	if i >= t.valid {
		return chunkstore.ZeroID, true
	}
	for o := t.root; ; {
		c := o.content.Load()
		if c == nil {
			return chunkstore.ID{}, false
		}
		k := i % span(o.height) / span(o.height-1)
		if o.height == 1 {
			return c.entry(k), true
		}
		o = c.kids[k]
	}
}

func (t *Tree) check(i int) {
	if i < 0 || i >= t.chunks {
		panic(fmt.Sprintf("manifest: chunk %d of a tree of %d", i, t.chunks))
	}
}

// findPatch returns where in patches that of chunk i is, or would stand.
func findPatch(patches []Patch, i int) (k int, found bool) {
	if n := len(patches); n == 0 || patches[n-1].Index < i {
		return n, false // the common case when a whole file is set in order
	}
	k = sort.Search(len(patches), func(k int) bool { return patches[k].Index >= i })
	return k, patches[k].Index == i
}

// Set makes id the ID of chunk i. The tree need not be loaded. It panics if i is
// out of range.
func (t *Tree) Set(i int, id chunkstore.ID) {
	t.check(i)
	leaf := i / fanout
	patches := t.patches[leaf]
	k, found := findPatch(patches, i)
	was, known := t.base(i)
	switch {
	case known && was == id: // as it was at the last Pack: needs no patch
		if found {
			t.setPatches(leaf, slices.Delete(patches, k, k+1))
		}
	case found:
		patches[k].ID = id
	default:
		t.setPatches(leaf, slices.Insert(patches, k, Patch{Index: i, ID: id}))
	}
}

func (t *Tree) setPatches(leaf int, patches []Patch) {
	t.patched += len(patches) - len(t.patches[leaf])
	if len(patches) == 0 {
		delete(t.patches, leaf)
	} else {
		t.patches[leaf] = patches
	}
}

// Resize cuts the tree to so many chunks, or extends it by ZeroIDs.
func (t *Tree) Resize(chunks int) {
	if chunks < t.chunks {
		for leaf, patches := range t.patches {
			if (leaf+1)*fanout > chunks {
				k, _ := findPatch(patches, chunks)
				t.setPatches(leaf, patches[:k:k])
			}
		}
		t.valid = min(t.valid, chunks)
	}
	t.chunks = chunks
}

// loadConcurrency bounds the fetches of Load. Leaves are few (32 a GiB).
const loadConcurrency = 8

// Load fetches every leaf and node that is not there yet.
func (t *Tree) Load(ctx context.Context, fetch Fetch) error {
	objects := []*object{t.root}
	for height := t.root.height; height > 1; height-- {
		group, groupCtx := errgroup.WithContext(ctx)
		group.SetLimit(loadConcurrency)
		var next []*object
		for _, o := range objects {
			for _, kid := range distinct(o.content.Load().kids) {
				next = append(next, kid)
				if kid.content.Load() != nil {
					continue
				}
				if groupCtx.Err() != nil {
					break
				}
				group.Go(func() error {
					_, err := kid.load(groupCtx, fetch)
					return err
				})
			}
		}
		if err := group.Wait(); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		objects = next
	}
	return nil
}

// distinct drops repeated objects that stand next to each other, which is how
// long stretches of zeros look.
func distinct(objects []*object) []*object {
	return slices.Compact(slices.Clone(objects))
}

// Forget gives up what is loaded of leaves and nodes for chunks before i alone, so that
// who goes through a tree in order has no more in memory than the way to where he is. Who
// asks for those chunks again fetches them again, also in clones, of which there
// must be none that is to be loaded.
func (t *Tree) Forget(i int) { t.root.forget(i) }

// Objects yields the ID and the plain bytes of every leaf and node of the last
// Pack, or of the manifest that the tree was made of: what a target must hold
// besides chunks, each once, leaves before the nodes that name them. The bytes are
// the tree's: they must not be changed. The tree must be loaded.
func (t *Tree) Objects() iter.Seq2[chunkstore.ID, []byte] {
	return func(yield func(chunkstore.ID, []byte) bool) {
		seen := make(map[chunkstore.ID]bool)
		var walk func(o *object) bool
		walk = func(o *object) bool {
			if seen[o.id] {
				return true
			}
			seen[o.id] = true
			c := o.content.Load()
			if c == nil {
				panic(fmt.Sprintf("manifest: %s %s: the tree is not loaded", o.noun(), o.id))
			}
			for _, kid := range c.kids {
				if !walk(kid) {
					return false
				}
			}
			return yield(o.id, c.plain)
		}
		for _, o := range t.root.content.Load().kids {
			if !walk(o) {
				return
			}
		}
	}
}
