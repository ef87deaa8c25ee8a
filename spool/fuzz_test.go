package spool_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"verneuil/chunkstore"
	"verneuil/spool"
)

// inside is an [spool.Applier] that bounds what is applied by what was read.
type inside struct {
	t     *testing.T
	bytes int
}

func (a *inside) WriteAt(p []byte, off int64) (int, error) {
	if a.bytes += len(p); off < 0 {
		a.t.Errorf("write at %d", off)
	}
	return len(p), nil
}

func (a *inside) Truncate(size int64) error {
	if size < 0 {
		a.t.Errorf("truncate to %d", size)
	}
	return nil
}

// FuzzSegment: a segment with any frames ends in io.EOF or in ErrCorrupt, and gives no
// more than it has.
func FuzzSegment(f *testing.F) {
	whole := spool.AppendFrame(nil, spool.Frame{Kind: spool.KindWrite, Sequence: 1, Offset: 4096, Data: []byte("hello")})
	whole = spool.AppendFrame(whole, spool.Frame{Kind: spool.KindTruncate, Sequence: 1, Size: 8192})
	whole = spool.AppendFrame(whole, spool.Frame{Kind: spool.KindCommit, Sequence: 1, Size: 8192, Before: 1, After: 2})
	f.Add(whole, uint32(len(whole)))
	f.Add(whole[:100], uint32(90))
	f.Add(bytes.Repeat(whole, 3), uint32(3*len(whole)))
	dir := f.TempDir() // one: to make and remove one for each would be most of the work
	f.Fuzz(func(t *testing.T, frames []byte, published uint32) {
		segment := append([]byte("VRNLOG01"), make([]byte, spool.SegmentHeaderBytes-8)...)
		segment[8] = 1
		segment = append(segment, frames...)
		binary.NativeEndian.PutUint64(segment[16:], uint64(len(segment)))
		if err := os.WriteFile(filepath.Join(dir, "log.0000000000000001"), segment, 0o600); err != nil {
			t.Fatal(err)
		}
		r := spool.NewReader(dir, spool.At(1, spool.SegmentHeaderBytes), spool.At(1, spool.SegmentHeaderBytes+published%(1<<20)))
		defer r.Close()
		a := &inside{t: t}
		for {
			_, err := r.Next(a)
			if err == io.EOF {
				break
			}
			if err != nil {
				if !errors.Is(err, chunkstore.ErrCorrupt) {
					t.Errorf("error of no kind: %v", err)
				}
				break
			}
		}
		if a.bytes > len(frames) {
			t.Errorf("%d bytes of %d", a.bytes, len(frames))
		}
	})
}

// FuzzWALIndex: no wal-index panics, and what is accepted can be counted with.
func FuzzWALIndex(f *testing.F) {
	f.Add(make([]byte, 136))
	header := make([]byte, 48)
	binary.NativeEndian.PutUint32(header, 3007000)
	header[12] = 1
	binary.NativeEndian.PutUint16(header[14:], 4096)
	binary.NativeEndian.PutUint32(header[16:], 7)
	f.Add(header)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 40 { // let the fuzzer past the checksum, and the second copy
			header := append(bytes.Clone(b[:40]), make([]byte, 8)...)
			var s1, s2 uint32
			for at := 0; at < 40; at += 8 {
				s1 += binary.NativeEndian.Uint32(header[at:]) + s2
				s2 += binary.NativeEndian.Uint32(header[at+4:]) + s1
			}
			binary.NativeEndian.PutUint32(header[40:], s1)
			binary.NativeEndian.PutUint32(header[44:], s2)
			b = append(append(bytes.Clone(header), header...), b[40:]...)
		}
		index, err := spool.ReadWALIndex(bytes.NewReader(b))
		if err == nil && (index.Frames < 0 || index.Backfilled < 0 || index.PageBytes < 0 || index.PageBytes > 65536) {
			t.Errorf("accepted %+v", index)
		}
	})
}
