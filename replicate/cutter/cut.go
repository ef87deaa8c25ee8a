package cutter

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/spool/sqlitefile"
)

const sectorBytes = 512

// Cut makes a version of the contents as they are. Nothing changes them meanwhile, but for
// [Options.Meanwhile], before the decision what the version is made of. If nothing differs after
// all, the last version stays. made says whether there is a new one.
func (c *Cutter) Cut(ctx context.Context) (made bool, err error) {
	c.fold.take()
	p, err := c.prehash(ctx)
	if err != nil {
		return false, err
	}
	if err := c.db.hash(ctx, p.whole); err != nil {
		return false, err
	}
	whole, changed := c.describe(p)
	if !changed {
		return false, c.noteSaved(p, whole)
	}
	c.state = Unsaved
	if err := c.save(ctx, p); err != nil {
		return false, err
	}
	c.planner.noteCarried(p)
	if c.outgrown = p.fold; c.fold != nil {
		c.outgrown = nil // that is what the fold is of
	}
	return true, c.noteSaved(p, whole)
}

// describe brings the tree to what p plans. It returns the chunks that are as their objects, and
// whether anything differs from the last version.
func (c *Cutter) describe(p *plan) (whole map[int]bool, changed bool) {
	changed = c.db.Size() != c.last.Manifest.FileBytes
	if chunks := c.db.chunks(); chunks != c.last.Tree.Len() {
		c.last.Tree.Resize(chunks)
		c.db.TreeHas(chunks)
		c.o.Audience.Shortened(chunks)
		maps.DeleteFunc(c.planner.whole, func(i int, _ bool) bool { return i >= chunks })
	}
	whole = make(map[int]bool)
	for _, i := range p.whole {
		id := c.db.Diff(i).Hash
		if c.last.Tree.At(i).ID == id {
			// as its object; the last cut may have had other pages over that
			changed = changed || !c.db.overlaidBy(c.last.Manifest, i)
		} else {
			changed = true
			c.setChunk(i, id)
		}
		whole[i] = true
	}
	if p.first && c.db.Diff(0) != nil && c.last.Tree.At(0).ID != chunkstore.ZeroID {
		c.setChunk(0, chunkstore.ZeroID)
	}
	for _, i := range p.inline {
		changed = changed || c.db.Diff(i).Changed
	}
	return whole, changed || p.pageOneChanged || c.state == Unsaved
}

// save makes what p plans, over the tree, the saved version (C3).
func (c *Cutter) save(ctx context.Context, p *plan) error {
	m, err := c.manifest(ctx, p)
	if err != nil {
		return err
	}
	if err := c.fault("save"); err != nil {
		return err
	}
	if err := c.o.Prove(); err != nil {
		return err
	}
	if err := c.o.Files.Save(m, c.last.Tree.Objects()); err != nil {
		return err
	}
	if err := c.fault("saved"); err != nil {
		return err
	}
	c.state, c.last.Manifest = Saved, m
	c.head.Sequence = m.Sequence
	return nil
}

func (c *Cutter) fault(point string) error {
	if c.o.Fault == nil {
		return nil
	}
	return c.o.Fault(point)
}

// setChunk changes the tree.
func (c *Cutter) setChunk(i int, id chunkstore.ID) {
	c.state = Unsaved
	c.last.Tree.Set(i, chunkstore.Ref{ID: id})
	c.o.Audience.Renamed(i, id)
}

// noteSaved notes that the contents are the last version, which p describes. whole are the
// chunks that are as their objects.
func (c *Cutter) noteSaved(p *plan, whole map[int]bool) error {
	diffs := c.db.Diffs()
	for _, i := range diffs {
		d := c.db.Diff(i)
		if i == 0 && p.first {
			d.Whole = false
			d.Set(0, chunkstore.ChunkBytes/sectorBytes) // its object is zeros
		}
		c.db.NoteSaved(i, whole[i] || d.Count() == 0)
	}
	clear(c.planner.whole)
	return c.db.Cleared(diffs)
}

// manifest makes the manifest of the cut that p plans.
func (c *Cutter) manifest(ctx context.Context, p *plan) (m *manifest.Manifest, err error) {
	h := sqlitefile.ReadHeader(c.db)
	m = &manifest.Manifest{
		Lineage: c.head.Lineage, Epoch: c.head.Epoch, Sequence: c.head.Sequence + 1,
		FileBytes: c.db.Size(), PageBytes: p.pageBytes, ChangeCounter: h.ChangeCounter(),
	}
	rand.Read(m.Cut[:]) // never fails
	c.o.Sign(m)
	if m.Inline, err = c.db.inline(p.pages); err != nil {
		return nil, err
	}
	m.Stores = c.o.Audience.Stores()
	m.Levels, m.Top, m.Patches, err = c.last.Tree.Pack(ctx, PatchesMax, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("cut: %w", err)
	}
	return m, nil
}

// newLineage names a chain of versions.
func newLineage() (id [16]byte) {
	rand.Read(id[:]) // never fails
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}
