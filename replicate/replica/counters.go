package replica

import (
	"sync"
	"sync/atomic"
)

// counters are the change counters that the versions of one source are shown with. No two contents
// have the same (D3).
type counters struct {
	given  *atomic.Uint32 // the last one of all sources of the process
	stride uint32         // how many are taken at a time

	mu   sync.Mutex
	last uint32 // the last one that a version has
	end  uint32 // of the stride that it is of
}

// fedStride is how many counters a source that is fed takes at a time. SQLite counts up by one with
// each transaction, and keeps its pages if it is shown what it has written.
const fedStride = 1 << 10

// fresh returns a counter that no version has had.
func (c *counters) fresh() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.freshLocked()
}

func (c *counters) freshLocked() uint32 {
	c.end = c.given.Add(c.stride) + 1
	c.last = c.end - c.stride
	return c.last
}

// after returns wrote, which SQLite has written into what it has made of the version that is shown
// with that counter, if it is the next one, and no version has had it; else, and if wrote is 0, a
// fresh one.
func (c *counters) after(shown, wrote uint32) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if wrote == 0 || shown != c.last || wrote != c.last+1 || wrote == c.end {
		return c.freshLocked()
	}
	c.last = wrote
	return wrote
}
