package courier

import (
	"context"
	"errors"
	"fmt"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/backoff"
)

// What a courier believes of its target, it was told at some moment; see "Beliefs" in doc.go.
// These bound how old that may be.
const (
	// FlushTrust is for a flush: somebody is told that his data are safe.
	FlushTrust = time.Second
	// ChainTrust is for the records that lead to the newest version, in a flush of QuietTrust.
	ChainTrust = PauseTrust
	// QuietTrust is for a flush of ours, at the end of a process or of a database's last
	// connection: a program that comes and goes with each request does not pay for each.
	QuietTrust = time.Minute
	// PauseTrust is for a push, and for objects picked at random.
	PauseTrust = 10 * time.Minute

	// SampleObjects are asked for at a time. If a tenth of all is gone, 3 of 10 looks find out.
	// One of them is of a version that was pushed since the last look.
	SampleObjects = 3 // packs, or a leaf or node on the way to one
)

// identities are those of a target's buckets; zero: not known.
type identities struct {
	Chunks    chunkstore.Identity `json:"chunks"`
	Manifests chunkstore.Identity `json:"manifests"`
}

// belief says when a target was seen to be what we take it for. Zero: not yet.
type belief struct {
	of *Courier

	store    time.Time // its chunk bucket had the identity that we know
	manifest time.Time // it had the manifest that we know, or another checkpoint of its history
	log      time.Time // the history ended where we know; or it had that manifest, and has none
	chain    time.Time // all records were there that a reader needs, up to stood
	sample   time.Time // it had all of some objects, picked at random
	stood    history.Position
	unasked  []int // a chunk of each pack that was put since the last sample

	looking bool
	all     bool   // something is gone, so that the next contact asks for all
	failed  uint64 // serial of the last look that failed
	err     error  // of it, until the target has answered
	pause   backoff.Backoff
	retry   time.Time // not before, unless somebody asks for a flush
}

// unknown is the belief of who knows nothing of the target.
func unknown(c *Courier, all bool) belief {
	return belief{of: c, all: all, pause: backoff.Backoff{First: retryFirst, Most: retryMost}}
}

// suspect has the next contact ask for all that the target's version names.
func (b *belief) suspect(found string) {
	c := b.of
	c.log().Error("target is not as it was: all of it is checked",
		"target", c.Name, "found", found)
	looking := b.looking
	*b = unknown(c, true)
	b.looking = looking
	b.doubt()
}

// doubt has the target contacted anew, at once or when the push is over.
func (b *belief) doubt() {
	switch c := b.of; c.state {
	case Idle:
		c.state = Strange
	case Pushing:
		c.state = Doubted
	}
}

// seen says what was found to be as it was.
type seen struct{ store, manifest, log, chain, sample bool }

// lookedAt notes what was seen at that time.
func (b *belief) lookedAt(at time.Time, s seen) {
	for _, w := range []struct {
		seen bool
		time *time.Time
	}{{s.store, &b.store}, {s.manifest, &b.manifest}, {s.log, &b.log}, {s.chain, &b.chain},
		{s.sample, &b.sample}} {
		if w.seen && at.After(*w.time) {
			*w.time = at
		}
	}
}

// covers reports whether what is known of the target is young enough for a flush.
func (b *belief) covers(w Want) bool {
	return !b.store.Before(w.Since) && !b.manifest.Before(w.Since) && !b.log.Before(w.Since) &&
		!b.chain.Before(w.Chain) && !b.sample.Before(w.Since.Add(-PauseTrust))
}

// lookFor begins a look at what was not seen since then, and whether all records are there if that
// was not seen since chain.
func (b *belief) lookFor(since, chain time.Time) {
	quiet := !b.of.state.Busy() && !b.of.Behind() // else a push will see what is there
	s := seen{
		store:    b.store.Before(since),
		manifest: b.manifest.Before(since) && (quiet || b.of.stock.mark != nil),
		log:      b.log.Before(since) && quiet,
		chain:    b.chain.Before(chain) && (quiet || b.of.stock.mark != nil),
		sample:   b.sample.Before(since.Add(-PauseTrust)),
	}
	if s != (seen{}) {
		b.look(s)
	}
}

// lookAfterPause begins a look if there was none for long: a bucket may have been emptied. It is
// a push's, which tells nobody that anything is safe, and does not ask for records: who does asks
// for all of them, then.
func (b *belief) lookAfterPause() {
	since := b.of.office.now().Add(-PauseTrust)
	if !b.looking && (b.store.Before(since) || b.sample.Before(since)) {
		b.stood = history.Position{}
		b.look(seen{store: true, manifest: b.of.stock.mark != nil, sample: true})
	}
}

// look asks the target in the background whether it is still what we take it for.
func (b *belief) look(want seen) {
	b.looking = true
	c, o := b.of, b.of.office
	l := &look{
		t: c.Target, serial: o.o.Serial.Next(), at: o.now(), known: c.ids.Chunks,
		shelf: c.shelf, attempt: c.attempt,
	}
	if want.manifest || want.log || want.chain {
		if l.etag = c.stock.etag; c.stock.mark != nil {
			l.mark = c.stock.mark.Clone()
			if !want.sample { // else all of them are asked for
				l.stood = b.stood
			}
			want.manifest = true // the records that have to be there are those after the checkpoint
			want.chain = want.chain || want.log
		} else {
			want.manifest, want.log, want.chain = true, true, true
		}
	}
	if l.want = want; want.sample {
		l.sample = newSample(c)
	}
	o.o.Errands.Go(l.run, func(err error) { b.looked(l, err) })
}

// look is one, on its way. It shares nothing that changes.
type look struct {
	t       *chunkstore.Target
	serial  uint64
	at      time.Time
	attempt uint64 // the courier's last one, when it began
	known   chunkstore.Identity
	want    seen
	shelf   *shelf
	mark    *history.Reader  // what the history is to be; nil: there is none
	stood   history.Position // where it was found to stand
	etag    string           // of the manifest then
	sample  *sample          // nil: none is taken

	calls   int64
	unlike  string // what is not as it was; empty: all is
	changed bool   // it is the manifest, or the history
	gone    bool   // something of it is gone, which we have not put
}

func (l *look) run(ctx context.Context) error {
	release, err := l.t.Slot(ctx)
	if err != nil {
		return err
	}
	defer release()
	if l.want.store {
		l.calls++
		id, err := chunkstore.ReadIdentity(ctx, l.t.Chunks)
		switch {
		case errors.Is(err, chunkstore.ErrCorrupt):
			l.unlike = err.Error()
		case err != nil:
			return err
		case id != l.known:
			l.unlike = fmt.Sprintf("the chunk bucket's identity is %q, and was %q", id, l.known)
		}
	}
	if l.want.manifest && l.unlike == "" {
		if err := l.lookAtVersion(ctx); err != nil {
			return err
		}
	}
	if l.unlike == "" && l.sample != nil {
		err := l.sample.take(ctx)
		l.calls += l.sample.calls
		if err != nil {
			return err
		}
		if l.sample.gone > 0 {
			l.unlike = fmt.Sprintf("%d of %d packs, picked at random, are gone",
				l.sample.gone, l.sample.asked)
		}
	}
	return nil
}

// lookAtVersion asks whether it is the one that it was.
func (l *look) lookAtVersion(ctx context.Context) (err error) {
	switch {
	case l.mark == nil:
		err = l.lookAtManifest(ctx)
	case l.want.log:
		err = l.mark.Check(ctx, l.stood)
	default:
		if err = l.mark.Look(ctx); err == nil && l.want.chain {
			err = l.mark.Stand(ctx, l.stood)
		}
	}
	switch {
	case err == nil:
	case errors.Is(err, chunkstore.ErrAbsent):
		l.unlike, l.changed, l.gone = "the manifest is gone", true, true
	case errors.Is(err, history.ErrLost):
		l.unlike, l.changed, l.gone = err.Error(), true, true
	case errors.Is(err, history.ErrBehind), chunkstore.IsFault(err):
		l.unlike, l.changed = "the newest version is another: "+err.Error(), true
	default:
		return fmt.Errorf("look for manifest: %w", err)
	}
	return nil
}

// lookAtManifest fails with [history.ErrBehind] if the manifest is another.
func (l *look) lookAtManifest(ctx context.Context) error {
	l.calls++
	options := chunkstore.GetOptions{IfNoneMatch: l.etag, BytesMax: 2 * manifest.BytesMax}
	_, err := l.t.Manifests.Get(ctx, l.shelf.key, options)
	if errors.Is(err, chunkstore.ErrUnmodified) {
		return nil
	} else if err == nil {
		err = history.ErrBehind
	}
	return err
}

// moved reports whether what l has found to have changed may be what we have put meanwhile.
func (l *look) moved(c *Courier) bool {
	now := c.stock.mark
	switch {
	case !l.changed:
		return false
	case l.mark == nil || now == nil:
		return c.state.Busy() || c.stock.etag != l.etag
	case l.gone:
		return now.At().Lineage != l.mark.At().Lineage
	}
	return c.attempt != l.attempt || now.At().Number != l.mark.At().Number
}

// looked takes a look's result. What is not as it was, is found out by a contact.
func (b *belief) looked(l *look, err error) {
	c := b.of
	b.looking = false
	c.shelf.calls.Add(l.calls)
	switch {
	case c.office.o.Errands.Ending():
	case err != nil:
		if l.sample != nil {
			b.unask(l.sample.put)
		}
		b.fail(l.serial, err)
		return
	case l.moved(c):
	case l.unlike != "":
		c.log().Error("target is not as it was: all of it is checked",
			"target", c.Name, "found", l.unlike)
		*b = unknown(c, b.all || l.sample != nil && l.sample.gone > 0)
		b.doubt()
		return
	default:
		b.lookedAt(l.at, l.want)
		if l.mark != nil && l.want.chain {
			b.stood = l.mark.At()
			c.office.saveAcks()
		}
	}
	b.answered()
}

// fail notes that a look failed: the target is in trouble, as after a push that did, although
// nothing has to be brought to it. It is looked at again after a pause.
func (b *belief) fail(serial uint64, err error) {
	c, now := b.of, b.of.office.now()
	b.failed, b.err, b.retry = serial, err, now.Add(b.pause.Next())
	c.log().Info("look at target failed", "target", c.Name, "error", err)
	if o := c.office.o.Outages; o != nil {
		o.failed(c.log(), now, c.Target, c.office.key, err)
	}
}

// answered notes that the target has answered a look, or a contact.
func (b *belief) answered() {
	if b.err != nil && b.of.trouble.err == nil && !b.of.Behind() {
		b.of.well()
	}
	b.err = nil
	b.pause.Reset()
}

// again reports whether a target that did not answer a look is to be looked at again, and when.
func (b *belief) again() (at time.Time, ok bool) {
	return b.retry, b.err != nil && b.of.state.Known() && !b.looking
}
