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
		Stores: []chunkstore.Identity{chunks},
	}
	Anew(m)
	var continuity [8]byte
	rand.Read(continuity[:])
	m.Continuity = binary.BigEndian.Uint64(continuity[:]) | 1 // all writes are transactions
	return m
}

// Anew makes m, which is of one chain of versions, the first one of another.
func Anew(m *manifest.Manifest) {
	m.Time = time.Now()
	rand.Read(m.Lineage[:]) // never fails: crypto/rand
	rand.Read(m.Cut[:])
}
