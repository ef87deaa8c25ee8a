// Package history decides who may write the next version of a database, and which version
// is the newest. It knows a [chunkstore.Log] and the newest checkpoint; what a record and a
// checkpoint hold is opaque to it. It is made for the replicator, the replica and a database
// that lives in a store; none of them uses it yet.
//
// # What is stored
//
// A history is the log of one lineage, and the newest checkpoint, which stands under the
// database's name. A record is one step: a commit, or a fence. A checkpoint at number n has
// all that the records up to n have made. Stored form of a record:
//
//	offset size
//	0      4    magic "VRNL"
//	4      1    format version, 1
//	5      1    flags: 1 fence, 2 release
//	6      2    reserved, zero
//	8      8    number, big-endian, as all numbers here
//	16     8    epoch
//	24     16   writer: drawn at random by each Writer
//	40     32   digest of the record before, as it stands in that one; zero in record 1
//	72     …    body
//	-32    32   digest: BLAKE3-256 of all bytes before it
//
// # Protocol
//
// A writer owns the history from its fence on. It takes it over by appending a fence with
// the next epoch, at the number after the last one that it has read. The writer before it
// finds that number taken at its next Append, reads the fence, and knows. No clock and no
// second object is asked.
//
// An Append whose answer was lost is unsettled. The same bytes are appended again. A
// conflict with those very bytes is success, a conflict with others means that somebody took
// over. Nothing else is appended before that is known.
//
// A writer that gives the history back says so in its last record (release). Then it must
// take it anew.
//
// # Where create-once can lie
//
// A number that was trimmed can be created again, by a request that slept long enough: a
// record that nobody must believe. Three rules see to that.
//
//	T1  The fence of a takeover from a writer that had not released is never trimmed. It has
//	    the very number that this writer would try. Each checkpoint lists them.
//	T2  A fence is believed, by who appended it, by who reads it and by whom it refuses, only
//	    after a look at the newest checkpoint that began after the fence was there. A checkpoint
//	    at or beyond its number means that the log has gone on; then the fence is none, unless
//	    the checkpoint lists it.
//	T3  Only what lies below the newest checkpoint is trimmed, and a checkpoint is replaced only
//	    by one with a higher number, on the condition that it is the one that was read.
//
// A reader that asks for the next number, and finds nothing, may have slept until the next
// one was trimmed. It is at the end only if it was at the end of the log, or at the newest
// checkpoint, less than [Grace] ago by a clock that does not stop; else it looks at the
// checkpoint. Who trims removes nothing younger than twice that.
//
// # Invariants
//
//	H1  A number is created once in the history (T1 to T3 name the records that are not in it).
//	H2  Append returned nil: the record is in the history, and in every version after it.
//	H3  Append returned ErrFenced: no version has the record. Another error: it is unsettled,
//	    and the next call settles it first.
//	H4  After a fence of epoch e the history has no record of a lower epoch.
//	H5  A reader's state is that of a prefix of the history, and only grows.
//	H6  Who opens a history finds all that was appended before it began to.
//	H7  None of H1 to H6 needs a lease, or a clock; but H6 needs one for a reader that was
//	    open all the time and slept.
//
// The simulation in sim_test.go attacks them: writers and readers that crash, sleep for any
// time, whose answers are lost, whose requests are carried out later, or twice. It also runs
// with each of T1, T2 and T3 left out, and must find out.
package history
