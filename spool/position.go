package spool

import "fmt"

// Position is a place in the changelog: segment<<32 | offset.
type Position uint64

// At returns the position at an offset of a segment.
func At(segment, offset uint32) Position { return Position(segment)<<32 | Position(offset) }

// Segment returns the number of the segment.
func (p Position) Segment() uint32 { return uint32(p >> 32) }

// Offset returns the offset in the segment's file, in bytes.
func (p Position) Offset() uint32 { return uint32(p) }

// Since returns how many bytes of the changelog lie between from and p, which is not before it.
func (p Position) Since(from Position) int64 {
	return (int64(p.Segment())-int64(from.Segment()))*SegmentBytes +
		int64(p.Offset()) - int64(from.Offset())
}

func (p Position) String() string { return fmt.Sprintf("%d:%d", p.Segment(), p.Offset()) }

// segmentName is the file's name of a segment.
func segmentName(segment uint32) string { return fmt.Sprintf("log.%016x", segment) }
