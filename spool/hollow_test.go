package spool

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"verneuil/chunkstore"
)

// TestHollowSegment: what a segment claims, and its length, cost no memory, if there is nothing in
// it.
func TestHollowSegment(t *testing.T) {
	s, _ := deletedSpool(t)
	segment := append(SegmentHeader(7, 1<<30),
		AppendFrame(nil, Frame{Kind: KindCommit, After: 1})...)
	binary.LittleEndian.PutUint32(segment[SegmentHeaderBytes+8:], 1<<29)
	name := filepath.Join(s.Dir(), segmentName(7))
	if err := os.WriteFile(name, segment, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, 1<<30); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := NewReader(s.Dir(), At(7, SegmentHeaderBytes), At(7, 1<<30))
	defer r.Close()
	if _, err := r.Next(nil); !errors.Is(err, chunkstore.ErrCorrupt) {
		t.Errorf("segment: %v", err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes were allocated", n)
	}
}
