package versions

import "time"

// When the writer of a history, a host that replicates or the holder of a database in a store, puts
// a checkpoint. What is before it, a reader need not read who begins there.
const (
	// CheckpointRecords is how many records may follow the newest checkpoint.
	CheckpointRecords = 64
	// CheckpointBytes is how many bytes they may have together.
	CheckpointBytes = 512 << 10
	// CheckpointPause after the last record, there is a checkpoint however few there are: what a
	// database has that is idle is one object, and need not be anything else.
	CheckpointPause = 10 * time.Second
	// KeepInterval is the least time between two checkpoints that are kept, to go back to.
	KeepInterval = 10 * time.Minute
)

// CheckpointDue reports whether so many records, of so many bytes, since the newest checkpoint are
// reason for the next one.
func CheckpointDue(records uint64, bytes int64) bool {
	return records >= CheckpointRecords || bytes >= CheckpointBytes
}
