package replicate

import (
	"maps"
	"sync"
	"time"

	"verneuil/replicate/errands"
	"verneuil/spool"
)

// A replicator that sleeps is woken by recorders. What they do may be in vain: one is killed
// before it has done it, the FIFO was removed, or cannot be opened. So no sleep is believed in:
// one goroutine for all replicators of the process looks at what the recorders have published,
// which is a few words of mapped memory for each.
const (
	// lookEvery is after which time a commit is found whose wake was lost. A thousand databases
	// that do nothing cost some 0.1 ms of a processor each time.
	lookEvery = time.Second
)

// watch has the loops that sleep.
var watch = struct {
	sync.Mutex
	sleeping map[*loop]asleep
	proved   time.Time
	started  bool
}{sleeping: make(map[*loop]asleep)}

// asleep is what a loop knew when it went to sleep.
type asleep struct {
	published spool.Point
	drawn     uint64 // ticket
	wake      *spool.Wake
	refreshed time.Time
}

// sleep has l looked after until the function that it returns is called.
func sleep(l *loop, published spool.Point) (wake func()) {
	watch.Lock()
	defer watch.Unlock()
	watch.sleeping[l] = asleep{published, l.st.FlushDrawn.Load(), l.bell.wake, l.tenure.refreshed}
	if !watch.started {
		watch.started, watch.proved = true, time.Now()
		go func() {
			for range time.Tick(lookEvery) {
				_ = errands.Guarded(lookAround)()
			}
		}()
	}
	return func() {
		watch.Lock()
		defer watch.Unlock()
		delete(watch.sleeping, l)
	}
}

// lookAround wakes the loops for which there is something to do.
func lookAround() error {
	watch.Lock()
	defer watch.Unlock()
	for l, known := range watch.sleeping {
		changed := l.published() != known.published || l.st.FlushDrawn.Load() != known.drawn
		if changed || l.st.Lost() || time.Since(known.refreshed) >= refreshEvery {
			l.bell.ring()
		}
	}
	if time.Since(watch.proved) < proveEvery {
		return nil
	}
	watch.proved = time.Now()
	all := maps.Clone(watch.sleeping)
	go errands.Guarded(func() error { // no lock is held over system calls
		for l, known := range all {
			if !l.tenure.complete(known.wake) {
				l.bell.ring()
			}
		}
		return nil
	})()
	return nil
}
