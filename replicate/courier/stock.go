package courier

import (
	"maps"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/spool"
)

// stock is what a target is known to have, and what it lacks of the last version.
type stock struct {
	exists bool        // there is a manifest
	etag   string      // of it
	holds  [16]byte    // which version of ours it is, by its Cut; zero: none
	point  spool.Point // what it is known to include
	taken  time.Time   // when it took a manifest last; zero: not yet

	// version is that manifest, with the records after it; nil: there is none, or not all of it is
	// there. tree is its tree, with places, or what is left of that; its leaves and nodes may be
	// left in the target. Nil before the first contact, but for what the last process has noted.
	version *manifest.Manifest
	tree    *manifest.Tree
	story
	signature
	lost  map[chunkstore.Digest]bool // packs that tree names, and that are gone
	since map[chunkstore.Digest]bool // those of which that was found since the last push began

	// Every chunk for which the last version's tree has another object than tree is in missing or
	// in moved, or was cut off meanwhile: least is the fewest chunks that the last version has had
	// since. Chunks whose objects were lost are missing, too.
	missing map[int]chunkstore.ID  // the object is not there
	moved   map[int]chunkstore.Ref // it is there, or zeros
	least   int
	notes
}

// renamed notes that the last version's tree names another object for chunk i.
func (s *stock) renamed(i int, id chunkstore.ID) {
	delete(s.missing, i)
	delete(s.moved, i)
	if id == chunkstore.ZeroID {
		s.moved[i] = chunkstore.Ref{ID: id}
	} else if place, ok := s.put[id]; ok {
		s.moved[i] = chunkstore.Ref{ID: id, Place: place}
	} else if place, ok := s.folded[id]; ok {
		s.moved[i] = chunkstore.Ref{ID: id, Place: place}
	} else {
		s.missing[i] = id
	}
}

// shortened notes that the last version has no more than so many chunks.
func (s *stock) shortened(chunks int) {
	s.least = min(s.least, chunks)
	maps.DeleteFunc(s.missing, func(i int, _ chunkstore.ID) bool { return i >= chunks })
	maps.DeleteFunc(s.moved, func(i int, _ chunkstore.Ref) bool { return i >= chunks })
}

// compare finds out what the target lacks of last, whose tree is loaded, where it has what theirs
// names, another loaded tree, by s.tree.
func (s *stock) compare(last, theirs *manifest.Tree) {
	s.lost, s.since, s.least = nil, nil, last.Len()
	s.missing = make(map[int]chunkstore.ID)
	s.moved = make(map[int]chunkstore.Ref)
	for _, i := range manifest.Differing(last, theirs) {
		s.renamed(i, last.At(i).ID)
	}
	if len(s.missing) == 0 {
		return
	}
	elsewhere := make(map[chunkstore.ID]chunkstore.Place, len(s.missing)) // is it, for others?
	for _, id := range s.missing {
		elsewhere[id] = chunkstore.Place{}
	}
	for i := range theirs.Len() {
		ref := theirs.At(i)
		if _, ok := elsewhere[ref.ID]; ok {
			elsewhere[ref.ID] = ref.Place
		}
	}
	for i, id := range s.missing {
		if place := elsewhere[id]; place != (chunkstore.Place{}) {
			s.found(i, chunkstore.Ref{ID: id, Place: place})
		}
	}
}

// found notes that the object of chunk i, which was missing, is there.
func (s *stock) found(i int, ref chunkstore.Ref) {
	delete(s.missing, i)
	s.moved[i] = ref
}

// lose notes packs that are gone. It returns how many of them tree, which is loaded, and last, the
// last version's, need, and the chunks that miss their objects now.
func (s *stock) lose(gone map[chunkstore.Digest]bool, last *manifest.Tree) (
	packs int, chunks []int,
) {
	s.forget(gone)
	for i, ref := range s.moved {
		if gone[ref.Place.Pack] {
			chunks = append(chunks, i)
		}
	}
	for _, i := range s.tree.Lost(gone) {
		_, missing := s.missing[i]
		_, moved := s.moved[i]
		// While a push is under way, a chunk may have its object from that, or be cut off by it.
		if !missing && !moved && i < s.least && s.tree.At(i).ID == last.At(i).ID {
			chunks = append(chunks, i)
		}
	}
	for _, i := range chunks {
		delete(s.moved, i)
		s.missing[i] = last.At(i).ID
	}
	needed := make(map[chunkstore.Digest]bool)
	for i := range s.tree.Len() {
		ref := s.tree.At(i)
		if gone[ref.Place.Pack] && i < last.Len() && last.At(i).ID == ref.ID {
			needed[ref.Place.Pack] = true
		}
	}
	for ref := range s.tree.Objects() {
		if gone[ref.Place.Pack] {
			needed[ref.Place.Pack] = true
		}
	}
	for name := range packsOf(s.tree) {
		if gone[name] {
			note(&s.lost, name)
			note(&s.since, name)
		}
	}
	return len(needed), chunks
}

// forget forgets what was put in packs that are gone, and that no version names.
func (s *stock) forget(gone map[chunkstore.Digest]bool) {
	is := func(_ chunkstore.ID, p chunkstore.Place) bool { return gone[p.Pack] }
	maps.DeleteFunc(s.put, is)
	maps.DeleteFunc(s.folded, is)
}

func note(packs *map[chunkstore.Digest]bool, name chunkstore.Digest) {
	if *packs == nil {
		*packs = make(map[chunkstore.Digest]bool)
	}
	(*packs)[name] = true
}

// packsOf returns the packs that a loaded tree names, and how long each is at least.
func packsOf(tree *manifest.Tree) map[chunkstore.Digest]int64 {
	packs := make(map[chunkstore.Digest]int64)
	add := func(ref chunkstore.Ref) {
		if p := ref.Place; p != (chunkstore.Place{}) {
			packs[p.Pack] = max(packs[p.Pack], p.End())
		}
	}
	for i := range tree.Len() {
		add(tree.At(i))
	}
	for ref := range tree.Objects() {
		add(ref)
	}
	return packs
}
