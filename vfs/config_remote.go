package vfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/keyring"
)

// Remote is what the configuration says of databases that live in a store.
type Remote struct {
	Stores map[string]chunkstore.TargetConfig // by their names
	Keys   map[string]keyring.Source          // of stores that have their own

	LeaseTimeout   time.Duration // a holder that shows no sign of life for so long is dead
	LeaseRenewal   time.Duration // a holder that has nothing to write shows one so often
	LeaseLinger    time.Duration // the lease is given back so long after the last commit
	Deadline       time.Duration // of a commit that the store does not answer
	CommitInterval time.Duration // at synchronous=OFF, what was committed is sent so often
}

// ErrNoStore: the configuration has no store of that name.
var ErrNoStore = errors.New("no such store")

// storeNameMax bounds the name of a store: it becomes part of the names of files.
const storeNameMax = 100

// readStores reads the stores, by their names.
func (r *Remote) readStores(from base) reader {
	return func(at string, value any) error {
		members, ok := value.(object)
		if !ok && value != nil {
			return wrongType(at, value, "an object")
		}
		for _, m := range members {
			at := join(at, m.key)
			if err := checkStoreName(m.key); err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
			value, err := r.readKeys(from, at, m)
			if err != nil {
				return err
			}
			err = from.target(func(at string, t chunkstore.TargetConfig) error {
				if _, ok := t.(chunkstore.TargetOpener); !ok {
					return fmt.Errorf("%s: is a cache: want a store that keeps databases", at)
				}
				if r.Stores == nil {
					r.Stores = make(map[string]chunkstore.TargetConfig)
				}
				r.Stores[m.key] = t
				return nil
			})(at, value)
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// readKeys reads what a store's configuration says of keys, and returns the rest of it.
func (r *Remote) readKeys(from base, at string, store member) (rest any, err error) {
	members, ok := store.value.(object)
	if !ok {
		return store.value, nil
	}
	var keys keyring.Source
	var others object
	for _, m := range members {
		switch m.key {
		case "key_file":
			err = from.directory(&keys.File)(join(at, m.key), m.value)
		case "key_command":
			err = from.command(&keys.Command)(join(at, m.key), m.value)
		default:
			others = append(others, m)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := keys.Validate(); err != nil {
		return nil, fmt.Errorf("%s.%w", at, err)
	}
	if !keys.IsZero() {
		if r.Keys == nil {
			r.Keys = make(map[string]keyring.Source)
		}
		r.Keys[store.key] = keys
	}
	return others, nil
}

// checkStoreName refuses what cannot be the first element of a database's path.
func checkStoreName(name string) error {
	odd := strings.ContainsFunc(name, func(c rune) bool {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		return !letter && (c < '0' || c > '9') && !strings.ContainsRune("._-", c)
	})
	switch {
	case odd || name == "" || name == "." || name == "..":
		return fmt.Errorf("%q cannot be the name of a store: "+
			"want letters, digits, dots, dashes and underscores", name)
	case len(name) > storeNameMax:
		return fmt.Errorf("longer than %d bytes", storeNameMax)
	}
	return nil
}

// validate checks what the readers of single keys cannot.
func (r *Remote) validate() error {
	var entries []chunkstore.Entry
	for _, name := range r.Names() {
		entries = append(entries, r.entry(name))
	}
	if err := chunkstore.ValidateEntries(entries); err != nil {
		return err
	}
	if r.LeaseTimeout < 2*r.LeaseRenewal {
		return fmt.Errorf("lease_renewal_ms: %d is more than half of lease_timeout_ms, %d: "+
			"a holder that is late once would be taken for dead",
			r.LeaseRenewal.Milliseconds(), r.LeaseTimeout.Milliseconds())
	}
	if r.CommitInterval > r.Deadline {
		return fmt.Errorf("remote_commit_interval_ms: %d is more than remote_deadline_ms, %d",
			r.CommitInterval.Milliseconds(), r.Deadline.Milliseconds())
	}
	return nil
}

// Names returns the names of the stores, in their order.
func (r *Remote) Names() []string { return slices.Sorted(maps.Keys(r.Stores)) }

// Has reports whether there is a store of that name, in the configuration or by itself: see
// [poolOf].
func (r *Remote) Has(name string) bool { return r.entry(name).Config != nil }

// entry returns the store of that name; without a Config: there is none.
func (r *Remote) entry(name string) chunkstore.Entry {
	e := chunkstore.Entry{At: "stores." + name, Config: r.Stores[name]}
	if pool := poolOf(name); pool != nil {
		e.At, e.Config = name, pool
	}
	return e
}

// Missing is the error, which wraps [ErrNoStore], of who names a store that is not there: it says
// which there are.
func (r *Remote) Missing(name string) error {
	if len(r.Stores) == 0 {
		return fmt.Errorf("%w: %q: the configuration has no \"stores\", and of RADOS it is no "+
			"POOL:NAMESPACE", ErrNoStore, name)
	}
	return fmt.Errorf("%w: %q: the configuration has %s", ErrNoStore, name,
		strings.Join(r.Names(), ", "))
}

// OpenNamedStore opens the store of that name for databases that live in it: it has one target, and
// the caches of the configuration, as chunks are the same wherever they are from. Somebody waits
// for its requests: unless api_calls_per_second is set, only the store's own limits bound their
// rate. It sends no request. It fails with [ErrNoStore].
func (c *Config) OpenNamedStore(
	ctx context.Context, name string, log *slog.Logger,
) (*chunkstore.Store, error) {
	if !c.Remote.Has(name) {
		return nil, c.Remote.Missing(name)
	}
	o := c.storeOptions(log, cmp.Or(c.APICallsPerSecond, -1), c.DownloadConcurrency())
	return c.openStore(ctx, c.StoreKeys(name), c.entries(name), o)
}

// StoreKeys is where the keys of the store of that name come from.
func (c *Config) StoreKeys(name string) keyring.Source {
	if keys, own := c.Remote.Keys[name]; own {
		return keys
	}
	return c.Keys
}

// entries returns the store of that name, and the caches.
func (c *Config) entries(name string) []chunkstore.Entry {
	entries := []chunkstore.Entry{c.Remote.entry(name)}
	for _, e := range chunkstore.Entries("replication_targets", c.Targets) {
		if _, ok := e.Config.(chunkstore.CacheOpener); ok {
			entries = append(entries, e)
		}
	}
	return entries
}

// TargetsOf returns what a configuration would have as replication_targets to which that store is
// the only target: it, and the caches.
func (c *Config) TargetsOf(name string) (targets chunkstore.TargetConfigs) {
	for _, e := range c.entries(name) {
		targets = append(targets, e.Config)
	}
	return targets
}
