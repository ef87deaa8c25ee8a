package replica

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/locate"
)

// fetchDeadline bounds a read's wait for a chunk, with all retries, unless Options says
// otherwise, and the pauses of a poll. The fetch, which the store's timeout bounds, goes on, and
// the next read may find what it brought.
const fetchDeadline = 30 * time.Second

// freshFor: a source that was asked so recently is not asked again when another
// connection opens it.
const freshFor = time.Second

// Source is what a follower asks for versions. [locate.Locator] is one. It is safe for concurrent
// use.
type Source interface {
	// URI is the source's, in one form for all ways of writing it. It may hold secrets.
	URI() string
	// String is the URI for people and logs.
	String() string
	// Named reports whether several targets may answer, of which one may lag.
	Named() bool
	// FetchFrom returns the newest version. prev is what it has returned before, or zero, or what
	// another Source of the same URI has. news: it is another version than prev's. It is called
	// by one goroutine at a time. What it returns does not change. An error that wraps
	// [chunkstore.ErrAbsent] or [chunkstore.ErrCorrupt] is final.
	FetchFrom(ctx context.Context, prev locate.Found) (found locate.Found, news bool, err error)
	// AutoRefresh is what the source says of it; nil: nothing.
	AutoRefresh() *bool
}

// herald is a [Source] that says when there may be a newer version.
type herald interface {
	// News returns a channel that gets a value whenever there may be, until ctx ends. It is no
	// promise. nil: nothing will ever be said.
	News(ctx context.Context) <-chan struct{}
}

// elsewhere is a [Source] that several targets may have.
type elsewhere interface {
	// Targets returns them.
	Targets() []*chunkstore.Target
	// FetchOf returns the newest version that t has.
	FetchOf(ctx context.Context, t *chunkstore.Target) (locate.Found, error)
}

// follower keeps the versions of one source for all readers of this process. It
// polls the source while a reader wants auto refresh, and only then.
type follower struct {
	all      *Set
	source   Source
	fetched  atomic.Int64 // bytes of objects
	leaves   leafCache
	interior families
	shown    shownHeaders
	shared   []byte // one page for C, which begins with the change counter of newest

	readers int         // guarded by all.mu
	linger  *time.Timer // guarded by all.mu; set while readers is 0

	mu        sync.Mutex
	dropped   bool      // what follows is of no use any more
	newest    *snapshot // holds a reference; nil before the first fetch
	flights   flights
	polling   polling
	lastError error // of the last fetch of a manifest or chunk, nil if it did not fail
}

// shownHeaders are what makes the headers of a source's versions, as SQLite is shown them.
type shownHeaders struct {
	counters
	cookies
}

// flights are a follower's fetches of the newest version, guarded by its mu.
type flights struct {
	asked  Source  // who is asked: the follower's, or a later one of the same URI
	now    *flight // under way
	queued *flight // the one to follow it
	// found is what the newest version was made of. It belongs to who makes the fetch under way.
	found locate.Found
	doubt bool // of found, by who forces a refresh
}

// polling is whether a follower asks again and again, guarded by its mu.
type polling struct {
	readers int // that want auto refresh
	stop    context.CancelFunc
}

// flight is one fetch of the manifest; done is closed when err is set.
type flight struct {
	done chan struct{}
	err  error
}

func newFollower(all *Set, s Source, fed bool) (*follower, error) {
	shared, err := anonymous(unix.Getpagesize(), unix.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	f := &follower{all: all, source: s, shared: shared}
	f.flights.asked, f.shown.fed = s, fed
	f.shown.given, f.shown.stride = &all.counter, 1
	if fed {
		f.shown.stride = fedStride
	}
	return f, nil
}

// newestCounter is the change counter of the newest version, where C sees it.
func (f *follower) newestCounter() *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&f.shared[0]))
}

// drop gives up what f holds. There are no readers.
func (f *follower) drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dropped = true
	if f.newest != nil {
		f.newest.release()
		f.newest = nil
	}
	unix.Munmap(f.shared)
}

// latest returns the newest known version with a reference for the caller, or nil.
func (f *follower) latest() *snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.newest != nil {
		f.newest.retain()
	}
	return f.newest
}

// refresh asks the source for its newest version, and waits for the answer. A
// fetch under way will do, unless force: then one that begins after the call, and that asks for the
// checkpoint, too, which a history may have been begun anew with.
func (f *follower) refresh(ctx context.Context, force bool) error {
	fl := f.request(force)
	select {
	case <-fl.done:
		return fl.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// request is refresh without the wait.
func (f *follower) request(force bool) *flight {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flights.doubt = f.flights.doubt || force
	switch {
	case f.flights.now == nil:
		f.flights.now = &flight{done: make(chan struct{})}
		go f.fly(f.flights.now)
		return f.flights.now
	case !force:
		return f.flights.now
	case f.flights.queued == nil:
		f.flights.queued = &flight{done: make(chan struct{})}
	}
	return f.flights.queued
}

func (f *follower) fly(fl *flight) {
	fl.err = f.fetchNewest()
	f.mu.Lock()
	f.lastError = fl.err
	f.flights.now, f.flights.queued = f.flights.queued, nil
	if f.flights.now != nil {
		go f.fly(f.flights.now)
	}
	f.mu.Unlock()
	close(fl.done)
}

// fetchNewest makes the source's newest version f.newest. On an error all stays as it is.
func (f *follower) fetchNewest() (err error) {
	defer recoverTo(&err)
	if !f.all.enter() {
		return errClosed
	}
	defer f.all.leave(1)
	ctx, cancel := context.WithTimeout(f.all.ctx, f.all.options.Store.Options().Timeout)
	defer cancel()
	f.mu.Lock()
	if f.flights.doubt {
		f.flights.doubt, f.flights.found = false, f.flights.found.Doubted()
	}
	f.mu.Unlock()
	for {
		if more, err := f.fetchSome(ctx); err != nil || !more {
			return err
		}
	}
}

// fetchSome makes the newest version that it finds f.newest. There may be a newer one if more.
func (f *follower) fetchSome(ctx context.Context) (more bool, err error) {
	before := f.latest()
	if before != nil {
		defer before.release()
	}
	began := time.Now()
	f.mu.Lock()
	asked := f.flights.asked
	f.mu.Unlock()
	from := f.flights.found
	if before == nil {
		from = from.Announced(f.fetchLeaves)
	}
	found, news, err := asked.FetchFrom(ctx, from)
	if err != nil {
		return false, err
	}
	f.fetched.Add(found.Bytes)
	prev := f.latest() // what was published meanwhile may be what was found
	if prev != nil {
		defer prev.release()
		same := prev.is(found.Manifest)
		if same || !news && prev == before {
			prev.checked.Store(began.UnixNano())
		}
		if same || !news {
			f.flights.found = found
			return found.More, nil
		}
	}
	m := found.Manifest
	if prev != nil && (f.source.Named() || f.shown.fed) && lags(m, found.From, prev) {
		return false, f.ignore(found, prev, prev == before)
	}
	v, err := newSnapshot(f, found, began, f.shown.fresh())
	if err != nil {
		return false, fmt.Errorf("%s: %w", f.source, err)
	}
	h := heir{v, prev}
	carried, err := h.fill()
	if err == nil && !carried {
		err = h.carry(ctx)
	}
	if err == nil && prev != nil {
		err = h.unfetched()
	}
	if err == nil {
		v.showHeader(v.table.entry(0))
		err = v.begin()
	}
	if err != nil {
		v.release()
		return false, fmt.Errorf("%s: %w", f.source, err)
	}
	v.retain() // it may be replaced at once
	defer v.release()
	if f.install(v, prev) && prev != nil {
		v.replace(prev)
	}
	f.flights.found = found
	f.all.log.Debug("replica has a new version", "source", f.source, "sequence", m.Sequence,
		"chunks", v.table.present(), "of", m.Chunks())
	return found.More, nil
}

// ignore is what becomes of found, which lags behind prev. It fails if the target that prev is from
// has it, unless who writes to it here has published prev meanwhile.
func (f *follower) ignore(found locate.Found, prev *snapshot, asked bool) error {
	if asked && found.From == prev.from && !f.shown.fed {
		f.mu.Lock()
		f.flights.doubt = true // who asks only for what comes next is not told of it
		f.mu.Unlock()
		return &olderError{found, prev}
	}
	// Another target answered than last time, one that lags: what it has is no news.
	f.all.log.Info("replica ignores an older version", "source", f.source, "have",
		prev.m.Sequence, "found", found.Manifest.Sequence)
	return nil
}

// olderError: a target has no longer what it had.
type olderError struct {
	found locate.Found
	had   *snapshot
}

func (e *olderError) Error() string {
	had, has := e.had.m, e.found.Manifest
	return fmt.Sprintf("%s has lost what was read from it, up to version %d of %v, and has "+
		"version %d of %v: it was put back to an older copy, or the machine that writes to it "+
		"was. The replica stays as it is until there is a later version",
		e.found.From.Name, had.Sequence,
		had.Time.UTC().Format(time.RFC3339), has.Sequence, has.Time.UTC().Format(time.RFC3339))
}

// ErrorCode is one for all versions: it is told once.
func (e *olderError) ErrorCode() string { return "PutBack" }

// lags reports whether m, which from has, is no successor of prev. In one lineage versions are
// followed forwards only. Another lineage is news if the target that prev came from has it: there a
// writer has replaced the one by the other. Of another target only what was written later is.
func lags(m *manifest.Manifest, from *chunkstore.Target, prev *snapshot) bool {
	return prev.m.Head().Supersedes(m.Head()) && (m.Lineage == prev.m.Lineage || from != prev.from)
}

// install makes s, which was made when prev was the newest, the newest, unless one was published
// meanwhile that is not older (D5). It takes the caller's reference, and reports whether it did so.
func (f *follower) install(s, prev *snapshot) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.newest; f.dropped || now != prev && (now.is(s.m) || lags(s.m, s.from, now)) {
		s.release()
		return false
	}
	f.installLocked(s)
	return true
}

// installLocked is install by who holds f.mu, into one that is not dropped.
func (f *follower) installLocked(s *snapshot) {
	if f.newest != nil {
		f.newest.release()
	}
	f.newest = s
	f.newestCounter().Store(s.table.head.counter)
}

// Who was told of a version and has not found it asks again after a pause that grows from askFirst
// to askLast: for longer than bell.Early in all.
const (
	askFirst = time.Millisecond
	askLast  = 128 * time.Millisecond
)

// current tells versions apart.
func (f *follower) current() *snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.newest
}

// doubtPolls: who polls asks each so many polls that have brought nothing whether what he has read
// is still there.
const doubtPolls = 60

// poll asks the source again and again, until ctx ends.
func (f *follower) poll(ctx context.Context) {
	defer f.all.leave(1)
	pause := f.all.options.PollInterval
	told := time.Duration(0) // of a version that was not found yet: when to ask again; 0: of none
	var news <-chan struct{}
	if h, ok := f.source.(herald); ok {
		news = h.News(ctx)
	}
	var failed string // the kind of the error that was told; empty: none
	idle := 0         // polls that have brought nothing, since one that has doubted
	for {
		before := f.current()
		err := f.refresh(ctx, idle == doubtPolls)
		if idle++; f.current() != before || idle > doubtPolls {
			idle = 0
		}
		if err == nil {
			pause = f.all.options.PollInterval
			if failed != "" {
				f.all.log.Warn("replica is refreshed again", "source", f.source)
				failed = ""
			}
		} else if ctx.Err() == nil {
			if kind := chunkstore.ErrorKind(err); kind != failed {
				f.all.log.Warn("replica could not be refreshed; trying again",
					"source", f.source, "error", err)
				failed = kind
			}
			pause = min(2*pause, max(fetchDeadline, f.all.options.PollInterval))
		}
		wait := pause
		if told > askLast || f.current() != before {
			told = 0
		}
		if told > 0 {
			wait = min(pause, told)
			told *= 2
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		case <-news:
			told = askFirst
		}
	}
}

// pollFor changes the number of readers that want auto refresh.
func (f *follower) pollFor(delta int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.polling.readers += delta
	if f.polling.readers > 0 && f.polling.stop == nil && f.all.enter() {
		var ctx context.Context
		ctx, f.polling.stop = context.WithCancel(f.all.ctx)
		go f.poll(ctx)
	} else if f.polling.readers == 0 && f.polling.stop != nil {
		f.polling.stop()
		f.polling.stop = nil
	}
}
