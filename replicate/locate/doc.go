// Package locate finds the manifest of a database in its targets, or wherever else a URI says.
//
// It is what replicas and restores begin with: [Parse] understands the ways to name a source, a
// [Locator] gets its newest manifest, an earlier version of it, or that of a point in time.
// A [ReplicaFile] is a file that names a source. The package knows manifests and the buckets
// of a store, and gets objects and lists only: nothing is written to a target.
//
// Every manifest that it returns is decoded, which checks its hash, and belongs to the database
// that was asked for, if that was named by host and path. A target that has another one there is
// damaged, and the others are asked.
//
// A Locator is safe for concurrent use, and has no lock of its own.
package locate
