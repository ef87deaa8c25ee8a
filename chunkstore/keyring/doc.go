// Package keyring encrypts what targets hold: it is the [chunkstore.Sealer] of a configuration that
// names a key file. It knows keys, where they come from, and how bytes are sealed; what is sealed
// it does not know.
//
// # Keys
//
// A key file is text, of at most 64 KiB:
//
//	verneuil keys 1
//	identity <ring, 16 hex> <secret, 64 hex> [names]
//	key <name, 16 hex> <secret, 64 hex> <when it was made, RFC 3339>
//
// Lines that begin with # are comments. There is one identity, and at least one key, in the order
// in which they were made: the last one seals, all open. Secrets are 32 random bytes. The names
// follow from the secrets, so that a slip of the pen is found; they are no secrets. Of each secret
// are derived, by BLAKE3's key derivation, under a context that begins with "verneuil 2026-11-29 ":
//
//	identity   "object ID"   32 bytes: keys the BLAKE3-256 that gives objects their IDs
//	           "ring name"   8 bytes; "ring name, names sealed" where names are
//	           "name cipher" 32 bytes: of XChaCha20, where names are sealed
//	           "name sum"    32 bytes: keys the BLAKE3-256 of names
//	key        "cipher"      32 bytes: of XChaCha20-Poly1305
//	           "nonce"       32 bytes: keys the BLAKE3-256 that gives nonces
//	           "key name"    8 bytes
//
// The identity stays when keys are rotated, so that IDs, and with them the names of packs, places
// and deduplication, stay. All who use one bucket have one identity: its marker names the ring.
//
// # Sealed form
//
//	offset size
//	0      16   magic "SEAL", version, check and name of the key: see [chunkstore.PutSealHead]
//	16     24   nonce
//	40     n    the plain bytes, encrypted
//	40+n   16   tag
//
// The associated data is the first 16 bytes, and what the sealed bytes are about. The nonce is the
// beginning of the keyed BLAKE3-256 of: the length of what they are about (8 bytes, big-endian),
// that, and the plain bytes. What it is about is
//
//	an object in a pack       "object ", and its ID
//	the entries of a pack     "list ", and the pack's name; the first 40 bytes and the tag follow
//	                          the objects, so that all stands where it stands without encryption
//	a manifest, a kept one    "manifest"
//	a record, a heartbeat,    its key in the bucket
//	a proof of restore
//
// # Names
//
// Where the identity ends in "names", names of databases are sealed, too. Who knows a name must
// find its key, who lists keys must be able to open them, and they stay when keys are rotated. So a
// name is sealed by the identity alone, in the manner of SIV:
//
//	offset size
//	0      16   sum: the beginning of the keyed BLAKE3-256 of the name
//	16     n    the name, encrypted by XChaCha20; nonce: the sum, and n (8 bytes, big-endian)
//
// Whoever opens it computes the sum again. Package manifest has what a name is, and how it becomes
// a key. All other keys of a database in a bucket are hashes of that key, or begin with it.
//
// # Why so
//
// XChaCha20-Poly1305: its nonce is long enough to be drawn or derived without counting, by any
// number of machines that share a key (AES-GCM's 12 bytes are not: two equal nonces give the key of
// its tag away, and with random ones a key is used up after 2^32 chunks), and it is as fast where a
// processor has no instructions for AES. It takes 12 µs for a chunk of 23 KB, where compressing it
// takes 100; AES-GCM took 8 to 11.
//
// The nonce is derived from what is sealed, not drawn. So a virtual machine that is resumed twice
// from one snapshot, or a host whose random numbers repeat, does no harm: equal nonces mean equal
// bytes, about the same thing, under the same key, and give equal stored bytes, which tells no more
// than the name does. And what is put twice is the same twice, as it is without encryption: a
// record whose answer was lost, a pack. A nonce derived from an object's ID alone would not do: two
// versions of the compressor may make two forms of one object, and two forms under one nonce give
// both away.
//
// Deduplication needs equal IDs for equal bytes, so whoever could compute an ID could find out
// whether a target has certain bytes. The ID is keyed, so only who has the identity can.
//
// # Invariants
//
//	K1  What was sealed opens only under the same about, and only as it was: else it is
//	    ErrCorrupt, or ErrKey where it says that another key has sealed it, or none.
//	K2  No two different plain bytes, or abouts, are sealed with one key and one nonce.
//	K3  An ID says nothing of the bytes to who has not the identity; [chunkstore.ZeroID] is in
//	    nothing that is not sealed.
//	K4  What is sealed anew has the same length, and opens to the same bytes: whoever reads
//	    meanwhile gets one form or the other.
//	K5  A Sealer's ring never changes. Its keys do: it reads its source again when it meets a key
//	    that it does not have, and a key file also when it has changed, before it seals.
//	K6  No secret is in an error, a log, or a spool.
//	K7  Under a ring that seals names, no key tells a name, and no other bytes do, to who has not
//	    the identity. Whether names are sealed is in the ring's name: so all who write to a
//	    bucket do alike, and who reads with other settings finds another ring in the marker.
//
// # Beliefs
//
//	these bytes are what somebody with the key has stored there
//	         their tag. To forge one takes the key. What was stored there earlier, under the same
//	         name, defeats it: see below
//	there is no database of that name
//	         there is no manifest under its key. Another ring defeats it, which gives it another
//	         key: so who finds none reads the bucket's marker, and says [chunkstore.ErrKey]
//	         (package replicate/versions). Who may not read the marker is told that there is none
//	the key file has not changed
//	         its inode, size and time of modification. A file that was changed within the clock's
//	         tick, with the same size, defeats it: the next unknown key has it read again
//	the bucket is sealed with our ring
//	         the name in its marker. Who can write to the bucket can change that: then writers
//	         refuse, or the first thing that is read is ErrKey; nothing is written in the clear
//
// # What is not bound
//
// A name in the bucket can be given back bytes that stood under it before: an older manifest, or
// the log without its last records. A reader that has seen more notices (package manifest/history),
// a fresh one does not: it gets an older version, whole. Whoever can delete can do that anyway. A
// manifest is not bound to its bucket: that of a copy of the bucket, made with the same keys,
// opens; it says which buckets of chunks it is for.
package keyring
