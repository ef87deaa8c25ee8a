package compose

import (
	"verneuil/chunkstore"
	"verneuil/manifest"
)

// sectorBytes is what offsets and lengths of inline pages are multiples of.
const sectorBytes = 512

// span is bytes of the file.
type span struct{ from, to int64 }

// pinned returns how far the blocks of page 1 go, in chunk 0: they travel inline, as they change
// with each commit, and as readers begin with them.
func pinned(pageBytes int, fileBytes int64) int64 {
	blocks := (int64(pageBytes) + BlockBytes - 1) / BlockBytes * BlockBytes
	if blocks > fileBytes && fileBytes%sectorBytes > 0 {
		return 0 // no database is so long
	}
	return min(blocks, fileBytes)
}

// bytesOf returns how many bytes of pages lie beyond from.
func bytesOf(pages []manifest.Page, from int64) (n int) {
	for _, p := range pages {
		n += max(0, len(p.Data)-int(max(0, from-p.Offset)))
	}
	return n
}

// lay returns what is left of pages where those of cut are gone, with fresh in between. All are
// ascending, and do not overlap; cut has what fresh has. What is returned shares memory with both.
func lay(pages []manifest.Page, cut []span, fresh []manifest.Page) []manifest.Page {
	all := make([]manifest.Page, 0, len(pages)+len(fresh))
	add := func(off, end int64, of manifest.Page) {
		for len(fresh) > 0 && fresh[0].Offset < off {
			all, fresh = append(all, fresh[0]), fresh[1:]
		}
		if from, to := off-of.Offset, end-of.Offset; off < end {
			all = append(all, manifest.Page{Offset: off, Data: of.Data[from:to:to]})
		}
	}
	for _, p := range pages {
		off, end := p.Offset, p.Offset+int64(len(p.Data))
		for len(cut) > 0 && cut[0].to <= off {
			cut = cut[1:]
		}
		for _, s := range cut {
			if s.from >= end {
				break
			}
			add(off, s.from, p)
			off = s.to
		}
		add(off, end, p)
	}
	return append(all, fresh...)
}

// chunkSpan returns where chunk i of a file of so many bytes lies.
func chunkSpan(i int, fileBytes int64) span {
	from := int64(i) * chunkstore.ChunkBytes
	return span{from, min(from+chunkstore.ChunkBytes, fileBytes)}
}
