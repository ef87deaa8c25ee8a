package courier

import (
	"cmp"
	"context"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/errands"
)

const (
	// mostlyDead: of such a pack less than one in four objects, and bytes, is named.
	mostlyDead = 4
	// censusPacks bounds the packs that are counted at a time: some 10 MiB, and packs of 512 GiB
	// that stand in order. Of more, a part that is drawn at random is counted.
	censusPacks = 128 << 10
	// censusAsks bounds the requests by which lengths of packs are found out.
	censusAsks = 256
	// censusGain is how many bytes have to be of no more use then, for each chunk that has to have
	// got another place before: 1 MiB. Else it waits for more.
	censusGain = 2 << 10
)

// census finds packs that are mostly dead, and what of them a target's tree still names. It shares
// nothing that changes.
type census struct {
	t       *chunkstore.Target
	tree    *manifest.Tree
	uploads *uploads // which counts requests
	turned  int      // chunks that have got another place since the last one
	most    int      // objects that may be moved

	part    sieve
	tallies map[chunkstore.Digest]tally
	unread  bool // a leaf or node cannot be read

	moves []move                     // chunks that stand in such packs, ascending
	renew map[chunkstore.Digest]bool // such packs that have leaves or nodes
}

// tally is what a tree names of a pack.
type tally struct {
	objects, bytes uint32
	end            uint32 // of the last one, in the pack
	room           uint8  // how many objects the pack has at most
	tree           bool   // they are leaves or nodes
}

// move is a chunk that is to stand elsewhere.
type move struct {
	index int
	ref   chunkstore.Ref
}

// sieve lets a part of all packs pass.
type sieve struct{ bits, digits uint32 }

func (s sieve) passes(pack chunkstore.Digest) bool {
	return binary.BigEndian.Uint32(pack[:])>>(32-s.bits) == s.digits
}

// halve has half as many pass.
func (s *sieve) halve() { s.bits, s.digits = s.bits+1, s.digits<<1|rand.Uint32()&1 }

// run goes through the tree twice: it counts, and then it finds the chunks.
func (c *census) run(ctx context.Context) error {
	ctx = chunkstore.Patient(ctx)
	fetch := c.uploads.fetching(&c.unread)
	c.tallies = make(map[chunkstore.Digest]tally)
	if err := c.tree.Named(ctx, fetch, nil, c.count); err != nil {
		return wrap(err, "count what packs have")
	}
	dead, err := c.choose(ctx)
	if err != nil || len(dead) == 0 {
		return err
	}
	c.renew = make(map[chunkstore.Digest]bool)
	err = c.tree.Named(ctx, fetch, nil, func(n manifest.Named) {
		switch {
		case !dead[n.Place.Pack] || !c.has(n):
		case n.Height > 0:
			c.renew[n.Place.Pack] = true
		default:
			c.moves = append(c.moves, move{n.Chunk, n.Ref})
		}
	})
	slices.SortFunc(c.moves, func(a, b move) int { return cmp.Compare(a.index, b.index) })
	return wrap(err, "find what is alive of packs")
}

// has reports whether the tree has what n says, and neither a patch in its place, nor nothing.
func (c *census) has(n manifest.Named) bool {
	if n.Height > 0 {
		return true
	} else if n.Chunk >= c.tree.Len() {
		return false
	}
	ref, known := c.tree.Peek(n.Chunk)
	return !known || ref == n.Ref
}

// count tallies an object. One that several chunks have counts for each: then its pack stays.
func (c *census) count(n manifest.Named) {
	place := n.Place
	room := place.ObjectsMax()
	if room <= mostlyDead || !c.part.passes(place.Pack) || !c.has(n) {
		return
	}
	t, counted := c.tallies[place.Pack]
	if !counted {
		t.room = math.MaxUint8
	}
	t.objects++
	t.bytes = uint32(min(math.MaxUint32, uint64(t.bytes)+uint64(place.Bytes)))
	t.end = max(t.end, place.Offset+place.Bytes)
	t.room = min(t.room, uint8(room))
	t.tree = n.Height > 0
	c.tallies[place.Pack] = t
	for len(c.tallies) > censusPacks {
		c.part.halve()
		for name := range c.tallies {
			if !c.part.passes(name) {
				delete(c.tallies, name)
			}
		}
	}
}

// candidate is a pack that may be mostly dead.
type candidate struct {
	name chunkstore.Digest
	tally
	size int64 // of the pack, at least
}

// dead reports whether it is known to be mostly dead.
func (c *candidate) dead() bool { return mostlyDead*int64(c.bytes) < c.size }

// choose returns packs that are mostly dead, those first of which least is alive.
func (c *census) choose(ctx context.Context) (map[chunkstore.Digest]bool, error) {
	var all []*candidate
	for name, t := range c.tallies {
		if mostlyDead*t.objects < uint32(t.room) {
			all = append(all, &candidate{name, t, int64(t.end)})
		}
	}
	c.tallies = nil
	if err := c.measure(ctx, all); err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(c *candidate) bool { return !c.dead() })
	slices.SortFunc(all, func(a, b *candidate) int {
		return cmp.Or(cmp.Compare(int64(a.bytes)*b.size, int64(b.bytes)*a.size),
			slices.Compare(a.name[:], b.name[:]))
	})
	dead, left, gain := make(map[chunkstore.Digest]bool), c.most, int64(0)
	for _, c := range all {
		if n := int(c.objects); n <= left {
			dead[c.name] = true
			left, gain = left-n, gain+c.size-int64(c.bytes)
		}
	}
	if gain < censusGain*int64(c.uploads.how.RepackAfter) {
		return nil, nil
	}
	return dead, nil
}

// measure asks how long packs are of which it matters: where the dead ones are the last, places
// do not say it.
func (c *census) measure(ctx context.Context, all []*candidate) error {
	var unsure []*candidate
	for _, one := range all {
		if !one.dead() {
			unsure = append(unsure, one)
		}
	}
	slices.SortFunc(unsure, func(a, b *candidate) int { // where most may be gained
		return cmp.Or(cmp.Compare(a.bytes, b.bytes), slices.Compare(a.name[:], b.name[:]))
	})
	unsure = unsure[:min(len(unsure), c.most, censusAsks)]
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.uploads.how.Concurrency)
	for _, one := range unsure {
		group.Go(errands.Guarded(func() error {
			release, err := c.t.Slot(ctx)
			if err != nil {
				return err
			}
			defer release()
			c.uploads.calls.Add(1)
			size, err := c.t.StatPack(ctx, one.name, 0)
			if chunkstore.IsFault(err) {
				return nil // a look, or the patrol, finds it out
			}
			mu.Lock()
			defer mu.Unlock()
			one.size = max(one.size, size)
			return err
		}))
	}
	return wrap(group.Wait(), "ask how long packs are")
}
