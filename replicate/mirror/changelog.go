package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"

	"verneuil/chunkstore"
	"verneuil/spool"
)

// changelog is the recorders' log, as it is applied to the mirror.
type changelog struct {
	*ground
	wal *wal // which is told of transactions that were copied from the WAL
}

// apply applies the log from the tail to a published position, and trims it. If the log is of
// no use, the mirror is stale.
func (l changelog) apply(ctx context.Context, to spool.Position) error {
	from := l.st.Tail()
	if from == to {
		return nil
	}
	r := spool.NewReader(l.sp.Dir(), from, to)
	defer r.Close()
	for {
		before := l.mirror.Size()
		f, err := r.Next(l.mirror)
		if err == io.EOF {
			break
		}
		if err == nil {
			err = l.fault("apply")
		}
		if err != nil {
			if errors.Is(err, chunkstore.ErrCorrupt) {
				l.st.MirrorGeneration.Store(spool.NoMirror)
			}
			return fmt.Errorf("apply: %w", err)
		}
		if f.After == 0 {
			l.wal.copied(f, before)
		}
		l.st.MirrorSequence.Store(f.Sequence)
		if p := r.Position(); p.Segment() != l.st.Tail().Segment() {
			l.free(p) // a recorder may be at its allowance
		}
		if err := ctx.Err(); err != nil {
			l.st.SetTail(r.Position())
			return err
		}
	}
	l.free(to)
	l.rhythm.found(to.Since(from), lookBytes)
	return nil
}

// free says that everything before p is in the mirror.
func (l changelog) free(p spool.Position) {
	old := l.st.Tail()
	l.st.SetTail(p)
	if old.Segment() == p.Segment() {
		return
	}
	if err := spool.Trim(l.sp.Dir(), old, p); err != nil {
		l.o.Log.Warn("changelog was not trimmed", "error", err)
	}
}
