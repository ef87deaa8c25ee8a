package vfs

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"verneuil/replicate"
	"verneuil/replicate/mirror"
)

// validateTimeout bounds one comparison; for a database of gigabytes that begins with a copy.
const validateTimeout = 5 * time.Minute

// When the comparisons of a database have taken validateBudget, each is followed by a rest,
// validateRest times as long, in which commits are not compared. Otherwise a test that commits ten
// thousand times to a large database would never end.
const (
	validateBudget = 10 * time.Second
	validateRest   = 3
)

// validations holds the comparisons of this process. It is safe for concurrent use.
type validations struct {
	log *slog.Logger

	mu    sync.Mutex
	seen  validation
	times map[string]*validationTime // by the directory of the spool; nil: nothing was to be done
}

// validation counts what became of the commits that were to be validated. Nobody may think that a
// comparison succeeded which did not happen.
type validation struct {
	// Equal: the mirror was the database.
	Equal int `json:"equal"`
	// Elsewhere: another process replicates, and checks its own commits.
	Elsewhere int `json:"elsewhere,omitempty"`
	// Rested: it was not compared, because the comparisons before took long.
	Rested int `json:"rested,omitempty"`
	// Unsettled: the mirror could not be brought up to date at that moment.
	Unsettled int `json:"unsettled,omitempty"`
	// Reason is why the last unsettled one was unsettled.
	Reason   string   `json:"reason,omitempty"`
	Failures []string `json:"failures,omitempty"`
}

// validationTime is how long one database's comparisons have taken.
type validationTime struct {
	spent time.Duration
	rests time.Time // until then commits are passed over
}

// status returns what verneuil_status() shows, nil if nothing was to be validated.
func (v *validations) status() *validation {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.times == nil {
		return nil
	}
	shown := v.seen
	shown.Failures = slices.Clone(v.seen.Failures)
	return &shown
}

// count counts a comparison that has ended with err, and returns err if it is a failure.
func (v *validations) count(dir string, took time.Duration, err error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	at := v.ofLocked(dir)
	if at.spent += took; at.spent > validateBudget {
		at.rests = time.Now().Add(validateRest * took)
	}
	switch {
	case err == nil:
		v.seen.Equal++
	case errors.Is(err, replicate.ErrStandby):
		v.seen.Elsewhere++
	case errors.Is(err, mirror.ErrUnsettled):
		v.seen.Unsettled++
		v.seen.Reason = err.Error()
		v.log.Warn("commit was not validated", "spool", dir, "reason", err)
	default:
		err = fmt.Errorf("validate %s: %w", dir, err)
		v.log.Error("validation failed", "error", err)
		v.seen.Failures = append(v.seen.Failures, err.Error())
		return err
	}
	return nil
}

func (v *validations) ofLocked(dir string) *validationTime {
	if v.times == nil {
		v.times = make(map[string]*validationTime)
	}
	if v.times[dir] == nil {
		v.times[dir] = &validationTime{}
	}
	return v.times[dir]
}

// rests reports whether a commit to the database of dir is not to be compared.
func (v *validations) rests(dir string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	over := time.Now().Before(v.ofLocked(dir).rests)
	if over {
		v.seen.Rested++
	}
	return over
}

// report logs, at the end of the process, if there was something to validate and nothing could be
// validated.
func (v *validations) report() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s := &v.seen; s.Equal == 0 && s.Unsettled > 0 {
		v.log.Error("no commit could be validated", "tried", s.Unsettled, "reason", s.Reason)
	}
}
