package spool

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
)

// windowBytes is how much of a segment is read at a time.
const windowBytes = 256 << 10

// Applier takes what a [Reader] reads; [Mirror] is one.
type Applier interface {
	WriteAt(p []byte, off int64) (int, error)
	Truncate(size int64) error
}

// Reader reads the transactions of a published stretch of the changelog. It is for one goroutine.
// The caller closes it.
//
// Segments are read with pread while recorders write later parts of them through
// mappings: Linux keeps the two coherent, and what is published does not change (I1).
type Reader struct {
	dir     string
	at, to  Position
	file    *os.File // segment at.Segment(), or nil
	size    int64    // of file
	window  []byte   // bytes of file from windowAt
	start   int64
	scratch *[]byte // from scratches, until Close
}

// scratches are windows: a busy database's log is read a hundred times a second.
var scratches = sync.Pool{New: func() any { return new(make([]byte, windowBytes)) }}

// NewReader returns a reader of the changelog in dir, from one transaction boundary to another.
func NewReader(dir string, from, to Position) *Reader {
	return &Reader{dir: dir, at: from, to: to}
}

// Position returns where the next transaction begins.
func (r *Reader) Position() Position { return r.at }

// Close closes the segment that is open. The reader is of no use afterwards.
func (r *Reader) Close() error {
	if r.scratch != nil {
		scratches.Put(r.scratch)
		r.scratch, r.window = nil, nil
	}
	return r.leave()
}

// leave closes the segment that is open.
func (r *Reader) leave() error {
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	r.file = nil
	return err
}

// Next applies one transaction to a, and returns its commit frame; io.EOF at the end of the
// stretch. After any other error, a may have a part of a transaction. Errors about the log wrap
// [chunkstore.ErrCorrupt]; those of a are returned as they are.
func (r *Reader) Next(a Applier) (Frame, error) {
	if r.at == r.to {
		return Frame{}, io.EOF
	}
	var sequence uint64
	for first := true; ; first = false {
		f, err := r.frame()
		if err != nil {
			return Frame{}, fmt.Errorf("changelog at %v: %w", r.at, err)
		}
		if first {
			sequence = f.Sequence
		}
		if f.Sequence != sequence {
			return Frame{}, fmt.Errorf("changelog at %v: %w: transaction %d in the middle of %d",
				r.at, chunkstore.ErrCorrupt, f.Sequence, sequence)
		}
		switch f.Kind {
		case KindWrite:
			if _, err := a.WriteAt(f.Data, f.Offset); err != nil {
				return Frame{}, err
			}
		case KindTruncate:
			if err := a.Truncate(f.Size); err != nil {
				return Frame{}, err
			}
		case KindCommit:
			if err := a.Truncate(f.Size); err != nil {
				return Frame{}, err
			}
			return f, nil
		}
	}
}

// frame returns the next frame that is not an end of segment, and moves past it. Its data is valid
// until the next call.
func (r *Reader) frame() (Frame, error) {
	for {
		if r.at >= r.to {
			return Frame{},
				fmt.Errorf("%w: the published end, %v, is in the middle of a transaction",
					chunkstore.ErrCorrupt, r.to)
		}
		if err := r.open(); err != nil {
			return Frame{}, err
		}
		off := int64(r.at.Offset())
		if off+FrameHeaderBytes > r.size {
			if err := r.nextSegment(); err != nil {
				return Frame{}, err
			}
			continue
		}
		header, err := r.bytes(off, FrameHeaderBytes)
		if err != nil {
			return Frame{}, err
		}
		n, err := frameLength(header)
		if err != nil {
			return Frame{}, err
		}
		if off+int64(n) > r.size {
			return Frame{}, fmt.Errorf("%w: frame of %d bytes crosses the segment's end",
				chunkstore.ErrCorrupt, n)
		}
		b, err := r.bytes(off, n)
		if err != nil {
			return Frame{}, err
		}
		f, _, err := DecodeFrame(b)
		if err != nil {
			return Frame{}, err
		}
		if f.Kind == KindEnd {
			if err := r.nextSegment(); err != nil {
				return Frame{}, err
			}
			continue
		}
		r.at = At(r.at.Segment(), uint32(off)+uint32(n))
		return f, nil
	}
}

func (r *Reader) nextSegment() error {
	if r.at.Segment() == math.MaxUint32 {
		return fmt.Errorf("%w: no segment follows the last one", chunkstore.ErrCorrupt)
	}
	err := r.leave()
	r.at = At(r.at.Segment()+1, SegmentHeaderBytes)
	return err
}

// open opens the segment of the current position and checks its header.
func (r *Reader) open() error {
	if r.file != nil {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(r.dir, segmentName(r.at.Segment())),
		os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("%w: a published segment is missing: %w", chunkstore.ErrCorrupt, err)
		} else if errors.Is(err, unix.ELOOP) {
			err = fmt.Errorf("%w: %w", chunkstore.ErrCorrupt, err)
		}
		return err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		f.Close()
		return fmt.Errorf("%w: a published segment is not a regular file", chunkstore.ErrCorrupt)
	}
	var header [SegmentHeaderBytes]byte
	if err == nil {
		_, err = f.ReadAt(header[:], 0)
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: segment is too short", chunkstore.ErrCorrupt)
	}
	if err == nil {
		err = checkSegment(header[:], r.at.Segment(), st.Size())
	}
	if err == nil && r.at.Offset() < SegmentHeaderBytes {
		err = fmt.Errorf("%w: position inside the segment's header", chunkstore.ErrCorrupt)
	}
	if err != nil {
		f.Close()
		return err
	}
	r.file, r.size, r.window = f, st.Size(), nil
	return nil
}

// bytes returns n bytes of the segment from off. They are valid until the next call.
func (r *Reader) bytes(off int64, n int) ([]byte, error) {
	if off < r.start || off+int64(n) > r.start+int64(len(r.window)) {
		// Bytes beyond the published end may still change: do not keep them.
		end := r.size
		if r.at.Segment() == r.to.Segment() {
			end = min(end, int64(r.to.Offset()))
		}
		if off+int64(n) > end {
			return nil, fmt.Errorf("%w: frame crosses the published end, %v", chunkstore.ErrCorrupt,
				r.to)
		}
		if r.scratch == nil {
			r.scratch = scratches.Get().(*[]byte)
		}
		if n > len(*r.scratch) {
			*r.scratch = make([]byte, n)
		}
		window := (*r.scratch)[:min(int64(len(*r.scratch)), end-off)]
		if _, err := r.file.ReadAt(window, off); err != nil {
			r.window = nil
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("%w: segment was truncated", chunkstore.ErrCorrupt)
			}
			return nil, err
		}
		r.window, r.start = window, off
	}
	at := off - r.start
	return r.window[at : at+int64(n) : at+int64(n)], nil
}

// freeFiles is how many consumed segments are kept for recorders to use again: a new segment costs
// them a millisecond (cgo/spool.h has the same number). There are as many as the replicator has
// ever lagged behind: one or two, and 16 if hundreds of MB a second are written.
const freeFiles = 16

// Trim frees the segments from from's to the last one before tail's; the replicator has published
// tail before (I1). It removes the segments below from's: they belong to an older state, and some
// handle may still write to them. A segment that is gone is not an error.
func Trim(dir string, from, tail Position) error {
	segments, err := segments(dir)
	if err != nil {
		return fmt.Errorf("trim changelog: %w", err)
	}
	for _, s := range segments {
		name := filepath.Join(dir, segmentName(s))
		switch {
		case s < from.Segment():
			err = os.RemoveAll(name)
		case s < tail.Segment():
			err = free(dir, name)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("trim changelog: %w", err)
		}
	}
	return nil
}

// free renames a segment so that a recorder can take it. If there are enough of them, or if it has
// another size, free removes it.
func free(dir, segment string) error {
	st, err := os.Lstat(segment)
	if err == nil && st.Mode().IsRegular() && st.Size() == SegmentBytes {
		for i := range freeFiles {
			to := filepath.Join(dir, fmt.Sprintf("free.%d", i))
			err := unix.Renameat2(unix.AT_FDCWD, segment, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
			if err == nil {
				return nil
			} else if err != unix.EEXIST {
				break
			}
		}
	}
	return os.RemoveAll(segment)
}

// LogBytes returns how much disk space the segments take, without the free ones.
func LogBytes(dir string) (int64, error) {
	segments, err := segments(dir)
	if err != nil {
		return 0, fmt.Errorf("measure changelog: %w", err)
	}
	var sum int64
	for _, s := range segments {
		if st, err := os.Stat(filepath.Join(dir, segmentName(s))); err == nil {
			sum += st.Size()
		}
	}
	return sum, nil
}

// segments lists the numbers of the segments in dir.
func segments(dir string) ([]uint32, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var numbers []uint32
	for _, name := range names {
		if digits, ok := strings.CutPrefix(name, "log."); ok && len(digits) == 16 {
			if n, err := strconv.ParseUint(digits, 16, 32); err == nil {
				numbers = append(numbers, uint32(n))
			}
		}
	}
	return numbers, nil
}
