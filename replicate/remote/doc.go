// Package remote is databases that live in a store: several machines open them, one at a time
// writes, any number read.
//
// There is one [Set] per process, in it one database for each that is open, and a [Conn] for each
// handle of SQLite's. What is stored is what replication stores (packs, records, checkpoints;
// packages manifest and manifest/history), under a key without a host. A transaction is one record,
// or a part of one.
//
//	conn.go        a handle: the version that it reads, what it may write
//	story.go       how far this process has come in the history: reading on, appending
//	lease.go       who of several machines, and of the processes of one, may write
//	watch.go       whether the owner lives
//	turn.go        the lease where machines write in turns
//	trace.go       whether the store has what was appended
//	packs.go       and what that names
//	queue.go       commits on their way
//	append.go      and into the log
//	checkpoint.go  checkpoints, in the background
//
// # A transaction
//
// Share moves a handle to the newest version. Reserve takes the right to write, which is the lease
// of this machine and, in it, the one place of a writer in this process. Commit makes the next
// version of what was written (package compose), and puts it at the end of the queue: the handle
// reads it from then on. Wait waits until it is durable. While it does, another handle of the
// process may write on top of it: its record cannot exist without the first one's. All that is in
// the queue goes into one record (group commit). If an append fails, all that stands behind it
// fails with it. A handle that seems about to write, while others do, waits in Share for the place
// of the writer, and reads the end of the queue then: what is durable is not what it may write on.
//
// Who waits and finds that nobody appends does it in his own thread, one record, with what others
// have queued; what is queued meanwhile is appended in the background, and so is everything if
// nobody waits. If his wait is ended, or the store does not say at once that it has the record, the
// background goes on with that one. Who is answered commits again, as a rule. So where the store is
// far a record waits a moment, a quarter of the time that the last one took, until as many are
// queued as were answered by the last one or had queued up behind it.
//
// Handles of this process read what is durable, but for the one that made the version, and for who
// is about to write on top of it. At synchronous=OFF nobody waits: COMMIT has answered, and another
// handle has to read it. While there is such a commit the machine's page names no version, and the
// handle's Share waits until it is durable, or has failed. Who has made it goes on without a call
// while the page promises that no other machine has gone on.
//
// The place of the writer is one handle's. Who has reserved has a firm grip on it. A commit that
// passes the place on gives it to who waits. If nobody does, the handle has a loose grip from there
// on: another one may take the place with the grip, which is one atomic step. The handle itself
// makes it firm by another such step, which C does without a call, if the version that it reads is
// still the tip of the queue; or if it is durable, and the machine's page still promises that it is
// the newest. A handle whose turn has come has a loose grip, too, which nobody takes for a moment
// (heldTime). Who gives the lease back, or the machine's lock, takes the loose grip first.
//
// # The lease
//
// It keeps a second writer from throwing the first one out. Nothing depends on it but progress, and
// what a holder may believe without a request.
//
// Between machines, it is the log. Who writes has appended the last fence, and gives the history
// back by a release. A writer that finds the history owned waits, and watches: while the log grows,
// or the heartbeat changes, the owner lives. If neither did for the lease's timeout, by the
// watcher's clock, he takes over by a fence. He asks for the lease by an object called want-…,
// which the owner looks for four times a second while he holds it.
//
// Where the store can notify (RADOS), bells (package bell) tell at once that the lease is wanted,
// that it is given back, and that there is a record, or is about to be (bell.Early); everybody asks
// all the same, only later. A bell that is not heard costs that time, and nothing else.
//
// A heartbeat says that its writer lives, and nothing of the log. It prolongs a promise (see below)
// only if its answer comes while the promise holds: then whoever goes by older signs looks once
// more before he takes over, and sees it. After that only a record renews the promise, which keeps
// out a fence that is on its way.
//
// Between processes of one machine it is a file (package machine): its lock is the right to write,
// held for as long as a transaction is open or not durable yet, and what it holds is the writer
// ([history.Saved]), which the next process resumes. So the machine is one writer. The file's page
// says until when its version is known to be the newest: then no process of the machine asks.
// Of processes that write all the time each goes on for a moment (politeTime), and then leaves the
// lock to those that say on the page that they wait, until one of them has written. Who has found
// it taken looks for it by itself when he tries again, in Share, and does not sleep meanwhile.
// Where no other process wants to write, the lock is kept for a moment after a record (keepTime),
// for a handle that goes on without a call. The page says so, and who finds the lock taken then
// waits for it: nobody writes, so that SQLite is not told that somebody does.
//
// Machines that write in turns do not wait for that. Who takes the history over, and finds that
// another machine has written since he gave it back himself, less than the linger time ago, takes
// that one for a rival, and gives it back with his next commit, by the same record. If he goes on
// to write nevertheless, he takes it anew, and finds that nobody else was there: so a rival that
// has gone away costs one fence.
//
// Such a turn is three requests: the rival's commit is got, a fence is put, a commit is put; and a
// look at the checkpoint after the fence, where the store does not say when it has created that
// (history's T2, T9). The rival's fence is not asked for, as its digest in the
// commit says what it was (history's readTurn). Nor is it asked whether there is more after the
// rival's commit, which gave the history back, where a handle is about to write, as it seems: Share
// takes the lease for it, and the fence is at the end or is refused. C looks whether the connection
// runs a statement that writes. Where that writes to another database, the lease was taken in vain,
// is given back a moment later, and for a while is not taken so again (hints).
//
// A holder gives the lease back when nothing was written for the linger time, or at once when
// another machine wants it and no transaction is open.
//
// # Invariants
//
//	R1  A record is created once; every reader that reads number n reads the same bytes (H1).
//	R2  Wait returned nil: the transaction is in the log, and in every later version.
//	R3  Commit or Wait failed: none of the transaction is in any version; or the error is
//	    ErrUnknown, and the next transaction begins by reading what is really there.
//	R4  Between Share and the end of its transaction a handle reads one version, whole.
//	R5  After a fence of epoch e no record of a lower epoch is appended (H4).
//	R6  What a record or a checkpoint names is durable before it is appended or put. If the store
//	    has lost it in between, who has put it puts it again, once a look has found that out. If
//	    he has died before that, who takes the history over says by name what is lost, and so
//	    does who has put a checkpoint of it.
//	R7  R1 to R6 hold whatever leases, locks and clocks do.
//	R8  Reading takes no right to write to the store.
//	R9  A writer that waits gets the database within the lease's timeout and a request after its
//	    owner has died, whoever that was.
//	R10 A version that Share moves to has all that Wait had answered for, anywhere, when Share
//	    began: it is the end of the log, as asked for after that, or the machine's file promises
//	    that nobody else can have gone on, and it is what this process has committed last, or
//	    what the file names. That takes clocks that run alike. (On the holder's
//	    machine a record that is just being appended is not seen before Wait has answered, though
//	    another machine may have read it by then.)
//	R11 When the store has lost records that it had, nothing is answered for that stands on them,
//	    once a look has found that out, or the log itself has. A holder's machine looks each
//	    renewal time, and when it takes the history, if it has not within that time; who has given
//	    it back, once more.
//	R12 Who only reads, and asks the store, is told within the lease's timeout that it has lost
//	    what he reads, unless a writer who has not found out yet has appended a record to it: then
//	    once somebody else means to write. Where only a record before the last one is lost, he is
//	    told once somebody has begun another history with what was left. Nobody is told so of a
//	    store that has it.
//	R13 Where the store has lost the newest checkpoint, and keeps others or has records, nobody
//	    begins a database by that name: whoever opens it is told.
//
// # Beliefs
//
// No other machine has gone on ("until"). Witness: our record, or our heartbeat, of which the
// request began less than the lease's timeout ago, by a clock that goes on while the machine is
// suspended (CLOCK_BOOTTIME), and that we know to be in the store. Defeated by: a clock that runs
// faster elsewhere, by more than the timeout has room for; one that stands still, as that of a
// virtual machine that is paused; and verneuilctl lock break. Then a reader may see for so long
// what was the newest version before. A commit is refused by the log.
//
// The owner of the history is dead. Witness: neither its log nor its heartbeat have changed for the
// lease's timeout between two looks of ours. Defeated by: an owner that was frozen, or cut off: it
// finds the fence at its next commit, of which nothing is stored.
//
// Nobody of this machine has written since we did. Witness: the file has our writer, at the record
// where we are, read under its lock. Defeated by: a file that somebody deleted: then two processes
// of the machine are two writers, and the log decides as between machines.
//
// Who has the machine's lock lives. Witness: the kernel gives it back when a process ends. Defeated
// by: a process that was stopped, and a child that was forked and shares the lock. Who finds the
// lock taken for long watches the history as another machine would, and gives the lock up with the
// file (machine.Break) when there is no sign of life: then the log decides.
//
// What this handle has committed is the newest version (Place.Tip). Witness: it is the tip of the
// queue, which is not durable yet, and has not failed, and no other machine has gone on ("until",
// which is looked at first). That ends when the history is given back, before it is asked for; and
// when the store has not answered for the lease's timeout, since the record may be in the log and
// its answer lost: then another machine may go on before we hear of it, and the handle waits until
// the append has ended, and asks. Defeated by what defeats "until".
//
// What was appended is in the store still. Witness: where the log itself can tell, in a directory
// and in RADOS, the record before, with each append; else a look (history's Trace), with each
// renewal time, before a checkpoint is put, and when the history is taken over. Defeated by a store
// that is emptied, or put back to an older copy: then the next number is free, and what is appended
// there is read by nobody. So COMMIT may answer for what is not there between the last look and the
// next one. Then all that is not durable fails, the story begins anew, and the process is told
// until it has closed its handles: what they have read is newer than what is there. Another process
// of the machine finds in the machine's file how far its writer was, and is told once. Records that
// the writer has left on those that are gone are in no history (history's T7): who means to write,
// and meets one, begins another history with what is there, and so does who finds only records gone
// that whoever opens the database does without (T8). An owner that finds the checkpoint of another
// history, or one beyond its own last record, owns nothing any more.
//
// What was read is in the store still. Witness: the next record, which stands on it; else, each
// lease's timeout, the last one itself (history's Remains), which is what a store that is put back
// has lost, and the newest checkpoint, which another history would have replaced. The machine's
// page promises one record, by its digest: who has read another one of that number asks at once.
// Defeated by a record that was appended to what is lost by a writer who has not found out. Then a
// reader is told as a writer is. What a process has kept, and no handle reads, is compared with the
// store by the next one, and forgotten if it is newer.
//
// What a record names is in the store. Witness: it was put before (R6), and a look after the record
// was appended: that one's loss would be seen, and it is there, so no older copy was put back that
// lacks what was named before. Until that look the packs are kept, up to a bound, and are put again
// if they are gone; what was too large is told, and the status says so. What was put for a record
// that is not appended yet (a Folded) is given up when the store is found to have lost anything.
// Defeated by a writer who dies before that look. So who takes the history over asks once, with his
// first look, for the packs that the newest version names by itself, and that he has neither put
// nor asked for: those of the records since the checkpoint, and of the top of its tree. Of one that
// is gone he asks again after the lease's timeout, as a writer who lives may put it again; then he
// says which it is, in the log and the status, and goes on. Who only comes, writes and goes asks
// for none. Defeated by what lies deeper in the tree, and by what is lost later: then who reads it
// is told which it is, and verify finds it. Who has put a checkpoint looks once more: if the store
// was put back since the look before that, the checkpoint is all that there is of the records which
// are lost, and he says which packs it lacks.
//
// There is no database of that name. Witness: the store has no manifest, and then, by one list, no
// checkpoint that is kept of one which was ever written to, nor records after it. Defeated by a
// store that has lost all of it, and by versions that are so old that they were collected.
//
// # How long a database stays
//
// A Set counts who uses a database: handles, calls, what runs in the background, such as the keeper
// of the lease. When nobody does, it is let go after the linger time, with the machine's file (its
// descriptor and mapping), unless something is due: a record, or a checkpoint after a pause. That
// runs in the background, and its end begins the linger time anew. What a replica keeps of a
// database for longer may ask: it is told that the database is gone.
//
// # Concurrency
//
// A Set is safe for concurrent use, a Conn is one goroutine's. The history is read and written by
// who has the database's pen. Order: pen, then the machine file's lock, then mu. Requests are sent
// with the pen, never with mu. A Set's mu is the last.
package remote
