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
	PatrolPeriod     time.Duration // in which each pack that a version names is touched; 0: never

	// OpenSource opens the database. It is called for each base copy, as another file
	// may stand at the path by then.
	OpenSource func() (mirror.Source, error)

	// RootPermissions are those of the directory that spools stand in, should it have
	// been deleted; 0: it is not made anew.
	RootPermissions fs.FileMode

	// Outages are shared with the process's other replicators; nil: this one has its own.
	Outages *courier.Outages

	// Progress is told of a base copy and of pushes, in bytes, by one call at a time; nil: nobody
	// wants to know.
	Progress func(phase string, done, total int64)
	Log      *slog.Logger // nil: silent

	// Reported: what fails is an error of Flush or Sync, which its caller reports: the log
	// need not warn of it.
	Reported bool

	still *mirror.Seen // Sync: the files before its caller's transaction; nil: they change
	hooks
}

// hooks are what tests have their own of.
type hooks struct {
	clock        clock
	runObjects   int               // see courier.Uploads
	packObjects  int               // likewise
	leavesAtOnce int               // likewise
	repackAfter  int               // likewise
	fault        func(string) bool // die here?
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
)

// errDied is the error of Run where a test has it end as if it had been killed.
var errDied = errors.New("died at a named point")

// standing is how a replicator stands to its spool.
//
//	                                          Run
//	notStarted ─────────────────────────────────┬──────────────────────────────────▶ over
//	                                            │            Run: its context has ended
//	     attempt: somebody else has the lock    ▼    serve: a loop begins
//	standingBy ◀─────────────────────────── (an attempt) ─────────────▶ serving
//	awaitsLock ◀── run: it was taken from us    │                         │
//	awaitsSpool ◀─ it was deleted               │     run has ended       │
//	failing ◀───── anything else                ◀─────────────────────────┘
//
// From each of them but over, Run tries again after a pause. Who waits is told by [board.enter].
type standing uint8

const (
	notStarted standing = iota
	standingBy
	awaitsLock
	awaitsSpool
	failing
	serving // the loop says what it does
	over    // Run has returned
)

// words are what a status says.
var words = [...]string{
	notStarted: "not started", standingBy: "standing by: another process replicates",
	awaitsLock: "waiting for the spool's lock", awaitsSpool: "waiting for a new spool",
	failing: "failed", over: "stopped",
}

// Replicator brings one spool to every target. Run does the work; the other
// methods are safe for concurrent use with it and each other.
type Replicator struct {
	o       Options
	key     string // the manifest's
	purpose uint64 // hash of host name and targets, never 0; see spool.State

	verifying atomic.Int32 // calls of Verify that wait
	leaving   atomic.Bool  // see Leave
	lag       lag
	sent      courier.Sent
	source    *spool.SourceConfig // of the spool, to be written again should it be lost; Run's
	hurried   chan struct{}       // ends Run's pause
	told      string              // the kind of error that the log has of us; Run's

	board
}

// board is what a replicator shows to those who ask, and to those who wait.
type board struct {
	mu       sync.Mutex
	stands   standing
	spool    *spool.Spool
	loop     *loop         // while we hold the lock
	tries    int           // for the lock, begun
	trying   bool          // for the lock, or we have it and no loop yet
	failures int           // attempts that failed, so that there was no loop, or none any more
	failure  error         // of the last one
	changed  chan struct{} // closed and replaced when anything above changes that others wait for
	status   Status
}

// place is what a board shows at some moment.
type place struct {
	stands  standing
	spool   *spool.Spool
	loop    *loop
	tries   int
	trying  bool
	changed <-chan struct{} // closed when there is another one
}

// look returns what the board shows now.
func (b *board) look() place {
	b.mu.Lock()
	defer b.mu.Unlock()
	return place{b.stands, b.spool, b.loop, b.tries, b.trying, b.changed}
}

// try notes that a try for the lock begins, or, without a loop, that it has ended.
func (b *board) try(begins bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = begins
	if begins {
		b.tries++
	}
}

// failed returns how many attempts have failed, and the last one's error.
func (b *board) failed() (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures, b.failure
}

// update changes what others wait for, and tells them.
func (b *board) update(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
	close(b.changed)
	b.changed = make(chan struct{})
}

// enter notes how the replicator stands. Who waits for an answer is told only of what may change
// whom he asks.
func (b *board) enter(s standing) {
	b.mu.Lock()
	was := b.stands
	b.stands, b.status.State = s, words[s]
	b.mu.Unlock()
	if s == standingBy && was != standingBy {
		b.update(func() {})
	}
}

// setState shows what the loop does.
func (b *board) setState(words string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status.State = words
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
		o: o, key: manifest.Name(o.Store.Sealer(), o.Host, path),
		purpose: Purpose(o.Host, o.Store.Targets),
		hurried: make(chan struct{}, 1),
		board: board{
			spool: o.Spool, changed: make(chan struct{}),
			status: Status{
				Database: Database{Path: path, Host: o.Host, Spool: o.Spool.Dir()},
				State:    words[notStarted],
			},
		},
	}, nil
}

// Purpose is a hash of what a replicator is there for, never 0: it may answer for others of the
// same only. The state page has it.
func Purpose(host string, targets []*chunkstore.Target) uint64 {
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
	defer r.update(func() { r.loop, r.stands, r.status.State = nil, over, words[over] })
	defer func() { mirror.ForgetWALIndex(r.currentSpool().Path()) }()
	p := newPauses()
	for ctx.Err() == nil {
		before := r.currentSpool()
		end, err := r.attempt(ctx)
		switch {
		case end == killed:
			return err
		case ctx.Err() != nil:
			return nil
		}
		if end == spoolLost && r.currentSpool() != before {
			p.lost.Reset() // this one was found, and used, and lost in its turn
		}
		select {
		case <-ctx.Done():
		case <-r.hurried:
		case <-r.o.clock.after(r.ended(end, err, p)):
		}
	}
	return nil
}

// pauses are those between attempts.
type pauses struct{ failures, lost backoff.Backoff }

func newPauses() *pauses {
	return &pauses{
		failures: backoff.Backoff{First: 100 * time.Millisecond, Most: 5 * time.Second},
		// Mostly, what replaces a spool that was lost is there already.
		lost: backoff.Backoff{First: 5 * time.Millisecond, Most: 5 * time.Second},
	}
}

// ended notes how an attempt has ended, and returns how long to wait for the next one.
func (r *Replicator) ended(end ending, err error, p *pauses) (wait time.Duration) {
	switch end {
	case lockedOut:
		p.failures.Reset()
		r.enter(standingBy)
		if r.ours() {
			return p.failures.First // a loop of this process is about to end
		}
		return standbyInterval
	case lockTaken:
		r.o.Log.Warn("replication begins again", "error", err)
		r.enter(awaitsLock)
		return p.lost.Next()
	case spoolLost:
		r.o.Log.Warn("spool was lost")
		r.enter(awaitsSpool)
		return p.lost.Next()
	case failed:
		if kind := chunkstore.ErrorKind(err); kind != r.told {
			r.o.Log.Error("replication stopped; trying again", "error", err)
			r.told = kind
		}
		r.enter(failing)
		r.update(func() {
			r.failures, r.failure, r.status.State = r.failures+1, err, "failed: "+err.Error()
		})
		return p.failures.Next()
	default:
		return p.failures.First
	}
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
	now := r.look()
	return now.stands == standingBy && elsewhere(now.spool)
}

// standsBy reports whether another holder has the lock of now's spool. That somebody has it may be
// our own doing: so it counts only if no try of ours for it was under way, or has begun since.
func (b *board) standsBy(now place) bool {
	return now.stands == standingBy && !now.trying && elsewhere(now.spool) &&
		b.look().tries == now.tries
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
func (r *Replicator) attempt(ctx context.Context) (end ending, err error) {
	defer func() {
		if err != nil && end == goesOn { // a panic
			end = failed
		}
	}()
	defer errands.Recovered(&err)
	sp := r.currentSpool()
	if !sp.Current() {
		if sp, err = r.reopen(sp); err != nil {
			return spoolLost, err
		}
	}
	r.try(true)
	defer r.try(false)
	lock, err := sp.TryLock()
	if err != nil {
		return endOf(sp, err), err
	}
	defer lock.Unlock()
	if c, err := spool.ReadSourceConfig(sp.Dir()); err == nil {
		r.source = &c
	}
	return r.serve(ctx, sp, lock)
}

// endOf is how an attempt at sp ends that fails with err before there is a loop. What fails while
// somebody deletes the spool fails for that.
func endOf(sp *spool.Spool, err error) ending {
	switch {
	case errors.Is(err, errLost) || !sp.Current():
		return spoolLost
	case errors.Is(err, spool.ErrLocked):
		return lockedOut
	case errors.Is(err, spool.ErrTaken):
		return lockTaken
	}
	return failed
}

// serve replicates while the lock of sp is held.
func (r *Replicator) serve(
	ctx context.Context, sp *spool.Spool, lock *spool.Lock,
) (end ending, err error) {
	l, err := newLoop(ctx, r, sp, lock)
	if err != nil {
		return endOf(sp, err), err
	}
	defer l.close()
	if r.told != "" {
		r.o.Log.Warn("replication goes on again")
		r.told = ""
	}
	r.update(func() { r.loop, r.stands, r.trying = l, serving, false })
	defer r.update(func() { r.loop = nil })
	defer r.o.Outages.Forget(r.key)
	return l.run(ctx)
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
	if l := r.loop; l != nil && l.st.Armed.Load() == 0 {
		l.bell.ring()
	}
}

func (b *board) currentSpool() *spool.Spool { return b.look().spool }

// wrap says what failed with err, if anything did.
func wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
