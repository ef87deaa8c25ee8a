// Package replicate brings a database's transactions from its spool to every target.
//
// # Who does what
//
// A [Replicator] is one spool's, and lives as long as the process wants the database replicated.
// While it holds the spool's lock it has a loop (loop.go), which repeats
//
//	apply  transactions from the changelog to the mirror    mirror.Tracker
//	cut    a version at a transaction boundary               cutter.Cutter
//	push   the version to each target                        courier.Office, a Courier for each
//
// apply and cut are one goroutine's, the loop's; each push and each first look at a target has
// one of its own, which changes nothing and reports back (package errands). While a cut is pushed,
// applying goes on: a view of the mirror sets aside what the push still needs. A version is saved
// in the spool before it is pushed, so that a successor knows what targets may have. [Sync] uses
// the same loop, and pushes the first version of a database while it copies it.
//
// The loop itself owns what is left: when the next version may be made (pace.go), flushes and the
// tickets of other processes (flushes.go), how it sleeps and is woken (bell.go, watch.go), and that
// the spool is there and ours (tenure.go).
//
// From the first version on, or from the one that was taken over from a target, a version that is
// not our past is a conflict; deleting the spool is how an operator says who is the rightful one.
//
// A flush is answered when every target has what was published before it, or has
// failed since. Before it says yes it compares the database's header with the mirror's:
// what was written without a recorder after the last recorded transaction is found
// then, or by the next one. Other processes ask by drawing a ticket in the state page.
//
// What an object does stands in its state, drawn where that is declared: standing (a replicator),
// activity and ending (a loop), certainty (a flush), mirror.Phase, cutter.State, courier.State and
// patrol.State.
//
// # Pace, and who sends what is left
//
// Versions keep a distance, manifest_interval_ms, on average. It is the database's: the state page
// has the time of the last cut, so that neither a close nor another process begins it anew. A
// flush, and a process that ends, do not wait for it.
//
// A database is closed: its process goes on to replicate, at that pace, until all is sent.
// A process ends: it sends at once what is left, in at most the time that it has for that, as it
// may be the last one. (To wait for the pace would hold up its exit, and to leave it there
// would leave it for ever. So a database that is only written by programs that begin, write and
// end has a version for each of them.) What another process replicates is left to that
// one, which sends it at the pace.
// A process is killed: what it has recorded is sent by whoever opens the database
// next, by any process with the same spooling directory, which looks once a minute, or by
// verneuilctl flush.
//
// A replicator that ends says so first, in leaving, and then looks at what is published. Who
// leaves something to it has published it, and then looks whether it says so. One of
// the two sees the other: what is published is sent by the one, or the other stays until it is.
//
// How the mirror is kept equal to the database stands in replicate/mirror.
//
// # Invariants
//
//	I1  A record, or a manifest, is put only after everything that it names is durable in that
//	    target.
//	I2  A manifest is a transaction boundary of the database (spool I4).
//	I3  Targets do not wait for each other; a target that fails keeps its own backlog,
//	    as the set of chunk indexes that it has not got, and gets the newest version
//	    when it returns.
//	I4  Nothing is put that the target is known to have: a replicator that knows nothing
//	    of a target first reads its manifest, and compares IDs. What no manifest names
//	    counts for a day, if it is in the spool's journal. What a version names has places of
//	    its own in each target (replicate/courier).
//	I5  A record is put with If-None-Match, at the number after the last one that we read or
//	    wrote, and a manifest with If-Match of the ETag that we last wrote or read, or with
//	    If-None-Match. A conflict stops the replicator for that target, loudly, unless
//	    the manifest found is our past: of an earlier epoch of our lineage, or one of our
//	    epoch that this very spool has cut (manifest.Head has the rules).
//	I6  A flush that succeeds means: every target holds a version that includes every
//	    transaction published before the flush was asked for.
//	I7  No chunk whose object a target lacks is described by inline pages over it: the
//	    object could not be made any more.
//	I8  What a cut says of a chunk is what its bytes hash to when they are pushed, or the
//	    push fails, and the mirror is compared with the database and hashed again.
//	I9  No pack that the newest version in a target names gets so old there that a rule
//	    may remove it (replicate/patrol, P1). What stood in one that the patrol finds gone is put
//	    again, and no flush succeeds before it is.
//	I10 A push does not wait for the patrol. With one that is late it shares the rate, as
//	    with one more request of its own at a time.
//
// # Beliefs
//
// What is concluded, from which witness, what defeats the witness, and what happens then.
//
// A hot journal, or a WAL, may be left to stock SQLite to recover, by verneuilctl. Witness: the
// file has SQLite's header, and the journal's first page, or the WAL's first frame, its checksum.
// Defeated by: a VFS or pager that encrypts, to which alone they are right. Stock SQLite would take
// them for torn, and delete them. Then the application is left to do it, and the command fails
// (cmd/verneuilctl, foreign.go).
//
// Another process has sent it for us. Witness: its answer to our ticket, and the purpose in the
// state page, a hash of host name and targets, which is ours before the ticket is drawn. Defeated
// by: a process that takes its place, and has other targets: terms has changed by then, and we
// ask anew. While a process of another purpose replicates, a flush and a Sync fail, and say so.
// When we take the lock after one, what every target has (pushed, in the state page) is nothing.
//
// Another process will send what this one has published. Witness: the spool's lock, which is
// another process's, and leaving, which does not name it. Defeated by: a kill of that process.
// Then it is unsent until somebody looks, as if this process had been killed.
//
// The next version is not due yet. Witness: the time of the last cut in the state. Defeated by:
// a clock that was set back. Then it counts as now, and costs one interval at most.
package replicate
