package dir_test

import (
	"os"
	"testing"

	"verneuil/chunkstore/storetest"
)

// VERNEUIL_BENCH_DIR says on which file system.
func BenchmarkPutChunk(b *testing.B) {
	root, err := os.MkdirTemp(os.Getenv("VERNEUIL_BENCH_DIR"), "bench")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(root)
	storetest.PutChunks(b, storetest.Open(b, dirTarget(root)))
}
