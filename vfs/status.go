package vfs

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"

	"verneuil/replicate"
	"verneuil/replicate/remote"
	"verneuil/replicate/replica"
)

// errNoTargets: databases are opened through the writer VFS, but there is nowhere to send them.
var errNoTargets = errors.New("replication_targets names no s3 or dir target")

// problem returns what keeps the process's databases from being replicated. opening is the
// recorder's reason: why it opened a database without a spool.
func (e *Engine) problem(opening string) string {
	store, storeErr := e.stores.written()
	errs := []error{e.cfgErr, storeErr}
	if opening != "" && (e.cfgErr == nil || opening != e.cfgErr.Error()) {
		errs = append(errs, errors.New(opening))
	}
	if store != nil && len(store.Targets) == 0 {
		errs = append(errs, errNoTargets)
	}
	if err := errors.Join(errs...); err != nil {
		return err.Error()
	}
	return ""
}

// databaseStatus is what verneuil_status() shows of a database.
type databaseStatus struct {
	Spool string `json:"spool"`
	Error string `json:"error,omitempty"` // why nobody replicates here, or else the Status' own
	*replicate.Status
	Dollars float64 `json:"request_dollars_per_month"`
}

// status returns the databases that the process serves, in no particular order.
func (s *services) status() []databaseStatus {
	databases := []databaseStatus{}
	running := make(map[int]*replicate.Replicator)
	s.mu.Lock()
	for dir, sv := range s.of {
		d := databaseStatus{Spool: dir}
		if sv.err != nil {
			d.Error = sv.err.Error()
		}
		if sv.r != nil {
			running[len(databases)] = sv.r
		}
		databases = append(databases, d)
	}
	s.mu.Unlock()
	for i, r := range running {
		st := r.Status()
		databases[i].Status = &st
		databases[i].Error = cmp.Or(databases[i].Error, st.Error) // in JSON it hides that one
		databases[i].Dollars = s.cfg.RequestDollars(st.PerMonth)
	}
	return databases
}

// Recorded is what the recorder has to say to a status; the fields in JSON are empty if there is no
// memory for them.
type Recorded struct {
	SQLite        string // sqlite3_libversion() of the process
	Problem       string // why it last opened a database without replication; empty: it has not
	NotReplicated string // JSON array: the databases that are not replicated, with reasons
	Durable       string // JSON object: counts of durable commits
}

// sqliteStatus is what a status says of the process' SQLite.
type sqliteStatus struct {
	Version string `json:"version"`
	Problem string `json:"problem,omitempty"` // see [WALResetBug]
}

// Status returns verneuil_status()'s JSON object.
func (e *Engine) Status(recorder Recorded) []byte {
	status := struct {
		Program   string           `json:"program"`
		SQLite    sqliteStatus     `json:"sqlite"`
		Host      string           `json:"host"`
		Spooling  string           `json:"replication_spooling_dir,omitempty"`
		Error     string           `json:"error,omitempty"`
		APICalls  int64            `json:"api_calls"`
		Databases []databaseStatus `json:"databases"`
		Not       json.RawMessage  `json:"not_replicated"`
		Durable   json.RawMessage  `json:"durable"`
		Replicas  []replica.Status `json:"replicas"`
		Remotes   []remote.Status  `json:"remotes"`
		Validated *validation      `json:"validation,omitempty"`
		Panics    []string         `json:"panics,omitempty"`
	}{
		Program:   Program,
		SQLite:    sqliteStatus{recorder.SQLite, WALResetBug(recorder.SQLite)},
		Host:      e.Host(),
		Spooling:  e.cfg.ReplicationSpoolingDir,
		Error:     e.problem(recorder.Problem),
		APICalls:  e.stores.calls(),
		Databases: e.services.status(),
		Not:       json.RawMessage(cmp.Or(recorder.NotReplicated, "[]")),
		Durable:   json.RawMessage(cmp.Or(recorder.Durable, "{}")),
		Replicas:  e.replicas.status(),
		Remotes:   e.remotes.status(),
		Validated: e.checks.status(),
		Panics:    e.panics.all(),
	}
	b, err := json.Marshal(status)
	if err != nil {
		return fmt.Appendf(nil, `{"error":%q}`, err.Error())
	}
	return b
}
