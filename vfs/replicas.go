package vfs

import (
	"context"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"verneuil/chunkstore"
	"verneuil/replicate/locate"
	"verneuil/replicate/replica"
)

// replicas holds the sources of which this process reads replicas: a set for those in the targets
// of replication, and one for each store that databases live in. A set is made when the first of
// its replicas is opened, and kept as long as the process lives. It is safe for concurrent use.
type replicas struct {
	make func(store string) (*replica.Set, error)

	mu   sync.Mutex
	sets map[string]*replicaSet // by the store's name; empty: the targets of replication

	// ballast is never touched, so it costs address space and no memory. It keeps the
	// collector from running after every 2 MiB, which is 10 chunks, as it would with a
	// small heap and GOGC=50 (cgo/gort.c): a cold scan takes 0.4 times as long with it. It is
	// in pieces because the runtime clears a span whole if any of it was in use before
	// (allocNeedsZero in runtime/mheap.go): 36 ms and 32 MiB, when the replica is opened.
	ballast [32][]byte
	weigh   sync.Once
}

// takeBallast makes the ballast. The collector runs once, after its last piece.
func (r *replicas) takeBallast() {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for i := range r.ballast {
		r.ballast[i] = make([]byte, 1<<20)
	}
}

// replicaSet is one that is made once. If it cannot be made, the same error is returned each time.
type replicaSet struct {
	open func() (*replica.Set, error)
	set  atomic.Pointer[replica.Set] // what open has returned
}

// newReplicas returns those of e, which are not made yet.
func newReplicas(e *Engine) *replicas {
	return &replicas{make: e.newReplicaSet, sets: make(map[string]*replicaSet)}
}

// in returns the set of that store.
func (r *replicas) in(store string) (*replica.Set, error) {
	r.mu.Lock()
	s := r.sets[store]
	if s == nil {
		s = &replicaSet{}
		s.open = sync.OnceValues(func() (*replica.Set, error) {
			set, err := r.make(store)
			s.set.Store(set)
			return set, err
		})
		r.sets[store] = s
	}
	r.mu.Unlock()
	return s.open()
}

// status returns what verneuil_status() shows: an empty list if there are no replicas.
func (r *replicas) status() []replica.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := []replica.Status{}
	for _, name := range slices.Sorted(maps.Keys(r.sets)) {
		if set := r.sets[name].set.Load(); set != nil {
			all = append(all, set.Status()...)
		}
	}
	return all
}

// OpenReplica returns a reader of the newest version of the source that uri names; see
// [replica.Set.Open]. What SQLite calls /STORE/any/path.db is the database that lives in that
// store, if there is one of that name. It may wait for the network.
func (e *Engine) OpenReplica(ctx context.Context, uri string) (*replica.Reader, error) {
	address, inStore, err := locate.ParseAddress(uri, e.cfg.Remote.Has)
	if err != nil {
		return nil, err
	}
	set, err := e.replicas.in(address.Store)
	if err != nil {
		return nil, err
	}
	if !inStore {
		return set.Open(ctx, uri)
	}
	store, err := e.NamedStore(address.Store)
	if err != nil {
		return nil, err
	}
	return set.OpenLocated(ctx, locate.InStore(address, store))
}

func (e *Engine) newReplicaSet(name string) (*replica.Set, error) {
	store, err := e.NamedStore(name)
	if err != nil {
		return nil, err
	}
	e.replicas.weigh.Do(e.replicas.takeBallast)
	return replica.NewSet(e.replicaOptions(store))
}

// replicaOptions are those with which versions in store are read.
func (e *Engine) replicaOptions(store *chunkstore.Store) replica.Options {
	policy := e.cfg.SnapshotLoadingPolicy
	return replica.Options{
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
	}
}
