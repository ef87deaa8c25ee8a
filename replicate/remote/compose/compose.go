package compose

import (
	"cmp"
	"context"
	"crypto/rand"
	"sync"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/spool/sqlitefile"
)

// Options of a [Composer]. Only Target is needed.
type Options struct {
	Target  *chunkstore.Target // that packs are put to
	Program string             // with its version
	// Store has Target, and caches: leaves and nodes of trees are got from there, and what is put
	// fills the cache that it fills, but for changes of more than 64 MiB. nil: there are no caches.
	Store *chunkstore.Store
	Now   func() time.Time // nil: the system's
	// Concurrency is how many packs of one version are put at once; 0: 8. Each takes some 4 MiB.
	Concurrency int
	// Has reports whether a pack of that name is in Target, durable and young, so that it need not
	// be put; several goroutines call it. nil: none is.
	Has func(ctx context.Context, pack chunkstore.Digest) bool
	// Keep is how many bytes of the packs of one version are kept, for who puts them again (C8).
	Keep    int64
	Budgets Budgets
}

// Budgets bound what is stored of a version besides packs. What is zero has a default.
type Budgets struct {
	Record  int // bytes of blocks that a transaction has inline; with more, most are in packs
	Soft    int // bytes of inline pages of a version from which on it wants a Fold
	Hard    int // bytes of inline pages that no version exceeds
	Crown   int // of these, bytes of upper pages, which stay; at most half of Soft
	Patches int // of a version; with more, its tree is put
}

// The defaults. A checkpoint has all inline pages of its version and must be shorter than
// [manifest.BytesMax]; what hardBudget leaves is for page 1, which counts for nothing here, for up
// to 48 patches and for 64 entries of the top.
const (
	concurrencyDefault = 8

	recordBudget  = 256 << 10
	softBudget    = 640 << 10
	hardBudget    = 896 << 10
	crownBudget   = 320 << 10
	patchesBudget = 1024

	// patchesMax are left by a checkpoint: see [manifest.Tree.Pack].
	patchesMax = 48
	// chunksKept bounds what a draft keeps in memory of its chunks: 64 MiB.
	chunksKept = 1024
)

// Composer makes versions of the databases in one store. It is safe for concurrent use.
type Composer struct{ o Options }

// New makes a Composer.
func New(o Options) *Composer {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Store == nil {
		o.Store = chunkstore.NewStore(o.Target)
	}
	o.Concurrency = cmp.Or(o.Concurrency, concurrencyDefault)
	b := &o.Budgets
	b.Record, b.Soft = cmp.Or(b.Record, recordBudget), cmp.Or(b.Soft, softBudget)
	b.Hard, b.Patches = cmp.Or(b.Hard, hardBudget), cmp.Or(b.Patches, patchesBudget)
	b.Crown = min(cmp.Or(b.Crown, crownBudget), b.Soft/2)
	return &Composer{o}
}

// Compose makes the version that ch leads to from base, which b reads. What the version names is
// durable on return (C2). It returns nil, and no error, if nothing changes. It changes no argument.
// The version keeps no memory of ch's, and shares some with base.
//
// The file ends where page 1 says, if SQLite believes it, and that is before ch.Bytes: SQLite cuts
// it off there only after the commit. A database in WAL mode is stored as one in rollback mode.
//
// ch.Read and b are called by one goroutine at a time, but by several if the change is large.
//
// It fails as these two do, and as the target does; what it has put by then is named by nobody.
func (c *Composer) Compose(
	ctx context.Context, base *manifest.Manifest, ch Change, b Base,
) (*Draft, error) {
	scratch := scratches.Get().(*[2 * BlockBytes]byte)
	defer scratches.Put(scratch)
	w := &work{
		c: c, ctx: ctx, base: base, change: ch, from: b,
		block: scratch[:BlockBytes:BlockBytes], was: scratch[BlockBytes:],
	}
	if err := w.look(); err != nil || !w.changed() {
		return nil, err
	}
	if err := w.choose(); err != nil {
		return nil, err
	}
	next := c.successor(base)
	next.FileBytes, next.PageBytes = w.bytes, pageBytes(w.header, w.bytes)
	next.ChangeCounter, next.Inline = w.counter(), w.inline
	d := &Draft{Shortest: min(base.Chunks(), next.Chunks())}
	p := c.packing(ctx, len(w.chunks))
	for _, chunks := range w.parcels() {
		p.add(w.read, chunks)
	}
	if err := p.finish(d, base, next); err != nil {
		return nil, err
	}
	return d, d.describe(base, next)
}

var scratches = sync.Pool{New: func() any { return new([2 * BlockBytes]byte) }}

// successor returns the version after m, with the same content, but without a tree.
func (c *Composer) successor(m *manifest.Manifest) *manifest.Manifest {
	next := *m
	next.Program, next.Time, next.SourceCtime = c.o.Program, c.o.Now(), time.Time{}
	next.Sequence++
	rand.Read(next.Cut[:]) // never fails
	return &next
}

// pageBytesDefault is what a manifest says of a file that is no database, or an encrypted one.
const pageBytesDefault = 4096

func pageBytes(h sqlitefile.Header, fileBytes int64) int {
	if fileBytes == 0 {
		return 0
	}
	return cmp.Or(h.PageBytes(), pageBytesDefault)
}

// WantsCheckpoint reports whether m has so many patches that a checkpoint is due, whatever records
// there are: soon a commit would have to put a tree, and wait for it.
func (c *Composer) WantsCheckpoint(m *manifest.Manifest) bool {
	return len(m.Patches) > c.o.Budgets.Patches/2
}

// Wants reports whether m has so many inline pages that a Fold is due.
func (c *Composer) Wants(m *manifest.Manifest) bool {
	return bytesOf(m.Inline, pinned(m.PageBytes, m.FileBytes)) > c.o.Budgets.Soft
}
