package replica

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"verneuil/chunkstore"
)

// begin brings to a new version what it shares with prev (which may be nil), and
// what the loading policy wants at once.
func (s *snapshot) begin(ctx context.Context, prev *snapshot) error {
	if prev != nil {
		if err := s.carry(ctx, prev); err != nil {
			return err
		}
	}
	n := s.f.all.options.Loading.first(s.m.Chunks())
	if n == 0 {
		return nil
	}
	group, ctx := errgroup.WithContext(s.f.all.ctx) // no deadline but each chunk's own
	group.SetLimit(aheadMax)
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() (err error) {
			defer recoverTo(&err)
			return s.demand(ctx, i)
		})
	}
	return group.Wait()
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

// prefetch loads chunks from..to in the background, as far as there is room, and
// returns where it stopped.
func (s *snapshot) prefetch(from, to int) int {
	for i := from; i < to; i++ {
		if s.table.expect(i) && !s.loadAhead(i, nil) {
			s.table.forget(i)
			return i // reads that need it will ask
		}
	}
	return to
}

// loadAhead loads chunk i in the background, which may be expected, and then calls then, if that is
// not nil. It returns false if enough of that is under way.
func (s *snapshot) loadAhead(i int, then func()) bool {
	if !s.f.all.enterAhead() {
		return false
	}
	s.retain()
	go func() {
		defer s.f.all.leaveAhead()
		defer s.release()
		defer s.table.forget(i)
		ctx, cancel := context.WithTimeout(s.f.all.ctx, s.f.all.options.Store.Options().Timeout)
		defer cancel()
		var err error
		defer recoverTo(&err)
		err = s.load(ctx, i) // nobody's error: whoever needs the chunk will meet it
		if then != nil {
			then()
		}
	}()
	return true
}

// prefetchPages loads the chunks of the first n of pages that are not there, in the
// background, as far as there is room.
func (r *Reader) prefetchPages(pages []uint32, n int) {
	asked := map[int]bool{}
	for _, page := range pages {
		if n <= 0 || page == 0 {
			return
		}
		i := r.s.chunkOf(page)
		if i >= len(r.s.table.entries) {
			return
		}
		if asked[i] || r.s.table.here(i) {
			continue
		}
		if !r.guess(r.s, i, nil) {
			return
		}
		asked[i] = true
		n--
	}
}

// replace loads in the background what prev had loaded and s has otherwise: it is
// likely to be read again. The bound is what may be under way at a time.
func (s *snapshot) replace(prev *snapshot) {
	for i := range min(len(s.table.entries), len(prev.table.entries)) {
		if prev.table.here(i) && !s.table.here(i) && !s.loadAhead(i, nil) {
			return
		}
	}
}

// fetchObject gets a chunk, for as many as wait for it.
func (f *follower) fetchObject(id chunkstore.ID) ([]byte, error) {
	ctx, cancel := context.WithTimeout(f.all.ctx, f.all.options.Store.Options().Timeout)
	defer cancel()
	plain, err := f.all.options.Store.GetChunkAlone(ctx, id)
	f.fetched.Add(int64(len(plain)))
	return plain, err
}

// fetchTree is the manifest.Fetch for leaves and nodes, which versions share by ID.
func (f *follower) fetchTree(ctx context.Context, id chunkstore.ID) ([]byte, error) {
	if plain := f.leaves.get(id); plain != nil {
		return plain, nil
	}
	shared := f.leaves.fetches.DoChan(string(id[:]), func() (v any, err error) {
		defer recoverTo(&err)
		ctx, cancel := context.WithTimeout(f.all.ctx, f.all.options.Store.Options().Timeout)
		defer cancel()
		plain, err := f.all.options.Store.GetChunk(ctx, id)
		if err == nil {
			f.fetched.Add(int64(len(plain)))
			f.leaves.put(id, plain)
		}
		return plain, err
	})
	select {
	case r := <-shared:
		plain, _ := r.Val.([]byte)
		return plain, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// leavesAhead bounds how many leaves are fetched before they are asked for: 512 KiB.
const leavesAhead = 32

// fetchTree is the follower's. With the third leaf all others are fetched, if there are few:
// a query that reads here and there would have them one after the other. (A point lookup needs
// two.)
func (s *snapshot) fetchTree(ctx context.Context, id chunkstore.ID) ([]byte, error) {
	if s.f.leaves.get(id) == nil && s.leaves.Add(1) == 3 && s.m.Levels == 1 &&
		len(s.m.Top) <= leavesAhead {
		for _, other := range s.m.Top {
			if other != id && s.f.leaves.get(other) == nil && s.f.all.enterAhead() {
				go func() {
					defer s.f.all.leaveAhead()
					var err error
					defer recoverTo(&err)
					_, err = s.f.fetchTree(s.f.all.ctx, other) // nobody's error
				}()
			}
		}
	}
	return s.f.fetchTree(ctx, id)
}

// leafCache keeps leaves and nodes, which outlive versions. Its zero value is empty.
type leafCache struct {
	fetches singleflight.Group // by ID

	mu    sync.Mutex
	plain map[chunkstore.ID][]byte
}

// leavesMax bounds a leafCache: 8 MiB, the leaves of 16 GiB. Trees hold their own.
const leavesMax = 512

func (c *leafCache) get(id chunkstore.ID) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.plain[id]
}

func (c *leafCache) put(id chunkstore.ID, plain []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.plain == nil {
		c.plain = map[chunkstore.ID][]byte{}
	}
	for old := range c.plain {
		if len(c.plain) < leavesMax {
			break
		}
		delete(c.plain, old)
	}
	c.plain[id] = plain
}
