package storetest

import (
	"sync"
	"sync/atomic"
	"testing"

	"verneuil/chunkstore"
)

// PutChunks puts chunks that compress to about a third to s, 8 at once, as a sync does.
func PutChunks(b *testing.B, s *chunkstore.Store) {
	base := Text(1, chunkstore.ChunkBytes)
	ByEight(b, func(i uint64) error {
		plain := append(Noise(i, 32), base[32:]...)
		_, err := s.Targets[0].PutChunk(b.Context(), s.Sealer().Identify(plain), plain)
		return err
	})
}

// ByEight calls one b.N times, from 8 goroutines.
func ByEight(b *testing.B, one func(i uint64) error) {
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
