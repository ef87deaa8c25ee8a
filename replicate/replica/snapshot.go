package replica

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/zeebo/blake3"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/locate"
	"verneuil/spool/sqlitefile"
)

// snapshot is a manifest opened for reading: one version of a source. It lives as
// long as somebody refers to it: readers, prefetches, and its follower while it is
// the newest.
type snapshot struct {
	f       *follower
	m       *manifest.Manifest
	from    *chunkstore.Target // nil: the source is one object
	sources sources
	table   *table
	refs    atomic.Int64
	present atomic.Int64 // chunks that are there
	checked atomic.Int64 // when the last fetch that found it the newest began, Unix ns
	derived bool         // it was made here: the store may not have it, nor ever get it
	header  sync.Once
	schema  schema
	cookie  atomic.Pointer[fileCookie] // nil: the header is not shown yet, or is no database's
}

// newSnapshot opens what was found, with one reference and no chunk.
func newSnapshot(
	f *follower, found locate.Found, checked time.Time, counter uint32,
) (*snapshot, error) {
	s, err := newBare(f, found, checked, counter)
	if err != nil {
		return nil, err
	}
	m := s.m
	// Page 1 travels inline as a rule: then a query's first reads cost no chunk.
	if pages := m.InlineOf(0); len(pages) > 0 && pages[0].Offset == 0 &&
		len(pages[0].Data) >= sqlitefile.HeaderBytes {
		s.header.Do(func() { s.setHeader(pages[0].Data) })
	}
	for _, p := range m.Inline { // roots, of which no chunk is fetched that would be noted
		if p.Offset%int64(m.PageBytes) == 0 {
			f.interior.note(p.Data, m.PageBytes, s.pageAt(p.Offset), m.FileBytes/int64(m.PageBytes))
		}
	}
	return s, nil
}

// newBare is newSnapshot of one whose header is not shown yet.
func newBare(
	f *follower, found locate.Found, checked time.Time, counter uint32,
) (*snapshot, error) {
	m := found.Manifest
	t, err := newTable(m.FileBytes, m.Chunks(), counter, unsafe.Pointer(f.all.slots.extents))
	if err != nil {
		return nil, err
	}
	s := &snapshot{f: f, m: m, from: found.From, table: t}
	s.sources.init(s, found)
	s.refs.Store(1)
	s.checked.Store(checked.UnixNano())
	return s, nil
}

// fresh reports whether the source was asked within freshFor before now; not if it was after
// now, as the clock was set back.
func (s *snapshot) fresh(now time.Time) bool {
	age := now.UnixNano() - s.checked.Load()
	return 0 <= age && age <= int64(freshFor)
}

// is reports whether m, which the source has, is s, which was made here.
func (s *snapshot) is(m *manifest.Manifest) bool {
	now, own := m.Head(), s.m.Head()
	now.Time, own.Time = time.Time{}, time.Time{}
	return s.derived && now == own && m.Cut == s.m.Cut && m.Cut != [16]byte{}
}

func (s *snapshot) retain() { s.refs.Add(1) }

func (s *snapshot) release() {
	if s.refs.Add(-1) > 0 {
		return
	}
	s.f.all.slots.release(s.table.all())
	s.table.free()
}

func (s *snapshot) String() string {
	return fmt.Sprintf("version %d of %s", s.m.Sequence, s.f.source)
}

// key names the bytes of chunk i, whose object is id: what must be equal for two
// versions to share a slot.
func (s *snapshot) key(i int, id chunkstore.ID) slotKey {
	pages, n := s.m.InlineOf(i), s.m.ChunkBytes(i)
	if len(pages) == 0 && n == slotBytes {
		return slotKey(id)
	}
	h := blake3.NewDeriveKey("verneuil replica slot")
	h.Write(id[:])
	number := func(u uint64) { h.Write(binary.LittleEndian.AppendUint64(nil, u)) }
	number(uint64(n))
	for _, p := range pages {
		number(uint64(p.Offset % chunkstore.ChunkBytes))
		number(uint64(len(p.Data)))
		h.Write(p.Data)
	}
	return slotKey(h.Sum(nil))
}

// load brings chunk i in, if it is not there. The caller holds a reference. One
// attempt is made; ctx bounds the wait, not a fetch that others share.
func (s *snapshot) load(ctx context.Context, i int) error {
	if s.table.here(i) {
		return nil
	}
	if err := s.sources.load(ctx, i); err != nil {
		return fmt.Errorf("chunk %d: %w", i, err)
	}
	return nil
}

// setHeader shows SQLite first, the first bytes of the file.
func (s *snapshot) setHeader(first []byte) {
	s.table.setHeader(first, func(cookie uint32) uint32 {
		var shown uint32
		if s.derived {
			shown = s.f.shown.derive(nil, cookie)
		} else {
			shown = s.f.shown.cookies.show(s.m, cookie)
		}
		s.cookie.Store(&fileCookie{cookie, shown})
		return shown
	})
}

// pageAt returns the number of the page at off.
func (s *snapshot) pageAt(off int64) uint32 { return uint32(off/int64(s.m.PageBytes)) + 1 }

// put publishes e, which the caller held, as chunk i.
func (s *snapshot) put(i int, e entry) {
	if i == 0 {
		s.header.Do(func() {
			first := make([]byte, min(sqlitefile.HeaderBytes, s.m.ChunkBytes(0)))
			if s.f.all.slots.copyOut(first, e, 0) == nil { // we hold e: it cannot fail
				s.setHeader(first)
			}
		})
	}
	if s.table.publish(i, e) {
		s.present.Add(1)
	} else { // another goroutine was faster
		s.f.all.slots.release([]entry{e})
	}
}

// readAt copies len(p) bytes at off, which lie in chunk i, if the chunk or inline
// pages that cover them are there.
func (s *snapshot) readAt(p []byte, i int, off int64) (bool, error) {
	start := int64(i) * chunkstore.ChunkBytes
	if e := s.table.entry(i); e.here() {
		if err := s.f.all.slots.copyOut(p, e, int(off-start)); err != nil {
			return false, fmt.Errorf("chunk %d of %s: %w", i, s, err)
		}
	} else if pages := s.m.InlineOf(i); covered(pages, off, off+int64(len(p))) {
		for _, page := range pages {
			overlap(p, off, page.Data, page.Offset)
		}
	} else {
		return false, nil
	}
	if n := s.table.head.headerBytes.Load(); off < int64(n) {
		copy(p, s.table.head.header[off:n])
	}
	return true, nil
}

// carry brings to s, the successor of prev, every chunk of prev that s has too, or
// that inline pages make of it, without fetching chunks. Leaves that s needs to
// say so are fetched. The caller holds both.
func (s *snapshot) carry(ctx context.Context, prev *snapshot) error {
	slots := s.f.all.slots
	var chunks []int
	for i := range min(len(s.table.entries), len(prev.table.entries)) {
		if prev.table.here(i) {
			chunks = append(chunks, i)
		}
	}
	before, err := prev.sources.best.Load().refs(ctx, chunks)
	if err != nil {
		return err
	}
	now, err := s.sources.own.refs(ctx, chunks)
	if err != nil {
		return err
	}
	for n, i := range chunks {
		if now[n].ID != before[n].ID {
			continue
		}
		e := prev.table.entry(i) &^ entryAhead
		key := s.key(i, now[n].ID)
		if key == prev.key(i, before[n].ID) {
			slots.share(e)
			s.put(i, e)
		} else if s.overlays(prev, i) {
			e, err := slots.acquire(ctx, key, func() ([]byte, error) {
				chunk := make([]byte, prev.m.ChunkBytes(i))
				if err := slots.copyOut(chunk, e, 0); err != nil {
					return nil, err
				}
				return s.m.Overlay(i, chunk), nil
			})
			if err != nil {
				return err
			}
			s.put(i, e)
		}
	}
	return nil
}

// overlays reports whether chunk i of s is that of prev with s's inline pages on
// it, given that both stand on the same object.
func (s *snapshot) overlays(prev *snapshot, i int) bool {
	pages := s.m.InlineOf(i)
	for _, p := range prev.m.InlineOf(i) {
		if !covered(pages, p.Offset, p.Offset+int64(len(p.Data))) {
			return false // s shows the object's own bytes here
		}
	}
	// Where the chunk has grown, prev's bytes are cut, and the object may go on.
	start := int64(i) * chunkstore.ChunkBytes
	return covered(pages, start+int64(prev.m.ChunkBytes(i)), start+int64(s.m.ChunkBytes(i)))
}

// covered reports whether pages, which are in order, cover the file from..to.
func covered(pages []manifest.Page, from, to int64) bool {
	for _, p := range pages {
		if from >= to || p.Offset > from {
			break
		}
		from = max(from, p.Offset+int64(len(p.Data)))
	}
	return from >= to
}

// overlap copies to dst, which stands at dstOff of the file, what src has of it.
func overlap(dst []byte, dstOff int64, src []byte, srcOff int64) {
	if srcOff >= dstOff {
		if srcOff-dstOff < int64(len(dst)) {
			copy(dst[srcOff-dstOff:], src)
		}
	} else if dstOff-srcOff < int64(len(src)) {
		copy(dst, src[dstOff-srcOff:])
	}
}

// final reports whether err will be the same however often a fetch is repeated.
func final(err error) bool {
	return chunkstore.IsFault(err) && !errors.Is(err, errTogether) || errors.Is(err, errSlots)
}
