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
	"verneuil/manifest"
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
		o.TempDir = TempDir()
	}
	return o
}

// TempDir is SQLite's choice (os_unix.c, unixTempFileDir).
func TempDir() string {
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
	memory  memory        // of tables
	counter atomic.Uint32 // the last change counter given out
	ahead   chan struct{} // holds a token for each chunk that is fetched ahead

	leavesAtOnce int // manifest.LeavesAtOnce, but in tests

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu    sync.Mutex
	feeds map[feed]*follower

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
		feeds:   map[feed]*follower{},
		ahead:   make(chan struct{}, comingMax),

		leavesAtOnce: manifest.LeavesAtOnce,
	}
	all.ctx, all.cancel = context.WithCancel(context.Background())
	return all, nil
}

// Open returns a reader of the newest version of the source that uri names (see
// [locate.Parse]). Sources are shared by what they mean, not by how they are written. A
// source that is open already is asked again, unless it was just now; if it does
// not answer then, what is known will do.
func (all *Set) Open(ctx context.Context, uri string) (*Reader, error) {
	source, err := locate.Parse(uri, all.options.Host, all.options.Store)
	if err != nil {
		return nil, err
	}
	return all.OpenLocated(ctx, source)
}

// OpenLocated is Open of a source that was located, in the set's store.
func (all *Set) OpenLocated(ctx context.Context, source *locate.Locator) (*Reader, error) {
	f, err := all.follow(source, false)
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
			all.log.Warn("replica opens with what it has", "source", source, "sequence",
				s.m.Sequence, "error", err)
		}
	}
	return newReader(f, s), nil
}

// OpenFrom returns a reader of the newest version that s has, which is asked after the call has
// begun, also where it is open already. Sources of one URI are one source: the one that was given
// last is asked. It is fed: see [Reader.Derive].
func (all *Set) OpenFrom(ctx context.Context, s Source) (*Reader, error) {
	f, err := all.follow(s, true)
	if err != nil {
		return nil, err
	}
	err = f.refresh(ctx, true)
	newest := f.latest()
	if err == nil && newest == nil {
		err = errClosed
	}
	if err != nil {
		if newest != nil {
			newest.release()
		}
		all.unfollow(f)
		return nil, err
	}
	return newReader(f, newest), nil
}

// newReader takes the caller's reference to s.
func newReader(f *follower, s *snapshot) *Reader {
	r := &Reader{f: f, s: s, wantsAuto: f.all.options.AutoRefresh}
	if auto := f.source.AutoRefresh(); auto != nil {
		r.wantsAuto = *auto
	}
	return r
}

// feed is what a follower is known by: those that are fed are none of the others.
type feed struct {
	uri string
	fed bool
}

// follow returns the follower of s, counting one more reader.
func (all *Set) follow(s Source, fed bool) (*follower, error) {
	all.mu.Lock()
	defer all.mu.Unlock()
	key := feed{s.URI(), fed}
	f := all.feeds[key]
	if f == nil {
		var err error
		if f, err = newFollower(all, s, fed); err != nil {
			return nil, err
		}
		all.feeds[key] = f
	}
	if fed {
		f.mu.Lock()
		f.flights.asked = s
		f.mu.Unlock()
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

// Forget gives up what lingers of s, which OpenFrom was given. It reports whether nothing is left:
// somebody reads it, else.
func (all *Set) Forget(s Source) bool {
	all.mu.Lock()
	defer all.mu.Unlock()
	f := all.feeds[feed{s.URI(), true}]
	if f == nil || f.readers > 0 {
		return f == nil
	}
	f.linger.Stop()
	all.forgetLocked(f)
	return true
}

func (all *Set) forgetLocked(f *follower) {
	if key := (feed{f.source.URI(), f.shown.fed}); all.feeds[key] == f {
		delete(all.feeds, key)
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
	for _, f := range all.feeds {
		if f.linger != nil {
			f.linger.Stop()
		}
		all.forgetLocked(f)
	}
	all.memory.close()
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
