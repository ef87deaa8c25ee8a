package remote_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"verneuil/replicate/remote"
)

// TestHints: a handle that seems about to write comes to where it may, at once, while another one's
// commit is not durable yet. Of one that does not write after all that is not believed again until
// it was right a few times.
func TestHints(t *testing.T) {
	o := machineOf(t, t.TempDir(), t.TempDir(), silent)
	o.CommitInterval = time.Hour
	set := newSet(t, o)
	c1, c2 := openIn(t, set, remote.Mode{Create: true}), openIn(t, set, remote.Mode{})
	v := mustWrite(t, c1)
	share := func(c *remote.Conn, writes bool) {
		t.Helper()
		if err := c.Share(t.Context(), writes); err != nil {
			t.Fatal(err)
		}
	}
	reserve := func(c *remote.Conn) {
		t.Helper()
		err := remote.ErrBusy // who has come to its turn, and only reads, has it for a moment more
		for errors.Is(err, remote.ErrBusy) {
			share(c, true)
			err = c.Reserve(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	commit := func(c *remote.Conn) { t.Helper(); v++; commitTo(t, c, v, remote.Way{Pass: true}) }
	// reserves commits on c1, and reports whether c2 may write then, at once.
	reserves := func(writes bool) bool {
		t.Helper()
		reserve(c1)
		commit(c1)
		share(c2, writes)
		err := c2.Reserve(t.Context())
		if err == nil {
			commit(c2)
			err = c2.Wait(t.Context())
		}
		if err != nil && !errors.Is(err, remote.ErrStale) {
			t.Fatal(err)
		}
		c2.Unreserve()
		if err := c1.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err != nil { // it has its turn now
			reserve(c2)
			c2.Unreserve()
		}
		return err == nil
	}
	if reserves(false) {
		t.Fatal("a handle that reads is given what is not durable")
	}
	if !reserves(true) {
		t.Fatal("a handle that is about to write has to try twice")
	}
	// It only reads.
	reserve(c1)
	commit(c1)
	share(c2, true)
	if err := c1.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if reserves(true) {
		t.Error("it was wrong, and is believed all the same")
	}
	for n := 1; !reserves(true); n++ {
		if n > 4 {
			t.Fatal("it was wrong once, and is not believed any more")
		}
	}
}

// TestBusyAtOnce: SQLite is told at once that another connection writes, also one that is about to
// write itself: how long it waits is for its busy handler to say.
func TestBusyAtOnce(t *testing.T) {
	root, temp := warmed(t), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		set, err := remote.NewSet(machineOf(t, root, temp, silent))
		if err != nil {
			t.Fatal(err)
		}
		defer set.Close()
		c1, c2 := openIn(t, set, remote.Mode{}), openIn(t, set, remote.Mode{})
		mustShareToWrite(t, c1)
		began := time.Now()
		if err := c2.Share(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if err := c2.Reserve(t.Context()); !errors.Is(err, remote.ErrBusy) {
			t.Errorf("two write at once: %v", err)
		}
		if took := time.Since(began); took > 0 { // the bubble's clock
			t.Errorf("it was told that another one writes after %v", took)
		}
		c1.Unreserve()
	})
}
