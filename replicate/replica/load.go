package replica

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"verneuil/chunkstore"
)

// begin brings to a new version what the loading policy wants at once.
func (s *snapshot) begin() error {
	n := s.f.all.options.Loading.first(s.m.Chunks())
	if n == 0 {
		return nil
	}
	group, ctx := errgroup.WithContext(s.f.all.ctx) // no deadline but each chunk's own
	group.SetLimit(aheadMax / chunkstore.PackMax)
	for from := 0; from < n && ctx.Err() == nil; from += chunkstore.PackMax {
		group.Go(func() (err error) {
			defer recoverTo(&err)
			return s.demandAll(ctx, from, min(from+chunkstore.PackMax, n))
		})
	}
	return group.Wait()
}

// demandAll is demand of the chunks from..to, which are fetched together if all goes well.
func (s *snapshot) demandAll(ctx context.Context, from, to int) error {
	chunks := make([]int, 0, to-from)
	for i := from; i < to; i++ {
		chunks = append(chunks, i)
	}
	within, cancel := context.WithTimeout(ctx, s.f.all.options.Deadline/demandTries)
	t := s.sources.newest()
	refs, err := t.refs(within, chunks)
	if err == nil {
		// What is missing then is asked for by itself.
		_ = (&batch{s, t.from, chunks, refs}).load(within)
	}
	cancel()
	for _, i := range chunks {
		if err := s.demand(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// demandTries is how often a chunk is asked for within the deadline when nobody answers: a
// request may hang that another one would not.
const demandTries = 3

// demand is load with retries, for a caller that needs the chunk: until it is
// there, the error is final, or the deadline has passed. If ctx ends before, it
// returns the cause of that.
func (s *snapshot) demand(ctx context.Context, i int) error {
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, s.f.all.options.Deadline)
	defer cancel()
	var last error
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		err := s.loadWithin(ctx, i, s.f.all.options.Deadline/demandTries)
		if err == nil {
			s.f.setError(nil)
			return nil
		}
		if caller.Err() != nil {
			return fmt.Errorf("%s: chunk %d: %w", s, i, context.Cause(caller))
		}
		if last == nil || !errors.Is(err,
			context.DeadlineExceeded) { // a deadline's own error says nothing of the cause
			last = err
		}
		if ctx.Err() == nil && !final(err) {
			select {
			case <-time.After(pause/2 + rand.N(pause)):
				continue
			case <-ctx.Done():
				if caller.Err() != nil {
					return fmt.Errorf("%s: chunk %d: %w", s, i, context.Cause(caller))
				}
			}
		}
		if errors.Is(last, context.DeadlineExceeded) {
			var names []string
			for _, t := range s.f.all.options.Store.Targets {
				names = append(names, t.Name)
			}
			last = fmt.Errorf("%w: no answer in %v from %s", last, s.f.all.options.Deadline,
				strings.Join(names, ", "))
		}
		if errors.Is(last, chunkstore.ErrAbsent) {
			last = fmt.Errorf(
				"%w: the version has expired; refresh the replica, or restore the chunk", last)
		}
		last = fmt.Errorf("%s: %w", s, last)
		s.f.setError(last)
		return last
	}
}

// loadWithin is load for so long.
func (s *snapshot) loadWithin(ctx context.Context, i int, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.load(ctx, i)
}

func (f *follower) setError(err error) {
	f.mu.Lock()
	f.lastError = err
	f.mu.Unlock()
}

// fetchObjects gets objects, which in has, in the order of refs.
func (f *follower) fetchObjects(
	in *chunkstore.Target, refs []chunkstore.Ref,
) (plain [][]byte, err error) {
	ctx, cancel := context.WithTimeout(f.all.ctx, f.all.options.Store.Options().Timeout)
	defer cancel()
	plain, err = f.all.options.Store.GetObjects(ctx, in, refs)
	for _, p := range plain {
		f.fetched.Add(int64(len(p)))
	}
	return plain, err
}
