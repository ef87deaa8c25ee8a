package spool

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"verneuil/chunkstore"
)

// Sizes of the changelog's format.
const (
	SegmentHeaderBytes = 64
	FrameHeaderBytes   = 64
	SegmentBytes       = 1 << 20 // size of the segments that recorders make

	// segmentBytesMax bounds the size that a segment's header may claim, and so that of a frame: a
	// reader has one frame in memory.
	segmentBytesMax = SegmentBytes

	segmentMagic = "VRNLOG01"
	frameMagic   = 0x43455256 // "VREC"

	// FileBytesMax is SQLite's limit for a database: no offset is beyond it.
	FileBytesMax = 1 << 48
)

// Kind says what a frame records.
type Kind uint32

// The kinds of frames; the same numbers as in cgo/spool.h.
const (
	KindWrite    Kind = 1
	KindTruncate Kind = 2
	KindCommit   Kind = 3
	KindEnd      Kind = 4
)

// Frame is one frame of the changelog, decoded.
type Frame struct {
	Kind       Kind
	Sequence   uint64 // of the transaction
	Generation uint64 // at the time of writing

	Offset int64  // write: where in the database
	Data   []byte // write: the bytes, a part of the decoder's input

	Size int64 // truncate, commit: the database's length

	// commit: the database's version before and after, 0 unknown; if After is 0, Before is a
	// position in the WAL (see doc.go)
	Before, After uint64
	TimeNS        int64 // commit: Unix time
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// pad8 rounds up to a multiple of 8.
func pad8(n int) int { return (n + 7) &^ 7 }

// frameLength returns the length of the frame that begins with header, of at least FrameHeaderBytes
// bytes. It checks only that there can be such a frame.
func frameLength(header []byte) (int, error) {
	if magic := binary.LittleEndian.Uint32(header); magic != frameMagic {
		return 0, fmt.Errorf("%w: frame's magic is %08x", chunkstore.ErrCorrupt, magic)
	}
	n := binary.LittleEndian.Uint32(header[8:])
	if n < FrameHeaderBytes || n%8 != 0 || n > segmentBytesMax {
		return 0, fmt.Errorf("%w: frame of %d bytes", chunkstore.ErrCorrupt, n)
	}
	return int(n), nil
}

// DecodeFrame decodes the frame at the beginning of b and returns its length.
// Data of the frame is a part of b. Errors wrap [chunkstore.ErrCorrupt].
func DecodeFrame(b []byte) (Frame, int, error) {
	if len(b) < FrameHeaderBytes {
		return Frame{}, 0, fmt.Errorf("%w: frame truncated at %d bytes", chunkstore.ErrCorrupt,
			len(b))
	}
	n, err := frameLength(b)
	if err != nil {
		return Frame{}, 0, err
	}
	if n > len(b) {
		return Frame{}, 0, fmt.Errorf("%w: frame of %d bytes truncated at %d",
			chunkstore.ErrCorrupt, n, len(b))
	}
	u64 := func(off int) uint64 { return binary.LittleEndian.Uint64(b[off:]) }
	if crc := crc32.Checksum(b[8:n], castagnoli); crc != binary.LittleEndian.Uint32(b[4:]) {
		return Frame{}, 0, fmt.Errorf("%w: frame has a wrong checksum", chunkstore.ErrCorrupt)
	}
	f := Frame{Kind: Kind(binary.LittleEndian.Uint32(b[12:])), Sequence: u64(16),
		Generation: u64(24)}
	bad := u64(32) > FileBytesMax
	body := 0
	switch f.Kind {
	case KindWrite:
		f.Offset = int64(u64(32))
		bad = bad || u64(40) == 0 || u64(40) > uint64(n-FrameHeaderBytes) ||
			u64(32)+u64(40) > FileBytesMax
		if !bad {
			body = int(u64(40))
			f.Data = b[FrameHeaderBytes : FrameHeaderBytes+body : FrameHeaderBytes+body]
		}
	case KindTruncate:
		f.Size = int64(u64(32))
	case KindCommit:
		f.Size, f.Before, f.After, f.TimeNS = int64(u64(32)), u64(40), u64(48), int64(u64(56))
	case KindEnd:
	default:
		return Frame{}, 0, fmt.Errorf("%w: frame of kind %d", chunkstore.ErrCorrupt, f.Kind)
	}
	if bad || n != pad8(FrameHeaderBytes+body) {
		return Frame{}, 0, fmt.Errorf("%w: frame of kind %d with impossible sizes",
			chunkstore.ErrCorrupt, f.Kind)
	}
	return f, n, nil
}

// AppendFrame appends the encoded form of f to b.
func AppendFrame(b []byte, f Frame) []byte {
	start := len(b)
	n := pad8(FrameHeaderBytes + len(f.Data))
	b = append(b, make([]byte, n)...)
	a := b[start:]
	put := func(off int, v uint64) { binary.LittleEndian.PutUint64(a[off:], v) }
	binary.LittleEndian.PutUint32(a, frameMagic)
	binary.LittleEndian.PutUint32(a[8:], uint32(n))
	binary.LittleEndian.PutUint32(a[12:], uint32(f.Kind))
	put(16, f.Sequence)
	put(24, f.Generation)
	switch f.Kind {
	case KindWrite:
		put(32, uint64(f.Offset))
		put(40, uint64(len(f.Data)))
		copy(a[FrameHeaderBytes:], f.Data)
	case KindTruncate:
		put(32, uint64(f.Size))
	case KindCommit:
		put(32, uint64(f.Size))
		put(40, f.Before)
		put(48, f.After)
		put(56, uint64(f.TimeNS))
	}
	binary.LittleEndian.PutUint32(a[4:], crc32.Checksum(a[8:], castagnoli))
	return b
}

// SegmentHeader returns the header of a new segment of size bytes.
func SegmentHeader(segment uint32, size int64) []byte {
	b := make([]byte, SegmentHeaderBytes)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint64(b[8:], uint64(segment))
	binary.LittleEndian.PutUint64(b[16:], uint64(size))
	return b
}

// checkSegment checks the header of a segment whose file has size bytes.
func checkSegment(header []byte, segment uint32, size int64) error {
	switch {
	case len(header) < SegmentHeaderBytes || !bytes.HasPrefix(header, []byte(segmentMagic)):
		return fmt.Errorf("%w: no segment header", chunkstore.ErrCorrupt)
	case binary.LittleEndian.Uint64(header[8:]) != uint64(segment):
		return fmt.Errorf("%w: segment says that it is number %d", chunkstore.ErrCorrupt,
			binary.LittleEndian.Uint64(header[8:]))
	case binary.LittleEndian.Uint64(header[16:]) != uint64(size) || size > segmentBytesMax:
		return fmt.Errorf("%w: segment of %d bytes says it has %d", chunkstore.ErrCorrupt, size,
			binary.LittleEndian.Uint64(header[16:]))
	}
	return nil
}
