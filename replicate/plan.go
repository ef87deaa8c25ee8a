package replicate

import (
	"cmp"
	"slices"

	"verneuil/chunkstore"
)

// plan says how a cut describes each chunk that differs from its object: by a
// new object (whole), or by inline pages over the one that there is. It is the
// same for all targets.
type plan struct {
	pageBytes      int
	whole, inline  []int // chunk indexes, ascending
	pages          []pageRange
	first          bool // page 1 is all of chunk 0, which then needs no object
	pageOneChanged bool
}

type pageRange struct {
	off   int64
	bytes int
}

// plan decides for each chunk. A chunk is stored anew if
//
//   - it is not known which of its sectors differ,
//   - it is shorter than what its object may be, so that its object would show
//     again behind it when the file grows,
//   - more than a quarter of it differs, or it is not made of whole pages,
//   - a target has not got its object: then nobody could make it any more,
//   - its pages have been carried for as many bytes as an object would have cost,
//   - or others, which changed later, use the inline pages' budget up.
//
// Page 1, which changes with every commit, always travels inline. (Objects have it,
// too, as it was when they were made, unless it is all of chunk 0.)
func (s *session) plan() *plan {
	h := headerOf(s.mirror)
	p := &plan{pageBytes: h.pageBytes()}
	inlineOK := p.pageBytes > 0 && s.mirror.Size()%sectorBytes == 0
	if p.pageBytes == 0 && s.mirror.Size() > 0 {
		p.pageBytes = pageBytesDefault
	}
	budget := inlineBytesMax
	if inlineOK && s.mirror.Size() > 0 {
		first := min(p.pageBytes, s.mirror.ChunkBytes(0))
		budget -= first
		p.pages = append(p.pages, pageRange{0, first})
		p.first = first == s.mirror.ChunkBytes(0)
		if d := s.mirror.Diff(0); d != nil && d.Changed {
			for k := range first / sectorBytes {
				p.pageOneChanged = p.pageOneChanged || d.Has(k)
			}
		}
	}
	var warm []int
	pages := make(map[int][]pageRange)
	for _, i := range s.mirror.Diffs() {
		if i == 0 && p.first {
			p.pageOneChanged = s.mirror.Diff(0).Changed
			continue
		}
		if !inlineOK || !s.overridable(i) {
			p.whole = append(p.whole, i)
			continue
		}
		pages[i] = s.differing(i, p.pageBytes)
		if sum := bytesOf(pages[i]); sum > inlineChunkMax {
			p.whole = append(p.whole, i)
		} else if sum > 0 || i == 0 {
			warm = append(warm, i)
		}
	}
	slices.SortFunc(warm, func(a, b int) int {
		return cmp.Compare(s.mirror.Diff(b).Stamp, s.mirror.Diff(a).Stamp)
	})
	for _, i := range warm {
		if sum := bytesOf(pages[i]); sum <= budget {
			budget -= sum
			p.inline = append(p.inline, i)
			p.pages = append(p.pages, pages[i]...)
		} else {
			p.whole = append(p.whole, i)
		}
	}
	slices.Sort(p.whole)
	slices.Sort(p.inline)
	slices.SortFunc(p.pages, func(a, b pageRange) int { return cmp.Compare(a.off, b.off) })
	return p
}

// overridable reports whether chunk i may keep its object, with pages inline.
func (s *session) overridable(i int) bool {
	d := s.mirror.Diff(i)
	if d.Whole || s.whole[i] || d.Carried >= chunkstore.ChunkBytes {
		return false
	}
	for k := (s.mirror.ChunkBytes(i) + sectorBytes - 1) / sectorBytes; k < chunkstore.ChunkBytes/sectorBytes; k++ {
		if d.Has(k) {
			return false
		}
	}
	for _, t := range s.targets {
		if _, ok := t.missing[i]; ok && t.known && t.conflict == nil {
			return false
		}
	}
	return true
}

// differing returns the pages of chunk i, but for page 1, that differ from its object.
func (s *session) differing(i, pageBytes int) (pages []pageRange) {
	d := s.mirror.Diff(i)
	start, n := int64(i)*chunkstore.ChunkBytes, s.mirror.ChunkBytes(i)
	for at := 0; at < n; at += pageBytes {
		end := min(at+pageBytes, n)
		for k := at / sectorBytes; k < end/sectorBytes; k++ {
			if d.Has(k) && start+int64(at) > 0 {
				pages = append(pages, pageRange{start + int64(at), end - at})
				break
			}
		}
	}
	return pages
}

func bytesOf(pages []pageRange) (sum int) {
	for _, p := range pages {
		sum += p.bytes
	}
	return sum
}
