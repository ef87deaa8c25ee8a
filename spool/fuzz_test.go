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
	whole := spool.AppendFrame(nil, spool.Frame{Kind: spool.KindWrite, Sequence: 1, Offset: 4096,
		Data: []byte("hello")})
	whole = spool.AppendFrame(whole, spool.Frame{Kind: spool.KindTruncate, Sequence: 1, Size: 8192})
	whole = spool.AppendFrame(whole, spool.Frame{Kind: spool.KindCommit, Sequence: 1, Size: 8192,
		Before: 1, After: 2})
	f.Add(whole, uint32(len(whole)))
	f.Add(whole[:100], uint32(90))
	f.Add(bytes.Repeat(whole, 3), uint32(3*len(whole)))
	dir := f.TempDir() // one: to make and remove one for each would be most of the work
	f.Fuzz(func(t *testing.T, frames []byte, published uint32) {
		segment := append([]byte("VRNLOG01"), make([]byte, spool.SegmentHeaderBytes-8)...)
		segment[8] = 1
		segment = append(segment, frames...)
		binary.NativeEndian.PutUint64(segment[16:], uint64(len(segment)))
		if err := os.WriteFile(filepath.Join(dir, "log.0000000000000001"), segment,
			0o600); err != nil {
			t.Fatal(err)
		}
		r := spool.NewReader(dir, spool.At(1, spool.SegmentHeaderBytes),
			spool.At(1, spool.SegmentHeaderBytes+published%(1<<20)))
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
