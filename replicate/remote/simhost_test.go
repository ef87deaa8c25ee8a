package remote

import (
	"fmt"
	"os"
	"sync"
	"time"
)

// host is a machine: a directory, and a clock.
type host struct {
	w      *world
	id     int
	dir    string
	offset time.Duration
	rate   float64

	mu    sync.Mutex
	stood time.Duration // so long its clock has stood still
	still time.Duration // since then it does; 0: it goes on
}

func (w *world) newHost() *host {
	h := &host{w: w, id: w.machines, dir: fmt.Sprintf("%s/%d", w.dir, w.machines), rate: 1,
		offset: time.Duration(1 + w.rng.Int64N(int64(1000*time.Hour)))}
	w.machines++
	if w.drift {
		h.rate = 0.8 + 0.45*w.rng.Float64()
	}
	if err := os.Mkdir(h.dir, 0o700); err != nil {
		panic(err)
	}
	return h
}

// now is CLOCK_BOOTTIME of the machine.
func (h *host) now() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.w.now()
	if h.still > 0 {
		now = h.still
	}
	return h.offset + time.Duration(float64(now-h.stood)*h.rate)
}

// pause has h's clock stand still for d, as that of a virtual machine may, unless it does already.
func (h *host) pause(d time.Duration) {
	h.w.trace("pause machine %d for %v", h.id, d)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.still > 0 {
		return
	}
	h.still = h.w.now()
	h.w.later(d, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.stood += h.w.now() - h.still
		h.still = 0
	})
}
