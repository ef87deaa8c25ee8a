package s3_test

import (
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/miniotest"
	"verneuil/chunkstore/storetest"
)

func BenchmarkPutChunk(b *testing.B) {
	storetest.PutChunks(b, storetest.Open(b, s3Target(miniotest.Start(b))))
}

func BenchmarkGetChunk(b *testing.B) {
	s := storetest.Open(b, s3Target(miniotest.Start(b)))
	plain := storetest.Text(1, chunkstore.ChunkBytes)
	id := chunkstore.Plain{}.Identify(plain)
	if _, err := s.Targets[0].PutChunk(b.Context(), id, plain); err != nil {
		b.Fatal(err)
	}
	storetest.ByEight(b, func(uint64) error {
		_, err := s.Targets[0].GetChunk(b.Context(), id)
		return err
	})
}
