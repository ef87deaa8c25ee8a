package upkeep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/versions"
)

// live is the packs that versions name. It is safe for concurrent use.
type live struct {
	mu    sync.Mutex
	packs map[chunkstore.Digest][]span
	nodes map[manifest.Node]struct{} // leaves and nodes that were walked
}

// span is where an object stands in its pack that a version names.
type span struct{ offset, bytes uint32 }

func newLive() *live {
	return &live{packs: make(map[chunkstore.Digest][]span),
		nodes: make(map[manifest.Node]struct{})}
}

// has reports whether a version names pack, and how many bytes it has of what versions name, with
// their entries in its list.
func (l *live) has(pack chunkstore.Digest) (bytes int64, has bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	spans, has := l.packs[pack]
	bytes = chunkstore.PackListBytes(len(spans))
	for _, s := range spans {
		bytes += int64(s.bytes)
	}
	return bytes, has
}

// add notes that a version names an object, which stands there, and reports whether that is new.
// Two that overlap are no objects of one pack; then all the more stays.
func (l *live) add(at chunkstore.Place) (fresh bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	spans, s := l.packs[at.Pack], span{at.Offset, at.Bytes}
	k, found := slices.BinarySearchFunc(spans, s, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.offset, b.offset), cmp.Compare(a.bytes, b.bytes))
	})
	if !found {
		l.packs[at.Pack] = slices.Insert(spans, k, s)
	}
	return !found
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
	if err := m.CheckPlaced(); err != nil { // nobody would know what must stay
		return err
	}
	err := m.Tree(t.Sealer).Named(ctx, t.GetObjects, l.known,
		func(n manifest.Named) { l.add(n.Place) })
	if err != nil {
		return fmt.Errorf("version %d: %w", m.Sequence, err)
	}
	return nil
}

// record makes all that a record names live.
func (l *live) record(ctx context.Context, t *chunkstore.Target, r *history.Record) error {
	step, err := stepOf(r)
	if err != nil || step == nil {
		return err
	}
	if step.Whole {
		return l.name(ctx, t, step.Next)
	}
	for _, p := range step.Next.Patches {
		if p.ID != chunkstore.ZeroID {
			l.add(p.Place)
		}
	}
	return nil
}

// stepOf returns the step of a record; nil: it has none.
func stepOf(r *history.Record) (*manifest.Step, error) {
	if r.Fence || len(r.Body) == 0 {
		return nil, nil
	}
	step, err := manifest.DecodeStep(r.Body)
	if err == nil {
		err = step.Next.CheckPlaced()
	}
	return step, err
}

// records makes live what the records of a log from on name, before the one called end, as far as
// none is missing: what is behind a hole leads on from nothing.
func (l *live) records(
	ctx context.Context, t *chunkstore.Target, log chunkstore.Log, from, end uint64,
) error {
	_, err := versions.EachRecord(ctx, log, from, end-1, func(n uint64, b []byte) error {
		r, err := history.Decode(n, b)
		if err == nil {
			err = l.record(ctx, t, r)
		}
		if err != nil {
			return fmt.Errorf("record %d of %v: %w", n, log, err)
		}
		return nil
	})
	return err
}

// gone reports whether err is that there is no such object.
func gone(err error) bool { return errors.Is(err, chunkstore.ErrAbsent) }
