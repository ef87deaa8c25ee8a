package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"verneuil/spool/sqlitefile"
)

// ErrUnsettled: the mirror cannot be compared now, as somebody is in the middle of
// something; nothing is wrong.
var ErrUnsettled = errors.New("not settled")

// compareTries bounds how often the mirror is brought up to date of a WAL database that others
// look at, too: a generation that somebody raises is no difference.
const compareTries = 20

// Compare brings the mirror up to date and compares it with the database, byte for byte; one in
// WAL mode with the database as checkpointed. An error says how they differ. The caller holds
// SQLite's write lock: of that of a rollback mode, or of the WAL, in which others may checkpoint
// meanwhile. It fails with ErrUnsettled if the mirror cannot be brought up to date while the
// caller holds the lock. If the spool is another one by now it is Replaced.
func (t *Tracker) Compare(ctx context.Context) (Verdict, error) {
	if replaced, err := t.sp.Replaced(); errors.Is(err, fs.ErrNotExist) {
		return Untold, fmt.Errorf("%w: %w", ErrUnsettled, err) // it was moved away
	} else if err != nil {
		return Untold, err
	} else if replaced {
		return Told, nil // the caller's database is the one that was replaced
	} else if !t.sp.Current() {
		return Replaced, nil
	}
	err := comparison{t}.run(ctx)
	switch {
	case errors.Is(err, errAgain):
		return Untold, fmt.Errorf("%w: %w", ErrUnsettled, err)
	case err != nil:
		return Untold, err
	}
	return Told, nil
}

// comparison is one of a mirror with its database.
type comparison struct{ *Tracker }

func (t comparison) run(ctx context.Context) error {
	if t.st.WALSalts.Load() != 0 {
		return t.inWAL(ctx)
	}
	if t.st.MirrorGeneration.Load() != t.st.Generation.Load() {
		if err := baseCopy(ctx, t.Tracker, true); err != nil {
			return err
		}
	}
	if err := t.log.apply(ctx, t.st.Head()); err != nil {
		return err
	}
	if t.phase == Interrupted {
		t.follow()
	}
	src, err := t.o.OpenSource()
	if err != nil {
		return err
	}
	defer src.Close()
	size, err := src.Size()
	if err != nil {
		return err
	}
	return equal(t.mirror, src, size)
}

// inWAL compares the mirror with the database under the frames that are published. A
// checkpoint writes no other pages than those, so that it does not show.
func (t comparison) inWAL(ctx context.Context) error {
	err := errAgain
	for try := 0; try < compareTries && errors.Is(err, errAgain); try++ {
		err = t.bringUp(ctx)
	}
	if err != nil {
		return err
	}
	t.follow()
	published := int(uint32(t.st.WALPublished.Load()))
	wal, err := os.Open(t.sp.Path() + "-wal")
	if err != nil {
		return err
	}
	defer wal.Close()
	view, err := sqlitefile.NewWALView(wal, published)
	if err != nil {
		return err
	}
	if view.Salts != t.st.WALSalts.Load() || view.Frames != published {
		return fmt.Errorf("%d frames with salts %016x are published, the WAL has %d with %016x",
			published, t.st.WALSalts.Load(), view.Frames, view.Salts)
	}
	src, err := t.o.OpenSource()
	if err != nil {
		return err
	}
	defer src.Close()
	return equal(t.mirror, underWAL{src, wal, view}, int64(view.Pages)*int64(view.PageBytes))
}

// underWAL is a database as checkpointed. Reads are of whole pages.
type underWAL struct {
	db, wal io.ReaderAt
	view    *sqlitefile.WALView
}

func (u underWAL) ReadAt(b []byte, off int64) (int, error) {
	pageBytes := u.view.PageBytes
	for n := 0; n < len(b); n += pageBytes {
		page := b[n:min(n+pageBytes, len(b))]
		at, from := off+int64(n), u.db
		if offset, ok := u.view.Offset(uint32(at/int64(pageBytes)) + 1); ok {
			at, from = offset, u.wal
		}
		k, err := readFull(from, page, at)
		if err != nil {
			return n, err
		}
		clear(page[k:]) // as a checkpoint leaves what it does not write
	}
	return len(b), nil
}

// equal fails if the mirror is not the size bytes in db.
func equal(m *Mirror, db io.ReaderAt, size int64) error {
	if size != m.Size() {
		return fmt.Errorf("mirror has %d bytes, the database %d", m.Size(), size)
	}
	a, b := make([]byte, PieceBytes), make([]byte, PieceBytes)
	for off := int64(0); off < size; off += PieceBytes {
		n := min(PieceBytes, size-off)
		if k, err := readFull(db, a[:n], off); err != nil || int64(k) < n {
			return errors.Join(io.ErrUnexpectedEOF, err)
		}
		if _, err := m.ReadAt(b[:n], off); err != nil {
			return err
		}
		if !bytes.Equal(a[:n], b[:n]) {
			k := 0
			for a[k] == b[k] {
				k++
			}
			return fmt.Errorf("mirror differs from the database at offset %d", off+int64(k))
		}
	}
	return nil
}
