package compose_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"sync"
	"testing"

	"verneuil/chunkstore"
)

// bucket has packs in memory. What a batch has put is there once it is synced.
type bucket struct {
	chunkstore.Bucket
	mu       sync.Mutex
	objects  map[string][]byte
	gets     int
	puts     int
	flying   int // bytes of puts that are under way
	most     int
	fail     func(n int, sync bool) error // of put n, or a Sync; nil: none fails
	entered  func()                       // nil: nobody wants to know
	discards bool                         // bodies
}

func newBucket() *bucket { return &bucket{objects: make(map[string][]byte)} }

func (b *bucket) Get(
	_ context.Context, key string, o chunkstore.GetOptions,
) (chunkstore.Object, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gets++
	body, ok := b.objects[key]
	if !ok {
		return chunkstore.Object{}, chunkstore.ErrAbsent
	}
	if o.Length > 0 {
		if o.Offset+o.Length > int64(len(body)) {
			return chunkstore.Object{}, chunkstore.ErrCorrupt
		}
		body = body[o.Offset:][:o.Length]
	}
	return chunkstore.Object{Key: key, Body: bytes.Clone(body)}, nil
}

func (b *bucket) Put(
	context.Context, string, []byte, chunkstore.Condition,
) (string, error) {
	return "", errors.New("packs are put by batches")
}

func (b *bucket) String() string { return "memory" }

func (b *bucket) Batch() chunkstore.Batch {
	return &batch{b: b, put: make(map[string][]byte)}
}

type batch struct {
	b   *bucket
	put map[string][]byte
}

func (d *batch) Put(_ context.Context, key string, body []byte) error {
	b := d.b
	b.mu.Lock()
	b.puts++
	n := b.puts
	b.flying += len(body)
	b.most = max(b.most, b.flying)
	entered := b.entered
	b.mu.Unlock()
	if entered != nil {
		entered()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flying -= len(body)
	if b.fail != nil {
		if err := b.fail(n, false); err != nil {
			return err
		}
	}
	if b.discards {
		body = nil
	}
	d.put[key] = bytes.Clone(body)
	return nil
}

func (d *batch) Sync(ctx context.Context) error {
	d.b.mu.Lock()
	defer d.b.mu.Unlock()
	if d.b.fail != nil {
		if err := d.b.fail(d.b.puts, true); err != nil {
			return err
		}
	}
	maps.Copy(d.b.objects, d.put)
	return ctx.Err()
}

func (d *batch) Close() error { return nil }

func newTarget(b *bucket) *chunkstore.Target { return chunkstore.NewTarget("test", b, nil) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
