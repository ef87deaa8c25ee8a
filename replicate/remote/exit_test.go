package remote_test

import (
	"errors"
	"testing"
	"time"

	"verneuil/replicate/remote"
)

// TestExitInATransaction: a process that ends inside a transaction gives the database back, and
// nothing of that transaction is committed any more.
func TestExitInATransaction(t *testing.T) {
	root := t.TempDir()
	process := func(m remote.Mode) (*remote.Set, *remote.Conn) {
		o := machineOf(t, root, t.TempDir(), silent)
		o.LeaseTimeout, o.LeaseRenewal, o.LeaseLinger = time.Hour, time.Hour, time.Hour
		set := newSet(t, o)
		return set, openIn(t, set, m)
	}
	set, c := process(remote.Mode{Create: true})
	mustWrite(t, c)
	mustShareToWrite(t, c)
	set.Exit(t.Context())
	_, next := process(remote.Mode{})
	if v := mustWrite(t, next); v != 2 {
		t.Errorf("the next one has written %d", v)
	}
	if _, err := c.Commit(t.Context(), changeTo(9), remote.Way{Pass: true}); !errors.Is(err,
		remote.ErrLost) {
		t.Errorf("the transaction was committed: %v", err)
	}
	c.Unreserve()
	mustRead(t, openIn(t, newSet(t, machineOf(t, root, t.TempDir(), silent)), remote.Mode{}), 2)
}
