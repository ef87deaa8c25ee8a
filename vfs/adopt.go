package vfs

import (
	"log/slog"
	"path/filepath"
	"time"

	"verneuil/spool"
)

// adoptInterval is how often a process looks for spools that nobody serves.
const adoptInterval = time.Minute

// adoption is what a process does for spools that it does not have open. It sends the data of
// databases whose processes are gone, and removes the spools of databases that were deleted. Its
// two loops run as long as the process lives. It has no state of its own.
type adoption struct {
	root     string // of the spools
	services *services
	children *children
	log      *slog.Logger
	panics   *panics
}

// adopt serves the spools under root that have unsent data and no replicator.
func (a *adoption) adopt() {
	defer a.panics.caught("adopt")
	for {
		a.children.forgetDead()
		for _, dir := range a.spools() {
			if orphan(dir) {
				a.services.adopt(dir)
			}
		}
		<-time.After(adoptInterval)
	}
}

// sweep removes the spools under root whose databases were deleted a while ago. It looks at paths
// that may be on file systems that hang, so adopt does not do this.
func (a *adoption) sweep() {
	defer a.panics.caught("sweep")
	for {
		for _, dir := range a.spools() {
			if removed, err := spool.Sweep(dir, time.Now()); removed {
				a.log.Info("the spool of a deleted database was removed", "spool", dir)
			} else if err != nil {
				a.log.Debug("sweep", "spool", dir, "error", err)
			}
		}
		<-time.After(adoptInterval)
	}
}

// spools returns the directories of the spools under root.
func (a *adoption) spools() (dirs []string) {
	states, _ := filepath.Glob(filepath.Join(a.root, "*", "state"))
	for _, state := range states {
		dirs = append(dirs, filepath.Dir(state))
	}
	return dirs
}

// orphan reports whether the spool in dir has unsent data, and no process that would send it. A
// stale mirror without its database is not such data.
func orphan(dir string) bool {
	sp, err := spool.Open(dir)
	if err != nil {
		return false
	}
	defer sp.Close()
	st := sp.State()
	sent := st.PushedGeneration.Load() >= st.Generation.Load() &&
		st.PushedSequence.Load() >= st.Sequence.Load()
	if sent || st.MirrorGeneration.Load() != st.Generation.Load() && deleted(sp.Path()) {
		return false
	}
	served, err := sp.Served()
	return err == nil && !served
}
