package dir_test

import (
	"os"
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/storetest"
)

// benchStore makes a target; VERNEUIL_BENCH_DIR says on which file system.
func benchStore(b *testing.B) *chunkstore.Store {
	root, err := os.MkdirTemp(os.Getenv("VERNEUIL_BENCH_DIR"), "bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(root) })
	return storetest.Open(b, dirTarget(root))
}

func BenchmarkPutPacks(b *testing.B)  { storetest.PutPacks(b, benchStore(b)) }
func BenchmarkGetPacks(b *testing.B)  { storetest.GetPacks(b, benchStore(b)) }
func BenchmarkGetObject(b *testing.B) { storetest.GetObject(b, benchStore(b)) }
