package courier

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

// stockModel is a stock and what it is about: the last version's tree, which a cutter changes, and
// a target, which has packs and a manifest. Pushes take their time.
type stockModel struct {
	*testing.T
	rand *rand.Rand
	ids  int // how many different chunks there are

	stock  stock
	last   *manifest.Tree
	target map[chunkstore.Digest]map[chunkstore.Ref][]byte // packs; nil bytes: a chunk
	named  *manifest.Tree                                  // by the target's manifest

	push   *push          // under way
	pushed *manifest.Tree // the last version's when it began
	harmed bool           // packs were lost since
	torn   bool           // leaves of the target's version are gone
	saving *saving        // a checkpoint under way, packed
	moving []moved        // put, and the stock is to be told
}

// moved is a chunk that stands in another place, too.
type moved struct {
	move
	to chunkstore.Place
}

func newStockModel(t *testing.T, seed uint64) *stockModel {
	m := &stockModel{
		T: t, rand: rand.New(rand.NewPCG(seed, 0)), ids: []int{5, 1000, math.MaxInt32}[seed%3],
		last:   manifest.NewTree(chunkstore.Plain{}, 0),
		target: make(map[chunkstore.Digest]map[chunkstore.Ref][]byte),
		named:  manifest.NewTree(chunkstore.Plain{}, 0),
	}
	m.stock.tree = m.named
	m.stock.compare(m.last, m.named)
	return m
}

// id is a random object's, of few or of many.
func (m *stockModel) id() chunkstore.ID {
	n := m.rand.IntN(m.ids)
	if n == 0 || m.rand.IntN(10) == 0 {
		return chunkstore.ZeroID
	}
	return testID(n)
}

// cut changes the last version's tree, as the cutter does, and tells the stock.
func (m *stockModel) cut() {
	if m.rand.IntN(4) == 0 {
		chunks := m.rand.IntN([]int{2, 60, 70, 3000}[m.rand.IntN(4)])
		m.last.Resize(chunks)
		m.stock.shortened(chunks)
	}
	for range min(m.last.Len(), []int{1, 4, 100, 3000}[m.rand.IntN(4)]) {
		i := m.rand.IntN(m.last.Len())
		if id := m.id(); m.last.At(i).ID != id {
			m.last.Set(i, chunkstore.Ref{ID: id})
			m.stock.renamed(i, id)
		}
	}
	if _, _, _, err := m.last.Pack(m.Context(), 72, nil, nil); err != nil {
		m.Fatal(err)
	}
}

// pack puts objects into the target, together; plain is nil for chunks.
func (m *stockModel) pack(ids []chunkstore.ID, plain [][]byte) (places []chunkstore.Place) {
	var list []byte
	for _, id := range ids {
		list = append(list, id[:]...)
	}
	name := chunkstore.Sum(list)
	has := make(map[chunkstore.Ref][]byte)
	for k, id := range ids {
		place := chunkstore.Place{Pack: name, Offset: uint32(100 * (k + 1)), Bytes: 100}
		places = append(places, place)
		if plain == nil {
			has[chunkstore.Ref{ID: id, Place: place}] = nil
		} else {
			has[chunkstore.Ref{ID: id, Place: place}] = plain[k]
		}
	}
	m.target[name] = has
	return places
}

// fetch gets leaves and nodes.
func (m *stockModel) fetch(_ context.Context, refs []chunkstore.Ref) (plain [][]byte, err error) {
	for _, ref := range refs {
		b := m.target[ref.Place.Pack][ref]
		if b == nil {
			return nil, fmt.Errorf("object %v: %w", ref.ID, chunkstore.ErrAbsent)
		}
		plain = append(plain, b)
	}
	return plain, nil
}

// repack puts chunks of the target's version into a new pack, or tells the stock of some.
func (m *stockModel) repack() {
	tree := m.stock.tree
	if len(m.moving) > 0 || tree.Len() == 0 {
		for _, v := range m.moving {
			m.stock.move(v.index, v.ref, v.to, m.last)
		}
		m.moving = nil
		return
	}
	var ids []chunkstore.ID
	seen := make(map[chunkstore.ID]bool)
	for range 1 + m.rand.IntN(64) {
		i := m.rand.IntN(tree.Len())
		ref, known := tree.Peek(i)
		if !known || ref.ID == chunkstore.ZeroID || m.target[ref.Place.Pack] == nil ||
			seen[ref.ID] {
			continue
		}
		seen[ref.ID] = true
		m.moving, ids = append(m.moving, moved{move: move{i, ref}}), append(ids, ref.ID)
	}
	m.rand.Shuffle(len(ids), func(a, b int) {
		ids[a], ids[b] = ids[b], ids[a]
		m.moving[a], m.moving[b] = m.moving[b], m.moving[a]
	})
	for k, place := range m.pack(ids, nil) {
		m.moving[k].to = place
	}
}

// begin begins a push.
func (m *stockModel) begin() {
	m.push = &push{change: m.stock.change(m.last, []int{1, 4, 64}[m.rand.IntN(3)])}
	m.push.version.FileBytes = int64(m.last.Len()) * chunkstore.ChunkBytes
	m.push.version.PageBytes = 4096
	if len(m.stock.lost) == 0 && !m.torn {
		m.push.base = m.stock.version
	}
	m.pushed, m.harmed = m.last.Clone(), false
}

// end ends the push that is under way: some of it is put, or all, and the manifest perhaps.
func (m *stockModel) end(what string) {
	p, c := m.push, &m.push.change
	defer func() { m.push = nil }()
	p.durable = make(map[chunkstore.ID]chunkstore.Place)
	fails := m.rand.IntN(3) == 0
	for k, chunks := range c.parcels {
		if fails && m.rand.IntN(2) == 0 {
			continue
		}
		var ids []chunkstore.ID
		for _, x := range chunks {
			ids = append(ids, x.id)
		}
		c.places[k] = m.pack(ids, nil)
		for n, id := range ids {
			p.durable[id] = c.places[k][n]
		}
	}
	if !fails {
		c.apply()
		if p.base != nil && m.rand.IntN(4) > 0 {
			m.step(what, p)
		} else {
			m.packTree(what, c.tree, &p.version)
			p.packed = true
		}
		p.named = true
		m.manifest(what, &p.version)
	}
	m.stock.took(p)
	if m.saving != nil && !fails {
		m.saving.note(p)
	}
	if !fails {
		m.stock.put, m.torn = nil, false
		again := m.stock.since
		m.stock.lost, m.stock.since = nil, nil
		if len(again) > 0 {
			m.stock.lose(again, m.last)
		}
	}
}

// step makes p's version by a record.
func (m *stockModel) step(what string, p *push) {
	m.Helper()
	step := p.base.StepTo(&p.version, p.change.patches, p.change.least)
	body, err := step.Encode()
	if err == nil {
		step, err = manifest.DecodeStep(body)
	}
	var next *manifest.Manifest
	if err == nil {
		next, err = p.base.Apply(step)
	}
	if err != nil {
		m.Fatalf("%s: %v", what, err)
	}
	p.version = *next
}

// packTree puts leaves and nodes, and has v say what the tree is.
func (m *stockModel) packTree(what string, tree *manifest.Tree, v *manifest.Manifest) {
	m.Helper()
	var err error
	v.Earlier = nil
	v.Levels, v.Top, v.Patches, err = tree.Pack(m.Context(), 72, m.fetch,
		func(objects []chunkstore.Hashed) (places []chunkstore.Place, err error) {
			for some := range slices.Chunk(objects, 64) {
				places = append(places, m.packObjects(some)...)
			}
			return places, nil
		})
	if err != nil {
		m.Fatalf("%s: %v", what, err)
	}
}

// checkpoint begins a checkpoint, or has the stock take one that was begun, if nothing was lost
// since.
func (m *stockModel) checkpoint(what string) {
	m.Helper()
	v := m.saving
	if v == nil && m.stock.version != nil && len(m.stock.lost) == 0 && !m.torn {
		v = &saving{tree: m.stock.tree.Clone(), version: *m.stock.version}
		m.packTree(what, v.tree, &v.version)
		m.saving = v
	} else if v != nil && m.push == nil {
		m.saving = nil
		v.adopt(&m.stock)
	}
}

// packObjects puts leaves or nodes.
func (m *stockModel) packObjects(objects []chunkstore.Hashed) []chunkstore.Place {
	var ids []chunkstore.ID
	var plain [][]byte
	for _, h := range objects {
		ids = append(ids, h.ID())
		var p chunkstore.Pack
		p.Seal(chunkstore.Plain{}, h)
		stored, name, _ := p.Encode(chunkstore.Plain{})
		pieces, err := chunkstore.DecodePack(chunkstore.Plain{}, name, stored)
		if err != nil {
			m.Fatal(err)
		}
		b, err := chunkstore.OpenObject(chunkstore.Plain{}, nil, h.ID(),
			slices.Clone(pieces[0].Stored))
		if err != nil {
			m.Fatal(err)
		}
		plain = append(plain, b)
	}
	return m.pack(ids, plain)
}

// manifest checks what is put: it names the objects of the version that was the last one when the
// push began, and stands where it says (Q2, Q3).
func (m *stockModel) manifest(what string, v *manifest.Manifest) {
	m.Helper()
	stored, err := v.Encode(chunkstore.Plain{})
	if err != nil {
		m.Fatalf("%s: %v", what, err)
	}
	if v, err = manifest.Decode(chunkstore.Plain{}, stored); err != nil {
		m.Fatalf("%s: %v", what, err)
	}
	m.named = v.Tree(chunkstore.Plain{})
	if m.named.Len() != m.pushed.Len() {
		m.Fatalf("%s: %d chunks, want %d", what, m.named.Len(), m.pushed.Len())
	}
	if m.harmed {
		m.named = m.push.change.tree.Clone()
	} else if err := m.named.Load(m.Context(), m.fetch); err != nil {
		m.Fatalf("%s: %v", what, err)
	}
	for i := range m.named.Len() {
		ref := m.named.At(i)
		if id := m.pushed.At(i).ID; ref.ID != id {
			m.Fatalf("%s: chunk %d of %d is %v, want %v", what, i, m.named.Len(), ref.ID, id)
		}
		if m.harmed {
			continue // the next one names nothing that is gone
		}
		if _, ok := m.target[ref.Place.Pack][ref]; !ok && ref.ID != chunkstore.ZeroID {
			m.Fatalf("%s: chunk %d of %d: %v is not at %+v", what, i, m.named.Len(), ref.ID,
				ref.Place)
		}
	}
}

// lose removes packs from the target, and tells of it.
func (m *stockModel) lose() {
	m.moving = nil
	gone := make(map[chunkstore.Digest]bool)
	byName := func(a, b chunkstore.Digest) int { return bytes.Compare(a[:], b[:]) }
	for _, name := range slices.SortedFunc(maps.Keys(m.target), byName) {
		if m.rand.IntN(4) == 0 {
			gone[name] = true
			delete(m.target, name)
		}
	}
	m.harmed = true
	if m.saving != nil {
		m.saving.stale = true
	}
	if m.stock.tree.Loaded() {
		m.stock.lose(gone, m.last)
		return
	}
	m.contact()
}

// contact has the stock know only what the target shows.
func (m *stockModel) contact() {
	m.moving = nil
	left := m.stock.version.Tree(chunkstore.Plain{})
	lost, err := left.Salvage(m.Context(), m.fetch)
	if err != nil {
		m.Fatal(err)
	}
	m.torn = lost != nil
	absent := func(name chunkstore.Digest) bool { return m.target[name] == nil }
	maps.DeleteFunc(m.stock.put, func(_ chunkstore.ID, p chunkstore.Place) bool {
		return absent(p.Pack)
	})
	if m.saving != nil {
		m.saving.stale = true
	}
	m.stock.tree = left
	m.stock.compare(m.last, left)
	gone := make(map[chunkstore.Digest]bool)
	for name := range packsOf(left) {
		if absent(name) {
			gone[name] = true
		}
	}
	m.stock.lose(gone, m.last)
}

// TestStock: whatever a cutter does before and during pushes, whatever of them fails, and whatever
// is lost: a push that succeeds brings the version that was the last one when it began, and all
// that it names stands there.
func TestStock(t *testing.T) {
	for seed := range uint64(240) {
		m := newStockModel(t, seed)
		lossy := seed%4 == 3
		for step := range 120 {
			what := fmt.Sprintf("seed %d, step %d", seed, step)
			switch a := m.rand.IntN(13); {
			case a < 4:
				m.cut()
			case a == 4 && lossy && (m.push == nil || m.stock.tree.Loaded()):
				m.lose()
			case a == 5 && m.push == nil && m.stock.version != nil && len(m.stock.lost) == 0 &&
				!m.torn:
				// leaves are left in the target
				m.stock.tree = m.stock.version.Tree(chunkstore.Plain{})
			case a == 6 && m.push == nil && m.stock.version != nil && m.rand.IntN(3) == 0:
				m.contact()
			case a == 7 || a == 8:
				m.checkpoint(what)
			case a == 12:
				m.repack()
			case m.push == nil:
				m.begin()
			default:
				m.end(what)
			}
		}
	}
}
