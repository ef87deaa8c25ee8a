// Package replicate moves databases: the replicator brings a spool's
// transactions to every target, the follower brings a target's manifests and
// chunks to a snapshot, restore writes a version to a file.
//
// # Replicator
//
// One per spool, in the process that holds the spool's lock. It repeats
//
//	apply  transactions from the changelog to the mirror (base copy if the mirror is stale)
//	cut    a version at a transaction boundary: hash the dirty chunks
//	push   to each target: missing chunks, then leaves and nodes, then the manifest
//
// # Invariants
//
//	I1  A manifest is put only after everything that it names is durable in that target.
//	I2  A manifest is a transaction boundary of the database (spool I4).
//	I3  Targets do not wait for each other; a target that fails keeps its own backlog,
//	    as the set of chunk indexes that it has not got, and gets the newest version
//	    when it returns.
//	I4  Nothing is put that the target is known to have: a replicator that knows nothing
//	    of a target first reads its manifest, and compares IDs.
//	I5  A manifest is put with If-Match of the ETag that we last wrote or read, or with
//	    If-None-Match. A conflict stops the replicator for that target, loudly, unless
//	    the manifest found is of our own lineage and an older version, or its writer is ours.
//	I6  A flush that succeeds means: every target holds a version that includes every
//	    transaction published before the flush was asked for.
package replicate
