package manifest

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sort"

	"verneuil/chunkstore"
)

// Fetch returns the plain bytes of stored objects, each verified against its ID: all of them, in
// the order of refs, which are distinct, or an error, which names the object where there are
// several. The caller owns the bytes. It may be called concurrently.
type Fetch func(ctx context.Context, refs []chunkstore.Ref) (plain [][]byte, err error)

// Tree maps chunk indexes to Refs: the top, leaves and nodes, and patches of a
// manifest, in memory. It is placed or unplaced, as the manifest (doc.go).
// [Tree.Lookup] and [Tree.Load] may run concurrently with each other, also in clones;
// nothing else may.
//
// Leaves and nodes never change (I5). Changes gather as patches, and Pack
// makes new objects of them along the paths from the top, so that a cut costs
// what changed, a clone costs the patches, and parts that are all zeros cost
// nothing.
type Tree struct {
	// Near are chunks, ascending, that are to be found without a leaf: the next Pack makes a patch
	// of each of them, unless it is zeros, whether or not a leaf says the same. Clones share them.
	//
	// A reader that has nothing finds a chunk by its leaf, which is a request before the chunk's.
	// It fetches all leaves beside the records that follow a checkpoint, if they are few: see
	// [LeavesAtOnce]. Of a larger database it fetches those that it needs. So a writer has the
	// chunks near that a reader comes to first (replicate/cutter's crown.go).
	Near []int

	sealer chunkstore.Sealer
	chunks int

	// The version of the last Pack: an object of height levels+1 whose entries are the top
	root  *object
	valid int // entries of root from here on are void: they count as ZeroID

	patches map[int][]Patch // by leaf (index / fanout), ascending; never an empty slice
	patched int             // how many in all

	lost map[*object]bool // those that the next Pack puts anew, and all above them
}

var zeroRef = chunkstore.Ref{ID: chunkstore.ZeroID}

// NewTree returns a loaded tree of so many chunks, all ZeroID. Its leaves and nodes have IDs of s.
func NewTree(s chunkstore.Sealer, chunks int) *Tree {
	root := &object{height: 1}
	root.content.Store(newContent(newEntries(nil), 1, 0))
	return &Tree{sealer: s, chunks: chunks, root: root, patches: make(map[int][]Patch)}
}

// Tree returns the tree of m, which has IDs of s: leaves and nodes are not loaded yet.
func (m *Manifest) Tree(s chunkstore.Sealer) *Tree {
	t := NewTree(s, m.Chunks())
	e := Extent{t.chunks, t.chunks}
	if m.Earlier != nil {
		e = *m.Earlier
	}
	t.valid = e.Valid
	t.root = &object{height: m.Levels + 1, chunks: e.Chunks}
	t.root.content.Store(newContent(newEntries(m.Top), m.Levels+1, e.Chunks))
	for rest := slices.Clone(m.Patches); len(rest) > 0; {
		leaf := rest[0].Index / fanout
		n, _ := findPatch(rest, (leaf+1)*fanout)
		t.patches[leaf], rest = rest[:n:n], rest[n:]
	}
	t.patched = len(m.Patches)
	return t
}

// Describe has m say what the tree is, without new leaves: by all patches over the top of the
// last Pack. It is the inverse of [Manifest.Tree].
func (t *Tree) Describe(m *Manifest) {
	m.Levels, m.Top, m.Patches, m.Earlier = t.root.height-1, t.root.loaded().refs(), nil, nil
	if t.root.chunks != t.chunks || t.valid != t.chunks || t.root.height == 1 && t.patched > 0 {
		m.Earlier = &Extent{t.root.chunks, t.valid}
	}
	for _, leaf := range slices.Sorted(maps.Keys(t.patches)) {
		m.Patches = append(m.Patches, t.patches[leaf]...)
	}
}

// Len returns the number of chunks.
func (t *Tree) Len() int { return t.chunks }

// Clone returns an independent copy. It shares leaves and nodes, also those that
// either loads later.
func (t *Tree) Clone() *Tree {
	c := *t
	c.patches = make(map[int][]Patch, len(t.patches))
	all := make([]Patch, 0, t.patched)
	for leaf, patches := range t.patches {
		from := len(all)
		all = append(all, patches...)
		c.patches[leaf] = all[from:len(all):len(all)]
	}
	c.lost = maps.Clone(t.lost)
	return &c
}

// Unplaced returns a loaded tree, which is as t but for its places: it has none. t is loaded.
func (t *Tree) Unplaced() *Tree {
	c := t.Clone()
	for _, patches := range c.patches {
		for k := range patches {
			patches[k].Place = chunkstore.Place{}
		}
	}
	c.root, c.lost = unplaced(t.sealer, t.root, make(map[*object]*object)), nil
	return c
}

// unplaced returns what o, and all below it, is without places. done has what is made already.
func unplaced(s chunkstore.Sealer, o *object, done map[*object]*object) *object {
	if o == nil || done[o] != nil {
		return done[o]
	}
	c := o.loaded()
	refs, kids := c.refs(), make([]*object, len(c.kids))
	for k := range refs {
		refs[k].Place = chunkstore.Place{}
	}
	for k, kid := range c.kids {
		if kids[k] = unplaced(s, kid, done); kid != nil {
			refs[k] = kids[k].ref
		}
	}
	e := newEntries(refs)
	u := &object{height: o.height, chunks: o.chunks}
	u.ref.ID = s.Identify(e.plain)
	u.content.Store(&content{e, kids})
	done[o] = u
	return u
}

// At returns what a loaded tree has for chunk i. It panics if i is out of range
// or the leaf is not there.
func (t *Tree) At(i int) chunkstore.Ref {
	ref, missing := t.peek(i)
	if missing != nil {
		panic(fmt.Sprintf("manifest: chunk %d: the tree is not loaded", i))
	}
	return ref
}

// Lookup returns what the tree has for chunk i, loading the leaf and the nodes above it
// through fetch if need be. Errors name the object, and wrap what fetch said or
// [chunkstore.ErrCorrupt]. It panics if i is out of range.
func (t *Tree) Lookup(ctx context.Context, i int, fetch Fetch) (chunkstore.Ref, error) {
	for {
		ref, missing := t.peek(i)
		if missing == nil {
			return ref, nil
		}
		if _, err := missing.load(ctx, fetch); err != nil {
			return chunkstore.Ref{}, err
		}
	}
}

// LookupAll is Lookup for several chunks: their Refs in the order of chunks, or an error. Leaves
// and nodes that are not there are fetched together, those of one height at once.
func (t *Tree) LookupAll(
	ctx context.Context, chunks []int, fetch Fetch,
) ([]chunkstore.Ref, error) {
	refs := make([]chunkstore.Ref, len(chunks))
	for {
		var objects []*object
		seen := make(map[*object]bool)
		for k, i := range chunks {
			ref, missing := t.peek(i)
			refs[k] = ref
			if missing != nil && !seen[missing] {
				seen[missing] = true
				objects = append(objects, missing)
			}
		}
		if len(objects) == 0 {
			return refs, nil
		}
		if err := loadAll(ctx, objects, fetch); err != nil {
			return nil, err
		}
	}
}

// Peek is Lookup of what takes no fetch: ok is false where it would.
func (t *Tree) Peek(i int) (ref chunkstore.Ref, ok bool) {
	ref, missing := t.peek(i)
	return ref, missing == nil
}

// peek returns what the tree has for chunk i, or, if it is not nil, the first object on the way
// from the top that is not there.
func (t *Tree) peek(i int) (ref chunkstore.Ref, missing *object) {
	t.check(i)
	patches := t.patches[i/fanout]
	if k, ok := findPatch(patches, i); ok {
		return patches[k].Ref, nil
	}
	return t.base(i)
}

// base is peek without the patches.
func (t *Tree) base(i int) (ref chunkstore.Ref, missing *object) {
	if i >= t.valid {
		return zeroRef, nil
	}
	for o := t.root; o != nil; {
		c := o.content.Load()
		if c == nil {
			return chunkstore.Ref{}, o
		}
		k := kidOf(o.height, i)
		if o.height == 1 {
			return c.at(k), nil
		}
		o = c.kids[k]
	}
	return zeroRef, nil
}

// Differing returns the chunks of t, ascending, that have another ID in other; beyond its end that
// has ZeroID. Both trees are loaded. Leaves that are equal cost a comparison of their bytes: who
// takes up a database again compares all of it.
func Differing(t, other *Tree) (chunks []int) {
	for start := 0; start < t.chunks; start += fanout {
		end := min(start+fanout, t.chunks)
		ours, simple := leafIDs(t, start, end)
		if theirs, too := leafIDs(other, start, end); simple && too && bytes.Equal(ours, theirs) {
			continue
		}
		for i := start; i < end; i++ {
			has := chunkstore.ZeroID
			if i < other.chunks {
				has = other.At(i).ID
			}
			if t.At(i).ID != has {
				chunks = append(chunks, i)
			}
		}
	}
	return chunks
}

// leafIDs returns the IDs of the chunks from start, where a leaf begins, to end, as they stand in
// the leaf; nil: all are ZeroID. It is not simple if only At knows them.
func leafIDs(t *Tree, start, end int) (ids []byte, simple bool) {
	switch {
	case len(t.patches[start/fanout]) > 0 || start < t.valid && t.valid < end:
		return nil, false
	case start >= t.valid:
		return nil, true
	}
	o := t.root
	for o != nil && o.height > 1 {
		o = o.loaded().kids[kidOf(o.height, start)]
	}
	if o == nil {
		return nil, true
	}
	return o.loaded().ids(end - start)
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

// Set makes ref what the tree has for chunk i; ref has a Place if the tree is placed, unless it is
// ZeroID's, or the next Pack fails. The tree need not be loaded. It panics if i is out of range.
func (t *Tree) Set(i int, ref chunkstore.Ref) {
	t.check(i)
	leaf := i / fanout
	patches := t.patches[leaf]
	k, found := findPatch(patches, i)
	was, missing := t.base(i)
	switch {
	case missing == nil && was == ref: // as it was at the last Pack: needs no patch
		if found {
			t.setPatches(leaf, slices.Delete(patches, k, k+1))
		}
	case found:
		patches[k].Ref = ref
	default:
		t.setPatches(leaf, slices.Insert(patches, k, Patch{Index: i, Ref: ref}))
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

// loadMax is how many leaves or nodes Load wants at once: some 5 MiB, those of 8 GiB of a database.
const loadMax = 256

// Load fetches every leaf and node that is not there yet, those of a height together.
func (t *Tree) Load(ctx context.Context, fetch Fetch) error {
	for objects := []*object{t.root}; len(objects) > 0; {
		objects = kidsOf(objects)
		for batch := range slices.Chunk(objects, loadMax) {
			if err := loadAll(ctx, batch, fetch); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

// kidsOf returns the distinct kids of objects of one height, which are loaded.
func kidsOf(objects []*object) (kids []*object) {
	seen := make(map[*object]bool)
	for _, o := range objects {
		for _, kid := range o.loaded().kids {
			if kid != nil && !seen[kid] {
				seen[kid] = true
				kids = append(kids, kid)
			}
		}
	}
	return kids
}

// Loaded reports whether every leaf and node is there.
func (t *Tree) Loaded() bool {
	for objects := []*object{t.root}; len(objects) > 0; objects = kidsOf(objects) {
		for _, o := range objects {
			if o.content.Load() == nil {
				return false
			}
		}
	}
	return true
}

// Forget gives up what is loaded of leaves and nodes for chunks before i alone, so that
// who goes through a tree in order has no more in memory than the way to where he is. Who
// asks for those chunks again fetches them again, also in clones, of which there
// must be none that is to be loaded.
func (t *Tree) Forget(i int) { t.root.forget(i) }

// Objects yields every leaf and node of the last Pack, or of the manifest that the tree was made
// of, and its plain bytes: what a target must hold besides chunks, each once, leaves before the
// nodes that name them. The bytes are the tree's: they must not be changed. The tree must be
// loaded.
func (t *Tree) Objects() iter.Seq2[chunkstore.Ref, []byte] {
	return func(yield func(chunkstore.Ref, []byte) bool) {
		seen := make(map[chunkstore.Ref]bool)
		var walk func(o *object) bool
		walk = func(o *object) bool {
			if o == nil || seen[o.ref] {
				return true
			}
			seen[o.ref] = true
			c := o.loaded()
			for _, kid := range c.kids {
				if !walk(kid) {
					return false
				}
			}
			return yield(o.ref, c.plain)
		}
		for _, o := range t.root.loaded().kids {
			if !walk(o) {
				return
			}
		}
	}
}

// Lost returns, ascending, the chunks of a loaded tree whose objects stand in one of packs, which a
// target has no more. They are to be put and Set anew. The leaves and nodes that stand there
// are put anew by the next Pack.
func (t *Tree) Lost(packs map[chunkstore.Digest]bool) (chunks []int) {
	if t.lost == nil {
		t.lost = make(map[*object]bool)
	}
	t.lose(packs, t.root, 0, &chunks)
	for _, patches := range t.patches {
		for _, p := range patches {
			if packs[p.Place.Pack] {
				chunks = append(chunks, p.Index)
			}
		}
	}
	slices.Sort(chunks)
	return chunks
}

// lose is Lost for the object whose first chunk is start. It reports whether o, or an object below
// it, is lost.
func (t *Tree) lose(packs map[chunkstore.Digest]bool, o *object, start int, chunks *[]int) bool {
	if o == nil || start >= t.valid {
		return false
	}
	c := o.loaded()
	lost := packs[o.ref.Place.Pack]
	for k, kid := range c.kids {
		lost = t.lose(packs, kid, start+k*span(o.height-1), chunks) || lost
	}
	if o.height == 1 && c.in(packs) {
		for k := range min(c.n, t.valid-start) {
			_, patched := findPatch(t.patches[(start+k)/fanout], start+k)
			if !patched && packs[c.at(k).Place.Pack] {
				*chunks = append(*chunks, start+k)
			}
		}
	}
	if lost {
		t.lost[o] = true
	}
	return lost
}
