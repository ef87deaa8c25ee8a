// Package history decides who may write the next version of a database, and which version
// is the newest. It knows a [chunkstore.Log] and the newest checkpoint; what a record and a
// checkpoint hold is opaque to it. The replicator (replicate/courier), replicas and the holder of a
// database in a store (replicate/remote) write and read histories, by way of replicate/versions.
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
// A writer may be saved, and resumed by another process, which goes on without a fence. Of what
// was saved there may be copies: with a disk, or with a whole machine, that was cloned, or put
// back. They append as one and the same writer, so that no fence lies between them. Who of them is
// first has the number; the others conflict, and are told.
//
// Processes of one boot of one machine hand a writer on by a file, under a lock (package
// replicate/remote/machine). They share a clock, CLOCK_BOOTTIME, so that no look is needed
// (ResumeSure). That is right even of an old copy of the file: within [Grace] of the moment of
// which it knows, nothing that it has not read was trimmed (T5), so what it creates is new, and
// what it finds is there. To copy a machine with its memory copies the clock with what is known
// by it, as it does for a writer in memory; then the clock must go on to be one that does not stop.
//
// Who reads believes of a record that it is the one before another, if its digest stands in that
// one, wherever he has it from. So one who has given the history back, and knows his rival's last
// fence, gets the rival's next commit alone, and makes the fence before it himself.
//
// # Where create-once can lie
//
// A number that was trimmed can be created again, by a request that slept long enough, or by a
// copy of a writer: a record that nobody must believe. These rules see to that. To be sure is to
// know of a moment, less than [Grace] ago by a clock that does not stop, at which no checkpoint
// was beyond what one has read and written. To look is to ask for the newest checkpoint: then one
// is sure, or it is beyond, and one goes on from there.
//
//	T1  The fence of a takeover from a writer that had not released is never trimmed. It has
//	    the very number that this writer would try. Each checkpoint lists them.
//	T2  A fence is believed, by who appended it and by whom it refuses, only after a look that
//	    began after the fence was there, or by T9. What is read is believed, fences too, and the
//	    end of the log is, by who is sure, and else after a look.
//	T3  A checkpoint is replaced only by one with a higher number, on the condition that it is the
//	    one that was read. One that is older than what was seen, or of another record of that
//	    number, is replaced by nobody: the store was put back.
//	T4  A writer believes that a record of its own is in the history if it is sure, and has not
//	    been resumed since it last created one; else after a look. If it was resumed on the
//	    clock that it had, the moment of which it knows counts on: it is sure as it was.
//	T5  Only what a checkpoint has that was put 2 x Grace ago is trimmed. So while one is sure,
//	    nothing is trimmed that he has not read.
//	T6  The last record that the newest checkpoint has is not trimmed: so the record before the
//	    next one is there, unless the store has lost it, or there is a checkpoint beyond: that is
//	    asked first.
//	T7  A record that is whole, and not the successor of the one before it, was appended to a
//	    store that had lost that one, before its writer has found out. It is in no history:
//	    after a look that finds nothing newer, readers take the place before it for the end.
//	T8  Where a record is gone that nobody needs to come to the newest version, as that of the
//	    newest checkpoint, nothing is appended: who means to write begins another history.
//	    If he has appended his fence before he knew, he appends one record more, which is in no
//	    history: else nobody who has read that fence would look.
//	T9  A writer who is sure needs no look after his fence, if the store has told him, by its
//	    own clock, when it created that, and, less than [Grace] before, a record of his that is
//	    in the history: its number was never trimmed. For what followed that record was created
//	    after it, a checkpoint that has it was put later still, and T5 counts twice that time
//	    from there, by the store's clock, too; so that copies of him and requests that slept do
//	    not matter. The other [Grace] is for those who answer for the store: their clocks may be
//	    so far apart, with the time that an answer takes. His own clock may stand still, or the
//	    store's be set back: one of the two is enough.
//
// # Where a store loses what it had
//
// Somebody empties it, puts it back to what it was, or mounts another one in its place. Then
// create-once says nothing: the next number is free, and a record that is created there is read by
// nobody, as readers stop at the first one that is missing. A log that can tell refuses such a
// record (chunkstore.Log); where it cannot, Stand finds out, which whoever promises
// something to others has to ask from time to time. Trace, which does so by a list, believes of a
// record that it is the one that was read only where the log knows its ETag, as it has appended or
// read it: what a reader knows from elsewhere (Known) may have been lost since, and another one put
// in its place, before the next one was appended.
//
// # Invariants
//
//	H1  A number is created once in the history (T1 to T5 name the records that are not in it).
//	H2  Append returned nil: the record is in the history, and in every version after it.
//	H3  Append returned ErrFenced: no version has the record. ErrBehind: the history has gone on,
//	    and may have it. Another error: it is unsettled, and the next call settles it first.
//	H4  After a fence of epoch e the history has no record of a lower epoch.
//	H5  A reader's state is that of a prefix of the history, and only grows.
//	H6  Who opens a history finds all that was appended before it began to.
//	H7  None of H1 to H6 needs a lease, or a clock but the store's (T5, T9); but H6 needs one for
//	    a reader that was open all the time and slept, and H2 one for a writer of which there
//	    are copies.
//
// The simulation in sim_test.go attacks them: writers and readers that crash, sleep for any
// time, whose answers are lost, whose requests are carried out later, or twice; and copies of
// writers, of any age. It also runs with each of T1 to T5 and T9 left out, and must find out.
package history
