package courier

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"

	"golang.org/x/sync/errgroup"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/errands"
)

// sample asks a target for some of the packs that its version names, picked at random: one that was
// put since the last sample, if there is one, as those are the likeliest to be lost and have never
// been asked for; and any others. They are packs of chunks, and where the leaf of the first of them
// is not loaded, the leaf, and nodes on the way to it. It shares nothing that changes, but leaves
// and nodes.
type sample struct {
	t    *chunkstore.Target
	tree *manifest.Tree
	lost map[chunkstore.Digest]bool // that are known to be
	put  []int                      // a chunk of each pack that was put since the last sample

	calls int64
	asked int // packs
	gone  int // of them
}

func newSample(c *Courier) *sample {
	s := &c.stock
	put := c.belief.unasked
	c.belief.unasked = nil
	return &sample{t: c.Target, tree: s.tree.Clone(), lost: maps.Clone(s.lost), put: put}
}

// unaskedMost bounds of how many packs a chunk is kept until the next sample.
const unaskedMost = 256

// unask notes chunks, one of each pack, for the next sample. If they are too many, some are
// forgotten, at random.
func (b *belief) unask(chunks []int) {
	b.unasked = append(b.unasked, chunks...)
	if all := b.unasked; len(all) > unaskedMost {
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		b.unasked = all[:unaskedMost]
	}
}

// take asks for them.
func (s *sample) take(ctx context.Context) error {
	packs, err := s.pick(ctx)
	if chunkstore.IsFault(err) {
		s.gone++
		return nil
	} else if err != nil {
		return err
	}
	has := make([]bool, len(packs))
	group, groupCtx := errgroup.WithContext(ctx)
	for k, at := range packs {
		s.calls++
		s.asked++
		group.Go(errands.Guarded(func() (err error) {
			has[k], err = s.t.HasPack(groupCtx, at.Pack, at.End())
			return err
		}))
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, has := range has {
		if !has {
			s.gone++
		}
	}
	return nil
}

// neighbours is how far from a chunk others are looked for that may be in its leaf.
const neighbours = 256

// pick returns where some objects stand, each in another pack. A leaf or node that is fetched is
// one of those that are asked for.
func (s *sample) pick(ctx context.Context) (packs []chunkstore.Place, err error) {
	chunks := s.tree.Len()
	at, fetched := 0, false            // the last chunk that was looked up
	for n := range 4 * SampleObjects { // some are of zeros
		if chunks == 0 || s.asked+len(packs) >= SampleObjects {
			break
		}
		i := rand.IntN(chunks)
		if n == 0 && len(s.put) > 0 {
			i = min(chunks-1, s.put[rand.IntN(len(s.put))])
		}
		ref, loaded := s.tree.Peek(i)
		switch {
		case loaded:
		case !fetched:
			fetched = true
			if ref, err = s.tree.Lookup(ctx, i, s.fetch); err != nil {
				return nil, err
			}
		default:
			i = max(0, min(chunks-1, at-neighbours+rand.IntN(2*neighbours)))
			if ref, loaded = s.tree.Peek(i); !loaded {
				continue
			}
		}
		at = i
		same := func(p chunkstore.Place) bool { return p.Pack == ref.Place.Pack }
		if ref.ID != chunkstore.ZeroID && !s.lost[ref.Place.Pack] &&
			!slices.ContainsFunc(packs, same) {
			packs = append(packs, ref.Place)
		}
	}
	return packs, nil
}

// fetch gets leaves and nodes.
func (s *sample) fetch(ctx context.Context, refs []chunkstore.Ref) ([][]byte, error) {
	s.calls++
	s.asked++
	return s.t.GetObjects(ctx, refs)
}
