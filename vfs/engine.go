package vfs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"verneuil/chunkstore"
	"verneuil/replicate"
	"verneuil/replicate/courier"
	"verneuil/replicate/mirror"
	"verneuil/spool"
)

// Program names this program in manifests and in verneuil_version().
const Program = "verneuil-go 0.1.0"

// adoptInterval is how often a process looks for spools that nobody serves.
const adoptInterval = time.Minute

// retryInterval is the pause before a spool that could not be served is tried again.
const retryInterval = 5 * time.Second

// Engine is what one process runs for its databases: one replicator per spool
// that it has open, and the store that they share. All methods may be called
// from any thread, and return quickly unless they say otherwise.
type Engine struct {
	cfg    *Config
	cfgErr error
	log    *slog.Logger

	opening sync.Mutex // of the store

	mu       sync.Mutex // no file is looked at under it
	store    *chunkstore.Store
	storeErr error
	reads    func() (*chunkstore.Store, error) // the replicas' own: they do not spend the replicators' tokens
	reading  atomic.Pointer[chunkstore.Store]  // what reads has returned
	outages  courier.Outages
	served   map[string]*service
	left     map[string][]*source     // files of databases that are not open here, which could not be closed
	closing  map[string]chan struct{} // whose files are being closed
	children map[spool.Token]openings
	checks   validation
	panics   []string
	replicas *replicas
}

// service is one spool that this process serves or stands by for.
type service struct {
	opens  int // connections of this process and its children; 0: drain, then stop
	closes int // times that opens became 0
	drains bool
	cancel context.CancelFunc
	done   chan struct{}
	path   string                // of the database; empty until the spool could be opened
	r      *replicate.Replicator // nil until the spool could be opened
	err    error                 // why it could not
	files  []*source             // that its replicators have read
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
	e := &Engine{cfg: cfg, cfgErr: err, log: log, served: map[string]*service{}, left: map[string][]*source{},
		children: map[spool.Token]openings{}}
	e.reads = sync.OnceValues(func() (*chunkstore.Store, error) {
		if e.cfgErr != nil {
			return nil, e.cfgErr
		}
		store, err := e.cfg.OpenForegroundStore(context.Background(), e.log)
		e.reading.Store(store)
		return store, err
	})
	e.replicas = newReplicas(e)
	return e
})

// Settings are what the recorder needs to know.
type Settings struct {
	SpoolingDir string // absolute; empty: no replication
	Permissions os.FileMode
	Targets     int // that there are to send to
	Patterns    Patterns
	Validate    bool
	Timeout     time.Duration // of a flush

	ReplicaFiles bool  // see Config
	Err          error // the configuration is broken: no replication
}

// Settings returns what the recorder needs to know, and starts to look for
// spools that nobody serves.
func (e *Engine) Settings() Settings {
	s := Settings{Permissions: e.cfg.SpoolingDirPermissions, Targets: e.cfg.sendsTo(), Patterns: e.cfg.Patterns, Err: e.cfgErr,
		Validate: getenv("VERNEUIL_VALIDATE") == "1", ReplicaFiles: e.cfg.ReplicaFiles, Timeout: e.cfg.StoreTimeout}
	if s.Err != nil || e.cfg.ReplicationSpoolingDir == "" {
		return s
	}
	s.SpoolingDir, s.Err = filepath.Abs(e.cfg.ReplicationSpoolingDir)
	if s.Err == nil {
		go e.adopt(s.SpoolingDir)
		go e.sweep(s.SpoolingDir)
	}
	return s
}

// Config returns the process's configuration; the defaults if it is broken.
func (e *Engine) Config() *Config { return e.cfg }

// Log returns the process's logger.
func (e *Engine) Log() *slog.Logger { return e.log }

// Host returns the source name that this process writes into manifests.
func (e *Engine) Host() string { return e.cfg.Host() }

// ReadStore returns the store that the process's replicas read from, opened at
// the first call.
func (e *Engine) ReadStore() (*chunkstore.Store, error) { return e.reads() }

// Store returns the store that the process replicates to, opened at the first call.
func (e *Engine) Store() (*chunkstore.Store, error) {
	if e.cfgErr != nil {
		return nil, e.cfgErr
	}
	e.opening.Lock() // for replicators alone: a directory that is a target may be on a disk that does not answer
	defer e.opening.Unlock()
	e.mu.Lock()
	store, err := e.store, e.storeErr
	e.mu.Unlock()
	if store == nil && err == nil {
		store, err = e.cfg.OpenStore(context.Background(), e.log)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.store, e.storeErr = store, err
	}
	return store, err
}

// Opened sees to it that somebody replicates the database whose spool is dir. It is
// called at the first connection of several, before that can take any lock of SQLite's, and
// Closed after the last has given up its own.
func (e *Engine) Opened(dir string) {
	e.awaitClosing(dir)
	defer e.mu.Unlock()
	e.serveLocked(dir).opens++
}

// Closed is Opened's opposite. The spool is served until its data is sent.
func (e *Engine) Closed(dir string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closedLocked(dir)
}

func (e *Engine) closedLocked(dir string) {
	s := e.served[dir]
	if s == nil {
		return
	}
	if s.opens = max(0, s.opens-1); s.opens == 0 {
		e.drainLocked(dir, s)
	}
}

// Woken tells the replicators of this process that a recorder of it has woken one.
func (e *Engine) Woken() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.served {
		if s.r != nil {
			s.r.Woken()
		}
	}
}

func (e *Engine) serveLocked(dir string) *service {
	if s := e.served[dir]; s != nil {
		return s
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &service{cancel: cancel, done: make(chan struct{}), files: e.left[dir]}
	delete(e.left, dir)
	e.served[dir] = s
	go e.serve(ctx, dir, s)
	return s
}

// serve runs the spool's replicator until ctx ends, and tries anew when it fails.
func (e *Engine) serve(ctx context.Context, dir string, s *service) {
	defer close(s.done)
	defer e.leaveFiles(dir, s)
	told := ""
	for ctx.Err() == nil {
		err := e.replicateOnce(ctx, dir, s)
		if err != nil && ctx.Err() == nil && err.Error() != told {
			e.log.Error("replication stopped; it is tried again", "spool", dir, "error", err)
			told = err.Error()
		}
		e.mu.Lock()
		s.r, s.err = nil, err
		e.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(retryInterval):
		}
	}
}

func (e *Engine) replicateOnce(ctx context.Context, dir string, s *service) (err error) {
	defer func() {
		if p := recover(); p != nil {
			e.Panicked("replicate "+dir, p)
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	store, err := e.Store()
	if err != nil {
		return err
	}
	sp, err := spool.Open(dir)
	if err != nil {
		return err
	}
	defer sp.Close()
	if err := sp.WriteSourceConfig(e.cfg.Source(sp.Path())); err != nil {
		return err
	}
	r, err := replicate.New(e.options(sp, store, s))
	if err != nil {
		return err
	}
	e.mu.Lock()
	s.path, s.r, s.err = sp.Path(), r, nil
	e.mu.Unlock()
	return r.Run(ctx)
}

func (e *Engine) options(sp *spool.Spool, store *chunkstore.Store, s *service) replicate.Options {
	path := sp.Path()
	return replicate.Options{
		Spool:            sp,
		Store:            store,
		Host:             e.Host(),
		Program:          Program,
		ManifestInterval: e.cfg.ManifestInterval,
		Concurrency:      e.cfg.UploadConcurrency,
		PatrolPeriod:     time.Duration(e.cfg.PatrolDays) * 24 * time.Hour,
		OpenSource:       func() (mirror.Source, error) { return e.openSource(s, path) },
		Log:              e.log,
		Outages:          &e.outages,
		RootPermissions:  spool.RootMode(e.cfg.SpoolingDirPermissions),
	}
}

func (e *Engine) drainLocked(dir string, s *service) {
	s.closes++
	if !s.drains {
		s.drains = true
		go e.drain(dir, s)
	}
}

// drain sends what a closed database has left, at its pace, and stops its replicator. What was
// written by connections that came and went meanwhile it sends too, and what other processes
// leave to this one. Of a database that
// was deleted it sends what the spool has, if that is any use without the file: else whoever makes
// and deletes databases would have replicators of all of them, for good.
func (e *Engine) drain(dir string, s *service) {
	defer func() {
		if p := recover(); p != nil {
			e.Panicked("drain "+dir, p)
		}
	}()
	for {
		e.mu.Lock()
		closes := s.closes
		e.mu.Unlock()
		r, err := e.replicator(context.Background(), dir)
		ended := false
		if err == nil {
			err = r.Drain(context.Background())
			ended = err == nil && r.Retire()
		}
		ended = ended || errors.Is(err, fs.ErrNotExist) && e.deleted(s)
		e.mu.Lock()
		switch {
		case s.opens > 0:
			s.drains = false
		case ended && s.closes == closes:
			delete(e.served, dir)
			e.mu.Unlock()
			s.cancel()
			return
		}
		drains := s.drains
		e.mu.Unlock()
		if r != nil {
			r.Stay()
		}
		if !drains {
			return
		}
		if err != nil {
			time.Sleep(retryInterval)
		}
	}
}

// deleted reports whether it is known that the service's database is deleted.
func (e *Engine) deleted(s *service) bool {
	e.mu.Lock()
	path := s.path
	e.mu.Unlock()
	return path != "" && deleted(path)
}

// deleted reports whether there is no file at path.
func deleted(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// adopt serves the spools under root that have unsent data and no replicator,
// for as long as the process lives.
func (e *Engine) adopt(root string) {
	defer func() {
		if p := recover(); p != nil {
			e.Panicked("adopt", p)
		}
	}()
	for {
		e.forgetDead()
		states, _ := filepath.Glob(filepath.Join(root, "*", "state"))
		for _, state := range states {
			dir := filepath.Dir(state)
			if !orphan(dir) {
				continue
			}
			e.mu.Lock()
			if e.served[dir] == nil {
				e.drainLocked(dir, e.serveLocked(dir))
			}
			e.mu.Unlock()
		}
		time.Sleep(adoptInterval)
	}
}

// sweep removes the spools under root of databases that were deleted a while ago, for as long
// as the process lives. It asks for the files at paths that may be of file systems that hang: so it
// is not adopt that does it.
func (e *Engine) sweep(root string) {
	defer func() {
		if p := recover(); p != nil {
			e.Panicked("sweep", p)
		}
	}()
	for {
		states, _ := filepath.Glob(filepath.Join(root, "*", "state"))
		for _, state := range states {
			dir := filepath.Dir(state)
			if removed, err := spool.Sweep(dir, time.Now()); removed {
				e.log.Info("the spool of a database that was deleted is removed", "spool", dir)
			} else if err != nil {
				e.log.Debug("sweep", "spool", dir, "error", err)
			}
		}
		time.Sleep(adoptInterval)
	}
}

// orphan reports whether the spool in dir has data that was not sent, and no process
// that would send it. Without the database, a mirror that is stale is no such data.
func orphan(dir string) bool {
	sp, err := spool.Open(dir)
	if err != nil {
		return false
	}
	defer sp.Close()
	st := sp.State()
	sent := st.PushedGeneration.Load() >= st.Generation.Load() && st.PushedSequence.Load() >= st.Sequence.Load()
	if sent || st.MirrorGeneration.Load() != st.Generation.Load() && deleted(sp.Path()) {
		return false
	}
	served, err := sp.Served()
	return err == nil && !served
}

// ErrNotServed says that a database is not replicated by this process.
var ErrNotServed = errors.New("not replicated by this process")

// Flush pushes what is committed in the database of the spool dir; it returns nil
// only when every target has it all. It blocks until then, at most for timeout.
func (e *Engine) Flush(dir string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	err := e.flush(ctx, dir)
	if err != nil {
		e.log.Info("flush", "spool", dir, "error", err) // who asked is told; of targets that fail, so is the log
	}
	return err
}

func (e *Engine) flush(ctx context.Context, dir string) error {
	r, err := e.replicator(ctx, dir)
	if err != nil {
		return err
	}
	return r.Flush(ctx)
}

// replicator returns the running replicator of dir; one that has just been
// started is waited for.
func (e *Engine) replicator(ctx context.Context, dir string) (*replicate.Replicator, error) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		e.mu.Lock()
		s := e.served[dir]
		if s == nil {
			e.mu.Unlock()
			return nil, ErrNotServed
		}
		r, err := s.r, s.err
		e.mu.Unlock()
		if r != nil || err != nil {
			return r, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// Exit gives unsent data at most timeout to leave, or store_timeout_ms if that is less. What another process replicates
// it leaves to that one.
func (e *Engine) Exit(timeout time.Duration) {
	e.reportValidation()
	ctx, cancel := context.WithTimeout(context.Background(), min(timeout, e.cfg.StoreTimeout))
	defer cancel()
	e.mu.Lock()
	var dirs []string
	for dir := range e.served {
		dirs = append(dirs, dir)
	}
	e.mu.Unlock()
	var wg sync.WaitGroup
	var unsent unsent
	for _, dir := range dirs {
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					e.Panicked("exit", p)
				}
			}()
			if err := e.leave(ctx, dir); err != nil {
				unsent.add(dir, err)
			}
		})
	}
	wg.Wait()
	unsent.tell(e.log)
}

// unsent are the spools that a process leaves with data in them.
type unsent struct {
	mu    sync.Mutex
	dirs  []string
	error error // of the first
}

func (u *unsent) add(dir string, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.dirs = append(u.dirs, dir)
	u.error = cmp.Or(u.error, err)
}

// tell says so in one line: a process may have thousands.
func (u *unsent) tell(log *slog.Logger) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.dirs) == 0 {
		return
	}
	slices.Sort(u.dirs)
	log.Warn("process ends with unsent data; verneuilctl flush sends it, and so does the next process that opens the database",
		"spool", u.dirs[0], "spools", len(u.dirs), "error", u.error)
}

// leave sends what the process has not sent of the database of the spool dir.
func (e *Engine) leave(ctx context.Context, dir string) error {
	r, err := e.replicator(ctx, dir)
	if err == nil {
		if r.ServedElsewhere() {
			return nil
		}
		err = r.Leave(ctx)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.served[dir] == nil {
		return nil // it was drained meanwhile
	}
	return err
}

// Panicked records a panic that was kept from the host.
func (e *Engine) Panicked(what string, p any) {
	e.log.Error("panic", "in", what, "value", fmt.Sprint(p), "stack", string(debug.Stack()))
	e.mu.Lock()
	defer e.mu.Unlock()
	e.panics = append(e.panics, fmt.Sprintf("%s: %v", what, p))
}

// errNoTargets: databases are opened through the writer VFS, which has nowhere to send.
var errNoTargets = errors.New("replication_targets: no s3 or dir target")

// problemLocked returns what keeps the process's databases from being replicated. The
// recorder's own reason is opening: why it opened one without a spool.
func (e *Engine) problemLocked(opening string) string {
	errs := []error{e.cfgErr, e.storeErr}
	if opening != "" && (e.cfgErr == nil || opening != e.cfgErr.Error()) {
		errs = append(errs, errors.New(opening))
	}
	if e.store != nil && len(e.store.Targets) == 0 {
		errs = append(errs, errNoTargets)
	}
	if err := errors.Join(errs...); err != nil {
		return err.Error()
	}
	return ""
}

// Status returns verneuil_status()'s JSON object. opening is why the recorder has last
// opened a database without replication, empty if it has not; list is the JSON array of
// the databases that are not replicated, with reasons, empty if there is no memory for it.
func (e *Engine) Status(opening, list string) []byte {
	type database struct {
		Spool string `json:"spool"`
		Error string `json:"error,omitempty"`
		*replicate.Status
	}
	status := struct {
		Program   string          `json:"program"`
		Host      string          `json:"host"`
		Spooling  string          `json:"replication_spooling_dir,omitempty"`
		Error     string          `json:"error,omitempty"`
		APICalls  int64           `json:"api_calls"`
		Databases []database      `json:"databases"`
		Not       json.RawMessage `json:"not_replicated"`
		Replicas  any             `json:"replicas"`
		Validated *validation     `json:"validation,omitempty"`
		Panics    []string        `json:"panics,omitempty"`
	}{Program: Program, Host: e.Host(), Spooling: e.cfg.ReplicationSpoolingDir, Databases: []database{}}
	status.Not = json.RawMessage(cmp.Or(list, "[]"))
	status.Replicas = e.replicas.status()
	running := make(map[int]*replicate.Replicator)
	e.mu.Lock()
	status.Error = e.problemLocked(opening)
	if e.store != nil {
		status.APICalls = e.store.Calls()
	}
	if reads := e.reading.Load(); reads != nil {
		status.APICalls += reads.Calls()
	}
	for dir, s := range e.served {
		d := database{Spool: dir}
		if s.err != nil {
			d.Error = s.err.Error()
		}
		if s.r != nil {
			running[len(status.Databases)] = s.r
		}
		status.Databases = append(status.Databases, d)
	}
	status.Validated, status.Panics = e.checks.status(), slices.Clone(e.panics)
	e.mu.Unlock()
	for i, r := range running {
		st := r.Status()
		status.Databases[i].Status = &st
	}
	b, err := json.Marshal(status)
	if err != nil {
		return fmt.Appendf(nil, `{"error":%q}`, err.Error())
	}
	return b
}
