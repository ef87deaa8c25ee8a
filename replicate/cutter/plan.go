package cutter

import (
	"cmp"
	"slices"

	"verneuil/chunkstore"
	"verneuil/replicate/mirror"
	"verneuil/spool/sqlitefile"
)

// What a small transaction costs. A chunk that changed is put whole, for a part of a request and
// some 50 KB, and then its name and place stand in the record (46 bytes, that do not compress, and
// 32 for the pack), and a leaf is rewritten at the next checkpoint, which is 21 KB. Or
// the sectors that differ travel inline: a record has those that are new, each of a few hundred
// bytes, and a checkpoint has all of them.
//
// So what travels inline costs nothing more until the next checkpoint, after 64 records, say. It is
// bounded by what a reader fetches who opens the database, as a checkpoint is the first thing that
// he needs, and by what the writer notes of each version in the spool. Where the
// same pages change again and again, inline sectors save a chunk and a request for each commit.
// Where changes are scattered they save no chunk, as each is put in the end; but then a request
// puts many of them, and most commits have the lag of one request. So the sectors gather until they
// outgrow InlineBytesMax; then chunks that changed only once are put together, at most InlineBatch
// if that is enough, and the warmest of the others stay, up to half of it.
//
// To put them takes longer than to put a record: some 50 ms for a pack of 64, which have to be
// read, hashed and compressed. So no version waits for it, if it need not: what is to be put goes
// on to travel inline, as far as there is room for it (inlineFoldMax), and a [Fold] puts it
// meanwhile. The next version names the new objects. Only what is too much for that, and chunks of
// which nobody could make the object any more, are put before the record that names them.
//
// A cut of many transactions changes many chunks, and may carry more: for each chunk
// beyond inlineChunksFew another inlineBytesPerChunk, up to inlineBytesLimit. To put those chunks
// would be 50 KB for each, of which most are put again soon.
//
// BenchmarkBudget has the figures: requests and KB sent for a commit that is pushed by itself, and
// what a reader fetches on average, in KB, to open the database after it (the checkpoint and the
// records that follow it), for databases of 4 MB to 10 GB, by InlineBytesMax:
//
//	                          6 KiB            16 KiB           32 KiB           64 KiB
//	scattered updates         1.09-1.11 50 27  1.05-1.07 49 33  1.03-1.06 48 43  1.02-1.06 46 72
//	inserts, 2 random indexes 1.32-1.44 150 58 1.18-1.20 150 73 1.12-1.13 150 87 1.06-1.11 149 108
//	20 hot pages              1.09 31 25       1.04 15 31       1.02 5 40        1.02 1 55
//	append, 1 random index    1.17-1.20 52 50  1.08-1.10 52 57  1.05-1.07 52 67  1.03-1.07 50 88
//
// With 100 scattered commits in a version, on 4 MB: inlineBytesLimit of 128 KiB 1.34 requests and
// 689 KB, open 327 KB; 256 KiB 1.17, 328, 370; 384 KiB 1.14, 226, 493. On 10 GB it makes
// no difference: each chunk is put after one change.
const (
	// InlineBytesMax bounds what inline sectors take in a version, compressed one by one. Of page
	// 1's sectors nothing counts, nor of the crown's.
	InlineBytesMax = 32 << 10
	// inlineChunksFew is how many chunks a small transaction changes: those of a table
	// and its indexes.
	inlineChunksFew = 4
	// InlineBatch is how many chunks are put together for the sake of the next cuts: as
	// many as one request takes. They hold this cut up.
	InlineBatch = chunkstore.PackMax
	// inlineBytesPerChunk is what a chunk that is not put may cost in a checkpoint.
	inlineBytesPerChunk = 16 << 10
	// inlineBytesLimit bounds the same for a cut of everything.
	inlineBytesLimit = 256 << 10
	// inlinePlainRatio bounds the same before compression, which readers have in
	// memory, to that many times as much, and inlinePlainLimit to what leaves a fold the time
	// that it takes; and inlineFoldMax what travels until one has ended, to what leaves room in
	// manifest.BytesMax.
	inlinePlainRatio = 10
	inlinePlainLimit = 512 << 10
	inlineFoldMax    = 896 << 10
	// inlineLargeMax bounds what of it is of chunks of which more than a quarter differs: those
	// bytes are sent twice.
	inlineLargeMax = 128 << 10
	// foldChunksMax bounds a fold: one that is not over when the room is used up was in vain, as
	// its chunks are put again.
	foldChunksMax = 4 * InlineBatch
	// inlineChunkMax is how many bytes of a chunk travel inline at most, before compression.
	inlineChunkMax = chunkstore.ChunkBytes / 4
	// PatchesMax is explained at [manifest.Tree.Pack].
	PatchesMax = 48
)

// plan says how a cut describes each chunk that differs from its object: by a
// new object (whole), or by inline pages over the one that there is. It is the
// same for all targets.
type plan struct {
	pageBytes      int
	whole, inline  []int // chunk indexes, ascending
	fold           []int // those of inline that would be whole if there was no fold; ascending
	pages          []pageRange
	first          bool // page 1 is all of chunk 0, which then needs no object
	pageOneChanged bool
}

// pageRange is what travels as one inline page: a run of sectors, or page 1.
type pageRange struct {
	off   int64
	bytes int
	data  []byte // that are there; nil: to be read
}

// pageBytesDefault is what a manifest says of a file that is no database, or an
// encrypted one.
const pageBytesDefault = 4096

// plan decides for each chunk. A chunk is stored anew if
//
//   - it is not known which of its sectors differ,
//   - it is shorter than what its object may be, so that its object would show
//     again behind it when the file grows,
//   - it is not made of whole sectors,
//   - a target has not got its object: then nobody could make it any more,
//
// and, by a fold if there can be one and it needs nothing of the above, if
//
//   - more than a quarter of it differs (if there are few such chunks),
//   - much of it differs, and others are stored anew: one request puts them all,
//   - or the inline budget is outgrown, and others are warmer.
//
// Page 1, which changes with every commit, always travels inline, and whole: it is what
// readers begin with. (Objects have it, too, as it was when they were made, unless it
// is all of chunk 0.) So do the upper pages of crown.go, whatever becomes of their chunks.
func (c *planner) plan() *plan {
	h := sqlitefile.ReadHeader(c.db)
	p := &plan{pageBytes: h.PageBytes()}
	inlineOK := p.pageBytes > 0 && c.db.Size()%sectorBytes == 0
	if p.pageBytes == 0 && c.db.Size() > 0 {
		p.pageBytes = pageBytesDefault
	}
	if inlineOK && c.db.Size() > 0 {
		first := min(p.pageBytes, c.db.chunkBytes(0))
		p.pages = append(inSectors(0, first), c.takeCrown(p.pageBytes)...)
		p.first = first == c.db.chunkBytes(0)
		if d := c.db.Diff(0); d != nil && d.Changed {
			for k := range first / sectorBytes {
				p.pageOneChanged = p.pageOneChanged || d.Has(k)
			}
		}
	}
	var warm, large []candidate
	always := p.pages
	for _, i := range c.db.Diffs() {
		if i == 0 && p.first {
			p.pageOneChanged = c.db.Diff(0).Changed
			continue
		}
		if !inlineOK || !c.overridable(i) {
			p.whole = append(p.whole, i)
			continue
		}
		one := c.candidate(i, always)
		if one.plain > inlineChunkMax {
			large = append(large, one)
		} else if i == 0 || c.db.Diff(i).Count() > 0 {
			warm = append(warm, one)
		}
	}
	n := fit(warm, c.packed)
	n = goAlong(warm, n, len(p.whole)+len(large))
	stay, leave := warm[:n], append(warm[n:], large...)
	bytes := bytesOfAll(p.pages) + plainOf(stay) + plainOf(leave)
	if n := len(leave); n > 0 && n <= foldChunksMax && len(p.whole) == 0 &&
		plainOf(large) <= inlineLargeMax && bytes <= inlineFoldMax && c.audience.Folds() {
		p.fold = indexes(leave)
		stay, leave = append(stay, leave...), nil
	}
	p.inline, p.whole = indexes(stay), append(p.whole, indexes(leave)...)
	for _, one := range stay {
		for _, run := range one.runs {
			p.pages = append(p.pages, inSectors(run.off, run.bytes)...)
		}
	}
	slices.Sort(p.whole)
	slices.SortFunc(p.pages, func(a, b pageRange) int { return cmp.Compare(a.off, b.off) })
	return p
}

// bytesOfAll returns how many bytes pages have.
func bytesOfAll(pages []pageRange) (n int) {
	for _, p := range pages {
		n += p.bytes
	}
	return n
}

// plainOf returns how many bytes of c travel inline, if they do.
func plainOf(c []candidate) (n int) {
	for _, one := range c {
		n += one.plain
	}
	return n
}

// indexes returns the chunks of c, ascending.
func indexes(c []candidate) (chunks []int) {
	for _, one := range c {
		chunks = append(chunks, one.index)
	}
	slices.Sort(chunks)
	return chunks
}

// overridable reports whether chunk i may keep its object, with pages inline.
func (c *planner) overridable(i int) bool {
	d := c.db.Diff(i)
	if d.Whole || c.whole[i] {
		return false
	}
	ends := (c.db.chunkBytes(i) + sectorBytes - 1) / sectorBytes
	for k := ends; k < chunkstore.ChunkBytes/sectorBytes; k++ {
		if d.Has(k) {
			return false
		}
	}
	return !c.audience.Lacks(i) // C2
}

// candidate is a chunk that could keep its object.
type candidate struct {
	index   int
	stamp   uint64 // grows with each change
	changed bool   // since the last cut
	changes int    // in how many cuts it has changed since it has that object
	runs    []pageRange
	plain   int // bytes of runs
}

// candidate describes chunk i, but for the pages that always travel.
func (c *planner) candidate(i int, always []pageRange) candidate {
	d := c.db.Diff(i)
	one := candidate{index: i, stamp: d.Stamp, changed: d.Changed, changes: c.carried[i].changes}
	if d.Changed {
		one.changes++
	}
	start := int64(i) * chunkstore.ChunkBytes
	var travel mirror.Diff
	for _, p := range always {
		if in := int(p.off - start); in >= 0 && in < chunkstore.ChunkBytes {
			travel.Set(in/sectorBytes, (in+p.bytes)/sectorBytes)
		}
	}
	differs := func(k int) bool { return d.Has(k) && !travel.Has(k) }
	for k, n := 0, c.db.chunkBytes(i)/sectorBytes; k < n; k++ {
		if !differs(k) {
			continue
		}
		from := k
		for k < n && differs(k) {
			k++
		}
		bytes := (k - from) * sectorBytes
		one.runs = append(one.runs, pageRange{off: start + int64(from)*sectorBytes, bytes: bytes})
		one.plain += bytes
	}
	return one
}

// inSectors returns so many bytes as sectors: a record has those that have changed, and not all of
// what stands beside them.
func inSectors(off int64, bytes int) (sectors []pageRange) {
	for end := off + int64(bytes); off < end; off += sectorBytes {
		sectors = append(sectors, pageRange{off: off, bytes: sectorBytes})
	}
	return sectors
}

// fit sorts c, the warmest first, and returns how many of them travel inline. packed returns what
// one takes in a manifest.
func fit(c []candidate, packed func(candidate) int) int {
	again := func(c candidate) int { return min(c.changes, 2) }
	slices.SortFunc(c, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(again(b), again(a)), cmp.Compare(b.stamp, a.stamp))
	})
	budget := inlineBudget(c)
	n := within(c, budget, packed)
	if n == len(c) {
		return n
	}
	hot := c
	if cold := slices.IndexFunc(c, func(c candidate) bool { return c.changes < 2 }); cold >= 0 {
		hot = c[:cold]
	}
	return min(n, max(within(hot, budget/2, packed), len(c)-InlineBatch))
}

// goAlong has chunks of which much differs put with others that are, if there are any: so many, and
// all but the first n of c. It sorts the first n, and returns how many of them stay inline. A pack
// has room for them, and soon each would cost one of its own.
func goAlong(c []candidate, n, whole int) (stay int) {
	whole += len(c) - n
	room := (chunkstore.PackMax - whole%chunkstore.PackMax) % chunkstore.PackMax
	slices.SortFunc(c[:n], func(a, b candidate) int { return cmp.Compare(a.plain, b.plain) })
	for ; room > 0 && n > 0 && c[n-1].plain > inlineChunkMax/2; room-- {
		n--
	}
	return n
}

// inlineBudget returns how many bytes of c may travel inline, compressed.
func inlineBudget(c []candidate) int {
	changed := 0
	for _, c := range c {
		if c.changed {
			changed++
		}
	}
	return min(InlineBytesMax+inlineBytesPerChunk*max(0, changed-inlineChunksFew), inlineBytesLimit)
}

// within returns how many of c, from the first, take at most so many bytes.
func within(c []candidate, bytesMax int, packed func(candidate) int) int {
	plainMax := min(bytesMax*inlinePlainRatio, inlinePlainLimit)
	for n := range c {
		if plainMax -= c[n].plain; plainMax < 0 {
			return n
		}
		if bytesMax -= packed(c[n]); bytesMax < 0 {
			return n
		}
	}
	return len(c)
}

// planner decides what versions are made of, and remembers what they carried.
type planner struct {
	db       contents
	audience Audience

	whole   map[int]bool // chunks whose object must be made anew, whatever differs
	carried map[int]carriage
	crown   crown // as of the last plan
}

// noteCarried notes what a saved cut carries inline.
func (c *planner) noteCarried(p *plan) {
	carried := make(map[int]carriage, len(p.inline))
	for _, i := range p.inline {
		was := c.carried[i]
		if c.db.Diff(i).Changed {
			was.changes++
		}
		carried[i] = was
	}
	c.carried = carried
}

// carriage is what a planner remembers of a chunk that travels inline.
type carriage struct {
	changes int // see candidate
	// How many bytes differed when they were packed last, and what they took then; 0: not known.
	plain, packed int
}

// inlineOverhead is what offset and length of an inline page take.
const inlineOverhead = 12

// packed returns what a candidate takes in a manifest, about: while it has grown to less than twice
// its size, as much for each byte as before. Contents that cannot be read are the cut's to report.
func (c *planner) packed(of candidate) int {
	known := c.carried[of.index]
	if known.plain < of.plain/2+1 || known.plain > 2*of.plain {
		b := make([]byte, 0, of.plain)
		for _, run := range of.runs {
			at := len(b)
			b = b[:at+run.bytes]
			if _, err := c.db.ReadAt(b[at:], run.off); err != nil {
				return of.plain
			}
		}
		known.plain = of.plain
		known.packed = c.db.sealedBytes(b) + inlineOverhead*of.plain/sectorBytes
		c.carried[of.index] = known
	}
	if known.plain == 0 {
		return 0
	}
	return known.packed * of.plain / known.plain
}

// NeedsObject reports whether a chunk that differs so is stored anew by the next version, whatever
// else has changed: too much of it differs to travel inline.
func NeedsObject(d *mirror.Diff) bool { return d.Count()*sectorBytes > inlineChunkMax }
