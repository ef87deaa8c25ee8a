package courier

import (
	"log/slog"
	"sync"
	"time"

	"verneuil/chunkstore"
)

// Outages is what a process has told of the targets that fail: one line when a target begins
// to, and one when all is well again, however many databases try it, and how often. It is
// shared by a process's replicators, and safe for concurrent use.
type Outages struct {
	mu sync.Mutex
	of map[*chunkstore.Target]*outage
}

// outageQuiet is how soon a target that fails again, or in another way, gets another line: one
// that comes and goes must not fill the log.
const outageQuiet = time.Minute

// outage is one target's. It lasts while there are databases.
type outage struct {
	databases map[string]bool // that have failed, and not succeeded since
	since     time.Time       // when the first of them did
	most      int             // how many there were at once
	kind      string          // of the error that was told last
	told      time.Time       // when that was; zero: never
	isTold    bool            // that this one has begun
	untold    int             // outages before this one that were not
}

// failed takes note that the database could not be pushed to the target, and logs it if that is
// news.
func (o *Outages) failed(
	log *slog.Logger, now time.Time, t *chunkstore.Target, database string, err error,
) {
	o.mu.Lock()
	defer o.mu.Unlock()
	u := o.of[t]
	if u == nil {
		if o.of == nil {
			o.of = make(map[*chunkstore.Target]*outage)
		}
		u = &outage{databases: make(map[string]bool)}
		o.of[t] = u
	}
	begins := len(u.databases) == 0
	u.databases[database] = true
	u.most = max(u.most, len(u.databases))
	if begins {
		u.since, u.isTold, u.most = now, false, 1
	}
	kind := chunkstore.ErrorKind(err)
	if u.isTold && kind == u.kind || !u.told.IsZero() && now.Sub(u.told) < outageQuiet {
		return
	}
	attributes := []any{"target", t.Name, "error", err}
	if u.untold > 0 {
		attributes = append(attributes, "failed_before", u.untold)
	}
	log.Warn("target failed; commits wait in the spool, and will be sent when it works again",
		attributes...)
	u.kind, u.told, u.isTold, u.untold = kind, now, true, 0
}

// succeeded takes note that the target has taken what the database has, and says so if that
// is the end of an outage which was told.
func (o *Outages) succeeded(
	log *slog.Logger, now time.Time, t *chunkstore.Target, database string,
) {
	o.mu.Lock()
	defer o.mu.Unlock()
	u := o.of[t]
	if u == nil || !u.databases[database] {
		return
	}
	delete(u.databases, database)
	if len(u.databases) > 0 {
		return
	}
	if !u.isTold {
		u.untold++
		return
	}
	u.isTold = false
	log.Warn("target works again", "target", t.Name,
		"after", now.Sub(u.since).Round(time.Second), "databases", u.most)
}

// Forget drops a database that is replicated no more, whatever became of it.
func (o *Outages) Forget(database string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, u := range o.of {
		delete(u.databases, database)
		if len(u.databases) == 0 {
			u.isTold = false
		}
	}
}
