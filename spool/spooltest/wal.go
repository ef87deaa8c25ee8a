package spooltest

import (
	"encoding/binary"
	"fmt"
	"os"

	"verneuil/spool"
)

const (
	walHeaderBytes   = 32
	walFrameBytes    = 24
	walMagic         = 0x377f0682 // little-endian checksums
	walFormatVersion = 3007000
)

// WAL is a database's write-ahead log, its wal-index, and the recorder of both (cgo/spool_wal.c).
// What SQLite and the recorder do at once is split into several methods here, so that a replicator
// can work in between. A commit is Append and then Publish. A reset is Checkpoint, Copy, Restart
// and then Renew; the first WAL of a database needs only the last two.
type WAL struct {
	w         *Writer
	pageBytes int
	salts     uint64 // salt-1<<32 | salt-2
	s1, s2    uint32 // running checksum
	frames    []WALFrame
	pages     uint32 // size of the database at the last commit
}

// WALFrame is a page as a transaction leaves it.
type WALFrame struct {
	Pgno uint32
	Page []byte
}

// NewWAL returns the WAL of w's database, which is in WAL mode and has no WAL yet.
func NewWAL(w *Writer, pageBytes int) *WAL {
	return &WAL{w: w, pageBytes: pageBytes, salts: 0x1000<<32 | 0xabcdef01}
}

// Append commits a transaction after which the database has that many pages: it writes the frames,
// and then the wal-index. It publishes nothing.
func (l *WAL) Append(pages uint32, frames ...WALFrame) error {
	var b []byte
	at := walHeaderBytes + int64(len(l.frames))*int64(walFrameBytes+l.pageBytes)
	for k, f := range frames {
		header := make([]byte, walFrameBytes)
		binary.BigEndian.PutUint32(header, f.Pgno)
		if k == len(frames)-1 {
			binary.BigEndian.PutUint32(header[4:], pages)
		}
		binary.BigEndian.PutUint64(header[8:], l.salts)
		l.s1, l.s2 = sum(l.s1, l.s2, header[:8], binary.LittleEndian)
		l.s1, l.s2 = sum(l.s1, l.s2, f.Page, binary.LittleEndian)
		binary.BigEndian.PutUint32(header[16:], l.s1)
		binary.BigEndian.PutUint32(header[20:], l.s2)
		b = append(append(b, header...), f.Page...)
	}
	l.frames, l.pages = append(l.frames, frames...), pages
	if err := l.write("-wal", b, at); err != nil {
		return err
	}
	return l.index()
}

// Publish publishes what was appended (walUnlock).
func (l *WAL) Publish() {
	st := l.w.Spool.State()
	st.WALSum.Store(uint64(l.s1)<<32 | uint64(l.s2))
	st.WALPublished.Store(l.position())
	st.Published.Add(1)
	st.Sequence.Add(1)
	l.w.wake()
}

// Checkpoint writes all frames into the database.
func (l *WAL) Checkpoint() error {
	st := l.w.Spool.State()
	st.Checkpointing.Store(uint64(l.w.Token))
	l.w.look()
	for _, f := range l.frames {
		if _, err := l.w.File.WriteAt(f.Page, int64(f.Pgno-1)*int64(l.pageBytes)); err != nil {
			return err
		}
	}
	if err := l.w.File.Truncate(int64(l.pages) * int64(l.pageBytes)); err != nil {
		return err
	}
	l.w.Leave()
	st.Checkpointing.Store(0)
	return nil
}

// Copy does copy on reset (walBeforeReset): what the replicator has not consumed becomes one
// transaction of the changelog, with each page once.
func (l *WAL) Copy() {
	st := l.w.Spool.State()
	first := 0
	if consumed := st.WALConsumed.Load(); consumed>>32 == l.salts>>32 {
		first = int(uint32(consumed))
	}
	if first == len(l.frames) {
		return
	}
	l.w.beginCopy(l.position())
	met := make(map[uint32]bool)
	for k := len(l.frames) - 1; k >= first; k-- {
		if f := l.frames[k]; !met[f.Pgno] {
			met[f.Pgno] = true
			l.w.append(spool.Frame{Kind: spool.KindWrite,
				Offset: int64(f.Pgno-1) * int64(l.pageBytes), Data: f.Page})
		}
	}
	l.w.finish(0, int64(l.pages)*int64(l.pageBytes))
	st.DBSize.Store(-1)
}

// Restart begins the next WAL: first in the wal-index, as SQLite does (walRestartHdr), then in the
// file, over the old frames.
func (l *WAL) Restart() error {
	l.salts += 1 << 32
	l.frames = nil
	if err := l.index(); err != nil {
		return err
	}
	header := make([]byte, walHeaderBytes)
	for k, word := range []uint32{walMagic, walFormatVersion, uint32(l.pageBytes), 0,
		uint32(l.salts >> 32), uint32(l.salts)} {
		binary.BigEndian.PutUint32(header[4*k:], word)
	}
	l.s1, l.s2 = sum(0, 0, header[:24], binary.LittleEndian)
	binary.BigEndian.PutUint32(header[24:], l.s1)
	binary.BigEndian.PutUint32(header[28:], l.s2)
	return l.write("-wal", header, 0)
}

// Renew replaces the salts in the state (walAfterReset).
func (l *WAL) Renew() error {
	st := l.w.Spool.State()
	st.WALPublished.Store(l.position())
	st.WALSalts.Store(l.salts)
	st.DBVersion.Store(0)
	st.DBSize.Store(-1)
	return nil
}

// position returns the last frame's position, as the state page has it.
func (l *WAL) position() uint64 { return l.salts>>32<<32 | uint64(len(l.frames)) }

// index writes the header of the wal-index, twice, and says there that nothing is backfilled.
func (l *WAL) index() error {
	native := binary.NativeEndian
	h := make([]byte, 48)
	native.PutUint32(h, walFormatVersion)
	h[12] = 1
	native.PutUint16(h[14:], uint16(l.pageBytes|l.pageBytes>>16))
	native.PutUint32(h[16:], uint32(len(l.frames)))
	native.PutUint32(h[20:], l.pages)
	native.PutUint32(h[24:], l.s1)
	native.PutUint32(h[28:], l.s2)
	binary.BigEndian.PutUint64(h[32:], l.salts)
	s1, s2 := sum(0, 0, h[:40], native)
	native.PutUint32(h[40:], s1)
	native.PutUint32(h[44:], s2)
	return l.write("-shm", append(append(h, h...), make([]byte, 40)...), 0)
}

func (l *WAL) write(suffix string, b []byte, at int64) error {
	f, err := os.OpenFile(l.w.Spool.Path()+suffix, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open %s: %w", suffix, err)
	}
	defer f.Close()
	_, err = f.WriteAt(b, at)
	return err
}

// sum continues the checksum of a WAL or wal-index.
func sum(s1, s2 uint32, b []byte, order binary.ByteOrder) (uint32, uint32) {
	for ; len(b) >= 8; b = b[8:] {
		s1 += order.Uint32(b) + s2
		s2 += order.Uint32(b[4:]) + s1
	}
	return s1, s2
}
