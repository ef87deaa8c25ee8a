// Package spool is one database's local buffer: what the C recorder in the
// application's process leaves in files, and what the replicator, in any
// process, makes of it. This page specifies the formats for C (cgo/spool.h
// asserts the same offsets) and Go alike.
//
// # Directory
//
// <replication_spooling_dir>/<name>/, mode 0700, files 0600, one per database path, where name is
// [Name] of the database's canonical absolute path. Where others may write to
// replication_spooling_dir it must be sticky, so that nobody can replace another user's directory
// by one of his own; we create it that way. It belongs to the user who opened the database first;
// others, who may share the database by its group, use it without replication ([Trust]).
//
//	state        one page, mapped shared by every process that writes the database
//	attach       flock'd for the moments in which a recorder creates or checks the state
//	log.<%016x>  the changelog: numbered segments
//	free.<0..15> consumed segments' files, for the recorder to use again
//	wake         a FIFO: a byte wakes the replicator, if it is armed. A recorder in the
//	             replicator's own process has a futex instead (cgo, wake.h)
//	lock         locked (fcntl: a forked child must not keep it) by the process that
//	             replicates; others stand by. So is the directory (flock), which no cleaner can
//	             take away: see "The replicator's lock"
//	source.json  what a replicator needs to know: database, host, targets; no credentials
//
// and, the replicator's alone:
//
//	boot         ID of the boot that the following are of; all but patrol.json are emptied if it
//	             is another
//	mirror       private copy of the database
//	dirty        one byte per chunk of the mirror: non-zero if changed since the last cut
//	cut          the last cut's manifest, as stored; renamed into place (see Files in
//	             replicate/cutter)
//	cuts         what was drawn for each of the last 4,096 cuts: what a target may have of ours
//	             (likewise)
//	tree/        leaves and nodes that it names, each under its ID
//	flush.json   why the last flush that another process had asked for failed
//	targets.json of each target: the ETag and Cut of the manifest that it last took, its buckets'
//	             identities, when they were seen
//	put.<16 hex> where objects are that no manifest names yet: see replicate/courier
//	patrol.json  until when the objects of each target have been touched; valid beyond the boot
//	copied.json  which file the mirror was last compared with, for verneuilctl sync
//	deleted      empty, and as old as somebody knows that the database was deleted: see [Sweep]
//	aside        chunks that changed while they are being pushed; has no name
//
// A file that is missing, cut, of another database, of another type, full of junk, or a hard
// link to another's (a backup's, say, which must not change) costs work, and no more: it is
// made again, and files that do not belong there are removed (junk.go). Only files
// that are mapped, state and the segments, must not be cut in place while they are: that
// is a SIGBUS, as with SQLite's own -shm.
//
// All but patrol.json is valid for one boot: nothing is fsynced, and a state whose boot
// ID is not the kernel's is replaced. If in doubt, the mirror is rebuilt from the database,
// which is always allowed.
//
// # State page (4,096 bytes, native little endian, naturally aligned atomics)
//
//	offset size field
//	0      8   magic "VRNSTATE"
//	8      4   format version, 2
//	12     4   flags: bit 0 = lost: the directory or the database is gone or replaced, recorders
//	           must attach anew; bit 1 = undone: a commit to the WAL has failed whose frames may
//	           be valid (see "WAL")
//	16     16  boot ID (/proc/sys/kernel/random/boot_id as 16 bytes)
//	32     8   st_dev of the database
//	40     8   st_ino
//	48     8   birth time in ns, 0 if the file system has none
//	56     8   generation: raised when the log alone can no longer bring a mirror up to date
//	64     8   sequence of the last published transaction
//	72     8   writing: 0, or the token of the process in the middle of a transaction's writes
//	80     8   head: end of the published log, a [Position]
//	88     8   version of the database after the last record or observation: change counter +
//	           1<<32; 0 unknown
//	96     8   file size after the last record, -1 unknown
//	104    4   armed: 0, or a number, another one each time: the replicator sleeps and wants to be
//	           woken
//	108    4   cause of the last raise of generation, a [Cause]
//	112    8   tail: everything before it is applied to the mirror (the replicator's)
//	120    8   replicator: token of the process that holds lock, 0 none
//	128    8   generation that the mirror belongs to (the replicator's)
//	136    8   sequence up to which the mirror is applied (the replicator's)
//	144    8   generation that every target has (the replicator's)
//	152    8   sequence that every target has (the replicator's)
//	160    8   transactions published
//	168    8   transactions dropped because the log was full or unusable
//	176    8   time of the last published transaction, Unix ns
//	184    8   flush tickets drawn
//	192    8   flush tickets answered with success
//	200    8   flush tickets answered, either way
//	208    8   log allowance in bytes
//	216    8   WAL salts that the next two fields speak of, salt-1<<32 | salt-2; 0: no WAL
//	224    8   published WAL position: salt-1<<32 | frames up to the last commit
//	232    8   salt-1<<32 | frames that are in the mirror and need no copy on reset (the
//	           replicator's)
//	240    8   reserved, zero
//	248    8   what the mirror's files are like, or since when they are being changed: see
//	             guard.go in replicate/mirror; 0 unknown (the replicator's)
//	256    8   stamp of the database's file as the last recorder left it (see "Foreign writes"); 0
//	           unknown
//	264    8   stamped by: token of a process that has had the database open since; 0 none
//	272    8   settled: a stamp with which the replicator has compared the file, when it was old
//	           enough; 0 none
//	280    8   checkpointing: 0, or the token of the process that writes frames of the WAL to the
//	           database
//	288    8   running checksum of frame 224, as it stands there; 0 unknown
//	296    8   likewise, of frame 232 (the replicator's)
//	304    80 reserved, zero
//	384    8   inode of the file lock that a replicator locked last; 0 none (the replicator's)
//	392    56 reserved, zero
//	448    8   purpose: hash of the host name and targets of whoever replicates, or did last; what
//	           pushed sequences and flush tickets speak of; 0 unknown (the replicator's)
//	456    8   terms: how often lock was taken to replicate (the replicator's)
//	464    112 reserved, zero
//	576    8   time of the last cut, Unix ns, which the next one keeps its distance from; 0: none
//	           yet (the replicator's)
//	584    8   leaving: 0, or the token of the replicator's process if it may end without another
//	           look at what is published (the replicator's)
//	592    176 reserved, zero
//	768    8   continuity: names what the mirror was copied for, drawn at random when a base copy
//	           begins; 0: never copied (the replicator's)
//	776    248 reserved, zero
//	1024   …   canonical path of the database, NUL-terminated, at most 3,062 bytes
//	4088   8   holder: 0, or the token of the process a recorder of which has written since it
//	           took RESERVED, and holds it
//
// Generations begin at 1: a mirror whose generation is 0 belongs to none. A new state's head and
// tail are (Unix time in s, 64), or beyond what its predecessor's log may grow to, so that
// no segment of an older state is taken for its own.
//
// A state describes one file. If another file stands at the path, renamed or created there,
// the next recorder that opens it, or is asked for a flush, marks the state as lost and makes a
// new one.
// Handles of the old file stay with the old page, which nobody reads any more, and
// attach again only if their file comes back.
//
// A token is the low 10 bits of the inode of the process's PID namespace (/proc/self/ns/pid) <<54 |
// pid<<32 | the low 32 bits of the process's start time (field 22 of /proc/PID/stat), so that
// neither a reused pid is taken for a live process, nor one in another container for one in ours.
//
// # Changelog
//
// A segment is log.<number>, a file whose blocks are allocated before it is mapped (so that a full
// disk is an error code and not a SIGBUS). A file that may be mapped is never made shorter: the
// state and segments are replaced by files with another inode. What a file system does that copies
// blocks on write, or somebody else, shows when the recorder has pages mapped in before it writes
// to them:
//
//	0   8  magic "VRNLOG01"
//	8   8  segment number
//	16  8  size of the segment in bytes
//	24  40 reserved
//	64  …  frames, each beginning at a multiple of 8
//
// A frame:
//
//	0   4  magic "VREC"
//	4   4  CRC-32C of the frame from offset 8 to its end
//	8   4  length of the frame with header and padding, a multiple of 8
//	12  4  kind: 1 write, 2 truncate, 3 commit, 4 end of segment
//	16  8  sequence of the transaction
//	24  8  generation at the time of writing
//	32  8  write: file offset; truncate and commit: file size
//	40  8  write: byte count; commit: version before, as in the state page (0 unknown),
//	       or, of frames copied from the WAL, the position of the last: salt-1<<32 | frames
//	48  8  commit: version after; 0: these are copied frames
//	56  8  commit: Unix time in ns
//	64  …  write: the bytes, zero-padded to a multiple of 8
//
// A transaction is the write and truncate frames of one sequence and then its
// commit frame. It is a physical redo log of file writes: replaying it, in
// whole and in order, is idempotent, and what a rollback restored is logged as
// the same kind of record as what a commit wrote. (A rollback that failed, and whose journal
// stays hot, is no transaction: it raises generation.) A [Position] is
// segment<<32 | offset. Position (n, size of n or an end frame) is followed by
// (n+1, 64). If a frame header does not fit before the end of a segment, there is no end
// frame.
//
// # Protocol
//
// The recorder, holding SQLite's write lock, at the first write of a transaction: compare the
// database's version, size and stamp with the state and raise generation if they differ, or if
// writing is set (a process died in the middle); set writing. For each write: forward it to the
// base VFS, then append a frame at its private end of the log. At the end of the transaction:
// append the commit frame, store stamp, version and size, then head, then sequence (release:
// whoever sees a sequence sees what it counts), then clear writing, then wake the replicator if
// armed (see "Waking"). A process that dies before head is stored leaves garbage beyond head, which
// the next transaction overwrites. When it gets RESERVED or EXCLUSIVE: set holder; before it gives
// RESERVED up: clear it. Under locking EXCLUSIVE, which does not give it up, nothing tells of the
// end of a rollback after a spill (no unlock, no file control, only writes to the journal, which is
// not ours): its writes, and the mark, stay with the transaction that follows, and are recorded
// with it. Until then a base copy waits; the mirror has what was committed.
//
// The replicator, holding lock: read generation, then head; apply the
// transactions from tail to head to the mirror, then advance tail, then free the
// segments below it (rename them to free.N, or delete them). If generation is still
// what it was, the mirror is the database as of that head.
//
// How a base copy is made without any lock stands in replicate/mirror.
//
// # Foreign writes
//
// Whoever writes to the database without a recorder is foreign: SQLite without the extension,
// and whatever else may write to a file. What they wrote is in no log, so the generation must be
// raised, and the mirror be compared with the file. There is one notion of "the file is what we
// left": its stamp, a number made of inode, length, mtime and ctime ([Stamp]; spool_stamp.c for
// recorders). A recorder compares the file's stamp with the one in the state page before the
// first write of a transaction, and before the first of a checkpoint, and stores the file's at
// the end of either, while it still has SQLite's lock. The replicator compares it before a flush
// says yes, and at the end of a base copy. This costs a transaction two calls of fstat(2), on a
// descriptor (O_PATH) whose closing drops no lock.
//
// Whatever writes to a file changes its ctime, and nobody can set that: not cp -p, rsync -a, tar
// or touch -d, which set the mtime; nor does a truncation, a reflink or a hole leave it as it was.
// (What writes nothing changes it, too: chmod, chown, a new link or name, setxattr. That costs a
// base copy that finds no difference, and sends nothing.)
//
// Where times are of whole seconds (ext4 with inodes of 128 bytes, FAT), a write in the second of
// our last one leaves no trace. The stamp is believed then if a process that would know has had
// the database open since (stamped by), or if the replicator has compared all of the file with
// the mirror when that second was past (settled). If not, a process's first handle, and a flush,
// raise the generation ([CauseTimes]): a base copy waits until the second is past, and settles it.
//
// For the WAL there are its salts, which the next WAL does not have, and the running checksum of
// the last frame that was published, or consumed: an older copy of the same WAL has the same
// salts, and another frame there, or none. Whoever takes the WRITE lock compares what the
// wal-index says is committed with what is published, in memory; and the replicator what it
// reads with what it has read.
//
// # Waking
//
// A recorder that finds armed, in another process than the replicator's, first writes a byte to the
// FIFO, which it opens for that moment and proves to be one, and then takes armed away, if that is
// still the number which it has seen: one that dies in between leaves a replicator that is awake.
// Nothing stays open: a host may close all descriptors, and have its database under a number that
// was ours. Nothing relies on a wake: sequence, generation, the drawn tickets and the flags of
// a replicator that sleeps are looked at every second, for all spools of a process at once, so
// that a commit is sent at most a second later if nobody could wake the replicator.
//
// # The replicator's lock
//
// Two replicators of one spool would write to one mirror. One takes the file lock, and then the
// directory; where that is locked and the file was not, somebody has removed the file under a
// replicator that is at work, unless it is the very file that was locked last: then a forked child
// has inherited the directory's descriptor of a process that is dead, which counts for nothing. The
// holder proves before each step that publishes ([Lock.Held]) that the directory, the file and the
// state are at their paths, that the file is locked, and that the state names it. If not, it
// publishes nothing more, lets go, and begins again. Each six hours it refreshes the times of all
// files, so that a cleaner by age takes none of a database that is open.
//
// # WAL
//
// In WAL mode the WAL is the log, and a commit copies nothing. When the WRITE lock of
// the wal-index is about to be released (or at COMMIT_PHASETWO under locking
// EXCLUSIVE), the recorder reads the last committed frame from the wal-index,
// publishes it, and then counts sequence up. Page writes to the database while its WAL
// is open are checkpoints of frames that we have: they are not recorded.
//
// Committed is what the wal-index calls so, and nothing else: a writer killed between its commit
// frame and the wal-index leaves a valid frame that never was committed, and that the next writer
// overwrites. There is one rule: the frames that the wal-index of these salts counts, or the
// published ones if those are more (a wal-index on the heap counts for its owner alone, who
// publishes); of a WAL without a wal-index nobody knows better than recovery will, which takes
// whatever is valid. But if a commit fails as the WAL cannot be written or synced, and the
// wal-index is on the heap, its frames may be valid, and are rolled back: the owner marks the state
// as undone and raises generation, and until its next commit, or the WAL's end, only the published
// frames count. It is asked at three moments:
//
//	commit       recorder (walUnlock): in shared memory; publishes the answer
//	reset        recorder (spool_wal_reset.c): the wal-index is reset already, so
//	             from a note of it, taken in memory when the WRITE lock was; without a note, if
//	             more is valid than is published, it cannot tell, and raises generation
//	copy, flush  replicator (openCommitted in replicate/mirror): from the -shm file, for commits
//	             that nobody has published
//
// Copy on reset: before frames are lost (a new header is written at offset 0, or the file is
// truncated to 0 or deleted) the recorder appends those that the replicator has not consumed, up to
// the last committed one, to the changelog as one transaction, each page once; only then are the
// salts replaced. The record says up to which position, and that is consumed with it. So a
// replicator reads salts, then head, applies the log up to head, and only then frames of those
// salts: what the log has is older than they, and must not come later.
//
// That nobody else used the WAL between two of ours shows in the salts: a reset adds
// 1 to salt-1 (wal.c, walRestartHdr). Where no frame of ours is in the WAL, it shows in
// the database's stamp, since the only writes to the file are checkpoints,
// and those only of commits. Anything else raises generation, a foreign checkpoint too.
//
// # The end of a spool
//
// A database that is deleted or renamed leaves its spool. A replicator sends what that has.
// Then [Sweep] removes it, ten minutes after the first look that found no database at the path:
// each process with the same spooling directory looks once a minute, and verneuilctl flush
// each time. A spool of which something was not sent stays for seven days. It is removed under
// lock and attach; whoever makes the next one at the same moment finds that the directory
// is gone, and starts again.
//
// # Invariants
//
//	I1  Frames before head are never changed; segments before tail's are free.
//	I2  Only the holder of SQLite's write lock stores version, size, stamp, sequence, head,
//	    writing and holder, and that of the lock for checkpoints stamp and checkpointing; any
//	    process may raise generation; only the holder of lock stores what is marked as the
//	    replicator's. Exceptions, all by compare-and-swap: a version and a size that are unknown
//	    are noted by the replicator after a base copy; a stamp, before one; a published position
//	    whose frame is gone; a version that is wrong, by a reader under SHARED; and the mark of a
//	    dead process in writing is cleared by the replicator, after raising generation.
//	I3  A mirror whose generation is the state's, applied up to head while writing
//	    is 0, equals the database, byte for byte.
//	I4  A mirror is never published unless I3 held at its last transaction boundary.
//	    A mirror that was made again, or that somebody else has changed, belongs to no generation.
//	I5  A lost record raises generation, before and after the transaction. If somebody else has
//	    raised it during one, it is raised after it, too.
//	I6  The log's length is at most its allowance plus one segment.
//	I7  The recorder takes no lock but SQLite's (except attach), and waits for nobody.
//	I8  Nothing that we do makes a database unreadable: what lies in its files is what the VFS
//	    below us would have put there without us. Where that VFS does not store what it is given,
//	    nothing is recorded, and none of our code stays between it and SQLite.
//
// # Beliefs
//
// What is concluded, the witness that it is drawn from, what defeats the witness, and what
// happens then.
//
//	we see what an adopted connection does (one that was open when the extension was loaded)
//	         its database's file has our methods since a moment at which the connection was in no
//	         transaction, and what it held then, by SQLITE_FCNTL_LOCKSTATE: nothing, or SHARED and
//	         an open WAL. Where the default VFS cannot be hooked its other files go by us: of the
//	         WAL, which is all that matters, we take the methods when the wal-index is locked for
//	         writing or checkpointing, when the database goes from SHARED to EXCLUSIVE, or at a
//	         commit under locking EXCLUSIVE; its deletion follows a close under EXCLUSIVE
//	         (recorderClose). Other connections of a shared cache, a lock of unknown origin, a
//	         transaction: these are not adopted, and it is told. A WAL that goes unseen all the
//	         same shows as one that somebody else has used: salts, and no end of it
//	a WAL checkpoint puts into the file frames that we know
//	         commits to that WAL have been published. A VFS above us with a wal-index of its own
//	         defeats that, as no lock of it is seen: then none has, the generation is raised when
//	         the first page comes, and the database is copied (recorderBeginCheckpoint)
//	a WAL checkpoint puts into the file what the frames have
//	         none. A VFS above us that encrypts each write anew (SQLite3MultipleCiphers) puts
//	         other bytes there, of the same content: ours are the frames'. One that moves a
//	         database's pages, and not its WAL's (appendvfs), would give versions that are no
//	         database: docs/hosts.md says not to use WAL mode with it
//	the VFS below stores what it is given
//	         it is SQLite's own (its xOpen is that of unix-none). Of another: its name, and those
//	         below it, do not say that it encrypts or compresses; the file has the size that it
//	         says; the first reads of pages, and every write before it is recorded, are what the
//	         file has (below.c). A VFS defeats that which does otherwise later, and only to a
//	         WAL's frames, where its methods do not come first: of such, SQLite3MultipleCiphers is
//	         known by name, and is put above us. Then: I8, and it is told
//	the database was deleted, and will not be back
//	         in looks that are ten minutes apart there is no file at its path. A file system that
//	         is not mounted defeats that. Then: the spool is made anew, and the first version
//	         compares the database with the target's. That is work, and no loss: all was sent, or
//	         is in the database
//	all of a deleted database was sent
//	         every target has the generation and the sequence of the state. A commit that no
//	         recorder has published defeats that, of a killed process or without the extension.
//	         Then: it is lost with the file
//	the file is a database that its user wants replicated
//	         SQLite opens it as a main database (SQLITE_OPEN_MAIN_DB) by the default VFS or by
//	         ours, no pattern leaves it out, and it is not empty, or has a spool, or a pattern
//	         names it. Defeated by a copy that is opened later: it is recorded; a user excludes it
//	an empty file is being made as a copy
//	         when it was opened its connection (SQLITE_FCNTL_PDB) ran a VACUUM, or it runs no
//	         statement when RESERVED is asked for: the backup API. Defeated by a VFS that passes
//	         PDB on to nobody, and by statements that the connection runs beside a backup: then it
//	         is recorded. Defeated by a backup into a new database, which nothing tells from a
//	         copy: it is listed as not replicated, and recorded from the first write by a
//	         statement on, when its WAL is opened, or when it is opened anew
//	what a connection commits is recorded
//	         its file answers our file control, and has a spool, which is of the file that stands
//	         at the path, and there is a target. Else a flush is an error with the reason, the log
//	         says it once, and verneuil_status() lists it. A pragma that no VFS of ours hears has
//	         no answer
//	it sleeps, but will be woken
//	         armed, and a byte in the FIFO or a bell. A recorder that dies before it, a FIFO that
//	         was removed or cannot be opened, no descriptor left: the look every second, which
//	         needs none of them
//	this descriptor is ours
//	         device, inode and type, at each use, by fstat. What the host does between that and
//	         the use: nothing of ours stays open in the host's table of descriptors, and Go's
//	         threads have another one (cgo, descriptors.c); only where the kernel refuses that do
//	         they share the host's
//	it is this process, or it is dead
//	         its token. Two containers whose PID namespaces agree in 10 bits, with the same pid
//	         and start tick, defeat it. Of another namespace's process a number says nothing: that
//	         it is dead is believed of who holds no lock of SQLite's, which one in a transaction
//	         does
//	this directory is ours
//	         owner and mode, of the directory above too, when it is attached, and again, by a
//	         descriptor, each time that a recorder opens, renames or removes a file in it. Root
//	         defeats it
//	others do not wait for a process that ends
//	         the locks that its connections hold as their files were told (recorderExcludes): then
//	         it does not wait for the target. Connections by another VFS are not known
//	the lock is ours
//	         device and inode of directory and file at their paths, a query of the lock, our token
//	         in the state: before each step that publishes. A process that is stopped between the
//	         proof and the step, and whose whole directory was replaced meanwhile: its manifest is
//	         put with If-Match, and refused
//
// Nobody has written without a recorder since the last one did. Witness: the stamp, and in a
// rollback mode the change counter. That tells of commits; of pages that were spilled and rolled
// back, also from a hot journal and by another process; of journal_mode MEMORY and OFF; of VACUUM
// and .restore; of cp, rsync, tar and touch -d with whatever mtime. Defeated by:
//
//   - a write in the clock's tick of our last one, of 1 to 10 ms, on file systems without finer
//     times: all before Linux 6.13, and since then all but ext4, XFS, Btrfs and tmpfs. A commit
//     still shows in the change counter. What is written there by no SQLite, or by one that
//     leaves the counter alone, is not noticed until the next base copy. (For a base copy itself
//     each piece is read twice: what was spilled and rolled back in a tick is read once at most.)
//   - times of whole seconds: see "Foreign writes". A write is not noticed that leaves the
//     change counter alone, in the second of a transaction of a process that keeps the database
//     open.
//   - a clock that is set back, and then shows the very same nanosecond, or second, again.
//   - a store into a page that was mapped, and stored into, before our last write (mmap(2); SQLite
//     maps for reading only): ctime changes with the first one after the page was written back.
//   - a program that ignores SQLite's locks, and writes while a transaction or checkpoint of ours
//     does.
//   - who writes below the file system.
//
// The WAL goes on from what we know. Witness: salts, and the running checksum of the last frame
// that was published; for the replicator, consumed. Defeated by: another frame with the same
// checksum, of 64 bits. Under locking EXCLUSIVE the checksum may be unknown: then the salts count.
//
// The file at the path is the one that the state is of. Witness: device, inode and birth time.
// Defeated by: a file system without birth times on which a new file has the old inode's number.
// Its ctime is another one then, so that it is taken for a foreign write.
//
// # Lock order
//
// lock (replicator), then nothing: the replicator takes no lock of SQLite's.
// attach is taken alone.
package spool
