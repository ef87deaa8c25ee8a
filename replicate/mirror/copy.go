package mirror

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"verneuil/spool"
	"verneuil/spool/sqlitefile"
)

const (
	// applyEvery is how much is copied before the log is applied and freed again, so that it does
	// not outgrow its allowance. Records may be applied at any time during the copy: what is
	// copied later is newer, and is in the log as well.
	applyEvery = 16 << 20
	// holeMost is how much of a hole is taken at a time.
	holeMost = 1 << 30

	// tick is the pause between two looks at a file whose last change was so recent that another
	// one might leave the same times.
	tick = 20 * time.Millisecond

	// looks bounds how often a piece of the file is read again while it changes.
	looks = 4

	// The pauses while somebody is in the way grow from pauseFirst to pauseMost.
	pauseFirst = time.Millisecond
	pauseMost  = 50 * time.Millisecond
	// heldFor is how long a program without a recorder may hold EXCLUSIVE before a base copy gives
	// up, and a flush fails: some do for hours (locking_mode=EXCLUSIVE).
	heldFor = 5 * time.Second
)

// baseCopy makes the mirror the database, as doc.go describes. Only what differs is written and
// marked.
//
// When does a copy count? Recorded transactions are in the log from h0 on, or have raised the
// generation. Writers without a recorder must be excluded. They cannot avoid two things: they hold
// EXCLUSIVE from the first write to the last one, also of a rollback; and the file's stamp is
// another one afterwards.
//
//   - The copy begins at an instant at which the file is a committed state (see still), or a
//     recorder is in the middle of a transaction. What the file is like then stands in the state
//     page (see anchor), or the recorder will leave it there.
//   - Each recorder compares the file's stamp with that before it first writes, raises the
//     generation if it is another one, and leaves its own.
//   - The copy ends at an instant at which the file is a committed state again, and its stamp is
//     the one in the state page. If transactions follow each other too closely for that to be
//     seen, two publications after the copy's end are as good: the second transaction began after
//     it, so that nothing of what followed can be in the copy. (Three by count: sequence is stored
//     after head.)
//
// Otherwise it is repeated, with pauses that grow to 5 s. If it never succeeds, as somebody
// without a recorder writes all the time, or holds EXCLUSIVE, a flush fails and says so.
//
// alone says that nobody writes meanwhile: the caller makes sure of that.
func baseCopy(ctx context.Context, t *Tracker, alone bool) error {
	src, err := t.o.OpenSource()
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	defer src.Close()
	if replaced, err := t.sp.Replaced(); err != nil || replaced {
		return errors.Join(err, errReplaced) // the log is another file's
	}
	defer func(was Phase) { t.phase = was }(t.phase)
	c := &copying{Tracker: t, src: src, alone: alone}
	c.enter(Copying)
	if t.o.Ahead != nil {
		c.ahead = t.o.Ahead()
		defer c.ahead.End()
	}
	if err := c.run(ctx); err != nil {
		return err
	}
	t.st.MirrorGeneration.Store(c.generation)
	t.o.Log.Info("database copied",
		"bytes", t.mirror.Size(), "generation", c.generation, "cause", t.st.Cause())
	return nil
}

// copying is a base copy in progress.
type copying struct {
	*Tracker
	src     Source
	alone   bool     // nobody writes meanwhile
	ahead   Taker    // nil: nobody takes the pieces
	putting bool     // the last piece was taken by a target, which puts it
	inWAL   bool     // the database is in WAL mode
	stamp   walStamp // of its WAL when the copy began

	generation uint64
	head       spool.Position // h0
	before     spool.Stamp    // as noted when the copy began; zero: a recorder was in the way
	aged       bool           // a write since then cannot have left the same stamp
	end        uint64         // sequence when the last byte was copied
	heldBy     int            // the process without a recorder that was last seen to hold EXCLUSIVE
}

// enter notes what the copy is about, and tells of it.
func (c *copying) enter(p Phase) {
	c.phase = p
	c.o.Entered(p)
}

func (c *copying) run(ctx context.Context) error {
	if err := c.begin(ctx); err != nil {
		return err
	}
	c.enter(Copying)
	if err := c.copy(ctx); err != nil {
		return fmt.Errorf("copy database: %w", err)
	}
	if err := c.fault("copied"); err != nil {
		return err
	}
	finish := c.finish
	if c.inWAL {
		finish = c.finishWAL
	}
	if err := finish(ctx); err != nil {
		return err
	}
	if c.st.Generation.Load() != c.generation {
		return fmt.Errorf("%w: %v", errAgain, c.st.Cause())
	}
	return c.o.Prove()
}

func (c *copying) begin(ctx context.Context) error {
	c.st.MirrorGeneration.Store(spool.NoMirror)
	// Before the mirror changes in a way that no record tells of.
	c.st.Continuity.Store(newContinuity())
	c.generation = c.st.Generation.Load()
	c.head = c.st.Head()
	c.log.free(c.head)
	switch {
	case c.stable():
		return c.note()
	case c.alone:
		return nil // a recorder's, which has left its stamp
	}
	var err error
	if c.inWAL, err = c.hasWAL(); err != nil {
		return err
	} else if c.inWAL {
		return c.beginWAL(ctx)
	}
	return c.anchor(ctx)
}

// anchor waits for an instant at which the file is a committed state, and notes what it is like
// then. It does not wait where recorders will have noted as much.
func (c *copying) anchor(ctx context.Context) error {
	start, wait, sequence := c.now(), pauseFirst, c.st.Sequence.Load()
	for {
		if spool.Token(c.st.Writing.Load()).Alive() || c.st.Sequence.Load() >= sequence+2 {
			return nil // who writes has looked, and nobody else can
		}
		old := c.st.DBStamp.Load()
		before, err := spool.StampOf(c.sp.Path())
		if err != nil {
			return fmt.Errorf("look at database: %w", err)
		}
		c.aged = before.Age(c.now()) > before.Grain()
		calm, err := c.unchanged(before)
		young := !c.aged && c.st.Head() == c.head && c.now().Sub(start) < before.Grain()+heldFor
		phase := AwaitingTransaction
		switch {
		case err != nil:
			return err
		case calm && young:
			phase, wait = AwaitingTimes, tick // a busy recorder's looks are as good as times
		case calm && c.st.DBStamp.CompareAndSwap(old, before.Sum()):
			c.before = before
			return nil
		} // else somebody writes, or a recorder has just left another stamp
		if err := c.pause(ctx, start, &wait, phase); err != nil {
			return err
		}
	}
}

// pause waits a little for whoever is in the way. It fails if they may be in the way for ever.
func (c *copying) pause(
	ctx context.Context, start time.Time, wait *time.Duration, phase Phase,
) error {
	switch {
	case c.endless():
		return ErrLeaving
	case c.o.Checking():
		return errYield // who waits for us may hold the lock that we wait for
	}
	if c.heldBy != 0 && c.now().Sub(start) >= heldFor {
		return fmt.Errorf("%w (process %d)", ErrHeld, c.heldBy)
	}
	if dead, err := c.deadWriter(); err != nil {
		return err
	} else if dead == hotLeft {
		return ErrHot
	}
	c.enter(phase)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-c.o.After(*wait):
	}
	*wait = min(2**wait, pauseMost)
	return nil
}

// copy copies the file in pieces.
func (c *copying) copy(ctx context.Context) error {
	size, err := c.src.Size()
	if err != nil {
		return err
	}
	if c.mirror.Size() > size {
		if err := c.mirror.Truncate(size); err != nil {
			return err
		}
	}
	for off, applied := int64(0), int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := c.copyHole(off, size)
		if err == nil && n == 0 {
			n = PieceBytes
			err = c.copyPiece(ctx, off, min(PieceBytes, size-off))
		}
		if err != nil {
			return err
		}
		off += n
		phase := "copy"
		if c.putting {
			phase = "copy and push"
		}
		c.o.Progress(phase, min(off, size), size)
		if off-applied >= applyEvery && !c.alone {
			applied = off
			if err := c.log.apply(ctx, c.st.Head()); err != nil {
				return err
			}
			if c.st.Generation.Load() != c.generation {
				return errAgain
			}
			if err := c.fault("copy"); err != nil {
				return err
			}
		}
	}
	c.end = c.st.Sequence.Load()
	return nil
}

// copyHole copies the hole before the file's next data, in whole pieces, and returns its length.
// (To read 100 GiB of hole takes a minute, and as much page cache.)
func (c *copying) copyHole(off, size int64) (n int64, err error) {
	src, ok := c.src.(holed)
	if !ok {
		return 0, nil
	}
	data, err := src.NextData(off)
	if err != nil || data < min(off+PieceBytes, size) {
		return 0, err
	}
	now, err := c.src.Size() // beyond it there is no hole, but nothing
	if err != nil {
		return 0, err
	}
	end := min(data, size, now, off+holeMost)
	if end < size {
		end -= end % PieceBytes
	}
	if end <= off {
		return 0, nil
	}
	return end - off, c.mirror.Zero(off, end-off)
}

// copyPiece copies most bytes at off, or as many as there are.
func (c *copying) copyPiece(ctx context.Context, off, most int64) error {
	p := newPiece()
	defer p.Release()
	n, err := c.readTwice(p.buf[:most], off)
	if err != nil {
		return err
	}
	if _, err := c.mirror.WriteAt(p.buf[:n], off); err != nil {
		return err
	}
	c.putting = c.ahead != nil && c.ahead.Take(ctx, p, off, n)
	return nil
}

// readTwice is readFull, with a second look. Somebody without a recorder may spill pages and roll
// them back between two transactions of ours, all in one tick of the clock: that leaves the stamp
// of the first of them. If we read in between, nobody has EXCLUSIVE before and after, but the bytes
// are others. (What a busy recorder writes meanwhile is in the log.)
func (c *copying) readTwice(b []byte, off int64) (n int, err error) {
	if n, err = readFull(c.src, b, off); err != nil || c.alone || c.inWAL {
		return n, err
	}
	again := newPiece()
	defer again.Release()
	foreign := 0
	for range looks {
		ours := c.st.Writing.Load() != 0
		writer, err := c.src.Exclusive()
		if err != nil {
			return n, fmt.Errorf("look at locks: %w", err)
		}
		if foreign = writer; ours || c.st.Writing.Load() != 0 || c.held(writer) {
			foreign = 0
		}
		k, err := readFull(c.src, again.buf[:len(b)], off)
		if err != nil || foreign == 0 && k == n && bytes.Equal(again.buf[:k], b[:n]) {
			return n, err
		}
		n = copy(b, again.buf[:k])
	}
	if foreign != 0 {
		err = fmt.Errorf("%w: by another program (process %d)", errAgain, foreign)
	}
	return n, err
}

// readFull reads as much of b as there is: the file may have become shorter.
func readFull(r io.ReaderAt, b []byte, off int64) (n int, err error) {
	n, err = r.ReadAt(b, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// finish waits until the copy counts, and applies what was published meanwhile.
func (c *copying) finish(ctx context.Context) error {
	start, wait := c.now(), pauseFirst
	for {
		head := c.st.Head()
		if err := c.log.apply(ctx, head); err != nil {
			return err
		}
		sequence := c.st.Sequence.Load()
		switch {
		case c.st.Generation.Load() != c.generation:
			return fmt.Errorf("%w: %v", errAgain, c.st.Cause())
		case c.alone:
			return c.accept(head, sequence)
		case c.o.Checking():
			return errYield // as in pause
		case head != c.head && c.st.MirrorSequence.Load() >= c.end+3:
			return nil
		}
		quiet, err := c.quiet()
		if c.st.Head() == head && c.st.Writing.Load() == 0 { // else what quiet saw is in motion
			if err != nil {
				return err
			} else if quiet {
				return c.accept(head, sequence)
			}
		}
		if err := c.pause(ctx, start, &wait, AwaitingTransaction); err != nil {
			return err
		}
	}
}

// endless reports whether a transaction is open that will not end any more: one of this process,
// which ends.
func (c *copying) endless() bool {
	if !c.o.Leaving() {
		return false
	}
	if self, err := spool.Self(); err == nil && spool.Token(c.st.Writing.Load()) == self {
		return true
	}
	writer, err := c.src.Exclusive()
	return err == nil && writer == os.Getpid() && !c.held(writer)
}

// held reports whether the process that has EXCLUSIVE has a recorder, and keeps the lock between
// transactions, as under locking EXCLUSIVE. (In a transaction it would say that it is writing.)
func (c *copying) held(writer int) bool {
	holder := spool.Token(c.st.Holder.Load())
	if writer == -1 { // it has no number here; but as it holds the lock, nobody else does
		return holder != 0
	}
	return writer == holder.PID() && holder.Alive()
}

// still reports whether no transaction is in progress of which the file may hold a half. It fails
// with ErrHot if the file holds half a transaction of a process that has died. Nobody writes
// without EXCLUSIVE; and whoever gets RESERVED has made sure before that no journal is hot.
func (c *copying) still() (bool, error) {
	c.heldBy = 0
	if c.st.Writing.Load() != 0 {
		return false, nil
	}
	writer, err := c.src.Exclusive()
	if err != nil {
		return false, fmt.Errorf("look at locks: %w", err)
	}
	if writer != 0 && !c.held(writer) {
		c.heldBy = writer
		return false, nil
	}
	if writer != 0 { // it may be about to roll back a hot journal
		j, err := readJournal(c.sp.Path())
		return err == nil && j == nil, err
	}
	hot, err := hotJournal(c.sp.Path(), c.src)
	if err == nil && hot {
		err = ErrHot
	}
	return err == nil, err
}

// quiet reports whether nobody is writing. It fails with errAgain if somebody wrote without a
// recorder. The answer counts if nothing is published, and writing stays 0, until after it.
func (c *copying) quiet() (bool, error) {
	now, err := spool.StampOf(c.sp.Path())
	if err != nil {
		return false, fmt.Errorf("look at database: %w", err)
	}
	if calm, err := c.unchanged(now); err != nil || !calm {
		return false, err
	}
	if now.Sum() != c.st.DBStamp.Load() {
		return false, fmt.Errorf("%w: by another program", errAgain)
	}
	c.noteSettled(now)
	return true, nil
}

// unchanged is still, and that the file did not change while it looked: it had that stamp before.
func (c *copying) unchanged(before spool.Stamp) (bool, error) {
	if calm, err := c.still(); err != nil || !calm {
		return false, err
	}
	after, err := spool.StampOf(c.sp.Path())
	if err != nil {
		return false, fmt.Errorf("look at database: %w", err)
	}
	return after == before, nil
}

// noteSettled notes that the file was compared when it had these times, so long after its last
// change that another one would have left other times.
func (c *copying) noteSettled(now spool.Stamp) {
	if c.aged && now == c.before {
		c.st.StampSettled.Store(now.Sum())
	}
}

// accept makes the mirror as long as the database; everything up to head is in it.
func (c *copying) accept(head spool.Position, sequence uint64) error {
	size, err := c.src.Size()
	if err != nil {
		return fmt.Errorf("look at database: %w", err)
	}
	if c.alone || head == c.head {
		if err := c.mirror.Truncate(size); err != nil {
			return err
		}
	} else if size != c.mirror.Size() && c.st.Head() == head && c.st.Writing.Load() == 0 {
		return fmt.Errorf("%w: its length is %d, and %d in the log",
			errAgain, size, c.mirror.Size())
	}
	c.st.MirrorSequence.Store(sequence)
	h := sqlitefile.ReadHeader(c.mirror)
	if h.WAL() {
		return nil
	}
	// What nobody has noted yet is now known: the next recorder compares with it, so
	// that a writer without one in between is found out. If a recorder notes it first,
	// that stands (spool I2).
	c.st.DBVersion.CompareAndSwap(0, spool.DatabaseVersion(h.ChangeCounter()))
	c.st.DBSize.CompareAndSwap(-1, size)
	return nil
}

// newContinuity names what lies between two base copies. It is not 0.
func newContinuity() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:]) | 1
}
