package sqlitefile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
)

const (
	walHeaderBytes   = 32
	walFrameBytes    = 24         // header of a frame; the page follows
	walMagic         = 0x377f0682 // the lowest bit says: checksums are big-endian
	walFormatVersion = 3007000
)

// ErrNoWAL: recovery would read no frame from the file: it is empty, shorter than a header, or has
// a damaged header. To SQLite that is not an error.
var ErrNoWAL = errors.New("no valid WAL header")

// WALFrame is one valid frame of a WAL.
type WALFrame struct {
	Pgno   uint32 // the page that it holds
	Commit uint32 // database size in pages if it ends a transaction, else 0
	Offset int64  // of the page's bytes in the WAL
}

// WALReader reads the frames of a WAL in order, and verifies their salts and running checksums. It
// is not safe for concurrent use.
type WALReader struct {
	PageBytes int
	Salts     uint64 // salt-1<<32 | salt-2, as in the state page

	// Committed is how many frames the caller knows to be committed. The reader accepts these
	// without valid checksums, as SQLite's readers do, which rely on the wal-index and check none.
	// SQLite (3.40; newer ones do not) leaves committed frames without valid checksums if a
	// transaction overwrites frames that it has spilled, goes back to a savepoint before them, and
	// commits (wal.c: sqlite3WalSavepointUndo leaves iReCksum as it is).
	Committed int
	// Unsummed counts the frames that were accepted so. The caller makes sure that nobody overwrote
	// them while they were read: the WAL's header would be another one then.
	Unsummed int

	r      io.ReaderAt
	order  binary.ByteOrder // of the words that checksums add up
	s1, s2 uint32           // checksum of everything read so far
	frames int
	buf    []byte
}

// NewWALReader verifies the header of the WAL in r. The error wraps [ErrNoWAL] if there is no valid
// one; any other error is r's.
func NewWALReader(r io.ReaderAt) (*WALReader, error) {
	var header [walHeaderBytes]byte
	if n, err := r.ReadAt(header[:], 0); n < len(header) {
		if err == io.EOF {
			return nil, fmt.Errorf("%w: %d bytes", ErrNoWAL, n)
		}
		return nil, err
	}
	magic := binary.BigEndian.Uint32(header[0:])
	if magic&^1 != walMagic {
		return nil, fmt.Errorf("%w: magic %08x", ErrNoWAL, magic)
	}
	if version := binary.BigEndian.Uint32(header[4:]); version != walFormatVersion {
		return nil, fmt.Errorf("%w: format %d", ErrNoWAL, version)
	}
	pageBytes := binary.BigEndian.Uint32(header[8:])
	if !validPageBytes(pageBytes) {
		return nil, fmt.Errorf("%w: page size %d", ErrNoWAL, pageBytes)
	}
	w := &WALReader{
		PageBytes: int(pageBytes),
		Salts:     binary.BigEndian.Uint64(header[16:]),
		r:         r,
		order:     binary.LittleEndian,
		buf:       make([]byte, walFrameBytes+int(pageBytes)),
	}
	if magic&1 != 0 {
		w.order = binary.BigEndian
	}
	w.sum(header[:24])
	if w.s1 != binary.BigEndian.Uint32(header[24:]) ||
		w.s2 != binary.BigEndian.Uint32(header[28:]) {
		return nil, fmt.Errorf("%w: checksum", ErrNoWAL)
	}
	return w, nil
}

// Continue lets w read on in r, which should have the same WAL. It returns false, and does nothing,
// if r has other salts.
func (w *WALReader) Continue(r io.ReaderAt) bool {
	other, err := NewWALReader(r)
	if err != nil || other.Salts != w.Salts || other.PageBytes != w.PageBytes {
		return false
	}
	w.r = r
	return true
}

// Frames returns how many frames have been read.
func (w *WALReader) Frames() int { return w.frames }

// Fork returns a reader that continues from where w is. It reads again what w reads from now on.
func (w *WALReader) Fork() *WALReader {
	f := *w
	f.buf = make([]byte, len(w.buf))
	return &f
}

// Agrees reports whether w and other have read the same number of frames, with the same running
// checksum. The checksum does not cover frames that were read unsummed (see [WALReader.Unsummed]).
func (w *WALReader) Agrees(other *WALReader) bool {
	return w.frames == other.frames && w.s1 == other.s1 && w.s2 == other.s2
}

// Sum returns the running checksum in the last frame that was read: s1<<32 | s2.
func (w *WALReader) Sum() uint64 { return uint64(w.s1)<<32 | uint64(w.s2) }

// Stands reports whether that frame is still in its place. Salts do not show this: an older copy of
// the WAL that was put back has the same ones.
func (w *WALReader) Stands() (bool, error) {
	if w.frames == 0 {
		return true, nil
	}
	sum, err := w.SumAt(w.frames)
	return sum == w.Sum(), err
}

// SumAt returns the running checksum that frame n, counted from 1, has now; 0 if there is no such
// frame, or only a part of it.
func (w *WALReader) SumAt(n int) (uint64, error) {
	b := make([]byte, len(w.buf))
	k, err := w.r.ReadAt(b, walHeaderBytes+int64(n-1)*int64(len(b)))
	if k < len(b) && err != nil && err != io.EOF {
		return 0, err
	} else if k < len(b) {
		return 0, nil
	}
	return binary.BigEndian.Uint64(b[16:]), nil
}

// Skip has w continue after frame n, which has that running checksum, whatever it has read.
func (w *WALReader) Skip(n int, sum uint64) {
	w.frames, w.s1, w.s2 = n, uint32(sum>>32), uint32(sum)
}

// Next returns the next frame. It fails with io.EOF at the end of the valid frames: where the file
// ends, where older frames begin, or where a frame is torn. A later call may find that a writer has
// added frames. [WALReader.Page] returns the page's bytes.
func (w *WALReader) Next() (WALFrame, error) {
	at := walHeaderBytes + int64(w.frames)*int64(len(w.buf))
	if n, err := w.r.ReadAt(w.buf, at); n < len(w.buf) {
		if err == nil || err == io.EOF {
			return WALFrame{}, io.EOF
		}
		return WALFrame{}, err
	}
	pgno, salts := binary.BigEndian.Uint32(w.buf[0:]), binary.BigEndian.Uint64(w.buf[8:])
	committed := w.frames < w.Committed
	// Frames whose checksums SQLite meant to compute at the commit have no salts.
	if pgno == 0 || salts != w.Salts && !(committed && salts == 0) {
		return WALFrame{}, io.EOF
	}
	s1, s2 := w.s1, w.s2
	w.sum(w.buf[:8])
	w.sum(w.buf[walFrameBytes:])
	sum1, sum2 := binary.BigEndian.Uint32(w.buf[16:]), binary.BigEndian.Uint32(w.buf[20:])
	if salts == 0 || w.s1 != sum1 || w.s2 != sum2 {
		if !committed {
			w.s1, w.s2 = s1, s2
			return WALFrame{}, io.EOF
		}
		w.Unsummed++
		w.s1, w.s2 = sum1, sum2 // SQLite continues from these
	}
	w.frames++
	return WALFrame{Pgno: pgno, Commit: binary.BigEndian.Uint32(w.buf[4:]),
		Offset: at + walFrameBytes}, nil
}

// NextCommit reads up to the next commit frame, and returns it: the frames up to there are
// committed. This is the one place that decides which frames of a WAL are committed. Callers differ
// in what else they know:
//
//   - If a caller has only the WAL, all valid frames up to the last commit count: most is
//     [AllFrames]. SQLite's recovery takes these. They may be more than SQLite's readers see: the
//     wal-index may never have been written for a commit frame, or the frame is about to be
//     overwritten.
//   - If the wal-index, or a recorder, has said how many frames are committed, these count, valid
//     or
//     not ([WALReader.Committed]), and no others: most is their number, too.
//
// NextCommit calls frame for each frame when it is read, before it knows whether a commit follows;
// [WALReader.Page] returns the page's bytes. An error of frame ends the reading, and is returned.
// NextCommit fails with io.EOF if no commit follows up to frame most, counted from 1.
func (w *WALReader) NextCommit(most int, frame func(WALFrame) error) (WALFrame, error) {
	for w.frames < most {
		f, err := w.Next()
		if err != nil {
			return f, err
		}
		if err := frame(f); err != nil || f.Commit != 0 {
			return f, err
		}
	}
	return WALFrame{}, io.EOF
}

// Recover returns how many frames of the WAL in r, of the first n, SQLite's recovery takes, which
// stops at the first one that is not valid: those up to the last commit before that. whole says
// that all n are valid. Whoever uses the wal-index finds the frames behind a damaged one, too.
func Recover(r io.ReaderAt, n int) (frames int, whole bool, err error) {
	w, err := NewWALReader(r)
	if errors.Is(err, ErrNoWAL) {
		return 0, n == 0, nil
	} else if err != nil {
		return 0, false, err
	}
	for w.frames < n {
		f, err := w.Next()
		if err == io.EOF {
			return frames, false, nil
		} else if err != nil {
			return frames, false, err
		}
		if f.Commit != 0 {
			frames = w.frames
		}
	}
	return frames, true, nil
}

// AllFrames is more frames than any WAL has.
const AllFrames = math.MaxInt

// Page returns the page in the frame that Next returned last. It is valid until the next call of
// Next.
func (w *WALReader) Page() []byte { return w.buf[walFrameBytes:] }

// sum adds b, a multiple of 8 bytes, to the running checksum.
func (w *WALReader) sum(b []byte) {
	s1, s2, big := w.s1, w.s2, w.order == binary.BigEndian
	for ; len(b) >= 8; b = b[8:] {
		x, y := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
		if big {
			x, y = bits.ReverseBytes32(x), bits.ReverseBytes32(y)
		}
		s1 += x + s2
		s2 += y + s1
	}
	w.s1, w.s2 = s1, s2
}

// OwnWAL reports whether stock SQLite wrote the WAL in r, as far as recovery can tell. It is false
// if the first frame has the header's salts, but a wrong checksum, so that SQLite would take
// nothing from it. A WAL from which it would take nothing anyway counts as its own.
func OwnWAL(r io.ReaderAt) (bool, error) {
	b, err := readStart(r, walHeaderBytes+walFrameBytes)
	if err != nil || len(b) < walHeaderBytes+walFrameBytes ||
		!bytes.Equal(b[16:24], b[walHeaderBytes+8:walHeaderBytes+16]) {
		return true, err
	}
	frames, err := NewWALReader(r)
	if errors.Is(err, ErrNoWAL) {
		return true, nil
	} else if err != nil {
		return false, err
	}
	if _, err = frames.Next(); err == io.EOF {
		return false, nil
	}
	return true, err
}
