package vfs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"verneuil/chunkstore"
	"verneuil/replicate"
	"verneuil/spool"
)

// Version is the release's, of the library, the tool and every package (cmd/dist).
const Version = "0.1.0"

// Program names this program in manifests and in verneuil_version().
const Program = "verneuil-go " + Version

// Engine is what one process runs for its databases: a replicator for each spool that it has
// open, the replicas that it reads, the databases in stores, and the stores of all. All methods
// may be called from any thread, and return quickly unless they say otherwise. Its parts have
// mutexes of their own; they are taken in the order children, services, sourceFiles.
type Engine struct {
	cfg      *Config
	cfgErr   error // the configuration is broken: cfg is the default
	log      *slog.Logger
	stores   *stores
	services *services
	children *children
	replicas *replicas
	remotes  *remotes
	checks   *validations
	panics   *panics
}

// Process returns the engine of this process, configured by VERNEUIL_CONFIG as it
// was at the first call. A broken configuration is kept, not fatal: see Settings.
var Process = sync.OnceValue(func() *Engine {
	log, err := NewLogger(LevelFromEnv(), hostStderr{})
	if err != nil {
		log.Error("log level", "error", err)
	}
	cfg, err := ParseConfig(getenv("VERNEUIL_CONFIG"))
	if err != nil {
		err = fmt.Errorf("VERNEUIL_CONFIG: %w", err)
		cfg = &Config{}
	}
	return newEngine(cfg, err, log)
})

// newEngine returns an engine that runs nothing yet.
func newEngine(cfg *Config, cfgErr error, log *slog.Logger) *Engine {
	e := &Engine{
		cfg: cfg, cfgErr: cfgErr, log: log,
		stores: newStores(cfg, cfgErr, log),
		checks: &validations{log: log},
		panics: &panics{log: log},
	}
	e.services = &services{
		cfg: cfg, log: log, stores: e.stores, panics: e.panics,
		files: newSourceFiles(),
		of:    make(map[string]*service),
	}
	e.children = &children{services: e.services, of: make(map[spool.Token]openings)}
	e.replicas = newReplicas(e)
	e.remotes = newRemotes(e)
	return e
}

// Settings are what the recorder needs to know.
type Settings struct {
	SpoolingDir string // absolute; empty: no replication
	Permissions os.FileMode
	Targets     int // that there are to send to
	Patterns    Patterns
	Validate    bool
	Timeout     time.Duration // of a flush

	DurableTimeout time.Duration // of a durable commit
	Purpose        uint64        // as state pages have it; 0: there are no targets

	ReplicaFiles bool  // see Config
	Err          error // the configuration is broken: no replication
}

// Settings returns what the recorder needs to know, and starts to look for
// spools that nobody serves.
func (e *Engine) Settings() Settings {
	s := Settings{
		Permissions: e.cfg.SpoolingDirPermissions,
		Targets:     e.cfg.sendsTo(),
		Patterns:    e.cfg.Patterns,
		Validate:    getenv("VERNEUIL_VALIDATE") == "1",
		Timeout:     e.cfg.StoreTimeout,

		DurableTimeout: e.cfg.DurableTimeout,

		ReplicaFiles: e.cfg.ReplicaFiles,
		Err:          e.cfgErr,
	}
	if s.Err != nil || e.cfg.ReplicationSpoolingDir == "" {
		return s
	}
	if store, err := e.stores.forWriting(); err == nil {
		s.Purpose = replicate.Purpose(e.cfg.Host(), store.Targets)
	}
	s.SpoolingDir, s.Err = filepath.Abs(e.cfg.ReplicationSpoolingDir)
	if s.Err == nil {
		s.Err = local(s.SpoolingDir)
	}
	if s.Err == nil {
		a := &adoption{s.SpoolingDir, e.services, e.children, e.log, e.panics}
		go a.adopt()
		go a.sweep()
	}
	return s
}

// local is [spool.Local]. Only tests change it.
var local = spool.Local

// Config returns the process's configuration; the defaults if it is broken.
func (e *Engine) Config() *Config { return e.cfg }

// Log returns the process's logger.
func (e *Engine) Log() *slog.Logger { return e.log }

// Host returns the source name that this process writes into manifests.
func (e *Engine) Host() string { return e.cfg.Host() }

// ReadStore returns the store that the process's replicas read from, opened at
// the first call.
func (e *Engine) ReadStore() (*chunkstore.Store, error) { return e.stores.forReading() }

// NamedStore returns the store of that name, which databases live in, opened at the first call;
// of the empty name, [Engine.ReadStore]'s. It fails with [ErrNoStore].
func (e *Engine) NamedStore(name string) (*chunkstore.Store, error) {
	if name == "" {
		return e.ReadStore()
	}
	return e.stores.ofName(name)
}

// Store returns the store that the process replicates to, opened at the first call.
func (e *Engine) Store() (*chunkstore.Store, error) { return e.stores.forWriting() }

// Opened makes sure that somebody replicates the database whose spool is dir. It is called for the
// first of several connections, before that can take any lock of SQLite's; Closed is called after
// the last connection has given up its locks. Opened may wait while a file is being closed.
func (e *Engine) Opened(dir string) { e.services.openAfterClosing(dir) }

// Closed is the opposite of Opened. The spool is served until its data is sent.
func (e *Engine) Closed(dir string) { e.services.closed(dir) }

// Woken tells the replicators of this process that a recorder of it has woken one.
func (e *Engine) Woken() { e.services.woken() }

// Child notes that a connection to the database whose spool has that name was opened, or
// closed, by the forked child that token names.
func (e *Engine) Child(token uint64, name string, opened bool) {
	root, err := filepath.Abs(e.cfg.ReplicationSpoolingDir)
	if err != nil || name != filepath.Base(name) || name == "." || name == ".." {
		return
	}
	e.children.note(spool.Token(token), filepath.Join(root, name), opened)
}

// ErrNotServed says that a database is not replicated by this process.
var ErrNotServed = errors.New("not replicated by this process")

// Flush pushes what is committed in the database of the spool dir; it returns nil
// only when every target has it all. It blocks until then, at most for timeout.
func (e *Engine) Flush(dir string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	r, err := e.services.replicator(ctx, dir)
	if err == nil {
		err = r.Flush(ctx)
	}
	if err != nil {
		// The caller gets the error; targets that fail are also in the log.
		e.log.Info("flush", "spool", dir, "error", err)
	}
	return err
}

// Validate compares the mirror of the spool dir with its database, whose write
// lock the caller holds. A difference is logged, returned, and kept in the status. If the mirror
// cannot be brought up to date while the lock is held, that is not a difference: it is counted.
// Validate may block for minutes.
func (e *Engine) Validate(dir string) error {
	if e.checks.rests(dir) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), validateTimeout)
	defer cancel()
	start := time.Now()
	r, err := e.services.replicator(ctx, dir)
	if err == nil {
		err = r.Verify(ctx)
	}
	return e.checks.count(dir, time.Since(start), err)
}

// Exit sends unsent data, for at most timeout, or store_timeout_ms if that is less, and blocks
// until then. It leaves to other processes what they replicate, and gives back the leases of
// databases in stores.
func (e *Engine) Exit(timeout time.Duration) {
	e.checks.report()
	timeout = min(timeout, e.cfg.StoreTimeout)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer e.panics.caught("exit")
		e.remotes.exit(ctx)
	})
	e.services.exit(ctx)
	wg.Wait()
}

// Panicked records a panic that was kept from the host.
func (e *Engine) Panicked(what string, p any) { e.panics.add(what, p) }

// panics lists the panics that were kept from the host. It is safe for concurrent use.
type panics struct {
	log *slog.Logger

	mu   sync.Mutex
	seen []string
}

func (s *panics) add(what string, p any) {
	s.log.Error("panic", "in", what, "value", fmt.Sprint(p), "stack", string(debug.Stack()))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, fmt.Sprintf("%s: %v", what, p))
}

// caught must be deferred by each goroutine of ours: a panic then ends the goroutine, and not the
// host.
func (s *panics) caught(what string) {
	if p := recover(); p != nil {
		s.add(what, p)
	}
}

func (s *panics) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}
