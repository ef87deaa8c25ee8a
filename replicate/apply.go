package replicate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"verneuil/chunkstore"
	"verneuil/spool"
)

func (s *session) log() *slog.Logger { return s.r.o.Log }

// troubled logs what keeps targets from having everything.
func (s *session) troubled(message string, args ...any) {
	level := slog.LevelWarn
	if s.r.o.Reported {
		level = slog.LevelInfo
	}
	s.log().Log(s.ctx, level, message, args...)
}

// update brings the mirror up to the published head, by the log or by a base
// copy, and reports whether that was any work. applyErr says what is in the way.
func (s *session) update(ctx context.Context) (progress bool) {
	if s.applyErr != nil && !s.copyDue() {
		return false
	}
	head := s.st.Head()
	stale := s.st.MirrorGeneration.Load() != s.st.Generation.Load()
	if !stale && head == s.st.Tail() && !s.walBehind() && s.counted() && s.applyErr == nil {
		return false
	}
	err := s.checkTampered()
	if err == nil {
		err = s.bringUp(ctx, stale)
	}
	if errors.Is(err, errYield) || ctx.Err() != nil {
		s.applyErr = err
		s.copyRetry = s.now()
		return true
	}
	if err != nil {
		s.noteApplyError(err)
	} else {
		if s.applyTold {
			s.log().Warn("mirror is up to date again")
		}
		s.copyBackoff.Reset()
		s.applyErr, s.applyTold = nil, false
	}
	return true
}

// checkTampered gives the mirror up if somebody else has changed it: before it is used.
func (s *session) checkTampered() error {
	if s.mirror.AsLeft() {
		return nil
	}
	s.log().Warn("another program has changed the mirror: it will be compared with the database")
	return s.giveUpMirror()
}

// counted reports whether every published transaction is known to be in the mirror.
func (s *session) counted() bool { return s.st.Sequence.Load() == s.st.MirrorSequence.Load() }

// copyDue reports whether what failed is worth another try now.
func (s *session) copyDue() bool {
	if s.flushWants(s.applyFailed) {
		return true
	}
	return !s.now().Before(s.copyRetry)
}

func (s *session) noteApplyError(err error) {
	switch {
	case errors.Is(err, errAgain), errors.Is(err, errBusy): // all in a day's work
		s.log().Info("mirror is not up to date yet", "reason", err)
	case s.applyErr == nil || s.applyErr.Error() != err.Error():
		s.troubled("mirror is not up to date: nothing is sent until it is", "error", err)
		s.applyTold = !s.r.o.Reported
	}
	s.applyErr = err
	s.serial++
	s.applyFailed = s.serial
	s.copyRetry = s.now().Add(s.copyBackoff.Next())
}

func (s *session) bringUp(ctx context.Context, stale bool) error {
	if err := s.clearDeadWriter(); err != nil && !errors.Is(err, errBusy) {
		return err
	}
	if stale || s.st.MirrorGeneration.Load() != s.st.Generation.Load() {
		s.r.setState("copying the database")
		if err := s.baseCopy(ctx, s.r.o.stable); err != nil {
			return err
		}
		s.applyErr = nil
		return nil
	}
	sequence, salts := s.st.Sequence.Load(), s.st.WALSalts.Load() // in this order, before head
	if _, err := s.apply(ctx, s.st.Head()); err != nil {
		return err
	}
	s.applyErr = nil
	return s.applyWAL(sequence, salts)
}

// apply applies the log from the tail to a published position, and trims it. It
// returns the last transaction's version, 0 if there was none. If the log is of
// no use, the mirror is stale.
func (s *session) apply(ctx context.Context, to spool.Position) (version uint64, err error) {
	from := s.st.Tail()
	if from == to {
		return 0, nil
	}
	r := spool.NewReader(s.sp.Dir(), from, to)
	defer r.Close()
	for {
		before := s.mirror.Size()
		f, err := r.Next(s.mirror)
		if err == io.EOF {
			break
		}
		if err == nil && s.died("apply") {
			err = errDied
		}
		if err != nil {
			if errors.Is(err, chunkstore.ErrCorrupt) {
				s.st.MirrorGeneration.Store(spool.NoMirror)
			}
			return version, fmt.Errorf("apply: %w", err)
		}
		version = f.After
		if f.After == 0 {
			s.applyCopied(f, before)
		}
		s.st.MirrorSequence.Store(f.Sequence)
		if p := r.Position(); p.Segment() != s.st.Tail().Segment() {
			s.freeLog(p) // a recorder may be at its allowance
		}
		if err := ctx.Err(); err != nil {
			s.st.SetTail(r.Position())
			return version, err
		}
	}
	s.freeLog(to)
	return version, nil
}

// freeLog says that everything before p is in the mirror.
func (s *session) freeLog(p spool.Position) {
	old := s.st.Tail()
	s.st.SetTail(p)
	if old.Segment() == p.Segment() {
		return
	}
	if err := spool.Trim(s.sp.Dir(), old, p); err != nil {
		s.log().Warn("changelog was not trimmed", "error", err)
	}
}

// current reports whether the mirror is the database as of the last published
// transaction it was brought to, so that a cut may be made of it (spool I3, I4).
func (s *session) current() bool {
	return s.applyErr == nil && s.st.MirrorGeneration.Load() == s.st.Generation.Load()
}

func (s *session) mirrorPoint() point {
	return point{s.st.MirrorGeneration.Load(), s.st.MirrorSequence.Load()}
}

// pushed is the point that every target has.
func pushed(st *spool.State) point {
	return point{st.PushedGeneration.Load(), st.PushedSequence.Load()}
}

// published is the point that a flush now has to reach.
func published(st *spool.State) point {
	return point{st.Generation.Load(), st.Sequence.Load()}
}
