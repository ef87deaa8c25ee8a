package replica

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/locate"
	"verneuil/spool/sqlitefile"
)

// Version is one version of a source, for as long as it is held. It is safe for concurrent use.
type Version struct {
	s        *snapshot // holds a reference
	released atomic.Bool
}

// Version returns the version that r reads. The caller releases it.
func (r *Reader) Version() *Version {
	r.s.retain()
	return &Version{s: r.s}
}

// Derive makes, of the version that r reads, its successor m, which nobody is shown until somebody
// moves to it. It makes no request as far as what m shares with that version is loaded. chunks are
// bytes of chunks whose object is new, which the caller must not change any more; may be nil: they
// are fetched when they are read. counter is the change counter that SQLite has written into m: it
// is shown if it is the one after r's, and no version of the source was ever shown with it; else,
// and if it is 0, a fresh one is. The caller releases the version.
func (r *Reader) Derive(
	ctx context.Context, m *manifest.Manifest, counter uint32, chunks map[int][]byte,
) (v *Version, err error) {
	defer recoverTo(&err)
	f, prev := r.f, r.s
	first, cookie := f.shown.headerOf(prev, m, chunks)
	if cookie == nil || cookie.file != cookie.shown {
		counter = 0 // the writer, too, must see what is shown
	}
	s, err := newSnapshot(f, locate.Found{Manifest: m, From: prev.from}, time.Now(),
		f.shown.after(r.Counter(), counter))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.source, err)
	}
	s.derived, s.of = true, prev.cookie.Load()
	if cookie != nil {
		s.header.Do(func() {
			s.table.setHeader(first, func(uint32) uint32 { return cookie.shown })
			s.cookie.Store(cookie)
		})
	}
	h := heir{s, prev}
	carried, err := h.fill()
	if err == nil {
		s.showHeader(s.table.entry(0))
		err = take(s, chunks)
	}
	if err == nil && !carried {
		err = h.carry(ctx)
	}
	if err != nil {
		s.release()
		return nil, fmt.Errorf("%s: %w", f.source, err)
	}
	return &Version{s: s}, nil
}

// headerOf returns the first bytes of m, which is derived of prev, and its cookie, if they are new,
// and can be had without a fetch; nil: they cannot, or are no database's.
func (h *shownHeaders) headerOf(
	prev *snapshot, m *manifest.Manifest, chunks map[int][]byte,
) ([]byte, *fileCookie) {
	first := chunks[0]
	if pages := m.InlineOf(0); len(pages) > 0 && pages[0].Offset == 0 {
		first = pages[0].Data
	}
	if len(first) < sqlitefile.HeaderBytes {
		return nil, nil
	}
	first = first[:sqlitefile.HeaderBytes]
	header := (*sqlitefile.Header)(first)
	if !header.IsDatabase() {
		return nil, nil
	}
	own := header.SchemaCookie()
	return first, &fileCookie{own, h.cookies.derive(prev.cookie.Load(), own)}
}

// take loads chunks whose objects are new, and whose bytes are given.
func take(s *snapshot, chunks map[int][]byte) error {
	for i, data := range chunks {
		ref, found := patchOf(s.m, i)
		if !found || s.table.here(i) {
			continue // it is fetched when it is read
		}
		if err := store(s, i, slotKey(ref.ID), data); err != nil {
			return err
		}
	}
	return nil
}

// MoveTo has r read v from now on, which is of the same source. r holds a reference of its own.
func (r *Reader) MoveTo(v *Version) {
	if v.s != r.s {
		v.s.retain()
		r.move(v.s)
	}
}

// Counter is the change counter that SQLite is shown of the version that r reads.
func (r *Reader) Counter() uint32 { return r.s.table.head.counter }

// Manifest is that of the version that r reads. It must not be changed.
func (r *Reader) Manifest() *manifest.Manifest { return r.s.m }

// ReadBase is [Version.ReadBase] of the version that r reads.
func (r *Reader) ReadBase(ctx context.Context, p []byte, off int64) error {
	return (&Version{s: r.s}).ReadBase(ctx, p, off)
}

// Cached is [Version.Cached] of the version that r reads.
func (r *Reader) Cached(off int64, n int) bool { return (&Version{s: r.s}).Cached(off, n) }

// Counter is the change counter that SQLite is shown.
func (v *Version) Counter() uint32 { return v.s.table.head.counter }

// Manifest is the version's. It must not be changed.
func (v *Version) Manifest() *manifest.Manifest { return v.s.m }

// ReadBase fills p with the bytes at off, as SQLite is shown them, and with zeros beyond the end of
// the file. It fetches what is not there.
func (v *Version) ReadBase(ctx context.Context, p []byte, off int64) error {
	s := v.s
	if beyond := off + int64(len(p)) - max(off, s.m.FileBytes); beyond > 0 {
		n := len(p) - int(min(beyond, int64(len(p))))
		clear(p[n:])
		p = p[:n]
	}
	for len(p) > 0 {
		i := int(off / chunkstore.ChunkBytes)
		n := min(len(p), int(chunkstore.ChunkBytes-off%chunkstore.ChunkBytes))
		for {
			ok, err := s.readAt(p[:n], i, off)
			if err == nil && !ok {
				err = s.demand(ctx, i)
			}
			if err != nil {
				return err
			} else if ok {
				break
			}
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// Cached reports whether ReadBase of n bytes at off would fetch nothing.
func (v *Version) Cached(off int64, n int) bool {
	s := v.s
	end := min(off+int64(n), s.m.FileBytes)
	for off < end {
		i := int(off / chunkstore.ChunkBytes)
		next := min(int64(i+1)*chunkstore.ChunkBytes, end)
		if !s.table.here(i) && !manifest.Covered(s.m.InlineOf(i), off, next) {
			return false
		}
		off = next
	}
	return true
}

// Publish says that the store has v: refreshes and new readers get it from now on, unless they have
// a later version already.
func (v *Version) Publish() {
	f, s := v.s.f, v.s
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dropped || f.newest == s || f.newest != nil && f.newest.m.Head().Supersedes(s.m.Head()) {
		return
	}
	s.retain()
	f.installLocked(s)
	if cookie := s.cookie.Load(); cookie != nil {
		f.shown.publish(s.m, *cookie)
	}
}

// Release gives the caller's reference back. What is called again does nothing.
func (v *Version) Release() {
	if !v.released.Swap(true) {
		v.s.release()
	}
}
