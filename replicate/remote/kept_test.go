package remote_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"verneuil/replicate/remote"
	"verneuil/replicate/remote/machine"
)

// goesOn is what C does for a handle that goes on without a call after a durable commit.
func goesOn(c *remote.Conn) bool {
	p, w := c.Place(), c.Words()
	return p.Kept && p.Number != 0 && (*machine.Page)(w.Lease).Number() == p.Number &&
		(*atomic.Uint32)(w.Grip).CompareAndSwap(1, 2)
}

// mustCommit has c, which has reserved, commit v, and waits until that is durable.
func mustCommit(t *testing.T, c *remote.Conn, v uint64) {
	t.Helper()
	commitTo(t, c, v, remote.Way{Pass: true})
	if err := c.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func begin(t *testing.T, c *remote.Conn) error {
	t.Helper()
	if err := c.Share(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	return c.Reserve(t.Context())
}

// TestKeptLock: a handle that writes one durable transaction after another goes on without a call,
// as long as nobody else wants to write: another handle, another process, another machine.
func TestKeptLock(t *testing.T) {
	root, temp, elsewhere := warmed(t), t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		v, began := uint64(1), time.Now()
		pause := func(d time.Duration) { <-time.After(d); synctest.Wait() } // the bubble's clock
		process := func(temp string) *remote.Set {
			o := machineOf(t, root, temp, silent)
			o.LeaseLinger = time.Hour
			o.History.Now = func() time.Duration { return time.Hour + time.Since(began) }
			return newSet(t, o)
		}
		set := process(temp)
		c, handle := openIn(t, set, remote.Mode{}), openIn(t, set, remote.Mode{})
		other := openIn(t, process(temp), remote.Mode{})
		far := openIn(t, process(elsewhere), remote.Mode{})
		write := func(c *remote.Conn) {
			t.Helper()
			for begin(t, c) != nil {
				pause(20 * time.Millisecond)
			}
			v++
			mustCommit(t, c, v)
		}
		goes := func(want bool, what string) {
			t.Helper()
			if goesOn(c) != want {
				t.Fatal(what)
			}
			if want {
				v++
				mustCommit(t, c, v)
			}
		}
		write(c)
		for range 3 {
			goes(true, "a handle that writes one transaction after another has to ask")
		}
		write(handle)
		goes(false, "a handle goes on without a place")
		write(c)
		pause(6 * time.Millisecond)
		goes(false, "the lock is kept for longer than a moment")
		write(other) // it is free
		write(c)
		goes(false, "the lock is kept although another process wrote a moment ago")
		pause(2 * time.Second)
		write(c)
		if err := begin(t, other); err != nil {
			t.Fatalf("a process is told that another one writes, which does not: %v", err)
		}
		other.Unreserve()
		goes(false, "a handle goes on without the lock")
		write(c)
		goes(false, "the lock is kept although another process waited for it a moment ago")
		pause(2 * time.Second)
		write(c)
		goesOn(c)
		if err := begin(t, other); !errors.Is(err, remote.ErrBusy) {
			t.Fatalf("two write at once: %v", err)
		}
		v++
		mustCommit(t, c, v)
		write(other)
		pause(2 * time.Second)
		write(far)
		write(c)
		mustRead(t, far, v)
	})
}
