package courier

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/backoff"
	"verneuil/replicate/bell"
	"verneuil/replicate/cutter"
	"verneuil/replicate/errands"
	"verneuil/replicate/mirror"
	"verneuil/replicate/patrol"
	"verneuil/replicate/versions"
	"verneuil/spool"
)

// Options of an [Office]. All are needed but Patrol, Still and Outages.
type Options struct {
	Spool   *spool.Spool      // of the database; its lock is ours
	Tracker *mirror.Tracker   // of the mirror that pushes read
	Sealer  chunkstore.Sealer // of the targets

	Host    string        // under whose name the database is
	Uploads Uploads       // how objects are put
	Patrol  time.Duration // in which each pack that a version names is touched; 0: never
	Still   bool          // the database does not change (Sync): every target is looked at anew

	Clock   func() time.Time
	Errands *errands.Errands // runs what takes time
	Serial  *Serial          // numbers attempts, and the flushes that wait for them
	// Prove fails if the spool is not ours any more: then no manifest is put.
	Prove func() error
	Waiters

	Sent    *Sent    // is added to
	Outages *Outages // of the process; nil: what fails is told to who asked for it only
	Log     *slog.Logger
}

// Waiters are who wait for what targets have.
type Waiters struct {
	// Awaited reports whether somebody who waits has asked for a flush after that serial.
	Awaited func(serial uint64) bool
	// Taken is told that [Office.Reached] may have grown: before the spool notes it, as a commit
	// may wait for it.
	Taken func()
}

// Uploads is how objects are put.
type Uploads struct {
	Concurrency int // at once, for each target
	RunObjects  int // how many are made durable together; 0: 2,048
	PackObjects int // how many a pack has at most; 0: [chunkstore.PackMax]
	// LeavesAtOnce bounds the leaves of a tree, in bytes, that readers fetch together who open a
	// database; 0: [manifest.LeavesAtOnce].
	LeavesAtOnce int
	RepackAfter  int // so many chunks got another place, a target may be repacked; 0: 512

	edition uint8 // of the packs: not 0 while some of other editions are damaged

	// Progress is told how many bytes of a push are done, by calls that may come from several
	// goroutines.
	Progress func(phase string, done, total int64)
}

// Sent counts what was sent, to all targets. Manifests are checkpoints, and versions where there
// is no history.
type Sent struct{ Manifests, Records, Chunks, Bytes atomic.Int64 }

// Serial numbers requests and attempts, in their order. It is one goroutine's.
type Serial struct{ last uint64 }

// Next returns a number that is greater than all before it.
func (s *Serial) Next() uint64 { s.last++; return s.last }

// Office is the couriers of one database, and what they share. It belongs to one goroutine. It is
// the [cutter.Audience] of the versions that they bring.
type Office struct {
	o        Options
	key      string         // the manifests'
	cutter   *cutter.Cutter // makes what they bring
	couriers []*Courier

	folds
	saidElsewhere bool     // that other hosts have versions of our path
	fed           []*piece // of a base copy: what was not hashed yet when it was looked at last
}

// New returns the couriers of the targets, which do nothing before Open.
func New(o Options, targets []*chunkstore.Target) *Office {
	office := &Office{o: o, key: manifest.Name(o.Sealer, o.Host, o.Spool.Path())}
	office.folds = folds{
		of: office, pause: backoff.Backoff{First: retryFirst, Most: retryMost},
	}
	for _, t := range targets {
		c := &Courier{
			Target: t, office: office, id: TargetID(t), shelf: newShelf(t, office.key),
			stock: stock{
				missing: make(map[int]chunkstore.ID), moved: make(map[int]chunkstore.Ref),
				notes: notes{sp: o.Spool, target: TargetID(t)},
			},
			trouble: trouble{backoff: backoff.Backoff{First: retryFirst, Most: retryMost}},
			saver:   saver{pause: backoff.Backoff{First: retryFirst, Most: retryMost}},
		}
		c.saver.of, c.repack.of = c, c
		c.belief = unknown(c, false)
		c.repack.pause = backoff.Backoff{First: retryFirst, Most: retryMost}
		c.beat = beat{c, patrol.New(t, o.Patrol, func() *slog.Logger { return o.Log })}
		c.news = bell.New(bell.Options{Bucket: t.Chunks, Name: versions.NewsName(office.key),
			Log: o.Log, Run: func(_ string, f func(context.Context)) bool {
				o.Errands.Run(func() { f(o.Errands.Context()) })
				return true
			}})
		office.couriers = append(office.couriers, c)
	}
	return office
}

// Open begins: the couriers bring what makes. They know of their targets what the spool has noted.
func (o *Office) Open(makes *cutter.Cutter) {
	o.cutter = makes
	o.loadAcks()
	loadPatrols(o)
	TakeDamage(o)
}

// Finish waits a moment until replicas were told of what was pushed last, if that is under way.
func Finish(ctx context.Context, o *Office) {
	for _, c := range o.couriers {
		c.news.Finish(ctx)
	}
}

// TargetID names a target in the spool.
func TargetID(t *chunkstore.Target) string {
	return fmt.Sprintf("%s | %v | %v", t.Name, t.Chunks, t.Manifests)
}

// Couriers returns the couriers, in the order of their targets. It must not be changed.
func (o *Office) Couriers() []*Courier { return o.couriers }

func (o *Office) now() time.Time { return o.o.Clock() }

func (c *Courier) log() *slog.Logger { return c.office.o.Log }

// Lacks reports whether a target that we push to lacks the object of chunk i.
func (o *Office) Lacks(i int) bool {
	return slices.ContainsFunc(o.couriers, func(c *Courier) bool {
		_, missing := c.stock.missing[i]
		return missing && c.state.Known()
	})
}

// Renamed changes every target's backlog with the cutter's tree.
func (o *Office) Renamed(i int, id chunkstore.ID) {
	o.forgetOld()
	for _, c := range o.couriers {
		c.stock.renamed(i, id)
	}
}

// Shortened forgets what was cut off from the tree.
func (o *Office) Shortened(chunks int) {
	for _, c := range o.couriers {
		c.stock.shortened(chunks)
	}
}

// Stores returns the identities of the chunk buckets that a version is for.
func (o *Office) Stores() (ids []chunkstore.Identity) {
	for _, c := range o.couriers {
		if c.ids.Chunks != (chunkstore.Identity{}) {
			ids = append(ids, c.ids.Chunks)
		}
	}
	slices.SortFunc(ids, func(a, b chunkstore.Identity) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(ids)
}

// Contact begins to look at the targets of which nothing is known, if they are to be tried now.
func (o *Office) Contact() {
	for _, c := range o.couriers {
		if c.state == Strange && c.Ready() {
			c.contact(nil)
		}
	}
}

// Adoptable reports whether every target has been asked what it has, or cannot be, and at least
// one has answered: then a past can be chosen.
func (o *Office) Adoptable() bool {
	answered := false
	for _, c := range o.couriers {
		switch {
		case c.state.Known():
			answered = true
		case c.state != Stopped && c.trouble.err == nil:
			return false
		}
	}
	return answered
}

// Adopt gives the cutter, which is Blank, its past: the newest version that a target has under our
// name.
func (o *Office) Adopt(ctx context.Context) error {
	var best *Courier
	for _, c := range o.couriers {
		if !c.state.Known() || c.found == nil || !c.found.whole() {
			continue
		}
		if best == nil || c.found.manifest.Head().Supersedes(best.found.manifest.Head()) {
			best = c
		}
	}
	var past *cutter.Past
	if best != nil {
		past = &cutter.Past{
			Manifest: best.found.manifest, Tree: best.found.tree,
			Object: func(ctx context.Context, refs []chunkstore.Ref) ([][]byte, error) {
				best.shelf.calls.Add(1)
				return best.GetObjects(ctx, refs)
			},
		}
	}
	if err := o.cutter.Adopt(ctx, past); err != nil {
		return err
	}
	cut := o.cutter.Last().Manifest.Cut
	for _, c := range o.couriers {
		if !c.state.Known() {
			continue
		}
		if c.found != nil && c.found.whole() && cut != noCut && c.found.manifest.Cut == cut {
			c.stock.holds = cut
		}
		c.compare()
		o.cutter.AddStore(c.ids.Chunks)
	}
	o.saveAcks()
	return nil
}

// AnyReady reports whether a version could be pushed to some target now.
func (o *Office) AnyReady() bool {
	return slices.ContainsFunc(o.couriers, func(c *Courier) bool {
		return c.state.Known() && c.Ready()
	})
}

// Push begins to push the last version to the targets that lack it, or have to be told where it
// stands, each by itself (I3). The mirror is that version at this moment, and includes p. It notes
// of targets that have it that they include p.
func (o *Office) Push(p spool.Point) {
	for _, c := range o.couriers {
		has := c.state.Known() && !c.Behind()
		if has {
			c.stock.point = p
		}
		switch {
		case !c.state.Known(), has && len(c.stock.moved) == 0:
		case c.Ready():
			c.push(p)
		}
	}
}

// Reached returns what every target is known to include, and what some target is; zero if there is
// no target.
func (o *Office) Reached() (all, some spool.Point) {
	for k, c := range o.couriers {
		p := c.stock.point
		if k == 0 {
			all = p
		}
		all.Generation = min(all.Generation, p.Generation)
		all.Sequence = min(all.Sequence, p.Sequence)
		if p.Covers(some) {
			some = p
		}
	}
	return all, some
}
