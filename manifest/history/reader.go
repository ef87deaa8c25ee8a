package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"verneuil/chunkstore"
)

// Grace is for how long a reader that knows that no checkpoint was beyond it believes what the log
// has, and that it has no more. Who trims removes nothing but what a checkpoint has that was put
// twice that time ago.
const Grace = 10 * time.Minute

// windows are how many records are asked for at once: by who was at the end, and found that one is
// new, one more, as a rule there is none; and by who goes on finding more, more. Who has found
// more than all but the last of them looks for a checkpoint first, which is nearer to the end.
var windows = [...]int{1, 1, 4, 16, 64}

// standAtOnce is how many records Stand asks for at once.
const standAtOnce = 64

// traceReads is how many records Trace reads, and one more: a list has the price of a dozen GETs.
const traceReads = 8

// afterCheckpoint is the window for who has just read a checkpoint, and reads ahead.
const afterCheckpoint = 3

// Position is how far a history goes.
type Position struct {
	Lineage  [16]byte
	Number   uint64   // of the last record; 0: there is none yet
	Epoch    uint64   // of that record; 0: there is none
	Digest   Digest   // of that record
	Released bool     // nobody owns the history: that record gave it back, or there is none
	Fences   []uint64 // of takeovers from writers that had not released, ascending (T1)
}

// Is reports whether p and o are the same place in one history.
func (p Position) Is(o Position) bool {
	return p.Lineage == o.Lineage && p.Number == o.Number && p.Digest == o.Digest
}

// Checkpoint is all that the records up to Number have made. Body is opaque. Without a Lineage it
// is in no history, and all that there is: another one may replace it.
type Checkpoint struct {
	Position
	Body []byte
}

// Store is where one database's histories are: one log for each lineage, and the newest
// checkpoint of all. It is safe for concurrent use.
type Store interface {
	// Log returns the log of a lineage. It asks nobody.
	Log(lineage [16]byte) chunkstore.Log
	// Newest returns the newest checkpoint and its ETag. It fails with
	// [chunkstore.ErrUnmodified] if that is etag, and with ErrAbsent if there is none.
	Newest(ctx context.Context, etag string) (c *Checkpoint, newest string, err error)
	// Replace puts c in the place of the checkpoint that has the given ETag, or of none if
	// etag is empty, durably. It fails with [chunkstore.ErrConflict] if there is another.
	// After other errors c may be there, or may yet be.
	Replace(ctx context.Context, c *Checkpoint, etag string) (newest string, err error)
}

// Reader follows a history. It is one goroutine's.
type Reader struct {
	store Store
	log   chunkstore.Log
	grace time.Duration
	now   func() time.Duration // a clock that does not stop, nor is set

	at   Position
	etag string        // of the newest checkpoint that was seen
	seen uint64        // its number
	sure time.Duration // when no checkpoint was beyond at

	ahead  bool
	window int  // of windows, for the next read
	expect int  // that many records are there, as it seems; 0: nobody knows
	looked bool // since r was at the end, or at a checkpoint
	fenced bool // the last record is a fence: as a rule there is one more, and that is all

	rival *Record // the last fence that was read; nil: none was
	turn  bool    // the history was just given back to it, as it seems
}

// Options of a [Reader] and a [Writer].
type Options struct {
	// Grace is for how long a reader believes the log, and a writer that no copy of it has gone
	// on. 0: a reader looks each time, a writer only if it was resumed.
	Grace time.Duration
	// Now is a clock of which only differences count. It is required if Grace is not 0.
	Now func() time.Duration
	// Ahead: after a checkpoint, 16 records are asked for at once, or more ([Reader.Expect]),
	// whether or not they are there: for who waits for the newest version, and rarely reads a
	// checkpoint.
	Ahead bool
}

// Step is what is new in a history: first the checkpoint, if there is one, in place of all that
// was read before; then the records, in order.
type Step struct {
	Checkpoint *Checkpoint
	Records    []*Record
	// End: at a moment after the call began, there was nothing more.
	End bool
}

// Empty: nothing is new.
func (s Step) Empty() bool { return s.Checkpoint == nil && len(s.Records) == 0 }

// Open begins at the newest checkpoint, which it returns. It fails with
// [chunkstore.ErrAbsent] if there is none.
func Open(ctx context.Context, store Store, o Options) (*Reader, *Checkpoint, error) {
	r := newReader(store, o)
	began := r.now()
	c, etag, err := store.Newest(ctx, "")
	if err != nil {
		return nil, nil, fmt.Errorf("open the history: %w", err)
	}
	r.jump(c, etag, began)
	return r, c, nil
}

func newReader(store Store, o Options) *Reader {
	r := &Reader{store: store, grace: o.Grace, now: o.Now, ahead: o.Ahead}
	if r.now == nil {
		r.now = func() time.Duration { return 0 }
	}
	return r
}

// Clone returns a reader that is where r is, and goes on by itself.
func (r *Reader) Clone() *Reader {
	c := *r
	return &c
}

// At returns how far r has read. The caller may not change it.
func (r *Reader) At() Position { return r.at }

// jump makes c, which has the given ETag, and was asked for at that time, the end of what was read.
func (r *Reader) jump(c *Checkpoint, etag string, began time.Duration) {
	r.log, r.at = r.store.Log(c.Lineage), c.Position
	r.etag, r.seen, r.sure = etag, c.Number, began
	r.window, r.looked, r.fenced, r.turn = 0, true, false, false
	if r.ahead {
		r.window = afterCheckpoint
	}
}

// look asks for the newest checkpoint. It returns it if r must go on from there: it
// is beyond r, or is another lineage's.
func (r *Reader) look(ctx context.Context) (*Checkpoint, string, error) {
	c, etag, err := r.store.Newest(ctx, r.etag)
	if errors.Is(err, chunkstore.ErrUnmodified) {
		return nil, "", nil // it was seen, and r.at is not before it
	} else if err != nil {
		return nil, "", fmt.Errorf("look at the checkpoint: %w", err)
	}
	// At the very number it is what was read, or the store was put back, and others have gone on.
	old := c.Number < r.at.Number || c.Number == r.at.Number && c.Digest == r.at.Digest
	if c.Lineage == r.at.Lineage && old && r.at.Lineage != [16]byte{} {
		r.etag, r.seen = etag, c.Number
		return nil, "", nil
	}
	r.sure = r.now() - r.grace // the clock has stood still: Next, too, has to look
	return c, etag, nil
}

// Next returns what is new since the last call: at most 64 records. An empty step means that r is
// at the end, as End does: else there may be more. After an error r is where it was.
func (r *Reader) Next(ctx context.Context) (Step, error) { return r.next(ctx, 1) }

// Expect has the next call ask for so many records at once, and one more, but for 64 at most, if r
// reads ahead ([Options]): they seem to be there. It costs requests if they are not, and round
// trips if there are more.
func (r *Reader) Expect(records int) {
	if r.ahead {
		r.expect = min(records+1, windows[len(windows)-1])
	}
}

// LookAndNext is Look and Next, both at once: it is for who wants the newest version now, and takes
// one round trip as a rule, also where one record is new. It fails as they do.
func (r *Reader) LookAndNext(ctx context.Context) (Step, error) {
	ahead := r.Clone()
	var step Step
	wait := chunkstore.Beside(func() (err error) {
		step, err = ahead.next(ctx, 2)
		return err
	})
	lookErr := r.Look(ctx)
	if err := cmp.Or(lookErr, wait()); err != nil {
		return Step{}, err
	}
	if r.seen >= ahead.seen {
		ahead.etag, ahead.seen = r.etag, r.seen
	}
	*r = *ahead
	return step, nil
}

// known is Next of who has the next record from elsewhere, and knows that it is in the history.
func (r *Reader) known(next *Record) error {
	at, err := r.at.After(next)
	if err != nil {
		return err
	}
	r.at, r.fenced, r.window, r.looked, r.turn = at, isFence(next), 0, false, false
	return nil
}

// next is Next that asks for so many records at least.
func (r *Reader) next(ctx context.Context, least int) (Step, error) {
	if r.at.Lineage == [16]byte{} {
		return r.another(ctx)
	}
	if r.window == len(windows)-1 && !r.looked { // far behind
		if c, err := r.goOn(ctx); c != nil || err != nil {
			return Step{Checkpoint: c}, err
		}
	}
	began, limit := r.now(), max(windows[r.window], least, r.expect)
	// One more than there is tells that it is the end.
	if b, ok := r.log.(chunkstore.Batching); r.fenced || ok && b.Batches(ctx) {
		limit = max(limit, 2)
	}
	stored, err := r.readTurn(ctx)
	if len(stored) > 0 {
		limit = len(stored)
	} else if err == nil {
		stored, err = r.log.Read(ctx, r.at.Number+1, limit)
	}
	if err != nil {
		return Step{}, fmt.Errorf("read the log: %w", err)
	}
	sure := r.grace > 0 && r.now()-r.sure < r.grace
	at, records, broken := follow(r.at, stored)
	if !sure || broken != nil { // T2
		if c, err := r.goOn(ctx); c != nil || err != nil {
			return Step{Checkpoint: c}, err
		}
	} else if len(stored) == 0 {
		r.sure = began
	}
	stray := errors.Is(broken, errStray) // T7
	if len(records) == 0 && broken != nil && !stray {
		return Step{}, broken
	}
	r.at, r.expect = at, 0
	r.fenced = len(records) > 0 && isFence(records[len(records)-1])
	for _, record := range records {
		if isFence(record) {
			r.rival = record
		}
	}
	switch {
	case len(stored) < limit: // at the end
		r.window, r.looked = 0, false
	case at.Released && limit <= 2: // as a rule there is no more
		r.window = 0
	default:
		r.window = min(r.window+1, len(windows)-1)
	}
	return Step{Records: records, End: stray || len(stored) < limit && broken == nil}, nil
}

// readTurn returns the next two records, of which it asks for the second one only, if the history
// was just given to a rival, who has taken it by such a fence as the last time, as the digest in
// that record proves; else nil: then the next one is to be asked for.
func (r *Reader) readTurn(ctx context.Context) ([][]byte, error) {
	if !r.turn {
		return nil, nil
	}
	r.turn = false
	if b, ok := r.log.(chunkstore.Batching); ok && b.Batches(ctx) {
		return nil, nil
	}
	fence := &Record{
		Number: r.at.Number + 1, Epoch: r.at.Epoch + 1, Writer: r.rival.Writer,
		Before: r.at.Digest, Fence: true, Body: r.rival.Body,
	}
	first := fence.Encode()
	stored, err := r.log.Read(ctx, fence.Number+1, 1)
	if err != nil || len(stored) == 0 {
		return nil, err
	}
	second, err := Decode(fence.Number+1, stored[0])
	if err != nil || second.Before != fence.digest {
		return nil, nil
	}
	know(r.log, fence.Number, "", first)
	return [][]byte{first, stored[0]}, nil
}

// goOn is look, and makes what it returns the end of what was read.
func (r *Reader) goOn(ctx context.Context) (*Checkpoint, error) {
	began := r.now()
	c, etag, err := r.look(ctx)
	if err != nil {
		return nil, err
	}
	if c != nil {
		r.jump(c, etag, began)
	} else {
		r.sure, r.looked = began, true
	}
	return c, nil
}

// another is Next of who has read a checkpoint that is in no history.
func (r *Reader) another(ctx context.Context) (Step, error) {
	c, err := r.goOn(ctx)
	return Step{Checkpoint: c, End: c == nil || c.Lineage == [16]byte{}}, err
}

// Look asks the store whether the newest checkpoint is of what r has read. It fails with ErrBehind
// if it is not: it has more, or is another history's, or is gone, which also is an ErrAbsent.
func (r *Reader) Look(ctx context.Context) error {
	c, err := r.lookAgain(ctx)
	switch {
	case errors.Is(err, chunkstore.ErrAbsent):
		return fmt.Errorf("%w: the checkpoint is gone: %w", ErrBehind, err)
	case err != nil:
		return err
	case c != nil:
		return fmt.Errorf("%w: there is another checkpoint", ErrBehind)
	}
	return nil
}

// lookAgain is look of who would go on from where he is. It fails with ErrBehind if the checkpoint
// that was seen has made place for one that is no newer: that is none of the history's (T3).
func (r *Reader) lookAgain(ctx context.Context) (*Checkpoint, error) {
	etag, seen := r.etag, r.seen
	c, _, err := r.look(ctx)
	if err == nil && c == nil && etag != "" && r.etag != etag && r.seen <= seen {
		return nil, fmt.Errorf("%w: another checkpoint at %d is in the place of that at %d",
			ErrBehind, r.seen, seen)
	}
	return c, err
}

// Check asks the store whether what r has read is the end of the history, as it was: it is Look and
// Stand, and that there is no more. It fails with ErrBehind if it is not.
func (r *Reader) Check(ctx context.Context, since Position) error {
	if err := r.Look(ctx); err != nil || r.at.Lineage == [16]byte{} {
		return err
	}
	return r.unlessTrimmed(ctx, func() error { return r.stand(ctx, r.seen+1, since, 1) })
}

// unlessTrimmed returns what look finds, which looks for records from the newest checkpoint on that
// was seen. Where one that is gone may have been trimmed since that was looked at, it is ErrBehind,
// or if the newest one by now is of what r has read, look is called again.
func (r *Reader) unlessTrimmed(ctx context.Context, look func() error) error {
	for {
		seen, found := r.seen, look()
		if !errors.Is(found, ErrLost) {
			return found
		}
		if err := r.newestStands(ctx); err != nil && !errors.Is(err, ErrLost) {
			return err
		}
		if r.seen <= seen {
			return found
		}
	}
}

// newestStands asks whether the newest checkpoint is one that r has read on from. It fails with
// ErrBehind if it is a later one, and with ErrLost if it is gone, or has made place for an older
// one.
func (r *Reader) newestStands(ctx context.Context) error {
	c, err := r.lookAgain(ctx)
	switch {
	case c != nil:
		return fmt.Errorf("%w: there is another checkpoint", ErrBehind)
	case errors.Is(err, ErrBehind), errors.Is(err, chunkstore.ErrAbsent):
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
	return err
}

// Stand asks the store whether the records that r has read after the newest checkpoint that was
// seen are all there. A reader stops at the first one that is not, also if those after it are
// there: that a record was appended says nothing of those before it. Where since is a place in the
// history at which r or another reader was found to stand, the records before that one are not
// asked for: a store that was put back to what it was has lost the last of them, too. It fails with
// ErrLost.
func (r *Reader) Stand(ctx context.Context, since Position) error {
	// A checkpoint has those before, and they may have been trimmed.
	return r.unlessTrimmed(ctx, func() error { return r.stand(ctx, r.seen+1, since, 0) })
}

// Remains asks the store whether the last that r has read is there, and the checkpoint before it:
// that are two requests, both at once. Of a store that was put back to what it was the last is
// lost, whatever else is. If another history was begun, as a record between the two is lost, Next
// goes on with that one. It fails with ErrLost. nil: it is there, or the history has gone on, as
// Next finds out.
func (r *Reader) Remains(ctx context.Context) error {
	last := r.Clone()
	wait := chunkstore.Beside(func() error {
		if last.at.Number <= last.seen {
			return nil
		}
		return last.stand(ctx, last.at.Number, Position{}, 0)
	})
	err := r.newestStands(ctx)
	if lost := wait(); lost != nil {
		err = r.unlessTrimmed(ctx, func() error { return lost })
	}
	if errors.Is(err, ErrBehind) && !errors.Is(err, ErrLost) {
		return nil
	}
	return err
}

// Trace is Look, and Stand that costs little, for who writes, and asks again and again: of more
// than a few records it asks for the list. They are all that a reader needs beside the checkpoint,
// however long ago they were appended: who puts a store back takes his time, and removes them in
// any order. It begins with the last one that the checkpoint has (T6), and asks nobody if the log
// itself can tell ([chunkstore.Chained]). It fails with ErrLost, and with ErrBehind if the history
// has gone on, so that records may have been trimmed.
func (r *Reader) Trace(ctx context.Context) error {
	if c, ok := r.log.(chunkstore.Chained); ok && c.Chains(ctx) {
		return nil
	}
	if err := r.newestStands(ctx); err != nil {
		return err
	}
	return r.unlessTrimmed(ctx, func() error {
		first := max(1, r.seen)
		if r.at.Number < first+traceReads {
			return r.stand(ctx, first, Position{}, 0)
		}
		return r.listed(ctx, first)
	})
}

// listed asks for the list of the records from first on, and reads the last one. One that the list
// lacks is asked for: it may be late. Where one is another than was read, or was not read but is
// known from elsewhere, or is older than the one before it, others may have filled a gap, and all
// are read from there on.
func (r *Reader) listed(ctx context.Context, first uint64) error {
	next, from := first, r.at.Number
	var before time.Time
	var missing []uint64
	miss := func(to uint64) {
		for ; next < to; next++ {
			missing = append(missing, next)
		}
	}
	err := r.log.List(ctx, first, r.at.Number, func(e chunkstore.LogEntry) bool {
		miss(e.Number)
		next = e.Number + 1
		if e.Other {
			from = min(from, e.Number)
		} else if e.Appended.Before(before) {
			from = min(from, e.Number-1)
		}
		before = e.Appended
		return true
	})
	if err != nil {
		return fmt.Errorf("list the log: %w", err)
	}
	miss(r.at.Number + 1)
	for _, n := range missing {
		if stored, err := r.log.Read(ctx, n, 1); err != nil {
			return fmt.Errorf("read the log: %w", err)
		} else if len(stored) == 0 {
			return fmt.Errorf("%w: record %d is gone", ErrLost, n)
		}
	}
	return r.stand(ctx, max(first, from), Position{}, 0)
}

// stand is Stand of the records from first on, and asks for so many after the last one, of which
// there may be none.
func (r *Reader) stand(ctx context.Context, first uint64, since Position, beyond int) error {
	if since.Lineage != r.at.Lineage || since.Number < first || since.Number > r.at.Number {
		since = Position{}
	}
	first = max(first, since.Number)
	var before *Record
	for from := first; from <= r.at.Number || beyond > 0; {
		there := int(min(r.at.Number+1-from, standAtOnce))
		limit := there
		if from+uint64(there) > r.at.Number {
			limit, beyond = there+beyond, 0
		}
		stored, err := r.log.Read(ctx, from, limit)
		switch {
		case err != nil:
			return fmt.Errorf("read the log: %w", err)
		case len(stored) < there:
			return fmt.Errorf("%w: record %d is gone", ErrLost, from+uint64(len(stored)))
		case len(stored) > there:
			return fmt.Errorf("%w: there is a record %d", ErrBehind, from+uint64(there))
		}
		for i, s := range stored {
			record, err := Decode(from+uint64(i), s)
			if err != nil {
				return fmt.Errorf("%w: %w", ErrLost, err)
			}
			if before != nil && record.Before != before.digest ||
				record.Number == since.Number && record.digest != since.Digest {
				return fmt.Errorf("%w: record %d is another", ErrLost, record.Number)
			}
			before = record
		}
		from += uint64(there)
	}
	if before != nil && before.digest != r.at.Digest {
		return fmt.Errorf("%w: record %d is another", ErrLost, before.Number)
	}
	return nil
}

// Astray reports whether the next record is there, and is none of this history (T7). Nobody can go
// on from there: who means to begins another history.
func (r *Reader) Astray(ctx context.Context) (bool, error) {
	stored, err := r.log.Read(ctx, r.at.Number+1, 1)
	if err != nil {
		return false, fmt.Errorf("read the log: %w", err)
	}
	_, _, broken := follow(r.at, stored)
	return errors.Is(broken, errStray), nil
}

// ETag returns the ETag of the newest checkpoint that was seen; empty: none was, yet.
func (r *Reader) ETag() string { return r.etag }

// Seen returns the number of that checkpoint.
func (r *Reader) Seen() uint64 { return r.seen }

// errStray: the record is whole, and is not the successor of the one before it (T7).
var errStray = fmt.Errorf("not the successor of the one before: %w", chunkstore.ErrCorrupt)

func isFence(r *Record) bool { return r.Fence }

// follow goes from a position over stored records, as far as each is the successor of the one
// before.
func follow(p Position, stored [][]byte) (Position, []*Record, error) {
	var records []*Record
	for _, s := range stored {
		r, err := Decode(p.Number+1, s)
		if err == nil {
			err = p.step(r)
		}
		if err != nil {
			return p, records, err
		}
		records = append(records, r)
	}
	return p, records, nil
}

// After returns the position of r, which was encoded or decoded, and must be the successor of what
// stands at p (H4). It fails with [chunkstore.ErrCorrupt]. Who reads what is past, below a
// checkpoint, believes it only if it leads there.
func (p Position) After(r *Record) (Position, error) {
	err := p.step(r)
	return p, err
}

// step moves p to r, which was encoded or decoded, if r may follow (H4).
func (p *Position) step(r *Record) error {
	if r.Number != p.Number+1 || r.Before != p.Digest {
		return fmt.Errorf("record %d is %w", r.Number, errStray)
	}
	wrong := ""
	switch {
	case r.Fence && r.Epoch != p.Epoch+1:
		wrong = "is a fence of the wrong epoch"
	case !r.Fence && (r.Epoch != p.Epoch || p.Released):
		wrong = "is by somebody who does not own the history"
	}
	if wrong != "" {
		return fmt.Errorf("record %d %s: %w", r.Number, wrong, chunkstore.ErrCorrupt)
	}
	if r.Fence && !p.Released {
		p.Fences = append(slices.Clip(p.Fences), r.Number) // others have the array, too
	}
	p.Number, p.Epoch, p.Digest, p.Released = r.Number, r.Epoch, r.digest, r.Release
	return nil
}
