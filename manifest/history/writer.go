package history

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"verneuil/chunkstore"
)

// What a [Writer] answers; test with errors.Is.
var (
	// ErrBehind: somebody has appended what the writer has not read. Call Next, and try again.
	ErrBehind = errors.New("the history has gone on")
	// ErrLost: the store has not all records any more that it had: somebody has removed some, or
	// has put it back to what it was. It is an ErrBehind, too.
	ErrLost error = lostError{}
	// ErrFenced: somebody has taken the history over. The record is not in it.
	ErrFenced = errors.New("another writer has taken over")
	// ErrUnsettled: it is not known whether the record is in the history, as the answer was lost.
	// Call Settle or Abandon.
	ErrUnsettled = errors.New("the store has not said whether it has the record")
)

// lostError is the type of ErrLost.
type lostError struct{}

func (lostError) Error() string { return "the log has lost records" }

// Is makes ErrLost an ErrBehind.
func (lostError) Is(target error) bool { return target == ErrBehind }

// State is a [Writer]'s.
//
//	             Claim             Settle: it is there
//	Following ----------> Unsettled <----------------> Owning
//	    ^                     |      Prepare             |
//	    |  Settle: behind,    |                          |
//	    |  fenced; Abandon    |                          |
//	    +<--------------------+                          |
//	    |  Settle: it is there, and gave the history back; Abandon
//	    +<-----------------------------------------------+
//
// Unsettled is where a writer stays while it is not known whether its record is in the history:
// Settle must be called again, or Abandon. Only Following allows Next.
type State int

// The states of a [Writer].
const (
	Following State = iota // somebody else may own the history
	Unsettled              // a record was prepared, and perhaps appended
	Owning                 // nobody else may append
)

// Writer writes a history. It is one goroutine's.
type Writer struct {
	reader  *Reader
	name    [16]byte
	state   State
	doubt   bool      // a copy of this writer may have gone on (T4)
	dated   time.Time // when it was the newest, by the store's clock (T9); zero: it is not known
	pending *Record   // Unsettled: what is to be appended, or was
	stored  []byte    // pending, encoded
}

// Saved is what a [Writer] is made of again, by another process.
type Saved struct {
	Position
	Name    [16]byte // of the writer
	Pending []byte   // the stored form of the record that is not settled; nil: there is none
	ETag    string   // of the newest checkpoint that was seen; empty: not known
	Seen    uint64   // its number

	// Dated is when the writer's last record was the newest, by the store's clock (T9); zero: it is
	// not known.
	Dated time.Time

	// What only [ResumeSure] believes.
	Sure  time.Duration // when no checkpoint was beyond Position, by the writer's clock
	Doubt bool          // a copy of the writer may have gone on
}

// Create begins a history, whose lineage nobody has used, with a checkpoint at number 0, in the
// place of the checkpoint that has the given ETag, or of none if etag is empty. It fails with
// [chunkstore.ErrConflict] if the database has another one. If the answer was lost, the history
// may be there: Open tells.
func Create(
	ctx context.Context, store Store, o Options, lineage [16]byte, body []byte, etag string,
) (*Reader, error) {
	c := &Checkpoint{Position: Position{Lineage: lineage, Released: true}, Body: body}
	r := newReader(store, o)
	began := r.now()
	etag, err := store.Replace(ctx, c, etag)
	if err != nil {
		return nil, fmt.Errorf("begin a history: %w", err)
	}
	r.jump(c, etag, began)
	return r, nil
}

// NewWriter makes a writer of r, which it owns from then on.
func NewWriter(r *Reader) *Writer {
	w := &Writer{reader: r}
	rand.Read(w.name[:]) // never fails: crypto/rand
	return w
}

// Resume makes the writer that saved was taken of by [Writer.Save]. It asks nobody: whether the
// history has gone on, the first Settle or Append finds out (T4). It fails with
// [chunkstore.ErrCorrupt] if saved is of no use.
func Resume(store Store, o Options, saved Saved) (*Writer, error) {
	r := newReader(store, o)
	r.log, r.at = store.Log(saved.Lineage), saved.Position
	r.etag, r.seen, r.sure = saved.ETag, saved.Seen, r.now()-r.grace
	w := &Writer{reader: r, name: saved.Name, state: Owning, doubt: true, dated: saved.Dated}
	if saved.Pending == nil {
		if saved.Released {
			w.state = Following
		}
		return w, nil
	}
	pending, err := Decode(saved.Number+1, saved.Pending)
	if err == nil {
		at := saved.Position
		err = at.step(pending)
	}
	if err != nil {
		return nil, fmt.Errorf("resume a writer: %w", err)
	}
	w.state, w.pending, w.stored = Unsettled, pending, saved.Pending
	return w, nil
}

// ResumeSure is Resume by a process that has the writer's clock ([Options].Now), so that it is as
// sure as the writer was, and goes on without a look as long as the writer would have (T4).
func ResumeSure(store Store, o Options, saved Saved) (*Writer, error) {
	w, err := Resume(store, o, saved)
	if err == nil && o.Grace > 0 {
		w.doubt, w.reader.sure = saved.Doubt, saved.Sure
	}
	return w, err
}

// Save returns what w can be made of again, by [Resume]; ok is false if somebody else may own the
// history. Who means to resume saves w after each Claim and Prepare, before it settles, and after
// each Settle: else a successor takes what w has appended for another's.
func (w *Writer) Save() (saved Saved, ok bool) {
	r := w.reader
	saved = Saved{Position: r.at, Name: w.name, Pending: w.stored, ETag: r.etag, Seen: r.seen,
		Dated: w.dated, Sure: r.sure, Doubt: w.doubt}
	return saved, w.state != Following || r.at.Released
}

// State returns where w stands.
func (w *Writer) State() State { return w.state }

// Name returns what w's records are signed with.
func (w *Writer) Name() [16]byte { return w.name }

// Rename gives w, if it only follows, another name: somebody else may write under the one it had.
func (w *Writer) Rename() {
	if w.state == Following {
		rand.Read(w.name[:]) // never fails: crypto/rand
	}
}

// Reader returns what w reads with. Only Clone, Look, Check, ETag and Seen may be called.
func (w *Writer) Reader() *Reader { return w.reader }

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

// Known is Next of who has the next record, as it was decoded, from another process of this
// machine, which has appended it, and was told that it is in the history. It asks nobody. It fails
// with [chunkstore.ErrCorrupt] if the record is not the next one, and with ErrUnsettled; then
// nothing was read. It does nothing if w owns the history.
func (w *Writer) Known(next *Record) error {
	switch w.state {
	case Following:
		return w.reader.known(next)
	case Owning:
		return nil
	}
	return ErrUnsettled
}

// Claim prepares the fence by which w takes the history over, from where it has read to. body may
// say who takes it. Settle comes next. It does nothing if w is not Following.
func (w *Writer) Claim(body []byte) {
	if w.state == Following {
		w.prepare(&Record{Epoch: w.reader.at.Epoch + 1, Fence: true, Body: body})
	}
}

// Take makes w the owner: it is Claim and Settle. It fails with ErrBehind, and after a lost answer
// with ErrUnsettled.
func (w *Writer) Take(ctx context.Context, body []byte) error {
	if w.state == Unsettled && !w.pending.Fence {
		return ErrUnsettled
	}
	w.Claim(body)
	return w.Settle(ctx)
}

// Prepare makes a record of a history that w owns, which gives it back if release. Settle comes
// next, and appends it. body is not retained. It fails with ErrUnsettled, and with ErrBehind if w
// is Following.
func (w *Writer) Prepare(body []byte, release bool) error {
	switch w.state {
	case Unsettled:
		return ErrUnsettled
	case Following:
		return fmt.Errorf("append without a takeover: %w", ErrBehind)
	}
	w.prepare(&Record{Epoch: w.reader.at.Epoch, Release: release, Body: body})
	return nil
}

// Append is Prepare and Settle. It fails with ErrFenced, and with ErrUnsettled if the answer was
// lost.
func (w *Writer) Append(ctx context.Context, body []byte, release bool) error {
	if err := w.Prepare(body, release); err != nil {
		return err
	}
	return w.Settle(ctx)
}

// Leave has who reads the history on look for another one: it appends a record that is in none
// (T7). Who owns the history calls it before he begins another one. It fails with ErrBehind if
// somebody else has appended a record.
func (w *Writer) Leave(ctx context.Context) error {
	at := w.reader.at
	r := &Record{Number: at.Number + 1, Epoch: at.Epoch, Writer: w.name}
	err := w.reader.log.Append(ctx, r.Number, r.Encode())
	if errors.Is(err, chunkstore.ErrConflict) {
		return fmt.Errorf("leave a history: %w: %w", ErrBehind, err)
	}
	return err
}

// Settle appends what was prepared, or finds out what became of it. It does nothing if nothing is
// pending. It fails with ErrUnsettled if the answer was lost; with ErrFenced if the record is not
// in the history; and with ErrBehind if the history has gone on, so that the record may be in it:
// Next tells.
func (w *Writer) Settle(ctx context.Context) error {
	if w.state != Unsettled {
		return nil
	}
	began := w.reader.now()
	there, created, at, err := w.append(ctx)
	proved := proves(w, at)
	look := w.unsure() || w.pending.Fence && !proved // T2, T4, T9
	if err == nil && there && look {
		var c *Checkpoint
		if c, err = w.beyond(ctx); c != nil {
			err = ErrBehind
		}
	}
	if err == nil && there {
		// If it had been there, a copy of w has appended it, too, and may have gone on long ago.
		if w.doubt = !created; created {
			w.reader.sure = began // nothing followed it
		}
		if w.dated = at; !look && !proved {
			w.dated = time.Time{}
		}
		return w.advance()
	} else if err == nil {
		err = ErrFenced
	}
	if !errors.Is(err, ErrUnsettled) {
		w.follow()
	}
	return err
}

// unsure reports whether a copy of w, made by saving it or with all the machine, may have gone on,
// and may have trimmed what it had appended (T4).
func (w *Writer) unsure() bool {
	r := w.reader
	return w.doubt || r.grace > 0 && r.now()-r.sure >= r.grace
}

// proves reports whether a fence that w has created is in the history, as the store has said so at
// that time by its clock (T9); zero: it has not, or w has not created it.
func proves(w *Writer, at time.Time) bool {
	if at.IsZero() || w.dated.IsZero() {
		return false
	}
	since := at.Sub(w.dated)
	return since.Abs() < w.reader.grace
}

// Abandon gives up what is unsettled, and the history. What was appended may turn up in Next.
func (w *Writer) Abandon() { w.follow() }

func (w *Writer) follow() { w.state, w.pending, w.stored = Following, nil, nil }

func (w *Writer) prepare(r *Record) {
	at := w.reader.at
	r.Number, r.Before, r.Writer = at.Number+1, at.Digest, w.name
	w.state, w.pending, w.stored = Unsettled, r, r.Encode()
}

// advance: what is pending is in the history.
func (w *Writer) advance() error {
	r := w.pending
	w.follow()
	if err := w.reader.at.step(r); err != nil {
		return err
	}
	if !r.Release {
		w.state = Owning
	}
	// Who gives it back with a commit expects a rival.
	w.reader.turn = r.Release && len(r.Body) > 0 && w.reader.rival != nil
	return nil
}

// append asks the log to create what is pending, and reports whether it is there, and whether this
// request has created it, and when, by the store's clock; zero: it is not known.
func (w *Writer) append(ctx context.Context) (there, created bool, at time.Time, err error) {
	at, err = chunkstore.AppendDated(ctx, w.reader.log, w.pending.Number, w.stored)
	if err == nil {
		return true, true, at, nil
	}
	there, err = refused(ctx, w, err)
	return there, false, time.Time{}, err
}

// refused reports whether what is pending is there, where the log has answered to that with err.
func refused(ctx context.Context, w *Writer, err error) (there bool, _ error) {
	n := w.pending.Number
	if errors.Is(err, chunkstore.ErrAbsent) { // T6: or that one was trimmed
		c, beyondErr := w.beyond(ctx)
		switch {
		case c != nil:
			return false, ErrBehind
		case errors.Is(beyondErr, ErrUnsettled):
			return false, beyondErr
		}
		return false, fmt.Errorf("%w: %w", ErrLost, err)
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
		return false, ErrBehind // Next tells what happened
	}
	if w.reader.grace == 0 || w.unsure() { // T2: was n trimmed, and is it a fence now that slept?
		if c, err := w.beyond(ctx); err != nil {
			return false, err
		} else if c != nil {
			return false, ErrBehind
		}
	}
	if len(found) == 0 {
		// Nobody has it: S3 refuses one of two requests that it is carrying out at once.
		return false, ErrUnsettled
	}
	return false, nil
}

// beyond returns the newest checkpoint, if it has more than what w has read and written, or is of
// another history; else nil. It fails with ErrUnsettled, and with ErrBehind if there is none, or
// one that cannot be read: then w's history is over.
func (w *Writer) beyond(ctx context.Context) (*Checkpoint, error) {
	c, err := w.reader.lookAgain(ctx)
	if errors.Is(err, ErrBehind) {
		return nil, err
	} else if chunkstore.IsFault(err) {
		return nil, fmt.Errorf("%w: %w", ErrBehind, err)
	} else if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsettled, err)
	}
	return c, nil
}

// Checkpoint puts a checkpoint of all that w has read and written. It fails as [Saving.Run].
func (w *Writer) Checkpoint(ctx context.Context, body []byte) error {
	s := w.Saving()
	s.Body = body
	if err := s.Run(ctx); err != nil {
		return err
	}
	w.Put(s)
	return nil
}

// Saving is a checkpoint on its way. It shares nothing with its writer, who may go on meanwhile.
type Saving struct {
	Checkpoint
	store Store
	etag  string // of the newest checkpoint that is known
	seen  uint64 // its number
}

// Saving begins a checkpoint of all that w has read and written. The caller gives it a Body and
// runs it, and then w is told by Put.
func (w *Writer) Saving() *Saving {
	r := w.reader
	return &Saving{Checkpoint{Position: r.at}, r.store, r.etag, r.seen}
}

// Run puts the checkpoint. It does nothing if there is one as new. It fails with
// [chunkstore.ErrConflict] if the database has another lineage by now, and with ErrLost if it has
// an older checkpoint than was seen, or one of another record with that number.
func (s *Saving) Run(ctx context.Context) error {
	for {
		if s.seen >= s.Number && s.etag != "" { // T3
			return nil
		}
		etag, err := s.store.Replace(ctx, &s.Checkpoint, s.etag)
		if err == nil {
			s.etag, s.seen = etag, s.Number
			return nil
		} else if !errors.Is(err, chunkstore.ErrConflict) {
			return fmt.Errorf("put a checkpoint: %w", err)
		}
		newest, etag, err := s.store.Newest(ctx, "")
		switch {
		case err != nil:
			return fmt.Errorf("put a checkpoint: %w", err)
		case newest.Lineage != s.Lineage:
			return fmt.Errorf("put a checkpoint: another history has begun: %w",
				chunkstore.ErrConflict)
		case newest.Number > s.Number:
			return nil // the writer is behind, and its look must say so
		case s.etag != "" && etag != s.etag && newest.Number <= s.seen,
			newest.Number == s.Number && newest.Digest != s.Digest:
			return fmt.Errorf("put a checkpoint: %w: that at %d has made place for another at %d",
				ErrLost, s.seen, newest.Number) // T3
		}
		s.etag, s.seen = etag, newest.Number
	}
}

// Put tells w that s, a checkpoint of its own, was run without an error.
func (w *Writer) Put(s *Saving) {
	if r := w.reader; s.Lineage == r.at.Lineage && s.seen > r.seen {
		r.etag, r.seen = s.etag, s.seen
	}
}

// Trim removes the records below before that the newest checkpoint which w knows has, but for its
// last one (T6), and fences that must stay (T1). A checkpoint that was put twice [Grace] ago must
// have them (T3).
func (w *Writer) Trim(ctx context.Context, before uint64) error {
	r := w.reader
	return r.log.Trim(ctx, min(before, r.seen), r.at.Fences)
}
