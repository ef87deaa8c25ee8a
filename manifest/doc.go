// Package manifest is the format of one version of a database: which chunks it
// is made of, by ID, and the pages that travel inside. It encodes, decodes and
// locates; it does no I/O.
//
// # Object
//
// One object per host and database, key [Name], in the manifest bucket:
//
//	offset size
//	0      4    magic "VRNM"
//	4      1    format version, 2
//	5      …    the body, sealed ([chunkstore.Sealer]); with [chunkstore.Plain]:
//	5      1    codec of the body: 0 raw, 1 zstd
//	6      2    reserved, zero
//	8      32   BLAKE3-256 of the plain body
//	40     …    body: a manifestpb.Manifest, without fields that it does not know
//
// Neither the object nor its plain body is longer than [BytesMax]. Times are Unix
// nanoseconds, 0 for unknown (and for what an int64 cannot hold).
//
// # Tree
//
// The chunk IDs of the file, in order, are the leaves' entries. levels says
// how far the top IDs stand above the chunks:
//
//	levels 0: top holds chunk IDs (at most 64: 4 MiB of database)
//	levels 1: top holds IDs of leaves, each 512 chunk IDs (32 MiB each)
//	levels 2: top holds IDs of nodes, each 512 leaf IDs (16 GiB each)
//	levels 3: top holds IDs of nodes, each 512 of those (8 TiB each)
//
// top never holds more than 64 IDs, and levels is the smallest that allows it. A
// leaf or node is its IDs one after the other, 32 bytes each, without header; the
// last one of a level may be short. It is stored like a chunk, under the ID of
// those bytes. Entries for chunks of zeros are [chunkstore.ZeroID]; a leaf of
// ZeroIDs is stored like any other (there is one per length, shared by all).
//
// patches (chunk index, ID; ascending, no duplicates, none at levels 0) override
// the tree until enough have gathered to rewrite leaves.
//
// Format version 1 had 1,024 IDs in a leaf or node. It was never released, and is refused.
//
// inline pages (offset, bytes; ascending, not overlapping, none crosses a chunk's
// end or the file's) override chunks. Offsets and lengths are multiples of 512. The bytes of
// chunk i of a version, n of them (65,536, less for the last chunk), are: the
// object that patch or tree names for i, cut or zero-extended to n, then overlaid
// with the inline pages that lie in it. ZeroID stands for zeros of any length.
//
// continuity is drawn at random whenever the writer copies the database file instead of
// following its transactions: another file may stand at the path then, or a program that tells
// nobody may have written. Between two versions with the same continuity, SQLite's schema cookie
// says whether the schema is the same, as it does to SQLite; otherwise it says nothing.
//
// stores says in which chunk buckets the version's objects are, by their identities (package
// chunkstore): a manifest whose target's chunk bucket is not among them was put for another
// bucket, or that one was emptied since, so that nothing that it names may be relied on.
//
// # Invariants
//
//	I1  Decode accepts only what Encode can have produced: magic, version, checksum,
//	    order, bounds, page size a power of two in 512..65536 (or 0 for an empty file),
//	    top's length right for the file's size and levels.
//	I2  Decode's memory is bounded: by BytesMax for the body, by the file size for the rest.
//	I3  Decode after Encode is the identity (times: the same instant, in UTC; no
//	    slice is empty and not nil).
//	I4  Equal manifests encode to equal bytes.
//	I5  A stored leaf or node is never changed: a Tree replaces it, so clones share it.
//
// # Name
//
// HHHH-verneuil%3AHOST%3APPPP%2F%2Fabsolute%2Fpath: HHHH and PPPP are the first
// two bytes, in hex, of the BLAKE3-256 of the host's name and of the path. The
// rest is HOST:PPPP/PATH with everything but ASCII letters, digits and
// "!-_.*'()" percent-encoded; these percent signs are part of the key. A name
// that would be longer than 240 bytes is cut to 208 and ends in the first 32 hex
// digits of the BLAKE3-256 of all of it.
package manifest
