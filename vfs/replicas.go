package vfs

import (
	"context"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"verneuil/replicate/replica"
)

// replicas holds the sources of which this process reads replicas. It is made when the first
// replica is opened, and kept as long as the process lives. It is safe for concurrent use.
type replicas struct {
	open func() (*replica.Set, error)
	set  atomic.Pointer[replica.Set] // what open has returned

	// ballast is never touched, so it costs address space and no memory. It keeps the
	// collector from running after every 2 MiB, which is 10 chunks, as it would with a
	// small heap and GOGC=50 (cgo/gort.c): a cold scan takes 0.4 times as long with it. It is
	// in pieces because the runtime clears a span whole if any of it was in use before
	// (allocNeedsZero in runtime/mheap.go): 36 ms and 32 MiB, when the replica is opened.
	ballast [32][]byte
}

// newReplicas returns those of e, which are not made yet. If they cannot be made, the same error
// is returned each time.
func newReplicas(e *Engine) *replicas {
	r := &replicas{}
	r.open = sync.OnceValues(func() (*replica.Set, error) {
		set, err := e.newReplicaSet()
		r.set.Store(set)
		return set, err
	})
	return r
}

// status returns what verneuil_status() shows: an empty list if there are no replicas.
func (r *replicas) status() []replica.Status {
	if set := r.set.Load(); set != nil {
		return set.Status()
	}
	return []replica.Status{}
}

// OpenReplica returns a reader of the newest version of the source that uri names; see
// [replica.Set.Open]. It may wait for the network.
func (e *Engine) OpenReplica(ctx context.Context, uri string) (*replica.Reader, error) {
	set, err := e.replicas.open()
	if err != nil {
		return nil, err
	}
	return set.Open(ctx, uri)
}

func (e *Engine) newReplicaSet() (*replica.Set, error) {
	store, err := e.ReadStore()
	if err != nil {
		return nil, err
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // one collection, after the last piece
	for i := range e.replicas.ballast {
		e.replicas.ballast[i] = make([]byte, 1<<20)
	}
	policy := e.cfg.SnapshotLoadingPolicy
	return replica.NewSet(replica.Options{
		Store:   store,
		Host:    e.Host(),
		TempDir: e.cfg.TempDir,
		Loading: replica.Loading{
			Eager:   policy.Mode == LoadEager,
			Partial: policy.Mode == LoadPartial,
			Min:     policy.MinChunks,
			Max:     policy.MaxChunks,
		},
		AutoRefresh:  e.cfg.SnapshotAutoRefresh,
		PollInterval: e.cfg.ManifestInterval,
		Deadline:     e.cfg.SnapshotReadDeadline,
		Log:          e.log,
	})
}
