// Package backoff makes the pauses between tries. It imports nothing of ours.
package backoff

import (
	"math/rand/v2"
	"time"
)

// Backoff is a delay that grows from try to try, with jitter: many databases that
// fail together do not come back together. It is for one goroutine.
type Backoff struct {
	First, Most time.Duration // the first delay, and the bound of all

	current time.Duration
}

// Next returns how long to wait: between a half and the whole of a delay that
// doubles with each call.
func (b *Backoff) Next() time.Duration {
	b.current = min(max(b.First, 2*b.current), b.Most)
	return b.current/2 + rand.N(b.current/2+1)
}

// Reset has the next delay be the first again.
func (b *Backoff) Reset() { b.current = 0 }
