package cutter

import (
	"bytes"
	"fmt"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

// contents are those of a database, chunk by chunk.
type contents struct {
	Contents
	sealer chunkstore.Sealer
}

func (c contents) chunks() int {
	return int((c.Size() + chunkstore.ChunkBytes - 1) / chunkstore.ChunkBytes)
}

// chunkBytes returns the length of chunk i.
func (c contents) chunkBytes(i int) int {
	return int(min(chunkstore.ChunkBytes, c.Size()-int64(i)*chunkstore.ChunkBytes))
}

// chunk reads chunk i into buf, which has room for a whole one.
func (c contents) chunk(i int, buf []byte) ([]byte, error) {
	b := buf[:c.chunkBytes(i)]
	if _, err := c.ReadAt(b, int64(i)*chunkstore.ChunkBytes); err != nil {
		return nil, fmt.Errorf("mirror: chunk %d: %w", i, err)
	}
	return b, nil
}

// inline returns pages, ascending, as inline pages. It reads those that stand side by side at once.
func (c contents) inline(pages []pageRange) ([]manifest.Page, error) {
	all := make([]manifest.Page, 0, len(pages))
	for len(pages) > 0 {
		if p := pages[0]; p.data != nil {
			all, pages = append(all, manifest.Page{Offset: p.off, Data: p.data}), pages[1:]
			continue
		}
		off, end, n := pages[0].off, pages[0].off, 0
		for n < len(pages) && pages[n].off == end && pages[n].data == nil &&
			end-off < chunkstore.ChunkBytes {
			end += int64(pages[n].bytes)
			n++
		}
		b := make([]byte, end-off)
		if _, err := c.ReadAt(b, off); err != nil {
			return nil, fmt.Errorf("inline pages at %d: %w", off, err)
		}
		for _, page := range pages[:n] {
			at := page.off - off
			data := b[at : at+int64(page.bytes) : at+int64(page.bytes)]
			all = append(all, manifest.Page{Offset: page.off, Data: data})
		}
		pages = pages[n:]
	}
	return all, nil
}

// overlaidBy reports whether the inline pages that m has in chunk i are what the contents have.
func (c contents) overlaidBy(m *manifest.Manifest, i int) bool {
	for _, p := range m.InlineOf(i) {
		b := make([]byte, len(p.Data))
		if _, err := c.ReadAt(b, p.Offset); err != nil || !bytes.Equal(b, p.Data) {
			return false
		}
	}
	return true
}

// sealedBytes returns how long b is when it is sealed: about what it takes inline.
func (c contents) sealedBytes(b []byte) int {
	return chunkstore.Overhead(c.sealer) +
		len(chunkstore.SealObject(chunkstore.Plain{}, nil, chunkstore.ID{}, b)) // stored nowhere
}
