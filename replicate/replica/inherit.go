package replica

import (
	"bytes"
	"context"
	"slices"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

// changes are the chunks in which a version differs from another, ascending.
type changes struct {
	objects []int // those whose object may be another one, or that are new
	inline  []int // those that have other inline pages
}

// any reports whether one of the chunks from..to has changed.
func (c *changes) any(from, to int) bool {
	for _, list := range [][]int{c.objects, c.inline} {
		if k, _ := slices.BinarySearch(list, from); k < len(list) && list[k] < to {
			return true
		}
	}
	return false
}

// changesTo returns in what m differs from prev; ok is false if only their trees could tell: where
// there is a checkpoint between them.
func changesTo(prev, m *manifest.Manifest) (c *changes, ok bool) {
	c = &changes{}
	top, was := extentOf(m), extentOf(prev)
	if m.Levels != prev.Levels || top.Chunks != was.Chunks || top.Valid > was.Valid ||
		!sameTop(prev.Top, m.Top) {
		return nil, false
	}
	chunks := m.Chunks()
	void := min(top.Valid, chunks)
	differs := func(i int) { c.objects = append(c.objects, i) }
	for a, b := prev.Patches, m.Patches; len(a) > 0 || len(b) > 0; {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Index < b[0].Index:
			differs(a[0].Index)
			a = a[1:]
		case len(a) == 0 || b[0].Index < a[0].Index:
			differs(b[0].Index)
			b = b[1:]
		default:
			if a[0].ID != b[0].ID {
				differs(b[0].Index)
			}
			a, b = a[1:], b[1:]
		}
	}
	sorted := len(c.objects)
	for i := void; i < min(was.Valid, chunks); i++ {
		differs(i)
	}
	for i := prev.Chunks(); i < chunks; i++ {
		differs(i)
	}
	inline, stale := inlineChanges(prev, m)
	for _, i := range stale {
		differs(i)
	}
	c.inline = inline
	if len(c.objects) > sorted {
		slices.Sort(c.objects)
		c.objects = slices.Compact(c.objects)
	}
	k, _ := slices.BinarySearch(c.objects, chunks)
	c.objects = c.objects[:k]
	return c, true
}

// extentOf is how far m's top goes.
func extentOf(m *manifest.Manifest) manifest.Extent {
	if m.Earlier != nil {
		return *m.Earlier
	}
	return manifest.Extent{Chunks: m.Chunks(), Valid: m.Chunks()}
}

func sameTop(a, b []chunkstore.Ref) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] ||
		slices.EqualFunc(a, b, func(a, b chunkstore.Ref) bool { return a.ID == b.ID }))
}

// inlineChanges returns the chunks that have other inline pages in m than in prev, and those of
// which a slot of prev does not serve m, though their object be the same one, ascending: inline
// pages may have been folded into it. Those are gone where the file was cut off, and has grown
// since, or lie beyond prev's end, where it grows.
func inlineChanges(prev, m *manifest.Manifest) (chunks, stale []int) {
	add := func(to *[]int, i int) {
		if n := len(*to); n == 0 || (*to)[n-1] != i {
			*to = append(*to, i)
		}
	}
	differs := func(p manifest.Page) { add(&chunks, int(p.Offset/chunkstore.ChunkBytes)) }
	a, b := prev.Inline, m.Inline
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Offset < b[0].Offset:
			differs(a[0])
			add(&stale, int(a[0].Offset/chunkstore.ChunkBytes))
			a = a[1:]
		case len(a) == 0 || b[0].Offset < a[0].Offset:
			differs(b[0])
			b = b[1:]
		default:
			if !sameBytes(a[0].Data, b[0].Data) {
				differs(b[0])
			}
			a, b = a[1:], b[1:]
		}
	}
	last := prev.Chunks() - 1
	end := min(int64(last+1)*chunkstore.ChunkBytes, m.FileBytes)
	if prev.FileBytes < end && !manifest.Covered(m.Inline, prev.FileBytes, end) {
		add(&stale, last)
	}
	return chunks, stale
}

// sameBytes is bytes.Equal, which looks at all of them also where they are the same memory.
func sameBytes(a, b []byte) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || bytes.Equal(a, b))
}

// heir is a version whose table is empty, and the one before it, which has what both have; nil:
// there is none. Who makes one holds both.
type heir struct{ s, prev *snapshot }

// inherit has h show what the version before has of it: c is in what they differ. Parts and
// patches in which nothing has changed they share.
func (h heir) inherit(c *changes) error {
	s, prev, t := h.s, h.prev, h.s.table
	for k := range min(len(t.parts), len(prev.table.parts)) {
		p := prev.table.parts[k].Load()
		if p == nil {
			continue
		}
		from := k * partChunks
		// Entry 0 is published after the header is, of each version by itself (T4).
		cut := from+partChunks > t.chunks() && prev.table.chunks() > t.chunks()
		if k > 0 && !cut && !c.any(from, from+partChunks) {
			p.refs.Add(1)
		} else {
			var err error
			p, err = p.copyOf(t.from, s.f.all.slots, func(j int) bool {
				_, other := slices.BinarySearch(c.objects, from+j)
				return other || from+j >= t.chunks()
			})
			if err != nil {
				return err
			}
		}
		t.set(k, p)
	}
	patches, err := h.patches(c.inline)
	if failed := t.patch(patches); err == nil {
		err = failed
	}
	return err
}

// patches returns the patches of h: those of changed are made anew, the others are those of the
// version before.
func (h heir) patches(changed []int) (all []*patch, err error) {
	s, was := h.s, h.prev.table.patches
	all = make([]*patch, 0, len(was)+len(changed))
	for len(was) > 0 || len(changed) > 0 {
		if len(changed) == 0 || len(was) > 0 && was[0].chunk < changed[0] {
			was[0].refs.Add(1)
			all, was = append(all, was[0]), was[1:]
			continue
		}
		i := changed[0]
		changed = changed[1:]
		if len(was) > 0 && was[0].chunk == i {
			was = was[1:]
		}
		if pages := s.m.InlineOf(i); len(pages) > 0 {
			p, err := newPatch(s.table.from, i, pages)
			if err != nil {
				return all, err
			}
			all = append(all, p)
			s.f.interior.noteInline(s.m, pages)
		}
	}
	return all, nil
}

// fill has h show its inline pages, and what it has in common with the version before, as far as
// that can be told without a request: carried says whether that is all.
func (h heir) fill() (carried bool, err error) {
	s := h.s
	if h.prev != nil {
		if c, ok := changesTo(h.prev.m, s.m); ok {
			return true, h.inherit(c)
		}
	}
	patches, err := patchesOf(s.table.from, s.m)
	if failed := s.table.patch(patches); err == nil {
		err = failed
	}
	s.f.interior.noteInline(s.m, s.m.Inline)
	return h.prev == nil, err
}

// carry has h show, after fill, every chunk of the version before that it has too, without fetching
// chunks. Leaves that it needs to say so are fetched.
func (h heir) carry(ctx context.Context) error {
	s, prev := h.s, h.prev
	var chunks []int
	for i := range min(s.table.chunks(), prev.table.chunks()) {
		if prev.table.here(i) {
			chunks = append(chunks, i)
		}
	}
	before, err := prev.sources.newest().refs(ctx, chunks)
	if err != nil {
		return err
	}
	now, err := s.sources.own().refs(ctx, chunks)
	if err != nil {
		return err
	}
	_, stale := inlineChanges(prev.m, s.m)
	for n, i := range chunks {
		if _, other := slices.BinarySearch(stale, i); other {
			continue
		}
		if now[n].ID == before[n].ID && s.table.makePart(i) == nil {
			e := prev.table.entry(i) &^ entryMarks
			s.f.all.slots.share(e)
			s.put(i, e)
		}
	}
	return nil
}
