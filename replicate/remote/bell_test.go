package remote_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/rados"
	"verneuil/replicate/remote"
	"verneuil/replicate/replica"
	"verneuil/test/cephtest"
)

// inRADOS is a function that returns machines which share a store in RADOS. Their replicas poll
// once an hour.
func inRADOS(t *testing.T) func() remote.Options {
	c := cephtest.Shared(t)
	cfg := &rados.Config{Pool: cephtest.Pool, Namespace: c.Namespace(), Conf: c.Conf,
		Keyring: c.Keyring}
	return func() remote.Options {
		o := machineOf(t, "", t.TempDir(), slog.New(slog.DiscardHandler))
		o.Open = func(ctx context.Context, _ string) (*chunkstore.Store, error) {
			return chunkstore.Open(ctx, []chunkstore.TargetConfig{cfg}, chunkstore.Options{})
		}
		o.Replicas = func(s *chunkstore.Store) (*replica.Set, error) {
			return replica.NewSet(replica.Options{Store: s, TempDir: o.TempDir,
				PollInterval: time.Hour})
		}
		return o
	}
}

// TestReplicaHears: a replica that follows has a commit of another machine long before it polls.
func TestReplicaHears(t *testing.T) {
	machine := inRADOS(t)
	writer := open(t, machine(), remote.Mode{Create: true})
	mustWrite(t, writer)
	follower := open(t, machine(), remote.Mode{ReadOnly: true, Follow: true})
	for range 20 {
		want := mustWrite(t, writer)
		for got := uint64(0); got < want; {
			follower.Adopt()
			var err error
			if got, err = read(t.Context(), follower); err != nil {
				t.Fatal(err)
			}
			select {
			case <-time.After(time.Millisecond):
			case <-t.Context().Done():
				t.Fatal("nothing is heard")
			}
		}
	}
}

// TestTurnsInRADOS: several machines that write in turns lose nothing, and each gets its turn.
func TestTurnsInRADOS(t *testing.T) {
	machine := inRADOS(t)
	const machines, turns = 3, 8
	first := open(t, machine(), remote.Mode{Create: true})
	mustWrite(t, first)
	var all sync.WaitGroup
	for range machines {
		c := open(t, machine(), remote.Mode{})
		all.Go(func() {
			for range turns {
				if _, err := write(t.Context(), c, add); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	mustRead(t, first, machines*turns+1)
}
