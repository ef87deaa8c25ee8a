// Package rados is the provider of targets in a pool of a Ceph cluster. It imports package
// chunkstore, whose contracts it keeps, and cgo/librados.
//
// # Objects
//
// A target is a pool and a namespace of it. The names of objects begin with what they are:
//
//	chunks/<key>                    a pack, or what else the bucket of chunks has
//	manifests/<key>
//	logs/<name>/<16 hex digits>     a segment of a log: its records whose numbers, divided by
//	                                1,024, give that
//	logs/<name>                     the log's index
//	bells/<name>                    what is watched by who listens, and notified by who tells
//
// So a capability for a namespace is one for a target, and files of Ceph's own VFS, in whose names
// there is no slash, may be in the same.
//
// An object's attribute verneuil.etag is its ETag: in quotes, 32 hex digits of the BLAKE3 hash of
// its bytes. An object without it, or with another one, was put by somebody else; it is read.
//
// # Logs
//
// A record is two entries of its segment's map, keyed by its number in 16 hex digits:
//
//	r<number>   the record
//	m<number>   when it was appended (Unix ns, 8 bytes, big-endian), and its length (8 bytes)
//
// Append is one compound write: make the segment if there is none, fail if it has an m<number>, set
// both. The index is an object whose map has the number of each segment, in 16 hex digits, as a
// key; it gets a segment before the segment gets its first record. To read 64 records, or to find
// that there is no next one, takes one request.
//
// The map was chosen by measuring, one write of 1,500 bytes at a time, against objects of their own
// that are created exclusively and a comparison with an append. In a pool with erasure coding
// objects have no maps. There each record is an object of the bucket of chunks, created
// exclusively. Which pool is which the monitors say, once.
//
// # Clients
//
// All targets of a process that are the same user of the same cluster share one client. It connects
// at the first request. A client on the cluster's blocklist is given up, and another one connects:
// what it was to be kept from writing the conditions of writes keep it from.
//
// Requests are counted and not paced: nobody bills for them. A full pool is an error at once; while
// OSDs or monitors are away, requests wait, for [chunkstore.Options].Timeout in all.
//
// # Beliefs
//
// What is concluded, the witness that it is drawn from, what defeats the witness, and what happens
// then.
//
//	an object has that ETag
//	         its attribute, or of one that was read, its bytes. Somebody who replaces its bytes
//	         by Ceph's tools, which keep attributes, defeats the first: a conditional Put by who
//	         has read what was there before replaces what he has put
//	there is no such object
//	         ENOENT, and the client's map has the pool: a pool that was deleted is ErrNoBucket
//	an object is old
//	         its time, which is by the clock of who wrote it, as that of a record is. See package
//	         upkeep for what clocks that differ do
//	a write that was sent again happened once
//	         librados sends what has no answer again, under the same number, and the OSDs know the
//	         last 3,000 of a placement group. A write that comes again after so many others
//	         defeats it: an exclusive one is then a conflict with itself, which package history
//	         recognizes by its bytes
//	nobody listens
//	         a notification that nobody acknowledged, or no such object. Who begins to listen
//	         later asks by himself, first
//	the pool's objects have maps
//	         its type, which cannot be changed
package rados
