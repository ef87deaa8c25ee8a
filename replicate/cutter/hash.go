package cutter

import (
	"context"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"verneuil/chunkstore"
	"verneuil/replicate/errands"
)

const (
	// prehashChunks is how much is hashed at a time before the log is looked at
	// again, and what may be left for the cut itself: 64 MiB, some 50 ms.
	prehashChunks = 1024
	prehashRounds = 8
)

// hashing bounds, for all databases of the process, the chunks that are hashed at a time.
var hashing = make(chan struct{}, runtime.GOMAXPROCS(0))

// hash computes the IDs of chunks, in parallel, where they are not known.
func (c contents) hash(ctx context.Context, indexes []int) error {
	group, groupCtx := errgroup.WithContext(ctx)
	for _, i := range indexes {
		d := c.Diff(i)
		if d.Hashed {
			continue
		}
		if c.Hole(i) {
			d.Hash, d.Hashed = chunkstore.ZeroID, true
			continue
		}
		if groupCtx.Err() != nil {
			break
		}
		hashing <- struct{}{}
		group.Go(func() (err error) {
			defer func() { <-hashing }()
			d.Hash, err = c.hashAt(i)
			d.Hashed = err == nil
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// hashAt computes the ID of chunk i. A panic is an error: nothing of ours may end the host.
func (c contents) hashAt(i int) (id chunkstore.ID, err error) {
	defer errands.Recovered(&err)
	buf := chunkBuffers.Get().(*[chunkstore.ChunkBytes]byte)
	defer chunkBuffers.Put(buf)
	b, err := c.chunk(i, buf[:])
	if err != nil {
		return chunkstore.ZeroID, err
	}
	return chunkstore.HashChunk(c.sealer, b).ID(), nil
}

var chunkBuffers = sync.Pool{New: func() any { return new([chunkstore.ChunkBytes]byte) }}

// prehash hashes most of what has to be hashed, and calls [Options.Meanwhile] in between: a cut
// after a base copy must not make the changelog outgrow its allowance. It returns what a cut of the
// contents, as they are then, is made of.
func (c *Cutter) prehash(ctx context.Context) (*plan, error) {
	for range prehashRounds {
		p := c.planner.plan()
		var todo []int
		for _, i := range p.whole {
			if !c.db.Diff(i).Hashed {
				todo = append(todo, i)
			}
		}
		if len(todo) <= prehashChunks {
			return p, nil
		}
		for batch := range slices.Chunk(todo, prehashChunks) {
			cutOff := func(i int) bool { return c.db.Diff(i) == nil } // meanwhile
			batch = slices.DeleteFunc(batch, cutOff)
			if err := c.db.hash(ctx, batch); err != nil {
				return nil, err
			}
			if err := c.o.Meanwhile(ctx); err != nil {
				return nil, err
			}
		}
	}
	return c.planner.plan(), nil
}
