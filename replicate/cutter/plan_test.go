package cutter

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

// load is a workload: the sectors of the file that transaction n changes, of chunks'
// sectors in all.
type load struct {
	name    string
	sectors func(rng *rand.Rand, n, sectors int) []int
}

// scatter spreads k over the file, always to the same sector.
func scatter(k, sectors int) int { return k * 1_000_003 % sectors }

// appended returns the sectors of the last table page and its header, when
// transaction n appends 120 bytes.
func appended(n, sectors int) []int {
	room := min(1<<16, sectors/2)
	at := sectors - room + n*120/sectorBytes%room
	return []int{at, at / 8 * 8}
}

var loads = []load{
	{"scattered", func(rng *rand.Rand, _, sectors int) []int { return []int{rng.IntN(sectors)} }},
	{"scattered inserts", func(rng *rand.Rand, _, sectors int) (at []int) {
		for range 3 { // a table and two indexes: a page's header and one cell
			page := rng.IntN(sectors/8) * 8
			at = append(at, page, page+3+rng.IntN(5))
		}
		return at
	}},
	{"skewed", func(rng *rand.Rand, _, sectors int) []int {
		return []int{scatter(int(rand.NewZipf(rng, 1.2, 4, uint64(sectors-1)).Uint64()), sectors)}
	}},
	{"20 hot pages", func(rng *rand.Rand, _, sectors int) []int {
		return []int{scatter(rng.IntN(20), sectors/8)*8 + rng.IntN(8)}
	}},
	{"3 counters",
		func(rng *rand.Rand, _, sectors int) []int { return []int{scatter(rng.IntN(3), sectors)} }},
	{"append", func(_ *rand.Rand, n, sectors int) []int { return appended(n, sectors) }},
	{"append, scattered index", func(rng *rand.Rand, n, sectors int) []int {
		page := rng.IntN(sectors/8) * 8
		return append(appended(n, sectors), page, page+3+rng.IntN(5))
	}},
}

// many is l with k transactions to a cut.
func (l load) many(k int) load {
	return load{fmt.Sprintf("%d x %s", k, l.name), func(rng *rand.Rand, n, sectors int) (at []int) {
		for j := range k {
			at = append(at, l.sectors(rng, n*k+j, sectors)...)
		}
		return at
	}}
}

// budgetRun is a database of which only what a cut decides by is there: which
// sectors differ from their chunks' objects, and the tree.
type budgetRun struct {
	rng   *rand.Rand
	tree  *manifest.Tree
	diffs map[int]*budgetDiff
	whole []int // chunks that are stored anew by the commit

	last    *manifest.Manifest
	patches []manifest.Patch // of the commit

	saved               int // bytes of the last checkpoint
	behind, behindBytes int // records after it

	requests, records []int
	puts, bytes       int // of packs and checkpoints
	opens             int // the sum of what a reader would fetch after each commit to have it
}

type budgetDiff struct {
	candidate
	sectors map[int][]byte
	packed  int
}

// row returns a sector after an update: half of it compresses.
func (r *budgetRun) row() []byte {
	b := make([]byte, sectorBytes)
	for k := range sectorBytes / 16 {
		binary.LittleEndian.PutUint64(b[k*16:], r.rng.Uint64())
	}
	return b
}

func (r *budgetRun) commit(b *testing.B, n int, sectors []int) {
	const perChunk = chunkstore.ChunkBytes / sectorBytes
	for _, at := range sectors {
		d := r.diffs[at/perChunk]
		if d == nil {
			d = &budgetDiff{candidate: candidate{index: at / perChunk},
				sectors: make(map[int][]byte)}
			r.diffs[d.index] = d
		}
		if d.stamp != uint64(n) {
			d.changes++
		}
		d.sectors[at], d.stamp = r.row(), uint64(n)
		d.plain = len(d.sectors) * sectorBytes
		var body []byte
		for _, at := range slices.Sorted(maps.Keys(d.sectors)) {
			body = append(body, d.sectors[at]...)
		}
		d.packed = len(chunkstore.SealObject(chunkstore.Plain{}, nil, chunkstore.ID{},
			body)) + inlineOverhead*len(d.sectors)
	}
	r.puts, r.whole, r.patches = 0, nil, nil
	var warm []candidate
	for i, d := range r.diffs {
		d.changed = d.stamp == uint64(n)
		if d.plain > inlineChunkMax {
			r.whole = append(r.whole, i)
		} else {
			warm = append(warm, d.candidate)
		}
	}
	// maps have no order
	slices.SortFunc(warm, func(a, b candidate) int { return cmp.Compare(a.index, b.index) })
	stay := fit(warm, func(c candidate) int { return r.diffs[c.index].packed })
	for _, c := range warm[goAlong(warm, stay, len(r.whole)):] {
		r.whole = append(r.whole, c.index)
	}
	r.putChunks()
	next := r.version()
	step := r.last.StepTo(next, r.patches, r.tree.Len())
	body, err := step.Encode()
	if err != nil {
		b.Fatal(err)
	}
	r.last = next
	r.behind, r.behindBytes = r.behind+1, r.behindBytes+len(body)
	if r.behind >= 64 || r.behindBytes >= 1<<19 { // as package courier
		r.checkpoint(b)
	}
	r.requests, r.records = append(r.requests, 1+r.puts), append(r.records, len(body))
	r.bytes += len(body)
	r.opens += r.saved + r.behindBytes
}

// version returns the version that the database is, but for its tree.
func (r *budgetRun) version() *manifest.Manifest {
	m := &manifest.Manifest{
		Host: "bench", Path: "/srv/data/app.db", Program: "verneuil", PageBytes: 4096,
		FileBytes: int64(r.tree.Len()) * chunkstore.ChunkBytes,
	}
	first := make([]byte, 4096)
	for k := range 40 { // a schema of 640 bytes, half of which compress, and a change counter
		binary.LittleEndian.PutUint64(first[k*16:], uint64(k)*0x9e3779b97f4a7c15)
	}
	binary.LittleEndian.PutUint64(first[24:], uint64(len(r.requests)))
	for _, page := range inSectors(0, len(first)) {
		b := first[page.off:][:page.bytes]
		m.Inline = append(m.Inline, manifest.Page{Offset: page.off, Data: b})
	}
	for _, d := range r.diffs {
		for at, b := range d.sectors {
			if at >= 8 {
				m.Inline = append(m.Inline, manifest.Page{Offset: int64(at) * sectorBytes, Data: b})
			}
		}
	}
	slices.SortFunc(m.Inline,
		func(a, b manifest.Page) int { return cmp.Compare(a.Offset, b.Offset) })
	return m
}

// checkpoint puts leaves, and a manifest.
func (r *budgetRun) checkpoint(b *testing.B) {
	m := *r.last
	var err error
	m.Levels, m.Top, m.Patches, err = r.tree.Pack(context.Background(), PatchesMax, nil, r.put)
	if err != nil {
		b.Fatal(err)
	}
	encoded, err := m.Encode(chunkstore.Plain{})
	if err != nil {
		b.Fatal(err)
	}
	r.puts++
	r.bytes += len(encoded)
	r.saved, r.behind, r.behindBytes = len(encoded), 0, 0
}

// putChunks stores what is whole, in packs.
func (r *budgetRun) putChunks() {
	slices.Sort(r.whole)
	for group := range slices.Chunk(r.whole, chunkstore.PackMax) {
		ref := chunkstore.Ref{Place: chunkstore.Place{Bytes: chunkstore.ChunkBytes * 3 / 4}}
		r.puts++
		r.draw(ref.Place.Pack[:])
		for _, i := range group {
			delete(r.diffs, i)
			r.draw(ref.ID[:])
			r.tree.Set(i, ref)
			r.patches = append(r.patches, manifest.Patch{Index: i, Ref: ref})
			r.bytes += int(ref.Place.Bytes)
			ref.Place.Offset += ref.Place.Bytes
		}
	}
}

func (r *budgetRun) draw(b []byte) {
	for k := 0; k < len(b); k += 8 {
		binary.LittleEndian.PutUint64(b[k:], r.rng.Uint64())
	}
}

// put is a [manifest.Put] of leaves and nodes.
func (r *budgetRun) put(objects []chunkstore.Hashed) (places []chunkstore.Place, err error) {
	for part := range slices.Chunk(objects, chunkstore.PackMax) {
		var p chunkstore.Pack
		for _, h := range part {
			p.Seal(chunkstore.Plain{}, h)
		}
		stored, _, at := p.Encode(chunkstore.Plain{})
		r.puts, r.bytes = r.puts+1, r.bytes+len(stored)
		places = append(places, at...)
	}
	return places, nil
}

// BenchmarkBudget is what plan.go and manifest's Pack are tuned by: requests and
// bytes of commits that are pushed one by one. -benchtime 3000x is long enough.
func BenchmarkBudget(b *testing.B) {
	all := slices.Clone(loads)
	for _, k := range []int{10, 100} {
		for _, l := range loads {
			all = append(all, l.many(k))
		}
	}
	for _, l := range all {
		for _, size := range []struct {
			name   string
			chunks int
		}{{"4MB", 64}, {"200MB", 3_052}, {"1GB", 15_259}, {"10GB", 152_588}, {"1TB", 15_258_790}} {
			b.Run(fmt.Sprintf("%s/%s", l.name, size.name), func(b *testing.B) {
				r := &budgetRun{
					rng: rand.New(rand.NewPCG(1, 2)), tree: manifest.NewTree(chunkstore.Plain{},
						size.chunks),
					diffs: make(map[int]*budgetDiff),
				}
				if _, _, _, err := r.tree.Pack(b.Context(), PatchesMax, nil, r.put); err != nil {
					b.Fatal(err)
				}
				r.last = r.version()
				r.checkpoint(b)
				r.bytes = 0
				for n := range b.N {
					r.commit(b, n+1,
						l.sectors(r.rng, n, size.chunks*chunkstore.ChunkBytes/sectorBytes))
				}
				slices.Sort(r.requests)
				slices.Sort(r.records)
				sum := 0
				for _, n := range r.requests {
					sum += n
				}
				b.ReportMetric(float64(sum)/float64(b.N), "req/commit")
				b.ReportMetric(float64(r.requests[b.N/2]), "req-median")
				b.ReportMetric(float64(r.requests[b.N*99/100]), "req-p99")
				b.ReportMetric(float64(r.records[b.N/2]), "record-B")
				b.ReportMetric(float64(r.records[b.N*99/100]), "record-p99-B")
				b.ReportMetric(float64(r.opens)/float64(b.N), "open-B")
				b.ReportMetric(float64(r.bytes)/float64(b.N), "B/commit")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// fit keeps what changes again and again, and lets everything else go at once.
func TestFit(t *testing.T) {
	const sixth = InlineBytesMax / 6
	packed := func(c candidate) int { return c.plain }
	make := func(changes ...int) (c []candidate) {
		for k, n := range changes {
			c = append(c, candidate{index: k, stamp: uint64(k), changes: n, plain: sixth})
		}
		return c
	}
	indexes := func(c []candidate) (is []int) {
		for _, c := range c {
			is = append(is, c.index)
		}
		return is
	}
	for _, test := range []struct {
		what string
		c    []candidate
		want []int
	}{
		{"nothing", nil, nil},
		{"all that the budget holds", make(1, 1, 1, 5, 1, 1), []int{3, 5, 4, 2, 1, 0}},
		{"what changed once", make(1, 1, 1, 5, 1, 1, 1), []int{3}},
		{"the coldest", make(2, 9, 2, 5, 7, 2, 3), []int{6, 5, 4}},
		{"none", make(1, 1, 1, 1, 1, 1, 1, 1), nil},
		{"one that is larger", []candidate{{index: 7, changes: 9, plain: InlineBytesMax + 1}}, nil},
	} {
		if n := fit(test.c, packed); !slices.Equal(indexes(test.c[:n]), test.want) {
			t.Errorf("%s: %v travel inline, want %v", test.what, indexes(test.c[:n]), test.want)
		}
	}
	sparse := make(2, 2)
	half := InlineBytesMax * inlinePlainRatio / 2
	sparse[0].plain, sparse[1].plain = half+1, half
	if n := fit(sparse, func(candidate) int { return 20 }); n != 1 {
		t.Errorf("%d travel inline, of more plain bytes than are allowed", n)
	}
	busy := make(slices.Repeat([]int{1}, 40)...)
	for k := range busy {
		busy[k].changed = k < 20
	}
	if n := fit(busy, packed); n != len(busy) {
		t.Errorf("%d of %d travel inline when 20 chunks have changed", n, len(busy))
	}
	if budget := inlineBudget(slices.Repeat(busy, 100)); budget != inlineBytesLimit {
		t.Errorf("budget %d of a cut of everything", budget)
	}
}

// goAlong fills the pack that is put anyway with what has much inline, and makes none for it.
func TestGoAlong(t *testing.T) {
	all := func() (c []candidate) {
		for k, part := range []int{1, 9, 3, 8, 2, 7} { // tenths of what a chunk may have
			c = append(c, candidate{index: k, plain: inlineChunkMax / 10 * part})
		}
		return c
	}
	for _, test := range []struct{ n, whole, stay int }{
		{6, 0, 6},                          // nothing is put
		{6, 1, 3},                          // a pack is
		{5, 0, 3},                          // likewise
		{6, chunkstore.PackMax - 2, 4},     // it has room for two
		{6, chunkstore.PackMax, 6},         // for none
		{6, 2*chunkstore.PackMax - 1, 5},   // the second one has, for one
		{3, 0, 2}, {2, 1, 1}, {0, 1000, 0}, // those after n go anyway
	} {
		c := all()
		stay := goAlong(c, test.n, test.whole)
		if stay != test.stay {
			t.Errorf("%v: %d stay", test, stay)
		}
		for _, left := range c[:stay] {
			for _, gone := range c[stay:test.n] {
				if left.plain > gone.plain {
					t.Errorf("%v: %d stays, and %d goes", test, left.index, gone.index)
				}
			}
		}
	}
}
