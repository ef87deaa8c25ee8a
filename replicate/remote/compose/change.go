package compose

import "context"

// BlockBytes is the length of a block, and what its offset is a multiple of.
const BlockBytes = 4096

// Change is what a transaction has written. What lies in no block is as it was, and zeros where the
// file was shorter. A file that was cut off meanwhile, and has grown again, has blocks wherever it
// is zeros now and was not.
type Change struct {
	Bytes   int64   // the file's length after it
	Offsets []int64 // of the blocks that were written: ascending, and below Bytes
	// Read fills block, which is BlockBytes long, with block k. Of the last block of the file only
	// what is in the file counts.
	Read func(k int, block []byte) error
}

// Base reads the version that a change was made on.
type Base interface {
	// ReadBase fills p with the bytes at off, as SQLite is shown them; beyond the version's end
	// these are zeros. The header's change counter and schema cookie may be others than are stored.
	// It may wait for the store.
	ReadBase(ctx context.Context, p []byte, off int64) error
	// Cached reports whether ReadBase of n bytes at off would not wait.
	Cached(off int64, n int) bool
}
