package sqlitefile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// WALIndex is the header of a wal-index, the -shm file. It says what writers have published as
// committed.
type WALIndex struct {
	PageBytes  int // 0 only if Frames is
	Salts      uint64
	Frames     int    // mxFrame: valid, committed frames
	Pages      uint32 // size of the database at that commit
	Sum        uint64 // running checksum of the last of them, as [WALReader.Sum]
	Backfilled int    // nBackfill: frames that are in the database file for good
}

const walIndexHeaderBytes = 48

// ReadWALIndex reads the header of the wal-index in r, usually a -shm file.
//
// A WAL alone does not tell its last commit: after a spill SQLite rewrites frames that it has
// already written, the commit frame included; and a commit whose fsync fails is rolled back. The
// wal-index tells it, as SQLite writes its header last. The header is there twice. Like SQLite's
// own readers (walIndexTryHdr in wal.c), ReadWALIndex accepts it if both copies are equal and their
// checksum is right; otherwise the error wraps [ErrWALBusy], and the caller tries again.
//
// It reads the header, then nBackfill, then the header again. A writer that restarts the WAL stores
// its header (mxFrame 0) before it sets nBackfill to 0, so Backfilled is never too small for
// Frames. It may be larger, which means the same as equal.
func ReadWALIndex(r io.ReaderAt) (WALIndex, error) {
	var before, after [2 * walIndexHeaderBytes]byte
	var backfill [4]byte
	for _, read := range []struct {
		b   []byte
		off int64
	}{{before[:], 0}, {backfill[:], int64(len(before))}, {after[:], 0}} {
		if n, err := r.ReadAt(read.b, read.off); n < len(read.b) {
			if err == io.EOF {
				return WALIndex{}, fmt.Errorf("wal-index: %w: short", ErrWALBusy)
			}
			return WALIndex{}, fmt.Errorf("wal-index: %w", err)
		}
	}
	header := before[:walIndexHeaderBytes]
	if before != after || string(header) != string(before[walIndexHeaderBytes:]) {
		return WALIndex{}, fmt.Errorf("wal-index: %w", ErrWALBusy)
	}
	native := binary.NativeEndian
	w := WALReader{order: nativeOrder()}
	w.sum(header[:40])
	if w.s1 != native.Uint32(header[40:]) || w.s2 != native.Uint32(header[44:]) {
		return WALIndex{}, fmt.Errorf("wal-index: %w: checksum", ErrWALBusy)
	}
	if version := native.Uint32(header); version != walFormatVersion || header[12] == 0 {
		return WALIndex{}, fmt.Errorf("wal-index: format %d, initialized %d", version, header[12])
	}
	// szPage is 16 bits wide; 65,536 is stored as 1 (sqlite3.c: WalIndexHdr).
	pageBytes := uint32(native.Uint16(header[14:]))
	pageBytes = pageBytes&0xfe00 | (pageBytes&1)<<16
	// Recovery of an empty WAL leaves 0 (wal.c, walIndexRecover): there are no frames.
	if !validPageBytes(pageBytes) && (pageBytes != 0 || native.Uint32(header[16:]) != 0) {
		return WALIndex{}, fmt.Errorf("wal-index: page size %d", pageBytes)
	}
	return WALIndex{
		PageBytes: int(pageBytes),
		// aSalt is copied from the WAL's header as bytes: big-endian.
		Salts:      binary.BigEndian.Uint64(header[32:]),
		Frames:     int(native.Uint32(header[16:])),
		Pages:      native.Uint32(header[20:]),
		Sum:        uint64(native.Uint32(header[24:]))<<32 | uint64(native.Uint32(header[28:])),
		Backfilled: int(native.Uint32(backfill[:])),
	}, nil
}

// ErrWALBusy: a writer was changing the wal-index.
var ErrWALBusy = errors.New("being written")

func nativeOrder() binary.ByteOrder {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return binary.LittleEndian
	}
	return binary.BigEndian
}
