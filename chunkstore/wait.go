package chunkstore

import (
	"errors"
	"fmt"
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

// waits watches the requests to one store, and tells once when it does not answer: not again before
// it has answered.
type waits struct {
	o Options

	mu     sync.Mutex
	silent time.Time // when the request was sent that was told of; zero: none was
	failed bool      // since then, a request has: somebody else tells of that
}

// wait is one request's. It is for one goroutine, but for its timer.
type wait struct {
	all     *waits
	bucket  fmt.Stringer
	request string
	began   time.Time // when it was sent first
	timeout time.Duration
	timer   *time.Timer
	pauses  bool // between attempts, and the timer is stopped
	mu      sync.Mutex
	err     error // of the last attempt
}

// begin is called when a request is sent; timeout is when it will be given up, 0: never.
func (w *waits) begin(bucket fmt.Stringer, request string, timeout time.Duration) *wait {
	one := &wait{all: w, bucket: bucket, request: request, began: time.Now(), timeout: timeout}
	one.timer = time.AfterFunc(w.o.silentAfter, one.tell)
	return one
}

// again is called when a request is sent again.
func (w *wait) again() {
	if w.pauses {
		w.pauses = false
		w.timer.Reset(w.all.o.silentAfter)
	}
}

// failed notes why an attempt has failed, of which there may be more. If that was not for want of an
// answer, the pause before the next one is not the store's silence.
func (w *wait) failed(err error) {
	if late := net.Error(nil); !errors.As(err, &late) || !late.Timeout() {
		w.pauses = true
		w.timer.Stop()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
}

// end is called when there is an answer, or no hope for one. A nil wait is none.
func (w *wait) end(answered bool) {
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
		w.all.o.Log.Warn("store answers again", "store", w.bucket.String(),
			"after", time.Since(silent).Round(time.Millisecond))
	}
}

// tell runs in a goroutine of its own, in which a panic would end the host: it does little.
func (w *wait) tell() {
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
	w.all.o.Log.Warn("store does not answer", args...)
}

// ErrNoAnswer: a store has not answered a request within [Options].Timeout.
var ErrNoAnswer = errors.New("no answer")

// noAnswerError is [ErrNoAnswer] with the time, and what the last attempt met.
type noAnswerError struct {
	timeout time.Duration
	last    error // of the last attempt that ended before
}

func (e *noAnswerError) Is(target error) bool { return target == ErrNoAnswer }

func (e *noAnswerError) Error() string {
	if e.last != nil {
		return fmt.Sprintf("no answer in %v: %v", e.timeout, e.last)
	}
	return fmt.Sprintf("no answer in %v", e.timeout)
}
