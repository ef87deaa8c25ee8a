// Package upkeep looks after what targets hold: it works on a target, and not for one database
// that is open.
//
// A [Verifier] proves that a target can give every byte of a version: it gets leaves and nodes,
// and looks for chunks, or reads and hashes them, too. What versions share it looks at once. It
// changes nothing, but that it may touch what it finds, so that a rule by which old objects
// expire does not reach it.
package upkeep
