package chunkstore

import (
	"context"
	"time"
)

// Cache holds stored objects, by their IDs, on this machine. It never fails its caller: what goes
// wrong in it is an entry that is not there. It is safe for concurrent use, also by several
// processes.
type Cache interface {
	// Get returns the plain bytes of id, verified, if they are there; they are the caller's. A
	// damaged entry is never returned (I6).
	Get(id ID) (plain []byte, ok bool)
}

// FilledCache is a [Cache] that a [Store] fills with what it fetches.
type FilledCache interface {
	Cache
	// Put keeps the stored form of id, and makes room for it. It need not be durable. stored is not
	// retained.
	Put(id ID, stored []byte)
	// Claim says which of ids, that have no entry, the caller is to fetch now: all but busy, which
	// other processes are fetching (I7). While all are, it waits, for limit at most, and then none
	// is busy any more; nor is one whose entry has come. The caller looks again, fetches what is
	// still missing, puts it, and calls release, which is never nil; then he claims the busy ones.
	Claim(ctx context.Context, ids []ID, limit time.Duration) (busy []ID, release func())
}
