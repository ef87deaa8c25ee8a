// Package mirror keeps a private copy of a database, the mirror, equal to the database. What is
// replicated is read from the mirror, and never from the database itself.
//
// A [Tracker] does the work for the holder of a spool's lock: it applies the changelog and the
// WAL, copies the database where these do not suffice, and finds what nobody has recorded. A
// [Mirror] is the copy, with a note of how each chunk differs from the last cut; a [View] is what
// somebody still needs of it while it goes on. A [Source] is the live database file.
//
// The package knows no network, no target and no manifest. It imports spool (the protocol with the
// recorders), spool/sqlitefile (what SQLite's files look like) and replicate/backoff. Of package
// chunkstore it uses what a chunk is: its size and its ID.
//
// # Concurrency
//
// A Tracker and its Mirror belong to one goroutine; views are for any. The package takes no lock
// of SQLite's. All wal-indexes of the process are in one table, with a mutex of its own
// (walindex.go): closing one would drop the locks that SQLite has on it.
//
// # Base copy
//
// A base copy takes no lock:
//
//  1. Read generation g, then head h0. Let tail be h0. At an instant like that of step 3, store the
//     file's stamp.
//  2. Copy the database file into the mirror.
//  3. Find an instant at which writing is 0, no connection but the holder's holds EXCLUSIVE, no
//     journal is hot, and the file has the stamp that is stored. Read head h1.
//  4. Apply h0..h1.
//  5. If generation is still g, the mirror is the database as of h1.
//
// Every write that the copy could have seen in half is in a transaction that is published after h0
// was read and, by step 3, before h1. The log may be applied, and freed, at any time during the
// copy. What takes the place of step 3 under a busy writer and under locking EXCLUSIVE stands at
// baseCopy.
//
// A base copy of a database in WAL mode first declares nothing consumed, so that copy on reset
// leaves every frame in the log. After the copy it applies the log, and then all frames of the WAL.
// What a checkpoint wrote into the file while it was copied is in those frames. It needs no instant
// without a transaction: the file holds committed pages only. If the file's stamp says that
// somebody else wrote to it meanwhile, all of the mirror is compared with the file under the WAL's
// frames: a checkpoint writes nothing else.
//
// # Invariants
//
// A kill at any point leaves files from which a successor goes on:
//
//	M1  A chunk's byte in dirty is set before the first change of the chunk since
//	    the last cut reaches the mirror's file, and cleared only after that cut is
//	    saved (see Files in package cutter).
//	M2  The mirror's length decides: what dirty has beyond it counts for nothing,
//	    and is cut off when the mirror is opened.
//	M3  Which sectors of a chunk changed is only in memory: a successor takes the
//	    whole of a chunk as changed whose byte is set.
//	    Diff.Since has all that changed after Diff.Begin, while the chunk has that Diff.
//	M4  A chunk that a view needs is set aside before it is changed.
//	M5  What the files are like is in the state (see guard.go), or since when they
//	    are being changed: what else changes them is found out before it is used.
//
// The changelog is applied again from its tail, so that a torn transaction is
// made whole (replaying is idempotent); a torn base copy is begun anew.
//
// When a mirror is the database, I3 and I4 of package spool say.
//
// # Beliefs
//
// What is concluded, from which witness, what defeats the witness, and what happens then.
//
// The file is a committed state at this instant. Witness: nobody holds EXCLUSIVE (F_OFD_GETLK) but
// a recorder that is in no transaction, and no journal is hot. SQLite has EXCLUSIVE from its
// first write to the end of the transaction, or of a rollback. Defeated by: a VFS without these
// locks (unix-dotfile, unix-none, nolock=1); and a process that was killed in a transaction
// under journal_mode MEMORY or OFF, whose half is what SQLite itself takes for the database.
// If somebody without a recorder holds EXCLUSIVE for longer than 5 s, base copies fail: a flush
// fails, and says which process it is, and so does the status.
//
// A base copy is the database. Witness: the belief above, and that nobody has written without a
// recorder (package spool), when it begins and when it ends, and each recorder's look in between.
// Defeated by what defeats those. If they say no, the copy is made again, with pauses that grow to
// 5 s; a flush waits for that, and fails when its time is over: "the database changed during the
// copy".
//
// A transaction of the WAL is what was read of it. Witness: the running checksum from frame to
// frame, up to a commit frame. Long ones are read twice, as they are not held in memory, and
// the second time must end with the same sum. Defeated by: a writer whose commit failed and who
// writes other frames there, and a reset of the WAL meanwhile. The mirror may have a part of
// the transaction by then: it is of no generation, and is compared with the database.
// (Frames without valid checksums, which SQLite 3.40 leaves, count while the WAL has the same
// header.)
//
// A database is as long as its last commit says. Witness: the commit frame. Defeated by: a
// damaged file, or one that was made to harm us. So it counts only up to what the file and the
// WAL's frames make ([sqlitefile.WALSizeMax]), which is where SQLite's checkpoint stops, too.
// Beyond that the database is not replicated, and a flush fails and says why.
//
// The WAL that a base copy has found is the database's from now on. Witness: the file at the path
// is what the mirror has of it, and whoever has published another one holds neither the WRITE lock
// of the wal-index nor EXCLUSIVE, without which nobody publishes. Defeated by: a process that goes
// on with a WAL whose file was deleted or replaced under it. Its next commit publishes its own WAL
// again, and raises the generation; that is not found at the path, and the database is copied once
// more, as the next one who opens it will read it.
//
// Nobody but recorders has written, says a flush. Witness: the comparison of the files with a
// mirror that is brought up ([Tracker.Suspect]), and what lies beside the file ([LookBeside]).
// Defeated by: a mirror that is not, as it has an error or its generation is an older one. Then
// nothing is concluded, and the flush waits until it can be.
package mirror
