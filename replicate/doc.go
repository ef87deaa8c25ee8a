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
//	push   to each target: missing chunks, then leaves and nodes, in a batch that is made
//	       durable; then the manifest
//
// apply and cut are one goroutine's; each push and each first look at a target has
// one of its own, which changes nothing and reports back. While a cut is pushed,
// applying goes on: a view of the mirror sets aside what the push still needs.
//
// A cut is the tree of object IDs, and the pages that travel inline over them. It is
// saved in the spool before it is pushed, so that a successor knows what targets
// may have. Page 1 always travels inline; so do the changed sectors of chunks that
// changed little and lately, as long as every target has the object below them. What
// they may cost, and why that much, stands in plan.go.
//
// A spool without a saved cut (the first, or after a reboot) takes over the newest
// version that a target has under its name, in its lineage and the next epoch:
// what is there is not put again. From then on a version that is not our past is a
// conflict; deleting the spool is how an operator says who is the rightful one.
//
// A flush is answered when every target has what was published before it, or has
// failed since. Before it says yes it compares the database's header with the mirror's:
// what was written without a recorder after the last recorded transaction is found
// then, or by the next one. Other processes ask by drawing a ticket in the state page.
//
// What a base copy cannot see is said at baseCopy. How WAL databases are followed
// stands in wal.go.
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
//	I7  No chunk whose object a target lacks is described by inline pages over it: the
//	    object could not be made any more.
//	I8  What a cut says of a chunk is what its bytes hash to when they are pushed, or the
//	    push fails and the chunk is hashed again.
package replicate
