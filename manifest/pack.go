package manifest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sort"

	"verneuil/chunkstore"
)

// Put stores new leaves, or new nodes, distinct ones, ascending by the chunks that they are for,
// and returns where each stands, in the same order.
type Put func(objects []chunkstore.Hashed) ([]chunkstore.Place, error)

// Pack brings the tree into the form that a manifest stores and returns it:
// the smallest levels at which at most 64 top entries do, those entries, and the
// patches, ascending, at most patchesMax of them, not counting those of Near. What it returns is
// the caller's. New leaves are stored by put, all in one call, then what nodes name them, height by
// height; without put, the tree is unplaced. Parts of the tree that it must read come
// through fetch; where that is nil, Pack panics if they are not loaded.
//
// It fails as fetch and put do, or if the tree is neither placed nor unplaced; then the tree is as
// it was.
//
// A leaf whose length changed is rewritten, as its ID covers its length, and takes
// its patches in; so is one that is lost ([Tree.Lost]). When more than patchesMax patches
// are left, leaves are rewritten too, those with most patches first, until three quarters of that
// many remain.
//
// Callers pass 48. A patch costs 46 bytes in every manifest as long as it stays, and 32 for its
// pack, which it shares with what was put with it. Rewritten leaves cost one request
// together, and 21 KiB each or more; and from 2 GiB up another request and the nodes above them.
// Of the L leaves of a database the most-patched one holds at least 48/L patches when it is
// rewritten. However scattered the changes, a changed chunk never pays for more than a leaf and
// its share of a node (BenchmarkCut, 16 changes a cut: 6 KiB of leaves and nodes per change at
// 1 GiB, 19 at 8 GiB, 24 at 100 GiB; the chunk itself is 64 before compression).
// More patches lengthen every manifest, of a busy small database, too: 72 make those of scattered
// inserts 12 to 18 % longer, for 0 to 2 % fewer requests (replicate/cutter's BenchmarkBudget).
func (t *Tree) Pack(ctx context.Context, patchesMax int, fetch Fetch, put Put) (
	levels int, top []chunkstore.Ref, patches []Patch, err error,
) {
	levels = levelsFor(t.chunks)
	b := builder{Tree: t, levels: levels, put: put, made: make([][]*draft, levels+2)}
	b.fold = b.leavesToFold(patchesMax)
	if fetch != nil {
		if err := b.load(ctx, fetch); err != nil {
			return 0, nil, nil, fmt.Errorf("pack: %w", err)
		}
	}
	patches, err = b.unfolded()
	if err != nil {
		return 0, nil, nil, fmt.Errorf("pack: %w", err)
	}
	root, err := b.store()
	if err != nil {
		return 0, nil, nil, fmt.Errorf("pack: %w", err)
	}
	for _, leaf := range b.fold {
		t.setPatches(leaf, nil)
	}
	t.root, t.valid, t.lost = root, t.chunks, nil
	return levels, root.loaded().refs(), merge(patches, b.addNear(ctx, fetch)), nil
}

// addNear makes patches of what leaves say of near chunks, and returns them, ascending. Where
// leaves cannot be fetched there are fewer.
func (b *builder) addNear(ctx context.Context, fetch Fetch) (added []Patch) {
	t := b.Tree
	end, _ := slices.BinarySearch(t.Near, t.chunks)
	near := t.Near[:end]
	if t.root.height == 1 || len(near) == 0 {
		return nil
	}
	if fetch != nil {
		_, _ = t.LookupAll(ctx, near, fetch)
	}
	for _, i := range near {
		patches := t.patches[i/fanout]
		k, found := findPatch(patches, i)
		if ref, missing := t.base(i); !found && missing == nil && ref != zeroRef {
			added = append(added, Patch{i, ref})
			t.setPatches(i/fanout, slices.Insert(patches, k, Patch{i, ref}))
		}
	}
	return added
}

// check fails if refs are not as put demands.
func (b *builder) check(refs []chunkstore.Ref) error {
	isPlaced, err := placed(refs)
	if err == nil && isPlaced != (b.put != nil) && !allZeros(refs) {
		err = errMixed
	}
	return err
}

func allZeros(refs []chunkstore.Ref) bool {
	return !slices.ContainsFunc(refs, func(r chunkstore.Ref) bool {
		return r.ID != chunkstore.ZeroID
	})
}

// leavesToFold returns, ascending, the leaves whose patches must go into new
// leaves: those that cannot be kept as they are, and, if more than patchesMax patches
// remain, the most-patched ones. Among leaves with as many patches, those go together
// that share a node, as that is rewritten, too, and nodes with most patches go first.
func (b *builder) leavesToFold(patchesMax int) []int {
	var fold, kept []int
	left, count := 0, make(map[int]int) // patches that cost something
	for leaf, patches := range b.patches {
		start := leaf * fanout
		keeps := b.keeps(1, start, min(start+fanout, b.chunks))
		if b.levels == 0 || !keeps || len(b.lost) > 0 && b.lost[b.stored(1, start)] {
			fold = append(fold, leaf)
			continue
		}
		for _, p := range patches {
			if _, near := slices.BinarySearch(b.Near, p.Index); !near {
				count[leaf]++
			}
		}
		if count[leaf] > 0 {
			kept = append(kept, leaf)
			left += count[leaf]
		}
	}
	if left <= max(patchesMax, 0) {
		slices.Sort(fold)
		return fold
	}
	nodes := make(map[int]int) // patches in all
	for _, leaf := range kept {
		nodes[leaf/fanout] += count[leaf]
	}
	slices.SortFunc(kept, func(x, y int) int {
		return cmp.Or(cmp.Compare(count[y], count[x]),
			cmp.Compare(nodes[y/fanout], nodes[x/fanout]), cmp.Compare(x, y))
	})
	for _, leaf := range kept {
		if left <= max(patchesMax*3/4, 0) {
			break
		}
		fold = append(fold, leaf)
		left -= count[leaf]
	}
	slices.Sort(fold)
	return fold
}

// keeps reports whether the last Pack had an object, or zeros, for exactly the chunks from
// start to end, and they are still valid throughout.
func (b *builder) keeps(height, start, end int) bool {
	return height < b.root.height && end <= b.valid &&
		min(start+span(height), b.root.chunks) == end
}

// stored returns the object that keeps says is there, if it is not zeros.
func (b *builder) stored(height, start int) *object {
	o := b.root
	for o != nil && o.height > height {
		o = o.loaded().kids[kidOf(o.height, start)]
	}
	return o
}

// zeros reports whether the last Pack has zeros from start to end, without a look at more than
// one object of each height.
func (b *builder) zeros(height, start int) bool {
	if start >= b.valid {
		return true
	}
	return height < b.root.height && b.stored(height, start) == nil
}

// draft is an object of a new version, without a Ref as yet.
type draft struct {
	*object
	kids []*object // of a node: its content comes when they are stored
}

// builder makes the objects of a new version out of a tree's last one.
type builder struct {
	*Tree
	levels int
	fold   []int // leaves that take their patches in, ascending
	put    Put
	made   [][]*draft // by height, in order
}

// load fetches what build looks at, those of a height together.
func (b *builder) load(ctx context.Context, fetch Fetch) error {
	type at struct {
		*object
		start int
	}
	for open := []at{{b.root, 0}}; len(open) > 0; {
		var next []at
		var objects []*object
		seen := make(map[*object]bool)
		for _, o := range open {
			for k, kid := range o.loaded().kids {
				start := o.start + k*span(o.height-1)
				if kid == nil || start >= b.valid || !b.opens(kid, start) {
					continue
				}
				next = append(next, at{kid, start})
				if !seen[kid] {
					seen[kid] = true
					objects = append(objects, kid)
				}
			}
		}
		for batch := range slices.Chunk(objects, loadMax) {
			if err := loadAll(ctx, batch, fetch); err != nil {
				return err
			}
		}
		open = next
	}
	return nil
}

// opens reports whether build has to look into o, whose first chunk is start.
func (b *builder) opens(o *object, start int) bool {
	end := min(start+span(o.height), b.chunks)
	return !b.keeps(o.height, start, end) || b.folds(start, end) // what is lost is loaded
}

// unfolded returns the patches that stay, ascending.
func (b *builder) unfolded() (patches []Patch, err error) {
	for leaf, of := range b.patches {
		if _, folded := slices.BinarySearch(b.fold, leaf); !folded {
			patches = append(patches, of...)
		}
	}
	slices.SortFunc(patches, func(a, b Patch) int { return cmp.Compare(a.Index, b.Index) })
	refs := make([]chunkstore.Ref, len(patches))
	for k, p := range patches {
		refs[k] = p.Ref
	}
	return patches, b.check(refs)
}

// store makes the objects of the new version, stores them, and returns its root.
func (b *builder) store() (*object, error) {
	root := &draft{object: &object{height: b.levels + 1, chunks: b.chunks}}
	if _, err := b.fill(root, 0); err != nil {
		return nil, err
	}
	for height := 1; height <= b.levels; height++ {
		if err := b.storeLevel(b.made[height]); err != nil {
			return nil, err
		}
	}
	return root.object, b.finish(root)
}

// storeLevel gives drafts of one height, the kids of which are stored, their contents and Refs.
func (b *builder) storeLevel(drafts []*draft) error {
	var objects []chunkstore.Hashed
	index := make(map[chunkstore.ID]int) // in objects
	for _, d := range drafts {
		if err := b.finish(d); err != nil {
			return err
		}
		h := chunkstore.Hash(b.sealer, d.loaded().plain)
		d.ref.ID = h.ID()
		if _, ok := index[h.ID()]; !ok {
			index[h.ID()] = len(objects)
			objects = append(objects, h)
		}
	}
	if b.put == nil || len(objects) == 0 {
		return nil
	}
	places, err := b.put(objects)
	if err != nil {
		return err
	}
	if len(places) != len(objects) {
		return fmt.Errorf("%d places for %d objects", len(places), len(objects))
	}
	for _, d := range drafts {
		d.ref.Place = places[index[d.ref.ID]]
	}
	return nil
}

// finish gives d its content if it has kids; they have Refs.
func (b *builder) finish(d *draft) error {
	if d.height == 1 {
		return nil
	}
	refs := make([]chunkstore.Ref, len(d.kids))
	for k, kid := range d.kids {
		refs[k] = zeroRef
		if kid != nil {
			refs[k] = kid.ref
		}
	}
	d.content.Store(&content{newEntries(refs), d.kids})
	return b.check(refs)
}

// build returns the object of the given height for the chunks from start to end: the one of the
// last version if nothing in it changes, or a draft; nil for zeros.
func (b *builder) build(height, start, end int) (*object, error) {
	if !b.folds(start, end) {
		if b.zeros(height, start) {
			return nil, nil
		}
		if b.keeps(height, start, end) {
			if o := b.stored(height, start); !b.lost[o] {
				return o, nil
			}
		}
	}
	d := &draft{object: &object{height: height, chunks: end - start}}
	if some, err := b.fill(d, start); err != nil || !some {
		return nil, err
	}
	b.made[height] = append(b.made[height], d)
	return d.object, nil
}

// fill gives d, whose first chunk is start, its kids, or else, to a leaf, its content. It reports
// whether that is not all zeros.
func (b *builder) fill(d *draft, start int) (some bool, err error) {
	end := start + d.chunks
	if d.height == 1 {
		refs := b.leaf(start, end)
		d.content.Store(newContent(newEntries(refs), 1, d.chunks))
		return !allZeros(refs), b.check(refs)
	}
	for at := start; at < end; at += span(d.height - 1) {
		kid, err := b.build(d.height-1, at, min(at+span(d.height-1), end))
		if err != nil {
			return false, err
		}
		some = some || kid != nil
		d.kids = append(d.kids, kid)
	}
	return some, nil
}

// folds reports whether a leaf in the range takes its patches in.
func (b *builder) folds(start, end int) bool {
	k := sort.SearchInts(b.fold, start/fanout)
	return k < len(b.fold) && b.fold[k]*fanout < end
}

// leaf returns the entries of a new leaf: what the last version has, ZeroIDs, and the patches.
func (b *builder) leaf(start, end int) []chunkstore.Ref {
	refs := make([]chunkstore.Ref, 0, end-start)
	for i := start; i < end; i++ {
		ref, missing := b.base(i)
		if missing != nil {
			panic(fmt.Sprintf("manifest: chunk %d: the tree is not loaded", i))
		}
		refs = append(refs, ref)
	}
	for _, p := range b.patches[start/fanout] {
		refs[p.Index-start] = p.Ref
	}
	return refs
}
