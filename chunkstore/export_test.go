package chunkstore

import "time"

// SlowAfter makes s take a target for slow that has not answered within d.
func (s *Store) SlowAfter(d time.Duration) { s.options.SlowAfter = d }

// Failed says that t has failed at that time.
func (t *Target) Failed(at time.Time) { t.failed.Store(at.UnixNano()) }
