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
		go askOne(ctx, t, get, answers)
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

// askOne tells answers what get returns of t.
func askOne[T any](ctx context.Context, t *Target, get func(context.Context, *Target) (T, error),
	answers chan<- answer[T]) {
	a := answer[T]{target: t}
	defer func() { answers <- a }()
	defer recovered(&a.err)
	a.value, a.err = get(ctx, t)
}

// FromBest returns what get returns of the target that has the best of it, and that target; of
// equal ones, the first in their order. All are asked at once, but those that lately failed only if
// no other has it. Nobody waits for one that is slow if another one has answered: its context ends.
// Errors are those of FromAny; ErrUnmodified is one like others.
func FromBest[T any](ctx context.Context, s *Store,
	get func(context.Context, *Target) (T, error), better func(a, b T) bool,
) (T, *Target, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var best answer[T]
	var failed failures
	before := func(a, b *Target) bool {
		return slices.Index(s.Targets, a) < slices.Index(s.Targets, b)
	}
	good, bad := trust(s.Targets)
	for _, asked := range [][]*Target{good, bad} {
		answers := make(chan answer[T], len(asked))
		for _, t := range asked {
			go askOne(ctx, t, get, answers)
		}
		slow, late := time.NewTimer(s.options.SlowAfter), false
		asked = slices.Clone(asked)
		for len(asked) > 0 && !(late && best.target != nil) {
			select {
			case a := <-answers:
				asked = slices.DeleteFunc(asked, func(t *Target) bool { return t == a.target })
				switch {
				case a.err == nil:
					a.target.failed.Store(0)
					if best.target == nil || better(a.value, best.value) ||
						before(a.target, best.target) && !better(best.value, a.value) {
						best = a
					}
					continue
				case ctx.Err() == nil && !errors.Is(a.err, ErrAbsent):
					a.target.suspect()
				}
				failed.add(a.target, a.err)
			case <-slow.C:
				late = true
				for _, t := range asked {
					t.suspect()
				}
			}
		}
		slow.Stop()
		if best.target != nil {
			return best.value, best.target, nil
		}
	}
	var none T
	return none, nil, failed.err()
}

// suspect notes that t has failed.
func (t *Target) suspect() { t.failed.Store(time.Now().UnixNano()) }

// trusted returns targets with those last that failed within suspectFor.
func trusted(targets []*Target) []*Target {
	good, bad := trust(targets)
	return append(good, bad...)
}

// trust returns those of targets that failed within suspectFor as bad, and the others as good. Of
// one that has done so after now, as the clock was set back, nothing is known.
func trust(targets []*Target) (good, bad []*Target) {
	for _, t := range targets {
		if ago := time.Now().UnixNano() - t.failed.Load(); 0 <= ago && ago < int64(suspectFor) {
			bad = append(bad, t)
		} else {
			good = append(good, t)
		}
	}
	return good, bad
}
