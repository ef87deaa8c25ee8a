package versions

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
)

// pastRecords is how many records of the past are read at a time.
const pastRecords = 64

// Past is what one target has of a database's versions before the newest: checkpoints that are
// kept, and records after them. It is one goroutine's.
type Past struct {
	t      *chunkstore.Target
	key    string
	kept   []Kept
	newest *Follower // at the newest checkpoint; nil: there is none
}

// OpenPast finds out which checkpoints t keeps of the database whose manifest has that key, and
// which one is the newest. There may be none.
func OpenPast(ctx context.Context, t *chunkstore.Target, key string) (*Past, error) {
	kept, err := ListKept(ctx, t, key)
	if err != nil {
		return nil, err
	}
	f, err := Open(ctx, t, key)
	if err != nil && !chunkstore.IsFault(err) { // the others may be well
		return nil, err
	}
	return &Past{t, key, kept, f}, nil
}

// Kept returns the checkpoints that are kept, in the order of [ListKept].
func (p *Past) Kept() []Kept { return p.kept }

// numbers returns those of the checkpoints of a lineage, ascending.
func (p *Past) numbers(lineage [16]byte) (numbers []uint64) {
	for _, k := range p.kept {
		if k.Lineage == lineage {
			numbers = append(numbers, k.Number)
		}
	}
	if at, ok := p.head(); ok && at.Lineage == lineage {
		numbers = append(numbers, at.Number)
	}
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

// head returns where the newest checkpoint stands, if there is one in a history.
func (p *Past) head() (at history.Position, ok bool) {
	if p.newest == nil {
		return at, false
	}
	at = p.newest.Newest().At
	return at, at.Lineage != [16]byte{}
}

// checkpoint returns the checkpoint id, one of numbers'.
func (p *Past) checkpoint(ctx context.Context, id ID) (*manifest.Manifest, error) {
	if at, ok := p.head(); ok && IDOf(at) == id {
		return p.newest.Newest(), nil
	}
	return GetKept(ctx, p.t, p.key, id)
}

// Version returns the version id. It fails with [chunkstore.ErrAbsent] if the target has it no
// more, or never had it.
func (p *Past) Version(ctx context.Context, id ID) (*manifest.Manifest, error) {
	numbers := p.numbers(id.Lineage)
	at, found := slices.BinarySearch(numbers, id.Number)
	if !found {
		at--
	}
	var m *manifest.Manifest
	var err error
	if at >= 0 {
		if m, err = p.checkpoint(ctx, ID{id.Lineage, numbers[at]}); err == nil {
			m, err = p.goOn(ctx, m,
				func(m *manifest.Manifest) bool { return m.At.Number <= id.Number })
		}
	}
	if err != nil {
		return nil, fmt.Errorf("version %v: %w", id, err)
	}
	if m == nil || m.At.Number != id.Number {
		return nil, fmt.Errorf("version %v: %w", id, chunkstore.ErrAbsent)
	}
	return m, nil
}

// Until returns the last version from m on, which is a checkpoint of the target, that was cut at t
// or before, by its writer's clock, as far as the target has all records; m if it is in no history.
func (p *Past) Until(
	ctx context.Context, m *manifest.Manifest, t time.Time,
) (*manifest.Manifest, error) {
	if m.At.Lineage == [16]byte{} {
		return m, nil
	}
	return p.goOn(ctx, m, func(m *manifest.Manifest) bool { return !m.Time.After(t) })
}

// goOn returns the last version from the checkpoint m on before the first that is not within.
// What is between two checkpoints is believed if it leads from the one to the other: a number that
// was trimmed may have been created again (package history). Then, or if some of it is gone, the
// first of them is the last version that can be had. After the last one, nothing was trimmed.
func (p *Past) goOn(
	ctx context.Context, m *manifest.Manifest, within func(*manifest.Manifest) bool,
) (*manifest.Manifest, error) {
	for {
		numbers := p.numbers(m.At.Lineage)
		at, found := slices.BinarySearch(numbers, m.At.Number)
		if found {
			at++
		}
		if at == len(numbers) {
			return p.tail(ctx, m, within)
		}
		next, err := p.checkpoint(ctx, ID{m.At.Lineage, numbers[at]})
		if err != nil {
			return nil, err
		}
		w := &walk{log: NewStore(p.t, p.key).Log(m.At.Lineage), m: m, within: within, last: m}
		whole, err := w.to(ctx, next.At.Number)
		switch {
		case err != nil:
			return nil, err
		case !whole || w.m.At.Digest != next.At.Digest:
			return m, nil
		case w.beyond:
			return w.last, nil
		}
		m = next
	}
}

// tail is goOn after the last checkpoint.
func (p *Past) tail(
	ctx context.Context, m *manifest.Manifest, within func(*manifest.Manifest) bool,
) (*manifest.Manifest, error) {
	if at, ok := p.head(); !ok || IDOf(at) != IDOf(m.At) {
		w := &walk{log: NewStore(p.t, p.key).Log(m.At.Lineage), m: m, within: within, last: m}
		_, err := w.to(ctx, endOfLog)
		return w.last, err
	}
	f := p.newest.Clone()
	f.each = func(m *manifest.Manifest) error {
		if !within(m) {
			return errBeyond
		}
		return nil
	}
	_, err := f.Next(ctx)
	if errors.Is(err, errBeyond) {
		err = nil
	}
	return f.Newest(), err
}

// endOfLog is beyond all records.
const endOfLog = math.MaxUint64

// errBeyond ends a walk.
var errBeyond = errors.New("beyond what is wanted")

// walk goes over records of a log.
type walk struct {
	log    chunkstore.Log
	m      *manifest.Manifest // what has been read
	within func(*manifest.Manifest) bool
	last   *manifest.Manifest // the last version before the first that is not within
	beyond bool               // there is one that is not
}

// to goes on to the record called number, and reports whether it and all that are before it are
// there. To the end of the log it goes on only as far as within.
func (w *walk) to(ctx context.Context, number uint64) (whole bool, err error) {
	whole, err = EachRecord(ctx, w.log, w.m.At.Number+1, number,
		func(_ uint64, stored []byte) error {
			if w.beyond && number == endOfLog {
				return errBeyond
			}
			return w.step(stored)
		})
	if errors.Is(err, errBroken) || errors.Is(err, errBeyond) {
		return false, nil
	}
	return whole, err
}

// EachRecord calls f with the records of a log from number from, 1 or more, to last, in order, as
// far as none is missing, until f fails. whole says that all were there. It reads 64 at a time.
func EachRecord(
	ctx context.Context, log chunkstore.Log, from, last uint64,
	f func(n uint64, stored []byte) error,
) (whole bool, err error) {
	for from <= last {
		n := int(min(last-from+1, pastRecords))
		stored, err := log.Read(ctx, from, n)
		if err != nil {
			return false, fmt.Errorf("read %v: %w", log, err)
		}
		for k, b := range stored {
			if err := f(from+uint64(k), b); err != nil {
				return false, err
			}
		}
		if len(stored) < n {
			return false, nil
		}
		from += uint64(n)
	}
	return true, nil
}

// errBroken: a record is no successor of the one before it.
var errBroken = errors.New("the log does not go on so")

func (w *walk) step(stored []byte) error {
	r, err := history.Decode(w.m.At.Number+1, stored)
	var at history.Position
	if err == nil {
		at, err = w.m.At.After(r)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	if w.beyond { // only whether it leads on matters
		m := *w.m
		m.At = at
		w.m = &m
	} else if w.m, err = Fold(w.m, r); err != nil {
		return err
	}
	if w.beyond = w.beyond || !w.within(w.m); !w.beyond {
		w.last = w.m
	}
	return nil
}

// Range is a range of records, each of which makes a version that can be gone back to.
type Range struct {
	From, To    ID
	First, Last time.Time // when the store got these two
	Bytes       int64     // of all
}

// Ranges lists the logs, and returns the records that lead on from a checkpoint that there is, to
// the next one or to the end of the log.
func (p *Past) Ranges(ctx context.Context) (all []Range, err error) {
	var lineages [][16]byte
	for _, k := range p.kept {
		lineages = append(lineages, k.Lineage)
	}
	if at, ok := p.head(); ok {
		lineages = append(lineages, at.Lineage)
	}
	slices.SortFunc(lineages, func(a, b [16]byte) int { return slices.Compare(a[:], b[:]) })
	for _, lineage := range slices.Compact(lineages) {
		err = errors.Join(err, p.ranges(ctx, lineage, func(r Range) { all = append(all, r) }))
	}
	slices.SortStableFunc(all, func(a, b Range) int { return b.Last.Compare(a.Last) })
	return all, err
}

// ranges is Ranges of one lineage. It holds the records between two checkpoints at most.
func (p *Past) ranges(ctx context.Context, lineage [16]byte, found func(Range)) error {
	numbers := p.numbers(lineage)
	var r Range // of whole segments, if it is not empty
	var seg []chunkstore.LogEntry
	end := func() { // of r
		if r.To.Number > 0 {
			found(r)
		}
		r = Range{}
	}
	add := func() {
		for _, e := range seg {
			if r.To.Number == 0 {
				r.From, r.First = ID{lineage, e.Number}, e.Appended
			}
			r.To, r.Last, r.Bytes = ID{lineage, e.Number}, e.Appended, r.Bytes+e.Bytes
		}
		seg = seg[:0]
	}
	last := uint64(0) // the last record that was listed
	start := 0        // of numbers: the first checkpoint that is not before the present record
	whole := false    // seg begins after a checkpoint, without a hole
	log := NewStore(p.t, p.key).Log(lineage)
	err := log.List(ctx, 0, math.MaxUint64, func(e chunkstore.LogEntry) bool {
		if e.Number != last+1 {
			whole, seg = false, seg[:0]
			end()
		}
		last = e.Number
		if at, is := slices.BinarySearch(numbers, e.Number-1); is {
			whole, start, seg = true, at+1, seg[:0]
		}
		if !whole {
			return true
		}
		seg = append(seg, e)
		if start == len(numbers) || e.Number == numbers[start] {
			add()
		}
		return true
	})
	end()
	if err != nil {
		return fmt.Errorf("list records: %w", err)
	}
	return nil
}
