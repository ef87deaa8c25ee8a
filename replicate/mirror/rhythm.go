package mirror

import "time"

// While recorders publish all the time, what they publish is applied in pieces: the larger they
// are, the less the replicator takes from the application's memory, caches and processors. A look
// should find lookBytes of the changelog, so that the same segments are used again while they
// are in the caches; or lookFrames of a WAL: what was not looked at when SQLite resets it, by
// default after 1,000 frames, a recorder copies in the middle of a commit.
const (
	lookBytes  = 2 << 20
	lookFrames = 100
	lookLeast  = time.Millisecond
	lookMost   = 10 * time.Millisecond // how long a commit waits at most
)

// rhythm says when what is published is worth a look.
type rhythm struct {
	at    time.Time     // the last one
	every time.Duration // how long after that the next one is due
	share float64       // of what a look should find, found since
}

// found notes that n were applied of what a look should find enough of.
func (r *rhythm) found(n int64, enough int) { r.share += float64(n) / float64(enough) }

// end notes that a look has ended. What was published before a pause says nothing of what comes.
func (r *rhythm) end(now time.Time) {
	every := r.every
	if r.share > 0 {
		every = time.Duration(float64(min(now.Sub(r.at), lookMost)) / r.share)
	}
	*r = rhythm{at: now, every: min(max(every, lookLeast), lookMost)}
}
