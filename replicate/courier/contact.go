package courier

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/cutter"
	"verneuil/replicate/errands"
	"verneuil/spool"
)

// strangeChunks, and four times our database, is how long a version in a target may be for
// us to load its tree, 64 GiB: of one that was made to harm us, a few objects may stand for
// 281 TB. Of what is longer all is put anew.
const strangeChunks = 1 << 20

// epochMax is far more than spools are ever lost. A version beyond it is none of ours: after
// the last epoch there would be no next one, and replicas follow a lineage forwards only.
const epochMax = 1 << 32

// contact is a look at what a target has under our name, on its way. It shares nothing that
// changes.
type contact struct {
	t     *chunkstore.Target
	shelf *shelf
	at    time.Time
	ours  own
	had   had

	known identities // of the buckets, as last seen
	fresh bool       // the target was looked at lately: that it has ours will do
	suspicion
	guards
	notes notes // of what was put to known

	uploads   *uploads
	feed      *feed                              // nil: nothing is put ahead
	put       map[chunkstore.ID]chunkstore.Place // ahead, durably
	elsewhere *elsewhere                         // nil: something is known of the target's past

	found finding
}

// suspicion is what is known to be wrong with a target.
type suspicion struct {
	all     bool                       // something is gone: all is asked for
	damaged map[chunkstore.Digest]bool // packs that are, which counts as gone
}

// own is our last version, as it is known again in a target. Without one, cut is zero.
type own struct {
	cut       [16]byte
	manifest  *manifest.Manifest // of that cut, without places
	tree      *manifest.Tree     // its, loaded, without places; nil: the cutter has another
	chunksMax int                // of another version whose tree is loaded
}

// had is what a target had when we last knew it.
type had struct {
	etag     string             // of a manifest; empty: not known
	manifest *manifest.Manifest // nil: it has to be read
	tree     *manifest.Tree     // its, with places
	writer   *history.Writer    // at manifest, once it is settled; nil: there is none
	lineage  [16]byte           // of the history that it was in; zero: not known, or none
}

// finding is what a contact has found.
type finding struct {
	exists   bool   // there is a manifest
	etag     string // of it
	same     bool   // its version, records folded in, is our last one
	proved   bool   // it is what we put, or saw there
	damaged  error
	foreign  error                      // it is another database's
	manifest *manifest.Manifest         // with records; nil if there is none, or a damaged one
	tree     *manifest.Tree             // its, with places; nil if that is damaged, or in vain
	names    *manifest.Tree             // one that names the same, and is loaded; nil with tree
	ids      identities                 // of the buckets
	vain     bool                       // this chunk bucket never had what tree names, or not now
	gone     map[chunkstore.Digest]bool // packs that tree names, and that are not there
	torn     map[chunkstore.Digest]bool // packs whose leaves or nodes tree has lost
	trail
}

// whole reports whether a version was found of which all leaves and nodes are there, as far as they
// were read.
func (f *finding) whole() bool { return f.tree != nil && f.damaged == nil }

// contact begins to read what the target has under our name. f brings what can be put if it has
// nothing; it may be nil.
func (c *Courier) contact(f *feed) {
	c.begin(Asking)
	a := newContact(c, f)
	c.office.o.Errands.Go(func(ctx context.Context) error {
		defer f.refuse()
		return a.run(ctx)
	}, func(err error) { c.contacted(a, err) })
}

func newContact(c *Courier, f *feed) *contact {
	o, now := &c.office.o, c.office.now()
	seen := now.Sub(c.belief.store) < QuietTrust && now.Sub(c.belief.sample) < PauseTrust
	a := &contact{
		t: c.Target, at: now, ours: ownOf(c), had: hadOf(c),
		known: c.ids, guards: c.ack.guards, shelf: c.shelf,
		suspicion: suspicion{c.belief.all || len(c.stock.lost) > 0, c.damage.packs},
		notes:     c.stock.notes.clone(), uploads: c.uploads(), feed: f,
		found: finding{ids: c.ids},
	}
	a.fresh = seen && !o.Still && !a.all
	if c.newcomer() {
		a.elsewhere = &elsewhere{host: o.Host, path: o.Spool.Path()}
	}
	return a
}

// ownOf returns our last version.
func ownOf(c *Courier) own {
	ours, last := own{chunksMax: chunksMax(c.office)}, c.office.cutter.Last()
	if last != nil && last.Manifest.Cut != noCut {
		ours.cut, ours.manifest = last.Manifest.Cut, last.Manifest
		if c.office.cutter.State() == cutter.Saved {
			ours.tree = last.Tree.Clone()
		}
	}
	return ours
}

// hadOf returns what the target had when we last knew it; in this process, or another.
func hadOf(c *Courier) had {
	s, last := &c.stock, c.office.cutter.Last()
	h := had{lineage: s.current}
	switch {
	case s.unsettled != nil:
		h.etag, h.manifest, h.writer = s.etag, &s.unsettled.version, s.writer
		h.tree = s.unsettled.change.tree.Clone()
	case s.version != nil:
		h.etag, h.manifest, h.writer, h.tree = s.etag, s.version, s.writer, s.tree.Clone()
	case last != nil && c.ack.Cut == cutName(last.Manifest.Cut):
		h.etag = c.ack.ETag
	}
	return h
}

// newcomer reports whether whatever the target has under our name is our past: the spool knew of
// no version, and the target was not met since.
func (c *Courier) newcomer() bool { return c.office.cutter.FoundBlank() && !c.met }

// chunksMax bounds a version whose tree is loaded.
func chunksMax(o *Office) int {
	chunks := o.o.Tracker.Mirror().Chunks()
	if now, err := spool.StampOf(o.o.Spool.Path()); err == nil {
		chunks = max(chunks, int(now.Bytes/chunkstore.ChunkBytes))
	}
	return 4*chunks + strangeChunks
}

func (a *contact) run(ctx context.Context) error {
	err := a.look(ctx)
	if err == nil {
		err = a.openNotes()
	}
	if err != nil || a.found.exists {
		return err
	}
	var work sync.WaitGroup
	if a.elsewhere != nil {
		a.uploads.calls.Add(1)
		work.Go(func() {
			_ = errands.Guarded(func() error { a.elsewhere.look(ctx, a.t); return nil })()
		})
	}
	if a.feed != nil {
		err = a.putAhead(ctx)
	}
	work.Wait()
	return err
}

// openNotes sees to it that what is put to the chunk bucket that was met is noted, and what
// another had is not believed of it.
func (a *contact) openNotes() (err error) {
	met, known := a.found.ids.Chunks, a.known.Chunks
	if a.notes.journal != nil && met == known {
		return nil
	}
	if known != (chunkstore.Identity{}) && met != known {
		if err := a.notes.of(known).Remove(); err != nil {
			return err
		}
	}
	a.notes.journal = a.notes.of(met)
	a.uploads.journal = a.notes.journal
	a.notes.known = a.at
	a.notes.put, err = a.notes.journal.Load(a.at)
	return err
}

// look finds out which version there is, reads the identity of the buckets, and the tree, and asks
// for some of what it names.
func (a *contact) look(ctx context.Context) error {
	release, err := a.t.Slot(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := a.lookAtVersion(ctx); err != nil {
		return err
	}
	if !a.fresh {
		if err := a.identify(ctx); err != nil {
			return err
		}
	}
	// A version that was put for another chunk bucket, or before this one was emptied, names
	// nothing that need be there.
	f := &a.found
	if m := f.manifest; m != nil && !slices.Contains(m.Stores, f.ids.Chunks) {
		f.vain, f.tree, f.names = true, nil, nil
		return nil
	}
	if f.names == nil {
		if err := a.loadTree(ctx); err != nil {
			return err
		}
		f.same = f.same && f.names != nil && (f.proved || a.asOurs())
	}
	if f.tree == nil || a.fresh {
		return nil
	}
	return a.probe(ctx)
}

// loadTree loads the tree of the version that was found. What is below a leaf or node that is
// damaged, or gone, counts for zeros: so it is missing.
func (a *contact) loadTree(ctx context.Context) error {
	f := &a.found
	if f.tree == nil {
		return nil
	}
	if !(f.same && f.proved) && f.manifest.Chunks() > a.ours.chunksMax {
		f.damaged = fmt.Errorf("%w: a database of %d bytes",
			chunkstore.ErrCorrupt, f.manifest.FileBytes)
		f.tree, f.names = nil, nil
		return nil
	}
	fetch := func(ctx context.Context, refs []chunkstore.Ref) ([][]byte, error) {
		a.uploads.calls.Add(1)
		plain, err := a.t.GetObjects(ctx, refs)
		if len(refs) == 1 && chunkstore.IsFault(err) {
			note(&f.torn, refs[0].Place.Pack)
		}
		return plain, err
	}
	lost, err := f.tree.Salvage(ctx, fetch)
	if err != nil {
		return fmt.Errorf("load tree: %w", err)
	}
	f.names = f.tree
	if lost != nil {
		f.damaged = lost
	}
	return nil
}

// identify finds out what the target's buckets are, and gives them an identity if they have none:
// both at once, if there is a slot for it.
func (a *contact) identify(ctx context.Context) error {
	release, free := chunkstore.SlotIfFree(a.t)
	if !free {
		if err := a.identifyChunks(ctx); err != nil {
			return err
		}
		return a.identifyManifests(ctx)
	}
	defer release()
	var both errgroup.Group
	both.Go(errands.Guarded(func() error { return a.identifyChunks(ctx) }))
	both.Go(errands.Guarded(func() error { return a.identifyManifests(ctx) }))
	return both.Wait()
}

func (a *contact) identifyChunks(ctx context.Context) (err error) {
	id := &a.found.ids.Chunks
	a.uploads.calls.Add(1)
	if *id, err = chunkstore.Identify(ctx, a.t.Chunks, a.t.Sealer); err != nil {
		return err
	}
	if !a.Logged || *id != a.known.Chunks {
		a.Logged, err = a.t.ProveLog(ctx, *id)
	}
	return err
}

func (a *contact) identifyManifests(ctx context.Context) (err error) {
	id := &a.found.ids.Manifests
	if !a.found.exists || *id == (chunkstore.Identity{}) {
		a.uploads.calls.Add(1)
		if *id, err = chunkstore.Identify(ctx, a.t.Manifests, a.t.Sealer); err != nil {
			return err
		}
	}
	if !a.Guarded {
		a.Guarded, err = a.t.ProveConditions(ctx, *id)
	}
	return err
}

// probe asks for some of the packs that a manifest names; if one is gone, for all of them.
func (a *contact) probe(ctx context.Context) error {
	f := &a.found
	if !a.all {
		some := sample{t: a.t, tree: f.tree}
		err := some.take(ctx)
		a.uploads.calls.Add(some.calls)
		if err != nil || some.gone == 0 {
			return wrap(err, "look for packs")
		}
	}
	if err := a.loadTree(ctx); err != nil || f.tree == nil {
		return err
	}
	var err error
	f.gone, err = a.t.LackingPacks(ctx, packsOf(f.tree), a.uploads.how.Concurrency)
	if err == nil {
		maps.Copy(f.gone, a.damaged)
	}
	return wrap(err, "look for packs")
}

// contacted takes a contact's result.
func (c *Courier) contacted(a *contact, err error) {
	c.state = Strange
	c.repack.forget()
	c.fold, c.stock.folded = nil, nil
	defer c.saver.take()
	if c.saver.saving != nil {
		c.saver.saving.stale = true
	}
	c.shelf.calls.Add(a.uploads.calls.Load())
	if a.found.beaten {
		c.stock.story, c.stock.version = story{}, nil
	}
	a.meet(c)
	if a.put != nil {
		c.stock.add(a.put, a.at)
		a.uploads.count(c.office.o.Sent, len(a.put))
	}
	if err != nil {
		c.fail(err)
		return
	}
	f := &a.found
	if f.damaged != nil {
		c.log().Error("target's version is damaged: what is not there is put again",
			"target", c.Name, "error", f.damaged)
	}
	if err := f.judge(c); err != nil {
		c.stop(err)
		return
	}
	a.elsewhere.say(c)
	c.state, c.met, c.trouble.err, c.belief.err = Idle, true, nil, nil
	c.saver.since = a.at
	a.noteSeen(c)
	c.beat.begin(f.manifest)
	c.stock.exists, c.stock.etag, c.stock.version, c.found = f.exists, f.etag, nil, f
	if f.writer == nil || f.writer != a.had.writer {
		diaryOf(c).drop()
	}
	c.stock.story = f.story(c.ack.keepLogs())
	c.stock.signs(c.stock.writer)
	c.stock.signs(c.stock.before)
	if f.whole() {
		c.stock.version = f.manifest
	}
	last := c.office.cutter.Last()
	if f.whole() && f.same && last != nil && last.Manifest.Cut == a.ours.cut {
		c.stock.holds = a.ours.cut
	} else {
		c.unsay()
	}
	if last != nil {
		c.compare()
	}
	metDamage(c)
	c.office.saveAcks()
	if c.stock.holds != noCut {
		c.well()
	}
}

// meet tells the courier what the target's buckets are. What was put to another bucket is not
// believed of this one.
func (a *contact) meet(c *Courier) {
	if a.notes.journal == nil {
		return // it did not get so far
	}
	if c.stock.journal != a.notes.journal {
		c.stock.notes = a.notes
	}
	changed := func(was, is chunkstore.Identity) bool {
		return was != (chunkstore.Identity{}) && was != is
	}
	is := a.found.ids
	switch {
	case changed(c.ids.Chunks, is.Chunks):
		c.log().Error("target's chunk bucket is another one than before, or was emptied: "+
			"everything is put again",
			"target", c.Name, "was", c.ids.Chunks, "is", is.Chunks)
	case a.found.vain:
		c.log().Error("target's version was put for another chunk bucket, or this one was "+
			"emptied: everything is put again",
			"target", c.Name, "chunk_bucket", is.Chunks)
	}
	switch {
	case changed(c.ids.Manifests, is.Manifests):
		c.log().Error("target's manifest bucket is another one than before, or was emptied: "+
			"everything is put again",
			"target", c.Name, "was", c.ids.Manifests, "is", is.Manifests)
	case !a.found.exists && c.ack.Cut != "":
		c.log().Error("target's manifest is gone: everything is put again", "target", c.Name)
	}
	c.ids, c.ack.guards = is, a.guards
}

// judge decides whether what the courier's target has under our name is our past (I5). A newcomer
// is the successor of whatever it finds.
func (f *finding) judge(c *Courier) error {
	m, cutter := f.manifest, c.office.cutter
	switch {
	case f.foreign != nil:
		return fmt.Errorf("%w: %w", chunkstore.ErrConflict, f.foreign)
	case m == nil:
		return nil
	case c.stock.overruled(m.At, f.fence):
		return fmt.Errorf("%w: %s has taken over", chunkstore.ErrConflict, f.who(c))
	case f.same:
		return nil
	case c.newcomer():
		cutter.Follow(m.Head())
		return nil
	}
	who := fmt.Sprintf("version %d of epoch %d by %s", m.Sequence, m.Epoch, f.who(c))
	own := cutter.Head()
	wrote := cutter.Wrote(m.Sequence, m.Cut) || c.ack.Cut == cutName(m.Cut)
	why := ""
	switch own.Find(m.Head(), wrote) {
	case manifest.OtherLineage:
		why = "is of another lineage"
	case manifest.TakenOver:
		why = fmt.Sprintf("has taken over from epoch %d", own.Epoch)
	case manifest.Later:
		why = fmt.Sprintf("is newer than our %d", own.Sequence)
	case manifest.Another:
		why = "was not written by this spool, but maybe by a clone of it"
	default:
		return nil
	}
	return fmt.Errorf("%w: %s %s", chunkstore.ErrConflict, who, why)
}

// who says who writes the version that was found, as far as that is known.
func (f *finding) who(c *Courier) string {
	if f.fence != nil && !c.stock.names[f.fence.Writer] {
		if owner, err := manifest.DecodeOwner(f.fence.Body); err == nil {
			return owner.String()
		}
	}
	return f.manifest.Program
}

// noteSeen tells the courier what was seen.
func (a *contact) noteSeen(c *Courier) {
	if !a.fresh {
		c.belief.store, c.belief.sample = time.Time{}, time.Time{}
	}
	asked := !a.fresh || a.found.writer == nil
	c.belief.lookedAt(a.at, seen{!a.fresh, asked, asked, asked, !a.fresh})
	if w := a.found.writer; asked && w != nil {
		c.belief.stood = w.At()
	}
	c.belief.all = c.belief.all && !a.all
	c.office.cutter.AddStore(c.ids.Chunks)
}

func wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
