package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest/history"
	"verneuil/replicate/remote/compose"
	"verneuil/replicate/replica"
	"verneuil/replicate/versions"
)

// What a [Conn] answers; test with errors.Is. All messages name the database.
var (
	// ErrBusy: another connection, process or machine writes. Who that is stands in the message.
	ErrBusy = errors.New("another one writes")
	// ErrStale: the version that is read is not the newest, so that nothing can be written on it.
	ErrStale = errors.New("the version that is read is not the newest any more")
	// ErrReadOnly: the database was opened for reading.
	ErrReadOnly = errors.New("opened for reading only")
	// ErrDenied: the store refuses what a writer has to put. Nothing was written.
	ErrDenied = errors.New("these credentials cannot write a database: that takes the rights to " +
		"get, to put and to list objects, s3:PutObject among them; mode=ro only gets")
	// ErrLost: another one has taken over. Nothing of the transaction is in the store.
	ErrLost = errors.New("another one has taken the database over")
	// ErrRolledBack: the store has lost records that it had. Nothing of the transaction is in it.
	// The next one begins with what is there.
	ErrRolledBack = errors.New("the store is not what it was: it was emptied, or put back to an " +
		"older copy, or another directory is mounted in its place")
	// ErrUnknown: the store has not said whether it has the transaction. The next one finds out.
	ErrUnknown = errors.New("it is not known whether the store has the transaction")
	// ErrNoStore: there is no store of that name.
	ErrNoStore = errors.New("no such store")
)

// Options are the settings of a [Set].
type Options struct {
	// Open returns the store of that name, which has one target. It is called once for each.
	Open func(ctx context.Context, store string) (*chunkstore.Store, error)
	Has  func(store string) bool // there is one of that name
	// Replicas makes what versions in a store are read with.
	Replicas func(store *chunkstore.Store) (*replica.Set, error)

	TempDir string // of the files that processes share; absolute
	Host    string // of this machine, for others to read
	Program string // with its version

	LeaseTimeout   time.Duration   // a holder that shows no sign of life for so long is dead
	LeaseRenewal   time.Duration   // a holder that has nothing to write shows one so often
	LeaseLinger    time.Duration   // a holder gives the lease back so long after its last commit
	Deadline       time.Duration   // of a commit that the store does not answer
	CommitInterval time.Duration   // at synchronous=OFF, what was committed is appended so often
	budgets        compose.Budgets // zero, but there
	Log            *slog.Logger    // nil: silent

	// History are what histories are read and written with; zero: versions.Options, and Ahead. Its
	// Now is CLOCK_BOOTTIME, which all processes of a machine share.
	History history.Options

	pace
}

// pace is other in the simulation.
type pace struct {
	look time.Duration // lookInterval
}

func (o Options) withDefaults() Options {
	def := func(d *time.Duration, otherwise time.Duration) {
		if *d <= 0 {
			*d = otherwise
		}
	}
	def(&o.LeaseTimeout, 10*time.Second)
	def(&o.LeaseRenewal, 2*time.Second)
	def(&o.LeaseLinger, time.Second)
	def(&o.Deadline, 30*time.Second)
	def(&o.CommitInterval, 100*time.Millisecond)
	def(&o.look, lookInterval)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.History.Now == nil {
		o.History = versions.Options()
		o.History.Ahead = true
	}
	return o
}

// Mode is how a database is opened.
type Mode struct {
	ReadOnly bool
	Create   bool // if it is not there
	// Follow: new versions are looked for in the background, and not before each transaction.
	Follow bool
}

// Set is the databases in stores that a process has open. It is safe for concurrent use. A database
// that nobody has open, and for which nothing is under way, it lets go after the lease's linger.
type Set struct {
	o       Options
	broken  broken          // nothing, but in tests
	began   time.Time       // for others to read
	ctx     context.Context // of what goes on in the background; ends with Close
	cancel  context.CancelFunc
	working sync.WaitGroup // Add is guarded by mu

	mu        sync.Mutex
	stores    map[string]*shop
	databases map[string]*database
}

// shop is a store that is open.
type shop struct {
	name     string
	store    *chunkstore.Store
	t        *chunkstore.Target // its only one
	replicas *replica.Set

	proving sync.Mutex
	proved  bool                // it keeps what a writer needs
	chunks  chunkstore.Identity // of its bucket of chunks, then
}

// NewSet makes an empty set. It asks nobody.
func NewSet(o Options) (*Set, error) {
	s := &Set{
		o: o.withDefaults(), began: time.Now(), stores: make(map[string]*shop),
		databases: make(map[string]*database),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// join has Close wait for the caller until s.working.Done, and reports whether it does: else s is
// closed.
func (s *Set) join() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	s.working.Add(1)
	return true
}

// run has f run in the background for d, until Close, and reports whether it does. No panic of it
// ends the host.
func (s *Set) run(what string, d *database, f func(ctx context.Context)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	d.stay.uses++
	s.working.Go(func() {
		defer s.leave(d)
		defer func() {
			if p := recover(); p != nil {
				d.log.Error("panic", "in", what, "value", fmt.Sprint(p), "stack",
					string(debug.Stack()))
			}
		}()
		f(s.ctx)
	})
	return true
}

// Close ends what goes on in the background, as if the process died, and waits for that. What is
// not durable is lost. A process need not call it.
func (s *Set) Close() {
	s.cancel()
	s.mu.Lock() // no more is begun
	s.mu.Unlock()
	s.working.Wait()
}

// Has reports whether there is a store of that name.
func (s *Set) Has(store string) bool { return s.o.Has(store) }

// splitName splits /STORE/any/path.db. path begins with a slash.
func splitName(name string) (store, path string, err error) {
	rest, rooted := strings.CutPrefix(name, "/")
	store, path, found := strings.Cut(rest, "/")
	if !rooted || !found || store == "" || path == "" {
		return "", "", fmt.Errorf("%q names no database in a store: want /STORE/any/path.db", name)
	}
	return store, "/" + path, nil
}

// shop returns the store of that name, open.
func (s *Set) shop(ctx context.Context, name string) (*shop, error) {
	if !s.o.Has(name) {
		return nil, fmt.Errorf("%w: %q is not among \"stores\" in the configuration", ErrNoStore,
			name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.stores[name]; h != nil {
		return h, nil
	}
	store, err := s.o.Open(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("store %q: %w", name, err)
	}
	if len(store.Targets) != 1 {
		return nil, fmt.Errorf("store %q has %d targets, want one", name, len(store.Targets))
	}
	replicas, err := s.o.Replicas(store)
	if err != nil {
		return nil, fmt.Errorf("store %q: %w", name, err)
	}
	h := &shop{name: name, store: store, t: store.Targets[0], replicas: replicas}
	s.stores[name] = h
	return h, nil
}

// prove fails if the store does not keep what a writer relies on: that an object is created once.
func (h *shop) prove(ctx context.Context) error {
	h.proving.Lock()
	defer h.proving.Unlock()
	if h.proved {
		return nil
	}
	ids, err := h.t.Prove(ctx)
	if err != nil {
		return fmt.Errorf("store %q: %w", h.name, err)
	}
	h.chunks, h.proved = ids.Chunks, true
	return nil
}

// Open opens the database name, which is /STORE/any/path.db. It fails with
// [chunkstore.ErrAbsent] if it is not there, unless it is to be created.
func (s *Set) Open(ctx context.Context, name string, m Mode) (*Conn, error) {
	d, err := s.database(ctx, name)
	if err != nil {
		return nil, err
	}
	c, err := d.connect(ctx, m)
	if errors.Is(err, ErrRolledBack) {
		if err = d.forget(ctx); err == nil {
			c, err = d.connect(ctx, m)
		}
	}
	if err != nil {
		if errors.Is(err, chunkstore.ErrAbsent) && d.story.seen.Load() == nil {
			if lost := versions.Vacant(ctx, d.shop.t, d.key); errors.Is(lost,
				versions.ErrManifestLost) {
				err = fmt.Errorf("%w (%w)", lost, err)
			} else {
				err = fmt.Errorf(
					"no such database, which mode=rwc and verneuilctl create make: %w", err)
			}
		}
		s.leave(d)
		return nil, d.wrap(err)
	}
	c.arrive()
	if m.Follow {
		c.r.SetAuto(true)
	}
	return c, nil
}

// database returns that of the name, which the caller uses until [Set.leave].
func (s *Set) database(ctx context.Context, name string) (*database, error) {
	store, path, err := splitName(name)
	if err != nil {
		return nil, err
	}
	h, err := s.shop(ctx, store)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.databases[name]
	if d == nil {
		if d, err = newDatabase(s, h, path); err != nil {
			return nil, err
		}
		s.databases[name] = d
	}
	d.stay.uses++
	return d, nil
}

// enter has the caller use d until leave. It fails if d was let go.
func (s *Set) enter(d *database) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.stay.gone {
		return false
	}
	d.stay.uses++
	return true
}

// leave ends what database, enter or run has begun. The last one has d let go after a while.
func (s *Set) leave(d *database) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.stay.uses--; d.stay.uses > 0 || s.ctx.Err() != nil {
		return
	}
	if d.stay.going == nil {
		d.stay.going = time.AfterFunc(s.o.LeaseLinger, func() { s.letGo(d) })
	} else {
		d.stay.going.Reset(s.o.LeaseLinger)
	}
}

// letGo forgets d, and gives back what it has of the system, if nobody uses it, and nothing is due.
// If something is, its end leads here again.
func (s *Set) letGo(d *database) {
	d.mu.Lock()
	defer d.mu.Unlock()
	idle := !d.writing() && d.queue.flush.due == nil && !d.saver.due
	d.lease.rest() // it may have been kept
	s.mu.Lock()
	defer s.mu.Unlock()
	if !idle || d.stay.uses > 0 || d.stay.gone || s.ctx.Err() != nil {
		return
	}
	d.stay.gone = true
	delete(s.databases, d.name())
	d.lease.file.Close()
}

// Exists reports whether the database name is there.
func (s *Set) Exists(ctx context.Context, name string) (bool, error) {
	d, err := s.database(ctx, name)
	if err != nil {
		return false, err
	}
	defer s.leave(d)
	if err := d.take(ctx); err != nil {
		return false, d.wrap(err)
	}
	defer d.give()
	err = d.story.open(ctx)
	if errors.Is(err, chunkstore.ErrAbsent) {
		return false, nil
	}
	return err == nil, d.wrap(err)
}

// all returns the databases, by name. They are let go meanwhile like others.
func (s *Set) all() []*database {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.databases), func(a, b *database) int {
		return strings.Compare(a.URI(), b.URI())
	})
}

// Exit appends what is not durable yet, and gives leases back, until ctx ends.
func (s *Set) Exit(ctx context.Context) {
	var all sync.WaitGroup
	for _, d := range s.all() {
		if !s.enter(d) {
			continue
		}
		all.Go(func() {
			defer s.leave(d)
			if err := d.lease.leave(ctx); err != nil {
				d.log.Warn("the lease was not given back", "error", err)
			}
		})
	}
	all.Wait()
}

// Status describes one database.
type Status struct {
	Store    string  `json:"store"`
	Path     string  `json:"path"`
	Handles  int     `json:"handles"`
	Record   uint64  `json:"record"`  // the last one that was read or appended
	Version  uint64  `json:"version"` // that it makes
	Bytes    int64   `json:"file_bytes"`
	Holder   bool    `json:"holder"` // this machine holds the lease
	Epoch    uint64  `json:"epoch"`
	LeaseAge float64 `json:"lease_age_seconds"` // since the last sign of life, if Holder
	Pending  int     `json:"pending"`           // commits that are not durable yet
	Error    string  `json:"last_error,omitempty"`
}

// Status lists the databases that are open, or were a moment ago, by store and path. Who looks is
// nobody who uses them: however often that is, they are let go.
func (s *Set) Status() []Status {
	list := []Status{}
	for _, d := range s.all() {
		list = append(list, d.status())
	}
	return list
}
