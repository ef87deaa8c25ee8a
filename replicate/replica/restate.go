package replica

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/locate"
)

// Restate has r go on with m, which is the version that r reads, described otherwise: on another
// tree, after a checkpoint, or with inline pages in chunks. What is shown stays the same, and so
// does the change counter. It makes no request, and costs as much as [Reader.Derive], which is
// dear where its m stands on another tree than the version that r reads. Of the same description r
// keeps its own. On an error r stays as it is.
func (r *Reader) Restate(m *manifest.Manifest) (err error) {
	defer recoverTo(&err)
	prev := r.s
	if prev.m == m {
		return nil
	}
	c, known := changesTo(prev.m, m)
	if known && len(c.objects)+len(c.inline) == 0 {
		return nil
	}
	if prev.m.Cut != m.Cut || prev.m.FileBytes != m.FileBytes {
		return fmt.Errorf("%s: version %d described as another one", r.f.source, prev.m.Sequence)
	}
	s, err := newSnapshot(r.f, locate.Found{Manifest: m, From: prev.from},
		time.Unix(0, prev.checked.Load()), r.Counter())
	if err != nil {
		return fmt.Errorf("%s: %w", r.f.source, err)
	}
	s.derived, s.of = prev.derived, prev.of
	if n := prev.table.head.headerBytes.Load(); n > 0 {
		s.header.Do(func() {
			copy(s.table.head.header[:], prev.table.head.header[:n])
			s.cookie.Store(prev.cookie.Load())
			s.table.head.headerBytes.Store(n)
		})
	}
	if !known {
		inline, _ := inlineChanges(prev.m, m)
		c = &changes{inline: inline}
	}
	// Where pages are inline no more they are in another object.
	c.objects = slices.Compact(slices.Sorted(slices.Values(slices.Concat(c.objects, c.inline))))
	h := heir{s, prev}
	if err = h.inherit(c); err == nil {
		s.showHeader(s.table.entry(0))
		err = h.refold(c.objects)
	}
	if err != nil {
		s.release()
		return fmt.Errorf("%s: %w", r.f.source, err)
	}
	r.move(s)
	return nil
}

// refold has h show chunks that have the same bytes as before, in new objects that patches name.
// Where an object lies below inline pages, or was not made of these bytes after all, nobody else is
// to get them: they are no slot of the object's ID.
func (h heir) refold(chunks []int) error {
	for _, i := range chunks {
		ref, found := patchOf(h.s.m, i)
		data := make([]byte, h.s.m.ChunkBytes(i))
		there, err := h.prev.readAs(data, i, int64(i)*slotBytes, h.prev.table.entry(i))
		if err != nil {
			return err
		}
		if !found || !there {
			continue // it is fetched when it is read
		}
		// Two chunks may have one object, and other pages inline.
		name := binary.BigEndian.AppendUint64(append(ref.ID[:], h.s.m.Cut[:]...), uint64(i))
		key := slotKey(chunkstore.Sum(name))
		if err := store(h.s, i, key, data); err != nil {
			return err
		}
	}
	return nil
}

// unfetched has h show chunks whose objects were made of what the version before shows there, as
// where inline pages were folded: their IDs say so.
func (h heir) unfetched() error {
	sealer := h.s.f.all.options.Store.Sealer()
	for _, p := range h.s.m.Patches {
		i := p.Index
		if h.s.table.here(i) || i >= h.prev.m.Chunks() || len(h.prev.m.InlineOf(i)) == 0 ||
			h.prev.m.ChunkBytes(i) != h.s.m.ChunkBytes(i) {
			continue
		}
		data := make([]byte, h.s.m.ChunkBytes(i))
		there, err := h.prev.readAs(data, i, int64(i)*slotBytes, h.prev.table.entry(i))
		if err == nil && there && sealer.Identify(data) == p.ID {
			err = store(h.s, i, slotKey(p.ID), data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// patchOf returns what a patch of m says of chunk i, if there is one.
func patchOf(m *manifest.Manifest, i int) (ref chunkstore.Ref, found bool) {
	k, found := slices.BinarySearchFunc(m.Patches, i, func(p manifest.Patch, i int) int {
		return p.Index - i
	})
	if found {
		ref = m.Patches[k].Ref
	}
	return ref, found
}

// store shows chunk i of s, whose bytes are data, in the slot of key.
func store(s *snapshot, i int, key slotKey, data []byte) error {
	if err := s.table.makePart(i); err != nil {
		return err
	}
	e, err := s.f.all.slots.store(key, data)
	if err == nil {
		s.put(i, e)
	}
	return err
}
