package vfs

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"verneuil/chunkstore"
	"verneuil/replicate"
	"verneuil/replicate/courier"
	"verneuil/replicate/mirror"
	"verneuil/spool"
)

// retryInterval is the pause after which we try again to serve a spool.
const retryInterval = 5 * time.Second

// services holds the spools that this process serves, or stands by for. It is safe for concurrent
// use.
type services struct {
	cfg     *Config
	log     *slog.Logger
	stores  *stores
	panics  *panics
	files   *sourceFiles
	outages courier.Outages

	mu sync.Mutex          // no file is looked at under it
	of map[string]*service // by the directory of the spool
}

// serviceState is the state of a service.
type serviceState int

// The states of a service, and the functions that take it from one to another:
//
//	     open, openAfterClosing            closed (the last one)
//	none -----------------------> serving ----------------------> draining
//	  |                              ^                               |  |
//	  |                              +-------------------------------+  |
//	  |                               drained (it was opened again)     |
//	  |                                                                 |
//	  +--------------------> draining                          gone <---+
//	          adopt                            drained (all is sent)
const (
	serving  serviceState = iota
	draining              // nobody has the database open: [services.drain] runs
	gone                  // all is sent: its replicator ends
)

// service is one spool that is served. A goroutine of its own runs its replicators. services.mu
// guards all fields but cancel and done.
type service struct {
	state  serviceState
	opens  int // connections of this process and its children
	closes int // times that opens became 0
	cancel context.CancelFunc
	done   chan struct{}         // closed when the goroutine has ended
	path   string                // of the database; empty until the spool could be opened
	r      *replicate.Replicator // nil until the spool could be opened
	err    error                 // why it could not
}

// openAfterClosing waits until no file of the database is being closed, as that would drop the
// locks that the connection is about to take. Then it does what open does.
func (s *services) openAfterClosing(dir string) {
	s.files.useAfterClosing(dir)
	defer s.files.drop(dir)
	s.open(dir)
}

// open counts one more connection to the database whose spool is dir, and has it served.
func (s *services) open(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serveLocked(dir).opens++
}

// closed counts one connection fewer.
func (s *services) closed(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sv := s.of[dir]
	if sv == nil {
		return
	}
	if sv.opens = max(0, sv.opens-1); sv.opens == 0 {
		s.drainLocked(dir, sv)
	}
}

// adopt serves the spool in dir until its data is sent, unless it is served already.
func (s *services) adopt(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[dir] == nil {
		s.drainLocked(dir, s.serveLocked(dir))
	}
}

func (s *services) drainLocked(dir string, sv *service) {
	sv.closes++
	if sv.state == serving {
		sv.state = draining
		go s.drain(dir, sv)
	}
}

// woken tells all replicators that a recorder of this process has woken one.
func (s *services) woken() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sv := range s.of {
		if sv.r != nil {
			sv.r.Woken()
		}
	}
}

func (s *services) serveLocked(dir string) *service {
	if sv := s.of[dir]; sv != nil {
		return sv
	}
	ctx, cancel := context.WithCancel(context.Background())
	sv := &service{cancel: cancel, done: make(chan struct{})}
	s.of[dir] = sv
	s.files.use(dir)
	go s.serve(ctx, dir, sv)
	return sv
}

// serve runs the spool's replicator until ctx ends, and tries again when it fails.
func (s *services) serve(ctx context.Context, dir string, sv *service) {
	defer close(sv.done)
	defer s.files.leave(dir)
	told := ""
	for ctx.Err() == nil {
		err := s.replicateOnce(ctx, dir, sv)
		if err != nil && ctx.Err() == nil && err.Error() != told {
			s.log.Error("replication stopped; trying again", "spool", dir, "error", err)
			told = err.Error()
		}
		s.mu.Lock()
		sv.r, sv.err = nil, err
		s.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(retryInterval):
		}
	}
}

func (s *services) replicateOnce(ctx context.Context, dir string, sv *service) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.panics.add("replicate "+dir, p)
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	store, err := s.stores.forWriting()
	if err != nil {
		return err
	}
	sp, err := spool.Open(dir)
	if err != nil {
		return err
	}
	defer sp.Close()
	if err := sp.WriteSourceConfig(s.cfg.Source(sp.Path())); err != nil {
		return err
	}
	r, err := replicate.New(s.options(dir, sp, store))
	if err != nil {
		return err
	}
	s.mu.Lock()
	sv.path, sv.r, sv.err = sp.Path(), r, nil
	s.mu.Unlock()
	return r.Run(ctx)
}

func (s *services) options(
	dir string, sp *spool.Spool, store *chunkstore.Store,
) replicate.Options {
	path := sp.Path()
	return replicate.Options{
		Spool:            sp,
		Store:            store,
		Host:             s.cfg.Host(),
		Program:          Program,
		ManifestInterval: s.cfg.ManifestInterval,
		Concurrency:      s.cfg.UploadConcurrency,
		PatrolPeriod:     time.Duration(s.cfg.PatrolDays) * 24 * time.Hour,
		OpenSource:       func() (mirror.Source, error) { return s.files.openFile(dir, path) },
		Log:              s.log,
		Outages:          &s.outages,
		RootPermissions:  spool.RootMode(s.cfg.SpoolingDirPermissions),
	}
}

// replicator returns the running replicator of dir. If it has just been started, replicator waits
// for it until ctx ends.
func (s *services) replicator(ctx context.Context, dir string) (*replicate.Replicator, error) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		sv := s.of[dir]
		if sv == nil {
			s.mu.Unlock()
			return nil, ErrNotServed
		}
		r, err := sv.r, sv.err
		s.mu.Unlock()
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
