package s3_test

import (
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/miniotest"
	"verneuil/chunkstore/storetest"
)

func benchStore(b *testing.B) *chunkstore.Store {
	return storetest.Open(b, s3Target(miniotest.Start(b)))
}

func BenchmarkPutPacks(b *testing.B)  { storetest.PutPacks(b, benchStore(b)) }
func BenchmarkGetPacks(b *testing.B)  { storetest.GetPacks(b, benchStore(b)) }
func BenchmarkGetObject(b *testing.B) { storetest.GetObject(b, benchStore(b)) }
