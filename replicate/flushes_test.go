package replicate

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"verneuil/replicate/mirror"
	"verneuil/spool"
)

func TestTicketFails(t *testing.T) {
	w := newWorld(t, 7, 1)
	first := w.replicator()
	defer w.run(first)()
	w.transact(50)
	w.mustFlush(first)
	w.manifests[0].setFault(func(op, _ string) error { return errInjected })
	second := w.replicator()
	defer w.run(second)()
	w.transact(50)
	err := w.flush(second)
	if err == nil || !strings.Contains(err.Error(), "could not push") ||
		!strings.Contains(err.Error(), errInjected.Error()) {
		t.Errorf("flush by a ticket: %v", err)
	}
}

// sizedSource says when it is asked for its size.
type sizedSource struct {
	mirror.Source
	asked func()
}

func (s sizedSource) Size() (int64, error) {
	s.asked()
	return s.Source.Size()
}

// TestTicketsInAnyOrder: a ticket that is answered after a later one does not take that one's
// answer back.
func TestTicketsInAnyOrder(t *testing.T) {
	w := newWorld(t, 7, 1)
	var asked atomic.Pointer[func()]
	w.options = func(o *Options) {
		o.OpenSource = func() (mirror.Source, error) {
			src, err := w.source()
			return sizedSource{src, func() {
				if f := asked.Swap(nil); f != nil {
					(*f)()
				}
			}}, err
		}
	}
	r := w.replicator()
	defer w.run(r)()
	w.transact(50)
	w.mustFlush(r)
	st := w.sp.State()
	l := r.look().loop
	inLoop := func(f func()) {
		t.Helper()
		done := make(chan struct{})
		if !l.errands.Tell(func() { f(); close(done) }) {
			t.Fatal("the loop has ended")
		}
		<-done
	}
	pushing, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.manifests[0].setFault(func(op, _ string) error {
		if op == "put" {
			once.Do(func() { close(pushing); <-goOn })
		}
		return nil
	})
	w.transact(50)
	<-pushing
	for range 2 { // taken one by one, both wait for the push
		st.FlushDrawn.Add(1)
		inLoop(func() {})
		inLoop(func() {})
	}
	inLoop(func() {
		if len(l.flushes.waiting) != 2 {
			t.Errorf("%d flushes wait, want 2", len(l.flushes.waiting))
		}
	})
	// A recorder begins a transaction while suspect looks for the first: it is asked once more.
	begin := func() {
		self, err := spool.Self()
		if err != nil {
			t.Error(err)
		}
		st.Writing.Store(uint64(self))
	}
	asked.Store(&begin)
	close(goOn)
	for left := 1; left > 0; {
		inLoop(func() { left = len(l.flushes.waiting) })
	}
	if drawn := st.FlushDrawn.Load(); st.FlushDone.Load() != drawn ||
		st.FlushAnswered.Load() != drawn {
		t.Errorf("ticket %d is done, %d answered, of %d", st.FlushDone.Load(),
			st.FlushAnswered.Load(), drawn)
	}
	st.Writing.Store(0)
}

// hastyClock is the system's, but what waits for long waits for ever.
type hastyClock struct{ systemClock }

func (c hastyClock) after(d time.Duration) <-chan time.Time {
	if d >= 100*time.Millisecond {
		return nil
	}
	return c.systemClock.after(d)
}

// TestFlushInTransaction: a flush does not wait for a transaction that is in progress,
// nor for the time at which the loop would look again by itself.
func TestFlushInTransaction(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.options = func(o *Options) { o.clock = hastyClock{} }
	w.transact(10)
	r := w.replicator()
	defer w.run(r)()
	w.mustFlush(r)
	w.begin()
	w.write(3, w.pageOf(3, 0, 7))
	for range 3 {
		w.mustFlush(r)
	}
	w.commit()
	w.mustFlush(r)
	w.equal(0, "after all")
}

// TestFlushInTransactionAfterForeign: a transaction that is in progress has found a commit
// without a recorder before it; the flush waits for that, and so for the transaction.
func TestFlushInTransactionAfterForeign(t *testing.T) {
	w := newWorld(t, 1, 1)
	var copied atomic.Int64
	w.options = func(o *Options) {
		o.fault = func(at string) bool {
			if at == "copied" {
				copied.Add(1)
			}
			return false
		}
	}
	w.transact(10)
	r := w.replicator()
	defer w.run(r)()
	w.mustFlush(r)
	w.foreign(10)
	before := copied.Load()
	w.begin()
	var committed atomic.Bool
	flushed := make(chan error)
	go func() {
		err := w.flush(r)
		if err == nil && !committed.Load() {
			err = errors.New("it was answered before the foreign commit was sent")
		}
		flushed <- err
	}()
	w.until("the database is copied, but for the transaction's end",
		func() bool { return copied.Load() > before })
	committed.Store(true)
	w.commit()
	if err := <-flushed; err != nil {
		t.Fatal(err)
	}
	w.equal(0, "after the flush")
}

// TestFlushGivesUp: who asks for a flush waits no longer than it wants to, also while
// the first copy of the database waits for a transaction.
func TestFlushGivesUp(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.transact(10)
	w.begin()
	r := w.replicator()
	defer w.run(r)()
	w.until("the copy waits",
		func() bool { return r.Status().State == "waiting for a transaction to end" })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.Flush(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("flush: %v", err)
	}
	w.commit()
	w.mustFlush(r)
	w.equal(0, "after the transaction")
}

// TestLeave: a process that ends in the middle of its own transaction does not wait for
// that to end; for another process's it does.
func TestLeave(t *testing.T) {
	for _, c := range []struct {
		name       string
		own, spill bool
	}{{"own", true, false}, {"own, and it has written", true, true}, {"another's", false, false}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1, 1)
			w.transact(10)
			if c.spill {
				w.begin()
			} else {
				w.setExclusive()
			}
			if c.own {
				w.mu.Lock()
				w.reserved, w.exclusive = os.Getpid(), os.Getpid()
				w.mu.Unlock()
			}
			r := w.replicator()
			defer w.run(r)()
			w.until("the copy waits",
				func() bool { return r.Status().State == "waiting for a transaction to end" })
			ctx, cancel := context.WithTimeout(context.Background(), hangs)
			defer cancel()
			left := make(chan error)
			go func() { left <- r.Leave(ctx) }()
			if c.own {
				if err := <-left; !errors.Is(err, mirror.ErrLeaving) {
					t.Errorf("Leave: %v", err)
				}
				return
			}
			w.setReserved(false)
			if err := <-left; err != nil {
				t.Errorf("Leave: %v", err)
			}
			w.equal(0, "after the transaction")
		})
	}
}

// TestUnusableSpoolAnswersFlush: where the spool cannot be used, a flush has it tried
// again at once, and then fails and says why; when it can, it is.
func TestUnusableSpoolAnswersFlush(t *testing.T) {
	w := newWorld(t, 1, 1)
	var unusable atomic.Bool
	w.options = func(o *Options) {
		o.clock = hastyClock{}
		o.fault = func(string) bool {
			if unusable.Load() {
				panic("of no use")
			}
			return false
		}
	}
	w.transact(10)
	unusable.Store(true)
	r := w.replicator()
	defer w.run(r)()
	for range 3 {
		if err := w.flush(r); err == nil || !strings.Contains(err.Error(), "of no use") {
			t.Fatalf("flush: %v", err)
		}
	}
	unusable.Store(false)
	w.mustFlush(r)
	w.equal(0, "after all")
}
