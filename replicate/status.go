package replicate

import (
	"cmp"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"verneuil/chunkstore"
	"verneuil/replicate/courier"
	"verneuil/replicate/mirror"
	"verneuil/spool"
)

// Status tells people and programs how replication stands.
type Status struct {
	Database
	State      string `json:"state"`           // in words
	Error      string `json:"error,omitempty"` // why the mirror is not up to date
	Replicator int    `json:"replicator"`      // the process that replicates, 0 none
	History
	// Reported is when the replicator said what it says here of its targets, which was true until
	// two seconds ago at least, if it still replicates; zero: we replicate, or nobody has.
	Reported time.Time `json:"reported,omitzero"`
	UpToDate bool      `json:"up_to_date"` // every target has everything, and did not fail since
	Lag
	SpoolBytes int64            `json:"spool_bytes"`       // log and mirror
	Calls      int64            `json:"calls"`             // of the store, all databases
	Targets    []courier.Status `json:"targets,omitempty"` // only where we replicate
	Requests
}

// Database is what a [Status] is of.
type Database struct {
	Path  string `json:"path"`
	Host  string `json:"host"`
	Spool string `json:"spool"` // its directory
}

// History is how far the database has come.
type History struct {
	Generation uint64    `json:"generation"`      // of the database
	Cause      string    `json:"cause"`           // of its last raise
	Sequence   uint64    `json:"sequence"`        // last transaction published
	Pushed     uint64    `json:"pushed_sequence"` // that every target has
	Commits    uint64    `json:"commits"`         // published
	Dropped    uint64    `json:"dropped"`         // transactions; the log had no room
	Committed  time.Time `json:"last_commit,omitzero"`
}

// Lag is what some target lacks.
type Lag struct {
	LagSeconds float64 `json:"lag_seconds"` // at most its age
	// LagBytes is about how much it is: the log that was not read yet, and the chunks of the
	// version that is being sent.
	LagBytes int64 `json:"lag_bytes"`
}

// Requests are what replicating the database costs.
type Requests struct {
	Begun time.Time `json:"begun,omitzero"` // when its replicator began; zero: nobody replicates
	Total int64     `json:"requests"`       // to all targets, since then
	// PerMonth is how many they would be at this rate; 0: it is not known yet.
	PerMonth float64 `json:"requests_per_month"`
}

// rateAfter is how long a replicator must have run for its rate to say anything: the first backup
// is not what a month is like.
const rateAfter = 10 * time.Minute

const month = 30 * 24 * time.Hour

// Status returns how replication stands. It never waits for the replicator.
func (r *Replicator) Status() Status {
	r.mu.Lock()
	status, sp := r.status, r.spool
	status.Targets = append([]courier.Status(nil), r.status.Targets...)
	if r.loop == nil {
		status.Targets = nil
	}
	r.mu.Unlock()
	st, now := sp.State(), r.o.clock.now()
	status.ofState(st)
	status.UpToDate = status.UpToDate && len(r.o.Store.Targets) > 0
	if err := r.agrees(sp); err != nil {
		status.UpToDate = false
		status.Error, status.State = err.Error(), "standing by: "+err.Error()
	}
	status.ofStopped(st)
	status.ofTargets()
	status.Calls = r.o.Store.Calls()
	if !status.UpToDate {
		since := time.Time{}
		if t := r.lag.since.Load(); t != 0 {
			since = time.Unix(0, t)
		}
		status.behind(st, since, now)
	}
	status.ofFile(st, r.o.OpenSource, now)
	mirror := status.SpoolBytes
	status.finish(st, now)
	status.SpoolBytes += mirror
	return status
}

// ofState fills in what the state page says.
func (s *Status) ofState(st *spool.State) {
	now, pushed := st.PublishedPoint(), st.PushedPoint()
	s.Generation, s.Sequence, s.Pushed = now.Generation, now.Sequence, pushed.Sequence
	s.Cause = st.Cause().String()
	s.UpToDate = pushed.Covers(now)
	s.Replicator = spool.Token(st.Replicator.Load()).PID()
	s.Commits, s.Dropped = st.Published.Load(), st.Dropped.Load()
	if at := st.PublishedAt.Load(); at != 0 {
		s.Committed = time.Unix(0, at).UTC()
	}
}

// ofStopped says that who replicates is stopped, if he is.
func (s *Status) ofStopped(st *spool.State) {
	if who := spool.Token(st.Replicator.Load()); s.Replicator != 0 && who.Stopped() {
		s.Error = errStopped(who).Error()
	}
}

// ofTargets says that what a target has is not known that failed when it was last asked, whatever
// it had taken before.
func (s *Status) ofTargets() {
	failing := func(t courier.Status) bool { return t.Error != "" }
	s.UpToDate = s.UpToDate && !slices.ContainsFunc(s.Targets, failing)
}

// errOutside: what is published is not all that the database may have.
var errOutside = errors.New("the database's file was changed without the extension: the next " +
	"commit, or verneuilctl flush, compares it, and sends what is new")

// errBeside: SQLite reads another database than was recorded, for what lies beside it.
var errBeside = map[mirror.Beside]error{
	mirror.HotBeside: errors.New("a rollback journal lies beside the database that nobody is " +
		"using: SQLite will play it back, and then the database may be another one. The next " +
		"commit, or verneuilctl flush, finds out"),
	mirror.NoWALBeside: errors.New("the database's WAL was removed, emptied or damaged, without " +
		"the extension: what it had, and the file had not yet, is only in the targets now " +
		"(verneuilctl restore). The next commit, or verneuilctl flush, sends the database as " +
		"it is"),
	mirror.WALBeside: errors.New("the database's WAL is not the one that was recorded: it was " +
		"replaced, cut, or written to without the extension. The next commit, or verneuilctl " +
		"flush, sends the database as SQLite reads it now"),
}

// ofFile says that the database is not as its recorders have left it, if all else is up to date, or
// will not be when SQLite opens it. open is [Options].OpenSource.
func (s *Status) ofFile(st *spool.State, open func() (mirror.Source, error), now time.Time) {
	if !s.UpToDate || st.DBStamp.Load() == 0 || busy(st) {
		return
	}
	left, err := st.Look(s.Path)
	if err != nil {
		return // a database that is deleted has lost nothing of what was sent
	}
	told := errOutside
	if left != spool.LeftChanged {
		beside, err := mirror.LookBeside(s.Path, st, open)
		if err != nil || beside == mirror.NothingBeside {
			return
		}
		told = errBeside[beside]
	}
	if busy(st) {
		return
	}
	s.UpToDate = false
	s.Error = cmp.Or(s.Error, told.Error())
	var changed int64 // the last of its files; one that was removed leaves no time
	for _, suffix := range []string{"", "-wal", "-journal"} {
		if stamp, err := spool.StampOf(s.Path + suffix); err == nil {
			changed = max(changed, stamp.Ctime)
		}
	}
	if changed != 0 {
		s.LagSeconds = max(0, now.Sub(time.Unix(0, changed)).Seconds())
	}
}

// busy reports whether a recorder may be in the middle of a transaction.
func busy(st *spool.State) bool {
	return spool.Token(st.Writing.Load()).Alive() || spool.Token(st.Holder.Load()).Alive()
}

// behind fills in how far the targets are behind: since then, or else since the last commit.
func (s *Status) behind(st *spool.State, since, now time.Time) {
	if at := st.PublishedAt.Load(); at != 0 {
		if last := time.Unix(0, at); since.IsZero() || last.Before(since) {
			since = last
		}
	}
	if !since.IsZero() {
		s.LagSeconds = max(0, now.Sub(since).Seconds())
	}
	head, tail := st.Head(), st.Tail()
	s.LagBytes = max(0, (int64(head.Segment())-int64(tail.Segment()))*spool.SegmentBytes+
		int64(head.Offset())-int64(tail.Offset()))
	backlog := 0
	for _, t := range s.Targets {
		backlog = max(backlog, t.Backlog)
	}
	s.LagBytes += int64(backlog) * chunkstore.ChunkBytes
}

// finish fills in what costs: the spool's log, and requests.
func (s *Status) finish(st *spool.State, now time.Time) {
	s.SpoolBytes = 0
	if n, err := spool.LogBytes(s.Spool); err == nil {
		s.SpoolBytes = n
	}
	for _, t := range s.Targets {
		s.Total += t.Calls
	}
	if age := now.Sub(s.Begun); !s.Begun.IsZero() && age >= rateAfter {
		s.PerMonth = float64(s.Total) * (float64(month) / float64(age))
	}
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
	said := report{By: l.st.Replicator.Load(), State: words, Error: problem, Targets: targets}
	if since := l.r.lag.since.Load(); since != 0 {
		said.Behind = time.Unix(0, since)
	}
	l.tenure.report.tell(l.tenure.sp, l.now(), said)
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	l.r.status.Targets, l.r.status.State, l.r.status.Error = targets, words, problem
	l.r.status.SpoolBytes, l.r.status.Begun = l.tracker.Mirror().Size(), l.tenure.report.begun
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
