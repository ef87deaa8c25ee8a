package chunkstore

import (
	"context"
	"time"
)

// Cache holds chunks on this machine. It never fails its caller: what goes wrong in it is an entry
// that is not there. It is safe for concurrent use, also by several processes.
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
	// Claim waits until no other process is fetching id, or its entry is there, for limit at most
	// (I7). It is for whoever did not find the entry: he looks again, fetches what is still
	// missing, puts it, and calls release, which is never nil.
	Claim(ctx context.Context, id ID, limit time.Duration) (release func())
}
