package vfs

import (
	"log/slog"
	"path/filepath"
	"time"

	"verneuil/spool"
)

// adoptInterval is how often a process looks for spools that nobody serves.
const adoptInterval = time.Minute

// adoption is what a process does for spools that it has not open: of databases whose processes
// are gone it sends the data, and of those that were deleted it removes the spools. Its two loops
// run for as long as the process lives. It has no state of its own.
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

// sweep removes the spools under root of databases that were deleted a while ago. It asks for the
// files at paths that may be of file systems that hang: so it is not adopt that does it.
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

// orphan reports whether the spool in dir has data that was not sent, and no process
// that would send it. Without the database, a mirror that is stale is no such data.
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
