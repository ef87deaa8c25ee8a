// Package faultbucket wraps a chunkstore.Bucket so that its Nth call fails, for
// tests that fail every call in turn until a run passes untouched.
package faultbucket

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"verneuil/chunkstore"
)

// ErrInjected is what failing calls return, wrapped, unless Plan.Err is set.
var ErrInjected = errors.New("injected fault")

// Plan decides which calls fail. All buckets that share a Plan share its count.
// It is safe for concurrent use.
type Plan struct {
	At      int  // the call that fails, from 1; 0: none
	ForGood bool // all later ones fail, too
	// a failing Put or Delete is carried out, and then its answer is lost
	After    bool
	Err      error                  // what a failing call returns; nil: ErrInjected
	OnCalled func(verb, key string) // before each call, by its goroutine; may be nil

	mu    sync.Mutex
	calls int
	fired int
}

// Calls returns how many calls there were.
func (p *Plan) Calls() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

// Fired returns how many calls failed. A run with 0 was untouched.
func (p *Plan) Fired() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fired
}

// Heal lets all further calls pass.
func (p *Plan) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.At = 0
}

// call counts a call, and says what it fails with.
func (p *Plan) call(name, key string) error {
	if p.OnCalled != nil {
		p.OnCalled(name, key)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if p.At == 0 || p.calls < p.At || p.calls > p.At && !p.ForGood {
		return nil
	}
	p.fired++
	err := p.Err
	if err == nil {
		err = ErrInjected
	}
	return fmt.Errorf("%s %s (call %d): %w", name, key, p.calls, err)
}

// Target returns target with both buckets wrapped. The plan is shared.
func (p *Plan) Target(target *chunkstore.Target) *chunkstore.Target {
	faulty := chunkstore.NewTarget(target.Name, p.Bucket(target.Chunks), p.Bucket(target.Manifests))
	faulty.Sealer = target.Sealer
	return faulty
}

// Bucket returns b wrapped.
func (p *Plan) Bucket(b chunkstore.Bucket) chunkstore.Bucket { return &bucket{b, p} }

type bucket struct {
	chunkstore.Bucket
	plan *Plan
}

func (b *bucket) Get(ctx context.Context, key string,
	opts chunkstore.GetOptions) (chunkstore.Object, error) {
	if err := b.plan.call("get", key); err != nil {
		return chunkstore.Object{}, err
	}
	return b.Bucket.Get(ctx, key, opts)
}

func (b *bucket) Put(ctx context.Context, key string, body []byte,
	cond chunkstore.Condition) (string, error) {
	etag, _, err := b.PutDated(ctx, key, body, cond)
	return etag, err
}

func (b *bucket) PutDated(ctx context.Context, key string, body []byte,
	cond chunkstore.Condition) (string, time.Time, error) {
	if fault := b.plan.call("put", key); fault != nil {
		if b.plan.After {
			if _, err := b.Bucket.Put(ctx, key, body, cond); err != nil {
				return "", time.Time{}, err
			}
		}
		return "", time.Time{}, fault
	}
	return chunkstore.PutDated(ctx, b.Bucket, key, body, cond)
}

func (b *bucket) Batch() chunkstore.Batch {
	return &batch{chunkstore.BatchOf(b.Bucket), b.plan}
}

// batch counts its Puts like those of the bucket, and its Syncs as "sync".
type batch struct {
	chunkstore.Batch
	plan *Plan
}

func (b *batch) Put(ctx context.Context, key string, body []byte) error {
	if fault := b.plan.call("put", key); fault != nil {
		if b.plan.After {
			if err := b.Batch.Put(ctx, key, body); err != nil {
				return err
			}
		}
		return fault
	}
	return b.Batch.Put(ctx, key, body)
}

func (b *batch) Sync(ctx context.Context) error {
	if err := b.plan.call("sync", ""); err != nil {
		return err
	}
	return b.Batch.Sync(ctx)
}

func (b *bucket) Stat(ctx context.Context, key string) (chunkstore.Object, error) {
	if err := b.plan.call("stat", key); err != nil {
		return chunkstore.Object{}, err
	}
	return b.Bucket.Stat(ctx, key)
}

func (b *bucket) List(ctx context.Context, prefix string,
	yield func(chunkstore.Object) bool) error {
	if err := b.plan.call("list", prefix); err != nil {
		return err
	}
	return b.Bucket.List(ctx, prefix, yield)
}

func (b *bucket) Delete(ctx context.Context, key string) error {
	if fault := b.plan.call("delete", key); fault != nil {
		if b.plan.After {
			if err := b.Bucket.Delete(ctx, key); err != nil {
				return err
			}
		}
		return fault
	}
	return b.Bucket.Delete(ctx, key)
}
