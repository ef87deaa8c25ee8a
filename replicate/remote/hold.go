package remote

import (
	"context"
	"errors"
	"fmt"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/versions"
)

// Hold says who holds a database, as far as the store knows. A holder need not be alive: see Sign.
type Hold struct {
	Held   bool
	Owner  *manifest.Owner // who holds it, or did last; nil: not known
	Epoch  uint64          // of the last takeover; 0: there was none
	Record uint64          // number of the last record; 0: there is none
	// Appended is when the store got the last record, and Beat when it got the holder's last
	// heartbeat; both by the store's clock, and zero if there is none.
	Appended, Beat time.Time
	Wanted         *manifest.Owner // who asks the holder for it; nil: nobody
	Version        *manifest.Manifest
	// Denied: the store has not said who waits, nor, if Beat is zero, whether there are heartbeats.
	// AWS denies what is not there to who may not list. Else nil.
	Denied error
}

// Sign returns when the holder last showed that it lives; zero: it has not.
func (h *Hold) Sign() time.Time {
	if h.Beat.After(h.Appended) {
		return h.Beat
	}
	return h.Appended
}

// Inspect finds out who holds the database whose manifest has that key in t. It writes nothing, and
// fails with [chunkstore.ErrAbsent] if there is none.
func Inspect(ctx context.Context, t *chunkstore.Target, key string) (*Hold, error) {
	f, err := versions.OpenToRead(ctx, t, key, nil)
	if err != nil {
		return nil, err
	}
	return inspect(ctx, t, key, f.Newest())
}

func inspect(
	ctx context.Context, t *chunkstore.Target, key string, m *manifest.Manifest,
) (*Hold, error) {
	at := m.At
	if at.Lineage == [16]byte{} {
		return nil, errors.New("it is in no history: it does not live in the store")
	}
	h := &Hold{Held: !at.Released, Epoch: at.Epoch, Record: at.Number, Version: m}
	beats := beatsOf(t, key)
	holder, _, beaten, err := beats.get(ctx, beats.lease, "")
	switch {
	case errors.Is(err, chunkstore.ErrDenied): // the answer to a HEAD would not say so
		h.Denied = err
		if o, err := t.Chunks.Stat(ctx, versions.RecordKey(versions.IDOf(at))); err == nil {
			h.Appended = o.Modified
		}
	case err == nil:
		h.Appended, h.Beat, err = versions.SignsOfLife(ctx, t.Chunks, key, at)
	}
	if err != nil && h.Denied == nil {
		return nil, err
	}
	if beaten && holder.Epoch == at.Epoch {
		o := holder.owner()
		h.Owner = &o
	} else {
		h.Beat = time.Time{} // of another holder
	}
	waiting, _, wanted, err := beats.get(ctx, beats.want, "")
	if errors.Is(err, chunkstore.ErrDenied) {
		h.Denied = err
	} else if err != nil {
		return nil, err
	}
	if wanted && h.Held && waiting.Epoch == at.Epoch {
		o := waiting.owner()
		h.Wanted = &o
	}
	if h.Owner == nil && at.Epoch > 0 {
		o, ok, err := versions.OwnerAt(ctx, t, at)
		if ok {
			h.Owner = &o
		} else if err != nil {
			return nil, fmt.Errorf("look for the last takeover: %w", err)
		}
	}
	return h, nil
}

// breakTries bounds how often a database is taken from a holder that goes on writing.
const breakTries = 20

// Break takes the database whose manifest has that key in t from whoever holds it, in the name of
// owner, and gives it back at once: whoever wants it may take it. It returns who held it; nobody
// did if not Held, and then nothing was done. The holder loses what it has not committed.
func Break(
	ctx context.Context, t *chunkstore.Target, key string, owner manifest.Owner,
) (*Hold, error) {
	f, err := versions.OpenNewest(ctx, t, key)
	if err != nil {
		return nil, err
	}
	was, err := inspect(ctx, t, key, f.Newest())
	if err == nil {
		err = was.Denied
	}
	if err != nil {
		return nil, err
	}
	w, err := seize(ctx, f, owner, func(at history.Position) bool { return at.Released })
	if w == nil || err != nil {
		return was, err
	}
	return was, giveBack(ctx, w)
}

// seize takes the history that f follows, in the name of owner, from whoever has it. It returns
// what has it then; nil if it has come to a place where it need not be taken.
func seize(
	ctx context.Context, f *versions.Follower, owner manifest.Owner,
	free func(history.Position) bool,
) (*history.Writer, error) {
	body, err := owner.Encode()
	if err != nil {
		return nil, err
	}
	for range breakTries {
		if free(f.Newest().At) {
			return nil, nil
		}
		w := history.NewWriter(f.Clone().Reader())
		err = w.Take(ctx, body)
		if err == nil {
			return w, nil
		} else if !errors.Is(err, history.ErrBehind) && !errors.Is(err, history.ErrUnsettled) {
			return nil, err
		}
		if _, err := f.Next(ctx); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("it was not taken: %w", err)
}

// giveBack ends what w owns. Who has taken it over in turn has it.
func giveBack(ctx context.Context, w *history.Writer) error {
	err := w.Append(ctx, nil, true)
	if errors.Is(err, history.ErrFenced) || errors.Is(err, history.ErrBehind) {
		return nil
	} else if err != nil {
		return fmt.Errorf("it was taken, but not given back: %w", err)
	}
	return nil
}
