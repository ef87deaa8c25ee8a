package replicate

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/backoff"
	"verneuil/replicate/courier"
	"verneuil/replicate/errands"
	"verneuil/replicate/mirror"
	"verneuil/spool"
)

// Options of a [Replicator]. Spool, Store, Host and OpenSource are needed.
type Options struct {
	Spool   *spool.Spool
	Store   *chunkstore.Store // its targets; they must not change
	Host    string            // the source's name in manifests
	Program string            // the program's name and version, for manifests

	ManifestInterval time.Duration // between manifests of this database; 0: 1 s
	Concurrency      int           // uploads at once, for each target; 0: 8
	PatrolPeriod     time.Duration // in which each object that a version names is touched; 0: never

	// OpenSource opens the database. It is called for each base copy, as another file
	// may stand at the path by then.
	OpenSource func() (mirror.Source, error)

	// RootPermissions are those of the directory that spools stand in, should it have
	// been deleted; 0: it is not made anew.
	RootPermissions fs.FileMode

	// Outages are shared with the process's other replicators; nil: this one has its own.
	Outages *courier.Outages

	Progress func(phase string, done, total int64) // of a base copy and of pushes, in bytes, one call at a time; nil: nobody wants to know
	Log      *slog.Logger                          // nil: silent

	// Reported: what fails is an error of Flush or Sync, which its caller reports: the log
	// need not warn of it.
	Reported bool

	clock      clock
	still      *mirror.Seen      // Sync: the files before its caller's transaction; nil: they change
	runObjects int               // see uploads; 0: as many as there
	fault      func(string) bool // tests: die here?
}

// clock is the time as the replicator sees it: tests have their own.
type clock interface {
	now() time.Time
	after(d time.Duration) <-chan time.Time
}

type systemClock struct{}

func (systemClock) now() time.Time                         { return time.Now() }
func (systemClock) after(d time.Duration) <-chan time.Time { return time.After(d) }

const (
	manifestIntervalDefault = time.Second
	concurrencyDefault      = 8

	// standbyInterval is how often a replicator that stands by tries the lock, unless
	// somebody waits for it: see [Replicator.hurry].
	standbyInterval = time.Second
)

var (
	// ErrNoTargets: there is nowhere to push to.
	ErrNoTargets = errors.New("replication_targets names no s3 or dir target")
	// ErrStandby: another process replicates this database.
	ErrStandby = errors.New("another process replicates this database")
	// ErrStopped: Run has returned, or was never called.
	ErrStopped = errors.New("the replicator does not run")

	errLost = errors.New("the spool, or the database, was deleted or replaced")
	errDied = errors.New("died at a named point") // tests only
)

// Replicator brings one spool to every target. Run does the work; the other
// methods are safe for concurrent use with it and each other.
type Replicator struct {
	o       Options
	key     string // the manifest's
	purpose uint64 // hash of host name and targets, never 0; see spool.State

	verifying atomic.Int32 // calls of Verify that wait
	leaving   atomic.Bool  // see Leave
	lagging   atomic.Int64 // Unix ns since when some target lacks something; 0: none does
	sent      courier.Sent
	source    *spool.SourceConfig // of the spool, to be written again should it be lost; Run's
	hurried   chan struct{}       // ends Run's pause
	told      string              // the kind of error that the log says keeps us from replicating; Run's

	mu       sync.Mutex
	spool    *spool.Spool
	session  *session      // while we hold the lock
	failures int           // attempts that failed, so that there was no session, or none any more
	failure  error         // of the last one
	changed  chan struct{} // closed and replaced when spool, session or stopped change
	stopped  bool          // Run has returned
	standing bool          // standing by: another replicator had the lock
	status   Status
}

// New checks o and returns a replicator that does nothing yet.
func New(o Options) (*Replicator, error) {
	switch {
	case o.Spool == nil || o.Store == nil || o.OpenSource == nil:
		return nil, errors.New("replicator: Spool, Store and OpenSource are needed")
	case o.Host == "":
		return nil, errors.New("replicator: no host name")
	}
	o.ManifestInterval = cmp.Or(o.ManifestInterval, manifestIntervalDefault)
	o.Concurrency = cmp.Or(max(o.Concurrency, 0), concurrencyDefault)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.clock == nil {
		o.clock = systemClock{}
	}
	if o.Outages == nil {
		o.Outages = &courier.Outages{}
	}
	o.Progress = oneByOne(o.Progress)
	path := o.Spool.Path()
	o.Log = o.Log.With("database", path)
	return &Replicator{
		o: o, key: manifest.Name(o.Host, path), purpose: purpose(o.Host, o.Store.Targets), spool: o.Spool, changed: make(chan struct{}), hurried: make(chan struct{}, 1),
		status: Status{Path: path, Host: o.Host, Spool: o.Spool.Dir(), State: "not started"},
	}, nil
}

// purpose is a hash of what a replicator is there for: it may answer for others of the same only.
func purpose(host string, targets []*chunkstore.Target) uint64 {
	ids := make([]string, 0, len(targets))
	for _, t := range targets {
		ids = append(ids, courier.TargetID(t))
	}
	slices.Sort(ids)
	sum := chunkstore.Sum([]byte(strings.Join(append([]string{host}, ids...), "\x00")))
	return max(1, binary.LittleEndian.Uint64(sum[:]))
}

// oneByOne returns f, or what does nothing in its place, for calls from several goroutines: a push
// to each target has its own.
func oneByOne(f func(string, int64, int64)) func(string, int64, int64) {
	if f == nil {
		return func(string, int64, int64) {}
	}
	var mu sync.Mutex
	return func(phase string, done, total int64) {
		mu.Lock()
		defer mu.Unlock()
		f(phase, done, total)
	}
}

// Name returns the key of the database's manifest.
func (r *Replicator) Name() string { return r.key }

// Run replicates until ctx ends, and returns nil then; it is called once. While
// another process holds the spool's lock it stands by. It takes spools over that
// were deleted and made anew. Errors of targets and disks are retried, and shown by
// Status; none ends Run.
func (r *Replicator) Run(ctx context.Context) error {
	defer r.update(func() { r.stopped, r.session, r.status.State = true, nil, "stopped" })
	defer func() { mirror.ForgetWALIndex(r.currentSpool().Path()) }()
	failures := backoff.Backoff{First: 100 * time.Millisecond, Most: 5 * time.Second}
	// Mostly, what replaces a spool that was lost is there already.
	lost := backoff.Backoff{First: 5 * time.Millisecond, Most: 5 * time.Second}
	for ctx.Err() == nil {
		before := r.currentSpool()
		err := r.attempt(ctx)
		if errors.Is(err, errDied) {
			return err
		}
		wait := failures.First
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, spool.ErrLocked):
			failures.Reset()
			if !r.ours() { // else a session of this process is about to end
				wait = standbyInterval
			}
			r.standBy()
		case errors.Is(err, spool.ErrTaken):
			wait = lost.Next()
			r.o.Log.Warn("replication begins again", "error", err)
			r.setState("waiting for the spool's lock")
		case errors.Is(err, errLost):
			if r.currentSpool() != before {
				lost.Reset() // this one was found, and used, and lost in its turn
			}
			wait = lost.Next()
			r.o.Log.Warn("spool was lost")
			r.setState("waiting for a new spool")
		case err != nil:
			if kind := chunkstore.ErrorKind(err); kind != r.told {
				r.o.Log.Error("replication stopped; trying again", "error", err)
				r.told = kind
			}
			r.update(func() { r.failures, r.failure, r.status.State = r.failures+1, err, "failed: "+err.Error() })
			wait = failures.Next()
		}
		select {
		case <-ctx.Done():
		case <-r.hurried:
		case <-r.o.clock.after(wait):
		}
	}
	return nil
}

// standBy notes that another replicator has the lock.
func (r *Replicator) standBy() {
	r.mu.Lock()
	known := r.standing
	r.mu.Unlock()
	if !known {
		r.update(func() { r.standing = true })
	}
	r.setState("standing by: another process replicates")
}

// hurry is for those who wait for the spool's replicator: if there is none, because it
// has ended since we were told to stand by, Run tries the lock now and not at its next look.
func (r *Replicator) hurry(sp *spool.Spool) {
	if elsewhere(sp) {
		return
	}
	select {
	case r.hurried <- struct{}{}:
	default:
	}
}

// StandsBy reports whether another live process replicates the database.
func (r *Replicator) StandsBy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.standing && elsewhere(r.spool)
}

// ours reports whether this process replicates the spool.
func (r *Replicator) ours() bool {
	self, err := spool.Self()
	return err == nil && spool.Token(r.currentSpool().State().Replicator.Load()) == self
}

// elsewhere reports whether another process replicates sp.
func elsewhere(sp *spool.Spool) bool {
	served, err := sp.Served()
	return err == nil && served
}

// attempt takes the lock and replicates until something is wrong with the spool.
func (r *Replicator) attempt(ctx context.Context) (err error) {
	defer errands.Recovered(&err)
	sp := r.currentSpool()
	if !sp.Current() {
		if sp, err = r.reopen(sp); err != nil {
			return err
		}
	}
	lock, err := sp.TryLock()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if c, err := spool.ReadSourceConfig(sp.Dir()); err == nil {
		r.source = &c
	}
	return r.serve(ctx, sp, lock)
}

// serve replicates while the lock of sp is held.
func (r *Replicator) serve(ctx context.Context, sp *spool.Spool, lock *spool.Lock) error {
	s, err := newSession(ctx, r, sp, lock)
	if err != nil {
		return err
	}
	defer s.close()
	if r.told != "" {
		r.o.Log.Warn("replication goes on again")
		r.told = ""
	}
	r.update(func() { r.session, r.standing = s, false })
	defer r.update(func() { r.session = nil })
	defer r.o.Outages.Forget(r.key)
	return s.run(ctx)
}

// reopen finds the spool that replaces one that was lost.
func (r *Replicator) reopen(old *spool.Spool) (*spool.Spool, error) {
	sp, err := spool.Open(old.Dir())
	if err != nil || sp.State().Lost() {
		if sp, err = r.recreate(old); err != nil {
			return nil, fmt.Errorf("%w: %w", errLost, err)
		}
	}
	if sp.State().Lost() || sp.Path() != old.Path() {
		return nil, errLost
	}
	r.update(func() { r.spool = sp })
	return sp, nil
}

// recreate makes a lost spool anew, as a recorder would at its next transaction:
// there may be none for long, and what the deleted log had must be replicated. The
// directory that spools stand in is made only with permissions that were configured.
func (r *Replicator) recreate(old *spool.Spool) (*spool.Spool, error) {
	root := filepath.Dir(old.Dir())
	if spool.Dir(root, old.Path()) != old.Dir() {
		return nil, fs.ErrNotExist
	}
	if r.o.RootPermissions != 0 {
		if err := os.MkdirAll(root, r.o.RootPermissions); err != nil {
			return nil, err
		}
	} else if _, err := os.Stat(root); err != nil {
		return nil, err
	}
	sp, err := spool.Create(root, old.Path(), 0o700)
	if err == nil && r.source != nil {
		err = sp.WriteSourceConfig(*r.source)
	}
	return sp, err
}

// Woken is for a process whose recorders wake all of its replicators at once: a
// recorder has woken one of them. It costs nothing for those that it did not.
func (r *Replicator) Woken() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.session; s != nil && s.st.Armed.Load() == 0 {
		s.kickOnce()
	}
}

func (r *Replicator) currentSpool() *spool.Spool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.spool
}

// update changes what mu guards and tells those who wait for a change.
func (r *Replicator) update(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *Replicator) setState(words string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.State = words
}

// wrap says what failed with err, if anything did.
func wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
