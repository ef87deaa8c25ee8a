package replicate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"verneuil/spool"
)

// Verify brings the mirror up to date and compares it with the database, byte for
// byte; one in WAL mode with the database as checkpointed. The caller holds SQLite's
// write lock: of that of a rollback mode, or of the WAL, in which others may
// checkpoint meanwhile. It fails with ErrStandby if another live process replicates; a
// dead one's place is taken. It fails with ErrUnsettled if the mirror cannot be brought up to
// date while the caller holds the lock.
func (r *Replicator) Verify(ctx context.Context) error {
	r.verifying.Add(1)
	defer r.verifying.Add(-1)
	for {
		r.mu.Lock()
		s, sp, changed, standing, stopped := r.session, r.spool, r.changed, r.standing, r.stopped
		r.mu.Unlock()
		switch {
		case s != nil:
			err := s.do(ctx, s.verify)
			switch {
			case errors.Is(err, errAgain):
				return fmt.Errorf("verify: %w: %w", ErrUnsettled, err)
			case !errors.Is(err, errMoved):
				return wrap(err, "verify")
			}
		case stopped:
			return fmt.Errorf("verify: %w", ErrStopped)
		case standing && elsewhere(sp):
			return fmt.Errorf("verify: %w", ErrStandby)
		}
		r.hurry(sp)
		select {
		case <-ctx.Done():
			return fmt.Errorf("verify: %w", ctx.Err())
		case <-changed:
		case <-time.After(ticketPoll):
		}
	}
}

// do runs f in the session's goroutine. It fails with errMoved if the session ends.
func (s *session) do(ctx context.Context, f func(context.Context) error) error {
	done := make(chan error, 1)
	if err := s.request(ctx, func() { done <- guarded(func() error { return f(ctx) })() }); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-s.ended:
		return errMoved
	case <-ctx.Done():
		return ctx.Err()
	}
}

// verifyTries bounds how often the mirror is brought up to date of a WAL database that others
// look at, too: a generation that somebody raises is no difference.
const verifyTries = 20

func (s *session) verify(ctx context.Context) error {
	if replaced, err := s.sp.Replaced(); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrUnsettled, err) // it was moved away
	} else if err != nil || replaced {
		return err // the caller's database is the one that was replaced
	} else if !s.sp.Current() {
		return errMoved
	}
	if s.st.WALSalts.Load() != 0 {
		return s.verifyWAL(ctx)
	}
	if s.st.MirrorGeneration.Load() != s.st.Generation.Load() {
		if err := s.baseCopy(ctx, true); err != nil {
			return err
		}
	}
	if _, err := s.apply(ctx, s.st.Head()); err != nil {
		return err
	}
	if errors.Is(s.applyErr, errYield) {
		s.applyErr = nil
	}
	src, err := s.r.o.OpenSource()
	if err != nil {
		return err
	}
	defer src.Close()
	size, err := src.Size()
	if err != nil {
		return err
	}
	return s.mustEqual(src, size)
}

// verifyWAL compares the mirror with the database under the frames that are published. A
// checkpoint writes no other pages than those, so that it does not show.
func (s *session) verifyWAL(ctx context.Context) error {
	err := errAgain
	for try := 0; try < verifyTries && errors.Is(err, errAgain); try++ {
		err = s.bringUp(ctx, false)
	}
	if err != nil {
		return err
	}
	s.applyErr = nil
	published := int(uint32(s.st.WALPublished.Load()))
	wal, err := os.Open(s.sp.Path() + "-wal")
	if err != nil {
		return err
	}
	defer wal.Close()
	view, err := spool.NewWALView(wal, published)
	if err != nil {
		return err
	}
	if view.Salts != s.st.WALSalts.Load() || view.Frames != published {
		return fmt.Errorf("%d frames with salts %016x are published, the WAL has %d with %016x",
			published, s.st.WALSalts.Load(), view.Frames, view.Salts)
	}
	src, err := s.r.o.OpenSource()
	if err != nil {
		return err
	}
	defer src.Close()
	return s.mustEqual(underWAL{src, wal, view}, int64(view.Pages)*int64(view.PageBytes))
}

// underWAL is a database as checkpointed. Reads are of whole pages.
type underWAL struct {
	db, wal io.ReaderAt
	view    *spool.WALView
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

// mustEqual fails if the mirror is not the size bytes in db.
func (s *session) mustEqual(db io.ReaderAt, size int64) error {
	if size != s.mirror.Size() {
		return fmt.Errorf("mirror has %d bytes, the database %d", s.mirror.Size(), size)
	}
	a, b := make([]byte, copyPiece), make([]byte, copyPiece)
	for off := int64(0); off < size; off += copyPiece {
		n := min(copyPiece, size-off)
		if k, err := readFull(db, a[:n], off); err != nil || int64(k) < n {
			return errors.Join(io.ErrUnexpectedEOF, err)
		}
		if _, err := s.mirror.ReadAt(b[:n], off); err != nil {
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
