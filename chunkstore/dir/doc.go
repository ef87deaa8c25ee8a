// Package dir is the provider of targets in a directory: on a disk, a NAS, or for tests and the
// demo. It imports package chunkstore, whose contracts it keeps, and chunkstore/objectfile.
//
// # Files
//
// Two buckets below path. Directories are made on demand with mode 0700, files
// have mode 0600.
//
//	chunks/<first 2 hex digits>/<name>   a pack
//	chunks/logs/<name>/<16 hex digits>   a record of a log
//	chunks/kept/<name>/<32 hex digits>-<16 hex digits>   a checkpoint that is kept
//	chunks/pins/<pack>/<8 hex digits>   a pin
//	manifests/<key>
//	manifests/.history/<key>/<Unix ns, 20 digits>-<first 16 hex digits of the ETag>
//	<each directory>/.lock       flock'd by whoever changes a name in it (not by Puts of packs,
//	                             nor of what is put on the condition that there is nothing)
//	<each directory>/.put/<…>    a Put under way; removed after a day. It is a directory, so that
//	                             no Put lists the objects beside its own
//
// Directories may be symbolic links; in the place of a file, a link, or anything but a
// regular file, is a damaged object. Nothing is written to a file that has a name already:
// what stands there, under however many names, is replaced.
//
// A key of more than 200 bytes is cut into pieces of 200: all but the last are
// directories and end in "~", all but the first begin with "~". No key begins
// with ".", and none contains "/". A manifest's ETag is the quoted BLAKE3-256
// of its bytes, a pack's is their CRC-32C and length.
//
// The history holds the versions of a manifest that were replaced or deleted,
// named by the time at which they were put, which is their ID in [chunkstore.Versioned]. The
// newest 1,000 are kept (and, now and then, up to 64 more); of those before, the
// last of each hour, and after 30 days of each day, in UTC. The present version may
// stand in it, too. It is no part of the bucket: List does not show it.
//
// # Batches
//
// An fsync for each pack would set the pace of a push. A batch of packs (see package chunkstore)
// fsyncs up to 32 files and their directories, or calls syncfs once for more; a long one
// has syncfs begin while it is put, whose errors are Sync's, too.
//
// A crash of the machine before Sync may leave a file under a pack's name with
// other bytes, or none. Nothing relies on it: a manifest that names it was not put
// by that batch; a Get finds out (I1); and a Put does not ask whether there is an
// object, it stores its own. What must not happen is that a Put takes away an
// object that another writer's manifest names. So a batch gives a name to a file
// that is not durable only by RENAME_NOREPLACE; if the name is taken, the file gets
// it in Sync, when it is durable. For the same reason a batch never takes a file that it
// finds for its own: it may be another's, not durable yet, or the page cache's only.
//
// An error of writing back must not be missed, so that the files stay open until
// Sync, or, where they are too many, the directory that syncfs gets was opened before
// the first Put. After a failed fsync the kernel may call the lost pages clean: a
// batch that failed stays failed, and what it has put is put again by another. Where syncfs
// promises too little (Linux before 5.8, file systems other than ext4, XFS, Btrfs, F2FS and tmpfs)
// each Put of a batch is durable by itself.
//
// # Beliefs
//
// What is concluded, the witness that it is drawn from, what defeats the witness, and what happens
// then.
//
//	an object was stored
//	         an fsync of the file and its directory, or a syncfs, that reported no error
//	there is no such object
//	         no file of that name, in a directory that can be read. An NFS client remembers that
//	         there was none, by default for up to a minute, unless it is mounted with
//	         lookupcache=positive: then readers see old versions for so long, and a writer may
//	         take another one, who lives, for dead. It takes nothing away from him
//	there was no object before this one (IfNone)
//	         RENAME_NOREPLACE, or link(2), which is one step of the file system, on a server of
//	         the server. A process that stops before it, or whose locks are lost, replaces
//	         nothing. Where a file system has neither, the flock is all there is: a process that
//	         was stopped with it keeps others out, and one that has lost it may replace a record
//	the object that is replaced is the one that was read (IfMatch)
//	         the flock, from when it is compared until the rename. Somebody deletes the lock's
//	         file, or an NFS server takes the lock from a client that is cut off, just while a
//	         process is stopped there: then it puts back what is older. What was there is in the
//	         history
//	the file system is at work on the request
//	         the call was made less than ten seconds ago. A call to the kernel that does not
//	         return cannot be given up: of a directory on a disk or server that hangs it is only
//	         said
//	a touched object is young
//	         utimensat succeeded. A crash of the machine may undo what was touched in the seconds
//	         before
package dir
