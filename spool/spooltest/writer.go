// Package spooltest writes spools as a recorder does (cgo/spool_log.c), in Go. It is for tests, and
// is an executable specification of the writer's side of the protocol.
package spooltest

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"verneuil/spool"
)

// Writer is a database file and its recorder. It plays the holder of SQLite's write lock: only one
// at a time may be in a transaction.
type Writer struct {
	Spool        *spool.Spool
	File         *os.File
	SegmentBytes int64 // of new segments
	Token        spool.Token

	active, lost         bool
	sequence, generation uint64
	end                  spool.Position
	before               uint64
}

// NewWriter returns a writer of the database at s's path, which must exist.
func NewWriter(s *spool.Spool) (*Writer, error) {
	token, err := spool.Self()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(s.Path(), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &Writer{Spool: s, File: f, SegmentBytes: spool.SegmentBytes, Token: token}, nil
}

// version returns the change counter of the header, + 1<<32.
func (w *Writer) version() uint64 {
	var b [4]byte
	if _, err := w.File.ReadAt(b[:], 24); err != nil {
		return 1 << 32
	}
	return 1<<32 | uint64(binary.BigEndian.Uint32(b[:]))
}

func (w *Writer) size() int64 {
	st, err := w.File.Stat()
	if err != nil {
		return -1
	}
	return st.Size()
}

// Begin begins a transaction, before its first write.
func (w *Writer) Begin() {
	st := w.Spool.State()
	version, size := w.version(), w.size()
	known, knownSize := st.DBVersion.Load(), st.DBSize.Load()
	if known != 0 && known != version || knownSize >= 0 && knownSize != size {
		st.Raise(spool.CauseForeign)
	} else {
		w.look()
	}
	if st.Writing.Load() != 0 {
		st.Raise(spool.CauseCrash)
	}
	st.Writing.Store(uint64(w.Token))
	w.beginCopy(version)
}

// look compares the stamp, as a recorder first does (stampForeign).
func (w *Writer) look() {
	st := w.Spool.State()
	stamp, err := spool.StampOf(w.Spool.Path())
	if st.DBStamp.Load() == 0 && st.MirrorGeneration.Load() != st.Generation.Load() {
		return
	}
	if same, _ := st.AsLeft(stamp); err != nil || !same {
		st.Raise(spool.CauseForeign)
	}
}

// Leave stores the file's stamp after a recorder has written (stampLeave).
func (w *Writer) Leave() {
	st := w.Spool.State()
	stamp, err := spool.StampOf(w.Spool.Path())
	if err != nil {
		st.DBStamp.Store(0)
		return
	}
	st.Leave(stamp, w.Token)
}

// beginCopy begins a transaction that writes nothing to the database: its frames come from the WAL.
func (w *Writer) beginCopy(before uint64) {
	st := w.Spool.State()
	w.active, w.lost = true, false
	w.before = before
	w.sequence, w.generation = st.Sequence.Load()+1, st.Generation.Load()
	w.end = st.Head()
}

// WriteAt writes to the database and records it.
func (w *Writer) WriteAt(p []byte, off int64) (int, error) {
	n, err := w.File.WriteAt(p, off)
	if err == nil {
		w.append(spool.Frame{Kind: spool.KindWrite, Offset: off, Data: p})
	}
	return n, err
}

// Truncate truncates the database and records it.
func (w *Writer) Truncate(size int64) error {
	err := w.File.Truncate(size)
	if err == nil {
		w.append(spool.Frame{Kind: spool.KindTruncate, Size: size})
	}
	return err
}

// Lose leaves the rest of the transaction unrecorded (I5).
func (w *Writer) Lose(c spool.Cause) {
	if w.active && !w.lost {
		w.lost = true
		w.Spool.State().Raise(c)
	}
}

// Commit ends the transaction. A rollback that has written ends in the same way.
func (w *Writer) Commit() { w.finish(w.version(), w.size()) }

// finish publishes the transaction, after which the database has that version and size.
func (w *Writer) finish(after uint64, size int64) {
	st := w.Spool.State()
	now := time.Now().UnixNano()
	w.append(spool.Frame{Kind: spool.KindCommit, Size: size, Before: w.before, After: after,
		TimeNS: now})
	if after != 0 {
		w.Leave()
	}
	st.DBVersion.Store(after)
	st.DBSize.Store(size)
	st.PublishedAt.Store(now)
	if w.lost {
		st.Dropped.Add(1)
		st.Raise(st.Cause())
	} else {
		st.Published.Add(1)
		st.SetHead(w.end)
		st.Sequence.Store(w.sequence)
	}
	w.active = false
	st.Writing.Store(0)
	w.wake()
}

// wake wakes the replicator, if it sleeps.
func (w *Writer) wake() {
	st := w.Spool.State()
	if armed := st.Armed.Load(); armed != 0 && w.Spool.Wake() == nil {
		st.Armed.CompareAndSwap(armed, 0)
	}
}

// Abandon drops the transaction as a killed process does: writing stays set, and garbage stays
// beyond head.
func (w *Writer) Abandon() { w.active = false }

// append writes a frame at the private end of the log.
func (w *Writer) append(f spool.Frame) {
	if w.lost {
		return
	}
	f.Sequence, f.Generation = w.sequence, w.generation
	b := spool.AppendFrame(nil, f)
	if err := w.room(len(b)); err != nil {
		if !w.lost {
			w.Lose(spool.CauseLogError)
		}
		return
	}
	if err := w.put(b); err != nil {
		w.Lose(spool.CauseLogError)
		return
	}
	w.end += spool.Position(len(b))
}

// room makes sure that n bytes fit at the private end, in a segment that exists.
func (w *Writer) room(n int) error {
	st := w.Spool.State()
	if w.end.Offset() == spool.SegmentHeaderBytes {
		if err := w.segment(w.end.Segment()); err != nil {
			return err
		}
	}
	info, err := os.Stat(w.name(w.end.Segment()))
	if err != nil {
		return err
	}
	if int64(w.end.Offset())+int64(n) <= info.Size() {
		return nil
	}
	used := uint64(w.end.Segment()+1-st.Tail().Segment()) * uint64(w.SegmentBytes)
	if used > st.LogAllowance.Load() {
		w.Lose(spool.CauseLogFull)
		return fmt.Errorf("log is full")
	}
	if int64(w.end.Offset())+spool.FrameHeaderBytes <= info.Size() {
		end := spool.AppendFrame(nil, spool.Frame{Kind: spool.KindEnd, Sequence: w.sequence,
			Generation: w.generation})
		if err := w.put(end); err != nil {
			return err
		}
	}
	w.end = spool.At(w.end.Segment()+1, spool.SegmentHeaderBytes)
	return w.segment(w.end.Segment())
}

// segment makes an empty segment.
func (w *Writer) segment(n uint32) error {
	f, err := os.OpenFile(w.name(n), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(w.SegmentBytes); err != nil {
		return err
	}
	_, err = f.WriteAt(spool.SegmentHeader(n, w.SegmentBytes), 0)
	return err
}

func (w *Writer) put(b []byte) error {
	f, err := os.OpenFile(w.name(w.end.Segment()), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(b, int64(w.end.Offset()))
	return err
}

func (w *Writer) name(segment uint32) string {
	return filepath.Join(w.Spool.Dir(), fmt.Sprintf("log.%016x", segment))
}
