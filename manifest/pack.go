package manifest

import (
	"cmp"
	"slices"
	"sort"

	"verneuil/chunkstore"
)

// Pack brings the tree into the form that a manifest stores and returns it:
// the smallest levels at which at most 64 top IDs do, those IDs, and the
// patches, ascending, at most patchesMax of them. What it returns is the
// caller's. The tree must be loaded, or Pack panics.
//
// A leaf whose length changed is rewritten, as its ID covers its length, and takes
// its patches in. When more than patchesMax patches are left, leaves are
// rewritten too, those with most patches first, until three quarters of that
// many remain.
//
// Callers pass 72. A patch costs 39 bytes in every manifest as long as it stays, a
// rewritten leaf one request and 16 KiB, and from 2 GiB up a node as well, which the
// leaves of one cut share. Of the L leaves of a database the most-patched one holds at
// least 72/L patches when it is rewritten. However scattered the changes, a changed chunk
// never pays for more than a leaf and its share of a node: (BenchmarkCut,
// 16 changes a cut: 3.3 KiB of leaves and nodes per change at 1 GiB, 13 at 8 GiB, 17 at
// 100 GiB; the chunk itself is 64 before compression).
// More patches would lengthen every manifest, of a busy small database, too, to save
// leaves of large ones: 72 keep it near 3 KB without its inline pages.
func (t *Tree) Pack(patchesMax int) (levels int, top []chunkstore.ID, patches []Patch) {
	levels = levelsFor(t.chunks)
	b := builder{Tree: t, fold: t.leavesToFold(levels, patchesMax)}
	root := b.build(levels+1, 0, t.chunks)
	for _, leaf := range b.fold {
		t.setPatches(leaf, nil)
	}
	t.root, t.valid = root, t.chunks

	c := root.content.Load()
	for k := range len(c.plain) / idBytes {
		top = append(top, c.entry(k))
	}
	for _, p := range t.patches {
		patches = append(patches, p...)
	}
	slices.SortFunc(patches, func(a, b Patch) int { return cmp.Compare(a.Index, b.Index) })
	return levels, top, patches
}

// leavesToFold returns, ascending, the leaves whose patches must go into new
// leaves: those that cannot be kept as they are, and, if more than patchesMax patches
// remain, the most-patched ones. Among leaves with as many patches, those go together
// that share a node, as that is rewritten, too, and nodes with most patches go first.
func (t *Tree) leavesToFold(levels, patchesMax int) []int {
	var fold, kept []int
	left := t.patched
	for leaf, patches := range t.patches {
		start := leaf * fanout
		if levels == 0 || t.stored(1, start, min(start+fanout, t.chunks)) == nil {
			fold = append(fold, leaf)
			left -= len(patches)
		} else {
			kept = append(kept, leaf)
		}
	}
	if left <= max(patchesMax, 0) {
		slices.Sort(fold)
		return fold
	}
	nodes := make(map[int]int) // patches in all
	for _, leaf := range kept {
		nodes[leaf/fanout] += len(t.patches[leaf])
	}
	slices.SortFunc(kept, func(a, b int) int {
		return cmp.Or(cmp.Compare(len(t.patches[b]), len(t.patches[a])),
			cmp.Compare(nodes[b/fanout], nodes[a/fanout]), cmp.Compare(a, b))
	})
	for _, leaf := range kept {
		if left <= max(patchesMax*3/4, 0) {
			break
		}
		fold = append(fold, leaf)
		left -= len(t.patches[leaf])
	}
	slices.Sort(fold)
	return fold
}

// stored returns the object of the last Pack that covers exactly the chunks from
// start to end and is still valid throughout, or nil.
func (t *Tree) stored(height, start, end int) *object {
	if end > t.valid || height >= t.root.height {
		return nil
	}
	o := t.root
	for o.height > height {
		c := o.content.Load()
		if c == nil {
			panic("manifest: Pack: the tree is not loaded")
		}
		o = c.kids[start%span(o.height)/span(o.height-1)]
	}
	if o.chunks != end-start {
		return nil
	}
	return o
}

// builder makes the objects of a new version out of a tree's last one.
type builder struct {
	*Tree
	fold []int // leaves that take their patches in, ascending
}

// build returns the object of the given height for the chunks from start to end:
// the one of the last version if nothing in it changes.
func (b *builder) build(height, start, end int) *object {
	changed := b.folds(start, end)
	if start >= b.valid && !changed {
		return b.root.by.zeroObject(height, end-start)
	}
	if o := b.stored(height, start, end); o != nil && !changed {
		return o
	}
	if height == 1 {
		return b.leaf(start, end)
	}
	var plain []byte
	var kids []*object
	for at := start; at < end; at += span(height - 1) {
		kid := b.build(height-1, at, min(at+span(height-1), end))
		kids = append(kids, kid)
		plain = append(plain, kid.id[:]...)
	}
	return b.root.by.madeObject(height, end-start, plain, kids)
}

// folds reports whether a leaf in the range takes its patches in.
func (b *builder) folds(start, end int) bool {
	k := sort.SearchInts(b.fold, start/fanout)
	return k < len(b.fold) && b.fold[k]*fanout < end
}

// leaf returns a new leaf: what the last version has, ZeroIDs, and the patches.
func (b *builder) leaf(start, end int) *object {
	plain := make([]byte, 0, (end-start)*idBytes)
	for i := start; i < end; i++ {
		id, ok := b.base(i)
		if !ok {
			panic("manifest: Pack: the tree is not loaded")
		}
		plain = append(plain, id[:]...)
	}
	for _, p := range b.patches[start/fanout] {
		copy(plain[(p.Index-start)*idBytes:], p.ID[:])
	}
	return b.root.by.madeObject(1, end-start, plain, nil)
}
