package chunkstore

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	callsPerSecondDefault = 30
	// burstMax bounds what a pause in traffic saves up.
	burstMax = 100
)

// Limiter paces and counts the requests of all targets of a [Store] (I4). It is safe for concurrent
// use. A nil Limiter lets everything pass.
type Limiter struct {
	tokens *rate.Limiter
	calls  *atomic.Int64

	background bool // the rate is not that of what is Awaited
}

// NewLimiter returns one of a store of its own: see [Options] for its arguments.
func NewLimiter(callsPerSecond float64, burst int) *Limiter {
	if callsPerSecond < 0 {
		return &Limiter{tokens: rate.NewLimiter(rate.Inf, 0), calls: new(atomic.Int64)}
	}
	if callsPerSecond == 0 {
		callsPerSecond = callsPerSecondDefault
	}
	if burst <= 0 {
		burst = int(min(max(1, callsPerSecond), burstMax))
	}
	return &Limiter{
		tokens: rate.NewLimiter(rate.Limit(callsPerSecond), burst), calls: new(atomic.Int64),
	}
}

// Unpaced returns a limiter that counts with l, and lets everything pass: for a provider whose
// calls nobody bills for.
func (l *Limiter) Unpaced() *Limiter {
	return &Limiter{tokens: rate.NewLimiter(rate.Inf, 0), calls: l.calls}
}

// ForBackground returns l, which does not pace from now on what is [Awaited].
func (l *Limiter) ForBackground() *Limiter {
	l.background = true
	return l
}

type patientKey struct{}

// Patient returns ctx for requests that can wait: each is sent only when those of
// others leave the half of a burst unused. Where others use up the whole rate, they
// are never sent.
func Patient(ctx context.Context) context.Context {
	return context.WithValue(ctx, patientKey{}, true)
}

// IsPatient reports whether requests with ctx can wait.
func IsPatient(ctx context.Context) bool { return ctx.Value(patientKey{}) != nil }

type awaitedKey struct{}

// Awaited returns ctx for requests that an application waits for, by a commit that is to be
// durable. With a limiter [Limiter.ForBackground] they take a token if there is one, and do not
// wait for it.
func Awaited(ctx context.Context) context.Context {
	return context.WithValue(ctx, awaitedKey{}, true)
}

// waitForLull returns when half of a burst is saved up. It holds no token meanwhile,
// so that whoever comes need not wait for it.
func (l *Limiter) waitForLull(ctx context.Context) error {
	saved := float64(max(1, l.tokens.Burst()/2))
	for l.tokens.Limit() != rate.Inf {
		lack := saved - l.tokens.Tokens()
		if lack <= 0 {
			break
		}
		seconds := lack / float64(l.tokens.Limit())
		pause := time.Duration(math.Ceil(seconds * float64(time.Second)))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	return ctx.Err()
}

// Take waits for a token, and counts the request that it is for. It fails only
// if ctx ends, or would end, first.
func (l *Limiter) Take(ctx context.Context) error {
	if l == nil {
		return ctx.Err()
	}
	err := ctx.Err()
	if IsPatient(ctx) {
		err = l.waitForLull(ctx)
	}
	switch {
	case err != nil:
	case l.background && ctx.Value(awaitedKey{}) != nil:
		l.tokens.Allow()
	default:
		err = l.tokens.Wait(ctx)
	}
	if err != nil {
		return fmt.Errorf("wait for the limit of calls: %w", err)
	}
	l.calls.Add(1)
	return nil
}
