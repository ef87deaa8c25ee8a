package cutter

import (
	"bytes"
	"context"
	"fmt"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

// Past is a version that a target has under our name.
type Past struct {
	Manifest *manifest.Manifest
	Tree     *manifest.Tree // its tree, loaded, with places or without
	Object   manifest.Fetch // of chunks' objects that stand where Tree says
}

// Adopt gives a Blank cutter its past: that version, so that nothing is put that is there already
// (I4 of package replicate). Without one (nil), a lineage begins. Either way the epoch is a new
// one. Options.Meanwhile is called as by Cut.
func (c *Cutter) Adopt(ctx context.Context, past *Past) error {
	if _, err := c.prehash(ctx); err != nil {
		return err
	}
	if past != nil {
		return c.adoptFrom(ctx, past)
	}
	c.head.Lineage = newLineage()
	c.head.Epoch++
	c.last = Version{Manifest: new(manifest.Manifest),
		Tree: manifest.NewTree(c.o.Sealer, c.db.chunks())}
	c.state = Unsaved // even an empty database has a first version
	return nil
}

// adoptFrom makes a past version the last one, and finds out how the contents differ.
func (c *Cutter) adoptFrom(ctx context.Context, past *Past) error {
	m, tree, err := c.unplaced(ctx, past)
	if err != nil {
		return err
	}
	tree.Resize(c.db.chunks())
	diffs := c.db.Diffs()
	if err := c.db.hash(ctx, diffs); err != nil {
		return err
	}
	bases := make(map[int][]byte)
	for _, i := range diffs {
		if len(m.InlineOf(i)) == 0 || c.db.Diff(i).Hash == tree.At(i).ID {
			continue // the hash tells
		}
		var base []byte
		if tree.At(i).ID != chunkstore.ZeroID {
			ref := past.Tree.At(i)
			got, err := past.Object(ctx, []chunkstore.Ref{ref})
			if err != nil {
				c.o.Log.Warn("object of a version to take over was not read: "+
					"its chunk is stored again", "error", err)
				continue
			}
			base = got[0]
		}
		bases[i] = base
		if base == nil {
			bases[i] = []byte{}
		}
	}
	if err := c.o.Prove(); err != nil {
		return err
	}
	if err := c.o.Files.Save(m, tree.Objects()); err != nil {
		return err
	}
	c.state, c.last = Saved, Version{m, tree}
	c.head.Lineage = m.Lineage
	c.head.Epoch++
	var same []int
	for _, i := range diffs {
		unchanged, err := c.relate(m, i, bases[i])
		if err != nil {
			return err
		}
		if unchanged {
			same = append(same, i)
		}
	}
	if err := c.db.Cleared(same); err != nil {
		return fmt.Errorf("adopt: %w", err)
	}
	return nil
}

// unplaced returns past as it is saved here, where nobody knows places: with the same Cut.
func (c *Cutter) unplaced(ctx context.Context, past *Past) (
	*manifest.Manifest, *manifest.Tree, error,
) {
	m, tree := *past.Manifest, past.Tree.Unplaced()
	m.Earlier, m.At = nil, new(manifest.Manifest).At // those of the target
	var err error
	if m.Levels, m.Top, m.Patches, err = tree.Pack(ctx, PatchesMax, nil, nil); err != nil {
		return nil, nil, fmt.Errorf("adopt: %w", err)
	}
	return &m, tree, nil
}

// relate expresses chunk i by how it differs from what the adopted version has,
// and reports whether it is the same. base is its object, where that was read.
func (c *Cutter) relate(m *manifest.Manifest, i int, base []byte) (bool, error) {
	d := c.db.Diff(i)
	if d.Hash == c.last.Tree.At(i).ID && c.db.overlaidBy(m, i) {
		c.db.NoteSaved(i, true)
		return true, nil
	}
	if d.Hash == c.last.Tree.At(i).ID || len(m.InlineOf(i)) == 0 {
		return false, nil
	}
	b, err := c.db.chunk(i, make([]byte, chunkstore.ChunkBytes))
	if err != nil {
		return false, err
	}
	if base == nil || len(base) > len(b) {
		return false, nil
	}
	base = append(base, make([]byte, len(b)-len(base))...)
	d.Whole, d.Sectors = false, [2]uint64{}
	for _, p := range m.InlineOf(i) { // a page that is again as in the object has changed, too
		in := int(p.Offset - int64(i)*chunkstore.ChunkBytes)
		d.Set(in/sectorBytes, min(chunkstore.ChunkBytes, in+len(p.Data))/sectorBytes)
	}
	for k := 0; k < len(b); k += sectorBytes {
		end := min(k+sectorBytes, len(b))
		if !bytes.Equal(b[k:end], base[k:end]) {
			d.Set(k/sectorBytes, k/sectorBytes+1)
		}
	}
	if m.ChunkBytes(i) != len(b) || !bytes.Equal(m.Overlay(i, base), b) {
		return false, nil
	}
	c.db.NoteSaved(i, d.Count() == 0)
	return true, nil
}
