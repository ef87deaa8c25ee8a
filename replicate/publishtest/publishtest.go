// Package publishtest plays the writer of a database, for tests of what reads it: it puts
// versions of a file into a store whose requests a test can watch and disturb.
package publishtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/manifest"
	"verneuil/manifest/history"
)

// PageBytes is the page size of the files that are published.
const PageBytes = 4096

// Publisher is the source of a replica. It is for the test's goroutine; its Hooks may be used
// by any.
type Publisher struct {
	Store  *chunkstore.Store
	Target *chunkstore.Target // the only one of Store
	Dir    string             // what Target is
	Hooks  *Hooks
	Newest manifest.Manifest // and what the next version takes over
	Clock  func() time.Time  // dates packs; nil: this machine's
	Time   time.Time         // of the versions to come; zero: each has another one, in the past
	Near   []int             // chunks, for the checkpoints to come; see manifest.Tree

	t    testing.TB
	base []byte // what the tree's chunks hold
	tree *manifest.Tree

	records bool            // versions become records
	history *history.Writer // nil: there is none yet
	changed map[int]bool    // chunks whose object has changed since the last version
}

// Hooks are called before each Get of the two buckets.
type Hooks struct {
	mu       sync.Mutex
	chunk    func(key string) error
	manifest func() error
	record   func(key string) error
	gets     int                           // of packs, and of parts of them, so far
	objects  int                           // chunks, leaves and nodes that these brought
	places   map[string][]chunkstore.Place // of all that was put, by the key of the pack
}

// Set replaces the hooks; nil: none. An error of one is what Get returns.
func (h *Hooks) Set(chunk func(key string) error, manifest func() error) {
	h.mu.Lock()
	h.chunk, h.manifest = chunk, manifest
	h.mu.Unlock()
}

// OnRecord replaces the hook for Gets of records, and of checkpoints that are kept. nil: none.
func (h *Hooks) OnRecord(record func(key string) error) {
	h.mu.Lock()
	h.record = record
	h.mu.Unlock()
}

// Gets returns how many requests for packs, or for parts of them, there were so far.
func (h *Hooks) Gets() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.gets
}

// Objects returns how many chunks, leaves and nodes these requests were for, with those that lie
// between what was wanted.
func (h *Hooks) Objects() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.objects
}

func (h *Hooks) beforeChunk(key string, o chunkstore.GetOptions) error {
	if strings.Contains(key, "-") { // no pack's key has one
		return h.beforeRecord(key)
	}
	h.mu.Lock()
	h.gets++
	for _, p := range h.places[key] {
		off, end := int64(p.Offset), p.End()
		if o.Length == 0 || o.Offset <= off && end <= o.Offset+o.Length {
			h.objects++
		}
	}
	hook := h.chunk
	h.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(key)
}

func (h *Hooks) beforeRecord(key string) error {
	h.mu.Lock()
	hook := h.record
	h.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(key)
}

// put notes where something was put.
func (h *Hooks) put(places []chunkstore.Place) {
	h.mu.Lock()
	defer h.mu.Unlock()
	packs := map[chunkstore.Digest][]chunkstore.Place{}
	for _, place := range places {
		packs[place.Pack] = append(packs[place.Pack], place)
	}
	for name, places := range packs {
		h.places[name.String()] = places
	}
}

func (h *Hooks) beforeManifest(string, chunkstore.GetOptions) error {
	h.mu.Lock()
	hook := h.manifest
	h.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook()
}

type hookedBucket struct {
	chunkstore.Bucket
	before func(key string, o chunkstore.GetOptions) error
}

func (b hookedBucket) Get(
	ctx context.Context, key string, o chunkstore.GetOptions,
) (chunkstore.Object, error) {
	if err := b.before(key, o); err != nil {
		return chunkstore.Object{}, err
	}
	return b.Bucket.Get(ctx, key, o)
}

// New returns a publisher of the database h:/db into a directory, which has no version yet.
func New(t testing.TB) *Publisher {
	t.Helper()
	return NewSealed(t, chunkstore.Plain{})
}

// NewSealed is New with a target whose Sealer is s.
func NewSealed(t testing.TB, s chunkstore.Sealer) *Publisher {
	t.Helper()
	path := t.TempDir()
	config := []chunkstore.TargetConfig{&dir.Config{Path: path}}
	real, err := chunkstore.Open(context.Background(), config,
		chunkstore.Options{CallsPerSecond: -1})
	if err != nil {
		t.Fatal(err)
	}
	h := &Hooks{places: map[string][]chunkstore.Place{}}
	target := chunkstore.NewTarget("test", hookedBucket{real.Targets[0].Chunks, h.beforeChunk},
		hookedBucket{real.Targets[0].Manifests, h.beforeManifest})
	target.Sealer = s
	return &Publisher{
		t: t, Store: chunkstore.NewStore(target), Target: target, Dir: path, Hooks: h,
		tree: manifest.NewTree(target.Sealer, 0),
		Newest: manifest.Manifest{Host: "h", Path: "/db", Program: "test", Lineage: [16]byte{1},
			Continuity: 1, PageBytes: PageBytes},
	}
}

// URI names the database.
func (p *Publisher) URI() string { return "verneuil://" + p.Newest.Host + p.Newest.Path }

// Publish makes file the newest version. The pages at the offsets inline travel in
// the manifest; chunks that differ from the last version only there are not stored.
func (p *Publisher) Publish(file []byte, inline ...int64) *manifest.Manifest {
	p.t.Helper()
	m := p.Newest
	m.Sequence++
	binary.BigEndian.PutUint64(m.Cut[:], m.Sequence)
	if m.Time = p.Time; m.Time.IsZero() {
		m.Time = time.Unix(1700000000+int64(m.Sequence), 0)
	}
	m.SourceCtime = time.Unix(1600000000, 123456789)
	m.FileBytes = int64(len(file))
	m.Inline = nil
	slices.Sort(inline)
	for _, off := range inline {
		page := manifest.Page{Offset: off, Data: bytes.Clone(file[off : off+PageBytes])}
		m.Inline = append(m.Inline, page)
	}
	p.storeChunks(&m, file)
	if p.records {
		p.append(&m)
		p.changed = nil
		return &p.Newest
	}
	var err error
	m.Levels, m.Top, m.Patches, err = p.tree.Pack(context.Background(), 3, nil, p.putAll)
	if err != nil {
		p.t.Fatal(err)
	}
	p.Put(&m)
	p.Newest = m
	return &m
}

// storeChunks stores what chunks of file m's inline pages do not make of the last version's.
func (p *Publisher) storeChunks(m *manifest.Manifest, file []byte) {
	p.t.Helper()
	var chunks []int // of one group that is packed together
	var objects []chunkstore.Hashed
	flush := func() {
		places, err := p.putAll(objects)
		if err != nil {
			p.t.Fatal(err)
		}
		for k, i := range chunks {
			p.tree.Set(i, chunkstore.Ref{ID: objects[k].ID(), Place: places[k]})
			p.changed[i] = true
		}
		chunks, objects = nil, nil
	}
	if p.changed == nil {
		p.changed = map[int]bool{}
	}
	p.tree.Resize(m.Chunks())
	was := len(p.base)
	p.base = p.base[:min(was, len(file))]
	p.base = append(p.base, make([]byte, len(file)-len(p.base))...)
	for i := range m.Chunks() {
		start, n := i*chunkstore.ChunkBytes, m.ChunkBytes(i)
		want, have := file[start:start+n], p.base[start:start+n]
		grown, inline := min(was, start+n)-start, len(m.InlineOf(i)) > 0
		read := have
		if inline {
			read = m.Overlay(i, have)
		}
		if i < p.tree.Len() && (grown == n || grown > 0 && inline) && bytes.Equal(read, want) {
			continue
		}
		copy(have, want)
		if bytes.Equal(want, make([]byte, len(want))) {
			p.tree.Set(i, chunkstore.Ref{ID: chunkstore.ZeroID})
			p.changed[i] = true
			continue
		}
		if len(chunks) > 0 && chunks[0]/chunkstore.PackMax != i/chunkstore.PackMax {
			flush()
		}
		chunks = append(chunks, i)
		objects = append(objects, chunkstore.Hash(p.Target.Sealer, want))
	}
	flush()
}

// putAll is a [manifest.Put].
func (p *Publisher) putAll(objects []chunkstore.Hashed) ([]chunkstore.Place, error) {
	places, err := putAll(p.Target, objects, p.Clock)
	p.Hooks.put(places)
	return places, err
}

// PutAll stores objects in target, in as few packs as may be, and returns where each stands.
func PutAll(target *chunkstore.Target, objects []chunkstore.Hashed) ([]chunkstore.Place, error) {
	return putAll(target, objects, nil)
}

func putAll(
	target *chunkstore.Target, objects []chunkstore.Hashed, clock func() time.Time,
) (all []chunkstore.Place, err error) {
	for part := range slices.Chunk(objects, chunkstore.PackMax) {
		var pack chunkstore.Pack
		if clock != nil {
			pack.Date(clock())
		}
		for _, o := range part {
			pack.Seal(target.Sealer, o)
		}
		places, _, err := target.PutPack(context.Background(), &pack)
		if err != nil {
			return nil, err
		}
		all = append(all, places...)
	}
	return all, nil
}

// Put makes m the newest version, with the objects that are there already.
func (p *Publisher) Put(m *manifest.Manifest) {
	p.t.Helper()
	raw, err := m.Encode(p.Target.Sealer)
	if err != nil {
		p.t.Fatal(err)
	}
	name := manifest.Name(p.Target.Sealer, p.Newest.Host, p.Newest.Path)
	_, err = p.Target.Manifests.Put(context.Background(), name, raw, chunkstore.Condition{})
	if err != nil {
		p.t.Fatal(err)
	}
}

// Stamped is a file of so many pages that all begin with number, behind a header.
func Stamped(pages int, number uint64) []byte {
	file := make([]byte, pages*PageBytes)
	for i := range pages {
		page := file[i*PageBytes:]
		binary.BigEndian.PutUint64(page[128:], number)
		binary.BigEndian.PutUint64(page[136:], uint64(i)+1)
	}
	copy(file, Header(2, uint32(number)))
	return file
}

// Header is the first 100 bytes of a database: version is 1, or 2 for one in WAL mode.
func Header(version byte, counter uint32) []byte {
	h := make([]byte, 100)
	copy(h, "SQLite format 3\x00")
	h[18], h[19] = version, version
	binary.BigEndian.PutUint32(h[24:], counter)
	binary.BigEndian.PutUint32(h[92:], counter)
	return h
}
