package cutter

import (
	"verneuil/chunkstore"
	"verneuil/replicate/mirror"
)

// Fold is chunks whose objects are made anew while versions go on to be made: as the chunks are
// when it is begun. Until it ends, what changes of them travels inline over their old objects, as
// if there were none; then the next version names the new ones, and has inline what has changed
// since it was begun.
type Fold struct {
	Chunks []int // their indexes

	of    *Cutter
	diffs []*mirror.Diff  // theirs
	ids   []chunkstore.ID // of the new objects; nil: it has not ended
}

// BeginFold returns the fold that the last version asks for; nil, if it asks for none, or one is
// under way. The caller has the chunks as they are now, and makes objects of them.
func (c *Cutter) BeginFold() *Fold {
	if c.fold != nil {
		return nil
	}
	f := &Fold{of: c}
	for _, i := range c.outgrown {
		if d := c.db.Diff(i); d != nil && !d.Whole && d.Count() > 0 {
			d.Begin()
			f.Chunks, f.diffs = append(f.Chunks, i), append(f.diffs, d)
		}
	}
	if c.outgrown = nil; len(f.Chunks) == 0 {
		return nil
	}
	c.fold = f
	return f
}

// End says that objects of those IDs were made of f's chunks, or, if ids is nil, that they were
// not. Whoever lacks one is an [Audience] that says so. It is of the cutter's goroutine.
func (f *Fold) End(ids []chunkstore.ID) {
	if f.ids = ids; ids == nil {
		f.of.fold = nil
	}
}

// take has the tree name the objects that a fold has made, of the chunks that can still be
// described by them: those whose differences were noted all the time (C5). f may be nil.
func (f *Fold) take() {
	if f == nil || f.ids == nil {
		return
	}
	c := f.of
	c.fold = nil
	for k, i := range f.Chunks {
		d := f.diffs[k]
		if c.db.Diff(i) != d || d.Whole || c.planner.whole[i] || i >= c.last.Tree.Len() {
			continue
		}
		c.setChunk(i, f.ids[k])
		d.End()
		delete(c.planner.carried, i)
	}
}
