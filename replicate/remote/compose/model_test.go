package compose_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/remote/compose"
	"verneuil/spool/sqlitefile"
	"verneuil/test/crash"
)

// content reads a version as a replica does: objects, with inline pages over them.
func content(t testing.TB, target *chunkstore.Target, m *manifest.Manifest) []byte {
	t.Helper()
	return contentBy(t, target.GetObjects, m)
}

// file is a version of a file, and who reads it as [compose.Base].
type file struct {
	bytes  []byte
	cached func(off int64, n int) bool // nil: all is
	plain  bool                        // the header is shown as it is stored
}

func (f *file) ReadBase(_ context.Context, p []byte, off int64) error {
	clear(p)
	if off < int64(len(f.bytes)) {
		copy(p, f.bytes[off:])
	}
	if h := (*sqlitefile.Header)(nil); off == 0 && len(p) >= len(h) && !f.plain {
		if h = (*sqlitefile.Header)(p); h.IsDatabase() { // as a replica shows it
			h.SetChangeCounter(h.ChangeCounter() + 1000)
			h.SetSchemaCookie(h.SchemaCookie() + 3)
		}
	}
	return nil
}

func (f *file) Cached(off int64, n int) bool {
	if off < 0 || n <= 0 || off+int64(n) > int64(len(f.bytes)) {
		panic(fmt.Sprintf("%d bytes at %d of %d", n, off, len(f.bytes)))
	}
	return f.cached == nil || f.cached(off, n)
}

// change is a [compose.Change] with its blocks.
type change struct {
	bytes  int64
	blocks map[int64][]byte
}

func (c *change) asChange() compose.Change {
	offsets := slices.Sorted(maps.Keys(c.blocks))
	return compose.Change{Bytes: c.bytes, Offsets: offsets, Read: func(k int, p []byte) error {
		if len(p) != compose.BlockBytes {
			return fmt.Errorf("block of %d bytes", len(p))
		}
		copy(p, c.blocks[offsets[k]])
		return nil
	}}
}

// apply returns what c makes of base.
func (c *change) apply(base []byte) []byte {
	is := make([]byte, c.bytes)
	copy(is, base)
	for off, block := range c.blocks {
		copy(is[off:], block)
	}
	return is
}

// noise fills b, compressibly at times.
func noise(rng *rand.Rand, b []byte) {
	if rng.IntN(8) == 0 {
		clear(b)
		return
	}
	for i := range b {
		b[i] = byte(rng.Uint32() & 15)
	}
}

// header makes b begin as that of a database.
func header(b []byte, pageBytes int, pages, counter uint32, valid bool) {
	copy(b, "SQLite format 3\x00")
	binary.BigEndian.PutUint16(b[16:], uint16(pageBytes))
	if pageBytes == 65536 {
		binary.BigEndian.PutUint16(b[16:], 1)
	}
	b[18], b[19] = 1, 1
	binary.BigEndian.PutUint32(b[24:], counter)
	binary.BigEndian.PutUint32(b[28:], pages)
	binary.BigEndian.PutUint32(b[92:], counter)
	if !valid {
		binary.BigEndian.PutUint32(b[92:], counter+1)
	}
}

// model is a database, and what is stored of it.
type model struct {
	t         testing.TB
	rng       *rand.Rand
	c         *compose.Composer
	target    *chunkstore.Target
	budgets   compose.Budgets
	raw       bool // it is no database
	pageBytes int
	counter   uint32
	excess    int // bytes inline that another program has left

	newest *manifest.Manifest
	bytes  []byte

	joined *compose.Draft // of versions since onto
	onto   *manifest.Manifest

	folded     *compose.Folded
	checkpoint struct{ from, packed *manifest.Manifest }
}

func newModel(t testing.TB, rng *rand.Rand) *model {
	w := &model{t: t, rng: rng, target: newTarget(newBucket()), newest: new(manifest.Manifest)}
	w.budgets = compose.Budgets{
		Record: 4096 * (1 + rng.IntN(40)), Soft: 4096 * (1 + rng.IntN(60)),
		Patches: 1 + rng.IntN(60),
	}
	w.budgets.Hard = w.budgets.Soft + 4096*rng.IntN(60)
	w.c = compose.New(compose.Options{Target: w.target, Program: "test", Budgets: w.budgets})
	w.raw, w.pageBytes = rng.IntN(4) == 0, 512<<rng.IntN(8)
	if w.raw {
		w.pageBytes = 4096
	}
	w.onto = w.newest
	return w
}

// size returns how long the file is after a random change.
func (w *model) size() int64 {
	rng, unit := w.rng, w.pageBytes
	if w.raw {
		unit = 1 + rng.IntN(700)
	}
	some := func(most int) int64 { return int64(rng.IntN(most/unit+2)) * int64(unit) }
	is := int64(len(w.bytes))
	switch rng.IntN(6) {
	case 0, 1:
		is += some(40000)
	case 2:
		is -= some(100000)
	case 3:
		is += some(400000)
	case 4:
		if rng.IntN(8) == 0 {
			is = some(3000000)
		}
	}
	if w.raw && rng.IntN(30) > 0 {
		return max(is, 0)
	}
	return max(is, int64(unit))
}

// write makes a random change.
func (w *model) write() *change {
	rng := w.rng
	is := w.size()
	c := &change{bytes: is, blocks: make(map[int64][]byte)}
	base := &file{bytes: w.bytes, plain: true}
	blocks := int(is+compose.BlockBytes-1) / compose.BlockBytes
	if blocks == 0 {
		return c
	}
	write := func(k int) {
		block := make([]byte, compose.BlockBytes)
		off := int64(k) * compose.BlockBytes
		must(w.t, base.ReadBase(context.Background(), block, off))
		if rng.IntN(6) > 0 {
			noise(rng, block)
		}
		if end := is - off; end < int64(len(block)) { // what is beyond does not count
			noise(rng, block[end:])
		}
		c.blocks[off] = block
	}
	for range rng.IntN(6) {
		write(rng.IntN(blocks))
	}
	for range rng.IntN(3) * rng.IntN(2) {
		from := rng.IntN(blocks)
		for k := from; k < min(blocks, from+rng.IntN(60)); k++ {
			write(k)
		}
	}
	if grown := int(int64(len(w.bytes)) / compose.BlockBytes); rng.IntN(2) == 0 {
		for k := grown; k < blocks; k++ { // as SQLite does, with holes
			if rng.IntN(5) > 0 {
				write(k)
			}
		}
	}
	if w.raw {
		return c
	} else if len(w.bytes) > 0 && rng.IntN(10) == 0 {
		delete(c.blocks, 0)
		return c
	}
	write(0)
	w.counter++
	pages := is / int64(w.pageBytes)
	if rng.IntN(4) == 0 { // VACUUM cuts it off later
		pages = 1 + rng.Int64N(pages)
	}
	header(c.blocks[0], w.pageBytes, uint32(pages), w.counter, rng.IntN(3) > 0)
	if rng.IntN(4) == 0 {
		c.blocks[0][18], c.blocks[0][19] = 2, 2 // WAL mode
	}
	return c
}

// becomes returns what the file is after c.
func (w *model) becomes(c *change) []byte {
	want := c.apply(w.bytes)
	if w.raw || len(want) == 0 {
		return want
	}
	want[18], want[19] = 1, 1
	pages := int(binary.BigEndian.Uint32(want[28:]))
	if string(want[24:28]) == string(want[92:96]) && pages*w.pageBytes < len(want) {
		want = want[:pages*w.pageBytes]
	}
	return want
}

// commit composes a version of a random change, and checks it.
func (w *model) commit() {
	w.t.Helper()
	c := w.write()
	want := w.becomes(c)
	base := &file{bytes: w.bytes}
	if w.rng.IntN(3) == 0 {
		base.cached = func(int64, int) bool { return w.rng.IntN(2) == 0 }
	}
	d, err := w.c.Compose(context.Background(), w.newest, c.asChange(), base)
	must(w.t, err)
	if d == nil {
		if !bytes.Equal(want, w.bytes) {
			w.t.Fatal("there is a change, and no version")
		}
		return
	}
	w.took(d, want)
	pageBytes := 4096
	if !w.raw {
		pageBytes = w.pageBytes
	}
	if len(want) == 0 {
		pageBytes = 0
	}
	if m := d.Version; !w.raw && m.ChangeCounter != w.counter || m.PageBytes != pageBytes {
		w.t.Fatalf("counter %d, pages of %d bytes, want %d and %d", m.ChangeCounter, m.PageBytes,
			w.counter, pageBytes)
	}
}

// foreign has the newest version say inline what another program might, which knows no blocks.
func (w *model) foreign() {
	w.t.Helper()
	if len(w.bytes)%512 > 0 || len(w.bytes) == 0 {
		return
	}
	inline := make([]bool, len(w.bytes)/512)
	for _, p := range w.newest.Inline {
		for k := range len(p.Data) / 512 {
			inline[int(p.Offset)/512+k] = true
		}
	}
	for range w.rng.IntN(4) {
		from := w.rng.IntN(len(inline))
		for k := from; k < min(len(inline), from+w.rng.IntN(20)); k++ {
			inline[k] = true
		}
	}
	m := *w.newest
	m.Inline = nil
	for k := 0; k < len(inline); k++ {
		from := k
		for k < len(inline) && inline[k] && (k == from || k%128 > 0 && w.rng.IntN(12) > 0) {
			k++
		}
		if k > from {
			m.Inline = append(m.Inline, manifest.Page{
				Offset: int64(from) * 512, Data: bytes.Clone(w.bytes[from*512 : k*512]),
			})
			k--
		}
	}
	w.join()
	w.newest, w.onto = &m, &m
	w.same(w.newest, w.bytes)
	w.excess = bytesInline(w.newest, w.pageBytes)
}

// bytesInline returns how much a version has inline, but for page 1.
func bytesInline(m *manifest.Manifest, pageBytes int) (n int) {
	first := int64(max(pageBytes, compose.BlockBytes))
	for _, p := range m.Inline {
		n += int(max(0, p.Offset+int64(len(p.Data))-max(p.Offset, first)))
	}
	return n
}

// took checks a draft over the newest version, which it replaces.
func (w *model) took(d *compose.Draft, want []byte) {
	w.t.Helper()
	m := d.Version
	if m.Sequence != w.newest.Sequence+1 || m.Cut == w.newest.Cut {
		w.t.Fatalf("sequence %d after %d", m.Sequence, w.newest.Sequence)
	}
	w.same(m, want)
	w.steps(w.newest, d)
	most := max(w.budgets.Hard, w.excess)
	if n := bytesInline(m, w.pageBytes); n > most {
		w.t.Fatalf("%d bytes inline, at most %d are allowed", n, most)
	}
	if p := m.Inline; !w.raw && len(want) > 0 && (len(p) == 0 || p[0].Offset != 0 ||
		len(p[0].Data) < 512) {
		w.t.Fatal("page 1 is not inline")
	}
	tree := m.Tree(w.target.Sealer)
	for i, chunk := range d.Chunks {
		ref, err := tree.Lookup(context.Background(), i, w.target.GetObjects)
		must(w.t, err)
		if chunkstore.HashChunk(w.target.Sealer, chunk).ID() != ref.ID {
			w.t.Fatalf("chunk %d is not what the tree has", i)
		}
	}
	w.joined = compose.Join(w.joined, d)
	w.newest, w.bytes = m, want
}

// steps checks what the record of d says (C3).
func (w *model) steps(base *manifest.Manifest, d *compose.Draft) {
	w.t.Helper()
	body, err := d.Step(base).Encode()
	must(w.t, err)
	step, err := manifest.DecodeStep(body)
	must(w.t, err)
	next, err := base.Apply(step)
	must(w.t, err)
	equal(w.t, next, d.Version)
}

// equal checks that two manifests are the same when they are stored.
func equal(t testing.TB, a, b *manifest.Manifest) {
	t.Helper()
	x, err := a.Encode(chunkstore.Plain{})
	must(t, err)
	y, err := b.Encode(chunkstore.Plain{})
	must(t, err)
	if !bytes.Equal(x, y) {
		t.Fatalf("\n%+v is not\n%+v", a, b)
	}
}

func (w *model) same(m *manifest.Manifest, want []byte) {
	w.t.Helper()
	if m.FileBytes != int64(len(want)) {
		w.t.Fatalf("%d bytes, want %d", m.FileBytes, len(want))
	}
	got := content(w.t, w.target, m)
	if !bytes.Equal(got, want) {
		for i := range got {
			if got[i] != want[i] {
				w.t.Fatalf("byte %d of %d is %d, want %d (chunk %d, block %d)", i, len(got), got[i],
					want[i], i/chunkstore.ChunkBytes, i/compose.BlockBytes)
			}
		}
	}
}

func (w *model) join() {
	w.t.Helper()
	if w.joined != nil {
		w.steps(w.onto, w.joined)
		if !reflect.DeepEqual(w.joined.Version, w.newest) {
			w.t.Fatal("joined drafts do not lead to the newest version")
		}
	}
	w.joined, w.onto = nil, w.newest
}

func (w *model) fold() {
	w.t.Helper()
	if w.folded == nil {
		var err error
		w.folded, err = w.c.Fold(context.Background(), w.newest, &file{bytes: w.bytes})
		must(w.t, err)
		return
	}
	if d := w.folded.Onto(w.newest); d != nil {
		w.took(d, w.bytes)
	}
	w.folded = nil
}

func (w *model) save() {
	w.t.Helper()
	if w.checkpoint.packed == nil {
		packed, _, err := w.c.Checkpoint(context.Background(), w.newest)
		must(w.t, err)
		if packed.Earlier != nil || len(packed.Patches) > 48 {
			w.t.Fatal("a checkpoint has no tree of its own")
		}
		w.same(packed, w.bytes)
		w.checkpoint.from, w.checkpoint.packed = w.newest, packed
		return
	}
	w.join()
	moved := compose.Rebase(w.checkpoint.from, w.checkpoint.packed, w.newest)
	w.same(moved, w.bytes)
	if len(moved.Patches) > len(w.newest.Patches)+48 {
		w.t.Fatalf("%d patches became %d", len(w.newest.Patches), len(moved.Patches))
	}
	w.newest, w.onto = moved, moved
	w.folded = w.folded.Rebase(w.checkpoint.from, w.checkpoint.packed)
	w.checkpoint.packed = nil
}

func (w *model) run(n int) {
	w.t.Helper()
	for range n {
		switch w.rng.IntN(10) {
		case 0:
			w.fold()
		case 1:
			w.save()
		case 2:
			w.join()
		case 3:
			if w.rng.IntN(3) == 0 {
				w.foreign()
			}
		default:
			w.commit()
		}
	}
}

// TestVersionsAreWhatWasWrittenBySeed: C1, C3, C4 and C5, for random changes of all kinds.
func TestVersionsAreWhatWasWrittenBySeed(t *testing.T) {
	for seed := range crash.Seeds(t, 40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			newModel(t, rand.New(rand.NewPCG(seed, 1))).run(40)
		})
	}
}
