package spool

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"verneuil/chunkstore"
)

// TestHollowFiles: what a file claims, and its length, cost no memory, if there is nothing in it.
func TestHollowFiles(t *testing.T) {
	s, _ := deletedSpool(t)
	journal := s.PutJournal("a target")
	header := make([]byte, putHeaderBytes)
	copy(header, putMagic)
	binary.LittleEndian.PutUint32(header[4:], putBytesMax/32-1)
	segment := append(SegmentHeader(7, 1<<30),
		AppendFrame(nil, Frame{Kind: KindCommit, After: 1})...)
	binary.LittleEndian.PutUint32(segment[SegmentHeaderBytes+8:], 1<<29)
	for name, b := range map[string][]byte{journal.name: header,
		filepath.Join(s.Dir(), segmentName(7)): segment} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, 1<<30); err != nil {
			t.Fatal(err)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if ids, err := journal.Load(time.Now()); err != nil || ids != nil {
		t.Errorf("journal: %d IDs, %v", len(ids), err)
	}
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
