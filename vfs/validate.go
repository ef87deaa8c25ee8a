package vfs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"verneuil/replicate"
	"verneuil/replicate/mirror"
)

// validateTimeout is for one comparison; with a database of gigabytes it begins with a copy.
const validateTimeout = 5 * time.Minute

// When a database's comparisons have taken validateBudget, each is followed by a time
// validateRest as long in which commits are passed over: else a test that commits ten thousand
// times to a large database would never end.
const (
	validateBudget = 10 * time.Second
	validateRest   = 3
)

// validation counts what has become of the commits that were to be validated. Of what
// did not happen nobody may think that it succeeded.
type validation struct {
	Equal     int      `json:"equal"`               // the mirror was the database
	Elsewhere int      `json:"elsewhere,omitempty"` // another process replicates, and checks its own commits
	Rested    int      `json:"rested,omitempty"`    // passed over, as those before took long
	Unsettled int      `json:"unsettled,omitempty"` // the mirror could not be brought up to date at that moment
	Reason    string   `json:"reason,omitempty"`    // of the last of those
	Failures  []string `json:"failures,omitempty"`

	times map[string]*validationTime // by spool
}

// validationTime is what one database's comparisons have taken.
type validationTime struct {
	spent time.Duration
	rests time.Time // until then commits are passed over
}

// status returns what verneuil_status() shows, nil if nothing was to be validated.
func (v *validation) status() *validation {
	if v.times == nil {
		return nil
	}
	shown := *v
	shown.Failures = slices.Clone(v.Failures)
	return &shown
}

// Validate compares the mirror of the spool dir with its database, whose write
// lock the caller holds. What differs is logged, returned, and stays in the status. That the
// mirror cannot be brought up to date while the lock is held is no difference: it is counted.
func (e *Engine) Validate(dir string) error {
	if e.rests(dir) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), validateTimeout)
	defer cancel()
	start := time.Now()
	r, err := e.replicator(ctx, dir)
	if err == nil {
		err = r.Verify(ctx)
	}
	return e.validated(dir, time.Since(start), err)
}

// validated counts a comparison that has ended with err, and returns err if it is a failure.
func (e *Engine) validated(dir string, took time.Duration, err error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	v := &e.checks
	at := v.of(dir)
	if at.spent += took; at.spent > validateBudget {
		at.rests = time.Now().Add(validateRest * took)
	}
	switch {
	case err == nil:
		v.Equal++
	case errors.Is(err, replicate.ErrStandby):
		v.Elsewhere++
	case errors.Is(err, mirror.ErrUnsettled):
		v.Unsettled++
		v.Reason = err.Error()
		e.log.Warn("commit was not validated", "spool", dir, "reason", err)
	default:
		err = fmt.Errorf("validate %s: %w", dir, err)
		e.log.Error("validation failed", "error", err)
		v.Failures = append(v.Failures, err.Error())
		return err
	}
	return nil
}

func (v *validation) of(dir string) *validationTime {
	if v.times == nil {
		v.times = make(map[string]*validationTime)
	}
	if v.times[dir] == nil {
		v.times[dir] = &validationTime{}
	}
	return v.times[dir]
}

// rests reports whether a commit to the database of dir is passed over.
func (e *Engine) rests(dir string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	over := time.Now().Before(e.checks.of(dir).rests)
	if over {
		e.checks.Rested++
	}
	return over
}

// reportValidation says so, at the end of the process, if there was something to validate
// and nothing could be.
func (e *Engine) reportValidation() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if v := &e.checks; v.Equal == 0 && v.Unsettled > 0 {
		e.log.Error("no commit could be validated", "tried", v.Unsettled, "reason", v.Reason)
	}
}
