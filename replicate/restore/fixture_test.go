package restore_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"verneuil/chunkstore"
	"verneuil/manifest"
	. "verneuil/replicate/restore"
)

// shelf is a bucket in memory, which counts what is asked of it.
type shelf struct {
	chunkstore.Bucket // nil: nothing else is called

	mu            sync.Mutex
	objects       map[string][]byte
	gets          map[string]int // by key
	bytes         int            // of all that was got
	running, most int            // Gets

	// before, if set, is called before each Get, with its number from 1. What it returns, the Get
	// returns; nil: what is there.
	before func(n int, key string) error
	calls  int
}

func (s *shelf) Get(_ context.Context, key string, o chunkstore.GetOptions) (
	chunkstore.Object, error,
) {
	s.mu.Lock()
	s.calls++
	n, before := s.calls, s.before
	s.gets[key]++
	s.running++
	s.most = max(s.most, s.running)
	s.mu.Unlock()
	var err error
	if before != nil {
		err = before(n, key)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	if err != nil {
		return chunkstore.Object{}, err
	}
	body, ok := s.objects[key]
	switch {
	case !ok:
		return chunkstore.Object{}, fmt.Errorf("get %s: %w", key, chunkstore.ErrAbsent)
	case o.Length > 0 && int64(len(body)) < o.Offset+o.Length:
		return chunkstore.Object{}, fmt.Errorf("get %s: %w", key, chunkstore.ErrCorrupt)
	case o.Length > 0:
		body = body[o.Offset : o.Offset+o.Length]
	}
	s.bytes += len(body)
	return chunkstore.Object{Body: bytes.Clone(body)}, nil
}

func (s *shelf) Put(_ context.Context, key string, body []byte, _ chunkstore.Condition) (
	string, error,
) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[key] = bytes.Clone(body)
	return "", nil
}

func (s *shelf) String() string { return "a shelf" }

// forget has the counts begin anew.
func (s *shelf) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets, s.calls, s.bytes, s.most, s.before = map[string]int{}, 0, 0, 0, nil
}

// version is a version of a database, what stores it, and what it is.
type version struct {
	*shelf
	m      *manifest.Manifest
	target *chunkstore.Target
	store  *chunkstore.Store
	file   []byte
	tree   *manifest.Tree
}

// newShelf returns a version that is nothing yet.
func newShelf() *version {
	c := &version{shelf: &shelf{objects: map[string][]byte{}, gets: map[string]int{}}}
	c.target = chunkstore.NewTarget("shelf", c.shelf, c.shelf)
	c.store = chunkstore.NewStore(c.target)
	return c
}

// put puts objects in packs of 64.
func (c *version) put(objects []chunkstore.Hashed) (places []chunkstore.Place, err error) {
	for len(objects) > 0 {
		n := min(len(objects), chunkstore.PackMax)
		p := &chunkstore.Pack{}
		for _, h := range objects[:n] {
			p.Seal(c.target.Sealer, h)
		}
		at, _, err := c.target.PutPack(context.Background(), p)
		if err != nil {
			return nil, err
		}
		places, objects = append(places, at...), objects[n:]
	}
	return places, nil
}

// set puts the objects of these chunks, and sets them; plain returns one's bytes.
func (c *version) set(t testing.TB, chunks []int, plain func(i int) []byte) {
	t.Helper()
	var hashed []chunkstore.Hashed
	var there []int
	for _, i := range chunks {
		b := plain(i)
		if len(bytes.Trim(b, "\x00")) == 0 {
			c.tree.Set(i, chunkstore.Ref{ID: chunkstore.ZeroID})
			continue
		}
		hashed, there = append(hashed, chunkstore.Hash(c.target.Sealer, b)), append(there, i)
	}
	places, err := c.put(hashed)
	if err != nil {
		t.Fatal(err)
	}
	for k, i := range there {
		c.tree.Set(i, chunkstore.Ref{ID: hashed[k].ID(), Place: places[k]})
	}
}

// finish packs the tree.
func (c *version) finish(t testing.TB, patchesMax int) {
	t.Helper()
	var err error
	c.m.Levels, c.m.Top, c.m.Patches, err = c.tree.Pack(t.Context(), patchesMax, nil, c.put)
	if err != nil {
		t.Fatal(err)
	}
}

func upTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// newVersion makes a file of so many chunks, and 1,536 bytes more, with
// zeros, repetitions, patches and inline pages.
func newVersion(t testing.TB, chunks int) *version {
	t.Helper()
	const size = chunkstore.ChunkBytes
	c := newShelf()
	c.file = make([]byte, chunks*size+1536)
	rng := rand.NewChaCha8([32]byte{byte(chunks)})
	for i := range chunks + 1 {
		chunk := c.file[i*size : min((i+1)*size, len(c.file))]
		switch i % 5 {
		case 0: // zeros
		case 1: // a repetition
			copy(chunk, bytes.Repeat([]byte{byte(i / 5 % 3), 1}, size))
		default:
			rng.Read(chunk[:min(1000, len(chunk))])
		}
	}
	c.m = &manifest.Manifest{Host: "h", Path: "/p", FileBytes: int64(len(c.file)), PageBytes: 512}
	c.tree = manifest.NewTree(c.target.Sealer, c.m.Chunks())
	c.set(t, upTo(chunks+1), func(i int) []byte { return c.m.Overlay(i, c.file[i*size:]) })
	c.finish(t, 0)
	var patched []int
	for i := 0; i < chunks; i += 7 { // patched since, by an object that is too short
		rng.Read(c.file[i*size : i*size+512])
		clear(c.file[i*size+512 : (i+1)*size])
		patched = append(patched, i)
	}
	c.set(t, patched, func(i int) []byte { return c.file[i*size : i*size+512] })
	c.finish(t, chunks)
	for i := 0; i <= chunks; i += 3 { // and inline pages on top, some of them over zeros
		page := bytes.Repeat([]byte{0xee}, 512)
		copy(c.file[i*size+512:], page)
		c.m.Inline = append(c.m.Inline, manifest.Page{Offset: int64(i*size + 512), Data: page})
	}
	if _, err := c.m.Encode(c.target.Sealer); err != nil {
		t.Fatal(err)
	}
	c.forget()
	return c
}

// newNoise makes a file of so many chunks that do not compress, of which hole says which are zeros.
func newNoise(t testing.TB, chunks int, hole func(i int) bool) *version {
	t.Helper()
	c := newShelf()
	c.file = make([]byte, chunks*chunkstore.ChunkBytes)
	for i := range chunks {
		if hole == nil || !hole(i) {
			rand.NewChaCha8([32]byte{1, byte(i), byte(i >> 8)}).Read(c.chunk(i))
		}
	}
	c.m = &manifest.Manifest{Host: "h", Path: "/p", FileBytes: int64(len(c.file)), PageBytes: 512}
	c.tree = manifest.NewTree(c.target.Sealer, chunks)
	c.set(t, upTo(chunks), c.chunk)
	c.finish(t, 72)
	c.forget()
	return c
}

func (c *version) chunk(i int) []byte {
	return c.file[i*chunkstore.ChunkBytes:][:chunkstore.ChunkBytes]
}

// options are those that restore c.
func (c *version) options() Options {
	return Options{Manifest: c.m, Store: c.store, From: c.target}
}

// refs returns the objects that a restore needs: chunks, where they stand first, and leaves and
// nodes.
func (c *version) refs(t testing.TB) (chunks, tree []chunkstore.Ref) {
	t.Helper()
	seen := map[chunkstore.ID]bool{chunkstore.ZeroID: true}
	for ref := range c.tree.Objects() {
		tree = append(tree, ref)
	}
	for i := range c.tree.Len() {
		if ref := c.tree.At(i); !seen[ref.ID] {
			seen[ref.ID] = true
			chunks = append(chunks, ref)
		}
	}
	return chunks, tree
}

// packs returns the names of the packs that a restore needs.
func (c *version) packs(t testing.TB) map[string]bool {
	chunks, tree := c.refs(t)
	names := map[string]bool{}
	for _, ref := range append(chunks, tree...) {
		names[ref.Place.Pack.String()] = true
	}
	return names
}
