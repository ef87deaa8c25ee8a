package manifest

import (
	"context"
	"slices"

	"verneuil/chunkstore"
)

// Salvage is Load of a tree of which leaves or nodes may be absent or damaged: where one is, it
// takes all chunks below it for zeros, and the next Pack makes anew what is above it. lost is the
// error of one of them, nil if there is none.
func (t *Tree) Salvage(ctx context.Context, fetch Fetch) (lost, err error) {
	for objects := []*object{t.root}; len(objects) > 0; {
		objects = kidsOf(objects)
		for batch := range slices.Chunk(objects, loadMax) {
			if err := loadEach(ctx, batch, fetch, &lost); err != nil {
				return nil, err
			}
		}
		objects = slices.DeleteFunc(objects, (*object).missing)
	}
	if lost != nil {
		if t.lost == nil {
			t.lost = make(map[*object]bool)
		}
		t.root = t.salvage(t.root)
	}
	return lost, ctx.Err()
}

// loadEach is loadAll of objects some of which may be absent or damaged: that error it notes.
func loadEach(ctx context.Context, objects []*object, fetch Fetch, lost *error) error {
	err := loadAll(ctx, objects, fetch)
	switch {
	case !chunkstore.IsFault(err):
		return err
	case len(objects) == 1:
		*lost = err
		return nil
	}
	half := len(objects) / 2
	if err := loadEach(ctx, objects[:half], fetch, lost); err != nil {
		return err
	}
	return loadEach(ctx, objects[half:], fetch, lost)
}

func (o *object) missing() bool { return o.content.Load() == nil }

// salvage returns what is left of o, which is loaded: o itself, if all below it is.
func (t *Tree) salvage(o *object) *object {
	c := o.content.Load()
	kids, refs := slices.Clone(c.kids), c.refs()
	whole := true
	for k, kid := range c.kids {
		if kid == nil {
			continue
		}
		if kid.missing() {
			kids[k], refs[k] = nil, zeroRef
		} else {
			kids[k] = t.salvage(kid)
		}
		whole = whole && kids[k] == kid
	}
	if whole {
		return o
	}
	left := &object{ref: o.ref, height: o.height, chunks: o.chunks}
	left.content.Store(&content{newEntries(refs), kids})
	if t.lost[o] {
		delete(t.lost, o)
	}
	t.lost[left] = true
	return left
}
