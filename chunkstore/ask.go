package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// slowAfter: a target that has not answered in this time is not waited for alone.
	slowAfter = time.Second
	// suspectFor is how long a target that failed, or was slow, is asked last. Then
	// one request finds out whether it is well.
	suspectFor = 15 * time.Second
)

// answer is what one target says.
type answer[T any] struct {
	target *Target
	value  T
	err    error
}

// ask calls get, which gets about so many bytes, with all, until one answers or all have failed:
// the next one when one fails, or is slow. The first answer counts, and ErrUnmodified is one. What
// is still asked then is told to end. Targets that lately failed are asked last.
func ask[T any](ctx context.Context, s *Store, all []*Target, bytes int64,
	get func(context.Context, *Target) (T, error)) (T, *Target, error) {
	var none T
	if len(all) == 1 {
		t := all[0]
		v, err := get(ctx, t)
		if err != nil && !errors.Is(err, ErrUnmodified) {
			return none, nil, failures{fmt.Errorf("%s: %w", t.Name, err)}.err()
		}
		return v, t, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	targets := trusted(all)
	answers := make(chan answer[T], len(targets))
	slowAfter := travel(s.options.SlowAfter, bytes)
	slow := time.NewTimer(slowAfter)
	defer slow.Stop()
	var failed failures
	var asked []*Target // that have not answered
	begin := func() {
		t := targets[0]
		targets = targets[1:]
		asked = append(asked, t)
		slow.Reset(slowAfter)
		go func() {
			a := answer[T]{target: t}
			defer func() { answers <- a }()
			defer recovered(&a.err)
			a.value, a.err = get(ctx, t)
		}()
	}
	for {
		if len(asked) == 0 {
			if len(targets) == 0 || len(failed) > 0 && ctx.Err() != nil {
				return none, nil, failed.err()
			}
			begin()
		}
		select {
		case a := <-answers:
			asked = slices.DeleteFunc(asked, func(t *Target) bool { return t == a.target })
			if a.err == nil || errors.Is(a.err, ErrUnmodified) {
				a.target.failed.Store(0)
				return a.value, a.target, a.err
			}
			if ctx.Err() == nil && !errors.Is(a.err, ErrAbsent) {
				a.target.suspect()
			}
			failed.add(a.target, a.err)
		case <-slow.C:
			for _, t := range asked {
				t.suspect()
			}
			if len(targets) > 0 {
				begin()
			}
		}
	}
}

// suspect notes that t has failed.
func (t *Target) suspect() { t.failed.Store(time.Now().UnixNano()) }

// trusted returns targets with those last that failed within suspectFor. Of one that has done so
// after now, as the clock was set back, nothing is known.
func trusted(targets []*Target) []*Target {
	good := make([]*Target, 0, len(targets))
	var bad []*Target
	for _, t := range targets {
		if ago := time.Now().UnixNano() - t.failed.Load(); 0 <= ago && ago < int64(suspectFor) {
			bad = append(bad, t)
		} else {
			good = append(good, t)
		}
	}
	return append(good, bad...)
}
