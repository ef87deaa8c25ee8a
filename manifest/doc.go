// Package manifest is the format of one version of a database: which chunks it
// is made of, by ID, in which packs they stand, and the pages that travel inside. It
// encodes, decodes and locates; it does no I/O.
//
// # Object
//
// One object per host and database, key [Name], in the manifest bucket:
//
//	offset size
//	0      4    magic "VRNM"
//	4      1    format version, 3
//	5      …    sealed ([chunkstore.Sealer]), about "manifest":
//	5      1    codec of the body: 0 raw, 1 zstd
//	6      2    reserved, zero
//	8      32   BLAKE3-256 of the plain body
//	40     …    body: a manifestpb.Manifest, without fields that it does not know
//
// Neither the object nor its plain body is longer than [BytesMax]. Times are Unix
// nanoseconds, 0 for unknown (and for what an int64 cannot hold).
//
// cut, 16 bytes, is drawn at random when a version is cut. A version is stored in several forms:
// where its objects stand differs from target to target. All have the same cut, and no other
// version has it.
//
// # Tree
//
// The chunks of the file, in order, are the leaves' entries. levels says
// how far the top entries stand above the chunks:
//
//	levels 0: top holds chunks (at most 64: 4 MiB of database)
//	levels 1: top holds leaves, each of 512 chunks (32 MiB each)
//	levels 2: top holds nodes, each of 512 leaves (16 GiB each)
//	levels 3: top holds nodes, each of 512 of those (8 TiB each)
//
// top never holds more than 64 entries, and levels is the smallest that allows it.
// An entry is an object's ID, and its place: in which pack its stored form stands, from
// where, and how long ([chunkstore.Place]). [chunkstore.ZeroID] at any height says that all
// below is zeros; that is stored nowhere, and has no place.
//
// A manifest and its tree are placed (each entry has a place: what stands in a target), or
// unplaced (none has one: what a writer saves for itself).
//
// A leaf or node is, with big-endian numbers:
//
//	offset size
//	0      2    how many packs; 0: unplaced
//	2      2    how many entries; the last leaf or node of a level may be short
//	4      32*p the packs' names, distinct, in order of first use
//	…      32*n the entries' IDs, not all of them ZeroID
//	…      10*n where p > 0, the entries' places: 2 index of the pack, 4 offset, 4 length;
//	            ten zero bytes for ZeroID
//
// It is stored like a chunk, under the ID of those bytes.
//
// patches (chunk index and entry; ascending, no duplicates, none at levels 0) override
// the tree until enough have gathered to rewrite leaves. A patch may say what its leaf says, too:
// so a reader finds the chunk without the leaf, which is a request less that others wait for
// ([Tree].Near). To whoever reads a manifest that is a patch like any other; a writer that does not
// know better takes it into its leaf.
//
// In the manifest, packs is the names of those that top and then patches stand in, as in
// a leaf; top_places and each patch's place have the form that places have there.
//
// Format version 1 had 1,024 IDs in a leaf or node, version 2 an object in the bucket for each.
// They were never released, and are refused.
//
// inline pages (offset, bytes; ascending, not overlapping, none crosses a chunk's
// end or the file's) override chunks. Offsets and lengths are multiples of 512. The bytes of
// chunk i of a version, n of them (65,536, less for the last chunk), are: the
// object that patch or tree has for i, cut or zero-extended to n, then overlaid
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
//	    top's length right for the file's size and levels, placed or unplaced, packs in
//	    order. A leaf or node likewise.
//	I2  Decode's memory is bounded: by BytesMax for the body, by the file size for the rest.
//	I3  Decode after Encode is the identity (times: the same instant, in UTC; no
//	    slice is empty and not nil).
//	I4  Equal manifests encode to equal bytes.
//	I5  A stored leaf or node is never changed: a Tree replaces it, so clones share it.
//	I6  A placed tree comes from one target's store: what a Tree's Pack has put stands there
//	    before the manifest names it, and no entry without a place comes among those with one.
//
// # Name
//
// HHHH-verneuil%3AHOST%3APPPP%2F%2Fabsolute%2Fpath: HHHH and PPPP are the first
// two bytes, in hex, of the BLAKE3-256 of the host's name and of the path. The
// rest is HOST:PPPP/PATH with everything but ASCII letters, digits and
// "!-_.*'()" percent-encoded; these percent signs are part of the key. A name
// that would be longer than 240 bytes is cut to 208 and ends in the first 32 hex
// digits of the BLAKE3-256 of all of it.
//
// Where the bucket's keys seal names (package chunkstore/keyring), it is "sealed-", and 128 or 231
// letters a to z and digits 2 to 7 (base32) of what these keys make of
//
//	offset size
//	0      1    n, the length of HOST, a zero byte and PATH: at most 127; 0x80 if it is more
//	1      n    these, or, after 0x80, the first 16 bytes of their BLAKE3-256 and then as much of
//	            them as there is room for
//	       …    zeros, up to 64 bytes if these are enough, else 128
//
// So a key tells whether a name is longer than 62 bytes, and no more.
package manifest
