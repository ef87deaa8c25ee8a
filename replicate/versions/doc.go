// Package versions reads the versions that a target has of one database: the newest checkpoint,
// which is the manifest under the database's key, and the records after it, folded in.
//
// A version that records make of a checkpoint is a manifest like any other (Apply of
// [manifest.Manifest]): replicas, restores and whoever writes the next version need not know of
// records. A manifest that is in no history (At of [manifest.Manifest]) is all that there is: some
// stores do not keep the condition that records need, and there each version is a manifest.
//
// # Where things lie
//
//	manifest bucket   <key>                                   the newest checkpoint
//	chunk bucket      log-<lineage, 32 hex>-<number, 16 hex>  records
//	                  kept-<database, 32 hex>-<lineage, 32 hex>-<number, 16 hex>
//	                                                          checkpoints to go back to
//
// The database is the first half of the BLAKE3-256 of its manifest's key: so its checkpoints are
// listed without those of others, and those of a history that another one has replaced are found.
// A checkpoint is kept before it becomes the newest one: the first of a history, at number 0, and
// then one now and then. A version between two of them is what records make of the first.
//
// # Invariants
//
//	V1  A version that a Follower returns is the checkpoint's, or what the records up to one make
//	    of it, all in order (H5 of package manifest/history).
//	V2  What is named by a version is in the target: its writer saw to it (I1 of package
//	    replicate).
//	V3  A version of the past is a checkpoint's that is kept, or what records make of it that lead
//	    on to the next checkpoint, or after the last one, to the end of the log.
//
// A Follower is one goroutine's. The package imports manifest, manifest/history and chunkstore.
package versions
