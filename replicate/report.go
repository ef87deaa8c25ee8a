package replicate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"verneuil/chunkstore"
	"verneuil/replicate/courier"
	"verneuil/replicate/mirror"
	"verneuil/spool"
)

// reportEvery is the least distance of two writes of status.json.
const reportEvery = 2 * time.Second

const (
	reportName     = "status.json"
	reportBytesMax = 1 << 20
)

// report is what a replicator leaves in its spool for those who ask from outside how it stands, as
// verneuilctl status. The state page has the rest.
type report struct {
	By      uint64           `json:"by"`          // our token
	At      time.Time        `json:"at,omitzero"` // when this was written
	Begun   time.Time        `json:"begun"`       // when we began to replicate
	State   string           `json:"state"`
	Error   string           `json:"error,omitempty"`
	Behind  time.Time        `json:"behind_since,omitzero"`
	Targets []courier.Status `json:"targets"`
}

// reporter writes status.json when it has changed, and not too often. It is the loop's.
type reporter struct {
	begun  time.Time
	last   []byte    // as it was written, but for when
	next   time.Time // not before
	unsaid *report   // it was too early for it
}

// tell writes what changed. What a spool cannot take is told again with the next change.
func (r *reporter) tell(sp *spool.Spool, now time.Time, said report) {
	if r.begun.IsZero() {
		r.begun = now
	}
	said.Begun = r.begun
	if now.Before(r.next) {
		r.unsaid = &said
		return
	}
	r.unsaid = nil
	b, err := json.Marshal(said)
	if err != nil || string(b) == string(r.last) {
		return
	}
	r.next = now.Add(reportEvery)
	said.At = now
	dated, err := json.Marshal(said)
	if err == nil && sp.WriteFile(reportName, dated) == nil {
		r.last = b
	}
}

// due returns when something is to be written that was held back.
func (r *reporter) due() (at []time.Time) {
	if r.unsaid != nil {
		at = append(at, r.next)
	}
	return at
}

// close writes what was held back.
func (r *reporter) close(sp *spool.Spool) {
	if r.unsaid != nil {
		r.next = time.Time{}
		r.tell(sp, time.Now(), *r.unsaid)
	}
}

// TakingOver is the State of a [Status] whose replicator has said nothing yet: what is said of its
// targets is what the one before it has said.
const TakingOver = "taking over"

// sourceAt is [Options].OpenSource of a process that uses no SQLite on the database at path.
func sourceAt(path string) func() (mirror.Source, error) {
	return func() (mirror.Source, error) { return mirror.OpenSourceFile(path) }
}

// ReadStatus returns how replication stands of the database whose spool is in dir, by what its
// recorders and its replicator have left there: it takes no lock, and sends no request. purpose is
// what it should be replicated for (see [Purpose]): where it is not, it is not up to date, whatever
// other targets have; 0: whatever it is. Where it is not, ReadStatus tries whether the spool can be
// written to. Where a rollback journal lies beside the database, or another WAL than was recorded,
// it opens the database, and asks for its locks, so the process may not use SQLite on it. Errors
// are those of [spool.Open]; what can be said is returned with them.
func ReadStatus(dir string, purpose uint64, now time.Time) (Status, error) {
	status := Status{Database: Database{Spool: dir}}
	source, sourceErr := spool.ReadSourceConfig(dir)
	if sourceErr == nil {
		status.Path, status.Host = source.Path, source.Host
	}
	sp, err := spool.Open(dir)
	if err != nil {
		if path, pathErr := spool.PathOf(dir); pathErr == nil {
			status.Path = path
		}
		status.Error = err.Error()
		return status, err
	}
	defer sp.Close()
	status.Path = sp.Path()
	st := sp.State()
	status.ofState(st)
	status.UpToDate = status.UpToDate && st.Purpose.Load() != 0
	var said report
	b, err := sp.ReadFile(reportName, reportBytesMax)
	if err == nil {
		if err = json.Unmarshal(b, &said); err != nil {
			err = fmt.Errorf("%w: %s: %w", chunkstore.ErrCorrupt, reportName, err)
		}
	}
	status.State, status.Error = said.State, said.Error
	status.Begun, status.Targets, status.Reported = said.Begun, said.Targets, said.At.UTC()
	for _, found := range courier.ReadDamage(sp) {
		for k := range status.Targets {
			if t := &status.Targets[k]; t.Name == found.Target {
				t.Damaged = found.Objects()
			}
		}
	}
	if status.Replicator == 0 {
		status.State = "nobody replicates"
		status.Begun = time.Time{}
	} else if err != nil {
		status.State = "replicating"
	} else if said.By != st.Replicator.Load() {
		status.State, status.Begun = TakingOver, time.Time{}
	}
	if served, servedErr := sp.Served(); servedErr == nil && !served {
		status.State, status.Replicator, status.Begun = "nobody replicates", 0, time.Time{}
	}
	status.ofStopped(st)
	if was := st.Purpose.Load(); was != 0 && purpose != 0 && was != purpose {
		status.UpToDate = false
		err := errOtherBefore
		if status.Replicator != 0 {
			err = fmt.Errorf("process %d %w", status.Replicator, ErrOtherPurpose)
		}
		status.Error = err.Error()
	}
	if status.ofTargets(); !status.UpToDate {
		status.behind(st, said.Behind, now)
	}
	status.ofFile(st, sourceAt(status.Path), now)
	status.finish(st, now)
	if errors.Is(err, chunkstore.ErrCorrupt) {
		status.Error = err.Error()
	}
	if !status.UpToDate { // a full spool takes no report, either; what we may not do, others may
		if err := spool.TryWrite(dir); err != nil && !errors.Is(err, fs.ErrPermission) {
			status.Error = err.Error()
		}
	}
	return status, nil
}
