package compose

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

// Folded are chunks into which inline pages of a version were folded. It does not change.
type Folded struct {
	c    *Composer
	from *manifest.Manifest
	of   Draft // what it makes of from
}

// Fold puts new objects, durably, of all chunks of m, which b reads, that have inline pages, but
// for page 1's, and those of the crown. It returns nil, and no error, if there are none. b is
// called by one goroutine at a time, but by several. It fails as b and the target do.
func (c *Composer) Fold(ctx context.Context, m *manifest.Manifest, b Base) (*Folded, error) {
	f := &Folded{c: c, from: m}
	end := pinned(m.PageBytes, m.FileBytes)
	upper := c.crownInline(m)
	var chunks []int
	for _, p := range m.Inline {
		i := int(p.Offset / chunkstore.ChunkBytes)
		n := len(chunks)
		if p.Offset+int64(len(p.Data)) > end && !upper[p.Offset] &&
			(n == 0 || chunks[n-1] != i) {
			chunks = append(chunks, i)
		}
	}
	if len(chunks) == 0 {
		return nil, nil
	}
	p := c.packing(ctx, len(chunks))
	for _, some := range parcels(chunks) {
		p.add(func(ctx context.Context, i int, buf []byte) ([]byte, error) {
			chunk := buf[:m.ChunkBytes(i)]
			if err := b.ReadBase(ctx, chunk, int64(i)*chunkstore.ChunkBytes); err != nil {
				return nil, fmt.Errorf("fold: read chunk %d: %w", i, err)
			}
			return chunk, nil
		}, some)
	}
	if p.packs.Settle() {
		p.describe(&f.of)
	}
	if err := p.end(nil); err != nil {
		return nil, err
	}
	f.of.Packs = p.put.all
	return f, nil
}

// Onto returns the version after m that has the folded chunks in place of their inline pages, but
// for the crown's: its content is m's. m is the version that was folded, or came of it. Chunks of
// which anything is described differently meanwhile are left. It returns nil if all are: so it is
// if m has a tree of its own meanwhile, or was rebased and f was not.
func (f *Folded) Onto(m *manifest.Manifest) *Draft {
	if !m.SharesTop(f.from) {
		return nil
	}
	end := pinned(m.PageBytes, m.FileBytes)
	d := &Draft{Shortest: m.Chunks(), Chunks: make(map[int][]byte), Packs: f.of.Packs}
	upper := f.c.crownInline(m)
	var cut []span
	for _, p := range f.of.Changed {
		if !f.same(m, p.Index) {
			continue
		}
		s := chunkSpan(p.Index, m.FileBytes)
		if p.Index == 0 {
			s.from = min(end, s.to)
		}
		cut = append(cut, without(s, upper)...)
		d.Changed = append(d.Changed, p)
		if chunk, ok := f.of.Chunks[p.Index]; ok {
			d.Chunks[p.Index] = chunk
		}
	}
	if len(d.Changed) == 0 {
		return nil
	}
	next := f.c.successor(m)
	next.Inline = lay(m.Inline, cut, nil)
	if err := d.describe(m, next); err != nil {
		return nil // m is none that steps make
	}
	return d
}

// Rebase returns f as it is for versions that Rebase makes of m and packed: what [Rebase] says of
// newest holds for the version that was folded, which may have come before m. nil stays nil.
func (f *Folded) Rebase(m, packed *manifest.Manifest) *Folded {
	if f == nil || !m.SharesTop(f.from) {
		return f
	}
	g := *f
	if moved, ok := f.from.Rebase(m, packed); ok {
		g.from = moved
		return &g
	}
	// What m has as f has it, packed has, too.
	g.of.Changed = slices.DeleteFunc(slices.Clone(f.of.Changed), func(p manifest.Patch) bool {
		return !f.sameObject(m, p.Index)
	})
	from := *f.from
	from.Levels, from.Top, from.Patches = packed.Levels, packed.Top, packed.Patches
	from.Earlier = &manifest.Extent{Chunks: packed.Chunks(), Valid: packed.Chunks()}
	g.from = &from
	return &g
}

// sameObject reports whether chunk i of m is described as that of the version that was folded.
func (f *Folded) sameObject(m *manifest.Manifest, i int) bool {
	if i >= m.Chunks() {
		return false
	}
	ref, known := f.from.Described(i)
	now, ok := m.Described(i)
	return now == ref && ok == known
}

// same reports whether chunk i of m has the same bytes as that of the version that was folded, but
// for page 1: it is described so (C5).
func (f *Folded) same(m *manifest.Manifest, i int) bool {
	if !f.sameObject(m, i) || m.ChunkBytes(i) > f.from.ChunkBytes(i) {
		return false
	}
	was, is := f.from.InlineOf(i), m.InlineOf(i)
	if i == 0 { // whatever the object has for page 1
		end := pinned(m.PageBytes, m.FileBytes)
		if !manifest.Covered(is, 0, end) {
			return false
		}
		was, is = beyond(was, end), beyond(is, end)
	}
	return slices.EqualFunc(was, is, func(a, b manifest.Page) bool {
		return a.Offset == b.Offset && bytes.Equal(a.Data, b.Data)
	})
}

// beyond returns those of pages that do not end before end.
func beyond(pages []manifest.Page, end int64) []manifest.Page {
	k := slices.IndexFunc(pages, func(p manifest.Page) bool {
		return p.Offset+int64(len(p.Data)) > end
	})
	if k < 0 {
		return nil
	}
	return pages[k:]
}
