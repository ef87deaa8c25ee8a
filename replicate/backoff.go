package replicate

import (
	"math/rand/v2"
	"time"
)

// backoff is a growing delay between tries, with jitter: many databases that
// fail together do not come back together.
type backoff struct{ first, most, current time.Duration }

func newBackoff(first, most time.Duration) backoff { return backoff{first: first, most: most} }

// next returns how long to wait: between a half and the whole of a delay that
// doubles with each call.
func (b *backoff) next() time.Duration {
	b.current = min(max(b.first, 2*b.current), b.most)
	return b.current/2 + rand.N(b.current/2+1)
}

func (b *backoff) reset() { b.current = 0 }
