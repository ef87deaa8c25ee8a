// Package cache is the provider of caches of stored objects on this machine: those that a store
// fills (local), and those that somebody else fills (read_only). It imports package chunkstore,
// whose contracts it keeps, and chunkstore/objectfile. It sends no request.
//
// # Files
//
// A local cache and a read_only cache are directories of objects, each as it is stored in a pack:
//
//	<shard>/<ID>        shard: 4 hex digits: the ID's first 8 bytes, big-endian, modulo num_shards
//	<shard>/.fill-<…>   being written, and flock'd; one that is not, for a minute, is of a process
//	                    that was killed
//	.claims             in which processes lock what they fetch, by open file description: one
//	                    byte at the ID's first 62 bits, big-endian
//
// Processes with the same num_shards may share one. Each shard holds its part of
// the capacity, and at most 1/16 or 64 files more for each process that fills it.
// An entry's access time, if after its modification time, says that it was read
// since it was written or last spared from eviction, and spares it once more. What is not
// called by an ID is nobody's to count or remove.
package cache
