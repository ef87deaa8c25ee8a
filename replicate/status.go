package replicate

import (
	"sync/atomic"
	"time"

	"verneuil/spool"
)

// Status tells people and programs how replication stands.
type Status struct {
	Path       string         `json:"path"`
	Host       string         `json:"host"`
	Spool      string         `json:"spool"`
	State      string         `json:"state"`             // in words
	Error      string         `json:"error,omitempty"`   // why the mirror is not up to date
	Replicator int            `json:"replicator"`        // the process that replicates, 0 none
	Generation uint64         `json:"generation"`        // of the database
	Cause      string         `json:"cause"`             // of its last raise
	Sequence   uint64         `json:"sequence"`          // last transaction published
	Pushed     uint64         `json:"pushed_sequence"`   // that every target has
	UpToDate   bool           `json:"up_to_date"`        // every target has everything
	LagSeconds float64        `json:"lag_seconds"`       // age of the oldest transaction that a target lacks, at most
	Dropped    uint64         `json:"dropped"`           // transactions that the log had no room for
	SpoolBytes int64          `json:"spool_bytes"`       // log and mirror
	Calls      int64          `json:"calls"`             // of the store, all databases
	Targets    []TargetStatus `json:"targets,omitempty"` // only where we replicate
}

// TargetStatus is one target's part of a [Status].
type TargetStatus struct {
	Name     string    `json:"name"`
	Sequence uint64    `json:"sequence"`          // last transaction that it has
	Manifest time.Time `json:"manifest,omitzero"` // when it took one last; zero: not yet
	Backlog  int       `json:"backlog_chunks"`
	Calls    int64     `json:"calls"` // by this replicator
	Busy     bool      `json:"busy"`
	Stopped  bool      `json:"stopped"` // another writer uses our name
	Error    string    `json:"error,omitempty"`
	// Unguarded: the store does not keep the conditions of writes, so that a second writer under
	// our name may not be noticed.
	Unguarded bool `json:"unguarded,omitempty"`

	Patrolled   time.Time `json:"patrolled,omitzero"` // each object was touched, or put, in the round that ended then; zero: none has ended yet
	Healed      int       `json:"healed"`             // objects that were gone, and were put again
	PatrolError string    `json:"patrol_error,omitempty"`
}

// Status returns how replication stands. It never waits for the replicator.
func (r *Replicator) Status() Status {
	r.mu.Lock()
	status, sp := r.status, r.spool
	status.Targets = append([]TargetStatus(nil), r.status.Targets...)
	if r.session == nil {
		status.Targets = nil
	}
	r.mu.Unlock()
	st := sp.State()
	now, pushed := published(st), point{st.PushedGeneration.Load(), st.PushedSequence.Load()}
	status.Generation, status.Sequence, status.Pushed = now.generation, now.sequence, pushed.sequence
	status.Cause = st.Cause().String()
	status.UpToDate = pushed.covers(now) && len(r.o.Store.Targets) > 0
	if err := r.agrees(sp); err != nil {
		status.UpToDate, status.Error, status.State = false, err.Error(), "standing by: "+err.Error()
	}
	status.Replicator = spool.Token(st.Replicator.Load()).PID()
	status.Dropped = st.Dropped.Load()
	status.Calls = r.o.Store.Calls()
	if !status.UpToDate {
		if since := st.PublishedAt.Load(); r.behindSince(pushed, since) != 0 {
			status.LagSeconds = max(0, r.o.clock.now().Sub(time.Unix(0, r.behindSince(pushed, since))).Seconds())
		}
	}
	if n, err := spool.LogBytes(sp.Dir()); err == nil {
		status.SpoolBytes += n
	}
	return status
}

// behindSince returns the time, Unix ns, of about the first publication that a
// target lacks.
func (r *Replicator) behindSince(_ point, last int64) int64 {
	if t := r.lagging.Load(); t != 0 {
		return min(t, last)
	}
	return last
}

// publishStatus leaves for Status what only the session knows.
func (s *session) publishStatus() {
	behind := false
	targets := make([]TargetStatus, 0, len(s.targets))
	for _, t := range s.targets {
		ts := TargetStatus{
			Name: t.Name, Sequence: t.point.sequence, Manifest: t.acked, Backlog: len(t.missing), Calls: t.calls,
			Busy: t.busy, Stopped: t.conflict != nil, Unguarded: t.Unguarded(),
			Patrolled: t.patrol.RoundEnded(), Healed: t.patrol.Healed(),
		}
		if err := t.patrol.Err(); err != nil {
			ts.PatrolError = err.Error()
		}
		if t.pushed != nil {
			ts.Calls += t.pushed.uploads.calls.Load()
			ts.Backlog = int(t.pushed.left.Load())
		}
		if t.err != nil && (t.failed || t.conflict != nil) {
			ts.Error = t.err.Error()
		}
		behind = behind || !t.point.covers(published(s.st))
		targets = append(targets, ts)
	}
	s.r.lag(behind, s.st.PublishedAt.Load())
	words := "idle"
	problem := ""
	switch {
	case s.tracker.Err() != nil:
		problem = s.tracker.Err().Error()
		words = problem
	case len(s.targets) == 0:
		words = ErrNoTargets.Error()
	case behind:
		words = "replicating"
	}
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.r.status.Targets, s.r.status.State, s.r.status.Error = targets, words, problem
	s.r.status.SpoolBytes = s.mirror.Size()
}

// lag notes since when some target lacks something.
func (r *Replicator) lag(behind bool, publishedAt int64) {
	if !behind {
		r.lagging.Store(0)
	} else {
		r.lagging.CompareAndSwap(0, publishedAt)
	}
}

// counters of a replicator, for Sync.
type counters struct {
	manifests, chunks, bytes atomic.Int64
}

// count adds what was sent.
func (s *session) count(chunks int, u *uploads) {
	s.r.counters.chunks.Add(int64(chunks))
	s.r.counters.bytes.Add(u.bytes.Load())
}
