// Package deposit puts a whole database into a store, where it lives from then on: an empty one, or
// a copy of a file. It makes it with what transactions are made with (package compose), as one
// transaction that writes every page.
//
// # Order
//
//  1. The store keeps what a writer relies on: it is asked, by [chunkstore.Target.Prove] and
//     ProveCreates.
//  2. The packs are put, and then leaves and nodes of a tree.
//  3. A new database: the checkpoint is kept, to be gone back to, and becomes the newest one on
//     the condition that there is none.
//     One that is there: its history is taken over by a fence, where nobody holds it; the version
//     is appended as the next one, and put as a checkpoint; the history is given back.
//  4. It is asked for each pack, once.
//
// # Invariants
//
//	D1  Nobody sees a part of the copy. Whatever fails before step 3 leaves packs that nothing
//	    names.
//	D2  A database that is there is not replaced without being told to; and then all versions of
//	    it stay, to be gone back to.
//	D3  Who has the old version in SQLite's cache does not take it for the new one: as with
//	    SQLite's backup API, the schema cookie and the change counter are the old ones, plus one.
//
//	D4  On return without an error all packs were in the store after the copy was. What was lost
//	    before is put again from the source: a store may be put back to an older copy, and lose
//	    what was put since.
//
// # Beliefs
//
// The source does not change. Witness: the caller holds a read lock of SQLite's, or nobody else
// knows the file.
//
// Nobody writes to the database that is replaced. Witness: its history is given back, and is taken
// over here, by a fence. Who takes it over in turn is ahead of us: the append is refused, and
// nothing is replaced.
//
// A pack that is there is what would be put, and stays until the copy names it. Witness: its name
// is what it holds, where a put is whole or not there; and it is younger than foundMax. Defeated by
// a store's clock that is a day behind: then it may be collected, and verify finds that.
//
// The history was begun, if the answer to that was lost. Witness: the newest checkpoint has the
// lineage that was drawn here.
package deposit
