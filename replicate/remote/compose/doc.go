// Package compose makes the next version of a database that lives in a store of what a transaction
// has written, and says how one leads to the other. It puts packs, and nothing else: who appends
// the records, and who may, is package remote's to know. It keeps no state.
//
// # What a version is made of
//
// SQLite's pages come as blocks of 4 KiB. A small transaction travels in its record, as inline
// pages, one for each block: one request. A large one would make a long record, and long
// checkpoints: its chunks get new objects, in packs, which are put before. Inline pages are laid
// over the objects of their chunks; a newer one of a block replaces the older.
//
//	                            inline                        in packs
//	up to 256 KiB of blocks     all                           none
//	more                        page 1; where a chunk has     all other chunks
//	                            one or two, up to 64 KiB
//	the version's inline pages  likewise, while there are     all other chunks that it changes,
//	would pass 896 KiB          less than 640 KiB             with what they had inline
//
// Fold moves inline pages into new objects, in the background, when there are 640 KiB of them.
// Page 1 is always inline, as readers begin with it; it counts for nothing in the budgets.
//
// The crown stays inline, too, up to 320 KiB: the interior pages of all tables and indexes, level
// by level from their roots, and what of the schema has no room in page 1. Of a level either all
// is in it, or nothing. So who begins with a checkpoint has the way to each leaf, of a database
// of 128 MiB or so; of a larger one, the upper part of it. A page that no commit has written since
// the crown lost it is not missed: it is read from its chunk.
//
// A version has its objects as patches over the tree of an earlier one. A checkpoint has a tree of
// its own; so has a version that would have more than 1,024 patches, as each commit after it costs
// a copy of them.
//
// # Where a file ends
//
// An object may be longer than its chunk: the file was cut off, or a later version was. So where a
// file grows from the middle of a chunk, the bytes from there to the chunk's end, or the file's,
// are said: as blocks, as zeros inline, or by a new object. (Whole chunks beyond the end are zeros
// by [manifest.Step].Shortest.)
//
// # Invariants
//
//	C1  A version's bytes are its base's, with the change laid over them, cut off or followed by
//	    zeros to its length.
//	C2  What a version names is durable before Compose, Fold or Checkpoint returns it. After an
//	    error nothing of what was put is named.
//	C3  Apply of the decoded step to the base is the version.
//	C4  Join of drafts in a row is the draft from the first one's base to the last one's version.
//	C5  Fold, Checkpoint and Rebase change no byte. They go by what versions say, by equal names
//	    of equal contents, and not by what happened between them.
//	C6  Memory is bounded, however large a change is: 64 MiB of chunks in a draft; 4 MiB for each
//	    pack that is being put; [Options].Keep for packs that were; some 100 bytes for each chunk
//	    that changes.
//
//	C7  Page 1 is inline in every version that Compose makes of one where it is, or of a change
//	    that has it. Chunk 0 gets an object only then, and not if page 1 is all of it: readers
//	    show SQLite another change counter than is stored (package replica), and what they show
//	    comes into no version unless SQLite wrote it.
//
//	C8  A draft names the packs that were put for it, and has the first of them, up to
//	    [Options].Keep: who puts them again, under the names that they had, mends a version whose
//	    store was put back before it was named.
//
// # Beliefs
//
// A block that equals the base's did not change. Witness: the bytes. What is not cached is not
// compared, and counts as changed: a version may come of a rollback, which says nothing new.
//
// The base's reader reads the base, as SQLite is shown it. Witness: the caller. What a partly
// changed chunk has besides the change, and what Fold puts, comes from there.
package compose
