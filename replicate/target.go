package replicate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/backoff"
	"verneuil/replicate/cutter"
	"verneuil/replicate/patrol"
	"verneuil/spool"
)

// target is what a session knows of one target.
type target struct {
	*chunkstore.Target
	id string // in targets.json

	seen     bool   // contacted before
	known    bool   // the manifest was read, and missing and have are right
	exists   bool   // there is a manifest
	etag     string // of it
	holds    []byte // it, if it is one of our cuts, as stored; else nil
	point    point  // what it is known to include
	missing  map[int]chunkstore.ID
	have     map[chunkstore.ID]bool // leaves and nodes
	put      map[chunkstore.ID]bool // objects that it has durably, although no manifest names them
	journal  *spool.PutJournal      // of put; nil before the first contact
	gone     map[chunkstore.ID]bool // found's, which it has not
	ids      identities             // of its buckets, as last seen, in this session or before
	ack      ack                    // what targets.json has of it
	belief   belief
	found    *manifest.Manifest // as last read from it; nil if none
	raw      []byte             // found, as stored
	tree     *manifest.Tree     // found's, until it was compared; nil if it is damaged
	conflict error              // stopped: another writer

	conflicts int  // pushes that met one, since the last that did not
	busy      bool // a push or a contact is under way
	attempt   uint64
	failed    bool      // the last attempt did
	failedAt  uint64    // serial of the last attempt that failed; of its end, if that was for want of an answer
	err       error     // of it
	retry     time.Time // not before
	backoff   backoff.Backoff

	calls  int64
	acked  time.Time // when it took a manifest last
	pushed *job      // under way
	patrol *patrol.Patrol
}

func (s *session) newTarget(ct *chunkstore.Target) *target {
	return &target{
		Target: ct, id: targetID(ct),
		missing: make(map[int]chunkstore.ID), backoff: backoff.Backoff{First: time.Second, Most: time.Minute},
		patrol: patrol.New(ct, s.r.o.PatrolPeriod, s.log),
	}
}

// putJournal is the journal of what was put to a target while its chunk bucket was that one.
func putJournal(sp *spool.Spool, target string, chunks chunkstore.Identity) *spool.PutJournal {
	return sp.PutJournal(target + " " + chunks.String())
}

// hasPut notes objects that the target has durably, and no manifest names yet.
func (t *target) hasPut(ids map[chunkstore.ID]bool) {
	if t.put == nil {
		t.put = ids
	} else {
		maps.Copy(t.put, ids)
	}
}

// ack is what targets.json keeps of a target: the manifest that it last took, by its hash
// and ETag, so that we can ask "has it changed?" instead of reading it; what its buckets
// were; and when that was seen.
type ack struct {
	ETag     string `json:"etag,omitempty"`
	Manifest string `json:"manifest,omitempty"`
	identities
	Store  time.Time `json:"store_seen,omitzero"`
	Sample time.Time `json:"sample_seen,omitzero"`

	// Guarded: the bucket of manifests was seen to refuse Puts whose conditions do not hold.
	Guarded bool `json:"guarded,omitempty"`
}

const targetsBytesMax = 1 << 20

func (s *session) loadAcks() {
	acks := make(map[string]ack)
	b, err := s.sp.ReadFile("targets.json", targetsBytesMax)
	if err != nil || json.Unmarshal(b, &acks) != nil {
		return
	}
	now, last := s.now(), s.cutter.Last()
	for _, t := range s.targets {
		t.ack = acks[t.id]
		t.ids = t.ack.identities
		if last == nil { // it may have been another host's manifest
			t.ack.Manifest, t.ack.ETag = "", ""
		}
		if !t.ack.Store.After(now) && !t.ack.Sample.After(now) { // else the clock was set back
			t.belief.lookedAt(t.ack.Store, true, false, false)
			t.belief.lookedAt(t.ack.Sample, false, false, true)
		}
		if last != nil && t.ack.Manifest == chunkstore.Sum(last.Encoded).String() {
			t.etag = t.ack.ETag
		}
	}
}

func (s *session) saveAcks() {
	acks := make(map[string]ack)
	for _, t := range s.targets {
		if t.holds != nil {
			t.ack.ETag, t.ack.Manifest = t.etag, chunkstore.Sum(t.holds).String()
		}
		if t.ids != (identities{}) {
			t.ack.identities, t.ack.Store, t.ack.Sample = t.ids, t.belief.store, t.belief.sample
			acks[t.id] = t.ack
		}
	}
	b, err := json.Marshal(acks)
	if err == nil {
		err = s.sp.WriteFile("targets.json", b)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log().Warn("targets.json was not written", "error", err)
	}
}

// contact reads what a target has under our name. f brings what can be put if it
// has nothing; it may be nil.
func (s *session) contact(t *target, f *feed) {
	s.started(t)
	c := &contact{
		t: t.Target, key: s.r.key, etag: t.etag, object: s.cutter.Object,
		feed: f, has: maps.Clone(t.put), uploads: s.uploads(t), concurrency: s.r.o.Concurrency,
		at: s.now(), sp: s.sp, id: t.id, known: t.ids, ids: t.ids, journal: t.journal, guarded: t.ack.Guarded,
		fresh: s.r.o.still == nil && s.now().Sub(t.belief.store) < quietTrust && s.now().Sub(t.belief.sample) < pauseTrust,
	}
	if now, err := spool.StampOf(s.sp.Path()); err == nil {
		c.chunksMax = int(now.Bytes / chunkstore.ChunkBytes)
	}
	c.chunksMax = 4*max(c.chunksMax, s.mirror.Chunks()) + strangeChunks
	if last := s.cutter.Last(); last != nil {
		c.ours, c.last, c.lastTree = last.Encoded, last.Manifest, last.Tree.Clone()
	}
	if t.etag == "" || s.cutter.State() == cutter.Ahead {
		c.etag = ""
	}
	c.host, c.path, c.newcomer = s.r.o.Host, s.sp.Path(), s.cutter.FoundBlank() && !t.seen
	s.work.Go(func() {
		err := guarded(func() error { return c.run(s.ctx) })()
		f.refuse()
		s.send(func() { s.contacted(t, c, err) })
	})
}

// started numbers an attempt.
func (s *session) started(t *target) {
	s.serial++
	t.busy, t.attempt = true, s.serial
}

// strangeChunks, and four times our database, is how long a version in a target may be for
// us to load its tree, 64 GiB: of one that was made to harm us, a few objects may stand for
// 281 TB. Of what is longer all is put anew.
const strangeChunks = 1 << 20

// epochMax is far more than spools are ever lost. A version beyond it is none of ours: after
// the last epoch there would be no next one, and replicas follow a lineage forwards only.
const epochMax = 1 << 32

// contact is a first look at a target, on its way. It shares nothing that changes.
type contact struct {
	t         *chunkstore.Target
	key       string
	etag      string // of ours, which the target may still have
	ours      []byte
	chunksMax int // of a version whose tree is loaded
	last      *manifest.Manifest
	lastTree  *manifest.Tree
	object    manifest.Fetch

	at      time.Time
	sp      *spool.Spool
	id      string // the target's, in targets.json
	known   identities
	journal *spool.PutJournal // of what is put to known
	guarded bool              // see ack
	fresh   bool              // it was looked at lately: the manifest's ETag will do

	feed        *feed // nil: nothing is put ahead
	has         map[chunkstore.ID]bool
	uploads     *uploads
	concurrency int
	put         map[chunkstore.ID]bool // ahead, durably

	host, path string // of the database
	newcomer   bool   // nothing is known of its past
	elsewhere  []string

	calls   atomic.Int64
	exists  bool
	raw     []byte // found, as stored
	same    bool   // it is ours
	damaged error
	found   *manifest.Manifest
	tree    *manifest.Tree         // loaded
	ids     identities             // of its buckets
	vain    bool                   // found names what this chunk bucket never had, or has lost
	gone    map[chunkstore.ID]bool // what tree names, and is not there
}

func (c *contact) run(ctx context.Context) error {
	err := c.look(ctx)
	if err == nil {
		err = c.openJournal()
	}
	if err != nil || c.exists {
		return err
	}
	var work sync.WaitGroup
	if c.newcomer {
		work.Go(func() { _ = guarded(func() error { c.lookElsewhere(ctx); return nil })() })
	}
	if c.feed != nil {
		err = c.putAhead(ctx)
	}
	work.Wait()
	return err
}

// openJournal sees to it that what is put to the chunk bucket that was met is noted, and what
// another had is not believed of it.
func (c *contact) openJournal() (err error) {
	if c.journal != nil && c.ids.Chunks == c.known.Chunks {
		return nil
	}
	if c.known.Chunks != (chunkstore.Identity{}) && c.ids.Chunks != c.known.Chunks {
		if err := putJournal(c.sp, c.id, c.known.Chunks).Remove(); err != nil {
			return err
		}
	}
	c.journal = putJournal(c.sp, c.id, c.ids.Chunks)
	c.uploads.journal = c.journal
	c.has, err = c.journal.Load(c.at)
	return err
}

// look reads the manifest, the identity of the buckets, and the tree, and asks for some of what
// it names.
func (c *contact) look(ctx context.Context) error {
	release, err := c.t.Slot(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := c.lookAtManifest(ctx); err != nil {
		return err
	}
	if !c.fresh {
		if err := c.identify(ctx); err != nil {
			return err
		}
	}
	if c.putElsewhere(c.found) {
		c.vain, c.tree = true, nil
		return nil
	}
	if err := c.loadTree(ctx); err != nil {
		return err
	}
	return c.probe(ctx)
}

// lookAtManifest reads it.
func (c *contact) lookAtManifest(ctx context.Context) error {
	c.calls.Add(1)
	o, err := c.t.GetManifest(ctx, c.key, chunkstore.GetOptions{IfNoneMatch: c.etag, BytesMax: 2 * manifest.BytesMax}, func(body []byte) (err error) {
		if c.last != nil && bytes.Equal(body, c.ours) {
			c.same = true
			return nil
		}
		c.found, err = manifest.Decode(body)
		if err == nil && c.found.Epoch > epochMax {
			err = fmt.Errorf("%w: epoch %d", chunkstore.ErrCorrupt, c.found.Epoch)
		}
		return err
	})
	c.fresh = c.fresh && errors.Is(err, chunkstore.ErrUnmodified)
	switch {
	case errors.Is(err, chunkstore.ErrAbsent):
		return nil
	case errors.Is(err, chunkstore.ErrUnmodified):
		c.exists, c.same, c.found, c.tree = true, true, c.last, c.lastTree
		return nil
	case errors.Is(err, manifest.ErrNewer):
		return fmt.Errorf("look at manifest: %w", err) // not ours to replace (I5)
	case errors.Is(err, chunkstore.ErrCorrupt):
		c.found, c.damaged = nil, err
		if o.ETag == "" { // it is too long to be read, or no object at all
			c.calls.Add(1)
			o, err = c.t.Manifests.Stat(ctx, c.key)
			if errors.Is(err, chunkstore.ErrAbsent) {
				return nil
			} else if err != nil {
				return fmt.Errorf("look at manifest: %w", err)
			}
		}
		c.exists, c.etag, c.raw = true, o.ETag, o.Body
		return nil
	case err != nil:
		return fmt.Errorf("look at manifest: %w", err)
	}
	c.exists, c.etag, c.raw = true, o.ETag, o.Body
	if c.same {
		c.found, c.tree = c.last, c.lastTree
	}
	return nil
}

// loadTree loads the tree of the version that was found, if it is not ours.
func (c *contact) loadTree(ctx context.Context) error {
	if c.found == nil || c.tree != nil {
		return nil
	}
	if c.found.Chunks() > c.chunksMax {
		c.damaged = fmt.Errorf("%w: a database of %d bytes", chunkstore.ErrCorrupt, c.found.FileBytes)
		return nil
	}
	tree := c.found.Tree(c.t.Sealer)
	err := tree.Load(ctx, func(ctx context.Context, id chunkstore.ID) ([]byte, error) {
		if b, err := c.object(ctx, id); err == nil {
			return b, nil
		}
		c.calls.Add(1)
		return c.t.GetChunk(ctx, id)
	})
	switch {
	case chunkstore.IsFault(err):
		c.damaged = err // everything is missing, then
	case err != nil:
		return fmt.Errorf("load tree: %w", err)
	default:
		c.tree = tree
	}
	return nil
}

// contacted takes a contact's result.
func (s *session) contacted(t *target, c *contact, err error) {
	t.busy = false
	t.calls += c.calls.Load() + c.uploads.calls.Load()
	s.meet(t, c)
	if c.put != nil {
		t.hasPut(c.put)
		s.count(len(c.put), c.uploads)
	}
	if err != nil {
		s.targetFailed(t, err)
		return
	}
	if c.damaged != nil {
		s.log().Error("target's version is damaged: it is pushed anew", "target", t.Name, "error", c.damaged)
	}
	if err := s.judge(c, s.cutter.FoundBlank() && !t.seen, t.ack.Manifest); err != nil {
		s.targetConflict(t, err)
		return
	}
	s.sayElsewhere(c)
	t.seen, t.known, t.failed = true, true, false
	s.noteSeen(t, c)
	s.beginPatrol(t, c.found)
	t.exists, t.etag, t.found, t.raw, t.tree, t.gone = c.exists, c.etag, c.found, c.raw, c.tree, c.gone
	last := s.cutter.Last()
	if c.same && !c.vain && last != nil && bytes.Equal(c.ours, last.Encoded) {
		t.holds = last.Encoded
	} else {
		s.unsay(t)
	}
	if last != nil {
		s.compare(t)
	}
	s.saveAcks()
	if t.holds != nil {
		s.r.o.Outages.succeeded(s.log(), s.now(), t.Target, s.r.key)
	}
}

// judge decides whether what a target has under our name is our past (I5). A
// newcomer, whose spool knows of no cut, is the successor of whatever it finds. acked is the hash of
// the manifest that the target was last known to have taken from this spool.
func (s *session) judge(c *contact, newcomer bool, acked string) error {
	m := c.found
	if m == nil || c.same {
		return nil
	}
	who := fmt.Sprintf("version %d of epoch %d by %s", m.Sequence, m.Epoch, m.Program)
	if m.Host != s.r.o.Host || m.Path != s.sp.Path() {
		return fmt.Errorf("%w: it is of %s:%s", chunkstore.ErrConflict, m.Host, m.Path)
	}
	if newcomer {
		s.cutter.Follow(m.Head())
		return nil
	}
	own := s.cutter.Head()
	wrote := s.cutter.Wrote(m.Sequence, c.raw) || acked == chunkstore.Sum(c.raw).String()
	why := ""
	switch own.Find(m.Head(), wrote) {
	case manifest.OtherLineage:
		why = "is of another lineage"
	case manifest.TakenOver:
		why = fmt.Sprintf("has taken over from epoch %d", own.Epoch)
	case manifest.Ahead:
		why = fmt.Sprintf("is newer than our %d", own.Sequence)
	case manifest.Another:
		why = "was not written by this spool, but maybe by a clone of it"
	default:
		return nil
	}
	return fmt.Errorf("%w: %s %s", chunkstore.ErrConflict, who, why)
}

// compare finds out what a target lacks of the last cut: t.tree is what it has.
func (s *session) compare(t *target) {
	t.missing = make(map[int]chunkstore.ID)
	t.have = make(map[chunkstore.ID]bool)
	had := 0
	if t.tree != nil {
		had = t.tree.Len()
		for id := range t.tree.Objects() {
			t.have[id] = true
		}
	}
	tree := s.cutter.Last().Tree
	for i := range tree.Len() {
		id := tree.At(i)
		if id != chunkstore.ZeroID && !t.put[id] && (i >= had || t.tree.At(i) != id) {
			t.missing[i] = id
		}
	}
	if len(t.missing) > 0 && had > 0 {
		elsewhere := make(map[chunkstore.ID]bool, len(t.missing))
		for _, id := range t.missing {
			elsewhere[id] = false
		}
		for i := range had {
			if _, ok := elsewhere[t.tree.At(i)]; ok {
				elsewhere[t.tree.At(i)] = true
			}
		}
		maps.DeleteFunc(t.missing, func(_ int, id chunkstore.ID) bool { return elsewhere[id] })
	}
	gone := t.gone
	t.found, t.raw, t.tree, t.gone = nil, nil, nil, nil
	// What is missing and overridden by inline pages exists nowhere any more: the
	// next cut stores it whole.
	for i := range t.missing {
		s.cutter.StoreWholeIfInline(i)
	}
	s.lost(t, gone)
}

// behind reports whether the target lacks the last cut.
func (s *session) behind(t *target) bool {
	last := s.cutter.Last()
	return last != nil && (t.holds == nil || !bytes.Equal(t.holds, last.Encoded))
}

func (s *session) targetFailed(t *target, err error) {
	if s.ctx.Err() != nil {
		return // we are ending, not the target
	}
	t.failed, t.failedAt, t.err = true, t.attempt, err
	if errors.Is(err, chunkstore.ErrNoAnswer) { // it has had its time: who came meanwhile need not give it as much again
		s.serial++
		t.failedAt = s.serial
	}
	wait := t.backoff.Next()
	t.retry = s.now().Add(wait)
	s.log().Info("push failed", "target", t.Name, "error", err, "retry_in", wait)
	if !s.r.o.Reported {
		s.r.o.Outages.failed(s.log(), s.now(), t.Target, s.r.key, err)
	}
}

func (s *session) targetConflict(t *target, err error) {
	t.known, t.conflict = false, err
	t.failed, t.failedAt, t.err = true, t.attempt, err
	s.log().Error("stopped replicating to a target: another writer uses our name; "+
		"if this database is the rightful one, delete its spool directory to take over",
		"target", t.Name, "manifest", s.r.key, "spool", s.sp.Dir(), "error", err)
}

// ready reports whether the target can be pushed to, or contacted, now.
func (s *session) ready(t *target) bool {
	if t.busy || t.conflict != nil {
		return false
	}
	return !t.failed || !s.now().Before(t.retry) || s.flushWants(t.failedAt)
}

func (s *session) anyReady() bool {
	for _, t := range s.targets {
		if t.known && s.ready(t) {
			return true
		}
	}
	return false
}
