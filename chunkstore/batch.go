package chunkstore

import (
	"context"
	"fmt"
)

// Batcher is a [Bucket] that makes many objects durable together, more cheaply
// than one by one. Wrappers of buckets that do not say so lose speed, no promise:
// see [BatchOf].
type Batcher interface {
	Batch() Batch
}

// Batch is a run of unconditional Puts. What it has put is durable only once a
// Sync that began after the Put has returned nil; after a crash of the machine
// before that, a key that had no object may have a damaged one, and a key that had
// one has the old or the new one. Put is safe for concurrent use.
type Batch interface {
	// Put is [Bucket.Put] but for durability.
	Put(ctx context.Context, key string, body []byte) error
	// Sync makes durable what was put before it. If it fails, everything that the
	// batch has put may be lost, whatever a later Sync would say: so every
	// later call fails, and it takes another batch to put the objects again.
	Sync(ctx context.Context) error
	// Close frees what the batch holds. It makes nothing durable.
	Close() error
}

// BatchOf returns a new batch of b's. If b is no [Batcher], each Put of
// it is durable by itself, and Sync has nothing to do.
func BatchOf(b Bucket) Batch {
	if batcher, ok := b.(Batcher); ok {
		return batcher.Batch()
	}
	return singly{b}
}

// singly is the batch of a bucket that has none.
type singly struct{ bucket Bucket }

func (s singly) Put(ctx context.Context, key string, body []byte) error {
	_, err := s.bucket.Put(ctx, key, body, Condition{})
	return err
}

func (s singly) Sync(ctx context.Context) error { return ctx.Err() }

func (s singly) Close() error { return nil }

// PackBatch puts packs to a target, and makes them durable together (I3). Put is safe for
// concurrent use.
type PackBatch struct {
	t     *Target
	batch Batch
}

// Batch begins a batch. The caller closes it.
func (t *Target) Batch() *PackBatch { return &PackBatch{t, BatchOf(t.Chunks)} }

// Put is [Target.PutPack], except that the pack is durable only once Sync has returned nil.
func (b *PackBatch) Put(ctx context.Context, p *Pack) (places []Place, storedBytes int, err error) {
	return putPack(ctx, b.t, p, b.batch.Put)
}

// Sync makes durable what was put before it (I3). See [Batch] for what its failure
// means: nothing that the batch has put may be relied on.
func (b *PackBatch) Sync(ctx context.Context) error {
	if err := b.batch.Sync(ctx); err != nil {
		return fmt.Errorf("make packs durable: %w", err)
	}
	return nil
}

// Close frees what the batch holds. It makes nothing durable.
func (b *PackBatch) Close() error { return b.batch.Close() }
