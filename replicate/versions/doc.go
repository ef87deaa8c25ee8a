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
//
// # Invariants
//
//	V1  A version that a Follower returns is the checkpoint's, or what the records up to one make
//	    of it, all in order (H5 of package manifest/history).
//	V2  What is named by a version is in the target: its writer saw to it (I1 of package
//	    replicate).
//
// A Follower is one goroutine's. The package imports manifest, manifest/history and chunkstore.
package versions
