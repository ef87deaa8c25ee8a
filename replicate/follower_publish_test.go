package replicate_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	. "verneuil/replicate"
)

const testPage = 4096

// publisher plays the source of a replica: it puts versions of a file into a store
// whose requests a test can watch and disturb.
type publisher struct {
	t      testing.TB
	store  *chunkstore.Store
	target *chunkstore.Target
	hooks  *hooks
	m      manifest.Manifest // the next version, but for what publish fills in
	base   []byte            // what the tree's chunks hold
	tree   *manifest.Tree
}

// hooks are called before each Get of the two buckets; an error is what Get returns.
type hooks struct {
	mu       sync.Mutex
	chunk    func(key string) error
	manifest func() error
	chunks   int // Gets of chunks, leaves and nodes so far
}

func (h *hooks) set(chunk func(string) error, manifest func() error) {
	h.mu.Lock()
	h.chunk, h.manifest = chunk, manifest
	h.mu.Unlock()
}

func (h *hooks) chunkGets() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.chunks
}

type hookedBucket struct {
	chunkstore.Bucket
	before func(key string) error
}

func (b hookedBucket) Get(ctx context.Context, key string, o chunkstore.GetOptions) (chunkstore.Object, error) {
	if err := b.before(key); err != nil {
		return chunkstore.Object{}, err
	}
	return b.Bucket.Get(ctx, key, o)
}

func newPublisher(t testing.TB) *publisher {
	t.Helper()
	dir := []chunkstore.TargetConfig{{Dir: &chunkstore.DirConfig{Path: t.TempDir()}}}
	real, err := chunkstore.Open(context.Background(), dir, chunkstore.Options{CallsPerSecond: -1})
	if err != nil {
		t.Fatal(err)
	}
	h := &hooks{}
	target := chunkstore.NewTarget("test", hookedBucket{real.Targets[0].Chunks, func(key string) error {
		h.mu.Lock()
		h.chunks++
		hook := h.chunk
		h.mu.Unlock()
		if hook == nil {
			return nil
		}
		return hook(key)
	}}, hookedBucket{real.Targets[0].Manifests, func(string) error {
		h.mu.Lock()
		hook := h.manifest
		h.mu.Unlock()
		if hook == nil {
			return nil
		}
		return hook()
	}})
	return &publisher{
		t: t, store: chunkstore.NewStore(target), target: target, hooks: h, tree: manifest.NewTree(0),
		m: manifest.Manifest{Host: "h", Path: "/db", Program: "test", Lineage: [16]byte{1}, Continuity: 1, PageBytes: testPage},
	}
}

func (p *publisher) uri() string { return "verneuil://" + p.m.Host + p.m.Path }

// publish makes file the newest version. The pages at the offsets inline travel in
// the manifest; chunks that differ from the last version only there are not stored.
func (p *publisher) publish(file []byte, inline ...int64) *manifest.Manifest {
	p.t.Helper()
	ctx := context.Background()
	m := p.m
	m.Sequence++
	m.Time = time.Unix(1700000000+int64(m.Sequence), 0)
	m.SourceCtime = time.Unix(1600000000, 123456789)
	m.FileBytes = int64(len(file))
	m.Inline = nil
	slices.Sort(inline)
	for _, off := range inline {
		m.Inline = append(m.Inline, manifest.Page{Offset: off, Data: bytes.Clone(file[off : off+testPage])})
	}
	p.tree.Resize(m.Chunks())
	base := make([]byte, len(file))
	copy(base, p.base)
	for i := range m.Chunks() {
		start := i * chunkstore.ChunkBytes
		want, have := file[start:start+m.ChunkBytes(i)], base[start:start+m.ChunkBytes(i)]
		grown := min(len(p.base), start+m.ChunkBytes(i)) - start
		if i < p.tree.Len() && bytes.Equal(m.Overlay(i, have), want) && (grown == m.ChunkBytes(i) || grown > 0 && len(m.InlineOf(i)) > 0) {
			continue
		}
		copy(have, want)
		id := chunkstore.Sum(want)
		if !bytes.Equal(want, make([]byte, len(want))) {
			if _, err := p.target.PutChunk(ctx, id, want); err != nil {
				p.t.Fatal(err)
			}
		} else {
			id = chunkstore.ZeroID
		}
		p.tree.Set(i, id)
	}
	p.base = base
	m.Levels, m.Top, m.Patches = p.tree.Pack(3)
	for id, plain := range p.tree.Objects() {
		if _, err := p.target.PutChunk(ctx, id, plain); err != nil {
			p.t.Fatal(err)
		}
	}
	p.put(&m)
	p.m = m
	return &m
}

func (p *publisher) put(m *manifest.Manifest) {
	p.t.Helper()
	raw, err := m.Encode()
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.target.Manifests.Put(context.Background(), manifest.Name(p.m.Host, p.m.Path), raw, chunkstore.Condition{}); err != nil {
		p.t.Fatal(err)
	}
}

// follow starts a FollowerSet on the publisher's store.
func (p *publisher) follow(o FollowerOptions) *FollowerSet {
	p.t.Helper()
	o.Store, o.TempDir = p.store, p.t.TempDir()
	all, err := NewFollowerSet(o)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := all.Close(); err != nil {
			p.t.Error(err)
		}
	})
	return all
}

// open opens a reader, which is closed before its set is.
func (p *publisher) open(all *FollowerSet) *Reader {
	p.t.Helper()
	r, err := all.Open(context.Background(), p.uri())
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(r.Close)
	return r
}

// stamped is a file of so many pages that all begin with number, behind a header.
func stamped(pages int, number uint64) []byte {
	file := make([]byte, pages*testPage)
	for i := range pages {
		page := file[i*testPage:]
		binary.BigEndian.PutUint64(page[128:], number)
		binary.BigEndian.PutUint64(page[136:], uint64(i)+1)
	}
	copy(file, header(2, uint32(number)))
	return file
}

// header is the first 100 bytes of a database.
func header(version byte, counter uint32) []byte {
	h := make([]byte, 100)
	copy(h, "SQLite format 3\x00")
	h[18], h[19] = version, version
	binary.BigEndian.PutUint32(h[24:], counter)
	binary.BigEndian.PutUint32(h[92:], counter)
	return h
}

// readAll reads all of r's version, so many bytes at a time.
func readAll(r *Reader, step int) ([]byte, error) {
	file := make([]byte, r.Size())
	for off := 0; off < len(file); off += step {
		if err := r.Read(context.Background(), file[off:min(off+step, len(file))], int64(off)); err != nil {
			return nil, fmt.Errorf("at %d: %w", off, err)
		}
	}
	return file, nil
}

// same compares all but what a replica changes in the header.
func same(got, want []byte) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d bytes, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] && !(i >= 18 && i < 20 || i >= 24 && i < 28 || i >= 92 && i < 96) {
			return fmt.Errorf("byte %d is %#x, want %#x", i, got[i], want[i])
		}
	}
	return nil
}
