package courier

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"os"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/versions"
)

// delivery is how a target is told of a version, once all that this names is there: by a record of
// its history, by the first checkpoint of one, or, where it can have none, by a manifest.
type delivery struct {
	shelf *shelf
	story              // what the push began with
	logs  bool         // the target can have a history
	prove func() error // that the spool is ours
	diary *diary       // for the next process
	owner manifest.Owner

	base *manifest.Manifest // what the version is a step from; nil: it is told whole
	cond chunkstore.Condition
	body []byte // of the record, or the manifest

	prepared bool   // the record was, that has the version
	named    bool   // the target has the version
	etag     string // of the manifest that it has then
	looked   bool   // that this is there was seen
}

// newDelivery returns how the target is told of the last version.
func newDelivery(c *Courier) delivery {
	s, o := &c.stock, &c.office.o
	d := delivery{
		shelf: c.shelf, story: s.story, logs: c.ack.keepLogs(), prove: o.Prove, diary: diaryOf(c),
		cond: chunkstore.Condition{IfMatch: s.etag, IfNone: !s.exists}, // I5
		owner: manifest.Owner{
			Host: o.Host, Program: c.office.cutter.Last().Manifest.Program, PID: os.Getpid(),
			Since: c.office.now(),
		},
	}
	if s.writer != nil && len(s.lost) == 0 {
		d.base = s.version
	}
	return d
}

// step makes the version a step from what the target has. It fails with [manifest.ErrTooLong].
func (p *push) step() error {
	step := p.base.StepTo(&p.version, p.change.patches, p.change.least)
	body, err := step.Encode()
	if err != nil {
		return err
	}
	next, err := p.base.Apply(step)
	if err != nil {
		return err
	}
	p.body, p.version = body, *next
	return nil
}

// whole makes what tells the target of the version, whose tree is packed, without another one.
func (p *push) whole() (err error) {
	p.version.At = history.Position{}
	switch {
	case p.writer != nil:
		p.body, err = p.version.WholeStep().Encode()
		return err
	case p.logs:
		p.version.At.Released = true
		rand.Read(p.version.At.Lineage[:]) // never fails: crypto/rand
	}
	p.body, err = p.version.Encode(p.t.Sealer)
	return err
}

// deliver tells the target of the version, or goes on to, where that was interrupted.
func (p *push) deliver(ctx context.Context) (err error) {
	release, err := p.t.Slot(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := p.prove(); err != nil {
		return err
	}
	looks := p.shelf.looks.Load()
	switch {
	case p.prepared:
		err = p.settle(ctx)
	case p.writer != nil:
		err = p.append(ctx)
	case p.logs:
		err = p.begin(ctx)
	default:
		err = p.put(ctx)
	}
	if err != nil {
		return err
	}
	p.named, p.looked = true, !p.prepared || p.shelf.looks.Load() > looks
	p.uploads.bytes.Add(int64(len(p.body)))
	return nil
}

// append appends a record that has the version, and first takes the history over, if it is
// nobody's or another's.
func (p *push) append(ctx context.Context) error {
	w := p.writer
	if w.State() != history.Owning {
		if err := p.claim(ctx); err != nil {
			return err
		}
	}
	if err := w.Prepare(p.body, false); err != nil {
		return err
	}
	p.prepared = true
	p.diary.note(w, cmp.Or(p.base, &p.version), &p.version)
	return p.settle(ctx)
}

// claim takes the history over.
func (p *push) claim(ctx context.Context) error {
	if w := p.writer; w.State() == history.Following {
		body, err := p.owner.Encode()
		if err != nil {
			return err
		}
		w.Claim(body)
		p.diary.note(w, p.base, p.base)
	}
	if err := p.writer.Settle(ctx); err != nil {
		return wrap(err, "take the history over")
	}
	return p.prove()
}

// settle finds out whether the record that was prepared is in the history, and appends it.
func (p *push) settle(ctx context.Context) error {
	if err := p.writer.Settle(ctx); err != nil {
		return wrap(err, "append to the history")
	}
	p.version.At, p.etag = p.writer.At(), p.writer.Reader().ETag()
	return nil
}

// begin begins a history. Who owns the one that it replaces is refused from then on.
func (p *push) begin(ctx context.Context) error {
	if p.before != nil {
		body, err := p.owner.Encode()
		if err == nil {
			err = wrap(p.before.Take(ctx, body), "take the history over")
		}
		if err != nil {
			return err
		}
		if err := p.prove(); err != nil {
			return err
		}
	}
	p.shelf.calls.Add(1)
	if err := versions.Keep(ctx, p.t, p.shelf.key, p.version.At, p.body); err != nil {
		return err
	}
	r, err := history.Create(ctx, p.shelf, versions.Options(), p.version.At.Lineage, p.body,
		p.cond.IfMatch)
	if err != nil {
		return err
	}
	p.etag, p.writer = r.ETag(), history.NewWriter(r)
	return nil
}

// put puts a manifest that is in no history.
func (p *push) put(ctx context.Context) error {
	p.uploads.calls.Add(1)
	etag, err := p.shelf.manifests.Put(ctx, p.shelf.key, p.body, p.cond)
	p.etag = etag
	return wrap(err, "put manifest")
}

// taken tells c, and the next process, that the target has taken the version.
func (p *push) taken(c *Courier) {
	s, d := &c.stock, &p.delivery
	if d.writer != nil {
		d.diary.note(d.writer, &p.version, &p.version)
	}
	if d.prepared {
		c.office.o.Sent.Records.Add(1)
		s.appended(d.writer.At())
	} else {
		c.office.o.Sent.Manifests.Add(1)
	}
	s.signs(d.writer)
	s.story = story{writer: d.writer}
	if d.writer != nil {
		s.mark, s.current = d.writer.Reader().Clone(), d.writer.At().Lineage
	}
}

// conflict reports whether err says that the target's newest version is another than it was.
func conflict(err error) bool {
	return errors.Is(err, chunkstore.ErrConflict) || errors.Is(err, history.ErrFenced) ||
		errors.Is(err, history.ErrBehind)
}
