package history

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"verneuil/chunkstore"
)

// What a [Writer] answers; test with errors.Is.
var (
	// ErrBehind: somebody has appended what the writer has not read. Call Next, and try again.
	ErrBehind = errors.New("the history has gone on")
	// ErrFenced: somebody has taken the history over. The record is not in it.
	ErrFenced = errors.New("another writer has taken over")
	// ErrUnsettled: it is not known whether the record is in the history, as the answer was lost.
	// Call Settle or Abandon.
	ErrUnsettled = errors.New("the store has not said whether it has the record")
)

// State is a [Writer]'s.
//
//	            Take              Take: ok
//	Following -------> Taking ----------------> Owning <------------------+
//	    ^                |                      |  |  |                   |
//	    |  Take: behind  |                      |  |  | Append: no answer |
//	    +<---------------+                      |  |  +-----> Unsettled --+ Settle: it is there
//	    |  Append, release; Append: fenced      |  |              |
//	    +<--------------------------------------+  |              |
//	    |  Abandon                                 |              |
//	    +<-----------------------------------------+              |
//	    |  Settle: fenced; Abandon                                |
//	    +<--------------------------------------------------------+
//
// Taking is where Take stays if an answer was lost: it must be called again, or Abandon.
// Taking and Unsettled refuse Append; only Following allows Next.
type State int

// The states of a [Writer].
const (
	Following State = iota
	Taking
	Owning
	Unsettled
)

// Writer writes a history. It is one goroutine's.
type Writer struct {
	reader  *Reader
	name    [16]byte
	state   State
	pending *Record // Taking, Unsettled: what was appended
	stored  []byte  // pending, encoded
}

// Create begins a history with a checkpoint at number 0. It fails with
// [chunkstore.ErrConflict] if the database has one, and if the answer was lost, then
// the history may be there: Open tells.
func Create(ctx context.Context, store Store, lineage [16]byte, body []byte) error {
	c := &Checkpoint{Position: Position{Lineage: lineage, Released: true}, Body: body}
	if _, err := store.Replace(ctx, c, ""); err != nil {
		return fmt.Errorf("begin a history: %w", err)
	}
	return nil
}

// NewWriter makes a writer of r, which it owns from then on.
func NewWriter(r *Reader) *Writer {
	w := &Writer{reader: r}
	rand.Read(w.name[:]) // never fails: crypto/rand
	return w
}

// State returns where w stands.
func (w *Writer) State() State { return w.state }

// Name returns what w's records are signed with.
func (w *Writer) Name() [16]byte { return w.name }

// At returns how far w has read and written. The caller may not change it.
func (w *Writer) At() Position { return w.reader.at }

// Next is [Reader.Next]. While w owns the history, there is nothing to read. It fails with
// ErrUnsettled.
func (w *Writer) Next(ctx context.Context) (Step, error) {
	switch w.state {
	case Following:
		return w.reader.Next(ctx)
	case Owning:
		return Step{}, nil
	}
	return Step{}, ErrUnsettled
}

// Take makes w the owner, from wherever it has read to. It fails with ErrBehind, and after
// a lost answer with ErrUnsettled.
func (w *Writer) Take(ctx context.Context) error {
	switch w.state {
	case Owning:
		return nil
	case Unsettled:
		return ErrUnsettled
	case Following:
		at := w.reader.at
		w.prepare(&Record{Epoch: at.Epoch + 1, Fence: true})
		w.state = Taking
	}
	there, err := w.append(ctx)
	if err != nil {
		return err
	}
	if there { // T2
		c, _, err := w.reader.look(ctx)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnsettled, err)
		}
		there = c == nil
	}
	if !there {
		w.follow()
		return ErrBehind
	}
	return w.advance()
}

// Append adds a record to a history that w owns, and gives it back if release. It fails with
// ErrFenced, and with ErrUnsettled if the answer was lost. body is not retained.
func (w *Writer) Append(ctx context.Context, body []byte, release bool) error {
	switch w.state {
	case Unsettled, Taking:
		return ErrUnsettled
	case Following:
		return fmt.Errorf("append without a takeover: %w", ErrBehind)
	}
	w.prepare(&Record{Epoch: w.reader.at.Epoch, Release: release, Body: body})
	w.state = Unsettled
	return w.Settle(ctx)
}

// Settle finds out what became of the record of an Append that failed with ErrUnsettled, and
// appends it if it is not there. It fails as Append does.
func (w *Writer) Settle(ctx context.Context) error {
	if w.state != Unsettled {
		return nil
	}
	switch there, err := w.append(ctx); {
	case err != nil:
		return err
	case !there:
		w.follow()
		return ErrFenced
	}
	return w.advance()
}

// Abandon gives up what is unsettled, and the history. What was appended may turn up in Next.
func (w *Writer) Abandon() { w.follow() }

func (w *Writer) follow() { w.state, w.pending, w.stored = Following, nil, nil }

func (w *Writer) prepare(r *Record) {
	at := w.reader.at
	r.Number, r.Before, r.Writer = at.Number+1, at.Digest, w.name
	w.pending, w.stored = r, r.Encode()
}

// advance: what is pending is in the history.
func (w *Writer) advance() error {
	r := w.pending
	w.follow()
	if err := w.reader.at.step(r); err != nil {
		return err
	}
	w.reader.sure = w.reader.now()
	if !r.Release {
		w.state = Owning
	}
	return nil
}

// append asks the log to create what is pending, and reports whether it is there.
func (w *Writer) append(ctx context.Context) (there bool, err error) {
	n := w.pending.Number
	err = w.reader.log.Append(ctx, n, w.stored)
	if err == nil {
		return true, nil
	} else if !errors.Is(err, chunkstore.ErrConflict) {
		return false, fmt.Errorf("%w: %w", ErrUnsettled, err)
	}
	found, err := w.reader.log.Read(ctx, n, 1)
	if err != nil {
		return false, fmt.Errorf("%w: look who has it: %w", ErrUnsettled, err)
	}
	if len(found) == 1 && bytes.Equal(found[0], w.stored) {
		return true, nil
	}
	if w.pending.Fence {
		return false, nil // Next tells what happened
	}
	there, err = w.trimmed(ctx)
	if err == nil && !there && len(found) == 0 {
		// Nobody has it: S3 refuses one of two requests that it is carrying out at once.
		return false, ErrUnsettled
	}
	return there, err
}

// trimmed reports whether what is pending is in the history though its number holds something
// else, or nothing: it was appended and trimmed, and what is there now is a fence that slept
// (T2). Only w could append here, but for a takeover, which every later checkpoint lists.
func (w *Writer) trimmed(ctx context.Context) (bool, error) {
	c, _, err := w.reader.look(ctx)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrUnsettled, err)
	}
	n := w.pending.Number
	return c != nil && c.Lineage == w.reader.at.Lineage && c.Number >= n &&
		!slices.Contains(c.Fences, n), nil
}

// Checkpoint puts a checkpoint of all that w has read and written. It does nothing if there is
// one as new. It fails with [chunkstore.ErrConflict] if the database has another lineage by now.
func (w *Writer) Checkpoint(ctx context.Context, body []byte) error {
	r := w.reader
	c := &Checkpoint{Position: r.at, Body: body}
	for {
		if r.seen >= c.Number { // T3
			return nil
		}
		etag, err := r.store.Replace(ctx, c, r.etag)
		if err == nil {
			r.etag, r.seen = etag, c.Number
			return nil
		} else if !errors.Is(err, chunkstore.ErrConflict) {
			return fmt.Errorf("put a checkpoint: %w", err)
		}
		newest, etag, err := r.store.Newest(ctx, "")
		switch {
		case err != nil:
			return fmt.Errorf("put a checkpoint: %w", err)
		case newest.Lineage != c.Lineage:
			return fmt.Errorf("put a checkpoint: another history has begun: %w",
				chunkstore.ErrConflict)
		case newest.Number > c.Number:
			return nil // r.etag stays: r is behind, and look must say so
		}
		r.etag, r.seen = etag, newest.Number
	}
}

// Trim removes the records below before that the newest checkpoint which w knows has, but for
// fences that must stay (T1, T3).
func (w *Writer) Trim(ctx context.Context, before uint64) error {
	r := w.reader
	return r.log.Trim(ctx, min(before, r.seen+1), r.at.Fences)
}
