package replicate

import (
	"log/slog"

	"verneuil/replicate/errands"
	"verneuil/spool"
)

// bell is what wakes a replicator that sleeps: recorders of other processes ring it through a
// FIFO, those of this one by [Replicator.Woken].
type bell struct {
	sp      *spool.Spool
	errands *errands.Errands
	log     *slog.Logger

	rung  chan struct{}
	wake  *spool.Wake // nil: there is none
	armed uint32      // how often the recorders were armed
}

func newBell(sp *spool.Spool, e *errands.Errands, log *slog.Logger) bell {
	return bell{sp: sp, errands: e, log: log, rung: make(chan struct{}, 1)}
}

// listen has recorders of other processes ring. Where that cannot be, or a cleaner has
// removed the FIFO, what they commit is found when it is looked for (watch.go).
func (b *bell) listen() {
	b.close()
	var err error
	if b.wake, err = b.sp.OpenWake(); err != nil {
		b.log.Warn("other processes cannot wake this replicator: "+
			"it looks for their commits every second", "error", err)
		return
	}
	wake := b.wake
	b.errands.Run(func() {
		for wake.Wait() == nil {
			b.ring()
		}
	})
}

// stillListens reports whether recorders can ring.
func (b *bell) stillListens() bool { return b.wake != nil && b.wake.Current() }

// ring may be called by any goroutine.
func (b *bell) ring() {
	select {
	case b.rung <- struct{}{}:
	default:
	}
}

// arm has recorders ring when they publish. It is sequentially consistent: a commit after a look
// that follows sees that they are armed.
func (b *bell) arm() {
	b.armed = max(1, b.armed+1) // who has read the number before does not take this one away
	b.sp.State().Armed.Store(b.armed)
}

func (b *bell) disarm() { b.sp.State().Armed.Store(0) }

func (b *bell) close() {
	if b.wake != nil {
		b.wake.Close()
	}
}
