package mirror

import (
	"context"
	"errors"
	"io/fs"

	"verneuil/spool"
	"verneuil/spool/sqlitefile"
)

// Verdict is what a look at the database has found.
type Verdict uint8

// The verdicts.
const (
	// Told: the look was made. What it found, the state page says: a new generation.
	Told Verdict = iota
	// InTheWay: a recorder has done something that is not in the mirror yet.
	InTheWay
	// Untold: the mirror is not what it should be, so that there is no telling.
	Untold
	// Replaced: another file stands at the database's path, or the spool is another one.
	Replaced
)

// Suspect looks for changes that the log does not have, and raises the generation if there are
// any: of a process that died after its commit and before it was published, and of writers
// without a recorder. Recorded transactions look for the latter themselves, so that only what
// follows the last one is of interest.
//
// Of a database that was deleted nothing is looked for: all that there will be is in the log.
func (t *Tracker) Suspect(ctx context.Context) (Verdict, error) {
	replaced, err := t.sp.Replaced()
	deleted := errors.Is(err, fs.ErrNotExist)
	if err != nil && !deleted {
		return Untold, err
	} else if replaced {
		return Replaced, nil
	}
	dead, err := t.deadWriter()
	switch {
	case err != nil:
		return Untold, err
	case dead == inUse:
		return Untold, errBusy
	case t.stable():
		return Told, nil
	case !t.Current():
		return Untold, nil
	case deleted:
		return Told, nil
	}
	l := suspicion{t}
	if t.wal.inUse() {
		verdict, err := l.inWAL(ctx)
		if errors.Is(err, errAgain) {
			return Untold, nil
		}
		return verdict, err
	}
	return l.inFile()
}

// suspicion is a look for changes that nobody has recorded.
type suspicion struct{ *Tracker }

// inFile looks at a database in a rollback mode.
func (t suspicion) inFile() (Verdict, error) {
	src, err := t.o.OpenSource()
	if err != nil {
		return Untold, err
	}
	defer src.Close()
	head := t.st.Head()
	if head != t.st.Tail() {
		return InTheWay, nil
	}
	if t.st.Writing.Load() != 0 {
		// Whoever writes has looked, and then set the mark. Before that, nobody else may have
		// written since.
		return Told, nil
	}
	found, err := t.look()
	if err != nil {
		return Untold, err
	} else if found == spool.LeftMoving {
		return InTheWay, nil
	}
	ours, theirs := sqlitefile.ReadHeader(t.mirror), sqlitefile.ReadHeader(src)
	size, err := src.Size()
	if err != nil {
		return Untold, err
	}
	// With writing 0 and head the same before and after, no recorded transaction has
	// touched what was read in between.
	if t.st.Writing.Load() != 0 || t.st.Head() != head {
		return InTheWay, nil
	}
	beside, err := LookBeside(t.sp.Path(), t.st, t.o.OpenSource)
	if err != nil {
		return Untold, err
	}
	if ours != theirs || size != t.mirror.Size() || beside != NothingBeside {
		found = spool.LeftChanged
	}
	t.believe(found)
	return Told, nil
}

// inWAL looks at a database in WAL mode: it takes commits that nobody published, and raises the
// generation if the WAL, or the file under it, is not the one that we follow.
//
// Frames may be read only when the log is applied up to a head that was read after
// their salts: it may have frames of the WAL before, which must not come later.
func (t suspicion) inWAL(ctx context.Context) (Verdict, error) {
	known, was := t.st.WALSalts.Load(), t.wal.cursor
	now, err := t.wal.stamp(ctx)
	if err != nil {
		return Untold, err
	}
	if t.st.Head() != t.st.Tail() || t.st.WALSalts.Load() != known {
		return InTheWay, nil
	}
	found, err := t.look()
	if err != nil {
		return Untold, err
	} else if found == spool.LeftMoving {
		return InTheWay, nil
	}
	ok := true
	switch {
	case now.salts != 0 && now.salts == was.salts:
		t.wal.goOn(was)
	case now.salts != 0 || known != 0 && uint32(t.st.WALPublished.Load()) > 0:
		ok = now.salts == known
	default: // a recorder has told us of the end of the one that we followed, or we followed none
		ok = was.salts == 0 || was.ours
	}
	if !ok {
		found = spool.LeftChanged
	}
	switch {
	case t.st.WALSalts.Load() != known:
		return InTheWay, nil
	case found != spool.LeftAlone:
		t.believe(found)
		return Told, nil
	}
	return Told, t.takeUnpublished(now.frames, known)
}

// takeUnpublished applies what is committed, and nobody has published.
func (t suspicion) takeUnpublished(committed int, salts uint64) error {
	frames, err := t.wal.readFrames(committed)
	switch {
	case errors.Is(err, errWALBack):
		t.st.Raise(spool.CauseForeign)
		return nil
	case err != nil:
		return err
	case committed != sqlitefile.AllFrames && t.wal.applied < committed &&
		t.st.WALSalts.Load() == salts:
		t.st.Raise(spool.CauseForeign)
		return nil
	case frames == 0:
		return t.wal.found()
	}
	// A new generation, so that a flush waits for it; the mirror is of it already,
	// unless somebody else has raised it meanwhile.
	if g := t.st.Generation.Load(); t.Current() {
		t.st.Raise(spool.CauseForeign)
		t.st.MirrorGeneration.CompareAndSwap(g, g+1)
	}
	return t.wal.found()
}
