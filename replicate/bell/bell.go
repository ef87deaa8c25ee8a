// Package bell tells other machines at once what they would else find out by asking, where the
// store can do that ([chunkstore.Messenger]). Nothing depends on it: everybody goes on asking, too.
//
// A bell has a name, which is a database's, and a purpose. One tells of records, to replicas that
// follow and to who waits for a lease. By another one a lease is asked for. So a writer who listens
// for that is not himself the one who hears of his records: where nobody else listens he is spared
// a request for each of them.
package bell

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"time"

	"verneuil/chunkstore"
)

// What a bell says.
const (
	Record byte = 1 << iota // the log has a new record, or is about to: see Early
	Free                    // the last record gives the history back
	Want                    // another machine wants the lease
)

// Early is by how much a record may be told of before it is there. RADOS lets who asks for what is
// just being written wait for it: so who hears of it while the store works has it as soon as who
// wrote it. Who tells that early tells again of a record that took longer, and who has heard asks
// again, until that much is over.
const Early = 100 * time.Millisecond

const (
	// ringers is how many rings may be under way: one that was killed lately, and cannot hear,
	// holds each up for a second.
	ringers = 8
	// quietTime is for how long records are not told of after nobody has listened.
	quietTime = 250 * time.Millisecond
	// finishTime is how long a process that ends waits for its last ring.
	finishTime = 100 * time.Millisecond
)

// Options are those of a [Bell].
type Options struct {
	Bucket chunkstore.Bucket
	Name   string // of letters and digits
	// Run has f run in the background, and reports whether it does. A panic of f ends nothing.
	Run func(what string, f func(ctx context.Context)) bool
	Log *slog.Logger
}

// Bell is one, as one process sees it. It is safe for concurrent use.
type Bell struct {
	o    Options
	m    chunkstore.Messenger // nil: the store cannot
	self [8]byte              // by which we know our own rings

	mu      sync.Mutex
	pending byte          // what is to be told
	ringing int           // rings under way
	quiet   time.Time     // until then records are not told of: nobody listened a moment ago
	later   *time.Timer   // tells of them then; nil: there were none
	silent  chan struct{} // closed when none is under way any more; nil: nobody waits for that
}

// New returns a bell that nobody has rung yet.
func New(o Options) *Bell {
	b := &Bell{o: o}
	b.m, _ = o.Bucket.(chunkstore.Messenger)
	rand.Read(b.self[:]) // never fails
	return b
}

// Ring tells in the background.
func (b *Bell) Ring(what byte) {
	if b.m == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if left := time.Until(b.quiet); what == Record && left > 0 {
		if b.later == nil {
			b.later = time.AfterFunc(left, b.again)
		}
		return
	}
	b.pending |= what
	if b.ringing < ringers && b.o.Run("ring", b.rings) {
		b.ringing++
	}
}

// again tells of the records that were not told of while it was quiet.
func (b *Bell) again() {
	b.mu.Lock()
	b.later, b.quiet = nil, time.Time{}
	b.mu.Unlock()
	b.Ring(Record)
}

// rings tells what is pending, until there is nothing.
func (b *Bell) rings(ctx context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer func() { // in one step with the last look at what is pending
		if b.ringing--; b.ringing == 0 && b.silent != nil {
			close(b.silent)
			b.silent = nil
		}
	}()
	for b.pending != 0 && ctx.Err() == nil {
		what := b.pending
		b.pending = 0
		if heard, err := b.tell(ctx, what); err != nil || !heard {
			b.quiet = time.Now().Add(quietTime)
		}
	}
}

// tell is called with mu, and does not hold it meanwhile.
func (b *Bell) tell(ctx context.Context, what byte) (heard bool, err error) {
	b.mu.Unlock()
	defer b.mu.Lock()
	return b.m.Tell(ctx, b.o.Name, append([]byte{what}, b.self[:]...))
}

// Finish waits a moment for what is under way.
func (b *Bell) Finish(ctx context.Context) {
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
	timer := time.NewTimer(finishTime)
	defer timer.Stop()
	select {
	case <-silent:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Hear returns a channel that gets a value when another process tells one of those things, or may
// have told it unheard, until ctx ends; nil, on which nothing is heard, where the store cannot.
func (b *Bell) Hear(ctx context.Context, what byte) <-chan struct{} {
	if b.m == nil {
		return nil
	}
	heard := make(chan struct{}, 1)
	b.HearInto(ctx, what, heard)
	return heard
}

// HearInto is Hear with a channel of the caller's, which has room for a value.
func (b *Bell) HearInto(ctx context.Context, what byte, heard chan<- struct{}) {
	if b.m == nil {
		return
	}
	b.o.Run("listen", func(all context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(all, cancel)()
		err := chunkstore.Listen(ctx, b.m, b.o.Name, func(body []byte) {
			if body != nil && (len(body) != 1+len(b.self) || body[0]&what == 0 ||
				string(body[1:]) == string(b.self[:])) {
				return
			}
			select {
			case heard <- struct{}{}:
			default:
			}
		})
		if ctx.Err() == nil && !errors.Is(err, errors.ErrUnsupported) {
			b.o.Log.Info("what others do is found out by asking", "error", err)
		}
	})
}
