package upkeep

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
)

// live is the packs that versions name. It is safe for concurrent use.
type live struct {
	mu    sync.Mutex
	packs map[chunkstore.Digest]struct{}
	nodes map[manifest.Node]struct{} // leaves and nodes that were walked
}

func newLive() *live {
	return &live{packs: make(map[chunkstore.Digest]struct{}),
		nodes: make(map[manifest.Node]struct{})}
}

func (l *live) has(pack chunkstore.Digest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, has := l.packs[pack]
	return has
}

func (l *live) add(pack chunkstore.Digest) {
	l.mu.Lock()
	l.packs[pack] = struct{}{}
	l.mu.Unlock()
}

// known notes a leaf or node, and reports whether it was noted before. (It may be that it is not
// walked yet, or cannot be: then nothing is deleted.)
func (l *live) known(n manifest.Node) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, known := l.nodes[n]
	l.nodes[n] = struct{}{}
	return known
}

// name makes all that m names live.
func (l *live) name(ctx context.Context, t *chunkstore.Target, m *manifest.Manifest) error {
	if err := placed(m.Top, m.Patches); err != nil {
		return err
	}
	err := m.Tree(t.Sealer).Packs(ctx, t.GetObjects, l.known, l.add)
	if err != nil {
		return fmt.Errorf("version %d: %w", m.Sequence, err)
	}
	return nil
}

// placed fails if something has no place: then nobody knows what must stay.
func placed(top []chunkstore.Ref, patches []manifest.Patch) error {
	check := func(ref chunkstore.Ref) error {
		if ref.ID != chunkstore.ZeroID && ref.Place == (chunkstore.Place{}) {
			return fmt.Errorf("object %v has no place: %w", ref.ID, chunkstore.ErrCorrupt)
		}
		return nil
	}
	for _, ref := range top {
		if err := check(ref); err != nil {
			return err
		}
	}
	for _, p := range patches {
		if err := check(p.Ref); err != nil {
			return err
		}
	}
	return nil
}

// record makes all that a record names live.
func (l *live) record(ctx context.Context, t *chunkstore.Target, r *history.Record) error {
	if r.Fence || len(r.Body) == 0 {
		return nil
	}
	step, err := manifest.DecodeStep(t.Sealer, r.Body)
	if err != nil {
		return err
	}
	if step.Whole {
		return l.name(ctx, t, step.Next)
	}
	if err := placed(nil, step.Next.Patches); err != nil {
		return err
	}
	for _, p := range step.Next.Patches {
		if p.ID != chunkstore.ZeroID {
			l.add(p.Place.Pack)
		}
	}
	return nil
}

// recordsAtOnce is how many records are read at a time.
const recordsAtOnce = 64

// records makes live what the records of a log from on name, before the one called end, as far as
// none is missing: what is behind a hole leads on from nothing.
func (l *live) records(
	ctx context.Context, t *chunkstore.Target, log chunkstore.Log, from, end uint64,
) error {
	for from < end {
		n := int(min(end-from, recordsAtOnce))
		stored, err := log.Read(ctx, from, n)
		if err != nil {
			return fmt.Errorf("read %v: %w", log, err)
		}
		for k, b := range stored {
			r, err := history.Decode(from+uint64(k), b)
			if err == nil {
				err = l.record(ctx, t, r)
			}
			if err != nil {
				return fmt.Errorf("record %d of %v: %w", from+uint64(k), log, err)
			}
		}
		if len(stored) < n {
			return nil
		}
		from += uint64(n)
	}
	return nil
}

// gone reports whether err is that there is no such object.
func gone(err error) bool { return errors.Is(err, chunkstore.ErrAbsent) }
