package courier

import (
	"iter"
	"maps"
	"slices"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

// change is what makes the tree of a target's version that of the last version.
type change struct {
	tree   *manifest.Tree // the push's own; at last, that of what is put
	least  int            // it is cut to so many chunks first
	chunks int            // it has so many then
	moved  map[int]chunkstore.Ref

	parcels [][]missingChunk
	places  [][]chunkstore.Place               // of parcels, when packing has settled
	patches []manifest.Patch                   // what the tree is changed to, ascending: see apply
	there   map[chunkstore.ID]chunkstore.Place // what no manifest names: leaves and nodes may be
}

// change returns what makes the target's tree last. What happens to the stock from now on comes
// after that.
func (s *stock) change(last *manifest.Tree, packObjects int) change {
	c := change{
		tree: s.tree.Clone(), least: s.least, chunks: last.Len(), moved: maps.Clone(s.moved),
		parcels: s.parcels(last, packObjects),
		there:   maps.Clone(s.put),
	}
	c.places = make([][]chunkstore.Place, len(c.parcels))
	s.least, s.since = c.chunks, nil
	return c
}

// all yields the missing objects.
func (c *change) all() iter.Seq[missingChunk] {
	return func(yield func(missingChunk) bool) {
		for _, chunks := range c.parcels {
			for _, m := range chunks {
				if !yield(m) {
					return
				}
			}
		}
	}
}

// samples returns a chunk of each pack.
func (c *change) samples() (chunks []int) {
	for _, parcel := range c.parcels {
		chunks = append(chunks, parcel[0].indexes[0])
	}
	return chunks
}

// apply changes the tree, now that the places of all parcels are known, and notes by what patches.
func (c *change) apply() {
	patches := make([]manifest.Patch, 0, len(c.moved))
	for i, ref := range c.moved {
		patches = append(patches, manifest.Patch{Index: i, Ref: ref})
	}
	for k, chunks := range c.parcels {
		for n, m := range chunks {
			for _, i := range m.indexes {
				ref := chunkstore.Ref{ID: m.id, Place: c.places[k][n]}
				patches = append(patches, manifest.Patch{Index: i, Ref: ref})
			}
		}
	}
	slices.SortFunc(patches, func(a, b manifest.Patch) int { return a.Index - b.Index })
	c.tree.Resize(c.least)
	c.tree.Resize(c.chunks)
	for _, p := range patches {
		c.tree.Set(p.Index, p.Ref)
	}
	c.patches = patches
}

// took notes what a push has made durable; and if the target has taken its version, that it has
// that version's tree. It returns how many chunks are durable.
func (s *stock) took(p *push) (chunks int) {
	for m := range p.change.all() {
		place, ok := p.durable[m.id]
		if !ok {
			continue
		}
		chunks++
		for _, i := range m.indexes {
			if s.missing[i] != m.id {
				continue // it has changed since
			}
			s.found(i, chunkstore.Ref{ID: m.id, Place: place})
		}
	}
	if !p.named {
		s.add(p.durable, p.begun)
		s.least = min(s.least, p.change.least)
		return chunks
	}
	s.version, s.tree = &p.version, p.change.tree
	for _, patch := range p.change.patches {
		if i := patch.Index; s.moved[i] == patch.Ref && i < s.least {
			delete(s.moved, i)
		}
	}
	return chunks
}

// missingChunk is an object that is missing, and the chunks that have it.
type missingChunk struct {
	id      chunkstore.ID
	indexes []int
}

// missingChunks returns the missing objects, in the order of their first chunks.
func (s *stock) missingChunks() (chunks []missingChunk) {
	byID := make(map[chunkstore.ID]int, len(s.missing))
	for _, i := range slices.Sorted(maps.Keys(s.missing)) {
		id := s.missing[i]
		at, ok := byID[id]
		if !ok {
			at = len(chunks)
			byID[id] = at
			chunks = append(chunks, missingChunk{id: id})
		}
		chunks[at].indexes = append(chunks[at].indexes, i)
	}
	return chunks
}

// parcels returns the missing objects as they go into packs, at most so many into each: in the
// order of their first chunks. From a multiple of most to the next one they have a pack to
// themselves, if all chunks there are missing, and half of them at least have an object of
// their own: so equal databases have equal packs, on the same day. last is the last
// version's tree.
func (s *stock) parcels(last *manifest.Tree, most int) (parcels [][]missingChunk) {
	var rest []missingChunk
	for chunks := s.missingChunks(); len(chunks) > 0; {
		group := chunks[0].indexes[0] / most
		n := slices.IndexFunc(chunks, func(m missingChunk) bool {
			return m.indexes[0]/most != group
		})
		if n < 0 {
			n = len(chunks)
		}
		if 2*n >= most && s.lacksAll(last, group*most, (group+1)*most) {
			parcels = append(parcels, chunks[:n:n])
		} else {
			rest = append(rest, chunks[:n]...)
		}
		chunks = chunks[n:]
	}
	return slices.AppendSeq(parcels, slices.Chunk(rest, most))
}

// lacksAll reports whether the objects of all chunks from one to another are missing.
func (s *stock) lacksAll(last *manifest.Tree, from, to int) bool {
	for i := from; i < min(to, last.Len()); i++ {
		if _, missing := s.missing[i]; !missing && last.At(i).ID != chunkstore.ZeroID {
			return false
		}
	}
	return true
}
