package cutter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/mirror"
)

// Contents is a database as it is now, and how each of its chunks differs from the object that
// the last version's tree names for it. [mirror.Mirror] is one.
type Contents interface {
	// ReadAt reads the database's bytes.
	io.ReaderAt
	// Size returns the database's length in bytes.
	Size() int64
	// Hole reports whether chunk i is known, without a look at it, to be zeros.
	Hole(i int) bool

	// Changed reports whether some chunk has changed since the last version.
	Changed() bool
	// Diffs returns the indexes of the chunks that may differ, ascending.
	Diffs() []int
	// Diff says how chunk i differs; nil: it is as its object. The cutter sets its fields Hash,
	// Hashed, and where an object is not the chunk's, its sectors.
	Diff(i int) *mirror.Diff
	// NoteSaved notes how chunk i is described by a version that is saved: as its object (same), or
	// by what its Diff says.
	NoteSaved(i int, same bool)
	// Cleared notes that a version was saved of the database as it is, and that the given chunks,
	// ascending, are noted.
	Cleared(indexes []int) error
	// TreeHas notes that a version which may not come to be saved has so many chunks.
	TreeHas(chunks int)
	// Carry notes that the last version overrides n bytes at off by an inline page.
	Carry(off, n int64)
	// MarkAll notes that nothing is known of any chunk.
	MarkAll() error
}

// Audience is whom versions are made for.
type Audience interface {
	// Lacks reports whether somebody lacks the object of chunk i, as the tree names it.
	Lacks(i int) bool
	// Renamed says that the tree names another object for chunk i now; the zero ID: none.
	Renamed(i int, id chunkstore.ID)
	// Shortened says that the tree has no more than so many chunks.
	Shortened(chunks int)
	// Folds reports whether what outgrows the budget of inline pages can travel inline all the
	// same, as a [Fold] will make objects of it.
	Folds() bool
	// Stores returns the identities of the chunk buckets that versions are for, ascending.
	Stores() []chunkstore.Identity
}

// Options of a [Cutter]. All but Fault are needed.
type Options struct {
	Contents Contents
	Files    *Files            // where the last version is kept
	Sealer   chunkstore.Sealer // gives the IDs of chunks, leaves and nodes
	Audience Audience

	// Sign fills in what a manifest says of where it comes from: host, path, program, time,
	// continuity and the file's ctime.
	Sign func(*manifest.Manifest)
	// Prove fails if we may not save a version any more, as the spool is another's. Its error is
	// the cutter's.
	Prove func() error
	// Meanwhile is called between two batches of a long cut: it may change the contents. Its
	// error is the cutter's.
	Meanwhile func(context.Context) error
	Log       *slog.Logger
	// Fault, in tests, returns the error by which a cut ends at the named point; nil elsewhere.
	Fault func(point string) error
}

// State is how far a [Cutter] has come.
//
//	                 Load finds a saved cut, Adopt a past
//	Blank ──────────────────────────────────────────────────▶ Saved
//	  │                                                        │  ▲
//	  │ Adopt(nil) begins                a chunk gets another  │  │ Cut has saved
//	  │ a lineage                        object (Cut), Follow, │  │ the next version
//	  │                                  AddStore              ▼  │
//	  └──────────────────────────────────────────────────────▶ Unsaved
type State int

// The states; [State] has who changes them.
const (
	Blank   State = iota // there is no version: nothing is known of any chunk
	Saved                // the last version is saved, and the tree is its tree
	Unsaved              // the tree, or what a manifest has to say, is newer than the last version
)

// Version is what was cut. Nothing of it has places: a target gives it those.
type Version struct {
	Manifest *manifest.Manifest // of an unsaved beginning: empty
	Tree     *manifest.Tree     // the manifest's, or a newer one if the cutter is Unsaved
}

// Cutter makes versions of one database.
type Cutter struct {
	o     Options
	db    contents
	state State
	last  Version
	head  manifest.Head // what we cut comes next: the highest epoch and sequence known of our name

	foundBlank bool // by Load
	planner    planner
	near       []int // before the first cut: see Near
	fold       *Fold // that was begun; the next Cut takes it, if it has ended
	outgrown   []int // chunks that the last cut would have a Fold of
}

// New returns a cutter in the state Blank.
func New(o Options) *Cutter {
	c := &Cutter{o: o, db: contents{o.Contents, o.Sealer}}
	c.planner = planner{
		db: c.db, audience: o.Audience, whole: make(map[int]bool), carried: make(map[int]carriage),
	}
	c.last.Tree = manifest.NewTree(c.o.Sealer, c.db.chunks())
	return c
}

// Load makes the saved cut the last version, if it is of that database. Without it, or with one
// that is of no use, nothing is known of any chunk: whatever targets have is our past.
func (c *Cutter) Load(ctx context.Context, host, path string) error {
	m, tree, err := c.o.Files.Load(ctx)
	if err == nil && (m.Host != host || m.Path != path) {
		err = fmt.Errorf("%w: saved cut is of %s:%s", fs.ErrNotExist, m.Host, m.Path)
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, chunkstore.ErrCorrupt) &&
			!errors.Is(err, chunkstore.ErrAbsent) {
			return err
		}
		c.foundBlank = true
		c.last.Tree = manifest.NewTree(c.o.Sealer, c.db.chunks())
		return c.db.MarkAll()
	}
	c.state, c.last, c.head = Saved, Version{m, tree}, m.Head()
	for _, p := range m.Inline {
		c.db.Carry(p.Offset, int64(len(p.Data)))
	}
	return nil
}

// State returns how far the cutter has come.
func (c *Cutter) State() State { return c.state }

// FoundBlank reports whether there was no saved cut when the cutter began: then what a target has
// that is met for the first time is our past, whoever wrote it.
func (c *Cutter) FoundBlank() bool { return c.foundBlank }

// Last returns the last version, nil if there is none. The next cut changes it.
func (c *Cutter) Last() *Version {
	if c.state == Blank {
		return nil
	}
	return &c.last
}

// Near returns the chunks that a reader comes to after what versions carry inline, ascending
// (Near of [manifest.Tree]). They do not change. They are those of the last cut, or, before the
// first one, of the contents as they are.
func Near(c *Cutter) []int {
	if c.planner.crown.schema != nil || c.state == Blank {
		return c.planner.crown.near
	}
	if c.near == nil && c.last.Manifest.PageBytes > 0 {
		p := c.planner
		p.takeCrown(c.last.Manifest.PageBytes) // what travels is the next cut's to say
		c.near = p.crown.near
	}
	return c.near
}

// Head returns how far we have come: no version of our name is known that is newer, in our epoch.
func (c *Cutter) Head() manifest.Head { return c.head }

// Follow takes note of a version of our past: what is cut from now on comes after it.
func (c *Cutter) Follow(past manifest.Head) {
	c.head.Sequence = max(c.head.Sequence, past.Sequence)
	c.head.Epoch = max(c.head.Epoch, past.Epoch)
	if c.state != Blank && !c.last.Manifest.Head().Supersedes(past) {
		// We took over from a target that lagged: replicas of this one follow forwards only.
		c.state = Unsaved
	}
}

// Wrote reports whether a manifest of that sequence and [manifest.Manifest.Cut] is a cut of ours.
func (c *Cutter) Wrote(sequence uint64, cut [16]byte) bool {
	return c.o.Files.Wrote(sequence, cut)
}

// Restore makes the files of the saved cut anew, if somebody has removed them.
func (c *Cutter) Restore() error { return c.o.Files.Restore() }

// AddStore sees to it that the last version, or else the next one, says that it is for that
// chunk bucket.
func (c *Cutter) AddStore(id chunkstore.Identity) {
	if c.state == Saved && !slices.Contains(c.last.Manifest.Stores, id) {
		c.state = Unsaved
	}
}

// StoreWhole has the next version make the object of chunk i anew: the chunk's present object
// cannot be made any more.
func (c *Cutter) StoreWhole(i int) { c.planner.whole[i] = true }

// StoreWholeIfInline is StoreWhole of a chunk that differs from its object, by inline pages (C2).
func (c *Cutter) StoreWholeIfInline(i int) {
	if d := c.db.Diff(i); d != nil && d.Count() > 0 {
		c.StoreWhole(i)
	}
}

// Due reports whether the contents differ from the last version.
func (c *Cutter) Due() bool {
	return c.state != Saved || c.db.Changed() || c.db.Size() != c.last.Manifest.FileBytes ||
		len(c.planner.whole) > 0
}
