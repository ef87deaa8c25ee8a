package replicate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"verneuil/spool"
)

const (
	copyPiece = 256 << 10
	// applyEvery is how much is copied before the log is applied and freed again,
	// lest it outgrow its allowance: records may be applied at any time during the
	// copy, as what is copied later is newer, and in the log as well.
	applyEvery = 16 << 20
	// holeMost is how much of a hole is taken at a time.
	holeMost = 1 << 30

	// tick is longer than the kernel's, which is what files' times are counted in.
	tick      = 20 * time.Millisecond
	tickTries = 50

	settleFirst = time.Millisecond
	settleMost  = 50 * time.Millisecond
	// reservedFor is how long somebody may hold RESERVED of whom no recorder says that
	// he does, before a base copy ends without seeing it free: locking_mode=EXCLUSIVE
	// holds it for hours.
	reservedFor = 5 * time.Second
)

// baseCopy makes the mirror the database, as doc.go of package spool describes.
// Only what differs is written and marked.
//
// When does a copy count? Recorded transactions are in the log from h0 on, or have
// raised the generation; what must be excluded are writers without a recorder.
//
//   - Nothing was published since the copy began: the file's times and length must
//     be what they were before it. Then nobody has written at all.
//   - Something was published: each recorder compares the database's version with
//     the one that the last recorder left, so a foreign commit raises the generation
//     at the next recorded transaction; after the last one, we compare. That
//     takes a known version when the copy begins, so if there was none, the
//     copy is repeated: there is one now.
//   - No transaction may be in progress at the end: writing is 0, and RESERVED is
//     free, and there is no hot journal. If transactions follow each other too
//     closely for that to be seen, two publications after the copy's end
//     are as good: the second transaction began after it, so that nothing of what
//     followed can be in the copy. (Three by count: sequence is stored after head.) If RESERVED stays held, or a
//     recorder has it between two transactions, a journal that is not live is enough, together with the version.
//
// What is left: a writer without a recorder that has spilled pages and rolls them
// back, or writes without a journal (MEMORY, OFF) while it holds RESERVED for
// longer than reservedFor, during a base copy.
//
// stable says that nobody writes, as the caller sees to that.
func (s *session) baseCopy(ctx context.Context, stable bool) error {
	src, err := s.r.o.OpenSource()
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	defer src.Close()
	if replaced, err := s.sp.Replaced(); err != nil || replaced {
		return errors.Join(err, errLost) // the log is another file's
	}
	c := &copying{session: s, src: src, stable: stable}
	if s.r.o.stable {
		c.ahead = s.startAhead()
	}
	defer c.ahead.end()
	if err := c.begin(ctx); err != nil {
		return err
	}
	if err := c.copy(ctx); err != nil {
		return fmt.Errorf("copy database: %w", err)
	}
	if s.died("copied") {
		return errDied
	}
	settle := c.settle
	if c.inWAL {
		settle = c.settleWAL
	}
	if err := settle(ctx); err != nil {
		return err
	}
	if s.st.Generation.Load() != c.generation {
		return fmt.Errorf("%w: %v", errAgain, s.st.Cause())
	}
	s.st.MirrorGeneration.Store(c.generation)
	s.log().Info("database copied", "bytes", s.mirror.Size(), "generation", c.generation, "cause", s.st.Cause())
	return nil
}

// copying is a base copy in progress.
type copying struct {
	*session
	src    Source
	stable bool
	ahead  *ahead   // nil: nothing is put ahead
	inWAL  bool     // the database is in WAL mode
	stamp  walStamp // of its WAL when the copy began

	generation uint64
	head       spool.Position // h0
	known      bool           // the database's version was known at h0
	clean      bool           // nobody was writing when the copy began
	before     fileTimes
	end        uint64 // sequence when the last byte was copied
}

// fileTimes tell whether a file was written. They are read by name.
type fileTimes struct {
	Dev          uint64 `json:"dev"`
	Ino          uint64 `json:"ino"`
	Bytes        int64  `json:"bytes"`
	Mtime, Ctime int64  // ns
}

func timesOf(path string) (fileTimes, error) {
	st, err := os.Stat(path)
	if err != nil {
		return fileTimes{}, err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return fileTimes{}, fmt.Errorf("stat %s: no times", path)
	}
	return fileTimes{uint64(sys.Dev), sys.Ino, sys.Size, sys.Mtim.Nano(), sys.Ctim.Nano()}, nil
}

func (c *copying) begin(ctx context.Context) error {
	c.st.MirrorGeneration.Store(spool.NoMirror)
	c.st.Continuity.Store(newContinuity()) // before the mirror changes in a way that no record tells of
	c.generation = c.st.Generation.Load()
	c.known = c.st.DBVersion.Load() != 0
	c.head = c.st.Head()
	c.freeLog(c.head)
	if c.stable {
		return nil
	}
	if c.inWAL = c.st.WALSalts.Load() != 0 || headerOf(c.src).wal(); c.inWAL {
		return c.beginWAL()
	}
	hot, free, err := hotJournal(c.sp.Path(), c.src)
	if err != nil {
		return err
	} else if hot {
		return errHot
	}
	if c.before, err = timesOf(c.sp.Path()); err != nil {
		return fmt.Errorf("look at database: %w", err)
	}
	// A write within the tick of the clock that the last one was in would not show.
	// (Times in the future, after the clock was set, tell as much as they can.)
	for try := 0; try < tickTries && c.now().UnixNano()-max(c.before.Mtime, c.before.Ctime) < int64(tick); try++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.r.o.clock.after(tick):
		}
		if c.before, err = timesOf(c.sp.Path()); err != nil {
			return fmt.Errorf("look at database: %w", err)
		}
		if c.st.Head() != c.head {
			break // a busy writer: the times will not be asked for
		}
	}
	if c.endless() {
		return errLeaving
	}
	if free {
		writer, err := c.src.Reserved()
		if err != nil {
			return fmt.Errorf("look at locks: %w", err)
		}
		c.clean = writer == 0 && c.st.Writing.Load() == 0
	}
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
			n = copyPiece
			err = c.copyPiece(ctx, off, min(copyPiece, size-off))
		}
		if err != nil {
			return err
		}
		off += n
		c.r.o.Progress("copy", min(off, size), size)
		if off-applied >= applyEvery && !c.stable {
			applied = off
			if _, err := c.apply(ctx, c.st.Head()); err != nil {
				return err
			}
			if c.st.Generation.Load() != c.generation {
				return errAgain
			}
			if c.died("copy") {
				return errDied
			}
		}
	}
	c.end = c.st.Sequence.Load()
	return nil
}

// copyHole copies what lies before the file's next data, in whole pieces, and returns
// how much that is: reading 100 GiB of hole takes a minute, and as much page cache.
func (c *copying) copyHole(off, size int64) (n int64, err error) {
	src, ok := c.src.(holed)
	if !ok {
		return 0, nil
	}
	data, err := src.NextData(off)
	if err != nil || data < min(off+copyPiece, size) {
		return 0, err
	}
	now, err := c.src.Size() // beyond it there is no hole, but nothing
	if err != nil {
		return 0, err
	}
	end := min(data, size, now, off+holeMost)
	if end < size {
		end -= end % copyPiece
	}
	if end <= off {
		return 0, nil
	}
	return end - off, c.mirror.Zero(off, end-off)
}

// copyPiece copies bytes at off, or as many as there are.
func (c *copying) copyPiece(ctx context.Context, off, bytes int64) error {
	p := newPiece()
	defer p.release()
	n, err := readFull(c.src, p.buf[:bytes], off)
	if err != nil {
		return err
	}
	if _, err := c.mirror.WriteAt(p.buf[:n], off); err != nil {
		return err
	}
	c.ahead.take(ctx, p, off, n)
	return nil
}

// readFull reads as much of b as there is: the file may have become shorter.
func readFull(r io.ReaderAt, b []byte, off int64) (n int, err error) {
	n, err = r.ReadAt(b, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// settle waits until the copy counts, and applies what was published meanwhile.
func (c *copying) settle(ctx context.Context) error {
	start, wait := c.now(), settleFirst
	for {
		head := c.st.Head()
		if _, err := c.apply(ctx, head); err != nil {
			return err
		}
		sequence := c.st.Sequence.Load()
		switch {
		case c.st.Generation.Load() != c.generation:
			return fmt.Errorf("%w: %v", errAgain, c.st.Cause())
		case c.stable:
			return c.accept(head, sequence)
		case c.r.verifying.Load() > 0:
			return errYield // who waits for us may hold the lock that we wait for
		case head != c.head && !c.known:
			return fmt.Errorf("%w: now its version is known", errAgain)
		case head != c.head && c.st.MirrorSequence.Load() >= c.end+3:
			return nil
		}
		err := c.quiet(head, c.held() || c.now().Sub(start) >= reservedFor)
		if c.st.Head() == head && c.st.Writing.Load() == 0 { // else what quiet saw is in motion
			if err == nil {
				return c.accept(head, sequence)
			} else if !errors.Is(err, errBusy) {
				return err
			}
		}
		if err := c.clearDeadWriter(); err != nil && !errors.Is(err, errBusy) {
			return err
		}
		if c.endless() {
			return errLeaving
		}
		c.r.setState("waiting for a transaction to end")
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.r.o.clock.after(wait):
		}
		wait = min(2*wait, settleMost)
	}
}

// endless reports whether there is a transaction that will not end any more: this process's,
// which is leaving.
func (c *copying) endless() bool {
	if !c.r.leaving.Load() {
		return false
	}
	if spool.Token(c.st.Writing.Load()).PID() == os.Getpid() {
		return true
	}
	writer, err := c.src.Reserved()
	return err == nil && writer == os.Getpid() && !c.held()
}

// held reports whether a recorder holds RESERVED that keeps it between transactions, as under
// locking EXCLUSIVE: of those it would say that it is writing.
func (c *copying) held() bool {
	holder := spool.Token(c.st.Holder.Load())
	if holder == 0 {
		return false
	}
	writer, err := c.src.Reserved()
	return err == nil && writer == holder.PID() && holder.Alive()
}

// quiet fails if somebody is writing (errBusy), or wrote without a recorder
// (errAgain). patient says that RESERVED may be held: it is a recorder's, or was for long. The answer counts
// if nothing is published, and writing stays 0, until after it.
func (c *copying) quiet(head spool.Position, patient bool) error {
	if c.st.Writing.Load() != 0 {
		return errBusy
	}
	hot, free, err := hotJournal(c.sp.Path(), c.src)
	switch {
	case err != nil:
		return err
	case hot:
		return errHot
	case !free && !patient:
		return errBusy
	}
	if !free {
		if j, err := readJournal(c.sp.Path()); err != nil || j != nil {
			return cmp.Or(err, errBusy)
		}
	}
	if free && head == c.head {
		after, err := timesOf(c.sp.Path())
		if err != nil {
			return fmt.Errorf("look at database: %w", err)
		}
		if !c.clean || after != c.before {
			return fmt.Errorf("%w: by another program, or by one in the middle of a transaction", errAgain)
		}
		return nil
	}
	h := headerOf(c.src)
	switch {
	case c.known && h.version() == c.st.DBVersion.Load():
		return nil
	case !free:
		return errBusy
	}
	return fmt.Errorf("%w: by another program", errAgain)
}

// accept makes the mirror as long as the database; everything up to head is in it.
func (c *copying) accept(head spool.Position, sequence uint64) error {
	size, err := c.src.Size()
	if err != nil {
		return fmt.Errorf("look at database: %w", err)
	}
	if c.stable || head == c.head {
		if err := c.mirror.Truncate(size); err != nil {
			return err
		}
	} else if size != c.mirror.Size() && c.st.Head() == head && c.st.Writing.Load() == 0 {
		return fmt.Errorf("%w: its length is %d, and %d in the log", errAgain, size, c.mirror.Size())
	}
	c.st.MirrorSequence.Store(sequence)
	h := headerOf(c.mirror)
	if h.wal() {
		return nil
	}
	// What nobody has noted yet is now known: the next recorder compares with it, so
	// that a writer without one in between is found out. If a recorder notes it first,
	// that stands (spool I2).
	c.st.DBVersion.CompareAndSwap(0, h.version())
	c.st.DBSize.CompareAndSwap(-1, size)
	return nil
}
