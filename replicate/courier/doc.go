// Package courier brings versions to targets. Each target has a [Courier], which knows what the
// target has and lacks, and where it stands with it ([State]). The couriers of one database make
// an [Office]. It does not decide when a version is made, and makes none.
//
// # Contact, push, look
//
// A contact reads the newest version that a target has under our name, records folded in
// (replicate/versions). It is the last version of ours, or our past, whose tree is read, too, or
// another writer's, which stops the courier (I5). A target that has nothing can be given, at its
// contact, what a base copy is just reading ([Office.Ahead]).
//
// A push puts what is missing, in packs: chunks, in runs that are made durable; then it tells the
// target of the version. What a long push has put is noted in the spool, run by run, until a
// version names it: a push that was interrupted goes on, also in another process (uploads.go). What
// was put 20 hours ago, or is known since then, is touched, so that nobody collects it before it is
// named (unnamed.go); if it is gone, the push fails, and it is put again.
//
// No record waits for a fold (package cutter). Its packs are put to all targets of which it is
// known what they have, beside pushes and with no more slots, and are durable before it ends
// (fold.go). When all have taken it, the next version names what it has put, where it stands in
// each target (notes.folded). If one fails, so does the fold, and for a while a push puts such
// chunks before its record. What is not named within an hour is forgotten, and put again.
//
// A look asks whether a target is still what it was taken for.
//
// # History
//
// A target that was seen to keep the conditions of Puts, in both of its buckets, has a history of
// the database (package manifest/history). Then a push ends in a record of the step from the
// version that is there to the next one. Where that is too long, or the tree has lost something,
// leaves and nodes are put, and the record has all of the next version. A target that has no
// version, or one of which the history cannot be gone on with, is given a manifest that begins a
// new one: a fresh log has no remains. Of the history that it replaces the end is taken over first,
// so that whoever owns that, and sleeps, is refused.
//
// Whoever appends first takes the history over, by a fence that says who he is. What a writer is
// made of again is noted in the spool (saved.go), before a record is appended and after that: so
// the next process of this spool goes on without a fence, and without a request before its first
// record.
//
// A process that ends does not release the history: the next one goes on by what was noted, and
// pays nothing. To have it released takes another request, or has to be in the last record, and
// nobody knows which one that is; and then the next process pays a fence, which is one more. What
// is not noted, as a spool was lost or the machine has booted, leaves a fence that stays (T1). Of
// those a history has 64 at most: who would have to add to them begins a new one.
//
// A record of which the answer was lost is unsettled: the push goes on with that question, and no
// other one begins. It is settled by the next attempt, or by the contact of the next process.
//
// A checkpoint is put in the background (checkpoint.go): after 64 records or 512 KiB, when nothing
// followed the last record for ten seconds, at the end of a process that leaves 64 of them, or of a
// Sync that leaves 16. It puts leaves and nodes, and then the manifest. Pushes go on meanwhile;
// what they do to the tree is done again to the checkpoint's, which takes the place of theirs. One
// in ten minutes is put beside the manifest, too, and first, to go back to.
//
// Nothing is deleted here.
//
// A target that keeps no conditions has no history: there each version is a manifest, as a whole.
//
// The patrol touches the packs that the newest version in a target names, the records after the
// newest checkpoint, and fences, so that a rule by which old objects expire does not reach them
// (package patrol). What stood in a pack that is gone is put again; without a record, a history is
// begun anew.
//
// # Damage
//
// Nobody reads here what was put. Who has read a target (verneuilctl sync --read) notes in the
// spool what is damaged there (damage.go), and asks for a flush. It counts as gone: the target is
// contacted anew, and what the newest version needs of it is put again, in packs of another
// edition, which have other names: so it does not matter whether damaged ones may be replaced. A
// record or checkpoint that cannot be read the contact finds by itself. The note stays until that
// is done, for a successor, and for who asks for the status. What older versions need is nobody's
// here.
//
// # Repacking
//
// A pack goes only when nothing names it (package upkeep). So one of which a single chunk is left
// would stay, for 64 that are dead. What is alive of packs that are mostly dead, less than a
// quarter of their objects and bytes, is put into new ones (repack.go): from the mirror, or where
// inline pages make the difference, from the target. When that is durable, the stock notes that
// these objects stand elsewhere, too, as it does of what a push has put that failed. The next
// version says so, or, if there is none, the last one is told again, by one record. So a
// checkpoint, and who folds records, have the new places or the old ones, as after any push, and a
// version has its content whichever of them it has. Leaves and nodes are put anew by the next
// checkpoint.
//
// What is mostly dead is found out by a census, which goes through the tree twice, without keeping
// it. It begins with a checkpoint, and only when 512 chunks, and an eighth of all, have got another
// place since the last one, as nothing else can have killed chunks; the count is in targets.json.
// So for each such chunk, which was put, 16 entries of the tree are looked at; if it is not loaded,
// that is one request for 32 chunks at most. And one chunk is moved for eight, those of the packs
// first of which least is alive. Where the live ones are a pack's first, their places do not say
// how long it is: it is asked for, for at most as many packs as chunks may be moved. It needs 10
// MiB of memory: of more than 128 Ki packs it counts a part that is drawn at random. All its
// requests are patient. An idle database has no census. A process that ends waits for it only where
// the database has at most 2 GiB.
//
// # Places
//
// A version that was cut says what a database is made of, and not where that stands. Each target
// has places of its own, as what it was put, and when, is its own: one was away, one has lost
// something, one was given less at a time. So each courier has a tree of its own, with places
// (stock.tree). It is the tree of the version that the target has, and changes when the target has
// taken the next one: a push works on a clone. Its leaves and nodes may be left in the target: what
// a change of them needs is fetched then, so that a process that opens a database, commits and ends
// fetches none.
//
// What the last version has otherwise is noted chunk by chunk (stock.missing, stock.moved), and how
// short it has been meanwhile (stock.least).
//
// # Invariants
//
// Those of package replicate that are kept here: I1 (run, of a push), I3, I4 (contact, notes), I5
// (judge, and the condition of a push), I7 (lose, compare), I8 (sealChunks) and I10 (a push has the
// patrol step aside). And:
//
//	Q1  stock.tree says nothing that stock.version does not, which is what the target's checkpoint
//	    and records make, or its manifest; stock.mark is at its end.
//	Q2  A target is told of a version with the tree that stock.tree is after change.apply: each
//	    object that it names, the version before it names in the same place, or the journal of
//	    puts did, or this push has put it there durably.
//	Q3  That tree names the same object for each chunk as the version's own does. The step names
//	    all chunks for which it has another than the tree before, and how short the database was.
//	Q4  Of a pack that is gone, nothing is named by the next version, which is told as a whole:
//	    its chunks are missing, its leaves and nodes are put anew (manifest.Tree.Lost). Found
//	    gone while a push is under way, it is taken for gone again when that has succeeded.
//	Q5  No record is prepared while one is unsettled, and no checkpoint is begun of a history that
//	    we do not own. A checkpoint is of a version that the history has.
//	Q6  What is moved keeps its object. It is moved only while the tree has it where the census
//	    saw it, and the last version has the same object: what a push changes is the push's.
//	Q7  Of packs that are sealed or put there are no more than the target has slots, for all
//	    databases of the process. A base copy has two more that are sealed, and while others
//	    have the slots, one for each of its own puts.
//	Q8  What a fold has put is named only in the target that it was put to, as long as no contact
//	    has met that anew, and no pack of it was found gone.
//
// # Beliefs
//
// What is concluded, from which witness, what defeats the witness, and what happens then.
//
// A database has no past in a target. Witness: nothing stands there under its host and path.
// Defeated by: a host name that changes, as a container's does with each start. Then all is
// right, and nobody finds the versions before: the first push lists a bounded part of the
// target, if it may, and warns of other hosts that have the path (elsewhere.go).
//
// A target has an object in a place ("there"). Witness: the version that we find in it says so, and
// names the identity of the chunk bucket that stands beside it (chunkstore, "Beliefs"); or a Sync
// of the pack in a bucket of that identity, for a day (put.<…>). Defeated by: a bucket that was
// exchanged or emptied, which has another identity, or none, so that all is put again; by
// a rule under which objects expire, which the patrol is for, and which takes the
// marker first where there is no patrol; by somebody who deletes some packs. So three are
// asked for at random at a contact, at a Sync, and at a push after ten minutes without (where a
// leaf is left in the target, it is one of them). If one is gone, all are asked for, and what stood
// in those that are gone is put again; no flush succeeds before that. If a leaf cannot be
// read, nobody knows where what it names stands: all of that is put again.
//
// A target has our version ("sent"). Witness: an answer to our Append, or to our conditional Put;
// or a look that finds our checkpoint, our last record and none after it; or a version with its
// Cut: a number drawn at random when it was cut, so that it is known again in whatever places it
// was put. (Who forges that may write to the bucket.) It is believed while we push: the next number
// of the log, or that ETag, is the condition. A record says nothing of the checkpoint that it
// follows, so a flush looks for that, and nothing of the records before it, which may be gone when
// somebody has put the store back to an older copy: so it asks for those after the checkpoint, from
// the one on at which all were last seen, and for all of them when objects were asked for since. It
// believes what was seen, and the chunk bucket's identity, for a second, and else asks again: two
// to four requests, one for each record since then, and three for objects if none was asked for in
// ten minutes. At the end of a process, or of the last connection, nobody has asked: then a minute.
// What a target has, and when that was seen, stands in targets.json and history.<…> for the next
// office. Defeated by: whoever deletes or replaces things within that time: a checkpoint that is
// gone is found by the next one, or by a push after ten minutes. An idle database asks nothing.
//
// The history goes on where the last process of this spool left it. Witness: the file history.<…>
// of this boot, and that the log is in the bucket that has the identity which it names. Defeated
// by: an older file, as of a disk or a machine that was cloned or put back, which is a copy of our
// writer: the first of the copies has the next number, and the other one is refused, and finds that
// the version there is not its own; a file that is torn, or gone, costs a fence.
//
// Another one has taken the history over. Witness: that we had appended in this process, and now it
// has a higher epoch, by a fence that no writer of this courier has signed. Then the courier stops,
// also if nothing but the fence is there: who puts that is about to put versions. A process that
// begins cannot know whose a fence is; it judges by the version. Defeated by: nobody who does not
// write to the bucket.
//
// A version in a target is ours. Witness: its Cut, among those of the last 4,096 of this spool
// (noted before a cut is saved, and so before it is put), or as the one that the target took last
// (targets.json). That its lineage and epoch are ours, and its
// number no higher, is no witness: a clone of the disk, or of the machine with its memory, goes on
// with the same. Defeated by: a version so old that 4,096 followed, which is then another
// writer's, and stops the courier, loudly; a spool whose file of them is gone takes over, as one
// without a cut.
//
// A target has what our last version names ("same"). Witness: the target was last known to have it,
// and has the checkpoint of that ETag, and the record of that digest. Its Cut alone is no witness:
// who may write to the bucket can put another content under it. Then the content is compared,
// chunk by chunk, and what differs is put again.
//
// What is noted as damaged is so. Witness: none; whoever may write to the spool says so. Defeated
// by: one that was put again since. Then it is put once more, elsewhere. And that all is mended is
// believed by nobody: who has found the damage reads the target again.
//
// A pack is mostly dead. Witness: the target's tree, as it was when the census began, and the
// length that the store says, or the places. Defeated by: pushes since, which kill more; two chunks
// of one object, which count twice; a store that says no length. Then something is moved that need
// not be, or stays for longer.
//
// A target works again, says the log. Witness: it has taken the last version of the database that
// had failed, or shows that it has it. That it answers at all is no witness: it may let us read,
// and not write.
//
// # Concurrency
//
// An Office and its couriers belong to one goroutine. Contacts, pushes and looks run as errands:
// they share nothing that changes, and their results are taken by that goroutine. [Outages] and
// [Sent] are safe for concurrent use.
//
// The package imports replicate's cutter, mirror, patrol, locate, versions, errands and backoff,
// and spool, manifest, manifest/history and chunkstore.
package courier
