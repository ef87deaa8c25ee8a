package spool

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
)

// This file reads SQLite's write-ahead log, as specified by "The WAL File
// Format" (sqlite.org/walformat.html). It only reads, and only what it is given:
// who may look at a live WAL, and when, is the caller's business (see
// [ReadWALIndex] for what makes a position safe).

const (
	walHeaderBytes   = 32
	walFrameBytes    = 24         // header of a frame; the page follows
	walMagic         = 0x377f0682 // the lowest bit says: checksums are big-endian
	walFormatVersion = 3007000
)

// ErrNoWAL: the file is no WAL that recovery would read a frame from: empty,
// shorter than a header, or with a damaged header. To SQLite that is no error.
var ErrNoWAL = errors.New("no valid WAL header")

// WALFrame is one valid frame of a WAL.
type WALFrame struct {
	Pgno   uint32 // the page that it holds
	Commit uint32 // database size in pages if it ends a transaction, else 0
	Offset int64  // of the page's bytes in the WAL
}

// WALReader reads the frames of a WAL in order and verifies their salts and
// running checksums. It is not safe for concurrent use.
type WALReader struct {
	PageBytes int
	Salts     uint64 // salt-1<<32 | salt-2, as in the state page

	// Committed is up to which frame the caller knows that they are committed: these are
	// taken as SQLite's readers take them, who go by the wal-index and look at no
	// checksum. SQLite (3.40; newer ones do not) leaves committed frames without valid checksums
	// if a transaction writes over frames that it has spilled, goes back to a savepoint
	// before them, and commits (wal.c, sqlite3WalSavepointUndo leaves iReCksum as it is).
	Committed int
	// Unsummed counts the frames that were taken so. The caller sees to it that they were not
	// written over while they were read: then the WAL's header would be another.
	Unsummed int

	r      io.ReaderAt
	order  binary.ByteOrder // of the words that checksums add up
	s1, s2 uint32           // checksum of everything read so far
	frames int
	buf    []byte
}

// NewWALReader verifies the header of the WAL in r. The error wraps [ErrNoWAL] if
// there is none; anything else is the error of r.
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
	if w.s1 != binary.BigEndian.Uint32(header[24:]) || w.s2 != binary.BigEndian.Uint32(header[28:]) {
		return nil, fmt.Errorf("%w: checksum", ErrNoWAL)
	}
	return w, nil
}

// Continue reads on in r, which has the same WAL, or so the caller hopes. It returns
// false, and does nothing, if its salts say that it has not.
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

// Fork returns a reader that goes on from where w is. It reads again what w reads from now
// on.
func (w *WALReader) Fork() *WALReader {
	f := *w
	f.buf = make([]byte, len(w.buf))
	return &f
}

// Agrees reports whether w and other have read as many frames, with the same running
// checksum. What was read unsummed (see [WALReader.Unsummed]) is not in it.
func (w *WALReader) Agrees(other *WALReader) bool {
	return w.frames == other.frames && w.s1 == other.s1 && w.s2 == other.s2
}

// Sum is the running checksum as it stands in the last frame that was read: s1<<32 | s2.
func (w *WALReader) Sum() uint64 { return uint64(w.s1)<<32 | uint64(w.s2) }

// Stands reports whether that frame is still where it was: an older WAL that was put back in place has
// the same salts.
func (w *WALReader) Stands() (bool, error) {
	if w.frames == 0 {
		return true, nil
	}
	sum, err := w.SumAt(w.frames)
	return sum == w.Sum(), err
}

// SumAt returns what [WALReader.Sum] was after frame n, counted from 1, by what stands there now; 0
// if there is no such frame.
func (w *WALReader) SumAt(n int) (uint64, error) {
	var b [8]byte
	k, err := w.r.ReadAt(b[:], walHeaderBytes+int64(n-1)*int64(len(w.buf))+16)
	if k < len(b) && err != nil && err != io.EOF {
		return 0, err
	} else if k < len(b) {
		return 0, nil
	}
	return binary.BigEndian.Uint64(b[:]), nil
}

// Next returns the next frame. It is io.EOF at the end of the valid frames: where
// the file ends, where older frames begin, or where a frame is torn. A later call may
// find that a writer has added frames. The page's bytes are [WALReader.Page].
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
	// Without salts are frames whose checksums SQLite meant to make at the commit.
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
		w.s1, w.s2 = sum1, sum2 // what SQLite goes on from
	}
	w.frames++
	return WALFrame{Pgno: pgno, Commit: binary.BigEndian.Uint32(w.buf[4:]), Offset: at + walFrameBytes}, nil
}

// Page returns the page of the frame that Next returned last. It is valid until
// the next call of Next.
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

func validPageBytes(n uint32) bool { return n >= 512 && n <= 65536 && n&(n-1) == 0 }

// walSlackBytes is what SQLite allows for besides: the page with its lock bytes.
const walSlackBytes = 65536

// WALSizeMax returns how long a database can be at most, whose file has fileBytes bytes, and
// whose WAL has so many frames: it grows by no page that has no frame, but the one with
// SQLite's lock bytes. A WAL whose commit says more is damaged: SQLite does not checkpoint
// it, but answers SQLITE_CORRUPT (wal.c, walCheckpoint). So does what we make of it end here,
// before room is made for what is not there.
func WALSizeMax(fileBytes int64, frames, pageBytes int) int64 {
	return fileBytes + walSlackBytes + int64(frames)*int64(pageBytes)
}

// WALView says where the newest committed version of each page stands in a WAL.
// It is not changed once built. It takes 8 bytes of memory for each frame.
type WALView struct {
	PageBytes int
	Salts     uint64
	Frames    int    // in the view; the last one is a commit
	Pages     uint32 // size of the database at that commit
	newest    []walPlace
}

// walPlace is a page's newest frame.
type walPlace struct{ pgno, frame uint32 }

// NewWALView reads r up to its last commit, or up to frame framesMax (counted
// from 1; 0: no limit), whichever comes first. A WAL without a commit gives a view
// of no frames. That framesMax frames are committed the caller knows (see
// [WALReader.Committed]), and that none is written over meanwhile.
func NewWALView(r io.ReaderAt, framesMax int) (*WALView, error) {
	w, err := NewWALReader(r)
	if err != nil {
		return nil, err
	}
	w.Committed = framesMax
	v := &WALView{PageBytes: w.PageBytes, Salts: w.Salts}
	for framesMax == 0 || w.Frames() < framesMax {
		frame, err := w.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		v.newest = append(v.newest, walPlace{frame.Pgno, uint32(w.Frames())})
		if frame.Commit != 0 {
			v.Frames, v.Pages = w.Frames(), frame.Commit
		}
	}
	v.newest = v.newest[:v.Frames]
	slices.SortFunc(v.newest, func(a, b walPlace) int {
		return cmp.Or(cmp.Compare(a.pgno, b.pgno), cmp.Compare(b.frame, a.frame))
	})
	v.newest = slices.CompactFunc(v.newest, func(a, b walPlace) bool { return a.pgno == b.pgno })
	return v, nil
}

// Offset returns where in the WAL the bytes of page pgno begin, and false if the
// database file's own are the newest.
func (v *WALView) Offset(pgno uint32) (int64, bool) {
	i, ok := slices.BinarySearchFunc(v.newest, pgno, func(p walPlace, pgno uint32) int { return cmp.Compare(p.pgno, pgno) })
	if !ok {
		return 0, false
	}
	frameBytes := int64(walFrameBytes + v.PageBytes)
	return walHeaderBytes + int64(v.newest[i].frame)*frameBytes - int64(v.PageBytes), true
}

// WALIndex is the header of a wal-index, the -shm file: what its writers have
// published as committed.
type WALIndex struct {
	PageBytes  int // 0 only where Frames is
	Salts      uint64
	Frames     int    // mxFrame: valid, committed frames
	Pages      uint32 // size of the database at that commit
	Sum        uint64 // running checksum of the last of them, as [WALReader.Sum]
	Backfilled int    // nBackfill: frames that are in the database file for good
}

const walIndexHeaderBytes = 48

// ReadWALIndex reads the header of the wal-index in r, usually a -shm file.
//
// Of a WAL alone nobody can tell its last commit: after a spill SQLite rewrites
// frames that are already written, commit frame included, and a commit whose
// fsync failed is rolled back. The wal-index says it: SQLite writes its header last.
// The header stands there twice, and like SQLite's own readers (walIndexTryHdr in
// wal.c) this one takes it if both are equal and their checksum is right; else
// the error wraps [ErrWALBusy] and the caller tries again.
//
// Order of reading: header, nBackfill, header. A writer that restarts the WAL
// stores its header (mxFrame 0) before it sets nBackfill to 0, so Backfilled is
// never too small for Frames; it may be larger, which means the same as equal.
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

// ErrWALBusy: a writer was in the middle of changing the wal-index.
var ErrWALBusy = errors.New("being written")

func nativeOrder() binary.ByteOrder {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return binary.LittleEndian
	}
	return binary.BigEndian
}
