package replicate

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestHandOver(t *testing.T) {
	w := newWorld(t, 7, 1)
	first := w.replicator()
	stopFirst := w.run(first)
	w.transact(50)
	w.mustFlush(first)
	second := w.replicator()
	stopSecond := w.run(second)
	w.transact(50)
	w.mustFlush(second) // by a ticket
	w.equal(0, "by a ticket")
	if err := second.Verify(context.Background()); !errors.Is(err, ErrStandby) {
		t.Errorf("verify on standby: %v", err)
	}
	stopFirst()
	w.transact(50)
	w.mustFlush(second)
	w.equal(0, "after a hand-over")
	stopSecond()
	if err := w.flush(second); !errors.Is(err, ErrStopped) {
		t.Errorf("flush after stop: %v", err)
	}
}

// patientClock never ends the pause of a replicator that stands by.
type patientClock struct{ systemClock }

func (patientClock) after(d time.Duration) <-chan time.Time {
	if d == standbyInterval {
		return nil
	}
	return time.After(d)
}

// TestHandOverIsNotWaitedFor: who waits for a flush, or a check, while the replicator
// that had the lock is gone, has the one that stands by take it at once.
func TestHandOverIsNotWaitedFor(t *testing.T) {
	for name, wait := range map[string]func(*Replicator, context.Context) error{
		"flush":  (*Replicator).Flush,
		"verify": (*Replicator).Verify,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 12, 1)
			first := w.replicator()
			stopFirst := w.run(first)
			w.transact(50)
			w.mustFlush(first)
			w.options = func(o *Options) { o.clock = patientClock{} }
			second := w.replicator()
			defer w.run(second)()
			for changed := second.nextChange(); !second.StandsBy(); changed = second.nextChange() {
				<-changed
			}
			stopFirst()
			w.transact(50)
			ctx, cancel := context.WithTimeout(t.Context(), hangs)
			defer cancel()
			if err := wait(second, ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// nextChange returns what is closed when somebody else has the lock, or we have.
func (r *Replicator) nextChange() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}
