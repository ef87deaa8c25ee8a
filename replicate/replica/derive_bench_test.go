package replica

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/locate"
)

// loaded returns a reader of a version of so many chunks, all of which are there: their slots are
// holes of the slot file.
func loaded(b testing.TB, chunks int) *Reader {
	b.Helper()
	target := chunkstore.NewTarget("none", nil, nil)
	all, err := NewSet(Options{Store: chunkstore.NewStore(target), TempDir: b.TempDir(),
		Linger: -1})
	if err != nil {
		b.Fatal(err)
	}
	m := &manifest.Manifest{FileBytes: int64(chunks) * slotBytes, PageBytes: 4096,
		Lineage: [16]byte{1}, Continuity: 1, Sequence: 1}
	page := make([]byte, 4096)
	copy(page, "SQLite format 3\x00")
	m.Inline = []manifest.Page{{Offset: 0, Data: page}}
	f, err := all.follow(still{m, target}, true)
	if err != nil {
		b.Fatal(err)
	}
	s, err := newSnapshot(f, locate.Found{Manifest: m, From: target}, time.Now(), f.shown.fresh())
	if err == nil {
		_, err = heir{s, nil}.fill()
	}
	if err != nil {
		b.Fatal(err)
	}
	s.showHeader(0)
	for i := range chunks {
		all.slots.mu.Lock()
		slot, err := all.slots.takeLocked()
		if err == nil {
			all.slots.info[slot] = slotInfo{slotKey{byte(i), byte(i >> 8), byte(i >> 16), 1}, 1}
		}
		all.slots.mu.Unlock()
		if err == nil {
			err = s.table.makePart(i)
		}
		if err != nil {
			b.Fatal(err)
		}
		s.put(i, all.slots.entryOf(slot))
	}
	f.install(s, nil)
	r := newReader(f, f.latest())
	b.Cleanup(func() {
		r.Close()
		if n := all.SlotsInUse(); n != 0 {
			b.Errorf("%d slots in use", n)
		}
		all.Close()
	})
	return r
}

// BenchmarkDerive is a commit of two pages, page 1 and another one, which travel inline.
func BenchmarkDerive(b *testing.B) {
	for _, chunks := range []int{1 << 10, 1 << 14, 1600000} {
		b.Run(fmt.Sprintf("chunks=%d", chunks), func(b *testing.B) {
			r := loaded(b, chunks)
			for n := 0; b.Loop(); n++ {
				m := *r.Manifest()
				m.Sequence++
				first := bytes.Clone(m.Inline[0].Data)
				second := make([]byte, 4096)
				i := int64(1 + n*7919%(chunks-1))
				m.Inline = []manifest.Page{{Data: first}, {Offset: i << 16, Data: second}}
				v, err := r.Derive(b.Context(), &m, r.Counter()+1, nil)
				if err != nil {
					b.Fatal(err)
				}
				r.MoveTo(v)
				v.Publish()
				v.Release()
			}
		})
	}
}

// still is a source that has one version.
type still struct {
	m    *manifest.Manifest
	from *chunkstore.Target
}

func (still) URI() string        { return "file:///still" }
func (still) String() string     { return "file:///still" }
func (still) Named() bool        { return false }
func (still) AutoRefresh() *bool { return nil }

func (s still) FetchFrom(
	_ context.Context, prev locate.Found,
) (found locate.Found, news bool, err error) {
	return locate.Found{Manifest: s.m, From: s.from}, prev.Manifest != s.m, nil
}
