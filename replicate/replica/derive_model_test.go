package replica_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"testing"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/publishtest"
	. "verneuil/replicate/replica"
)

// edition is a version and its bytes, in a model.
type edition struct {
	m    *manifest.Manifest
	file []byte
	of   *edition // that it was made of
	v    *Version // nil: it was fetched
}

// model is what readers of a fed source are to see.
type model struct {
	*fed
	rng     *rand.Rand
	all     *Set
	readers []*Reader
	at      []*edition // of each reader
	newest  *edition   // that is published
	held    []*edition // derived, and not given back
	made    []*edition
	seed    maphash.Seed
	counted map[uint32]uint64 // contents by the change counter that they are shown with
	schemas map[uint32]uint32 // schemas by the cookie that they are shown with
}

// schemaAt is where the model's files name their schema, which the cookie is to tell.
const schemaAt = 1000

func newModel(t testing.TB, seed uint64, chunks int) *model {
	file := random(chunks*chunkstore.ChunkBytes, byte(seed))
	clear(file[3*chunkstore.ChunkBytes : (chunks-10)*chunkstore.ChunkBytes])
	m := &model{fed: newFed(t, file), rng: rand.New(rand.NewPCG(seed, 1)), seed: maphash.MakeSeed(),
		counted: map[uint32]uint64{}, schemas: map[uint32]uint32{}}
	m.all = m.follow(Options{Linger: -1})
	m.newest = &edition{m: m.fed.newest, file: file}
	m.made = append(m.made, m.newest)
	for range 4 {
		r, err := m.all.OpenFrom(t.Context(), m.fed)
		if err != nil {
			t.Fatal(err)
		}
		m.readers, m.at = append(m.readers, r), append(m.at, m.newest)
	}
	return m
}

// change returns a file that a transaction makes of file, which SQLite was shown with that counter
// and cookie, and how long it was at least. Where it has changed the schema, it says so.
func (m *model) change(file []byte, counter, cookie uint32) (next []byte, shortest int) {
	file = bytes.Clone(file)
	const pageMin = 4
	how := m.rng.IntN(9)
	if how < 2 { // it shrinks
		n := pageMin + m.rng.IntN(len(file)/block-pageMin+1)
		file = file[:n*block]
	}
	shortest = len(file)
	if how > 0 && how < 3 { // it grows
		more := make([]byte, (1+m.rng.IntN(400))*block)
		if m.rng.IntN(2) == 0 {
			copy(more[m.rng.IntN(len(more)):], "more")
		}
		file = append(file, more...)
	}
	for range m.rng.IntN(6) {
		binary.BigEndian.PutUint32(file[4+block*m.rng.IntN(len(file)/block)+2000:], m.rng.Uint32())
	}
	if m.rng.IntN(5) > 0 { // page 1 is written, with what was shown
		count(file, counter)
		binary.BigEndian.PutUint32(file[40:], cookie)
		if m.rng.IntN(4) == 0 {
			binary.BigEndian.PutUint32(file[40:], cookie+1)
			binary.BigEndian.PutUint32(file[schemaAt:], m.rng.Uint32())
		}
	}
	return file, shortest
}

// derive has reader k write, and moves it and perhaps others to what is derived.
func (m *model) derive(k int) error {
	r, of := m.readers[k], m.at[k]
	counter, cookie := shown(m.t, r)
	e := &edition{of: of}
	var shortest int
	var chunks map[int][]byte
	e.file, shortest = m.change(of.file, counter+1, cookie)
	inline := m.rng.IntN(3) > 0 && inlineBytes(of.m) < 1<<20
	e.m, chunks = m.successor(r.Manifest(), of.file, e.file, shortest, inline)
	if m.rng.IntN(4) == 0 {
		chunks = nil
	}
	if m.rng.IntN(10) == 0 {
		e.m = m.packed(e.m)
	}
	wrote := binary.BigEndian.Uint32(e.file[24:])
	var err error
	if e.v, err = r.Derive(context.Background(), e.m, wrote, chunks); err != nil {
		return err
	}
	m.held, m.made = append(m.held, e), append(m.made, e)
	r.MoveTo(e.v)
	m.at[k] = e
	if m.rng.IntN(2) == 0 {
		k := m.rng.IntN(len(m.readers))
		m.readers[k].MoveTo(e.v)
		m.at[k] = e
	}
	return nil
}

func inlineBytes(m *manifest.Manifest) (n int) {
	for _, p := range m.Inline {
		n += len(p.Data)
	}
	return n
}

// descends reports whether e was made of other, or is it.
func (e *edition) descends(other *edition) bool {
	for ; e != nil; e = e.of {
		if e == other {
			return true
		}
	}
	return false
}

// end publishes a derived version, or has it fail.
func (m *model) end() {
	if len(m.held) == 0 {
		return
	}
	k := m.rng.IntN(len(m.held))
	e := m.held[k]
	m.held = append(m.held[:k:k], m.held[k+1:]...)
	if e.descends(m.newest) && e != m.newest && m.rng.IntN(3) > 0 {
		m.newest = e
		if m.rng.IntN(2) == 0 {
			m.set(e.m)
		}
	} else if m.newest.m.Head().Supersedes(e.m.Head()) && m.rng.IntN(2) == 0 {
		e.v.Publish() // too late
		e.v.Release()
		return
	} else {
		e.v.Release()
		return
	}
	e.v.Publish()
	e.v.Release()
}

// another has another process write, and one reader find it.
func (m *model) another(k int) error {
	cookie := binary.BigEndian.Uint32(m.newest.file[40:])
	e := &edition{of: m.newest}
	var shortest int
	e.file, shortest = m.change(m.newest.file, m.rng.Uint32(), cookie)
	e.m, _ = m.successor(m.newest.m, m.newest.file, e.file, shortest, m.rng.IntN(2) == 0)
	if m.rng.IntN(4) == 0 {
		e.m = m.packed(e.m)
	}
	m.set(e.m)
	m.newest, m.made = e, append(m.made, e)
	m.at[k] = e
	return m.readers[k].Refresh(context.Background(), true)
}

// restate has reader k go on with another description of its version.
func (m *model) restate(k int) error {
	r, e := m.readers[k], *m.at[k]
	before, gets := r.Counter(), m.Hooks.Gets()
	e.m = r.Manifest()
	cached := func() (n int) {
		for page := range len(e.file) / block {
			if r.Cached(int64(page*block), block) {
				n++
			}
		}
		return n
	}
	had, how := cached(), m.rng.IntN(3)
	if how > 0 {
		e.m = m.folded(e.m, e.file)
	}
	if how < 2 {
		e.m = m.packed(e.m)
		gets = m.Hooks.Gets()
	}
	if err := r.Restate(e.m); err != nil {
		return err
	}
	// Of what is folded, and in a tree that is not there, it is not known in which object it is.
	// What is folded, and was not all there, is not there.
	if n := cached(); how == 0 && n < had {
		return fmt.Errorf("%d pages are there, which were %d", n, had)
	}
	if r.Counter() != before || m.Hooks.Gets() > gets {
		return fmt.Errorf("restated as another version, or by requests")
	}
	return nil
}

// fold has another process fold the inline pages of the newest version, and reader k find that.
func (m *model) fold(k int) error {
	m.readers[k].Adopt()
	m.at[k] = m.newest
	e := &edition{file: m.newest.file, of: m.newest}
	folded := *m.folded(m.readers[k].Manifest(), e.file)
	folded.Sequence++
	binary.BigEndian.PutUint64(folded.Cut[:], m.rng.Uint64())
	e.m = &folded
	var cached []int64
	for off := int64(chunkstore.ChunkBytes); off < int64(len(e.file)); off += block {
		if m.readers[k].Cached(off-off%chunkstore.ChunkBytes, chunkstore.ChunkBytes) {
			cached = append(cached, off)
		}
	}
	m.set(e.m)
	m.newest, m.made, m.at[k] = e, append(m.made, e), e
	if err := m.readers[k].Refresh(context.Background(), true); err != nil {
		return err
	}
	for _, off := range cached {
		if !m.readers[k].Cached(off, block) {
			return fmt.Errorf("page %d was there before pages were folded", off/block)
		}
	}
	return nil
}

// folded is m, whose bytes are file, with all inline pages but page 1 in chunks.
func (m *model) folded(of *manifest.Manifest, file []byte) *manifest.Manifest {
	next := *of
	next.Inline = nil
	var changed []manifest.Patch
	for _, p := range of.Inline {
		i := int(p.Offset / chunkstore.ChunkBytes)
		if p.Offset == 0 { // as compose leaves it
			next.Inline = append(next.Inline, p)
			continue
		}
		start := i * chunkstore.ChunkBytes
		object := chunkstore.Hash(m.Target.Sealer, file[start:start+of.ChunkBytes(i)])
		places, err := publishtest.PutAll(m.Target, []chunkstore.Hashed{object})
		if err != nil {
			m.t.Fatal(err)
		}
		ref := chunkstore.Ref{ID: object.ID(), Place: places[0]}
		if object.ID() == chunkstore.ZeroID {
			ref.Place = chunkstore.Place{}
		}
		if n := len(changed); n > 0 && changed[n-1].Index == i {
			continue
		}
		changed = append(changed, manifest.Patch{Index: i, Ref: ref})
	}
	folded, err := of.Apply(of.StepTo(&next, changed, of.Chunks()))
	if err != nil {
		m.t.Fatal(err)
	}
	return folded
}

// check compares some of what reader k sees, as Go and as C read it.
func (m *model) check(k int) error {
	r, e := m.readers[k], m.at[k]
	if r.Manifest().Cut != e.m.Cut {
		return fmt.Errorf("at version %d, not %d", r.Manifest().Sequence, e.m.Sequence)
	}
	if fault := r.Fault(); fault != "" {
		return fmt.Errorf("%s", fault)
	}
	counter, cookie := shown(m.t, r)
	if counter != r.Counter() {
		return fmt.Errorf("counter %d is shown as %d", r.Counter(), counter)
	}
	content := maphash.Bytes(m.seed, e.file)
	if other, ok := m.counted[counter]; ok && other != content {
		return fmt.Errorf("D3: two contents with counter %d", counter)
	}
	m.counted[counter] = content
	schema := binary.BigEndian.Uint32(e.file[schemaAt:])
	if other, ok := m.schemas[cookie]; ok && other != schema {
		return fmt.Errorf("D4: two schemas with cookie %d", cookie)
	}
	m.schemas[cookie] = schema
	for range 30 {
		page := m.rng.IntN(len(e.file) / block)
		want := e.file[page*block:][:block]
		if page == 0 {
			want = shownAs(want, counter, cookie)
		}
		off, got := int64(page*block), make([]byte, block)
		if r.ReadAsC(got, off) && !bytes.Equal(got, want) {
			return fmt.Errorf("D1: C reads another page %d", page)
		}
		read := r.ReadBase
		if m.rng.IntN(2) == 0 {
			read = r.Read
		}
		ctx, cancel := context.WithCancel(context.Background())
		cached := r.Cached(off, block)
		if cached {
			cancel() // what is there needs no request
		}
		err := read(ctx, got, off)
		if cancel(); err != nil && cached {
			return fmt.Errorf("page %d is there, and was asked for: %w", page, err)
		} else if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("D1: Go reads another page %d", page)
		}
	}
	return nil
}

// shownAs is page 1 as it is shown.
func shownAs(page []byte, counter, cookie uint32) []byte {
	page = bytes.Clone(page)
	page[18], page[19] = 1, 1
	count(page, counter)
	binary.BigEndian.PutUint32(page[40:], cookie)
	return page
}

// TestDeriveModel: whatever is derived, published, fails, or is fetched meanwhile: each reader sees
// the bytes of its version, and what is given back is free.
func TestDeriveModel(t *testing.T) {
	for seed := range uint64(6) {
		chunks, steps := 40, 150
		if seed > 3 { // several parts
			chunks, steps = 300+200*int(seed%2), 60
		}
		m := newModel(t, seed, chunks)
		for step := range steps {
			k := m.rng.IntN(len(m.readers))
			var err error
			what := m.rng.IntN(12)
			switch what {
			case 0, 1, 2, 3:
				err = m.derive(k)
			case 4, 5:
				m.end()
			case 6:
				err = m.another(k)
			case 7:
				m.readers[k].Adopt()
				m.at[k] = m.newest
			case 8:
				v := m.readers[0].Version()
				m.readers[k].MoveTo(v)
				v.Release()
				m.at[k] = m.at[0]
			case 9:
				err = m.readers[k].Refresh(context.Background(), m.rng.IntN(2) == 0)
				m.at[k] = m.newest
			case 10:
				err = m.restate(k)
			case 11:
				err = m.fold(k)
			}
			if err == nil {
				err = m.check(k)
			}
			if err != nil {
				t.Fatalf("seed %d, step %d (%d), reader %d: %v", seed, step, what, k, err)
			}
		}
		for _, e := range m.held {
			e.v.Release()
		}
		for _, r := range m.readers {
			r.Close()
		}
		awaitNoSlots(t, m.all)
		if n := m.all.MemoryInUse(); n != 0 {
			t.Errorf("seed %d: %d bytes of tables in use", seed, n)
		}
	}
}

// packed is m described anew, as a checkpoint is.
func (f *fed) packed(m *manifest.Manifest) *manifest.Manifest {
	f.t.Helper()
	tree := m.Tree(f.Target.Sealer)
	fetch := func(ctx context.Context, refs []chunkstore.Ref) ([][]byte, error) {
		return f.Store.GetObjects(ctx, f.Target, refs)
	}
	if err := tree.Load(context.Background(), fetch); err != nil {
		f.t.Fatal(err)
	}
	packed := *m
	var err error
	packed.Levels, packed.Top, packed.Patches, err = tree.Pack(context.Background(), 3, fetch,
		func(objects []chunkstore.Hashed) ([]chunkstore.Place, error) {
			return publishtest.PutAll(f.Target, objects)
		})
	if err != nil {
		f.t.Fatal(err)
	}
	packed.Earlier = nil
	return &packed
}
