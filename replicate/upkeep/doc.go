// Package upkeep looks after what targets hold: it works on a target, and not for one database
// that is open.
//
// A [Verifier] proves that a target can give every byte of a version: it gets leaves and nodes,
// and looks for the packs in which chunks stand, or reads and hashes the chunks, too. A pack is
// looked for, or touched, by one request, and read by one or two for each GiB of the file that
// names it; what versions share is looked at once. It changes nothing, but that it may touch what
// it finds, so that a rule by which old objects expire does not reach it.
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
package upkeep
