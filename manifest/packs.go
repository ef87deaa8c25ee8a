package manifest

import (
	"context"

	"verneuil/chunkstore"
)

// packsBatch is how many leaves or nodes Packs wants at once: some 1.5 MiB.
const packsBatch = 64

// Node names a leaf, or a node, of a tree of the height that it has there.
type Node struct {
	chunkstore.Ref
	Height, Chunks int
}

// Packs calls named with each pack in which something stands that t's manifest names: chunks,
// leaves and nodes, also chunks that patches have replaced in their leaves. It may name a pack
// several times. Leaves and nodes that are not there are fetched, 64 at a time, and given up
// again; those that known reports are passed over, with all below them, which is the same wherever
// they are (I5). Errors are those of [Tree.Load]. It may run concurrently with Lookup and Load.
func (t *Tree) Packs(
	ctx context.Context, fetch Fetch, known func(Node) bool, named func(chunkstore.Digest),
) error {
	for _, patches := range t.patches {
		for _, p := range patches {
			if p.ID != chunkstore.ZeroID {
				named(p.Place.Pack)
			}
		}
	}
	w := packsWalk{ctx, fetch, known, named}
	return w.look(t.root.loaded())
}

type packsWalk struct {
	ctx   context.Context
	fetch Fetch
	known func(Node) bool
	named func(chunkstore.Digest)
}

// look names the packs of an object that holds c, and of all below: also of what is void in this
// tree, as another may have it, too.
func (w *packsWalk) look(c *content) error {
	for k := range c.packs {
		w.named(chunkstore.Digest(c.plain[countsBytes+k*digestBytes:][:digestBytes]))
	}
	var kids []*object
	for _, kid := range c.kids {
		if kid == nil || w.known(Node{kid.ref, kid.height, kid.chunks}) {
			continue
		}
		// A copy, so that the tree does not keep what it holds.
		o := &object{ref: kid.ref, height: kid.height, chunks: kid.chunks}
		o.content.Store(kid.content.Load())
		kids = append(kids, o)
		if len(kids) == packsBatch {
			if err := w.lookAll(kids); err != nil {
				return err
			}
			kids = nil
		}
	}
	return w.lookAll(kids)
}

func (w *packsWalk) lookAll(objects []*object) error {
	if err := loadAll(w.ctx, objects, w.fetch); err != nil {
		return err
	}
	for k, o := range objects {
		if err := w.look(o.loaded()); err != nil {
			return err
		}
		objects[k] = nil
	}
	return w.ctx.Err()
}
