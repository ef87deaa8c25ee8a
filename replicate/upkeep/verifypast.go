package upkeep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/versions"
)

// PastFault is something that is missing or damaged of a version before the newest.
type PastFault struct {
	Version string    // the version, by its ID; a record makes one
	Time    time.Time // when the target got it; zero: it does not say
	Key     string    // of the object that says what the version is made of
	Err     error     // wraps [chunkstore.ErrAbsent] or ErrCorrupt
}

// Bad returns the packs that are gone, or in which something is damaged that was looked for.
func (v *Verifier) Bad() (names []chunkstore.Digest) {
	for name, p := range v.packs {
		if p.fault != nil || len(p.damaged) > 0 {
			names = append(names, name)
		}
	}
	for ref, err := range v.known {
		if err != nil {
			names = append(names, ref.Place.Pack)
		}
	}
	slices.SortFunc(names, func(a, b chunkstore.Digest) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(names)
}

// Known returns what is known to stand in a pack, of what was looked at.
func (v *Verifier) Known(name chunkstore.Digest) (refs []chunkstore.Ref) {
	if p := v.packs[name]; p != nil {
		for _, o := range p.seen {
			place := chunkstore.Place{Pack: name, Offset: o.offset, Bytes: o.bytes}
			refs = append(refs, chunkstore.Ref{ID: o.id, Place: place})
		}
	}
	for ref := range v.known {
		if ref.Place.Pack == name {
			refs = append(refs, ref)
		}
	}
	return refs
}

// Again has what was found missing or damaged be looked for again.
func (v *Verifier) Again() {
	for _, name := range v.Bad() {
		delete(v.packs, name)
	}
	for ref, err := range v.known {
		if err != nil {
			delete(v.known, ref)
		}
	}
}

// VerifyPast is [Verifier.Verify] for the versions before the newest of the database whose manifest
// has that key: checkpoints that are kept, versions of the manifest that its bucket keeps, and
// those that records make. What was looked at of other versions is not looked at again. all is how
// many versions there are. What is collected meanwhile is no fault.
func (v *Verifier) VerifyPast(
	ctx context.Context, key string,
) (faults []PastFault, all int, err error) {
	w := &pastSurvey{Verifier: v, key: key, live: newLive(),
		refs: make(map[chunkstore.Digest][]chunkstore.Ref)}
	if w.older, err = olderOf(ctx, v.target, key); err != nil {
		return nil, 0, err
	}
	if err = w.eachOlder(ctx, w.gather); err == nil {
		err = w.eachRecord(ctx, func(r PastFault, step *manifest.Step) error {
			return w.gatherStep(ctx, step)
		})
	}
	if err == nil {
		err = w.check(ctx)
	}
	if err == nil && (w.suspicious || len(v.Bad()) > 0) {
		err = w.name(ctx)
	}
	return w.faults, w.all, err
}

// pastSurvey is VerifyPast under way.
type pastSurvey struct {
	*Verifier
	key   string
	older []older
	all   int // versions

	mu         sync.Mutex
	live       *live
	refs       map[chunkstore.Digest][]chunkstore.Ref // that versions name, by their packs
	suspicious bool                                   // a leaf or node cannot be read
	faults     []PastFault
}

// eachOlder calls f, in several goroutines, with each older version that can be read, and notes
// those that cannot.
func (w *pastSurvey) eachOlder(
	ctx context.Context, f func(context.Context, older, *manifest.Manifest) error,
) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(w.o.Concurrency)
	for _, one := range w.older {
		group.Go(func() error {
			m, err := one.get(ctx)
			if err == nil {
				err = m.CheckPlaced()
			}
			switch {
			case err == nil:
				return f(ctx, one, m)
			case gone(err): // collected
				return nil
			case errors.Is(err, chunkstore.ErrCorrupt):
				w.fault(one.fault(err))
				return nil
			}
			return err
		})
	}
	return group.Wait()
}

func (o older) fault(err error) PastFault { return PastFault{o.id, o.stored, o.key, err} }

func (w *pastSurvey) fault(f PastFault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, f)
}

// gather notes what m names. What other versions name, too, is passed over.
func (w *pastSurvey) gather(ctx context.Context, _ older, m *manifest.Manifest) error {
	w.mu.Lock()
	w.all++
	w.mu.Unlock()
	return w.gatherTree(ctx, m)
}

func (w *pastSurvey) gatherTree(ctx context.Context, m *manifest.Manifest) error {
	err := m.Tree(w.target.Sealer).Named(ctx, w.target.GetObjects, w.live.known,
		func(n manifest.Named) { w.add(n.Ref) })
	if !chunkstore.IsFault(err) {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.suspicious = true
	return nil
}

func (w *pastSurvey) add(ref chunkstore.Ref) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refs[ref.Place.Pack] = append(w.refs[ref.Place.Pack], ref)
}

// gatherStep notes what a record names.
func (w *pastSurvey) gatherStep(ctx context.Context, step *manifest.Step) error {
	w.all++
	if step == nil {
		return nil
	} else if step.Whole {
		return w.gatherTree(ctx, step.Next)
	}
	for _, p := range step.Next.Patches {
		if p.ID != chunkstore.ZeroID {
			w.add(p.Ref)
		}
	}
	return nil
}

// eachRecord calls f with each record that makes a version, and its step, if it has one, and notes
// those that are damaged. The PastFault has no Err.
func (w *pastSurvey) eachRecord(
	ctx context.Context, f func(PastFault, *manifest.Step) error,
) error {
	past, err := versions.OpenPast(ctx, w.target, w.key)
	if err != nil {
		return err
	}
	ranges, err := past.Ranges(ctx)
	if err != nil {
		return err
	}
	for _, r := range ranges {
		log := versions.NewStore(w.target, w.key).Log(r.From.Lineage)
		_, err := versions.EachRecord(ctx, log, r.From.Number, r.To.Number,
			func(n uint64, stored []byte) error {
				id := versions.ID{Lineage: r.From.Lineage, Number: n}
				at := PastFault{Version: id.String(),
					Key: chunkstore.RecordKey(versions.LogName(id.Lineage), n)}
				var step *manifest.Step
				record, err := history.Decode(n, stored)
				if err == nil {
					step, err = stepOf(record)
				}
				if errors.Is(err, chunkstore.ErrCorrupt) {
					at.Err = fmt.Errorf("record %d, and what follows it up to the next "+
						"checkpoint: %w", n, err)
					w.fault(at)
					return nil
				} else if err != nil {
					return err
				}
				return f(at, step)
			})
		if err != nil {
			return err
		}
	}
	return nil
}

// check looks at what was gathered and not looked at yet.
func (w *pastSurvey) check(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(w.o.Concurrency)
	for name, refs := range w.refs {
		p := w.packs[name]
		if p == nil {
			p = &pack{name: name}
			w.packs[name] = p
		}
		fresh := p.fresh(refs)
		if len(fresh) == 0 {
			continue
		}
		w.objects += len(fresh)
		group.Go(func() error { return p.look(ctx, w.target, w.o, fresh) })
	}
	return group.Wait()
}

// name finds out which versions need what is missing or damaged.
func (w *pastSurvey) name(ctx context.Context) error {
	w.faults = nil
	for _, one := range w.older {
		m, err := one.get(ctx)
		var faults []error
		if err == nil {
			faults, err = w.Verify(ctx, m)
		}
		switch {
		case gone(err):
			continue
		case errors.Is(err, chunkstore.ErrCorrupt):
			faults = []error{err}
		case err != nil:
			return err
		}
		if len(faults) > 0 {
			if _, err := one.get(ctx); gone(err) { // and so may be what it has named
				continue
			}
		}
		for _, err := range faults {
			w.fault(one.fault(err))
		}
	}
	err := w.eachRecord(ctx, func(at PastFault, step *manifest.Step) error {
		if step == nil {
			return nil
		} else if step.Whole {
			faults, err := w.Verify(ctx, step.Next)
			for _, at.Err = range faults {
				w.fault(at)
			}
			return err
		}
		for _, p := range step.Next.Patches {
			if at.Err = w.bad(p.Ref); at.Err != nil {
				at.Err = fmt.Errorf("chunk %d: %w", p.Index, at.Err)
				w.fault(at)
			}
		}
		return nil
	})
	slices.SortStableFunc(w.faults, func(a, b PastFault) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Version, b.Version))
	})
	return err
}

// bad returns why an object that was looked for cannot be had; nil: it can.
func (v *Verifier) bad(ref chunkstore.Ref) error {
	p := v.packs[ref.Place.Pack]
	if p == nil {
		return nil
	}
	return cmp.Or(p.fault, p.damaged[ref])
}
