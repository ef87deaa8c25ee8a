// Package chunkstore stores and fetches content-addressed objects: the chunks of databases, and the
// tree objects (leaves and nodes) of manifests. They lie in packs, several together. It has the
// contracts that providers keep, and what is done alike with all of them; it knows neither a
// provider nor databases nor manifests.
//
// # Rooms
//
//	Bucket, Versioned, Toucher, Conditional, Batcher   what a provider's buckets can do
//	Cache, FilledCache                                 what holds objects on this machine
//	TargetOpener, CacheOpener, Register                how a provider is configured and made
//	Target                                             two buckets: verified puts and gets
//	Pack, Place, Ref                                   objects stored together, and where one is
//	Store                                              one configuration's targets and caches
//	Sealer, Plain                                      IDs, and what is stored of plain bytes
//	Limiter, Watch                                     pace and watch the requests to a store
//
// A provider is a package of its own: chunkstore/s3, chunkstore/rados, chunkstore/dir, and
// chunkstore/cache for the caches. It registers its configurations when it is imported. To add one,
// write its package, have its tests call chunkstore/storetest, and import it in package vfs:
// nothing else names providers. What has to do with the files of dir and cache alike is in
// chunkstore/objectfile.
//
// # Identity
//
// A chunk is a [ChunkBytes]-aligned range of a database file; the last one may be short. An [ID]
// names it, or a tree object, by its plain bytes; a [Sealer] computes it. The chunk of 65,536 zero
// bytes, [ZeroID], is known to everyone and never stored. A [Digest] is the hash of anything else.
//
// # Packs
//
// A request has its price, and its latency, whatever its size. So what is put together lies in one
// object of the chunk bucket: up to 64 objects, each sealed by itself, behind a list of their IDs
// and lengths (pack.go has the bytes). Its key is the 64 lower-case hex digits of the list's
// digest. So packs of equal objects are one if they are put on the same day, also where stored
// forms differ in all but their lengths, and a [Place] is right in each target that has the pack.
// One object is read by a request for a part; several that stand near each other, by one; all, with
// the pack.
//
// A pack that is damaged, or gone, can be made again, by anybody ([MendPack]): its name says what
// stood in it and where, and an object's ID what that was. It is the same pack then, for all that
// name it. Where not all of it can be had, or nothing may be replaced, what is needed is put in a
// pack of another edition, which has another name.
//
// # Object format
//
// What a [Sealer] seals of an object, and [Plain] stores as it is, is
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
// what has another ID than the one that was asked for.
//
// # Sealing
//
// All bytes of a target but keys, markers, pins, and the first bytes of packs and manifests are a
// Sealer's: packs object by object, their lists, records, manifests, heartbeats. Package keyring
// encrypts them, and, if its keys say so, the names of databases in the keys of manifests
// (Name of package manifest, from which all other keys of a database are made). A record is sealed
// as a whole, and each is bound to its key ([NewLog]); what a history compares and hashes are plain
// records, so that it does not matter how they are sealed.
//
// # Identity of buckets
//
// Each bucket (or place in one, under a prefix) that was written to has one object besides its
// own, under [MarkerKey]: {"verneuil_bucket":1,"id":"<UUID>"}, and, if what lies beside it is
// encrypted, "keys":"<the ring's name>". A writer with other keys, or none where it has some, or
// some where it has none, writes nothing ([ErrKey]). The first writer makes it, on the condition
// that there is none, and reads it again: all writers get the same. List does not show it. The 1 is
// the format of all that lies beside it; a program that knows only older ones writes nothing.
// Readers ask for it only where they do not find a database: [CheckRing].
//
// # Time
//
// All attempts of a request together have [Options].Timeout, the wait for our own limiter not
// counted; then it is [ErrNoAnswer]. After two seconds without an answer to an attempt (a
// directory: ten) the log says once what is waited for, until the store answers again: [Watch].
// That is for a body of 64 KiB or less; for each MiB more both have as much again.
//
// # Batches
//
// Only what a manifest names has to be durable, and only when it names it. So packs are put in a
// [Batch], whose Sync comes before the Put of the manifest: a provider may make them durable
// together, which is faster than one by one.
//
// # Expiration
//
// Objects that no version names any more may be left to a rule by which old ones expire. So those
// that are named must be made young, now and then: [Target.TouchPack] does it. What is done for
// that sake alone can wait: [Patient].
//
// # Append only
//
// A writer needs no right to delete, and a policy may deny replacing what is in the bucket of
// chunks, but for leases and wants. Then packs and kept checkpoints, which are put unconditionally
// else, are created on the condition that there is none ([PutOnce]). One that is there is
// read, and as good if it is whole: a pack is of the same day (I8). Packs cannot be made young. One
// that no version names after 20 hours, as an upload takes long, gets a pin instead: a small object
// pin-<pack>-<day, 8 hex digits>, whose age counts for the pack's to whoever collects garbage
// ([RenewPack]).
//
// # Invariants
//
//	I1  The plain bytes of an object have the ID that was asked for, wherever they come from,
//	    and whatever its place says.
//	I2  What is put in a pack has the ID that the pack's list gives it.
//	I3  A Put that returned nil is durable: dir fsyncs the file before the rename and
//	    its directory after it, s3 and rados are durable when they answer. A Put of a batch is
//	    durable once the batch's Sync returned nil.
//	I4  Every request to a store takes one token of the shared limiter, retries too. Those of
//	    dir and rados targets are counted, but not paced: nobody bills for them.
//	I5  An object appears whole or not at all, in every provider; after a crash of the
//	    machine, that holds for what is durable, and an object that is durable is
//	    replaced only by one that is.
//	I6  A damaged cache entry is removed and fetched anew, never returned.
//	I7  Of the callers that share a local cache, in one process or several, one fetches an object
//	    that several miss, and the others wait for it, but none longer than for a slow target,
//	    nor for one that has failed to. Nobody waits who has claimed what others may wait for.
//	I8  A pack's list has the day on which it was begun. So whoever begins one gives it no name
//	    that one of another day has, whatever its objects are.
//
// # Beliefs
//
// What is concluded, the witness that it is drawn from, what defeats the witness, and what happens
// then. The providers' packages have their own.
//
//	this is the bucket that it was
//	         its [Identity]. A copy of the bucket that has the marker, and not all objects,
//	         defeats it: a sample finds that out (see package replicate). So does the loss of the
//	         marker alone: all is put again, which costs work, and no more
//	the bucket has a pack
//	         the answer to a Get (whose bytes are hashed), to one of its first bytes alone, or to
//	         a List, which say nothing of the other bytes or of whether they are durable. So what
//	         was merely seen counts only where a manifest named it, which is put after a Sync
//	the pack has the object, and there
//	         the place that a manifest gives, which this or another program has had from a Put. A
//	         damaged or foreign manifest defeats it, or a pack that was cut short: the bytes have
//	         another ID, and are asked of the next target. A whole pack's list is hashed: it is
//	         the one that the place was made from, or the pack is damaged
//	the store keeps the conditions of Puts
//	         it refused two Puts of the marker whose conditions did not hold
//	         ([Target.ProveConditions]): once for a spool, and in a process for a bucket. A proxy
//	         that takes its place later defeats it. A store that does not, or that knows no
//	         conditions, is looked at before each conditional Put, which finds another writer but
//	         for a moment; log and status say so
//	the store is at work on the request
//	         the request was sent less than two seconds ago (a directory's: ten; for each MiB of a
//	         body as much again). Then it is said that it does not answer, and after Timeout the
//	         request fails
//	a policy denies replacing packs, and lets them be created
//	         a Put was denied, and one with If-None-Match was not. A policy of an hour defeats it:
//	         until the process ends nothing that is damaged is replaced, and the error says so
//	an object's bytes are right
//	         they have its ID (I1). Nothing defeats that, and no length, ETag or header is
//	         believed
//
// # Errors
//
// Four kinds decide what happens: [ErrAbsent], [ErrCorrupt], [ErrConflict], and
// everything else, which is transient or a matter of configuration (such as
// [ErrNoBucket] and [ErrKey]) and worth a later try. Providers translate at the edge; nobody
// matches text.
//
// # Concurrency
//
// Everything that is exported may be used by many goroutines at once, unless it says otherwise.
package chunkstore
