package replicate

import (
	"sync/atomic"
	"time"

	"verneuil/replicate/courier"
	"verneuil/spool"
)

// Status tells people and programs how replication stands.
type Status struct {
	Database
	State      string           `json:"state"`             // in words
	Error      string           `json:"error,omitempty"`   // why the mirror is not up to date
	Replicator int              `json:"replicator"`        // the process that replicates, 0 none
	Generation uint64           `json:"generation"`        // of the database
	Cause      string           `json:"cause"`             // of its last raise
	Sequence   uint64           `json:"sequence"`          // last transaction published
	Pushed     uint64           `json:"pushed_sequence"`   // that every target has
	UpToDate   bool             `json:"up_to_date"`        // every target has everything
	LagSeconds float64          `json:"lag_seconds"`       // at most the age of what a target lacks
	Dropped    uint64           `json:"dropped"`           // transactions; the log had no room
	SpoolBytes int64            `json:"spool_bytes"`       // log and mirror
	Calls      int64            `json:"calls"`             // of the store, all databases
	Targets    []courier.Status `json:"targets,omitempty"` // only where we replicate
}

// Database is what a [Status] is of.
type Database struct {
	Path  string `json:"path"`
	Host  string `json:"host"`
	Spool string `json:"spool"` // its directory
}

// Status returns how replication stands. It never waits for the replicator.
func (r *Replicator) Status() Status {
	r.mu.Lock()
	status, sp := r.status, r.spool
	status.Targets = append([]courier.Status(nil), r.status.Targets...)
	if r.loop == nil {
		status.Targets = nil
	}
	r.mu.Unlock()
	st := sp.State()
	now, pushed := st.PublishedPoint(), st.PushedPoint()
	status.Generation, status.Sequence = now.Generation, now.Sequence
	status.Pushed = pushed.Sequence
	status.Cause = st.Cause().String()
	status.UpToDate = pushed.Covers(now) && len(r.o.Store.Targets) > 0
	if err := r.agrees(sp); err != nil {
		status.UpToDate = false
		status.Error, status.State = err.Error(), "standing by: "+err.Error()
	}
	status.Replicator = spool.Token(st.Replicator.Load()).PID()
	status.Dropped = st.Dropped.Load()
	status.Calls = r.o.Store.Calls()
	if !status.UpToDate {
		if since := r.lag.of(st.PublishedAt.Load()); since != 0 {
			status.LagSeconds = max(0, r.o.clock.now().Sub(time.Unix(0, since)).Seconds())
		}
	}
	if n, err := spool.LogBytes(sp.Dir()); err == nil {
		status.SpoolBytes += n
	}
	return status
}

// publishStatus leaves for Status what only the loop knows.
func (l *loop) publishStatus() {
	targets, behind := l.office.Status(l.published())
	l.r.lag.note(behind, l.st.PublishedAt.Load())
	words := "idle"
	problem := ""
	switch {
	case l.tracker.Err() != nil:
		problem = l.tracker.Err().Error()
		words = problem
	case len(targets) == 0:
		words = ErrNoTargets.Error()
	case behind:
		words = "replicating"
	}
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	l.r.status.Targets, l.r.status.State, l.r.status.Error = targets, words, problem
	l.r.status.SpoolBytes = l.tracker.Mirror().Size()
}

// lag is since when some target lacks something: Unix ns; 0: none does. It is safe for concurrent
// use.
type lag struct{ since atomic.Int64 }

// note notes whether some target lacks something, now that this was published last.
func (l *lag) note(behind bool, publishedAt int64) {
	if !behind {
		l.since.Store(0)
	} else {
		l.since.CompareAndSwap(0, publishedAt)
	}
}

// of returns the time, Unix ns, of about the first publication that a target lacks, if one does.
func (l *lag) of(publishedAt int64) int64 {
	if t := l.since.Load(); t != 0 {
		return min(t, publishedAt)
	}
	return publishedAt
}
