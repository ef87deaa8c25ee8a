// Package cutter makes versions of a database: it decides how each chunk that has changed is
// described, by a new object or by pages inline, and makes the tree and the manifest that say so.
// It sends nothing. It knows neither the changelog nor targets: a database is what [Contents]
// says, and those whom versions are made for are an [Audience].
//
// # A cut
//
// A cut is the tree of object IDs, and the pages that travel inline over them. Its tree and its
// manifest have no places: where objects stand differs from target to target, and whoever puts the
// cut says so. What all that is put of one cut shares is [manifest.Manifest.Cut]. A cut is saved in
// the spool before anybody puts it, so that a successor knows what targets may have. Page 1 always
// travels inline, and so do the rest of the schema and the upper pages of tables and indexes, as
// far as they are small (crown.go; [Near] is where readers go on from there), and the
// changed sectors of chunks that changed little and lately, as long as everybody has the object
// below them. What they may cost, and why that much, stands in plan.go.
//
// # Folds
//
// What outgrows its place inline needs new objects, and to make and put those takes longer than to
// put a record. So a cut, if it can, carries it inline once more, and asks for a [Fold]: objects of
// these chunks as they are when it begins, which somebody makes while further versions are cut.
// What changes of them until then is noted twice: as all that differs from the old object, and as
// what has changed since the fold began ([mirror.Diff].Since). The first cut after the fold's end
// names the new objects, and carries what has changed since. A fold that fails is forgotten: the
// old objects, and all that differs from them, are still noted of each chunk.
//
// A spool without a saved cut (the first, or after a reboot) takes over the newest version that a
// target has under its name, in its lineage and the next epoch: what is there is not put again.
//
// # Invariants
//
//	C1  A version is a state that the database had: it is cut while nothing is written to it. (I2
//	    of package replicate; what is published meanwhile waits, but for [Options.Meanwhile].)
//	C2  No chunk whose object somebody lacks is described by inline pages over it: the object
//	    could not be made any more (I7 of package replicate).
//	C3  A version is saved before [Cutter.Last] returns it, so that nobody puts one that a
//	    successor would not know of.
//	C4  What differs from the last version stays noted until the next one is saved.
//	C5  A fold's object is named only of a chunk of which every difference was noted since the
//	    fold began: by the same mirror.Diff, which was not Whole. What is inline over it covers
//	    those. That everybody has it is C2's to see to, as of any other object.
//
// A Cutter belongs to one goroutine. What [Cutter.Last] returns may be read by it alone, but for
// clones of the tree.
//
// The package imports manifest, chunkstore, spool (the files of the saved cut), replicate/errands
// (panics made errors) and replicate/mirror
// (what a difference is).
package cutter
