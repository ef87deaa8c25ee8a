package replica

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
	"verneuil/replicate/locate"
)

// Loading says how much of a version is fetched before it can be read.
type Loading struct {
	// Eager: all of it. Else, if Partial, the first ceil(sqrt(n)) of n chunks, but
	// at least Min and at most Max (0: 16). Else nothing.
	Eager, Partial bool
	Min, Max       int
}

// partialMax is what the original has for Loading.Max.
const partialMax = 16

// first returns how many chunks of n to fetch at once.
func (l Loading) first(n int) int {
	switch {
	case l.Eager:
		return n
	case !l.Partial:
		return 0
	}
	bound := l.Max
	if bound == 0 {
		bound = partialMax
	}
	want := int(math.Ceil(math.Sqrt(float64(n))))
	return min(n, max(min(want, bound), l.Min))
}

// Options are the settings of a [Set]. Store must be set.
type Options struct {
	Store        *chunkstore.Store
	Host         string        // stands for the empty host of verneuil:///path
	TempDir      string        // of the slot file; empty: as SQLite chooses
	Loading      Loading       // what to fetch at once
	AutoRefresh  bool          // what a replica does that says nothing of it
	PollInterval time.Duration // of auto refresh; 0: 1 s
	Deadline     time.Duration // of a read's wait for a chunk; 0: 30 s
	Linger       time.Duration // of a source after its last reader; 0: 30 s, below 0: none
	Log          *slog.Logger  // nil: silent
}

func (o Options) withDefaults() Options {
	if o.PollInterval <= 0 {
		o.PollInterval = time.Second
	}
	if o.Deadline <= 0 {
		o.Deadline = fetchDeadline
	}
	if o.Linger == 0 {
		o.Linger = 30 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.TempDir == "" {
		o.TempDir = tempDir()
	}
	return o
}

// tempDir is SQLite's choice (os_unix.c, unixTempFileDir).
func tempDir() string {
	dirs := []string{
		os.Getenv("SQLITE_TMPDIR"), os.Getenv("TMPDIR"), "/var/tmp", "/usr/tmp", "/tmp",
	}
	for _, dir := range dirs {
		if dir != "" && unix.Access(dir, unix.W_OK|unix.X_OK) == nil {
			return dir
		}
	}
	return "."
}

// Set is the replica side of a process: a [follower] for each source that
// is open or was until just now, and the slot file that they share. It is safe
// for concurrent use. Its invariants stand in doc.go.
type Set struct {
	options Options
	log     *slog.Logger
	slots   *slots
	counter atomic.Uint32 // the last change counter given out
	ahead   chan struct{} // holds a token for each chunk that is fetched ahead

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu    sync.Mutex
	byURI map[string]*follower

	gate    sync.Mutex
	closed  bool           // guarded by gate
	working sync.WaitGroup // goroutines; Add is guarded by gate
}

var errClosed = errors.New("the replicas of this process are closed")

// NewSet makes an empty set. It does no I/O.
func NewSet(o Options) (*Set, error) {
	o = o.withDefaults()
	s, err := newSlots(o.TempDir)
	if err != nil {
		return nil, err
	}
	all := &Set{
		options: o,
		log:     o.Log,
		slots:   s,
		byURI:   map[string]*follower{},
		ahead:   make(chan struct{}, comingMax),
	}
	all.ctx, all.cancel = context.WithCancel(context.Background())
	return all, nil
}

// Open returns a reader of the newest version of the source that uri names (see
// [locate.Parse]). Sources are shared by what they mean, not by how they are written. A
// source that is open already is asked again, unless it was just now; if it does
// not answer then, what is known will do.
func (all *Set) Open(ctx context.Context, uri string) (*Reader, error) {
	locator, err := locate.Parse(uri, all.options.Host, all.options.Store)
	if err != nil {
		return nil, err
	}
	f, err := all.follow(locator)
	if err != nil {
		return nil, err
	}
	s := f.latest()
	if s == nil || !s.fresh(time.Now()) {
		err = f.refresh(ctx, false)
		if s != nil {
			s.release()
		}
		if s = f.latest(); s == nil {
			all.unfollow(f)
			if err == nil {
				err = errClosed
			}
			return nil, err
		}
		if err != nil {
			all.log.Warn("replica opens with what it has", "source", locator, "sequence",
				s.m.Sequence, "error", err)
		}
	}
	r := &Reader{f: f, s: s, wantsAuto: all.options.AutoRefresh}
	if auto := locator.AutoRefresh(); auto != nil {
		r.wantsAuto = *auto
	}
	return r, nil
}

// follow returns the follower of locator's source, counting one more reader.
func (all *Set) follow(locator *locate.Locator) (*follower, error) {
	all.mu.Lock()
	defer all.mu.Unlock()
	f := all.byURI[locator.URI()]
	if f == nil {
		var err error
		if f, err = newFollower(all, locator); err != nil {
			return nil, err
		}
		all.byURI[locator.URI()] = f
	}
	if f.linger != nil {
		f.linger.Stop()
		f.linger = nil
	}
	f.readers++
	return f, nil
}

// unfollow counts one reader less. The last one's source lingers: programs open
// and close connections all the time, and shall not fetch all anew.
func (all *Set) unfollow(f *follower) {
	all.mu.Lock()
	defer all.mu.Unlock()
	f.readers--
	switch {
	case f.readers > 0:
	case all.options.Linger < 0:
		all.forgetLocked(f)
	default:
		f.linger = time.AfterFunc(all.options.Linger, func() {
			all.mu.Lock()
			defer all.mu.Unlock()
			if f.readers == 0 {
				all.forgetLocked(f)
			}
		})
	}
}

func (all *Set) forgetLocked(f *follower) {
	if all.byURI[f.locator.URI()] == f {
		delete(all.byURI, f.locator.URI())
		f.drop()
	}
}

// Close ends all that runs in the background and unmaps everything. There must
// be no reader left. A process need not call it.
func (all *Set) Close() error {
	all.cancel()
	all.gate.Lock()
	all.closed = true
	all.gate.Unlock()
	all.working.Wait()
	all.mu.Lock()
	defer all.mu.Unlock()
	for _, f := range all.byURI {
		if f.linger != nil {
			f.linger.Stop()
		}
		all.forgetLocked(f)
	}
	return all.slots.close()
}

// enter announces a goroutine that Close must wait for; it returns false after Close.
func (all *Set) enter() bool {
	all.gate.Lock()
	defer all.gate.Unlock()
	if all.closed {
		return false
	}
	all.working.Add(1)
	return true
}

// leave undoes n times enter.
func (all *Set) leave(n int) { all.working.Add(-n) }

// enterAhead is enter for each of n chunks that are fetched ahead. It returns for how many there
// was room: for each of them makeRoom is called when it has come or failed, and then leave.
func (all *Set) enterAhead(n int) (entered int) {
	for entered < n {
		select {
		case all.ahead <- struct{}{}:
		default:
			return entered
		}
		if !all.enter() {
			<-all.ahead
			return entered
		}
		entered++
	}
	return entered
}

// makeRoom says that n chunks are not fetched ahead any more.
func (all *Set) makeRoom(n int) {
	for range n {
		<-all.ahead
	}
}

// SlotsInUse returns how many chunks are loaded, those that versions share counted once.
func (all *Set) SlotsInUse() int { return all.slots.inUse() }
