package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"verneuil/chunkstore"
)

// Target is the conformance test: what every target's buckets do alike.
func Target(t *testing.T, target *chunkstore.Target) {
	t.Run("chunks", func(t *testing.T) {
		Bucket(t, target.Chunks, func(i int) string {
			return target.Sealer.Identify([]byte{byte(i)}).String()
		})
	})
	t.Run("manifests", func(t *testing.T) {
		Bucket(t, target.Manifests, func(i int) string {
			return fmt.Sprintf("%04x-verneuil%%3Ahost%%3A%%2F%%2Fa+b(c)*'!~", i)
		})
	})
	t.Run("versions", func(t *testing.T) { Versions(t, target.Manifests.(chunkstore.Versioned)) })
	t.Run("target", func(t *testing.T) { PutGetChunk(t, target) })
	t.Run("batch", func(t *testing.T) { testBatch(t, target) })
	t.Run("touch", func(t *testing.T) { testTouch(t, target) })
}

// PutGetChunk: chunks are found after they were put, under their own IDs alone (I2).
func PutGetChunk(t *testing.T, target *chunkstore.Target) {
	ctx := t.Context()
	for _, plain := range [][]byte{{}, []byte("x"), Text(9, chunkstore.ChunkBytes),
		Noise(9, chunkstore.ChunkBytes)} {
		id := target.Sealer.Identify(plain)
		if has, err := target.HasChunk(ctx, id); has || err != nil {
			t.Errorf("has %v before put: %v, %v", id, has, err)
		}
		_, err := target.GetChunk(ctx, id)
		MustBe(t, err, chunkstore.ErrAbsent)
		n, err := target.PutChunk(ctx, id, plain)
		if want := len(target.Sealer.Seal(id, plain)); err != nil || n != want ||
			int64(n) > target.Sealer.BytesMax() {
			t.Errorf("put chunk of %d bytes: %d, %v", len(plain), n, err)
		}
		if has, err := target.HasChunk(ctx, id); !has || err != nil {
			t.Errorf("has %v after put: %v, %v", id, has, err)
		}
		got, err := target.GetChunk(ctx, id)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("got %d bytes, %v; want %d", len(got), err, len(plain))
		}
	}
	// I2, and the chunk that is never stored.
	if _, err := target.PutChunk(ctx, target.Sealer.Identify([]byte("a")),
		[]byte("b")); err == nil {
		t.Error("put bytes under another's ID")
	}
	if n, err := target.PutChunk(ctx, chunkstore.ZeroID,
		make([]byte, chunkstore.ChunkBytes)); n != 0 || err != nil {
		t.Errorf("put zeros: %d, %v", n, err)
	}
	if has, err := target.HasChunk(ctx, chunkstore.ZeroID); !has || err != nil {
		t.Errorf("has zeros: %v, %v", has, err)
	}
	if got, err := target.GetChunk(ctx, chunkstore.ZeroID); err != nil ||
		!bytes.Equal(got, make([]byte, chunkstore.ChunkBytes)) {
		t.Errorf("get zeros: %d bytes, %v", len(got), err)
	}
	if _, err := target.Chunks.Stat(ctx, chunkstore.ZeroID.String()); !errors.Is(err,
		chunkstore.ErrAbsent) {
		t.Errorf("the chunk of zeros was stored: %v", err)
	}
}

// testBatch: what every target's batches do alike (I3).
func testBatch(t *testing.T, target *chunkstore.Target) {
	ctx := t.Context()
	for _, n := range []int{0, 1, 5, 100} {
		batch := target.Batch()
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() {
				plain := fmt.Appendf(nil, "chunk %d", i)
				id := target.Sealer.Identify(plain)
				stored, err := batch.PutChunk(ctx, id, plain)
				if err != nil || stored != len(target.Sealer.Seal(id, plain)) {
					t.Errorf("put: %d bytes, %v", stored, err)
				}
			})
		}
		all.Wait()
		for range 2 {
			if err := batch.Sync(ctx); err != nil {
				t.Errorf("sync of %d chunks: %v", n, err)
			}
		}
		for i := range n {
			plain := fmt.Appendf(nil, "chunk %d", i)
			if got, err := target.GetChunk(ctx, target.Sealer.Identify(plain)); err != nil ||
				!bytes.Equal(got, plain) {
				t.Errorf("got %q, %v; want %q", got, err, plain)
			}
		}
		if err := batch.Close(); err != nil {
			t.Error(err)
		}
	}
	batch := target.Batch()
	defer batch.Close()
	_, err := batch.PutChunk(ctx, target.Sealer.Identify([]byte("a")), []byte("b")) // I2
	MustBe(t, err, chunkstore.ErrMismatch)
	if n, err := batch.PutChunk(ctx, chunkstore.ZeroID,
		make([]byte, chunkstore.ChunkBytes)); n != 0 || err != nil {
		t.Errorf("put zeros: %d, %v", n, err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = batch.PutChunk(ended, target.Sealer.Identify([]byte("a")), []byte("a"))
	MustBe(t, err, context.Canceled)
	MustBe(t, batch.Sync(ended), context.Canceled)
}

// untouchable hides all but [chunkstore.Bucket] of a bucket.
type untouchable struct{ chunkstore.Bucket }

// testTouch: a touch makes an object newer, and nothing else; also where the bucket
// cannot do it.
func testTouch(t *testing.T, target *chunkstore.Target) {
	ctx, end := context.WithTimeout(t.Context(), 20*time.Minute)
	defer end()
	plain := Text(11, chunkstore.ChunkBytes)
	id := target.Sealer.Identify(plain)
	if _, ok := target.Chunks.(chunkstore.Toucher); !ok {
		t.Fatalf("%v cannot touch", target.Chunks)
	}
	bare := chunkstore.NewTarget("bare", untouchable{target.Chunks}, nil)
	bare.Sealer = target.Sealer
	for _, target := range []*chunkstore.Target{target, bare} {
		MustBe(t, target.TouchChunk(ctx, id), chunkstore.ErrAbsent)
		if _, err := target.Chunks.Stat(ctx, id.String()); !errors.Is(err, chunkstore.ErrAbsent) {
			t.Fatalf("there is an object because it was touched: %v", err)
		}
		if _, err := target.PutChunk(ctx, id, plain); err != nil {
			t.Fatal(err)
		}
		put, err := target.Chunks.Stat(ctx, id.String())
		if err != nil {
			t.Fatal(err)
		}
		touched := put
		// S3 tells time by seconds; versitygw needs package s3's copyMax
		for !touched.Modified.After(put.Modified) {
			if err := target.TouchChunk(ctx, id); err != nil {
				t.Fatal(err)
			}
			if touched, err = target.Chunks.Stat(ctx, id.String()); err != nil {
				t.Fatal(err)
			}
		}
		if touched.ETag != put.ETag || touched.Bytes != put.Bytes {
			t.Errorf("touched %+v; it was %+v", touched, put)
		}
		if got, err := target.GetChunk(ctx, id); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("after a touch: %d bytes, %v", len(got), err)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		MustBe(t, target.TouchChunk(ended, id), context.Canceled)
		if err := target.Chunks.Delete(ctx, id.String()); err != nil {
			t.Fatal(err)
		}
	}
	if err := target.TouchChunk(ctx, chunkstore.ZeroID); err != nil {
		t.Errorf("touch the chunk of zeros: %v", err)
	}
}
