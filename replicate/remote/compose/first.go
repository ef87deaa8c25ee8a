package compose

import (
	"crypto/rand"
	"encoding/binary"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

// First returns the first version of an empty database at path in a store, whose bucket of chunks
// has that identity. It is in no history yet.
func First(path, program string, chunks chunkstore.Identity) *manifest.Manifest {
	m := &manifest.Manifest{
		Path: path, Program: program, Epoch: 1, Sequence: 1,
		Stores: []chunkstore.Identity{chunks}, Time: time.Now(),
	}
	var continuity [8]byte
	for _, random := range [][]byte{m.Lineage[:], m.Cut[:], continuity[:]} {
		rand.Read(random) // never fails: crypto/rand
	}
	m.Continuity = binary.BigEndian.Uint64(continuity[:]) | 1 // all writes are transactions
	return m
}

// Anew makes m, which is of one chain of versions, the first one of another.
func Anew(m *manifest.Manifest) {
	m.Time = time.Now()
	for _, random := range [][]byte{m.Lineage[:], m.Cut[:]} {
		rand.Read(random) // never fails: crypto/rand
	}
}
