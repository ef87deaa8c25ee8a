// Package replica reads databases from their targets: it brings manifests and chunks to this
// process, and shows SQLite one version at a time. Nothing is written to a target.
//
// There is one [Set] per process. In it one follower per source, which all connections share
// that read the source ([Set.Open]). What a follower fetches goes
//
//	version    a snapshot: an immutable version, with a table chunk -> slot, in parts that
//	           versions share where they are the same (inherit.go)
//	chunk      a slot of the slot file, once for all versions and sources that have it
//	inline     pages of a version: a patch, which lies over the slots (patch.go)
//	leaf       a small cache, by ID, as versions share most of them
//
// What lies together in a pack is fetched together: one request for all chunks that are wanted of
// a pack at a time, unless far apart. What a manifest names lies in packs of the target that it
// came from. Where that fails, or is slow, another target's manifest is asked in which pack of its
// own the same chunk is (sources.go).
//
// A [Reader] is one connection's place: the snapshot that it reads, and holds. It reads
// from the slot file without Go if it can (cgo/snapshot.c); else [Reader.Read] fetches
// the chunk. All who miss a chunk share one fetch. It is repeated with pauses until
// the deadline, and ends at once if the host interrupts the connection.
//
// A refresh asks for the next record of the database's history, by one request, which as a rule
// there is not; for more at once while there are more; and for the manifest where it is in no
// history, or is far ahead (package locate). A new version is built
// beside the newest: chunks that are the same it takes over without a request, so that
// a small commit costs its manifest and nothing else; and some microseconds, however large
// the database is. Then it becomes the newest, and a connection moves on when it
// is told to, or with auto refresh at the start of its next transaction. What was
// loaded and has changed is fetched in the background. A source is polled only while
// a connection wants auto refresh; meanwhile it is listened to, where the store can tell of
// news (package bell).
//
// What is fetched before it is asked for, at most 160 chunks at a time in a process:
//
//	a sequential read    the next chunks, 1, 2, 4 to 32 beyond the one that is read, then a third
//	                     of what was read, to 128: two packs. Half of them are read when more
//	                     are asked for (reader.go)
//	a scan of a b-tree   the next children of the page above, likewise
//	lookups              siblings of interior pages that are missed, not on the first
//	                     miss (interior.go)
//	a query by an index  the rows that the index's leaf names next: those of the same key
//	                     at once, the others beside the second row (rows.go)
//	a full-text search   the pages of all segments that may have the term, when the page of the
//	                     first one is known (terms.go)
//	the tree of chunks   all its leaves beside the records that follow the checkpoint, if they
//	                     are at most 320 KiB; else with the third one, if they are at most 32;
//	                     and the leaf of a chunk that was found without it (leaves.go)
//	a refresh            what replaces loaded chunks
//	the loading policy   before the version can be read
//
// What is guessed of lookups and queries by an index must pay: chunks that nobody has come to stay
// below 8, and 3 of 10 that were read (budget.go). A scan's siblings may be more, if those before
// were read.
//
// # Invariants
//
//	F1  A reader sees the bytes of one version until it is told to move on.
//	F2  A slot keeps its bytes for as long as a part of a version's table refers to it, and they
//	    were verified by the chunk's ID, or come from who has derived a version with it.
//	F3  A version becomes the newest whole: with all that its predecessor had loaded and
//	    it still has. A fetch that fails changes nothing.
//	F4  Versions of one lineage are followed forwards only, also when another target
//	    answers, which lags. If such a target has another lineage, it is believed only if
//	    its version was written later. That the target which a version came from has only
//	    older ones by now is an error, and the version is not taken for the newest any more.
//	F5  No read waits longer than the deadline, and none waits for a refresh. None fails
//	    because of a chunk that it does not need, and that was fetched together with its own.
//	    Nor does one fail because one target does, if another has the chunk that can be asked.
//	F6  Nothing is written to a target: credentials that get objects are enough. (What is to hear
//	    in RADOS watches an object, which takes more, and polls if it may not.)
//	F7  The host's memory hardly grows with what is loaded: two extents of the slot file
//	    are mapped, and a loaded chunk of 64 KiB takes some 100 bytes of bookkeeping.
//	F8  Two versions show SQLite the same schema cookie only if the writer has followed every
//	    transaction between them, and the file's own cookie is the same.
//	F9  What is fetched ahead changes nothing of what is read, whatever the pages hold by which
//	    it is chosen: it comes by IDs, as what is asked for does. At most 160 chunks of a process
//	    are on their way so; each costs memory while it comes, and a slot then, like one that was
//	    asked for. Nobody waits for it who does not need it, and its errors are nobody's.
//
// # What is derived
//
// Who writes to a database in a store makes its next version here, before the store has it: he
// derives it ([Reader.Derive]) of the one that he has changed. It shares with that all that was not
// changed. It is nobody's newest version until it is published. Until then it is read by who was
// moved to it, and versions are derived of it in turn. What is never published goes when the last
// who holds it gives it back.
//
//	D1  A derived version is its manifest's: it shows the bytes that the same version shows that
//	    is fetched from the store.
//	D2  Nobody is shown a derived version before it is published, but who was moved to it.
//	D3  Two versions of a source are shown with one change counter only if their content is
//	    the same, also where one of them failed. A source that is fed takes its counters in
//	    strides, so that what SQLite has counted up itself can be shown as it is.
//	D4  Of a source that is fed the file's own schema cookie is shown, if none of another
//	    schema was shown with it before. Else it is one that no version was shown with, and
//	    a fresh change counter, so that who writes next writes back what all were shown.
//	D5  The newest version goes forward: neither what is published nor what was fetched meanwhile
//	    takes the place of a later one of its lineage.
//
// # Beliefs
//
// What was derived here, and has the lineage, epoch, sequence and Cut of what the source says is
// its newest version, is that version. Witness: the Cut, 128 bits that were drawn here at random.
// Defeated by who rewrites the store's history on purpose. Then this process goes on with what it
// wrote, until there is another version, whose chunks are compared by their IDs.
//
// The target that is followed is as far on as any. Witness: all that answer were asked, when the
// source was opened, when a refresh was last forced, and once in 60 polls that bring nothing.
// Defeated by: a target that the writer cannot reach from then on. Until the next such question its
// last version is taken for the newest.
//
// What was read of a target is still there, so that the next record is the next version. Witness:
// there is one, and it names the last one that was read; else, when a refresh is forced, and once
// in 60 polls that bring nothing, the checkpoint and that last record are asked for. Defeated by: a
// store that is put back to an older copy between two such questions. Until the next one, a replica
// takes what it has for the newest version, also while the writer goes on there.
//
// The schema that a replica's connection has parsed is still right. Witness: the file's own
// schema cookie, as long as Continuity says that the writer has followed every transaction
// between the two versions. Defeated by: another file at the source's path, and every write
// that tells nobody; then the writer has copied the file, and Continuity is another. Without a
// Continuity, or if the cookie goes back, the schema is parsed anew (F8).
//
// # Concurrency
//
// A Set, its followers and its slot file are safe for concurrent use. A Reader is used by one
// goroutine at a time. Lock order: Set.mu, follower.mu, gate, slots.mu,
// memory.mu.
package replica
