// Package upkeep looks after what targets hold: it works on a target, and not for one database
// that is open.
//
// A [Verifier] proves that a target can give every byte of a version: it gets leaves and nodes,
// and looks for the packs in which chunks stand, or reads and hashes the chunks, too. A pack is
// looked for, or touched, by one request, and read by one or two for each GiB of the file that
// names it; what versions share is looked at once. It changes nothing, but that it may touch what
// it finds, so that a rule by which old objects expire does not reach it.
//
// With [Verifier.VerifyPast] it looks at all versions before the newest, too; only if something is
// bad it finds out of which.
//
// [Scales] tell how much room versions take, alone and together. They change nothing.
//
// [Collect] deletes what nobody needs any more of targets that share a bucket of chunks.
//
// # What is collected
//
// Let now be the time by the store's clock, or earlier. "Recent" is less than history_hours + 1 h
// ago. What stays, and is live:
//
//   - the newest version of every database: its newest checkpoint, and the records after it,
//     folded;
//   - every version of a manifest that its bucket keeps. A directory keeps versions for ever by
//     itself: there, those that are recent, the last one before, and the first of each day (UTC) of
//     the last week;
//   - of the checkpoints that are kept, in each database likewise; and of each lineage that is the
//     newest, or of which something is recent, the last one before: its base;
//   - the records after a base, or, without one, the last ones without a hole between them;
//   - if one host is named, all checkpoints, versions and records of others.
//
// A pack goes if nothing live names it, and it was put, or touched, more than history_hours + 26 h
// ago, and more than 49 h: history_hours + 1 h, for which records name it; 24 h, in which a writer
// believes that it is there without a version that names it (package replicate/courier); 1 h for
// the push. A record goes if its number is below the base, and below the newest checkpoint: the
// one that this checkpoint ends with stays, though nobody has to find it. A fence that the newest
// version lists never goes. Of a history that was replaced, or whose database is gone, all records
// go if none of them is recent, and it has no base. The leases of databases in stores of which
// there is no manifest go when they are as old as a pack that goes; so do pins. Anything else in a
// bucket is left alone.
//
// # Invariants of collecting
//
//	G1  A version that stays, or that records make of one, restores byte for byte.
//	G2  Who has read the newest version before something goes, and who writes the next one, finds
//	    all that he asks for.
//	G3  A pack is not deleted that was put, touched or pinned since it was listed.
//	G4  Packs go last: a version that is there has its packs, also where a run ends half-way.
//	G5  Unless all that names packs was read, nothing goes: a list that fails, a manifest that is
//	    damaged, or of a later program, a leaf that is gone.
//	G6  No collector hinders another, or a writer.
//	G7  Who holds a database that lives in a store, and slept for long, cannot append a record
//	    whose packs are gone.
//	G8  Where keys were rotated, a pack is replaced by itself, sealed with the newest key: it has
//	    the same name, length and places, so that whoever reads or names it meanwhile is not
//	    concerned; a put of somebody else is not lost. What has a time that counts, a record or a
//	    version, is left as it is.
//
// G7: Of a database that a host replicates the host has a copy, and puts again what is missing; one
// that lives in a store is nowhere else. Its holder puts packs, and then appends the record that
// names them. He may sleep in between for any time, and nobody need have taken over. So before
// anything is read to be kept, a collector that is to delete takes such a database over from a
// holder whose last record and last heartbeat are more than an hour old, and gives it back: the
// record of a sleeper is refused. If he was faster, it is read. A holder who lived an hour ago has
// put what no version names at most that long before, and the time that one transaction takes: it
// is young.
//
// Why nobody can name a pack P that goes. Whoever puts a version has its packs from three sources.
// (a) He has put P himself, or touched or pinned it since. That was more than 26 h ago, and so is
// longer ago than he believes in it. (b) P stands in the version before, which was the newest one.
// If it still was when it was read here, P is live. If another one had replaced it already, his
// version is refused (package manifest/history), or is the same lineage's and names only what its
// own version before does. (c)
// He puts the same bytes again: then their pack has the name of the day on which he began it
// (package chunkstore, I8), which is none on which P was put: it is another pack. A reader is at a
// version that was the newest: in a history it is one that stays, or its record is. Let such a
// version be what the records up to r make of the checkpoint K. If r is recent, and P was named by
// r or by a recent record before it, P was put at most 25 h before that, and is young. If P was
// named by a record before since, that one lies behind the base, and was read here. Otherwise P
// stands in the base's tree, which is live. But a checkpoint that was the newest one, and was not
// kept, has leaves of its own; and where there is no history, the version before the newest is not
// known. So if a newest checkpoint is younger than 20 minutes, and its bucket keeps no version
// before it, deleting waits that long: who had the one before has moved on by then, as readers
// look every few seconds.
//
// Writers put elsewhere what is alive of packs that are mostly dead (package replicate/courier).
// That is told as any other place is, by a record. So the old pack is one that stands in the
// version before, and the new one is one that was put by (a): nothing of this changes.
//
// Records: T1 holds, as the newest version lists the fences. T5 demands that a checkpoint which has
// what goes was the newest one 20 minutes ago. Witnesses are the time at which the present one was
// put, or a version that its bucket keeps. Else all deleting waits for 20 minutes after the newest
// checkpoints were read. A checkpoint that is kept is none: it is put before it becomes the
// newest one, which it may never have become.
//
// G8: To seal a pack anew reads it, and puts it on the condition that it is what was read. Its time
// is a new one: it stays longer, if nothing names it. That it is needed no more is found before
// that. While there are older keys, each run asks for the last bytes of each pack, which tell by
// which key all of it is sealed; for the first bytes of each newest checkpoint, and of a few
// records.
//
// Requests: a list of each bucket, 1,000 keys each; for each database a GET, HEAD and those of a
// reader of records; a GET for each version that stays; the leaves of the first version, 64 in a
// range of a pack, and of the others those that differ; one for 64 records or less. To delete a
// pack takes a HEAD and a DELETE. Measured: 54 GETs and 4 lists for one version of 100 GB. Memory:
// some 100 bytes for each pack that is live, 8 for each object there that a version names, and 150
// for each leaf (100 GB: 25,000, 1.6 million and 3,200, or 16 MB), 40 for each pack that goes, 150
// for each version and lineage, 16 for each record that is too old; and of leaves 64 at a time, 1.5
// MB, for each of up to 32 versions that are read at once. Measured, with what Go had not given
// back yet, and without the objects: 28 MB for one version of 100 GB.
//
// # Beliefs
//
// What is concluded, the witness that it is drawn from, what defeats the witness, and what happens
// then.
//
//	the target can give a chunk
//	         without Read: its pack begins as one, and does not end before the chunk, or was
//	         touched. Damage in the pack, or another pack of that name, defeats it: Read finds it.
//	         With Read: bytes of the pack, at the place that the version names, have its ID
//	something is old
//	         Modified of a list, and now: the newest Modified of manifests and kept checkpoints,
//	         or this machine's clock if that is before it. A directory that machines write to
//	         whose clocks differ by more than an hour defeats it. Where nobody writes, time
//	         stands still: what the last two days have left stays
//	nobody names a pack but those who were read
//	         all manifests of the bucket of manifests, whose identity of chunks is this bucket's.
//	         A second bucket of manifests for one of chunks, which is not in the configuration,
//	         defeats it. So does a manifest that somebody puts back from a copy of his own; and a
//	         database whose manifest was deleted has no version any more, also where the bucket
//	         keeps some
//	a writer has named what it put, or will put it again
//	         26 h, and history_hours, and 49 h at least: what it has put for longer than 20 h it
//	         touches before it names it. A process that slept that long between the last touch
//	         and the record defeats it. Its version lacks packs: a look, the patrol and verify
//	         find out, and the replicator puts them again
//	a pack is not put again in the moment before it is deleted
//	         it was put more than 49 h ago, and its name has that day: nobody puts another one of
//	         that name today. So it does not matter how late a Delete is carried out, for which
//	         stores have no condition. A writer defeats it whose clock is two days slow, or who
//	         began the pack two days ago and slept. A Stat before each Delete finds those who
//	         were faster. Another one has a version that lacks the pack, if he put the very same
//	         objects: a look, the patrol and verify find out, and the replicator puts it again;
//	         and who holds a database in a store cannot append a record after a sleep (G7)
//	nobody can append a record that was trimmed
//	         T5's 20 minutes, by a timer that stops while the machine sleeps, so that it is longer
package upkeep
