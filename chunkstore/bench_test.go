package chunkstore_test

import (
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"verneuil/chunkstore"
)

// BenchmarkDirPutChunk puts chunks that compress to about a third, by 8 at once,
// as a sync does. VERNEUIL_BENCH_DIR says on which file system.
func BenchmarkDirPutChunk(b *testing.B) {
	root, err := os.MkdirTemp(os.Getenv("VERNEUIL_BENCH_DIR"), "bench")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(root)
	target := open(b, dirTarget(b, root)).Targets[0]
	base := text(1, chunkstore.ChunkBytes)
	var n atomic.Uint64
	b.SetBytes(chunkstore.ChunkBytes)
	b.ResetTimer()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			plain := append([]byte(nil), base...)
			for {
				i := n.Add(1)
				if i > uint64(b.N) {
					return
				}
				copy(plain, noise(i, 32))
				if _, err := target.PutChunk(b.Context(), chunkstore.Sum(plain), plain); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}
