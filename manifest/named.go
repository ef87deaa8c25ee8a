package manifest

import (
	"context"

	"verneuil/chunkstore"
)

// namedBatch is how many leaves or nodes Named wants at once: some 1.5 MiB.
const namedBatch = 64

// Node names a leaf, or a node, of a tree of the height that it has there.
type Node struct {
	chunkstore.Ref
	Height, Chunks int
}

// Named is what a tree names: a chunk (height 0), a leaf (1) or a node; the first chunk that it is
// for, and where it stands.
type Named struct {
	chunkstore.Ref
	Height, Chunk int
}

// Named calls each with all that t's manifest names, but zeros: chunks, leaves and nodes, also
// chunks that patches have replaced in their leaves, and what was cut off since. Leaves and nodes
// that are not there are fetched, 64 at a time, and given up again; those that known reports are
// passed over, with all below them, which is the same wherever they are (I5); where it is nil, none
// are. Errors are those of [Tree.Load]. It may run concurrently with Lookup and Load.
func (t *Tree) Named(
	ctx context.Context, fetch Fetch, known func(Node) bool, each func(Named),
) error {
	for _, patches := range t.patches {
		for _, p := range patches {
			if p.ID != chunkstore.ZeroID {
				each(Named{p.Ref, 0, p.Index})
			}
		}
	}
	w := namedWalk{ctx, fetch, known, each}
	return w.look(t.root.loaded(), t.root.height, 0)
}

type namedWalk struct {
	ctx   context.Context
	fetch Fetch
	known func(Node) bool
	each  func(Named)
}

// walked is a leaf or node on a walk, and its first chunk.
type walked struct {
	*object
	start int
}

// look names what an object of that height names, which holds c and whose first chunk is start, and
// all below: also what is void in this tree, as another may have it, too.
func (w *namedWalk) look(c *content, height, start int) error {
	for k := range c.n {
		if c.id(k) != chunkstore.ZeroID {
			w.each(Named{c.at(k), height - 1, start + k*span(height-1)})
		}
	}
	var kids []walked
	for k, kid := range c.kids {
		if kid == nil || w.known != nil && w.known(Node{kid.ref, kid.height, kid.chunks}) {
			continue
		}
		kids = append(kids, walked{kid, start + k*span(height-1)})
		if len(kids) == namedBatch {
			if err := w.lookAll(kids); err != nil {
				return err
			}
			kids = nil
		}
	}
	return w.lookAll(kids)
}

func (w *namedWalk) lookAll(all []walked) error {
	var objects []*object
	copies := make(map[*object]*object) // so that the tree does not keep what they hold
	for _, o := range all {
		if copies[o.object] == nil {
			c := &object{ref: o.ref, height: o.height, chunks: o.chunks}
			c.content.Store(o.content.Load())
			copies[o.object], objects = c, append(objects, c)
		}
	}
	if err := loadAll(w.ctx, objects, w.fetch); err != nil {
		return err
	}
	for _, o := range all {
		if err := w.look(copies[o.object].loaded(), o.height, o.start); err != nil {
			return err
		}
	}
	return w.ctx.Err()
}

// Renew has the next Pack put anew the leaves and nodes that stand in one of packs, and loads what
// that takes: so the packs come to be of no more use. Errors are those of [Tree.Load]; the tree is
// as it was, then.
func (t *Tree) Renew(
	ctx context.Context, packs map[chunkstore.Digest]bool, fetch Fetch,
) error {
	w := &renewal{t.valid, packs, fetch, make(map[*object]bool)}
	for o := range t.lost {
		w.lost[o] = true
	}
	if _, err := w.look(ctx, walked{t.root, 0}); err != nil {
		return err
	}
	t.lost = w.lost
	return nil
}

// renewal is Renew under way.
type renewal struct {
	valid int
	packs map[chunkstore.Digest]bool
	fetch Fetch
	lost  map[*object]bool
}

// look notes what is put anew of what is below o, which is loaded, and reports whether any is.
func (w *renewal) look(ctx context.Context, o walked) (some bool, err error) {
	var load []*object
	var kids []walked
	seen := make(map[*object]bool)
	for k, kid := range o.loaded().kids {
		start := o.start + k*span(o.height-1)
		if kid == nil || start >= w.valid || kid.height == 1 && !w.packs[kid.ref.Place.Pack] {
			continue
		}
		kids = append(kids, walked{kid, start})
		if !seen[kid] {
			seen[kid], load = true, append(load, kid)
		}
	}
	if err := loadAll(ctx, load, w.fetch); err != nil {
		return false, err
	}
	for _, kid := range kids {
		anew := w.packs[kid.ref.Place.Pack]
		if kid.height > 1 {
			below, err := w.look(ctx, kid)
			if err != nil {
				return false, err
			}
			anew = anew || below
		}
		if anew {
			w.lost[kid.object], some = true, true
		}
	}
	if some {
		w.lost[o.object] = true
	}
	return some, nil
}
