// Package spool is the local buffer of one database. The C recorder, in the application's process,
// writes it; the replicator, in any process, reads it and keeps its own files there. This page
// specifies the formats for C (cgo/spool.h asserts the same offsets) and for Go.
//
// # Directory
//
// <replication_spooling_dir>/<name>/, mode 0700, files 0600, one per database path, where name is
// [Name] of the database's canonical absolute path. If other users may write to
// replication_spooling_dir, it must be sticky, so that nobody can put a directory of his own in
// place of another user's; we create it that way. A spool belongs to the user who opened the
// database first. Other users who may open the database do so without replication ([Trust]).
//
//	state        one page, mapped shared by every process that writes the database
//	attach       locked (flock) for the moment in which a recorder creates or checks the state
//	log.<%016x>  the changelog: numbered segments
//	free.<0..15> files of consumed segments, for the recorder to use again
//	wake         a FIFO: a byte wakes the replicator, if it is armed. A recorder in the
//	             replicator's own process uses a futex instead (cgo, wake.h)
//	lock         locked (fcntl: a forked child must not keep it) by the process that
//	             replicates; others stand by. That process also locks the directory (flock), which
//	             no cleaner can take away: see "The replicator's lock"
//	source.json  what a replicator needs to know: database, host, targets; no credentials
//
// Only the replicator uses these:
//
//	boot         ID of the boot in which the files below were written; after another boot all of
//	             them but patrol.json and damaged.json are emptied
//	mirror       private copy of the database
//	dirty        one byte per chunk of the mirror: non-zero if changed since the last cut
//	cut          the last cut's manifest, as stored; renamed into place (see Files in
//	             replicate/cutter)
//	cuts         what was drawn for each of the last 4,096 cuts, by which we know our own version
//	             in a target (likewise renamed into place)
//	tree/        leaves and nodes that the manifest in cut names, each under its ID
//	flush.json   why the last flush that another process asked for has failed
//	status.json how replication stood lately, for who asks: see replicate.ReadStatus
//	targets.json for each target: the ETag and Cut of the manifest that it last took, and the
//	             identities of its buckets and when they were seen
//	put.<16 hex> where objects are that no manifest names yet: see replicate/courier
//	history.<16 hex> how far a target's history goes, and who writes it: likewise
//	patrol.json  until when the objects of each target have been touched; valid after a reboot,
//	             too
//	damaged.json what somebody who has read a target found to be damaged there, until that is put
//	             again; written by whoever has found it, and valid after a reboot, too
//	copied.json  which file the mirror was last compared with, for verneuilctl sync
//	deleted      empty; its mtime says since when the database is known to be deleted: see [Sweep]
//	aside        chunks that changed while they were being pushed; this file has no name
//	*.new        what is to have the name before the dot, and for cut and targets.json what had
//	             it: the next one is written over that
//
// A file may be missing, truncated or full of junk, may belong to another database, may have
// another type, or may be a hard link to a file that must not change (a backup's, say). That costs
// work, and nothing else: the file is made again. Files that do not belong in a spool are removed
// (junk.go). Only the files that are mapped, state and the segments, must not be truncated while
// they are mapped: that raises SIGBUS, as it does with SQLite's own -shm.
//
// Everything but patrol.json and damaged.json is valid for one boot: nothing is fsynced, and a
// state whose boot ID is not the kernel's is replaced. Where there is doubt, the mirror is rebuilt
// from the database. That is always allowed.
//
// # State page (4,096 bytes, native little endian, naturally aligned atomics)
//
//	offset size field
//	0      8   magic "VRNSTATE"
//	8      4   format version, 2
//	12     4   flags: bit 0 = lost: the directory or the database is gone or was replaced, and
//	           recorders must attach again; bit 1 = undone: a commit to the WAL has failed, and
//	           its frames may be valid (see "WAL")
//	16     16  boot ID (/proc/sys/kernel/random/boot_id as 16 bytes)
//	32     8   st_dev of the database
//	40     8   st_ino
//	48     8   birth time in ns, 0 if the file system has none
//	56     8   generation: raised when the log alone can no longer bring a mirror up to date
//	64     8   sequence of the last published transaction
//	72     8   writing: 0, or the token of the process in the middle of a transaction's writes
//	80     8   head: end of the published log, a [Position]
//	88     8   version of the database when it was last recorded or observed: change counter +
//	           1<<32; 0 unknown
//	96     8   file size after the last record, -1 unknown
//	104    4   armed: 0, or a number: the replicator sleeps and wants to be woken. It takes
//	           another number each time
//	108    4   cause of the last raise of generation, a [Cause]
//	112    8   tail: everything before it has been applied to the mirror (the replicator's)
//	120    8   replicator: token of the process that holds lock; 0 none
//	128    8   generation that the mirror belongs to (the replicator's)
//	136    8   sequence up to which the log has been applied to the mirror (the replicator's)
//	144    8   generation that every target has (the replicator's)
//	152    8   sequence that every target has (the replicator's)
//	160    8   transactions published
//	168    8   transactions dropped because the log was full or unusable
//	176    8   time of the last published transaction, Unix ns
//	184    8   flush tickets drawn
//	192    8   flush tickets answered with success
//	200    8   flush tickets answered at all
//	208    8   log allowance in bytes
//	216    8   salts of the WAL that the next two fields are about, salt-1<<32 | salt-2; 0: no WAL
//	224    8   published WAL position: salt-1<<32 | frames up to the last commit
//	232    8   salt-1<<32 | frames that are in the mirror and need no copy on reset (the
//	           replicator's)
//	240    8   reserved, zero
//	248    8   stamp of the mirror's files, or since when they are being changed: see guard.go in
//	           replicate/mirror; 0 unknown (the replicator's)
//	256    8   stamp of the database's file as the last recorder left it (see "Foreign writes"); 0
//	           unknown
//	264    8   stamped by: token of a process that has had the database open since; 0 none
//	272    8   settled: the stamp that the file had when the replicator compared it with the
//	           mirror, if the stamp was old enough then; 0 none
//	280    8   checkpointing: 0, or the token of the process that writes frames of the WAL to the
//	           database
//	288    8   running checksum in the last of the frames that field 224 counts; 0 unknown
//	296    8   the same for field 232 (the replicator's)
//	304    80  reserved, zero
//	384    8   inode of the file lock that a replicator locked last; 0 none (the replicator's)
//	392    56  reserved, zero
//	448    8   purpose: hash of the host name and targets of the process that replicates, or did
//	           so last. Pushed sequences and flush tickets refer to these targets; 0 unknown (the
//	           replicator's)
//	456    8   terms: how often lock was taken to replicate (the replicator's)
//	464    112 reserved, zero
//	576    8   time of the last cut, Unix ns; the next cut keeps its distance from it; 0: none yet
//	           (the replicator's)
//	584    8   leaving: 0, or the token of the replicator's process if it may end without another
//	           look at what is published (the replicator's)
//	592    8   generation that some target has (the replicator's)
//	600    8   sequence that some target has (the replicator's)
//	608    4   how often fields 144, 152, 592 and 600 were changed: a futex on which commits wait
//	           that are to be durable (the replicator's)
//	612    4   reserved, zero
//	616    8   wanted: the highest sequence that such a commit waits for, or has waited for
//	624    144 reserved, zero
//	768    8   continuity: a number drawn at random when a base copy begins; it names what the
//	           mirror was copied for; 0: never copied (the replicator's)
//	776    248 reserved, zero
//	1024   …   canonical path of the database, NUL-terminated, at most 3,062 bytes
//	4088   8   holder: 0, or the token of a process that holds RESERVED and has written through a
//	           recorder since it took that lock
//
// Generations begin at 1: a mirror whose generation is 0 belongs to none. A new state's head and
// tail are (Unix time in s, 64), or lie beyond what the log of the state before may grow to. So no
// segment of an older state is taken for one of the new state.
//
// A state describes one file. If another file is renamed to the path or created there, the next
// recorder that opens it, or that is asked for a flush, marks the state as lost and makes a new
// one. Handles of the old file stay with the old page, which nobody reads any more; they attach
// again only if their file comes back.
//
// A token is the low 10 bits of the inode of the process's PID namespace (/proc/self/ns/pid) <<54 |
// pid<<32 | the low 32 bits of the process's start time (field 22 of /proc/PID/stat). So neither a
// reused pid is taken for a live process, nor a process in another container for one in ours.
//
// # Changelog
//
// A segment is log.<number>, a file whose blocks are allocated before it is mapped (so that a full
// disk is an error code and not a SIGBUS). A file that may be mapped is never made shorter: the
// state and segments are replaced by files with another inode. A file system that copies blocks on
// write, or another program, may still leave a page without a block; the recorder notices, as it
// has pages mapped in before it writes to them. The layout:
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
//	40  8  write: byte count; commit: version before, as in the state page (0 unknown);
//	       commit of frames copied from the WAL: position of the last, salt-1<<32 | frames
//	48  8  commit: version after; 0: the frames were copied from the WAL
//	56  8  commit: Unix time in ns
//	64  …  write: the bytes, zero-padded to a multiple of 8
//
// A transaction is the write and truncate frames of one sequence, and then its commit frame. It is
// a physical redo log of writes to the file: to replay it, as a whole and in order, is idempotent.
// What a rollback restores is logged as the same kind of record as what a commit writes. (A
// rollback that fails, so that its journal stays hot, is no transaction: it raises generation.) A
// [Position] is segment<<32 | offset. After position (n, size of n), or after an end frame in n,
// comes (n+1, 64). If a frame header does not fit before the end of a segment, there is no end
// frame.
//
// # Protocol
//
// The recorder works under SQLite's write lock. At the first write of a transaction it compares the
// database's version, size and stamp with the state. It raises generation if they differ, or if
// writing is set (a process died in the middle). Then it sets writing. For each write: it forwards
// the write to the base VFS, then appends a frame at its private end of the log. At the end of the
// transaction: it appends the commit frame, stores stamp, version and size, then head, then
// sequence (release: whoever sees a sequence sees what it counts), then clears writing, then wakes
// the replicator if that is armed (see "Waking"). A process that dies before it stores head leaves
// garbage beyond head, which the next transaction overwrites. When a recorder gets RESERVED or
// EXCLUSIVE, it sets holder; before it gives RESERVED up, it clears holder. Locking mode EXCLUSIVE
// does not give it up, so nothing shows the end of a rollback after a spill (no unlock, no file
// control; only writes to the journal, which we do not record). The writes of such a rollback, and
// its mark in writing, stay with the transaction that follows and are recorded with it. Until then
// a base copy waits, and the mirror has what was committed.
//
// The replicator works under lock. It reads generation, then head; applies the transactions from
// tail to head to the mirror; then advances tail; then frees the segments below it (renames them to
// free.N, or deletes them). If generation is still what it was, the mirror is the database as of
// that head.
//
// Package mirror (replicate/mirror) says how a base copy is made without any lock.
//
// # Foreign writes
//
// A foreign write is one without a recorder: by SQLite without the extension, or by anything else
// that writes to a file. No log has it, so the generation must be raised and the mirror compared
// with the file. One question decides: is the file what we left? Its stamp answers, a number made
// of inode, length, mtime and ctime ([Stamp]; spool_stamp.c for recorders). A recorder compares the
// file's stamp with the one in the state page before the first write of a transaction, and before
// the first write of a checkpoint. At the end of either, while it still has SQLite's lock, it
// stores the file's new stamp. The replicator compares the stamp before it answers a flush with
// success, and at the end of a base copy. A transaction makes two calls of fstat(2) for this, on a
// descriptor (O_PATH) whose closing drops no lock.
//
// Every write to a file changes its ctime, and nobody can set that. cp -p, rsync -a, tar and
// touch -d set the mtime only; a truncation, a reflink and a hole change the ctime, too. (So does
// much that writes nothing: chmod, chown, a new link or name, setxattr. That costs a base copy that
// finds no difference and sends nothing.)
//
// Where times are in whole seconds (ext4 with inodes of 128 bytes, FAT), a write in the same second
// as our last one leaves no trace. We then believe the stamp if a process that would know has had
// the database open since (stamped by), or if the replicator compared the whole file with the
// mirror after that second had passed (settled). Otherwise the first handle of a process, and a
// flush, raise the generation ([CauseTimes]): a base copy waits until the second has passed, and
// settles the stamp.
//
// For the WAL the witness is its salts, which the next WAL does not have, and the running checksum
// of the last frame that was published, or consumed. An older copy of the same WAL has the same
// salts, but another frame at that place, or none. Whoever takes the WRITE lock compares what the
// wal-index says is committed with what is published, in memory. The replicator compares what it
// reads with what it has read before.
//
// A database is three files: SQLite reads the file, the WAL that lies beside it, whatever the
// file's header says (pager.c, pagerOpenWalIfPresent), and plays a hot journal back. So a flush,
// and who asks how replication stands, look at what lies beside the file, too (LookBeside in
// replicate/mirror): no journal is hot, and the WAL ends at the frame, with the checksum, that
// is published, or has no commit if none is. Nothing is written down for that which a commit does
// not publish anyway. If a base copy, or a flush, has found another WAL there, or none, that is
// published in the place of the old one: see [State.FindWAL].
//
// # Waking
//
// A recorder in another process than the replicator's finds armed set. It opens the FIFO for this
// moment, checks that it is one, and writes a byte to it. Then it clears armed, if that still has
// the number that it saw. If it dies between these steps, the replicator is awake. Nothing stays
// open: a host may close all descriptors, and may then get its database under a number that was
// ours. Nothing relies on a wake, either. Every second a process looks at all its spools whose
// replicators sleep: at sequence, generation, drawn tickets and flags. So if nobody could wake the
// replicator, a commit is sent at most a second later.
//
// # The replicator's lock
//
// Two replicators of one spool would write to one mirror. A replicator locks the file, and then the
// directory. If it gets the file but finds the directory locked, somebody has removed the file of a
// replicator that is at work. There is one exception: if the file is the very one that was locked
// last, the directory's lock is a descriptor that a forked child has inherited from a process that
// is dead, and does not count. The holder checks before each step that publishes ([Lock.Held]) that
// directory, file and state are at their paths, that the file is locked, and that the state names
// the holder. If not, it publishes nothing more, lets go, and begins again. Every six hours it
// refreshes the times of all files, so that a cleaner that goes by age removes no file of an open
// database.
//
// # WAL
//
// In WAL mode the WAL is the log, and a commit copies nothing. When the WRITE lock of the wal-index
// is about to be released (under locking mode EXCLUSIVE: at COMMIT_PHASETWO), the recorder reads
// the last committed frame from the wal-index, publishes it, and then increments sequence. Page
// writes to the database while its WAL is open are checkpoints of frames that we have: they are not
// recorded.
//
// A frame is committed if the wal-index says so, and not otherwise. A writer that is killed between
// its commit frame and the wal-index leaves a valid frame that was never committed; the next writer
// overwrites it. So there is one rule. Committed are the frames that the wal-index of these salts
// counts, or the published ones if those are more (a wal-index on the heap counts for its owner
// alone, who publishes). If a WAL has no wal-index, nobody knows better than recovery will, and
// recovery takes every valid frame. One case is left: a commit fails because the WAL cannot be
// written or synced, and the wal-index is on the heap. Its frames may be valid, and they are rolled
// back. The owner then marks the state as undone and raises generation; until its next commit, or
// the end of the WAL, only the published frames count. The rule is applied at three moments:
//
//	commit       by the recorder (walUnlock), in shared memory; it publishes the answer
//	reset        by the recorder (spool_wal_reset.c). The wal-index has been reset by then, so it
//	             goes by a note, taken in memory when the WRITE lock was taken. Without a note,
//	             and with more valid frames than published ones, it cannot tell, and raises
//	             generation
//	copy, flush  by the replicator (openCommitted in replicate/mirror), from the -shm file, for
//	             commits that nobody has published
//
// Copy on reset: before frames are lost (a new header is written at offset 0, or the file is
// truncated to 0 or deleted), the recorder appends the frames that the replicator has not consumed
// to the changelog. It appends them up to the last committed one, as one transaction, each page
// once. Only then are the salts replaced. The record's position counts as consumed once the record
// has been applied. So a replicator reads salts, then head, applies the log up to head, and only
// then the frames of those salts: what the log has is older, and must not be applied later.
//
// The salts show that nobody else used the WAL between two of ours: a reset adds 1 to salt-1
// (wal.c, walRestartHdr). Where the WAL has no frame of ours, the database's stamp shows it, as
// only checkpoints write to the file, and they write only commits. Anything else raises generation,
// also a foreign checkpoint.
//
// # The end of a spool
//
// The spool of a database that was deleted or renamed remains. A replicator sends what it has. Then
// [Sweep] removes it, ten minutes after the first look that found no database at the path. Each
// process with the same spooling directory looks once a minute, and verneuilctl flush looks each
// time. If something in a spool was not sent, the spool stays for seven days. It is removed under
// lock and attach. A process that makes a spool at the same moment finds that the directory is
// gone, and starts again.
//
// # Invariants
//
//	I1  Frames before head are never changed; segments before tail's are free.
//	I2  Only the holder of SQLite's write lock stores version, size, stamp, sequence, head,
//	    writing and holder; only the holder of SQLite's checkpoint lock stores stamp and
//	    checkpointing. Any process may raise generation. Only the holder of lock stores the fields
//	    that are marked as the replicator's. Exceptions, all by compare-and-swap: the replicator
//	    notes a version and a size that are unknown after a base copy, and a stamp before one; it
//	    takes back a published position whose frame is gone, and publishes the WAL that it has
//	    found, if nobody has a lock to do so; it clears the mark of a dead process
//	    in writing, after it has raised generation; a reader under SHARED corrects a version that
//	    is wrong.
//	I3  A mirror that belongs to the state's generation, and to which the log has been applied up
//	    to head while writing is 0, equals the database, byte for byte.
//	I4  A mirror is never published unless I3 held at its last transaction boundary. A mirror that
//	    was made again, or that somebody else has changed, belongs to no generation.
//	I5  If a record is lost, generation is raised before and after the transaction. If somebody
//	    else has raised it during a transaction, it is raised after it, too.
//	I6  The log's length is at most its allowance plus one segment.
//	I7  The recorder takes no lock but SQLite's (except attach), and waits for nobody.
//	I8  Nothing that we do makes a database unreadable: its files have what the VFS below us would
//	    have put there without us. Where that VFS does not store what it is given, nothing is
//	    recorded, and none of our code stays between it and SQLite.
//
// # Beliefs
//
// Each entry begins with what we conclude. Then: the witness that we rely on; what defeats the
// witness; what happens in that case.
//
//	We see what an adopted connection does (one that was open when the extension was loaded).
//	         Witness: its file has had our methods since a moment at which the connection was in
//	         no transaction, and SQLITE_FCNTL_LOCKSTATE told which locks it held then: none, or
//	         SHARED and an open WAL. Where the default VFS cannot be hooked, we do not see its
//	         other files being opened. Only the WAL matters. We take over its methods when the
//	         wal-index is locked for writing or checkpointing, when the database goes from SHARED
//	         to EXCLUSIVE, or at a commit under locking mode EXCLUSIVE; its deletion follows a
//	         close under EXCLUSIVE (recorderClose). Some connections are not adopted: another one
//	         of a shared cache, one with a lock of unknown origin, one in a transaction. The user
//	         is told. Defeated by: a WAL that we miss all the same. It looks as if somebody else
//	         had used it: its salts are new, and we never saw the end of the one before.
//	A WAL checkpoint writes pages to the file whose frames we know.
//	         Witness: commits to that WAL have been published. Defeated by: a VFS above us with a
//	         wal-index of its own, as we see none of its locks. Then no commit has been published,
//	         the generation is raised when the first page comes, and the database is copied
//	         (recorderBeginCheckpoint).
//	A WAL checkpoint writes the bytes that the frames have.
//	         Witness: none. Defeated by: a VFS above us that encrypts each write anew
//	         (SQLite3MultipleCiphers). It writes other bytes with the same content; ours are the
//	         frames'. A VFS that moves the pages of a database, but not those of its WAL
//	         (appendvfs), would give versions that are no databases: docs/hosts.md says not to use
//	         WAL mode with it.
//	The VFS below stores what it is given.
//	         Witness: it is SQLite's own (its xOpen is that of unix-none). For another VFS: its
//	         name, and the names of those below it, are not known to encrypt or compress; the file
//	         has the size that the VFS says; the first reads of pages, and every write before it
//	         is recorded, equal what the file has (below.c). Defeated by: a VFS that begins to
//	         differ later, and only in the frames of a WAL, if its methods are not the first.
//	         SQLite3MultipleCiphers is such a VFS; it is known by name, and is put above us. Where
//	         the witness fails, I8 holds, and the user is told.
//	The database was deleted, and will not come back.
//	         Witness: two looks, ten minutes apart, find no file at its path. Defeated by: a file
//	         system that is not mounted. Then the spool is made again, and the first version
//	         compares the database with what the target has. That costs work and loses nothing:
//	         all of it was sent, or is in the database.
//	All of a deleted database was sent.
//	         Witness: every target has the generation and the sequence of the state. Defeated by:
//	         a commit that no recorder has published, of a killed process or without the
//	         extension. Then that commit is lost with the file.
//	The user wants this file replicated as a database.
//	         Witness: SQLite opens it as a main database (SQLITE_OPEN_MAIN_DB) by the default VFS
//	         or by ours, no pattern excludes it, and it is not empty, or has a spool, or a pattern
//	         names it. Defeated by: a copy that is opened later. It is recorded; the user may
//	         exclude it.
//	An empty file is about to become a copy.
//	         Witness: when it was opened, its connection (SQLITE_FCNTL_PDB) was running a VACUUM;
//	         or when RESERVED is asked for, the connection runs no statement: this is the backup
//	         API. Defeated by: a VFS that does not pass PDB on, and statements that the connection
//	         runs beside a backup. Then the file is recorded. Also defeated by: a backup into a
//	         new database that is meant to be used, which nothing tells from a copy. It is listed
//	         as not replicated, and it is recorded from the first write by a statement, or once
//	         its WAL or the database is opened again.
//	What a connection commits is recorded.
//	         Witness: its file answers our file control; it has a spool, which belongs to the file
//	         at the path; and there is a target. Otherwise a flush fails and says why, the log
//	         says it once, and verneuil_status() lists it. Where the spool could not be had, on a
//	         full disk, say, a connection that stays open tries again, ten seconds after the last
//	         try, when it begins to read, or is asked for a flush; under locking mode EXCLUSIVE,
//	         at the end of a commit. From outside, verneuilctl status shows a spool without a
//	         state, and a spooling directory that cannot be written to. Defeated by: a pragma that
//	         reaches no VFS of ours. It has no answer.
//	The replicator sleeps, but will be woken.
//	         Witness: armed is set, and a byte in the FIFO or a bell will come. Defeated by: a
//	         recorder that dies before it writes, a FIFO that was removed or cannot be opened, no
//	         free descriptor. Then the look every second finds the commit; it needs none of these.
//	This descriptor is ours.
//	         Witness: device, inode and type, by fstat at each use. Defeated by: what the host
//	         does between that check and the use. Therefore nothing of ours stays open in the
//	         host's table of descriptors, and Go's threads have a table of their own (cgo,
//	         descriptors.c); they share the host's only where the kernel refuses that.
//	This token is of this process, or of a dead one.
//	         Witness: the token itself. Defeated by: two containers whose PID namespaces agree in
//	         10 bits, and two processes with the same pid and start tick. A number says nothing
//	         about a process in another namespace: we believe that it is dead if it holds none of
//	         SQLite's locks, since a process in a transaction holds one.
//	This directory is ours.
//	         Witness: owner and mode, of the directory above it, too. They are checked when a
//	         recorder attaches, and again, through a descriptor, each time that it opens, renames
//	         or removes a file there. Defeated by: root.
//	The targets have this commit.
//	         Witness: the point that the replicator has stored in the state, of a purpose that is
//	         ours before and after the look. It stores only what a target has acknowledged.
//	         Defeated by: a target that loses what it has acknowledged: a durable commit does not
//	         ask the target again, as a flush does. The patrol, and the next flush, find it and
//	         put it again.
//	This connection gives up its locks, so that a durable commit may wait after that.
//	         Witness: it has, since a pragma last set a locking mode in this process. Defeated by:
//	         a pragma that reaches no VFS of ours. Then one commit returns without having waited,
//	         its outcome is "pending", and later ones wait while their locks are held.
//	Nobody waits for a process that ends.
//	         Witness: the locks that its connections hold, as their files were told
//	         (recorderExcludes). If others wait for them, the process does not wait for the
//	         target. Defeated by: connections through another VFS, which we do not know.
//	The lock is ours.
//	         Witness: device and inode of directory and file at their paths, a query of the lock,
//	         and our token in the state; all before each step that publishes. Defeated by: a
//	         process that is stopped between the check and the step while its whole directory is
//	         replaced. Its manifest is put with If-Match, and is refused.
//
// Three more need longer answers.
//
// Nobody has written without a recorder since the last one wrote. Witness: the stamp, and in a
// rollback mode the change counter. They show commits; pages that were spilled and rolled back,
// also from a hot journal and by another process; journal_mode MEMORY and OFF; VACUUM and .restore;
// cp, rsync, tar and touch -d, whatever mtime they set. Defeated by:
//
//   - a write in the same tick of the clock as our last one (1 to 10 ms), on file systems without
//     finer times: all before Linux 6.13, and since then all but ext4, XFS, Btrfs and tmpfs. A
//     commit still shows in the change counter. A write that SQLite did not make, or that leaves
//     the counter alone, is not noticed until the next base copy. (A base copy itself reads each
//     piece twice: what was spilled and rolled back in one tick is read once at most.)
//   - times in whole seconds: see "Foreign writes". We miss a write that leaves the change counter
//     alone, in the second of a transaction of a process that keeps the database open.
//   - a clock that is set back, and then shows the very same nanosecond, or second, again.
//   - a store into a mapped page that was stored into before our last write (mmap(2); SQLite maps
//     for reading only): ctime changes only at the first store after the page was written back.
//   - a program that ignores SQLite's locks, and writes during a transaction or checkpoint of ours.
//   - a program that writes below the file system.
//
// The WAL continues from what we know. Witness: the salts, and the running checksum of the last
// frame that was published; for the replicator, that was consumed. Defeated by: another frame with
// the same 64-bit checksum, and other bytes in frames before it, which only a flaw of the disk
// makes. Under locking mode EXCLUSIVE the checksum may be unknown: then only the salts count.
//
// The database as it lies there, with nobody using it, is what was recorded. Witness: the stamp of
// the file, as above; and beside it no hot journal, and a WAL that ends at the last published
// frame, by its checksum: of valid frames that follow, the next one who opens the database takes
// those up to the last commit. Defeated by what defeats these two; by a WAL of ours of which all is
// in the file, and that somebody has deleted: that is taken for a loss, and costs a base copy; and
// by a recorder that has written to the WAL and is about to publish it. It has a lock meanwhile,
// and nothing is concluded then.
//
// The file at the path is the one that the state describes. Witness: device, inode and birth time.
// Defeated by: a file system without birth times, where a new file gets the old one's inode number.
// Its ctime differs then, so it is taken for a foreign write.
//
// # Lock order
//
// A replicator takes lock, and nothing after it: it takes none of SQLite's locks. attach is taken
// alone.
package spool
