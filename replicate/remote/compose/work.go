package compose

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/bits"
	"slices"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/spool/sqlitefile"
)

// work is what Compose knows of the version that it makes. It belongs to one goroutine, until
// packs are put: then read is called by one at a time, and nothing else changes.
type work struct {
	c      *Composer
	ctx    context.Context
	base   *manifest.Manifest
	change Change
	from   Base

	header  sqlitefile.Header
	bytes   int64          // the file's length
	touched []touched      // chunks that change, ascending
	kept    map[int][]byte // blocks that were read, by their index in change
	block   []byte         // for others
	was     []byte         // a block of the base
	bytesOf int            // of kept

	inline []manifest.Page // of the version
	chunks []int           // that get a new object, ascending
}

// counter returns the version's change counter.
func (w *work) counter() uint32 {
	if len(w.touched) > 0 && w.touched[0].index == 0 && w.touched[0].mask&1 != 0 {
		return w.header.ChangeCounter()
	}
	return w.base.ChangeCounter
}

// touched is a chunk that changes.
type touched struct {
	index       int
	first, last int    // where its blocks are in change.Offsets
	mask        uint16 // those that changed, by their places in the chunk
	gap         span   // zeros that its object may not have
	whole       bool   // it gets a new object
	forced      bool   // in any case: the sectors that change cannot be inline
}

// changed reports whether there is anything to be told.
func (w *work) changed() bool { return len(w.touched) > 0 || w.bytes != w.base.FileBytes }

// look finds out how long the file is, and what changes.
func (w *work) look() error {
	offsets := w.change.Offsets
	for k, off := range offsets {
		if off%BlockBytes != 0 || off < 0 || off >= w.change.Bytes ||
			k > 0 && offsets[k-1] >= off {
			return fmt.Errorf("compose: block %d at %d of a file of %d bytes", k, off,
				w.change.Bytes)
		}
	}
	w.kept = make(map[int][]byte)
	if err := w.readHeader(); err != nil {
		return err
	}
	for k, off := range offsets {
		if off >= w.bytes {
			break
		}
		i := int(off / chunkstore.ChunkBytes)
		if n := len(w.touched); n == 0 || w.touched[n-1].index != i {
			w.touched = append(w.touched, touched{index: i, first: k})
		}
		t := &w.touched[len(w.touched)-1]
		t.last = k + 1
		same, err := w.same(k)
		if err != nil {
			return err
		}
		if !same {
			t.mask |= 1 << (off % chunkstore.ChunkBytes / BlockBytes)
		}
	}
	w.touched = slices.DeleteFunc(w.touched, func(t touched) bool { return t.mask == 0 })
	w.lookAtEnds()
	if w.changed() {
		w.lookAtPageOne()
	}
	return nil
}

// lookAtPageOne has blocks of page 1 travel inline that did not, though they are as they were.
func (w *work) lookAtPageOne() {
	for k, off := range w.change.Offsets {
		if off >= w.pinned() {
			return
		}
		if manifest.Covered(w.base.Inline, off, min(off+BlockBytes, w.bytes)) {
			continue
		}
		t := w.touch(0)
		t.mask |= 1 << (off / BlockBytes)
		t.last = max(t.last, k+1) // and first is 0
	}
}

// readHeader reads the header, and so the file's length.
func (w *work) readHeader() error {
	w.bytes = w.change.Bytes
	if o := w.change.Offsets; len(o) > 0 && o[0] == 0 {
		block, err := w.keep(0)
		if err != nil {
			return err
		}
		copy(w.header[:], block[:min(BlockBytes, w.bytes)])
	} else if w.base.FileBytes > 0 {
		if err := w.from.ReadBase(w.ctx, w.header[:], 0); err != nil {
			return fmt.Errorf("compose: read header: %w", err)
		}
	}
	// Without a valid page size it is kept as it is: SQLite says that it is damaged.
	if n, ok := w.header.Pages(); ok && w.header.PageBytes() > 0 {
		w.bytes = min(w.bytes, int64(n)*int64(w.header.PageBytes()))
	}
	return nil
}

// keep returns block k, and keeps it, unless too much is kept already: then it is valid until the
// next call.
func (w *work) keep(k int) ([]byte, error) {
	if block, ok := w.kept[k]; ok {
		return block, nil
	}
	block := w.block
	if k == 0 || w.bytesOf < w.c.o.Budgets.Record {
		block = make([]byte, BlockBytes)
	}
	if err := w.readBlock(k, block); err != nil {
		return nil, err
	}
	if &block[0] != &w.block[0] {
		w.kept[k] = block
		w.bytesOf += len(block)
	}
	return block, nil
}

// readBlock reads block k as it is stored.
func (w *work) readBlock(k int, block []byte) error {
	off := w.change.Offsets[k]
	if err := w.change.Read(k, block); err != nil {
		return fmt.Errorf("compose: read block at %d: %w", off, err)
	}
	if off == 0 {
		if h := (*sqlitefile.Header)(block); h.WAL() {
			h.LeaveWAL()
		}
	}
	return nil
}

// same reports whether block k is known to be as it was. What cannot be compared at once is not.
func (w *work) same(k int) (bool, error) {
	off := w.change.Offsets[k]
	n := int(min(BlockBytes, w.bytes-off))
	known := min(n, int(max(0, w.base.FileBytes-off)))
	if known == 0 || !w.from.Cached(off, known) {
		return false, nil
	}
	block, err := w.keep(k)
	if err != nil {
		return false, err
	}
	was := w.was[:n]
	if err := w.from.ReadBase(w.ctx, was, off); err != nil {
		return false, w.ctx.Err() // it is not cached after all
	}
	if !bytes.Equal(was, block[:n]) {
		return false, nil
	}
	if _, ok := w.kept[k]; ok {
		delete(w.kept, k)
		w.bytesOf -= BlockBytes
	}
	return true, nil
}

// lookAtEnds notes what else changes where the file ends, or ended: a chunk's object may be longer
// than the chunk was, so that bytes of old would show again (C1).
func (w *work) lookAtEnds() {
	was, is := w.base.FileBytes, w.bytes
	if is > was && was%chunkstore.ChunkBytes > 0 {
		i := int(was / chunkstore.ChunkBytes)
		t := w.touch(i)
		t.gap = span{was, chunkSpan(i, is).to}
		t.forced = was%sectorBytes > 0
	}
	if is%sectorBytes > 0 && is != was {
		w.touch(int(is / chunkstore.ChunkBytes)).forced = true
	} else if n := len(w.touched); is%sectorBytes > 0 && n > 0 {
		last := &w.touched[n-1]
		last.forced = last.forced || last.index == int(is/chunkstore.ChunkBytes)
	}
	w.touched = slices.DeleteFunc(w.touched, func(t touched) bool {
		return t.mask == 0 && !t.forced && len(w.zeros(t)) == 0
	})
}

// touch returns the entry of chunk i.
func (w *work) touch(i int) *touched {
	at, found := slices.BinarySearchFunc(w.touched, i, func(t touched, i int) int {
		return cmp.Compare(t.index, i)
	})
	if !found {
		w.touched = slices.Insert(w.touched, at, touched{index: i})
	}
	return &w.touched[at]
}

// choose decides what travels inline. The rest gets new objects.
func (w *work) choose() error {
	fresh := 0
	for k := range w.touched {
		fresh += w.inlineBytes(w.touched[k])
		w.touched[k].whole = w.touched[k].forced
	}
	if fresh > w.c.o.Budgets.Record {
		w.chooseFew()
	}
	if err := w.layOver(); err != nil {
		return err
	}
	if bytesOf(w.inline, w.pinned()) > w.c.o.Budgets.Hard && len(w.chunks) < len(w.touched) {
		w.chooseFew()
		return w.layOver()
	}
	return nil
}

func (w *work) pinned() int64 { return pinned(pageBytes(w.header, w.bytes), w.bytes) }

// Of a large change, a chunk with no more than fewBytes stays inline, where there is room: they are
// a quarter of what the budget allows at most.
const (
	fewBytes = 2 * BlockBytes
	fewShare = 4
)

// chooseFew has all chunks get new objects, but for those of which least changes.
func (w *work) chooseFew() {
	var few []int // in touched
	for k := range w.touched {
		t := &w.touched[k]
		if t.whole = true; !t.forced && w.inlineBytes(*t) <= fewBytes {
			few = append(few, k)
		}
	}
	slices.SortStableFunc(few, func(a, b int) int {
		return cmp.Compare(w.inlineBytes(w.touched[a]), w.inlineBytes(w.touched[b]))
	})
	budgets := w.c.o.Budgets
	kept := lay(w.base.Inline, w.cuts(func(touched) bool { return true }), nil)
	record, version := budgets.Record/fewShare, budgets.Soft-bytesOf(kept, w.pinned())
	for _, k := range few {
		t := &w.touched[k]
		n := w.inlineBytes(*t)
		most := n + bytesOf(w.base.InlineOf(t.index), w.pinned()) // what it has inline then
		if n <= record && most <= version {
			t.whole = false
			record, version = record-n, version-most
		}
	}
}

// inlineBytes returns how many bytes t would take inline, but for page 1.
func (w *work) inlineBytes(t touched) int {
	n := bits.OnesCount16(t.mask) * BlockBytes
	for _, s := range w.zeros(t) {
		n += int(s.to - s.from)
	}
	if t.index == 0 {
		low := uint16(1)<<((w.pinned()+BlockBytes-1)/BlockBytes) - 1 // all of them: it wraps
		n -= bits.OnesCount16(t.mask&low) * BlockBytes
	}
	return max(n, 0)
}

// zeros returns the parts of t's gap that are in no block that changes.
func (w *work) zeros(t touched) (parts []span) {
	for off := t.gap.from; off < t.gap.to; {
		end := min(off/BlockBytes*BlockBytes+BlockBytes, t.gap.to)
		if t.mask&(1<<(off%chunkstore.ChunkBytes/BlockBytes)) == 0 {
			parts = append(parts, span{off, end})
		}
		off = end
	}
	return parts
}

// cuts returns where the base's inline pages go, where all chunks of which whole says so get new
// objects: those of chunks, those that are replaced, and those beyond the end.
func (w *work) cuts(whole func(touched) bool) (cut []span) {
	pinned := w.pinned()
	for _, t := range w.touched {
		s := chunkSpan(t.index, w.bytes)
		if !whole(t) {
			cut = append(cut, w.spans(t, s.to)...)
			continue
		}
		if t.index == 0 {
			cut = append(cut, w.spans(t, pinned)...)
			s.from = pinned
		}
		if s.from < s.to {
			cut = append(cut, s)
		}
	}
	return append(cut, span{w.bytes, max(w.bytes, w.base.FileBytes)})
}

// spans returns, ascending, what of t changes before end.
func (w *work) spans(t touched, end int64) (parts []span) {
	for mask := t.mask; mask != 0; mask &= mask - 1 {
		off := int64(t.index)*chunkstore.ChunkBytes + int64(bits.TrailingZeros16(mask))*BlockBytes
		parts = append(parts, span{off, min(off+BlockBytes, w.bytes)})
	}
	parts = append(parts, w.zeros(t)...)
	slices.SortFunc(parts, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	return slices.DeleteFunc(parts, func(s span) bool { return s.from >= end })
}

// layOver makes the inline pages of the version, as chosen.
func (w *work) layOver() error {
	var fresh []manifest.Page
	w.chunks = w.chunks[:0]
	pinned := w.pinned()
	if t := &w.touched; len(*t) > 0 && (*t)[0].index == 0 && !(*t)[0].forced &&
		(chunkSpan(0, w.bytes).to == pinned || !w.pageOneInline()) {
		(*t)[0].whole = false
	}
	for k := range w.touched {
		t := &w.touched[k]
		end := chunkSpan(t.index, w.bytes).to
		if t.whole {
			w.chunks = append(w.chunks, t.index)
			t.gap = span{}
			if end = 0; t.index == 0 {
				end = pinned
			}
		}
		for _, s := range w.spans(*t, end) {
			page, err := w.page(*t, s)
			if err != nil {
				return err
			}
			fresh = append(fresh, page)
		}
	}
	whole := func(t touched) bool { return t.whole }
	w.inline = lay(w.base.Inline, w.cuts(whole), fresh)
	return w.addCrown()
}

// addCrown has the crown's blocks travel inline that lie in chunks which get new objects, as far as
// there is room.
func (w *work) addCrown() error {
	if len(w.chunks) == 0 {
		return nil
	}
	var failed error
	inline, known := inlineBlocks(w.base), make(map[int64][]byte)
	upper := crownOf(pageBytes(w.header, w.bytes), w.bytes, w.c.o.Budgets.Crown,
		func(off int64) []byte {
			block, ok := known[off]
			n := blockIn(off, w.bytes)
			if ok || failed != nil || n == 0 {
				return block
			}
			k, changed := slices.BinarySearch(w.change.Offsets, off)
			if block = w.kept[k]; changed && block == nil {
				block = make([]byte, BlockBytes)
				if failed = w.readBlock(k, block); failed != nil {
					return nil
				}
			} else if !changed {
				block = inline(off)
			}
			if block != nil {
				block = block[:n:n]
			}
			known[off] = block
			return block
		})
	if failed != nil {
		return failed
	}
	var extra []manifest.Page
	pinned := w.pinned()
	total := bytesOf(w.inline, pinned)
	for _, i := range w.chunks {
		s := chunkSpan(i, w.bytes)
		for off := s.from; off < s.to; off += BlockBytes {
			if off < pinned || !upper[off] || total+BlockBytes > w.c.o.Budgets.Hard {
				continue
			}
			extra = append(extra, manifest.Page{Offset: off, Data: known[off]})
			total += BlockBytes
		}
	}
	w.inline = lay(w.inline, nil, extra)
	return nil
}

// pageOneInline reports whether the version has all of page 1 inline (C7).
func (w *work) pageOneInline() bool {
	for off := int64(0); off < w.pinned(); off += BlockBytes {
		changed := w.touched[0].mask&(1<<(off/BlockBytes)) != 0
		if !changed && !manifest.Covered(w.base.Inline, off, min(off+BlockBytes, w.bytes)) {
			return false
		}
	}
	return true
}

// zeroBlock is what gaps are filled with.
var zeroBlock [BlockBytes]byte

// page returns the inline page of s, which lies in t.
func (w *work) page(t touched, s span) (manifest.Page, error) {
	if t.mask&(1<<(s.from%chunkstore.ChunkBytes/BlockBytes)) == 0 {
		return manifest.Page{Offset: s.from, Data: zeroBlock[:s.to-s.from]}, nil
	}
	k, _ := slices.BinarySearch(w.change.Offsets[t.first:t.last], s.from)
	block, err := w.keep(t.first + k)
	if err != nil {
		return manifest.Page{}, err
	}
	if &block[0] == &w.block[0] {
		block = slices.Clone(block)
	}
	return manifest.Page{Offset: s.from, Data: block[: s.to-s.from : s.to-s.from]}, nil
}

// read fills chunk, which has room for a whole one, with chunk i of the version. It returns what
// the chunk is.
func (w *work) read(ctx context.Context, i int, chunk []byte) ([]byte, error) {
	t := *w.touch(i)
	s := chunkSpan(i, w.bytes)
	n := int(s.to - s.from)
	blocks := (n + BlockBytes - 1) / BlockBytes
	switch {
	case t.mask == uint16(1)<<blocks-1: // of 16: it wraps
	case s.from >= w.base.FileBytes:
		clear(chunk[:n])
	default:
		if err := w.from.ReadBase(ctx, chunk[:n], s.from); err != nil {
			return nil, fmt.Errorf("compose: read chunk %d: %w", i, err)
		}
	}
	for k := t.first; k < t.last; k++ {
		at := w.change.Offsets[k] - s.from
		if t.mask&(1<<(at/BlockBytes)) == 0 {
			continue
		}
		if err := w.readBlock(k, chunk[at:at+BlockBytes]); err != nil {
			return nil, err
		}
	}
	return chunk[:n], nil
}
