package vfs

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"verneuil/chunkstore"
)

// stores holds the store that the process replicates to, the one that its replicas read from, and
// those that databases live in. Each is opened at its first use. The first two have the same
// targets: so replicas do not spend the replicators' tokens. It is safe for concurrent use.
type stores struct {
	cfg    *Config
	cfgErr error
	log    *slog.Logger

	openingRead sync.Mutex                       // held while the next one is opened
	reading     atomic.Pointer[chunkstore.Store] // what forReading has returned

	// opening is held while the store is opened, and only replicators take it: a target may be a
	// directory on a disk that does not answer.
	opening      sync.Mutex
	openingNamed sync.Mutex // likewise, of named
	mu           sync.Mutex
	write        *chunkstore.Store
	writeErr     error
	named        map[string]*chunkstore.Store // those that databases live in, once they are opened
}

func newStores(cfg *Config, cfgErr error, log *slog.Logger) *stores {
	s := &stores{cfg: cfg, cfgErr: cfgErr, log: log}
	return s
}

// forReading returns the store of the replicas. It may wait for a disk. Where it fails, it tries
// again the next time: a key file may have come.
func (s *stores) forReading() (*chunkstore.Store, error) {
	if s.cfgErr != nil {
		return nil, s.cfgErr
	}
	s.openingRead.Lock()
	defer s.openingRead.Unlock()
	if store := s.reading.Load(); store != nil {
		return store, nil
	}
	store, err := s.cfg.OpenForegroundStore(context.Background(), s.log)
	if err == nil {
		s.reading.Store(store)
	}
	return store, err
}

// forWriting returns the store of the replicators, as forReading does that of the replicas.
func (s *stores) forWriting() (*chunkstore.Store, error) {
	if s.cfgErr != nil {
		return nil, s.cfgErr
	}
	s.opening.Lock()
	defer s.opening.Unlock()
	store, err := s.written()
	if store == nil {
		store, err = s.cfg.OpenStore(context.Background(), s.log)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.write, s.writeErr = store, err
	}
	return store, err
}

// ofName returns the store of that name.
func (s *stores) ofName(name string) (*chunkstore.Store, error) {
	if s.cfgErr != nil {
		return nil, s.cfgErr
	}
	s.openingNamed.Lock()
	defer s.openingNamed.Unlock()
	s.mu.Lock()
	store := s.named[name]
	s.mu.Unlock()
	if store != nil {
		return store, nil
	}
	store, err := s.cfg.OpenNamedStore(context.Background(), name, s.log)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.named == nil {
		s.named = make(map[string]*chunkstore.Store)
	}
	s.named[name] = store
	return store, nil
}

// written returns what forWriting has returned; nil and no error before its first call. It does not
// wait.
func (s *stores) written() (*chunkstore.Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.write, s.writeErr
}

// calls returns how many requests were sent so far.
func (s *stores) calls() (n int64) {
	if store, _ := s.written(); store != nil {
		n += store.Calls()
	}
	if store := s.reading.Load(); store != nil {
		n += store.Calls()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, store := range s.named {
		n += store.Calls()
	}
	return n
}
