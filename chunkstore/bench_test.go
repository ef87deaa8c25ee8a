package chunkstore_test

import (
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/miniotest"
)

// Chunks that compress to about a third, by 8 at once, as a sync does.
// VERNEUIL_BENCH_DIR says on which file system.
func BenchmarkDirPutChunk(b *testing.B) {
	root, err := os.MkdirTemp(os.Getenv("VERNEUIL_BENCH_DIR"), "bench")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(root)
	benchmarkPutChunk(b, open(b, dirTarget(b, root)))
}

func BenchmarkS3PutChunk(b *testing.B) {
	benchmarkPutChunk(b, open(b, s3Target(miniotest.Start(b))))
}

func BenchmarkS3GetChunk(b *testing.B) {
	s := open(b, s3Target(miniotest.Start(b)))
	plain := text(1, chunkstore.ChunkBytes)
	id := chunkstore.Sum(plain)
	if _, err := s.Targets[0].PutChunk(b.Context(), id, plain); err != nil {
		b.Fatal(err)
	}
	byEight(b, func(uint64) error {
		_, err := s.Targets[0].GetChunk(b.Context(), id)
		return err
	})
}

func benchmarkPutChunk(b *testing.B, s *chunkstore.Store) {
	base := text(1, chunkstore.ChunkBytes)
	byEight(b, func(i uint64) error {
		plain := append(noise(i, 32), base[32:]...)
		_, err := s.Targets[0].PutChunk(b.Context(), chunkstore.Sum(plain), plain)
		return err
	})
}

// byEight calls one b.N times, from 8 goroutines.
func byEight(b *testing.B, one func(i uint64) error) {
	b.Helper()
	var n atomic.Uint64
	b.SetBytes(chunkstore.ChunkBytes)
	b.ResetTimer()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := n.Add(1); i <= uint64(b.N); i = n.Add(1) {
				if err := one(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}
