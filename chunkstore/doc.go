// Package chunkstore stores and fetches content-addressed objects: the chunks
// of databases, and the tree objects (leaves and nodes) of manifests. It knows
// providers (s3, dir, and local caches), but neither databases nor manifests.
//
// # Identity
//
// An [ID] is the BLAKE3-256 hash of an object's plain bytes. A chunk is a
// [ChunkBytes]-aligned range of a database file; the last one may be short. The
// chunk of 65,536 zero bytes, [ZeroID], is known to everyone and never stored.
//
// # Chunk object format
//
// Key: the 64 lower-case hex digits of the ID, in the chunk bucket. Body:
//
//	offset size
//	0      4    magic "VRNC"
//	4      1    format version, 1
//	5      1    codec: 0 raw, 1 zstd
//	6      2    reserved, zero
//	8      …    payload
//
// The payload is zstd only where that is smaller. A decoder never produces more
// than [ChunkBytes] bytes, whatever the frame claims, and rejects as corrupt
// what does not hash to the ID that was asked for.
//
// # The dir target
//
// Two buckets below path. Directories are made on demand with mode 0700, files
// have mode 0600.
//
//	chunks/<first 2 hex digits of the ID>/<ID>
//	manifests/<key>
//	manifests/.history/<key>/<Unix ns, 20 digits>-<first 16 hex digits of the ETag>
//	<each directory>/.lock       flock'd by whoever changes a name in it (not by Puts of chunks)
//	<each directory>/.put-<…>    a Put under way; removed after a day
//
// Directories may be symbolic links; in the place of a file, a link, or anything but a
// regular file, is a damaged object. Nothing is written to a file that has a name already:
// what stands there, under however many names, is replaced.
//
// A key of more than 200 bytes is cut into pieces of 200: all but the last are
// directories and end in "~", all but the first begin with "~". No key begins
// with ".", and none contains "/". A manifest's ETag is the quoted BLAKE3-256
// of its bytes, a chunk's is their CRC-32C and length.
//
// The history holds the versions of a manifest that were replaced or deleted,
// named by the time at which they were put, which is their ID in [Versioned]. The
// newest 1,000 are kept (and, now and then, up to 64 more); of those before, the
// last of each hour, and after 30 days of each day, in UTC. The present version may
// stand in it, too. It is no part of the bucket: List does not show it.
//
// # Identity of buckets
//
// Each bucket (or place in one, under a prefix) that was written to has one object besides its
// own, under [MarkerKey]: {"verneuil_bucket":1,"id":"<UUID>"}. The first writer makes it, on the
// condition that there is none, and reads it again: all writers get the same. List does not show
// it. The 1 is the format of all that lies beside it; a program that knows only older
// ones writes nothing. Readers never ask for it.
//
// # Beliefs
//
// What is concluded, from which witness, what defeats the witness, and what happens then.
//
// This is the bucket that it was. Witness: its [Identity]. Defeated by: a copy of the bucket that
// has the marker, and not all objects (a sample finds that out, see package replicate); a marker that
// was deleted alone (all is put again, which costs work, and no more).
//
// The bucket has an object. Witness: the answer to a Get (whose bytes are hashed), or to a Stat or
// a List, which say nothing of the bytes or of whether they are durable. So what was
// merely seen counts only where a manifest named it, which is put after a Sync.
//
// The store keeps the conditions of Puts. Witness: it refused two Puts of the marker whose conditions
// did not hold ([Target.ProveConditions]): once for a spool, and in a process for a bucket. Defeated
// by: a proxy that takes its place later. A store that does not, or answers 501, is looked at before
// each conditional Put, which finds another writer but for a moment; log and status say so.
//
// An ETag in a condition is what the store compares. Witness: its own answer. Defeated by: Ceph's
// radosgw 16, which gives ETags in quotes and compares them without: it refuses If-Match, and shows the very
// ETag. Then the bare form is tried, and remembered if another bare ETag is refused.
//
// # Batches
//
// An fsync for each chunk would set the pace of a push to a dir target. Only what a
// manifest names has to be durable, when it names it: so chunks are put in a
// [Batch], whose Sync comes before the Put of the manifest. A dir target's batch
// fsyncs up to 32 files and their directories, or calls syncfs once for more; a long one
// has syncfs begin while it is put, whose errors are Sync's, too.
//
// A crash of the machine before Sync may leave a file under a chunk's name with
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
// batch that failed stays failed, and what it has put is put again by another. Where syncfs promises too little (Linux before 5.8, file systems
// other than ext4, XFS, Btrfs, F2FS and tmpfs) each Put of a batch is durable by
// itself, as it always is in s3.
//
// # The s3 target
//
// Where things lie, as the configuration names bucket and prefix (which a slash ends):
//
//	chunk_bucket and manifest_bucket     chunks: <prefix><ID>          manifests: <prefix><key>
//	bucket, or the two are one           chunks: <prefix>chunks/<ID>   manifests: <prefix>manifests/<key>
//
// No key of ours has a slash in it. So List asks for keys without one after the prefix, and several
// targets may share a bucket, whatever their prefixes. Of one configuration no two may be one place.
//
// The stores speak S3: MinIO and versitygw, with and without versioning, pass the same tests, which
// are there for others, too. Nothing is read or sent before the first use; then the AWS SDK's
// default chain gives the credentials.
//
// Signed are the host, the body's length, and the headers x-amz-*, content-*, if-* and range: what S3
// wants, and nothing that proxies rewrite (Accept-Encoding). What one of them compresses is unpacked.
// A Put carries Content-MD5, in a signed header, so that its body is not signed, and If-Match or
// If-None-Match for a [Condition].
//
// What a store refuses is left out or put in, remembered for the life of the process, and logged once:
//
//	501 to a conditional Put             Puts are unconditional, if one is taken so
//	400, 403 or 501 to a Put whose body  the same Put with a signed body; if that one is refused
//	is not signed                        alike, not again for a minute. sign_payload: from the start
//	400, 405 or 501 to a copy onto       objects are read and put again to touch them; so they are,
//	itself; 403                          but nothing is remembered, at a 403
//	the credentials (see below)          read again, at most every 5 seconds; if they are others, the
//	                                     request is sent once more. Files and roles may change so
//
// Refused credentials are InvalidAccessKeyId, ExpiredToken, SignatureDoesNotMatch and their like, 401,
// and 400 or 403 to a HEAD, whose answer has no code.
//
// A request is tried 4 times
// if the connection breaks, also within a body, and at 408, 429, 500, 502, 503,
// 504 and SlowDown. All attempts together have [Options].Timeout, the wait for our own limiter not
// counted, and each has to begin to be answered in half of that; then it is [ErrNoAnswer]. After two
// seconds without an answer to an attempt (a dir target: ten) the log says once what is waited for, until the store
// answers again. What gives the credentials has as much time. So it is tried again if the answer is 200 and has no
// ETag: it is a page of something that stands between us and the store, and nothing was
// stored or found. Of an answer that is no object 4 MiB are read, of an error 64 KiB. A conflict
// after a retry is none if the object is ours.
//
// A missing bucket is [ErrNoBucket], unless create_buckets_on_demand is set: then
// it is an empty one, and Put makes it. Without the right to list a bucket, AWS
// answers 403 for absent objects, too, so that they are not [ErrAbsent].
//
// # Expiration
//
// Objects that no version names any more may be left to a rule by which old ones
// expire. So those that are named must be made young, now and then:
// [Target.TouchChunk] does it, in s3 by a copy of the object onto itself (where that is refused, by
// a Put of what a Get returned), in dir by the file's times. What is done for that sake alone can wait: [Patient].
//
// # Caches
//
// A local cache and a read_only cache are directories of chunk objects, as they
// are stored in targets:
//
//	<shard, 4 hex digits>/<ID>      shard: the ID's first 8 bytes, big-endian, modulo num_shards
//	<shard, 4 hex digits>/.fill-<…> being written, and flock'd; else left by a process that was killed, for a minute
//	.claims                         in which processes lock what they fetch, by open file description:
//	                                one byte at the ID's first 62 bits, big-endian
//
// Processes with the same num_shards may share one. Each shard holds its part of
// the capacity, and at most 1/16 or 64 files more for each process that fills it.
// An entry's access time, if after its modification time, says that it was read
// since it was written or last spared from eviction, and spares it once more. What is not
// called by an ID is nobody's to count or remove.
//
// # Invariants
//
//	I1  Bytes that a Get returns hash to the ID that was asked for.
//	I2  Bytes that a Put stores hash to the ID that they are stored under.
//	I3  A Put that returned nil is durable: dir fsyncs the file before the rename and
//	    its directory after it, s3 is durable when it answers. A Put of a batch is
//	    durable once the batch's Sync returned nil.
//	I4  Every request to a store takes one token of the shared limiter, retries too. The
//	    calls of a dir target are counted, but not paced: nobody bills for them.
//	I5  An object appears whole or not at all, in every provider; after a crash of the
//	    machine, that holds for what is durable, and an object that is durable is
//	    replaced only by one that is.
//	I6  A damaged cache entry is removed and fetched anew, never returned.
//	I7  Of the processes that share a local cache, one fetches an object that several miss,
//	    and the others wait for it, but none longer than for a slow target, nor for one that
//	    has failed to.
//
// # Beliefs
//
// What is concluded, the witness that it is drawn from, what defeats the witness, and what happens then.
//
//	an object was stored
//	         an answer of 200 to the Put, with an ETag; of a directory, an fsync of the file and its
//	         directory. A portal or balancer that answers 200 with a page defeats it: without an ETag it
//	         is no answer, and the Put is tried again
//	there is no such object
//	         S3's code to a GET, or a 404 to a HEAD in a bucket that has been seen. A missing bucket (which
//	         is asked for), a page of 404 without a code, and a 403 where listing is not allowed are no
//	         absence; nor is a 404 to a copy: TouchChunk reads the object then
//	what a list shows is all there is
//	         an answer that names the bucket, and goes on to its end. A page, or a 404 from something that
//	         is no bucket, is an error, not an empty list
//	a key in a list is of this target, and of its kind
//	         it begins with the target's prefix for that kind, and has no slash after it. Another
//	         configuration that keeps its chunks there defeats it: of one configuration that is refused
//	         (ValidateTargets), else verify calls them damaged manifests
//	a conflict is not with ourselves
//	         the first attempt was answered. After a lost answer the object is read: ours is no conflict
//	the store takes conditions, unsigned bodies, and copies onto itself
//	         it has not refused one: see the table above. It may be the policy of an hour: what was left
//	         out is left out until the process ends, what was put in does no harm
//	the credentials are good
//	         none was refused. Rotation and expiry defeat it: they are read again. If they are the same, the
//	         request fails, and the next one that is refused reads them again, after 5 seconds
//	the store is at work on the request
//	         the request was sent less than two seconds ago (a directory's: ten). Then it is said that
//	         it does not answer, and after Timeout the request fails. A call to the kernel that does not
//	         return cannot be given up: of a directory on a disk or server that hangs it is only said
//	a touched object is young
//	         by the store's own clock the copy's time is that of its answer. A store that keeps the time
//	         (versitygw) defeats it: the object is read and put. Of a directory, that utimensat succeeded
//	a chunk's bytes are right
//	         its hash is its ID (I1). Nothing defeats that, and no length, ETag or header is believed
//
// # Errors
//
// Four kinds decide what happens: [ErrAbsent], [ErrCorrupt], [ErrConflict], and
// everything else, which is transient or a matter of configuration (such as
// [ErrNoBucket]) and worth a later try. Providers translate at the edge; nobody matches text.
package chunkstore
