package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"verneuil/spool"
	"verneuil/spool/sqlitefile"
)

// This file follows a database in WAL mode, as doc.go of package spool describes.
//
// What of the WAL is in the mirror may go beyond what was published: a base copy,
// and a flush, take what the wal-index says is committed (see openCommitted). Without
// one they take every valid frame up to the last commit. That is a committed
// state, or one in the moment before it is: where SQLite rewrites frames of the
// transaction it is in, the chain of checksums is broken until all are rewritten
// (wal.c, walRewriteChecksums), and then only an fsync that fails can undo it: of that
// the recorder tells (spool.FlagUndone).

var (
	errWALGone = fmt.Errorf("%w: its WAL was reset while it was read", errAgain)
	errWALBack = fmt.Errorf("%w: its WAL is not what it was: an older one was put back, say",
		errAgain)
)

var errImpossibleWAL = errors.New("the WAL is damaged")

// walTries bounds how often a WAL that is not the published one is looked at
// again, before it is taken for somebody else's: a recorder that resets it takes
// moments.
const walTries = 5

// wal follows a database's WAL.
type wal struct {
	*ground
	cursor
	misses int   // looks in a row that did not find what is published
	high   int64 // how long the file may be, or have been since it was copied
	kept   int   // bytes of a transaction that are kept: see walTransaction
	// keepTail, in a base copy: frames are on top of what the file holds. The mirror is cut once,
	// at the end.
	keepTail bool
}

func newWAL(g *ground) *wal { return &wal{ground: g, kept: keptBytesMax} }

// cursor is where we are in the database's WAL.
type cursor struct {
	file    *os.File
	reader  *sqlitefile.WALReader
	salts   uint64 // of the frames that were read; 0: none
	applied int    // frames up to the last commit that is in the mirror
	sum     uint64 // the running checksum in the last of them; 0 unknown
	ours    bool   // a recorder has published these salts: it will tell of the end of this WAL
	size    int64  // of the database at that commit; 0 unknown
	base    int64  // how long the database was, at most, when the file was opened
}

// stands reports whether the WAL still has the header that it had when it was opened: then
// no frame that was read until now was written over.
func (c *cursor) stands() bool {
	now, err := sqlitefile.NewWALReader(c.file)
	return err == nil && now.Salts == c.salts
}

// goOn takes over what is known of the WAL from before it was opened anew.
func (c *cursor) goOn(was cursor) {
	c.applied, c.sum, c.size, c.ours, c.base = was.applied, was.sum, was.size, was.ours, was.base
}

func (c *cursor) reset() {
	if c.file != nil {
		c.file.Close()
	}
	*c = cursor{}
}

// rest closes the file until resume.
func (c *cursor) rest() {
	if c.file != nil {
		c.file.Close()
		c.file = nil
	}
}

// resume goes on to read a WAL whose file was closed. If another stands there,
// what is published will not be found in it.
func (w *wal) resume() error {
	was := w.cursor
	if was.reader == nil || was.file != nil {
		return nil
	}
	if err := w.open(); err != nil {
		return err
	}
	if w.salts == was.salts && was.reader.Continue(w.file) {
		was.file = w.file
		w.cursor = was
		return nil
	}
	w.reset()
	w.salts = was.salts
	w.goOn(was)
	return nil
}

// walSalt is the part of the salts that positions carry.
func walSalt(salts uint64) uint64 { return salts >> 32 }

// consumed returns how many frames of the published salts are in the mirror.
func (w *wal) consumed(salts uint64) int {
	if c := w.st.WALConsumed.Load(); c>>32 == walSalt(salts) {
		return int(uint32(c))
	}
	return 0
}

// setConsumed notes that so many frames, the last with that checksum, are in the mirror.
func (w *wal) setConsumed(position, sum uint64) {
	w.st.WALConsumedSum.Store(sum)
	w.st.WALConsumed.Store(position)
}

// behind reports whether frames are published that are not in the mirror.
func (w *wal) behind() bool {
	salts, published := w.st.WALSalts.Load(), w.st.WALPublished.Load()
	return salts != 0 && walSalt(salts) == published>>32 &&
		int(uint32(published)) > w.consumed(salts)
}

// inUse reports whether the database is in WAL mode, as far as is known. The caller has brought
// the mirror up to date with the log.
func (w *wal) inUse() bool {
	return w.st.WALSalts.Load() != 0 || sqlitefile.ReadHeader(w.mirror).WAL()
}

// open begins to read the database's WAL: see openWAL.
func (w *wal) open() error {
	w.reset()
	f, r, err := openWAL(w.sp.Path())
	if err != nil || r == nil {
		return err
	}
	w.file, w.reader, w.salts = f, r, r.Salts
	w.base = max(w.mirror.Size(), w.high)
	return nil
}

// bringUp brings the mirror up to the published frame. The caller has read
// sequence and then salts before it applied the log to the head.
func (w *wal) bringUp(sequence, salts uint64) error {
	published := w.st.WALPublished.Load()
	if salts == 0 {
		w.st.MirrorSequence.Store(max(sequence, w.st.MirrorSequence.Load()))
		return nil
	}
	if walSalt(salts) != published>>32 {
		return w.miss() // its reset is under way
	}
	n := int(uint32(published))
	if n <= w.consumed(salts) {
		w.st.MirrorSequence.Store(max(sequence, w.st.MirrorSequence.Load()))
		return nil
	}
	if w.salts != salts {
		if err := w.open(); err != nil {
			return err
		}
		if w.salts != salts {
			return w.miss()
		}
	}
	frames, err := w.readFrames(n)
	if errors.Is(err, errWALBack) {
		w.st.Raise(spool.CauseForeign)
	}
	if err != nil {
		return err
	}
	if w.applied < n {
		return w.miss()
	}
	w.misses = 0
	w.rhythm.found(int64(frames), lookFrames)
	w.setConsumed(spool.WALPosition(salts, w.applied), w.sum)
	w.st.MirrorSequence.Store(max(sequence, w.st.MirrorSequence.Load()))
	return nil
}

// copied is told of a transaction of the changelog that a recorder has made of the WAL's frames,
// before it resets the WAL. These need not be read any more, and must not be: while they are
// written over they may be there in part, and the mirror would go back to that. before is the
// mirror's size before the transaction. A base copy wants all frames (see beginWAL).
func (w *wal) copied(f spool.Frame, before int64) {
	if size := w.mirror.Size(); size > before && w.high > before {
		w.st.Raise(spool.CauseWAL) // see writeFrames
	}
	if w.st.MirrorGeneration.Load() != spool.NoMirror {
		w.setConsumed(f.Before, 0)
	}
}

// miss is called when frames that are published are not in the file. Either a recorder resets the
// WAL, and they are in the log in a moment; or somebody without a recorder has reset it.
func (w *wal) miss() error {
	w.reset()
	if w.misses++; w.misses >= walTries {
		w.misses = 0
		w.st.Raise(spool.CauseForeign)
	}
	return errWALGone
}

// keptBytesMax is how much is kept of a transaction until its commit is read: small ones are
// read once.
const keptBytesMax = 1 << 20

// walPage is a frame that was read.
type walPage struct {
	pgno uint32
	b    []byte
}

// walTransaction is what was read of a transaction of the WAL. It may be as long as the
// database (VACUUM): only its first pages are kept until its commit is read, and the rest are
// read again then.
type walTransaction struct {
	keep  int // bytes
	kept  []walPage
	bytes int                   // of kept
	rest  *sqlitefile.WALReader // at the first frame that is not kept; nil: all are
	n     int                   // frames
}

// begin prepares t for the frames that r reads next. They get the memory of those that it has kept.
func (t *walTransaction) begin(r *sqlitefile.WALReader) {
	*t = walTransaction{keep: t.keep, kept: t.kept[:0]}
	t.room(r)
}

// add adds the frame that r has just read.
func (t *walTransaction) add(r *sqlitefile.WALReader, f sqlitefile.WALFrame) {
	t.n++
	if t.rest == nil {
		n := len(t.kept)
		t.kept = slices.Grow(t.kept, 1)[:n+1]
		p := &t.kept[n]
		p.pgno, p.b = f.Pgno, append(p.b[:0], r.Page()...)
		t.bytes += len(r.Page())
		t.room(r)
	}
}

// room notes where the frames begin that are not kept.
func (t *walTransaction) room(r *sqlitefile.WALReader) {
	if t.bytes >= t.keep {
		t.rest = r.Fork()
	}
}

// each calls f with each page up to the commit, which r has read. It fails with
// errWALGone, after some of them, if the WAL does not have any more what r has read.
func (t *walTransaction) each(r *sqlitefile.WALReader, f func(pgno uint32, b []byte) error) error {
	for _, p := range t.kept {
		if err := f(p.pgno, p.b); err != nil {
			return err
		}
	}
	for t.rest != nil && t.rest.Frames() < r.Frames() {
		frame, err := t.rest.Next()
		if err == io.EOF {
			return errWALGone
		} else if err != nil {
			return fmt.Errorf("read WAL: %w", err)
		}
		if err := f(frame.Pgno, t.rest.Page()); err != nil {
			return err
		}
	}
	if t.rest != nil && !t.rest.Agrees(r) {
		return errWALGone
	}
	return nil
}

// readFrames applies the frames up to the last commit, at most framesMax of the WAL, and returns
// how many: not those that are in the mirror already, by themselves or by their copy (see copied).
// The caller knows that framesMax frames are committed, unless it is sqlitefile.AllFrames. A chain
// that breaks is no error: w.applied says how far it went. It fails with errWALBack if what is in
// the mirror does not stand in the WAL any more. After an error the next call reads again what was
// read and is not in the mirror.
func (w *wal) readFrames(framesMax int) (frames int, err error) {
	t := walTransaction{keep: w.kept}
	defer func() {
		if err != nil || t.n > 0 {
			err = errors.Join(err, w.reread())
		}
	}()
	if n := w.consumed(w.salts); n > w.applied {
		w.applied, w.sum = n, w.st.WALConsumedSum.Load()
	}
	w.ours = w.st.WALSalts.Load() == w.salts
	before := w.applied
	if w.reader != nil {
		if stands, err := w.reader.Stands(); err != nil || !stands {
			return 0, cmp.Or(wrap(err, "read WAL"), w.back())
		}
	}
	switch {
	case w.reader == nil:
	case framesMax == sqlitefile.AllFrames:
		// A wal-index on the heap counts what its owner has published
		w.reader.Committed = w.published(w.salts)
	default:
		w.reader.Committed = framesMax
	}
	for w.reader != nil {
		var stop error
		t.begin(w.reader)
		f, err := w.reader.NextCommit(framesMax, func(f sqlitefile.WALFrame) error {
			stop = w.frame(&t, f)
			return stop
		})
		if err == io.EOF {
			break
		} else if err != nil {
			return w.applied - before, cmp.Or(stop, fmt.Errorf("read WAL: %w", err))
		}
		if w.reader.Frames() <= w.applied {
			continue
		}
		if w.reader.Unsummed > 0 && !w.stands() {
			return w.applied - before, errWALGone
		}
		size := int64(f.Commit) * int64(w.reader.PageBytes)
		if err := w.applyFrames(&t, size); err != nil {
			return w.applied - before, fmt.Errorf("apply WAL: %w", err)
		}
		w.applied, w.sum, w.size = w.reader.Frames(), w.reader.Sum(), size
		t.n = 0
	}
	if w.reader != nil && w.reader.Frames() < w.applied {
		return 0, w.back()
	}
	return w.applied - before, nil
}

// frame adds a frame that was read to t, unless the mirror has it: then it was read for its
// checksum.
func (w *wal) frame(t *walTransaction, f sqlitefile.WALFrame) error {
	if err := w.fault("frame"); err != nil {
		return err
	}
	n := w.reader.Frames()
	if n == w.applied && w.sum != 0 && w.sum != w.reader.Sum() {
		return w.back()
	}
	if n <= w.applied {
		t.begin(w.reader)
	} else {
		t.add(w.reader, f)
	}
	return nil
}

// back is the error where frames that are in the mirror are not in the WAL: errWALBack, unless it
// is being reset.
func (c *cursor) back() error {
	if c.stands() {
		return errWALBack
	}
	return errWALGone
}

// applyFrames applies a transaction after which the database has size bytes. If it fails after
// it has begun, the mirror has a part of it, and is of no generation.
func (w *wal) applyFrames(t *walTransaction, size int64) error {
	if !w.keepTail && !w.fits(size, w.reader.Frames()) {
		w.st.MirrorGeneration.Store(spool.NoMirror) // a base copy tells
		return fmt.Errorf("%w: a commit to its WAL says that it has %d bytes", errAgain, size)
	}
	err := w.writeFrames(t, size)
	if err == nil && w.reader.Unsummed > 0 && t.rest != nil && !w.stands() {
		err = errWALGone
	}
	if err != nil && w.died == nil {
		w.st.MirrorGeneration.Store(spool.NoMirror)
	}
	return err
}

// writeFrames writes a transaction's pages to the mirror, and cuts it to size.
//
// The file itself is cut only at a checkpoint, and SQLite does not write a page that
// it takes and frees in one transaction: if the database shrinks and grows again,
// such a page holds what it held before, or zeros if there was a checkpoint in
// between. Only the file can tell.
func (w *wal) writeFrames(t *walTransaction, size int64) error {
	old, pageBytes := w.mirror.Size(), int64(w.reader.PageBytes)
	w.high = max(w.high, old)
	gap := (min(size, w.high) - old + pageBytes - 1) / pageBytes // pages that come again
	missing := gap > 0 && !w.keepTail
	var met []bool
	if missing && gap <= int64(t.n) { // else there are not enough frames for them
		met = make([]bool, gap)
	}
	err := t.each(w.reader, func(pgno uint32, b []byte) error {
		off := int64(pgno-1) * pageBytes
		if k := (off - old) / pageBytes; off >= old && k < int64(len(met)) && !met[k] {
			met[k] = true
			gap--
		}
		if err := w.fault("page"); err != nil {
			return err
		}
		if !w.fits(off+pageBytes, w.reader.Frames()) {
			return nil // SQLite does not look at what is beyond the end
		}
		_, err := w.mirror.WriteAt(b, off)
		return err
	})
	if err != nil || w.keepTail {
		return err
	}
	if missing && gap > 0 {
		w.st.Raise(spool.CauseWAL)
	}
	return w.mirror.Truncate(size)
}

// fits reports whether a database that ends there can be what so many frames of the WAL
// make of the file: see [sqlitefile.WALSizeMax].
func (w *wal) fits(end int64, frames int) bool {
	pageBytes := w.reader.PageBytes
	if end <= sqlitefile.WALSizeMax(w.base, frames, pageBytes) {
		return true
	}
	now, err := spool.StampOf(w.sp.Path())
	return err == nil && end <= sqlitefile.WALSizeMax(now.Bytes, frames, pageBytes)
}

// reread goes back to the frame after the last commit: the transaction that
// follows may be rolled back, and other frames stand there then.
func (w *wal) reread() error {
	was := w.cursor
	if err := w.open(); err != nil {
		return err
	}
	if w.salts != was.salts {
		return nil // the next look sees it
	}
	w.goOn(was)
	return nil
}

// walStamp tells whether a WAL, or the database under it, was changed by somebody
// whose reset nobody recorded.
type walStamp struct {
	salts  uint64 // in the file; 0: no WAL
	frames int    // that are committed, or sqlitefile.AllFrames
	known  uint64 // salts in the state
	db     spool.Stamp
}

func (w *wal) stamp(ctx context.Context) (st walStamp, err error) {
	st.known = w.st.WALSalts.Load()
	if st.frames, err = w.openCommitted(ctx); err != nil {
		return st, err
	}
	st.salts = w.salts
	st.db, err = spool.StampOf(w.sp.Path())
	return st, wrap(err, "look at database")
}
