package remote_test

import (
	"context"
	"io"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/faultbucket"
	"verneuil/replicate/remote"
)

// counted counts the requests of a machine.
type counted struct {
	mu    sync.Mutex
	calls []string
}

func (c *counted) note(verb, key string) {
	if dbg {
		println(verb, key[:4])
		debug.PrintStack()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if kind, _, dashed := strings.Cut(key, "-"); dashed && len(kind) < 8 {
		key = kind
	}
	c.calls = append(c.calls, verb+" "+key)
}

// take returns what was called since the last take.
func (c *counted) take() (calls []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls, c.calls = c.calls, nil
	return calls
}

// of returns how machineOf's store is seen through c.
func (c *counted) of(o remote.Options) remote.Options {
	open := o.Open
	o.Open = func(ctx context.Context, name string) (*chunkstore.Store, error) {
		s, err := open(ctx, name)
		if err != nil {
			return nil, err
		}
		plan := &faultbucket.Plan{OnCalled: c.note}
		return chunkstore.NewStore(plan.Target(s.Targets[0])), nil
	}
	return o
}

var dbg bool

var silent = slog.New(slog.NewTextHandler(io.Discard, nil))

// TestRequests: what a transaction asks of the store.
func TestRequests(t *testing.T) {
	var c counted
	o := c.of(machineOf(t, t.TempDir(), t.TempDir(), silent))
	o.LeaseLinger, o.LeaseRenewal, o.LeaseTimeout = time.Hour, time.Hour, 2*time.Hour
	conn := open(t, o, remote.Mode{Create: true})
	mustWrite(t, conn) // and takes the lease
	c.take()
	for v := range uint64(3) {
		mustWrite(t, conn)
		mustRead(t, conn, v+2)
		// The keeper looks whether another machine wants the lease.
		calls := slices.DeleteFunc(c.take(), func(call string) bool { return call == "get want" })
		if want := []string{"put log"}; !slices.Equal(calls, want) {
			t.Errorf("a transaction of the holder: %v, want %v", calls, want)
		}
	}
}
