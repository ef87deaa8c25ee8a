package replica

import (
	"sync/atomic"
	"unsafe"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

// patch is the inline pages of one chunk, where C reads them: they lie over what the chunk's slot
// has, which is its object's. Versions share it in which they are the same.
type patch struct {
	chunk int
	runs  int
	piece []byte       // so many patchRuns, then the pages
	refs  atomic.Int32 // tables that have it
}

// patchRow is a patch of a table, and patchRun a page of it; C's VersionPatch and VersionRun.
type patchRow struct {
	chunk, runs uint32
	run         uintptr
}

type patchRun struct {
	off, n uint32 // of the chunk
	data   uintptr
}

const (
	patchRowBytes = int(unsafe.Sizeof(patchRow{}))
	patchRunBytes = int(unsafe.Sizeof(patchRun{}))
)

// newPatch returns the patch of chunk i, with one reference, which has these inline pages.
func newPatch(from *memory, i int, pages []manifest.Page) (*patch, error) {
	n := len(pages) * patchRunBytes
	for _, page := range pages {
		n += len(page.Data)
	}
	piece, err := from.get(n)
	if err != nil {
		return nil, err
	}
	p := &patch{chunk: i, runs: len(pages), piece: piece}
	p.refs.Store(1)
	data := piece[len(pages)*patchRunBytes:]
	for k, page := range pages {
		*at[patchRun](piece, k*patchRunBytes) = patchRun{
			off: uint32(page.Offset % chunkstore.ChunkBytes), n: uint32(len(page.Data)),
			data: address(data),
		}
		data = data[copy(data, page.Data):]
	}
	return p, nil
}

func (p *patch) release(to *memory) {
	if p.refs.Add(-1) == 0 {
		to.put(p.piece)
	}
}

// patch shows C patches, which ascend by chunk, and whose references it takes.
func (t *table) patch(patches []*patch) (err error) {
	if t.patches = patches; len(patches) == 0 {
		return nil
	}
	if t.rows, err = t.from.get(len(patches) * patchRowBytes); err != nil {
		return err
	}
	for k, p := range patches {
		*at[patchRow](t.rows, k*patchRowBytes) = patchRow{uint32(p.chunk), uint32(p.runs),
			address(p.piece)}
		if err := t.makePart(p.chunk); err != nil {
			return err
		}
		if w := t.word(p.chunk); entry(w.Load())&entryPatched == 0 {
			w.Or(uint64(entryPatched))
		}
	}
	t.head.patches, t.head.patched = address(t.rows), uint32(len(patches))
	return nil
}

// patchesOf returns the patches of m.
func patchesOf(from *memory, m *manifest.Manifest) (patches []*patch, err error) {
	for at := 0; at < len(m.Inline); {
		i := int(m.Inline[at].Offset / chunkstore.ChunkBytes)
		pages := m.InlineOf(i)
		p, err := newPatch(from, i, pages)
		if err != nil {
			return patches, err
		}
		patches, at = append(patches, p), at+len(pages)
	}
	return patches, nil
}
