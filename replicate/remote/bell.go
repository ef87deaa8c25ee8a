package remote

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"verneuil/chunkstore"
)

// What a bell says.
const (
	bellRecord byte = 1 << iota // the log has a new record
	bellFree                    // and it gives the history back
	bellWant                    // another machine wants the lease
)

const (
	// ringers is how many rings may be under way: one that was killed lately, and cannot hear,
	// holds each up for a second.
	ringers = 8
	// exitRing is how long a process that ends waits for its last ring.
	exitRing = 100 * time.Millisecond
)

// bell tells other machines at once what they would find out by asking, where the store can do
// that ([chunkstore.Messenger]). Nothing depends on it: everybody goes on asking, too.
//
// A database has two. One tells of records, to replicas that follow and to who waits for the lease:
// a holder who hears that nobody listens is spared a request for each commit. So the other one, by
// which the lease is asked for, is none that holders listen to for their own records' sake.
type bell struct {
	d    *database
	name string
	self [8]byte // by which we know our own rings

	mu      sync.Mutex
	pending byte          // what is to be told
	ringing int           // rings under way
	quiet   time.Duration // until then records are not told of: nobody listened a moment ago
	later   *time.Timer   // tells of them then; nil: there were none
	silent  chan struct{} // closed when none is under way any more; nil: nobody waits for that
}

func newBell(d *database, name string) *bell {
	b := &bell{d: d, name: name}
	rand.Read(b.self[:]) // never fails
	return b
}

// ring tells in the background.
func (b *bell) ring(what byte) {
	if _, ok := b.d.shop.t.Chunks.(chunkstore.Messenger); !ok {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if left := b.quiet - b.d.now(); what == bellRecord && left > 0 {
		if b.later == nil {
			b.later = time.AfterFunc(left, b.again)
		}
		return
	}
	b.pending |= what
	if b.ringing < ringers {
		b.ringing++
		b.d.set.run("ring", b.d, b.rings)
	}
}

// again tells of the records that were not told of while it was quiet.
func (b *bell) again() {
	b.mu.Lock()
	b.later, b.quiet = nil, 0
	b.mu.Unlock()
	b.ring(bellRecord)
}

// rings tells what is pending, until there is nothing.
func (b *bell) rings(ctx context.Context) {
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.ringing--; b.ringing == 0 && b.silent != nil {
			close(b.silent)
			b.silent = nil
		}
	}()
	m := b.d.shop.t.Chunks.(chunkstore.Messenger)
	for {
		b.mu.Lock()
		what := b.pending
		b.pending = 0
		b.mu.Unlock()
		if what == 0 || ctx.Err() != nil {
			return
		}
		heard, err := m.Tell(ctx, b.name, append([]byte{what}, b.self[:]...))
		if err != nil || !heard {
			b.mu.Lock()
			b.quiet = b.d.now() + lookInterval
			b.mu.Unlock()
		}
	}
}

// finish waits a moment for what is under way.
func (b *bell) finish(ctx context.Context) {
	b.mu.Lock()
	silent := b.silent
	if silent == nil && b.ringing > 0 {
		silent = make(chan struct{})
		b.silent = silent
	}
	b.mu.Unlock()
	if silent == nil {
		return
	}
	timer := time.NewTimer(exitRing)
	defer timer.Stop()
	select {
	case <-silent:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// hear returns a channel that gets a value when another process tells one of those things, or may
// have told it unheard, until ctx ends; nil, on which nothing is heard, where the store cannot.
func (b *bell) hear(ctx context.Context, what byte) <-chan struct{} {
	if _, ok := b.d.shop.t.Chunks.(chunkstore.Messenger); !ok {
		return nil
	}
	heard := make(chan struct{}, 1)
	b.d.set.run("listen", b.d, func(all context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(all, cancel)()
		err := chunkstore.Listen(ctx, b.d.shop.t.Chunks, b.name,
			func(body []byte) {
				if body != nil && (len(body) != 1+len(b.self) || body[0]&what == 0 ||
					string(body[1:]) == string(b.self[:])) {
					return
				}
				select {
				case heard <- struct{}{}:
				default:
				}
			})
		if ctx.Err() == nil {
			b.d.log.Info("what others do is found out by asking", "error", err)
		}
	})
	return heard
}

// News gets a value when another machine has appended a record: see package replica.
func (d *database) News(ctx context.Context) <-chan struct{} {
	return d.lease.news.hear(ctx, bellRecord|bellFree)
}
