package chunkstore

import (
	"context"
	"time"
)

// Inspector is a [Bucket] of a store that can tell how it is set up.
type Inspector interface {
	// Inspect asks the store. With write, it tries to put an object under key that is damaged on
	// the way, and one that is not, which it leaves there. What the credentials may not ask is in
	// Traits.Unknown, and is no error.
	Inspect(ctx context.Context, key string, write bool) (Traits, error)
}

// Traits are how a bucket is set up, and what its store does.
type Traits struct {
	Unknown []string // what could not be asked: "versioning", "object lock", "lifecycle rules"

	Versioned bool // what is replaced or deleted is kept
	Lock      string
	LockDays  int // how long versions are kept from everybody by default, in the mode Lock; 0: not
	Expiry    []Expiry

	Public bool          // anybody may get its objects, without credentials
	Skew   time.Duration // how far the store's clock is ahead of ours
	// Of what was put, if that was asked for.
	TakesDamage   bool // a body whose checksum is wrong
	IgnoresRanges bool // a request for a part is answered with the whole
}

// Expiry is a rule of a bucket by which objects of ours may expire.
type Expiry struct {
	ID         string
	Days       int  // after which they do
	Noncurrent bool // only those that were replaced or deleted
}
