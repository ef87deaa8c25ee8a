package replicate

import (
	"errors"
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
	// proveEvery is how often a spool is proved to be there, and its lock to be ours, while its
	// replicator sleeps: some system calls for each.
	proveEvery = 10 * time.Second
	// refreshEvery is how often the times of a spool's files are made new. Cleaners of /tmp take what
	// is a day old, or ten.
	refreshEvery = 6 * time.Hour
)

// watch has the sessions that sleep.
var watch = struct {
	sync.Mutex
	sleeping map[*session]asleep
	proved   time.Time
	started  bool
}{sleeping: make(map[*session]asleep)}

// asleep is what a session knew when it went to sleep.
type asleep struct {
	seen      seen
	wake      *spool.Wake
	refreshed time.Time
}

// seen is what tells that there is something to do.
type seen struct{ generation, sequence, drawn uint64 }

// sleep has s looked after until the function that it returns is called.
func (s *session) sleep(generation, sequence uint64) (wake func()) {
	watch.Lock()
	defer watch.Unlock()
	watch.sleeping[s] = asleep{seen{generation, sequence, s.st.FlushDrawn.Load()}, s.wake, s.refreshed}
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
		delete(watch.sleeping, s)
	}
}

// lookAround wakes the sessions for which there is something to do.
func lookAround() error {
	watch.Lock()
	defer watch.Unlock()
	for s, known := range watch.sleeping {
		now := seen{s.st.Generation.Load(), s.st.Sequence.Load(), s.st.FlushDrawn.Load()}
		if now != known.seen || s.st.Lost() || time.Since(known.refreshed) >= refreshEvery {
			s.kickOnce()
		}
	}
	if time.Since(watch.proved) < proveEvery {
		return nil
	}
	watch.proved = time.Now()
	all := maps.Clone(watch.sleeping)
	go errands.Guarded(func() error { // no lock is held over system calls
		for s, known := range all {
			if !s.complete(known.wake) {
				s.kickOnce()
			}
		}
		return nil
	})()
	return nil
}

// complete reports whether the spool has what others may have removed from it, and is ours. Any
// goroutine may ask.
func (s *session) complete(wake *spool.Wake) bool {
	return s.prove() == nil && (wake == nil || wake.Current()) && s.sp.Complete()
}

// prove fails with errLost or [spool.ErrTaken] if the spool is not there any more, or not ours: then
// nothing must be published, here or in a target. Any goroutine may ask.
func (s *session) prove() error {
	if !s.sp.Current() {
		return errLost
	}
	return s.lock.Held()
}

// keep makes anew what others have removed from the spool, when it was not looked for lately.
func (s *session) keep() {
	now := s.now()
	if now.Sub(s.kept) < proveEvery && !now.Before(s.kept) {
		return
	}
	s.kept = now
	if !s.complete(s.wake) {
		s.restore()
	}
	if now.Sub(s.refreshed) >= refreshEvery || now.Before(s.refreshed) {
		s.refreshed = now
		s.lock.Refresh()
		s.mirror.Refresh()
	}
}

// restore makes anew what is missing.
func (s *session) restore() {
	if s.wake == nil || !s.wake.Current() {
		s.listen()
	}
	err := errors.Join(s.sp.KeepBoot(), s.cutter.Restore())
	if s.r.source != nil {
		err = errors.Join(err, s.sp.WriteSourceConfig(*s.r.source))
	}
	if err != nil {
		s.log().Warn("a file of the spool is missing, and cannot be made anew", "error", err)
	}
}
