package remote

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/bell"
	"verneuil/replicate/locate"
	"verneuil/replicate/remote/compose"
	"verneuil/replicate/remote/machine"
	"verneuil/replicate/versions"
)

// database is one database that this process has open. It is what its replicas are fed by
// (replica.Source).
type database struct {
	set      *Set
	shop     *shop
	log      *slog.Logger
	composer *compose.Composer

	address
	words
	stay stay

	pen   chan struct{} // has one element, which who takes it holds
	story story         // of who has the pen

	// mu guards what follows, but for what is said to be of who has the pen.
	mu    sync.Mutex
	users users
	queue queue
	lease lease
	saver saver
}

// address is where a database is. It does not change.
type address struct {
	path      string // in the store
	key       string // of its manifest
	histories *histories
}

// words are what C reads: see Words.
type words struct {
	checked, newest atomic.Uint64
}

// stay is for how long a database stays. It is guarded by the Set's mu.
type stay struct {
	uses  int         // who uses it: handles, calls, what runs in the background
	going *time.Timer // lets it go; nil: it never was out of use
	gone  bool        // nobody finds it any more
}

// writing reports whether a handle has reserved, or something is not durable yet. If not, no handle
// has a grip any more. It is called with mu.
func (d *database) writing() bool {
	return len(d.queue.entries) > 0 || d.queue.flush.running || !d.users.free()
}

func newDatabase(s *Set, h *shop, path string) (*database, error) {
	key := manifest.Name(h.t.Sealer, "", path)
	t := h.t
	d := &database{
		set: s, shop: h,
		address: address{path, key, &histories{Store: versions.NewStore(t, key)}},
		log:     s.o.Log.With("database", "/"+h.name+path),
		composer: compose.New(compose.Options{
			Target: t, Program: s.o.Program, Store: h.store, Keep: packKeep,
			Budgets: s.o.budgets,
		}),
		pen: make(chan struct{}, 1),
	}
	// The store's name is the user's: two may have the same name, or one two names, in turn.
	of := chunkstore.Sum([]byte(t.Chunks.String() + "\n" + t.Manifests.String() + "\n" + key))
	file, err := machine.Open(s.o.TempDir, hex.EncodeToString(of[:16]))
	if err != nil {
		return nil, err
	}
	if err := file.Private(); err != nil {
		d.log.Warn("other processes of this machine are to this one as those of another machine: "+
			"they cannot share a file in tempdir", "error", err)
	}
	d.story.d, d.queue.d, d.saver.d, d.users.d = d, d, d, d
	d.lease = lease{d: d, file: file, beats: beatsOf(t, key),
		news: d.bell(versions.NewsName(key)), wants: d.bell(versions.WantsName(key))}
	d.give()
	return d, nil
}

// bell is one of d's.
func (d *database) bell(name string) *bell.Bell {
	return bell.New(bell.Options{Bucket: d.shop.t.Chunks, Name: name, Log: d.log,
		Run: func(what string, f func(context.Context)) bool { return d.set.run(what, d, f) }})
}

// News gets a value when another machine appends a record: see package replica.
func (d *database) News(ctx context.Context) <-chan struct{} {
	return d.lease.news.Hear(ctx, bell.Record)
}

// errGone: nobody has the database open any more.
var errGone = errors.New("the database was closed")

// now is a clock that all processes of the machine share.
func (d *database) now() time.Duration { return d.set.o.History.Now() }

// take waits for the pen.
func (d *database) take(ctx context.Context) error {
	select {
	case <-d.pen:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// give gives the pen back.
func (d *database) give() { d.pen <- struct{}{} }

// wrap says which database it is.
func (d *database) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", d.name(), err)
}

// name is what it was opened by.
func (d *database) name() string { return "/" + d.shop.name + d.path }

// URI is one form for all ways to write it.
func (d *database) URI() string { return "file://" + d.name() }

// String is the URI.
func (d *database) String() string { return d.URI() }

// connect makes a handle of the newest version. It fails with ErrRolledBack if the store was put
// back, and what this process has kept is newer.
func (d *database) connect(ctx context.Context, m Mode) (*Conn, error) {
	// The reader asks, by FetchFrom: what it will need is fetched beside the records.
	r, err := d.shop.replicas.OpenFrom(ctx, d)
	if errors.Is(err, chunkstore.ErrAbsent) && m.Create && !m.ReadOnly {
		if err = d.make(ctx); err == nil {
			r, err = d.shop.replicas.OpenFrom(ctx, d)
		}
	}
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	at := d.story.seen.Load()
	if at != nil && d.unused() && r.Manifest().Head().After(at.m.Head()) {
		d.mu.Unlock()
		r.Close()
		return nil, ErrRolledBack
	}
	d.users.conns++
	d.mu.Unlock()
	return &Conn{d: d, r: r, mode: m}, nil
}

// unused reports whether nobody reads the database, and nothing is to be appended to it. It is
// called with mu.
func (d *database) unused() bool { return d.users.conns == 0 && len(d.queue.entries) == 0 }

// forget has the next handle begin with what the store has, unless somebody reads what it has lost.
func (d *database) forget(ctx context.Context) error {
	if err := d.take(ctx); err != nil {
		return err
	}
	defer d.give()
	d.mu.Lock()
	unused := d.unused()
	d.mu.Unlock()
	if !unused || !d.shop.replicas.Forget(d) {
		return nil
	}
	d.story.w, d.story.lost = nil, loss{}
	d.saver.forget()
	d.log.Warn("the store was put back to an older copy: this process goes on with what is there")
	return nil
}

// Named is false: no other target has the database.
func (d *database) Named() bool { return false }

// AutoRefresh is what each Conn says by itself.
func (d *database) AutoRefresh() *bool { return nil }

// FetchFrom returns the newest version, as of a moment after the call began.
func (d *database) FetchFrom(
	ctx context.Context, prev locate.Found,
) (found locate.Found, news bool, err error) {
	if !d.set.enter(d) { // a replica lingers, and asks by itself
		return locate.Found{}, false, errGone
	}
	defer d.set.leave(d)
	if err := d.take(ctx); err != nil {
		return locate.Found{}, false, err
	}
	defer d.give()
	began := d.now()
	if !d.story.fresh { // else Open has made it, and nobody has seen it yet
		d.story.begun = func(m *manifest.Manifest) { prev.Begun(m, d.shop.t) }
		err = d.story.newest(ctx)
		d.story.begun = nil
	}
	if d.story.fresh = false; err != nil {
		return locate.Found{}, false, err
	}
	d.checked.Store(uint64(began))
	m := d.story.m
	news = prev.Manifest == nil || prev.Manifest.Cut != m.Cut ||
		prev.Manifest.At.Lineage != m.At.Lineage
	return locate.Found{Manifest: m, From: d.shop.t}, news, nil
}

// make makes the database, unless somebody else has done so meanwhile.
func (d *database) make(ctx context.Context) error {
	if err := d.take(ctx); err != nil {
		return err
	}
	defer d.give()
	if d.story.w != nil {
		return nil
	}
	err := d.shop.prove(ctx)
	if err == nil && !d.set.broken.beginsAnew {
		err = versions.Vacant(ctx, d.shop.t, d.key)
	}
	if errors.Is(err, versions.ErrManifestLost) && d.story.open(ctx) == nil {
		return nil // another one has made it meanwhile
	}
	if err == nil {
		err = d.create(ctx)
	}
	d.story.fresh = err == nil
	return err
}

// create begins the history of an empty database.
func (d *database) create(ctx context.Context) error {
	m := compose.First(d.path, d.set.o.Program, d.shop.chunks)
	if err := d.story.create(ctx, m); err != nil {
		return err
	}
	d.log.Info("database created")
	return nil
}

// owner is this process, for others to read.
func (d *database) owner() manifest.Owner {
	return manifest.Owner{
		Host: d.set.o.Host, Program: d.set.o.Program, PID: os.Getpid(), Since: d.set.began,
	}
}

// stamp names the record at p, and so its version, in the machine's page: whose it is, too, as
// there may be two with a number, where the store was put back. Its last bits are the number's. It
// is never 0.
func stamp(p history.Position) uint64 {
	of := binary.BigEndian.Uint64(p.Lineage[:8]) ^ binary.BigEndian.Uint64(p.Digest[:8])
	return max(1, of&^(promisedMax-1)|p.Number&(promisedMax-1))
}

// alone reports whether no other machine can have gone on.
func (d *database) alone() bool {
	return d.lease.file.Page().Alone(d.set.broken.tipTime(d.now())) || d.set.broken.keepsTip
}

// current reports whether the version at p is promised to be the newest.
func (d *database) current(p history.Position) bool {
	return d.lease.file.Page().Newest(stamp(p), d.now())
}

func (d *database) status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := Status{
		Store: d.shop.name, Path: d.path, Handles: d.users.conns, Pending: len(d.queue.entries),
	}
	if d.queue.failed != nil {
		s.Error = d.queue.failed.Error()
	}
	if at := d.story.seen.Load(); at != nil {
		s.Record, s.Version, s.Bytes = at.m.At.Number, at.m.Sequence, at.m.FileBytes
		s.Epoch, s.Holder = at.m.At.Epoch, at.holder
		if at.lost != nil {
			s.Error = at.lost.Error()
		}
		if s.Holder {
			s.LeaseAge = (d.now() - at.sign).Seconds()
		}
	}
	if lost := d.lease.keeper.traced.named.lost(); lost != nil {
		s.Error = strings.TrimPrefix(s.Error+"; "+lost.Error(), "; ")
	}
	return s
}
