package mirror

import (
	"context"
	"fmt"
	"io"

	"verneuil/spool"
	"verneuil/spool/sqlitefile"
)

// hasWAL reports whether the database is in WAL mode, or is read through the WAL that lies beside
// it, whatever its header says. If neither, but a WAL is published, that is taken back: somebody
// without a recorder has taken the database out of WAL mode.
func (c *copying) hasWAL() (bool, error) {
	if sqlitefile.ReadHeader(c.src).WAL() {
		return true, nil
	}
	published, _ := c.st.WALEnd()
	lies, err := endOfWAL(c.sp.Path(), published, c.st.Undone())
	if err != nil || lies.Frames > 0 || lies.Salts != 0 && lies.Salts == published.Salts {
		return err == nil, err
	}
	if published.Frames == 0 {
		return false, nil
	}
	gone, err := c.publishLying(func(lies spool.WALEnd) bool { return lies.Frames == 0 })
	if err == nil && !gone {
		err = fmt.Errorf("%w: its journal mode", errAgain)
	}
	return false, err
}

// beginWAL begins a base copy of a database in WAL mode: from now on, every frame
// is copied into the log before it is lost.
func (c *copying) beginWAL(ctx context.Context) (err error) {
	start, wait := c.now(), pauseFirst
	for {
		c.wal.setConsumed(spool.WALPosition(c.st.WALSalts.Load(), 0), 0)
		old, sequence := c.st.DBStamp.Load(), c.st.Sequence.Load()
		if c.stamp, err = c.wal.stamp(ctx); err != nil {
			return err
		}
		c.before = c.stamp.db
		c.aged = c.before.Age(c.now()) > c.before.Grain()
		busy := c.st.Sequence.Load() != sequence || c.o.Checking() ||
			c.now().Sub(start) > 2*c.before.Grain()
		if c.aged || busy {
			if c.st.Checkpointing.Load() == 0 { // else who does it will leave another
				c.st.DBStamp.CompareAndSwap(old, c.before.Sum())
			}
			return nil
		}
		if err := c.pause(ctx, start, &wait, AwaitingTimes); err != nil {
			return err
		}
	}
}

// finishWAL ends a base copy of a database in WAL mode: what was published
// meanwhile is applied, and then every frame of the WAL.
func (c *copying) finishWAL(ctx context.Context) error {
	sequence, salts := c.st.Sequence.Load(), c.st.WALSalts.Load()
	published := c.st.WALPublished.Load()
	head := c.st.Head()
	if err := c.log.apply(ctx, head); err != nil {
		return err
	}
	now, err := c.wal.stamp(ctx)
	if err != nil {
		return err
	}
	// Frames come and go with our knowledge, or not at all.
	same := now.salts == c.stamp.salts && (now.salts != 0 || now.db == c.stamp.db)
	if salts != now.known || !(salts != 0 && now.salts == salts) && !same {
		return fmt.Errorf("%w: its WAL was reset", errAgain)
	}
	c.wal.keepTail = true
	_, err = c.wal.readFrames(now.frames)
	c.wal.keepTail = false
	if err != nil {
		return err
	}
	c.wal.wentBack(c.wal.applied)
	if now.frames != sqlitefile.AllFrames && c.wal.applied < now.frames ||
		c.wal.applied < c.wal.published(c.wal.salts) {
		return errWALGone
	}
	size, err := c.src.Size()
	if err != nil {
		return fmt.Errorf("look at database: %w", err)
	}
	if c.wal.applied > 0 && !c.wal.fits(c.wal.size, c.wal.applied) {
		return fmt.Errorf("%w: its last commit gives the database %d bytes, more than it and "+
			"the file contain, and SQLite refuses to checkpoint it "+
			"(recover what is left with .recover in the sqlite3 shell)",
			errImpossibleWAL, c.wal.size)
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
	used := salts != 0 && now.salts == salts || c.wal.applied > 0
	if !used && !sqlitefile.ReadHeader(c.mirror).WAL() || c.st.WALSalts.Load() != salts {
		return fmt.Errorf("%w: its journal mode", errAgain)
	}
	switch {
	case salts != 0 && now.salts == salts:
		c.wal.setConsumed(spool.WALPosition(salts, c.wal.applied), c.wal.sum)
	case salts != 0 && published>>32 == walSalt(salts):
		c.wal.setConsumed(published, 0) // somebody else has reset it: the file has them
	}
	if err := c.wal.found(); err != nil {
		return err
	}
	c.wal.high = max(fileBytes, c.mirror.Size())
	c.noteSettled(now.db)
	c.st.MirrorSequence.Store(max(sequence, c.st.MirrorSequence.Load()))
	return nil
}

// mustBeOurs fails with errAgain unless only checkpoints have written to the file during the copy.
// Recorders' have left its stamp in the state page, or are writing now. Somebody else's count if
// all that is in the mirror stands in the file, or in the WAL over it, at a second look.
func (c *copying) mustBeOurs(size int64) error {
	found, err := c.look()
	if err != nil {
		return err
	} else if found != spool.LeftChanged {
		return nil
	}
	old := c.st.DBStamp.Load()
	look, err := spool.StampOf(c.sp.Path())
	if err != nil {
		return fmt.Errorf("look at database: %w", err)
	}
	var db io.ReaderAt = c.src
	if c.wal.applied > 0 {
		view, err := sqlitefile.NewWALView(c.wal.file, c.wal.applied)
		if err != nil {
			return fmt.Errorf("%w: %w", errWALGone, err)
		}
		db = underWAL{c.src, c.wal.file, view}
	}
	if err := equal(c.mirror, db, size); err != nil {
		return fmt.Errorf("%w: by another program: %w", errAgain, err)
	}
	if c.wal.applied > 0 && !c.wal.stands() {
		return errWALGone
	}
	c.st.DBStamp.CompareAndSwap(old, look.Sum())
	return nil
}
