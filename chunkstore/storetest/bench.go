package storetest

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"

	"verneuil/chunkstore"
)

// PutPacks puts packs of chunks that compress to about a third to s, 8 at once, as a sync does.
func PutPacks(b *testing.B, s *chunkstore.Store) {
	base := Text(1, chunkstore.ChunkBytes)
	packs := sync.Pool{New: func() any { return new(chunkstore.Pack) }}
	b.SetBytes(chunkstore.PackMax * chunkstore.ChunkBytes)
	ByEight(b, func(i uint64) error {
		p := packs.Get().(*chunkstore.Pack)
		p.Reset()
		plain := append([]byte(nil), base...)
		for k := range uint64(chunkstore.PackMax) {
			binary.BigEndian.PutUint64(plain, i*chunkstore.PackMax+k)
			p.Seal(s.Sealer(), chunkstore.Hash(s.Sealer(), plain))
		}
		_, _, err := s.Targets[0].PutPack(b.Context(), p)
		packs.Put(p)
		return err
	})
}

// GetPacks gets all objects of a pack of s, 8 such at once, as a restore does.
func GetPacks(b *testing.B, s *chunkstore.Store) {
	objects := make([][]byte, chunkstore.PackMax)
	for k := range objects {
		objects[k] = Text(uint64(k), chunkstore.ChunkBytes)
	}
	refs := PutObjects(b, s.Targets[0], objects...)
	b.SetBytes(chunkstore.PackMax * chunkstore.ChunkBytes)
	ByEight(b, func(uint64) error {
		_, err := s.GetObjects(b.Context(), nil, refs)
		return err
	})
}

// GetObject gets one object of a pack of s, 8 such at once, as replicas do.
func GetObject(b *testing.B, s *chunkstore.Store) {
	objects := make([][]byte, chunkstore.PackMax)
	for k := range objects {
		objects[k] = Text(uint64(k), chunkstore.ChunkBytes)
	}
	refs := PutObjects(b, s.Targets[0], objects...)
	b.SetBytes(chunkstore.ChunkBytes)
	ByEight(b, func(i uint64) error {
		_, err := s.GetObject(b.Context(), nil, refs[i%uint64(len(refs))])
		return err
	})
}

// ByEight calls one b.N times, from 8 goroutines.
func ByEight(b *testing.B, one func(i uint64) error) {
	b.Helper()
	var n atomic.Uint64
	b.ReportAllocs()
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
