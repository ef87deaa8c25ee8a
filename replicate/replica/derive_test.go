package replica_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/locate"
	"verneuil/replicate/publishtest"
	. "verneuil/replicate/replica"
)

// fed is a source that a test feeds: its newest version is what it says.
type fed struct {
	*source
	mu     sync.Mutex
	newest *manifest.Manifest
	hold   func() // called when the newest version is found; nil: nothing
}

// newFed returns a source whose first version is file, where inline pages are at those offsets.
func newFed(t testing.TB, file []byte, inline ...int64) *fed {
	t.Helper()
	f := &fed{source: newSource(t)}
	f.newest = f.Publish(file, inline...)
	return f
}

func (f *fed) URI() string        { return "file:///store/db" }
func (f *fed) String() string     { return "file:///store/db" }
func (f *fed) Named() bool        { return false }
func (f *fed) AutoRefresh() *bool { return nil }

func (f *fed) FetchFrom(
	_ context.Context, prev locate.Found,
) (found locate.Found, news bool, err error) {
	f.mu.Lock()
	newest, hold := f.newest, f.hold
	f.mu.Unlock()
	if hold != nil {
		hold()
	}
	return locate.Found{Manifest: newest, From: f.Target}, prev.Manifest != newest, nil
}

// set makes m what the source says is its newest version.
func (f *fed) set(m *manifest.Manifest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.newest = m
}

// open opens a reader, which is closed before its set is.
func (f *fed) open(all *Set) *Reader {
	f.t.Helper()
	r, err := all.OpenFrom(context.Background(), f)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(r.Close)
	return r
}

const block = 4096

// successor is file after base, whose bytes were old, of which only the first so many were there in
// between: what differs travels inline, or if !inline in new objects, whose bytes are returned.
func (f *fed) successor(
	base *manifest.Manifest, old, file []byte, shortest int, inline bool,
) (*manifest.Manifest, map[int][]byte) {
	f.t.Helper()
	next := *base
	next.Sequence++
	binary.BigEndian.PutUint64(next.Cut[:], rand.Uint64())
	next.FileBytes, next.Inline = int64(len(file)), nil
	shortest = min(shortest, len(old), len(file))
	old = old[:shortest]
	for _, p := range base.Inline {
		if p.Offset+int64(len(p.Data)) <= int64(shortest) {
			next.Inline = append(next.Inline, p)
		}
	}
	differs := func(off, end int) bool {
		was := make([]byte, end-off)
		if off < len(old) {
			copy(was, old[off:min(end, len(old))])
		}
		return !bytes.Equal(was, file[off:end]) || end > len(old)
	}
	chunks := map[int][]byte{}
	var changed []manifest.Patch
	var objects []chunkstore.Hashed
	var put []int // indexes in changed
	for i := range next.Chunks() {
		start := i * chunkstore.ChunkBytes
		end := start + next.ChunkBytes(i)
		if !differs(start, end) {
			continue
		}
		if inline {
			for off := start; off < end; off += block {
				if differs(off, off+block) {
					next.Inline = setInline(next.Inline, int64(off), file[off:off+block])
				}
			}
			continue
		}
		next.Inline = slices.DeleteFunc(next.Inline, func(p manifest.Page) bool {
			return int(p.Offset/chunkstore.ChunkBytes) == i
		})
		chunks[i] = bytes.Clone(file[start:end])
		if bytes.Equal(chunks[i], make([]byte, len(chunks[i]))) {
			changed = append(changed, manifest.Patch{Index: i,
				Ref: chunkstore.Ref{ID: chunkstore.ZeroID}})
			continue
		}
		object := chunkstore.Hash(f.Target.Sealer, chunks[i])
		put, objects = append(put, len(changed)), append(objects, object)
		changed = append(changed, manifest.Patch{Index: i, Ref: chunkstore.Ref{ID: object.ID()}})
	}
	places, err := publishtest.PutAll(f.Target, objects)
	if err != nil {
		f.t.Fatal(err)
	}
	for k, place := range places {
		changed[put[k]].Place = place
	}
	least := (shortest + chunkstore.ChunkBytes - 1) / chunkstore.ChunkBytes
	m, err := base.Apply(base.StepTo(&next, changed, least))
	if err != nil {
		f.t.Fatal(err)
	}
	return m, chunks
}

func setInline(pages []manifest.Page, off int64, data []byte) []manifest.Page {
	k, found := slices.BinarySearchFunc(pages, off, func(p manifest.Page, off int64) int {
		return int(p.Offset - off)
	})
	page := manifest.Page{Offset: off, Data: bytes.Clone(data)}
	if found {
		pages[k] = page
		return pages
	}
	return slices.Insert(pages, k, page)
}

// count writes the change counter as SQLite does.
func count(file []byte, counter uint32) {
	binary.BigEndian.PutUint32(file[24:], counter)
	binary.BigEndian.PutUint32(file[92:], counter)
}

// shown returns the change counter and the schema cookie that r is shown.
func shown(t testing.TB, r *Reader) (counter, cookie uint32) {
	t.Helper()
	h := make([]byte, 100)
	if err := r.Read(context.Background(), h, 0); err != nil {
		t.Fatal(err)
	}
	if valid := binary.BigEndian.Uint32(h[92:]); valid != binary.BigEndian.Uint32(h[24:]) {
		t.Errorf("counter %d is valid for %d", binary.BigEndian.Uint32(h[24:]), valid)
	}
	return binary.BigEndian.Uint32(h[24:]), binary.BigEndian.Uint32(h[40:])
}

// A version that is derived costs no request, is seen by who moves to it, and by others when it is
// published.
func TestDerive(t *testing.T) {
	for _, inline := range []bool{true, false} {
		file := publishtest.Stamped(50*16, 1)
		f := newFed(t, file, 0)
		all := f.follow(Options{})
		r, other := f.open(all), f.open(all)
		if _, err := readAll(r, testPage); err != nil {
			t.Fatal(err)
		}
		gets := f.Hooks.Gets()
		old := bytes.Clone(file)
		count(file, r.Counter()+1)
		copy(file[40*testPage+300:], "changed")
		m, chunks := f.successor(r.Manifest(), old, file, len(old), inline)
		v, err := r.Derive(t.Context(), m, r.Counter()+1, chunks)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Release()
		before := r.Counter()
		if got, err := readAll(r, testPage); err != nil || same(got, old) != nil {
			t.Fatal("a version that was derived is seen: ", err, same(got, old))
		}
		r.MoveTo(v)
		if counter, _ := shown(t, r); counter != before+1 || r.Counter() != before+1 {
			t.Errorf("the successor of %d has the counter %d, shows %d", before, r.Counter(),
				counter)
		}
		got, err := readAll(r, testPage)
		if err == nil {
			err = same(got, file)
		}
		if err != nil {
			t.Fatal(err)
		}
		if n := f.Hooks.Gets() - gets; n > 0 {
			t.Errorf("%d requests", n)
		}
		if other.Adopt() {
			t.Error("another reader has what was not published")
		}
		v.Publish()
		if !other.Adopt() || other.Counter() != r.Counter() {
			t.Errorf("another reader is at %d, not at %d", other.Counter(), r.Counter())
		}
		f.set(m)
		if err := other.Refresh(t.Context(), true); err != nil || other.Counter() != r.Counter() {
			t.Errorf("a refresh moved to %d from what was published as %d: %v", other.Counter(),
				r.Counter(), err)
		}
	}
}

// D5: what is published while a fetch is under way stays the newest version where the fetch finds
// an older one, or the same. What was overtaken is not published any more.
func TestD5NewestGoesForward(t *testing.T) {
	file := publishtest.Stamped(50*16, 1)
	f := newFed(t, file, 0)
	all := f.follow(Options{})
	r, other := f.open(all), f.open(all)
	next := func() *Version {
		t.Helper()
		old := bytes.Clone(file)
		count(file, r.Counter()+1)
		m, _ := f.successor(r.Manifest(), old, file, len(file), true)
		v, err := r.Derive(t.Context(), m, r.Counter()+1, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(v.Release)
		r.MoveTo(v)
		return v
	}
	first, second, third := next(), next(), next()
	for _, found := range []*Version{first, second} {
		asked, answer := make(chan struct{}), make(chan struct{})
		f.set(found.Manifest())
		f.hold = func() {
			asked <- struct{}{}
			<-answer
		}
		end := other.BeginRefresh(true)
		<-asked
		second.Publish()
		close(answer)
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if other.Sequence() != second.Manifest().Sequence || other.Counter() != second.Counter() {
			t.Fatalf("at version %d with counter %d, want %d with %d", other.Sequence(),
				other.Counter(), second.Manifest().Sequence, second.Counter())
		}
	}
	f.hold = nil
	first.Publish()
	if other.Adopt() {
		t.Errorf("back at version %d", other.Sequence())
	}
	third.Publish()
	if !other.Adopt() || other.Counter() != third.Counter() {
		t.Errorf("at version %d, not at the third", other.Sequence())
	}
}
