package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"verneuil/chunkstore"
	"verneuil/replicate/locate"
)

// sources are where a version's chunks may be had from. What its manifest names lies in packs of
// the target that the manifest came from. Another target has the same chunks in packs of its own,
// which its own manifest names. So when a target fails, or is slow, the others' manifests are asked
// where they have the chunk: as long as they are of the same cut, or name an object with the ID
// that this version has, it is the right one.
type sources struct {
	s     *snapshot
	found locate.Found

	once   sync.Once            // has made what follows: who has all chunks needs it not
	tree   *tree                // the version's own
	best   atomic.Pointer[tree] // of the same cut: own, or another target's that answered last
	others []*chunkstore.Target // besides own's

	mu      sync.Mutex
	trees   map[*chunkstore.Target]otherTree
	patient time.Time // until then the best is waited for alone, if it is slow
}

// otherTree is what another target had at a time.
type otherTree struct {
	tree *tree
	at   time.Time
}

// errElsewhere: another target has no such chunk.
var errElsewhere = fmt.Errorf("in another version: %w", chunkstore.ErrAbsent)

// own returns the version's tree.
func (f *sources) own() *tree {
	f.once.Do(func() {
		f.tree = newTree(f.s.f, f.found)
		f.best.Store(f.tree)
		f.trees = map[*chunkstore.Target]otherTree{f.found.From: {tree: f.tree}}
		if where, ok := f.s.f.source.(elsewhere); ok {
			for _, t := range where.Targets() {
				if t != f.found.From {
					f.others = append(f.others, t)
				}
			}
		}
	})
	return f.tree
}

// newest returns the tree of the same cut that is asked first.
func (f *sources) newest() *tree {
	f.own()
	return f.best.Load()
}

// patience is how long a slow target is waited for alone, where no other one could help.
const patience = 15 * time.Second

// load is load of chunk i from whoever has it.
func (f *sources) load(ctx context.Context, i int) error {
	best := f.newest()
	if len(f.others) == 0 {
		return f.from(ctx, i, best)
	}
	limit := f.s.f.all.options.Store.Options().SlowAfter
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline)/2)
	}
	f.mu.Lock()
	bounded := !time.Now().Before(f.patient)
	f.mu.Unlock()
	err := f.within(ctx, limit, bounded, i, best)
	if err == nil || ctx.Err() != nil || errors.Is(err, errSlots) {
		return err
	}
	var unknown error // of a target that may have it
	for _, target := range append([]*chunkstore.Target{f.own().from}, f.others...) {
		if target == best.from {
			continue
		}
		t, otherErr := f.treeOf(ctx, limit, target)
		if otherErr == nil {
			otherErr = f.within(ctx, limit, true, i, t)
		}
		if otherErr == nil {
			if f.same(t) {
				f.best.Store(t)
			}
			return nil
		}
		if !final(otherErr) {
			unknown = otherErr
		}
	}
	if bounded && errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		f.mu.Lock()
		f.patient = time.Now().Add(patience)
		f.mu.Unlock()
		return f.from(ctx, i, best)
	}
	if unknown != nil && final(err) {
		return fmt.Errorf("%v; %w", err, unknown) // it may yet be found there
	}
	return err
}

// within is from, for so long if it is bounded.
func (f *sources) within(
	ctx context.Context, limit time.Duration, bounded bool, i int, t *tree,
) error {
	if bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	return f.from(ctx, i, t)
}

// from loads chunk i as t has it.
func (f *sources) from(ctx context.Context, i int, t *tree) error {
	if i >= t.m.Chunks() {
		return errElsewhere
	}
	t.fetchBeside(i)
	refs, err := t.refsAhead(ctx, []int{i})
	if err == nil && !f.same(t) {
		var own []chunkstore.Ref
		if own, err = f.own().refs(ctx, []int{i}); err == nil && own[0].ID != refs[0].ID {
			err = errElsewhere
		}
	}
	for err == nil && !f.s.complete(i) {
		err = (&batch{f.s, t.from, []int{i}, refs}).load(ctx)
		if errors.Is(err, errTogether) && ctx.Err() == nil {
			err = nil // another chunk may be to blame: once more, by itself
		}
	}
	return err
}

// same reports whether t is of the same cut as the version.
func (f *sources) same(t *tree) bool {
	return t == f.own() || t.m.Cut == f.s.m.Cut && t.m.Cut != [16]byte{}
}

// treeOf returns that of the newest version that target has, or had just now.
func (f *sources) treeOf(
	ctx context.Context, limit time.Duration, target *chunkstore.Target,
) (*tree, error) {
	f.mu.Lock()
	known := f.trees[target]
	f.mu.Unlock()
	if known.tree != nil && (f.same(known.tree) || time.Since(known.at) < freshFor) {
		return known.tree, nil
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	at := time.Now()
	found, err := f.s.f.source.(elsewhere).FetchOf(ctx, target)
	if err != nil {
		return nil, err
	}
	f.s.f.fetched.Add(found.Bytes)
	t := newTree(f.s.f, found)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trees[target] = otherTree{t, at}
	return t, nil
}
