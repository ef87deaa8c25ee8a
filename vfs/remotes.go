package vfs

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"verneuil/chunkstore"
	"verneuil/replicate/remote"
	"verneuil/replicate/replica"
)

// remotes holds the databases in stores that this process has open. It is made when the first one
// is opened, and kept as long as the process lives. It is safe for concurrent use.
type remotes struct {
	open func() (*remote.Set, error)
	set  atomic.Pointer[remote.Set] // what open has returned
}

// newRemotes returns those of e, which are not made yet. If they cannot be made, the same error is
// returned each time.
func newRemotes(e *Engine) *remotes {
	r := &remotes{}
	r.open = sync.OnceValues(func() (*remote.Set, error) {
		set, err := newRemoteSet(e)
		r.set.Store(set)
		return set, err
	})
	return r
}

// status returns what verneuil_status() shows: an empty list if there are none.
func (r *remotes) status() []remote.Status {
	if set := r.set.Load(); set != nil {
		if list := set.Status(); list != nil {
			return list
		}
	}
	return []remote.Status{}
}

// exit appends what is not durable yet, and gives leases back, until ctx ends.
func (r *remotes) exit(ctx context.Context) {
	if set := r.set.Load(); set != nil {
		set.Exit(ctx)
	}
}

func newRemoteSet(e *Engine) (*remote.Set, error) {
	if e.cfgErr != nil {
		return nil, e.cfgErr
	}
	dir, err := e.cfg.tempDir()
	if err != nil {
		return nil, err
	}
	c := &e.cfg.Remote
	return remote.NewSet(remote.Options{
		Open: func(_ context.Context, store string) (*chunkstore.Store, error) {
			return e.NamedStore(store)
		},
		Has: c.Has,
		Replicas: func(store *chunkstore.Store) (*replica.Set, error) {
			e.replicas.weigh.Do(e.replicas.takeBallast)
			return replica.NewSet(e.replicaOptions(store))
		},
		TempDir:        dir,
		Host:           e.Host(),
		Program:        Program,
		LeaseTimeout:   c.LeaseTimeout,
		LeaseRenewal:   c.LeaseRenewal,
		LeaseLinger:    c.LeaseLinger,
		Deadline:       c.Deadline,
		CommitInterval: c.CommitInterval,
		Log:            e.log,
	})
}

// RemoteStores returns the names of the stores in which databases live.
func (e *Engine) RemoteStores() []string { return e.cfg.Remote.Names() }

// OpenRemote opens the database name, which is /STORE/any/path.db; see [remote.Set.Open]. It may
// wait for the network.
func (e *Engine) OpenRemote(ctx context.Context, name string, m remote.Mode) (*remote.Conn, error) {
	set, err := e.remotes.open()
	if err != nil {
		return nil, err
	}
	store, _, _ := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	if !set.Has(store) {
		return nil, e.cfg.Remote.Missing(store)
	}
	return set.Open(ctx, name, m)
}

// RemoteExists reports whether there is a database of that name in its store. It may wait for the
// network.
func (e *Engine) RemoteExists(ctx context.Context, name string) (bool, error) {
	set, err := e.remotes.open()
	if err != nil {
		return false, err
	}
	return set.Exists(ctx, name)
}

// tempDir returns the directory of temporary files: tempdir, or where SQLite would put them.
func (c *Config) tempDir() (string, error) {
	return filepath.Abs(cmp.Or(c.TempDir, replica.TempDir()))
}

// TempFile makes a file of that directory that has no name and goes when it is closed.
func (e *Engine) TempFile() (*os.File, error) {
	dir, err := e.cfg.tempDir()
	if err != nil {
		return nil, err
	}
	return replica.UnlinkedFile(dir)
}
