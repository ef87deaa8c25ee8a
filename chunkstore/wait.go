package chunkstore

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

const (
	// timeoutDefault is how long a store may take to answer a request, all attempts included: an
	// object of 64 KiB at 20 kbit/s.
	timeoutDefault = 30 * time.Second
	// silentAfter: of an attempt that has no answer for so long somebody is told.
	silentAfter = 2 * time.Second
)

// travel is how long what takes d for 64 KiB, or less, may take for n bytes: as much again for each
// MiB more. So eight packs at once, as they compress, need not be given up at 700 kbit/s.
func travel(d time.Duration, n int64) time.Duration {
	return d + d/16*time.Duration(max(0, n-ChunkBytes)/ChunkBytes)
}

// Watch watches the requests to one store, and tells the log once when it does not answer: not
// again before it has answered. It is for the provider of that store, and safe for concurrent use.
type Watch struct {
	log         *slog.Logger
	silentAfter time.Duration

	telling sync.Mutex // taken before mu: what is told first is logged first
	mu      sync.Mutex
	silent  time.Time // when the request was sent that was told of; zero: none was
	failed  bool      // since then, a request has: somebody else tells of that
}

// NewWatch returns the watch over a store, which tells o.Log. slowness is how many times as long as
// others the store may take before it is called silent.
func NewWatch(o Options, slowness int) *Watch {
	o = o.WithDefaults()
	return &Watch{log: o.Log, silentAfter: time.Duration(slowness) * o.SilentAfter}
}

// Request is one request that a [Watch] watches. It is for one goroutine, but for its timer.
type Request struct {
	all     *Watch
	bucket  fmt.Stringer
	request string
	began   time.Time // when it was sent first
	timeout time.Duration
	timer   *time.Timer // of silentAfter

	silentAfter time.Duration

	pauses bool // between attempts, and the timer is stopped
	mu     sync.Mutex
	err    error // of the last attempt
}

// Begin is called when a request is sent to bucket, whose body or answer is about so many bytes, 0:
// few. timeout is when one of few bytes will be given up, 0: never ([Options].Timeout).
func (w *Watch) Begin(bucket fmt.Stringer, request string, timeout time.Duration,
	bytes int64) *Request {
	one := &Request{all: w, bucket: bucket, request: request, began: time.Now(),
		timeout: travel(timeout, bytes), silentAfter: travel(w.silentAfter, bytes)}
	one.timer = time.AfterFunc(one.silentAfter, one.tell)
	return one
}

// Again is called when a request is sent again.
func (w *Request) Again() {
	if w.pauses {
		w.pauses = false
		w.timer.Reset(w.silentAfter)
	}
}

// Failed notes why an attempt has failed, of which there may be more. If that was not for want of
// an answer, the pause before the next one is not the store's silence.
func (w *Request) Failed(err error) {
	if late := net.Error(nil); !errors.As(err, &late) || !late.Timeout() {
		w.pauses = true
		w.timer.Stop()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
}

// End is called when there is an answer, or no hope for one. A nil Request was never sent.
func (w *Request) End(answered bool) {
	if w == nil {
		return
	}
	w.timer.Stop()
	w.all.mu.Lock()
	silent, failed := w.all.silent, w.all.failed
	w.all.failed = !answered
	if answered {
		w.all.silent = time.Time{}
	}
	w.all.mu.Unlock()
	if answered && !silent.IsZero() && !failed {
		w.all.telling.Lock()
		defer w.all.telling.Unlock()
		w.all.log.Warn("store answers again", "store", w.bucket.String(),
			"after", time.Since(silent).Round(time.Millisecond))
	}
}

// NoAnswer is the error of a request that was given up: it is [ErrNoAnswer], and says how much time
// the request had, and what its last attempt met.
func (w *Request) NoAnswer() error { return &NoAnswerError{w.timeout, w.err} }

// Left returns how much of its time a request has left, of which the time held does not count: what
// it has waited for our own limiter.
func (w *Request) Left(held time.Duration) time.Duration {
	return w.timeout - (time.Since(w.began) - held)
}

// tell runs in a goroutine of its own, in which a panic would end the host: it does little.
func (w *Request) tell() {
	w.all.telling.Lock()
	defer w.all.telling.Unlock()
	w.all.mu.Lock()
	told := !w.all.silent.IsZero()
	if !told {
		w.all.silent = w.began
	}
	w.all.mu.Unlock()
	if told {
		return
	}
	args := []any{"store", w.bucket.String(), "request", w.request,
		"for", time.Since(w.began).Round(100 * time.Millisecond)}
	if w.timeout > 0 {
		args = append(args, "given_up_after", w.timeout)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		args = append(args, "error", w.err)
	}
	w.all.log.Warn("store does not answer", args...)
}

// ErrNoAnswer: a store has not answered a request within [Options].Timeout.
var ErrNoAnswer = errors.New("no answer")

// NoAnswerError is [ErrNoAnswer] with the time, and what the last attempt met.
type NoAnswerError struct {
	Timeout time.Duration
	Last    error // of the last attempt that ended before; nil: none did
}

// Is says that it is [ErrNoAnswer].
func (e *NoAnswerError) Is(target error) bool { return target == ErrNoAnswer }

func (e *NoAnswerError) Error() string {
	if e.Last != nil {
		return fmt.Sprintf("no answer in %v: %v", e.Timeout, e.Last)
	}
	return fmt.Sprintf("no answer in %v", e.Timeout)
}
