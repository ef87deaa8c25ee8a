// Package locate finds the manifest of a database in its targets, or wherever else a URI says.
//
// It is what replicas and restores begin with: [Parse] understands the ways to name a source, a
// [Locator] gets its newest version, an earlier one, or that of a point in time: a manifest, with
// records folded in where there are any (package versions). A [ReplicaFile] is a file that names a
// source. An [Address] names a database that lives in a store; [InStore] finds it like a host's,
// under the name of no host. The package knows the buckets of a store, and gets objects and lists
// only: nothing is written to a target. The newest version costs no list.
//
// Every version that it returns is made of what was decoded, which checks hashes, and belongs to
// the database that was asked for, if that was named by host and path. A target that has another
// one there is damaged, and the others are asked.
//
// # Who is asked
//
// A host's database is asked of the targets in their order, the next one when one fails or is slow.
// Who has a version already goes on from it in the target that it is from: what that has said, the
// end of its log included, is believed for some minutes (T2 of package manifest/history). So where
// a whole target was replaced by an empty one, under the eyes of a reader, he notices after that.
//
// A source that is one object is asked of nobody else, but that the object may be the newest
// checkpoint of a history that goes on: where a target has that history, it is followed there. A
// manifest that verneuilctl has written is in no history, and stays what it is.
//
// A Locator is safe for concurrent use, and has no lock of its own.
package locate
