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
// # Invariants
//
//	I1  Bytes that a Get returns hash to the ID that was asked for.
//	I2  Bytes that a Put stores hash to the ID that they are stored under.
//	I3  A Put that returned nil is durable: dir fsyncs the file and its directory
//	    before and after the rename, s3 is durable when it answers.
//	I4  Every request to a store takes one token of the shared limiter, retries too.
//	I5  An object appears whole or not at all, in every provider.
//	I6  A damaged cache entry is removed and fetched anew, never returned.
//
// # Errors
//
// Four kinds decide what happens: [ErrAbsent], [ErrCorrupt], [ErrConflict], and
// everything else, which is transient or a matter of configuration and worth a
// later try. Providers translate at the edge; nobody matches text.
package chunkstore
