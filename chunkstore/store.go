package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

const concurrencyDefault = 8

// Options of a [Store]; the zero value is what the configuration's defaults say.
type Options struct {
	CallsPerSecond float64      // of all targets together; 0: 30; below 0: no limit
	Background     bool         // CallsPerSecond is not for what somebody waits for: [Awaited]
	Burst          int          // calls that a pause saves up; 0: one second's, at most 100
	Concurrency    int          // slots of each target, and connections kept per s3 endpoint; 0: 8
	Log            *slog.Logger // nil: silent
	Sealer         Sealer       // of what targets and caches hold; nil: [Plain]

	// Timeout is how long a store may take to answer one request, retries included, but not the
	// wait for the limiter; 0: 30 s. One that moves more than 64 KiB has as much again for each MiB
	// more, also before it is called silent, or slow. Directories are only watched, but for the
	// wait for another process' lock: a call to the kernel ends when the file system likes. Of a
	// request that has no answer for two seconds Log is told, at level warn, and when the store
	// answers again.
	Timeout time.Duration

	SilentAfter time.Duration // after which Log is told of a request without an answer; 0: 2 s
	SlowAfter   time.Duration // after which the next target is asked, too; 0: 1 s
}

// WithDefaults returns o with what its zero values stand for.
func (o Options) WithDefaults() Options {
	if o.Concurrency <= 0 {
		o.Concurrency = concurrencyDefault
	}
	if o.Timeout <= 0 {
		o.Timeout = timeoutDefault
	}
	if o.SlowAfter <= 0 {
		o.SlowAfter = slowAfter
	}
	if o.SilentAfter <= 0 {
		o.SilentAfter = silentAfter
	}
	if o.Sealer == nil {
		o.Sealer = Plain{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Store is the list of targets and caches of one configuration. It is safe for
// concurrent use.
type Store struct {
	// Targets are the s3 and dir entries, in the order of the list. Do not change it.
	Targets []*Target

	caches  []Cache // those that are filled, then the others, in the order of the list
	limit   *Limiter
	options Options
}

// Open is [OpenEntries] of a configuration's replication_targets.
func Open(ctx context.Context, cfgs []TargetConfig, o Options) (*Store, error) {
	return OpenEntries(ctx, Entries("replication_targets", cfgs), o)
}

// OpenEntries checks entries, and makes what they describe. It sends no request, reads no
// credentials and makes no directory: that happens at the first use. Without
// targets a Store is of little use, but legal.
func OpenEntries(_ context.Context, entries []Entry, o Options) (*Store, error) {
	o = o.WithDefaults()
	if err := ValidateEntries(entries); err != nil {
		return nil, err
	}
	s := &Store{limit: NewLimiter(o.CallsPerSecond, o.Burst), options: o}
	if o.Background {
		s.limit.ForBackground()
	}
	var readers []Cache
	for _, e := range entries {
		err := errors.New("neither a target nor a cache")
		switch c := e.Config.(type) {
		case TargetOpener:
			var target *Target
			if target, err = c.Open(s.limit, o); err == nil {
				s.Targets = append(s.Targets, target)
			}
		case CacheOpener:
			var cache Cache
			cache, err = c.Open(o)
			if _, filled := cache.(FilledCache); filled {
				s.caches = append(s.caches, cache)
			} else {
				readers = append(readers, cache)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s.%s.%w", e.At, e.Config.Kind(), err)
		}
	}
	for _, t := range s.Targets {
		t.Bound(o.Concurrency)
		t.Sealer = o.Sealer
	}
	s.caches = append(s.caches, readers...)
	return s, nil
}

// NewStore makes a Store of targets that the caller has made, without caches. All have one Sealer.
func NewStore(targets ...*Target) *Store {
	o := Options{}
	if len(targets) > 0 {
		o.Sealer = targets[0].Sealer
	}
	o = o.WithDefaults()
	return &Store{Targets: targets, options: o}
}

// Options returns what the store was opened with, and defaults; those of a nil Store are all
// defaults.
func (s *Store) Options() Options {
	if s == nil {
		return Options{}.WithDefaults()
	}
	return s.options
}

// Sealer returns what makes, and opens, what the store's targets and caches hold; that of a nil
// Store is the default.
func (s *Store) Sealer() Sealer { return s.Options().Sealer }

// Calls returns how many requests were sent so far, retries counted.
func (s *Store) Calls() int64 {
	if s.limit == nil {
		return 0
	}
	return s.limit.calls.Load()
}

// Close lets go of idle connections. Nothing may be in flight.
func (s *Store) Close() error {
	return nil
}

// filled returns the cache that s fills, the first of its kind; nil: there is none.
func (s *Store) filled() FilledCache {
	if len(s.caches) == 0 {
		return nil
	}
	filled, _ := s.caches[0].(FilledCache)
	return filled
}

// Fill puts what p has into the cache that s fills, if there is one: for who has put it to a
// target, and will read it.
func (s *Store) Fill(p *Pack) {
	if filled := s.filled(); filled != nil {
		p.each(filled.Put)
	}
}

// FromAny returns what get returns of the first target of s that has it, and that target: of first,
// if that is not nil, else in their order. The next one is asked when one fails, or is slow; those
// that lately failed are asked last. get may be called for several at once, whose context ends when
// one has answered. It fails with ErrUnmodified if the first target that answers says so, and with
// ErrAbsent only if all say so.
func FromAny[T any](ctx context.Context, s *Store, first *Target,
	get func(context.Context, *Target) (T, error)) (T, *Target, error) {
	targets := slices.Clone(s.Targets)
	if i := slices.Index(targets, first); i > 0 {
		targets = slices.Insert(slices.Delete(targets, i, i+1), 0, first)
	}
	return ask(ctx, s, targets, 0, get)
}

// GetManifest returns the object called key of the first target that has it as check
// wants it (see [Target.GetManifest]), and that target: its ETag means nothing to the
// others. opts apply to each. It fails with ErrUnmodified if the first target that
// answers says so, and with ErrAbsent only if all say so.
func (s *Store) GetManifest(ctx context.Context, key string, opts GetOptions,
	check func(body []byte) error) (Object, *Target, error) {
	o, t, err := ask(ctx, s, s.Targets, 0, func(ctx context.Context, t *Target) (Object, error) {
		return t.GetManifest(ctx, key, opts, check)
	})
	if errors.Is(err, ErrUnmodified) {
		return Object{}, t, err
	} else if err != nil {
		return Object{}, nil, fmt.Errorf("get manifest: %w", err)
	}
	return o, t, nil
}
