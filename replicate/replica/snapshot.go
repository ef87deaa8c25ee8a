package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

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
	checked atomic.Int64 // when the last fetch that found it the newest began, Unix ns
	derived bool         // it was made here: the store may not have it, nor ever get it
	of      *fileCookie  // of the version that it was derived of; nil: not known
	header  sync.Once
	schema  schema
	cookie  atomic.Pointer[fileCookie] // nil: the header is not shown yet, or is no database's
}

// newSnapshot opens what was found, with one reference and an empty table.
func newSnapshot(
	f *follower, found locate.Found, checked time.Time, counter uint32,
) (*snapshot, error) {
	m := found.Manifest
	t, err := newTable(&f.all.memory, m.FileBytes, m.Chunks(), counter,
		unsafe.Pointer(f.all.slots.extents))
	if err != nil {
		return nil, err
	}
	s := &snapshot{f: f, m: m, from: found.From, table: t}
	s.sources.s, s.sources.found = s, found
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
	s.table.free(s.f.all.slots)
}

func (s *snapshot) String() string {
	return fmt.Sprintf("version %d of %s", s.m.Sequence, s.f.source)
}

// load brings chunk i in, if it is not there. The caller holds a reference. One
// attempt is made; ctx bounds the wait, not a fetch that others share.
func (s *snapshot) load(ctx context.Context, i int) error {
	if s.complete(i) {
		return nil
	}
	if err := s.sources.load(ctx, i); err != nil {
		return fmt.Errorf("chunk %d: %w", i, err)
	}
	return nil
}

// complete reports whether chunk i is there, or inline pages are all of it.
func (s *snapshot) complete(i int) bool {
	start := int64(i) * chunkstore.ChunkBytes
	return s.table.here(i) ||
		manifest.Covered(s.m.InlineOf(i), start, start+int64(s.m.ChunkBytes(i)))
}

// setHeader shows SQLite first, the first bytes of the file.
func (s *snapshot) setHeader(first []byte) {
	s.table.setHeader(first, func(cookie uint32) uint32 {
		var shown uint32
		if s.derived {
			shown = s.f.shown.derive(s.of, cookie)
		} else {
			shown = s.f.shown.cookies.show(s.m, cookie)
		}
		s.cookie.Store(&fileCookie{cookie, shown})
		return shown
	})
}

// pageAt returns the number of the page at off.
func (s *snapshot) pageAt(off int64) uint32 { return uint32(off/int64(s.m.PageBytes)) + 1 }

// showHeader shows the header, if the first bytes of the file are there: e is the entry of chunk 0.
func (s *snapshot) showHeader(e entry) {
	if s.table.chunks() == 0 {
		return
	}
	first := make([]byte, min(sqlitefile.HeaderBytes, s.m.ChunkBytes(0)))
	if ok, err := s.readAs(first, 0, 0, e); ok && err == nil { // we hold e: it cannot fail
		s.header.Do(func() { s.setHeader(first) })
	}
}

// put publishes e, which the caller held, as chunk i, for which there is a part.
func (s *snapshot) put(i int, e entry) {
	if i == 0 {
		s.showHeader(e)
	}
	if !s.table.publish(i, e) { // another goroutine was faster
		s.f.all.slots.release([]entry{e})
	}
}

// readAt copies len(p) bytes at off, which lie in chunk i, if the chunk or inline
// pages that cover them are there.
func (s *snapshot) readAt(p []byte, i int, off int64) (bool, error) {
	ok, err := s.readAs(p, i, off, s.table.entry(i))
	if n := s.table.head.headerBytes.Load(); ok && off < int64(n) {
		copy(p, s.table.head.header[off:n])
	}
	return ok, err
}

// readAs is readAt of what the file itself has, where e is the entry of chunk i.
func (s *snapshot) readAs(p []byte, i int, off int64, e entry) (bool, error) {
	pages := s.m.InlineOf(i)
	if !manifest.Covered(pages, off, off+int64(len(p))) {
		if !e.here() {
			return false, nil
		}
		within := int(off - int64(i)*chunkstore.ChunkBytes)
		if err := s.f.all.slots.copyOut(p, e, within); err != nil {
			return false, fmt.Errorf("chunk %d of %s: %w", i, s, err)
		}
	}
	for _, page := range pages {
		overlap(p, off, page.Data, page.Offset)
	}
	return true, nil
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
