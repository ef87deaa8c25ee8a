package replicate

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

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
	errWALBack = fmt.Errorf("%w: its WAL is not what it was: an older one was put back, say", errAgain)
)

var errImpossibleWAL = errors.New("the WAL is damaged")

// walTries bounds how often a WAL that is not the published one is looked at
// again, before it is taken for somebody else's: a recorder that resets it takes
// moments.
const walTries = 5

// While frames arrive, they are looked for so often that some walLookFrames are found:
// what was not looked at when SQLite resets the WAL, by default after 1,000 frames, a
// recorder copies in the middle of a commit.
const (
	walLookFrames = 200
	walEveryLeast = time.Millisecond
)

// paceWAL notes that frames were applied.
func (s *session) paceWAL(frames int) {
	now := s.now()
	every := now.Sub(s.walLooked) * walLookFrames / time.Duration(frames)
	s.walLooked, s.walEvery = now, min(max(every, walEveryLeast), awakeFor)
}

// following is where a session is in the database's WAL.
type following struct {
	file    *os.File
	reader  *spool.WALReader
	salts   uint64 // of the frames that were read; 0: none
	applied int    // frames up to the last commit that is in the mirror
	sum     uint64 // the running checksum in the last of them; 0 unknown
	ours    bool   // a recorder has published these salts: it will tell of the end of this WAL
	size    int64  // of the database at that commit; 0 unknown
	base    int64  // how long the database was, at most, when the file was opened
}

// stands reports whether the WAL still has the header that it had when it was opened: then
// no frame that was read until now was written over.
func (w *following) stands() bool {
	now, err := spool.NewWALReader(w.file)
	return err == nil && now.Salts == w.salts
}

// goOn takes over what is known of the WAL from before it was opened anew.
func (w *following) goOn(was following) {
	w.applied, w.sum, w.size, w.ours, w.base = was.applied, was.sum, was.size, was.ours, was.base
}

func (w *following) reset() {
	if w.file != nil {
		w.file.Close()
	}
	*w = following{}
}

// resumeWAL goes on to read a WAL whose file was closed. If another stands there,
// what is published will not be found in it.
func (s *session) resumeWAL() error {
	was := s.wal
	if was.reader == nil || was.file != nil {
		return nil
	}
	if err := s.openWAL(); err != nil {
		return err
	}
	if s.wal.salts == was.salts && was.reader.Continue(s.wal.file) {
		was.file = s.wal.file
		s.wal = was
		return nil
	}
	s.wal.reset()
	s.wal.salts = was.salts
	s.wal.goOn(was)
	return nil
}

// walSalt is the part of the salts that positions carry.
func walSalt(salts uint64) uint64 { return salts >> 32 }

// walPosition is a position as the state has it: salt-1<<32 | frames.
func walPosition(salts uint64, frames int) uint64 { return walSalt(salts)<<32 | uint64(uint32(frames)) }

// walConsumed returns how many frames of the published salts are in the mirror.
func (s *session) walConsumed(salts uint64) int {
	if c := s.st.WALConsumed.Load(); c>>32 == walSalt(salts) {
		return int(uint32(c))
	}
	return 0
}

// setConsumed notes that so many frames, the last with that checksum, are in the mirror.
func (s *session) setConsumed(position, sum uint64) {
	s.st.WALConsumedSum.Store(sum)
	s.st.WALConsumed.Store(position)
}

// walBehind reports whether frames are published that are not in the mirror.
func (s *session) walBehind() bool {
	salts, published := s.st.WALSalts.Load(), s.st.WALPublished.Load()
	return salts != 0 && walSalt(salts) == published>>32 && int(uint32(published)) > s.walConsumed(salts)
}

// inWAL reports whether the database is in WAL mode, as far as is known. The mirror
// is up to date with the log.
func (s *session) inWAL() bool {
	return s.st.WALSalts.Load() != 0 || sqlitefile.ReadHeader(s.mirror).WAL()
}

// openWAL begins to read the database's WAL. Its reader is nil if there is none,
// or one without a valid header. A WAL has no locks of SQLite's: it may be opened
// and closed by name.
func (s *session) openWAL() error {
	s.wal.reset()
	f, err := os.OpenFile(s.sp.Path()+"-wal", os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("open WAL: %w", err)
	}
	r, err := spool.NewWALReader(f)
	if errors.Is(err, spool.ErrNoWAL) {
		f.Close()
		return nil
	} else if err != nil {
		f.Close()
		return fmt.Errorf("read WAL: %w", err)
	}
	s.wal.file, s.wal.reader, s.wal.salts = f, r, r.Salts
	s.wal.base = max(s.mirror.Size(), s.walHigh)
	return nil
}

// applyWAL brings the mirror up to the published frame. The caller has read
// sequence and then salts before it applied the log to the head.
func (s *session) applyWAL(sequence, salts uint64) error {
	published := s.st.WALPublished.Load()
	if salts == 0 {
		s.st.MirrorSequence.Store(max(sequence, s.st.MirrorSequence.Load()))
		return nil
	}
	if walSalt(salts) != published>>32 {
		return s.missWAL() // its reset is under way
	}
	n := int(uint32(published))
	if n <= s.walConsumed(salts) {
		s.st.MirrorSequence.Store(max(sequence, s.st.MirrorSequence.Load()))
		return nil
	}
	if s.wal.salts != salts {
		if err := s.openWAL(); err != nil {
			return err
		}
		if s.wal.salts != salts {
			return s.missWAL()
		}
	}
	frames, err := s.readFrames(n)
	if errors.Is(err, errWALBack) {
		s.st.Raise(spool.CauseForeign)
	}
	if err != nil {
		return err
	}
	if s.wal.applied < n {
		return s.missWAL()
	}
	s.walMisses = 0
	if frames > 0 { // a flush may have taken them already
		s.paceWAL(frames)
	}
	s.setConsumed(walPosition(salts, s.wal.applied), s.wal.sum)
	s.st.MirrorSequence.Store(max(sequence, s.st.MirrorSequence.Load()))
	return nil
}

// applyCopied notes what a transaction is that a recorder has made of the WAL's frames,
// before it resets it. They need not be read any more: and must not, for while they
// are written over they may be there in part, and the mirror would go back to that.
// before is the mirror's size before it. A base copy wants them all (see beginWAL).
func (s *session) applyCopied(f spool.Frame, before int64) {
	if size := s.mirror.Size(); size > before && s.walHigh > before {
		s.st.Raise(spool.CauseWAL) // see applyFrames
	}
	if s.st.MirrorGeneration.Load() != spool.NoMirror {
		s.setConsumed(f.Before, 0)
	}
}

// missWAL: frames that are published are not in the file. A recorder resets it:
// then they are in the log in a moment. Or somebody without one did.
func (s *session) missWAL() error {
	s.wal.reset()
	if s.walMisses++; s.walMisses >= walTries {
		s.walMisses = 0
		s.st.Raise(spool.CauseForeign)
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
	bytes int              // of kept
	rest  *spool.WALReader // at the first frame that is not kept; nil: all are
	n     int              // frames
}

// next reads the transaction's next frame from r.
func (t *walTransaction) next(r *spool.WALReader) (spool.WALFrame, error) {
	if t.rest == nil && t.bytes >= t.keep {
		t.rest = r.Fork()
	}
	f, err := r.Next()
	if err != nil {
		return f, err
	}
	t.n++
	if t.rest == nil {
		t.kept = append(t.kept, walPage{f.Pgno, bytes.Clone(r.Page())})
		t.bytes += len(r.Page())
	}
	return f, nil
}

// each calls f with each page up to the commit, which r has read. It fails with
// errWALGone, after some of them, if the WAL does not have any more what r has read.
func (t *walTransaction) each(r *spool.WALReader, f func(pgno uint32, b []byte) error) error {
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

// readFrames applies the frames up to the last commit, at most framesMax of the WAL, and
// returns how many: not those that are in the mirror already, by themselves or by their
// copy (see applyCopied). That framesMax frames are committed the caller knows, unless it is
// allFrames. A chain that breaks is no error: s.wal.applied says how far it went. It fails with
// errWALBack if what is in the mirror does not stand in the WAL any more. After an
// error the next call reads again what was read and is not in the mirror.
func (s *session) readFrames(framesMax int) (frames int, err error) {
	t := walTransaction{keep: s.r.o.keptBytes}
	defer func() {
		if err != nil || t.n > 0 {
			err = errors.Join(err, s.rereadFrames())
		}
	}()
	w := &s.wal
	if n := s.walConsumed(w.salts); n > w.applied {
		w.applied, w.sum = n, s.st.WALConsumedSum.Load()
	}
	w.ours = s.st.WALSalts.Load() == w.salts
	before := w.applied
	if w.reader != nil {
		if stands, err := w.reader.Stands(); err != nil || !stands {
			return 0, cmp.Or(wrap(err, "read WAL"), w.back())
		}
	}
	switch {
	case w.reader == nil:
	case framesMax == allFrames: // a wal-index on the heap counts what its owner has published
		w.reader.Committed = s.walPublished(w.salts)
	default:
		w.reader.Committed = framesMax
	}
	for w.reader != nil && w.reader.Frames() < framesMax {
		f, err := t.next(w.reader)
		if err == io.EOF {
			break
		} else if err != nil {
			return w.applied - before, fmt.Errorf("read WAL: %w", err)
		}
		if s.died("frame") {
			return w.applied - before, errDied
		}
		if w.reader.Frames() == w.applied && w.sum != 0 && w.sum != w.reader.Sum() {
			return 0, w.back()
		}
		if w.reader.Frames() <= w.applied {
			t = walTransaction{keep: t.keep} // only for the checksum
			continue
		}
		if f.Commit == 0 {
			continue
		}
		if w.reader.Unsummed > 0 && !w.stands() {
			return w.applied - before, errWALGone
		}
		size := int64(f.Commit) * int64(w.reader.PageBytes)
		if err := s.applyFrames(&t, size); err != nil {
			return w.applied - before, fmt.Errorf("apply WAL: %w", err)
		}
		t = walTransaction{keep: t.keep}
		w.applied, w.sum, w.size = w.reader.Frames(), w.reader.Sum(), size
	}
	if w.reader != nil && w.reader.Frames() < w.applied {
		return 0, w.back()
	}
	return w.applied - before, nil
}

// back is the error where frames that are in the mirror are not in the WAL: errWALBack, unless it is
// being reset.
func (w *following) back() error {
	if w.stands() {
		return errWALBack
	}
	return errWALGone
}

// applyFrames applies a transaction after which the database has size bytes. If it fails after
// it has begun, the mirror has a part of it, and is of no generation.
func (s *session) applyFrames(t *walTransaction, size int64) error {
	if !s.keepTail && !s.walFits(size, s.wal.reader.Frames()) {
		s.st.MirrorGeneration.Store(spool.NoMirror) // a base copy tells
		return fmt.Errorf("%w: a commit to its WAL says that it has %d bytes", errAgain, size)
	}
	err := s.writeFrames(t, size)
	if err == nil && s.wal.reader.Unsummed > 0 && t.rest != nil && !s.wal.stands() {
		err = errWALGone
	}
	if err != nil && !errors.Is(err, errDied) {
		s.st.MirrorGeneration.Store(spool.NoMirror)
	}
	return err
}

// writeFrames writes a transaction's pages to the mirror, and cuts it to size.
//
// The file itself is cut only at a checkpoint, and SQLite does not write a page that
// it takes and frees in one transaction: if the database shrinks and grows again,
// such a page holds what it held before, or zeros if there was a checkpoint in
// between. Only the file can tell.
func (s *session) writeFrames(t *walTransaction, size int64) error {
	old, pageBytes := s.mirror.Size(), int64(s.wal.reader.PageBytes)
	s.walHigh = max(s.walHigh, old)
	gap := (min(size, s.walHigh) - old + pageBytes - 1) / pageBytes // pages that were cut off, and come again
	missing := gap > 0 && !s.keepTail
	var met []bool
	if missing && gap <= int64(t.n) { // else there are not enough frames for them
		met = make([]bool, gap)
	}
	err := t.each(s.wal.reader, func(pgno uint32, b []byte) error {
		off := int64(pgno-1) * pageBytes
		if k := (off - old) / pageBytes; off >= old && k < int64(len(met)) && !met[k] {
			met[k] = true
			gap--
		}
		if s.died("page") {
			return errDied
		}
		if !s.walFits(off+pageBytes, s.wal.reader.Frames()) {
			return nil // SQLite does not look at what is beyond the end
		}
		_, err := s.mirror.WriteAt(b, off)
		return err
	})
	if err != nil || s.keepTail {
		return err
	}
	if missing && gap > 0 {
		s.st.Raise(spool.CauseWAL)
	}
	return s.mirror.Truncate(size)
}

// walFits reports whether a database that ends there can be what so many frames of the WAL
// make of the file: see [spool.WALSizeMax].
func (s *session) walFits(end int64, frames int) bool {
	pageBytes := s.wal.reader.PageBytes
	if end <= spool.WALSizeMax(s.wal.base, frames, pageBytes) {
		return true
	}
	now, err := spool.StampOf(s.sp.Path())
	return err == nil && end <= spool.WALSizeMax(now.Bytes, frames, pageBytes)
}

// rereadFrames goes back to the frame after the last commit: the transaction that
// follows may be rolled back, and other frames stand there then.
func (s *session) rereadFrames() error {
	was := s.wal
	if err := s.openWAL(); err != nil {
		return err
	}
	if s.wal.salts != was.salts {
		return nil // the next look sees it
	}
	s.wal.goOn(was)
	return nil
}

// walStamp tells whether a WAL, or the database under it, was changed by somebody
// whose reset nobody recorded.
type walStamp struct {
	salts  uint64 // in the file; 0: no WAL
	frames int    // that are committed, or allFrames
	known  uint64 // salts in the state
	db     spool.Stamp
}

func (s *session) stampWAL() (st walStamp, err error) {
	st.known = s.st.WALSalts.Load()
	if st.frames, err = s.openCommitted(); err != nil {
		return st, err
	}
	st.salts = s.wal.salts
	st.db, err = spool.StampOf(s.sp.Path())
	return st, wrap(err, "look at database")
}

// beginWAL begins a base copy of a database in WAL mode: from now on, every frame
// is copied into the log before it is lost.
func (c *copying) beginWAL(ctx context.Context) (err error) {
	start, wait := c.now(), settleFirst
	for {
		c.setConsumed(walPosition(c.st.WALSalts.Load(), 0), 0)
		old, sequence := c.st.DBStamp.Load(), c.st.Sequence.Load()
		if c.stamp, err = c.stampWAL(); err != nil {
			return err
		}
		c.before = c.stamp.db
		c.aged = c.before.Age(c.now()) > c.before.Grain()
		busy := c.st.Sequence.Load() != sequence || c.now().Sub(start) > 2*c.before.Grain() || c.r.verifying.Load() > 0
		if c.aged || busy {
			if c.st.Checkpointing.Load() == 0 { // else who does it will leave another
				c.st.DBStamp.CompareAndSwap(old, c.before.Sum())
			}
			return nil
		}
		if err := c.pause(ctx, start, &wait, waitTimes); err != nil {
			return err
		}
	}
}

// settleWAL ends a base copy of a database in WAL mode: what was published
// meanwhile is applied, and then every frame of the WAL.
func (c *copying) settleWAL(ctx context.Context) error {
	sequence, salts := c.st.Sequence.Load(), c.st.WALSalts.Load()
	published := c.st.WALPublished.Load()
	head := c.st.Head()
	if _, err := c.apply(ctx, head); err != nil {
		return err
	}
	now, err := c.stampWAL()
	if err != nil {
		return err
	}
	// Frames come and go with our knowledge, or not at all.
	same := now.salts == c.stamp.salts && (now.salts != 0 || now.db == c.stamp.db)
	if salts != now.known || !(salts != 0 && now.salts == salts) && !same {
		return fmt.Errorf("%w: its WAL was reset", errAgain)
	}
	c.keepTail = true
	_, err = c.readFrames(now.frames)
	c.keepTail = false
	if err != nil {
		return err
	}
	c.wentBack(c.wal.applied)
	if now.frames != allFrames && c.wal.applied < now.frames || c.wal.applied < c.walPublished(c.wal.salts) {
		return errWALGone
	}
	size, err := c.src.Size()
	if err != nil {
		return fmt.Errorf("look at database: %w", err)
	}
	if c.wal.applied > 0 && !c.walFits(c.wal.size, c.wal.applied) {
		return fmt.Errorf("%w: its last commit says that the database has %d bytes: more than there are in it and the file; "+
			"SQLite refuses to checkpoint it (recover what there is with .recover of the sqlite3 shell)", errImpossibleWAL, c.wal.size)
	}
	fileBytes := size
	if c.wal.applied > 0 {
		size = c.wal.size
	}
	if c.wal.applied > 0 || head == c.head {
		if err := c.mirror.Truncate(size); err != nil {
			return err
		}
	}
	if err := c.mustBeOurs(size); err != nil {
		return err
	}
	// A WAL whose salts a recorder has published is in use, whatever the header says:
	// SQLite opens the one that it finds (pager.c, pagerOpenWalIfPresent).
	used := salts != 0 && now.salts == salts
	if !used && !sqlitefile.ReadHeader(c.mirror).WAL() || c.st.WALSalts.Load() != salts {
		return fmt.Errorf("%w: its journal mode", errAgain)
	}
	switch {
	case used:
		c.setConsumed(walPosition(salts, c.wal.applied), c.wal.sum)
	case salts != 0 && published>>32 == walSalt(salts):
		c.setConsumed(published, 0) // somebody else has reset it: the file has them
	}
	c.walHigh = max(fileBytes, c.mirror.Size())
	c.settled(now.db)
	c.st.MirrorSequence.Store(max(sequence, c.st.MirrorSequence.Load()))
	return nil
}

// mustBeOurs fails with errAgain unless only checkpoints have written to the file during the copy: those of
// recorders, who have left its stamp in the state page, or write now; or somebody else's, if all that is in the
// mirror stands in the file, or in the WAL over it, at a second look.
func (c *copying) mustBeOurs(size int64) error {
	same, _, err := c.asLeft()
	if err == nil && same || errors.Is(err, errMoving) {
		return nil
	} else if err != nil {
		return err
	}
	old := c.st.DBStamp.Load()
	look, err := spool.StampOf(c.sp.Path())
	if err != nil {
		return fmt.Errorf("look at database: %w", err)
	}
	var db io.ReaderAt = c.src
	if c.wal.applied > 0 {
		view, err := spool.NewWALView(c.wal.file, c.wal.applied)
		if err != nil {
			return fmt.Errorf("%w: %w", errWALGone, err)
		}
		db = underWAL{c.src, c.wal.file, view}
	}
	if err := c.mustEqual(db, size); err != nil {
		return fmt.Errorf("%w: by another program: %w", errAgain, err)
	}
	if c.wal.applied > 0 && !c.wal.stands() {
		return errWALGone
	}
	c.st.DBStamp.CompareAndSwap(old, look.Sum())
	return nil
}

// suspectWAL is suspect for a database in WAL mode: it takes commits that nobody
// published, and raises the generation if the WAL, or the file under it, is not the one that we follow.
//
// Frames may be read only when the log is applied up to a head that was read after
// their salts: it may have frames of the WAL before, which must not come later.
func (s *session) suspectWAL() error {
	known, was := s.st.WALSalts.Load(), s.wal
	now, err := s.stampWAL()
	if err != nil {
		return err
	}
	if s.st.Head() != s.st.Tail() || s.st.WALSalts.Load() != known {
		return errMoving
	}
	ok, sure, err := s.asLeft()
	if err != nil {
		return err
	}
	switch {
	case now.salts != 0 && now.salts == was.salts:
		s.wal.goOn(was)
	case now.salts != 0 || known != 0 && uint32(s.st.WALPublished.Load()) > 0:
		ok = ok && now.salts == known
	default: // a recorder has told us of the end of the one that we followed, or we followed none
		ok = ok && (was.salts == 0 || was.ours)
	}
	if s.st.WALSalts.Load() != known {
		return errMoving
	}
	if !ok || !sure {
		s.believe(ok, sure)
		return nil
	}
	frames, err := s.readFrames(now.frames)
	if errors.Is(err, errWALBack) {
		s.st.Raise(spool.CauseForeign)
		return nil
	} else if err != nil {
		return err
	}
	if now.frames != allFrames && s.wal.applied < now.frames && s.st.WALSalts.Load() == known {
		s.st.Raise(spool.CauseForeign)
		return nil
	}
	if frames == 0 {
		return nil
	}
	// A new generation, so that a flush waits for it; the mirror is of it already,
	// unless somebody else has raised it meanwhile.
	if g := s.st.Generation.Load(); s.current() {
		s.st.Raise(spool.CauseForeign)
		s.st.MirrorGeneration.CompareAndSwap(g, g+1)
	}
	return nil
}
