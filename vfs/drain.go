package vfs

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// drain sends what a closed database has left, at its pace, and stops its replicator. It also sends
// what connections that came and went meanwhile have written, and what other processes leave to
// this one. If the database was deleted, it sends what the spool has, if that is of use without the
// file; otherwise it gives up, or the replicators of a program that makes and deletes databases
// would stay for good. One goroutine runs it for each service that drains.
func (s *services) drain(dir string, sv *service) {
	defer s.panics.caught("drain " + dir)
	for {
		s.mu.Lock()
		closes := sv.closes
		s.mu.Unlock()
		r, err := s.replicator(context.Background(), dir)
		ended := false
		if err == nil {
			err = r.Drain(context.Background())
			ended = err == nil && r.Retire()
		}
		ended = ended || errors.Is(err, fs.ErrNotExist) && s.deleted(sv)
		state := s.drained(dir, sv, ended, closes)
		if state == gone {
			sv.cancel()
			return
		}
		if r != nil {
			r.Stay()
		}
		if state == serving {
			return
		}
		if err != nil {
			<-time.After(retryInterval)
		}
	}
}

// drained takes the result of one round of drain, and returns the state that follows from it.
// ended says that all was sent; closes is how often the database had been closed before.
func (s *services) drained(dir string, sv *service, ended bool, closes int) serviceState {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case sv.opens > 0:
		sv.state = serving
	case ended && sv.closes == closes:
		sv.state = gone
		delete(s.of, dir)
	}
	return sv.state
}

// deleted reports whether it is known that the service's database is deleted.
func (s *services) deleted(sv *service) bool {
	s.mu.Lock()
	path := sv.path
	s.mu.Unlock()
	return path != "" && deleted(path)
}

// deleted reports whether there is no file at path.
func deleted(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// exit sends what the process has not sent, until ctx ends, and logs what is left.
func (s *services) exit(ctx context.Context) {
	s.mu.Lock()
	var dirs []string
	for dir := range s.of {
		dirs = append(dirs, dir)
	}
	s.mu.Unlock()
	var wg sync.WaitGroup
	var unsent unsent
	for _, dir := range dirs {
		wg.Go(func() {
			defer s.panics.caught("exit")
			if err := s.leave(ctx, dir); err != nil {
				unsent.add(dir, err)
			}
		})
	}
	wg.Wait()
	unsent.tell(s.log)
}

// leave sends what the process has not sent of the database of the spool dir.
func (s *services) leave(ctx context.Context, dir string) error {
	r, err := s.replicator(ctx, dir)
	if err == nil {
		if r.ServedElsewhere() {
			return nil
		}
		err = r.Leave(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[dir] == nil {
		return nil // it was drained meanwhile
	}
	return err
}

// unsent is the list of spools that a process leaves with data in them.
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

// tell logs them in one line: a process may have thousands.
func (u *unsent) tell(log *slog.Logger) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.dirs) == 0 {
		return
	}
	slices.Sort(u.dirs)
	log.Warn("process ends with unsent data; verneuilctl flush sends it, "+
		"and so does the next process that opens the database",
		"spool", u.dirs[0], "spools", len(u.dirs), "error", u.error)
}
