package replicate

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

// adoptable reports whether every target has been asked what it has, or cannot
// be, and at least one has answered.
func (s *session) adoptable() bool {
	answered := false
	for _, t := range s.targets {
		switch {
		case t.known:
			answered = true
		case t.conflict == nil && !t.failed:
			return false
		}
	}
	return answered
}

// adopt gives a spool without a cut its past: the newest version that a target
// has under our name, so that nothing is put that is there already (I4). If there
// is none, a lineage begins.
func (s *session) adopt(ctx context.Context) error {
	if err := s.prehash(ctx); err != nil {
		return err
	}
	var best *target
	for _, t := range s.targets {
		if t.known && t.found != nil && t.tree != nil && (best == nil || t.found.Head().Supersedes(best.found.Head())) {
			best = t
		}
	}
	s.epoch++
	if best == nil {
		s.last, s.encoded, s.lineage = new(manifest.Manifest), nil, newLineage()
		s.tree = manifest.NewTree(s.mirror.Chunks())
		s.treeAhead = true // even an empty database has a first version
	} else if err := s.adoptFrom(ctx, best); err != nil {
		s.epoch--
		return err
	}
	for _, t := range s.targets {
		if !t.known {
			continue
		}
		if t.raw != nil && bytes.Equal(t.raw, s.encoded) {
			t.holds = s.encoded
		}
		s.compare(t)
		if !slices.Contains(s.last.Stores, t.ids.Chunks) {
			s.treeAhead = true // it does not say yet that it is for this store
		}
	}
	s.saveAcks()
	return nil
}

// adoptFrom makes what t has the last cut, and finds out how the mirror differs.
func (s *session) adoptFrom(ctx context.Context, t *target) error {
	m, tree := t.found, t.tree.Clone()
	tree.Resize(s.mirror.Chunks())
	diffs := s.mirror.Diffs()
	if err := s.hash(ctx, diffs); err != nil {
		return err
	}
	bases := make(map[int][]byte)
	for _, i := range diffs {
		if len(m.InlineOf(i)) == 0 || s.mirror.Diff(i).Hash == tree.At(i) {
			continue // the hash tells
		}
		var base []byte
		if id := tree.At(i); id != chunkstore.ZeroID {
			t.calls++
			var err error
			if base, err = t.GetChunk(ctx, id); err != nil {
				s.log().Warn("object of a version to take over was not read: its chunk is stored anew", "error", err)
				continue
			}
		}
		bases[i] = base
		if base == nil {
			bases[i] = []byte{}
		}
	}
	if err := s.prove(); err != nil {
		return err
	}
	if err := s.files.Save(m.Sequence, t.raw, t.tree.Objects()); err != nil {
		return err
	}
	s.last, s.encoded, s.tree, s.lineage = m, t.raw, tree, m.Lineage
	var same []int
	for _, i := range diffs {
		unchanged, err := s.relate(m, i, bases[i])
		if err != nil {
			return err
		}
		if unchanged {
			same = append(same, i)
		}
	}
	if err := s.mirror.Cleared(same); err != nil {
		return fmt.Errorf("adopt: %w", err)
	}
	return nil
}

// relate expresses chunk i by how it differs from what the adopted version has,
// and reports whether it is the same. base is its object, where that was read.
func (s *session) relate(m *manifest.Manifest, i int, base []byte) (bool, error) {
	d := s.mirror.Diff(i)
	if d.Hash == s.tree.At(i) && s.asOverlaid(m, i) {
		s.mirror.Settle(i, true)
		return true, nil
	}
	if d.Hash == s.tree.At(i) || len(m.InlineOf(i)) == 0 {
		return false, nil
	}
	b, err := s.mirror.Chunk(i, make([]byte, chunkstore.ChunkBytes))
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
	s.mirror.Settle(i, d.Count() == 0)
	return true, nil
}
