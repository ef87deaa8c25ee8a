package history

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"verneuil/chunkstore"
)

// plainStore is a store in memory that does what it is asked, and may then lose the answer.
type plainStore struct {
	mu   sync.Mutex // of requests that are carried out at once
	log  map[uint64][]byte
	cp   *Checkpoint
	etag int
	lose bool // the next answer of an Append

	lists    int    // how many there were
	unlisted uint64 // the list lacks that record
	filled   uint64 // that record was put last
}

func (s *plainStore) Log([16]byte) chunkstore.Log { return plainLog{s} }

func (s *plainStore) Newest(_ context.Context, etag string) (*Checkpoint, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cp == nil {
		return nil, "", chunkstore.ErrAbsent
	}
	if etag == fmt.Sprint(s.etag) {
		return nil, "", chunkstore.ErrUnmodified
	}
	c := *s.cp
	return &c, fmt.Sprint(s.etag), nil
}

func (s *plainStore) Replace(_ context.Context, c *Checkpoint, etag string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cp != nil && etag != fmt.Sprint(s.etag) {
		return "", chunkstore.ErrConflict
	}
	put := *c
	s.cp, s.etag = &put, s.etag+1
	return fmt.Sprint(s.etag), nil
}

type plainLog struct{ s *plainStore }

func (l plainLog) String() string { return "a log in memory" }

func (l plainLog) Append(_ context.Context, n uint64, record []byte) error {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.s.log[n] != nil {
		return chunkstore.ErrConflict
	}
	l.s.log[n] = record
	if l.s.lose {
		l.s.lose = false
		return errLost
	}
	return nil
}

func (l plainLog) Read(_ context.Context, from uint64, limit int) (all [][]byte, err error) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	for n := from; len(all) < limit && l.s.log[n] != nil; n++ {
		all = append(all, l.s.log[n])
	}
	return all, nil
}

func (l plainLog) List(
	_ context.Context, from, to uint64, yield func(chunkstore.LogEntry) bool,
) error {
	l.s.lists++
	for n := from; n <= to; n++ {
		e := chunkstore.LogEntry{Number: n, Appended: time.Unix(int64(n), 0)}
		if n == l.s.filled {
			e.Appended = time.Now()
		}
		if l.s.log[n] != nil && n != l.s.unlisted && !yield(e) {
			break
		}
	}
	return nil
}

func (l plainLog) Trim(_ context.Context, before uint64, keep []uint64) error {
	maps.DeleteFunc(l.s.log, func(n uint64, _ []byte) bool {
		return n < before && !slices.Contains(keep, n)
	})
	return nil
}

// follower opens the history and reads to its end.
func follower(t *testing.T, s Store) *Writer {
	t.Helper()
	r, _, err := Open(t.Context(), s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := NewWriter(r)
	for {
		step, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if step.Empty() {
			return w
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A record was appended, and its answer was lost. Another writer took over, and trimmed it. Then a
// fence that slept takes its number. The record is in the history all the same.
func TestRefusedByAFenceThatSlept(t *testing.T) {
	ctx := t.Context()
	s := &plainStore{log: map[uint64][]byte{}}
	if _, err := Create(ctx, s, Options{}, [16]byte{1}, nil, ""); err != nil {
		t.Fatal(err)
	}
	owner := follower(t, s)
	must(t, owner.Take(ctx, nil))
	sleeper := follower(t, s)

	s.lose = true
	if err := owner.Append(ctx, []byte("a commit"), false); !errors.Is(err, ErrUnsettled) {
		t.Fatalf("the answer was lost, and Append said %v", err)
	}
	next := follower(t, s)
	must(t, next.Take(ctx, nil))
	must(t, next.Checkpoint(ctx, []byte("with the commit")))
	must(t, next.Trim(ctx, next.At().Number+1))
	if s.log[2] != nil || s.log[3] == nil {
		t.Fatal("the commit is there, or the fence after it is not")
	}
	if err := sleeper.Take(ctx, nil); !errors.Is(err, ErrBehind) {
		t.Fatalf("who slept took the history over: %v", err)
	}
	if s.log[2] == nil {
		t.Fatal("the fence that slept is not there")
	}
	if err := owner.Settle(ctx); !errors.Is(err, ErrBehind) {
		t.Errorf("the commit is in the history, and its writer is told %v", err)
	}
	if err := owner.Append(ctx, []byte("more"), false); !errors.Is(err, ErrBehind) {
		t.Errorf("a writer that was taken over from appends: %v", err)
	}
	if err := sleeper.Append(ctx, []byte("x"), false); !errors.Is(err, ErrBehind) {
		t.Errorf("who slept appends: %v", err)
	}
}

// togetherStore answers no request before it has another one.
type togetherStore struct {
	*plainStore
	meet chan struct{}
}

func (s *togetherStore) Newest(ctx context.Context, etag string) (*Checkpoint, string, error) {
	s.meet <- struct{}{}
	return s.plainStore.Newest(ctx, etag)
}

func (s *togetherStore) Log(lineage [16]byte) chunkstore.Log {
	return togetherLog{s.plainStore.Log(lineage), s.meet}
}

type togetherLog struct {
	chunkstore.Log
	meet chan struct{}
}

func (l togetherLog) Read(ctx context.Context, from uint64, limit int) ([][]byte, error) {
	<-l.meet
	return l.Log.Read(ctx, from, limit)
}

// TestLookAndNext: who looks asks for records at the same time, and is at the end with one round;
// where the checkpoint is another, or a record damaged, he is where he was.
func TestLookAndNext(t *testing.T) {
	s := &plainStore{log: map[uint64][]byte{}}
	if _, err := Create(t.Context(), s, Options{}, [16]byte{1}, nil, ""); err != nil {
		t.Fatal(err)
	}
	w := follower(t, s)
	if err := w.Take(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	o := Options{Grace: Grace, Now: func() time.Duration { return 0 }}
	r, _, err := Open(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	for step, err := r.Next(t.Context()); !step.End; step, err = r.Next(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
	}
	both := &togetherStore{s, make(chan struct{})}
	r.store, r.log = both, both.Log([16]byte{1})
	for n := range 3 { // none, one, two that are new
		for range n {
			if err := w.Append(t.Context(), []byte{1}, false); err != nil {
				t.Fatal(err)
			}
		}
		step, err := r.LookAndNext(t.Context())
		if err != nil || len(step.Records) != n || step.End != (n < 2) {
			t.Errorf("%d new: %+v, %v", n, step, err)
		}
	}
	if err := w.Checkpoint(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	step, err := r.LookAndNext(t.Context())
	if err != nil || !step.Empty() || r.Seen() != w.At().Number || r.ETag() != fmt.Sprint(s.etag) {
		t.Errorf("checkpoint of what was read: %+v, %v, at %d", step, err, r.Seen())
	}
	at := r.At().Number
	r.store, r.log = s, s.Log([16]byte{1}) // a damaged record has it look again
	s.log[at+1] = []byte("damaged")
	if _, err := r.LookAndNext(t.Context()); !errors.Is(err, chunkstore.ErrCorrupt) {
		t.Errorf("a damaged record: %v", err)
	}
	s.cp.Lineage, s.etag = [16]byte{2}, s.etag+1
	if _, err := r.LookAndNext(t.Context()); !errors.Is(err, ErrBehind) || r.At().Number != at {
		t.Errorf("another history: %v, at %d", err, r.At().Number)
	}
}

// batchingLog is one that reads several records by one request.
type batchingLog struct{ chunkstore.Log }

func (batchingLog) Batches(context.Context) bool { return true }

// TestBatches: where a second record costs nothing, who reads the only one that is new finds by the
// same request that it is the last.
func TestBatches(t *testing.T) {
	s := &plainStore{log: map[uint64][]byte{}}
	if _, err := Create(t.Context(), s, Options{}, [16]byte{1}, nil, ""); err != nil {
		t.Fatal(err)
	}
	w := follower(t, s)
	must(t, w.Take(t.Context(), nil))
	must(t, w.Append(t.Context(), []byte{1}, false))
	for _, batches := range []bool{false, true} {
		r := follower(t, s).Reader()
		if batches {
			r.log = batchingLog{r.log}
		}
		must(t, w.Append(t.Context(), []byte{1}, false))
		step, err := r.Next(t.Context())
		if err != nil || len(step.Records) != 1 || step.End != batches {
			t.Errorf("batches %v: %+v, %v", batches, step, err)
		}
	}
}

// cutLog is a log that can tell that there is no record before the next one.
type cutLog struct{ plainLog }

func (l cutLog) Append(ctx context.Context, n uint64, record []byte) error {
	if n > 1 && l.s.log[n-1] == nil {
		return chunkstore.ErrAbsent
	}
	return l.plainLog.Append(ctx, n, record)
}

type cutStore struct{ *plainStore }

func (s cutStore) Log([16]byte) chunkstore.Log { return cutLog{plainLog{s.plainStore}} }

// newOwner returns one who has appended records up to that number, the first of which is his fence,
// and has put a checkpoint at another.
func newOwner(t *testing.T, s Store, last, checkpoint uint64) *Writer {
	t.Helper()
	r, err := Create(t.Context(), s, Options{}, [16]byte{1}, nil, "")
	must(t, err)
	w := NewWriter(r)
	must(t, w.Take(t.Context(), nil))
	for n := uint64(1); n < last; n++ {
		if n == checkpoint {
			must(t, w.Checkpoint(t.Context(), nil))
		}
		must(t, w.Append(t.Context(), fmt.Append(nil, n), false))
	}
	return w
}

// TestStand: records that a reader needs are missed, wherever they are gone, and others are not.
func TestStand(t *testing.T) {
	const last, checkpoint = 3*standAtOnce + 5, 10
	for _, gone := range []uint64{
		1, checkpoint, checkpoint + 1, 12, 10 + standAtOnce, 11 + standAtOnce, 150, last - 1, last,
	} {
		for _, since := range []uint64{0, 5, 100, last} {
			s := &plainStore{log: make(map[uint64][]byte)}
			w := newOwner(t, s, last, checkpoint)
			r := w.Reader()
			seen := Position{Lineage: r.at.Lineage, Number: since}
			if since > 0 {
				record, err := Decode(since, s.log[since])
				must(t, err)
				seen.Digest = record.digest
			}
			must(t, r.Clone().Stand(t.Context(), seen))
			must(t, r.Clone().Check(t.Context(), seen))
			needed := gone > checkpoint && gone >= since
			for what, change := range map[string]func(){
				"is gone":    func() { delete(s.log, gone) },
				"is damaged": func() { s.log[gone] = []byte("VRNL") },
				"is another": func() {
					other := Record{Number: gone, Epoch: 1, Body: []byte("another")}
					s.log[gone] = other.Encode()
				},
			} {
				was := s.log[gone]
				change()
				for _, err := range []error{
					r.Clone().Stand(t.Context(), seen), r.Clone().Check(t.Context(), seen),
				} {
					if needed != errors.Is(err, ErrLost) || !needed && err != nil {
						t.Errorf("record %d %s, since %d: %v", gone, what, since, err)
					}
				}
				s.log[gone] = was
			}
		}
	}
}

// TestTrace: of what a writer has appended it misses what is gone, or has made place for another's,
// by few requests, and nothing that only the list lacks. What another writer has made needless is
// not lost.
func TestTrace(t *testing.T) {
	const last = 40
	for _, checkpoint := range []uint64{0, 10, last - traceReads, last - traceReads + 1} {
		s := &plainStore{log: make(map[uint64][]byte)}
		r := newOwner(t, s, last, checkpoint).Reader()
		first := max(checkpoint, 1)
		for gone := first; gone <= last; gone++ {
			was := s.log[gone]
			s.unlisted, s.lists = gone, 0
			must(t, r.Clone().Trace(t.Context()))
			if listed := last-first >= traceReads; listed != (s.lists == 1) {
				t.Errorf("%d lists after checkpoint %d", s.lists, checkpoint)
			}
			delete(s.log, gone)
			if err := r.Clone().Trace(t.Context()); !errors.Is(err, ErrLost) {
				t.Errorf("record %d is gone, after checkpoint %d: %v", gone, checkpoint, err)
			}
			other := Record{Number: gone, Epoch: 1, Body: []byte("another")}
			s.log[gone], s.filled, s.unlisted = other.Encode(), gone, 0
			if err := r.Clone().Trace(t.Context()); !errors.Is(err, ErrLost) {
				t.Errorf("record %d is another, after checkpoint %d: %v", gone, checkpoint, err)
			}
			s.log[gone], s.filled = was, 0
		}
		trimmed := r.Clone()
		s.cp.Number, s.etag = last-3, s.etag+1
		for n := uint64(1); n < s.cp.Number; n++ {
			delete(s.log, n)
		}
		if err := trimmed.Trace(t.Context()); err != nil {
			t.Errorf("records before a checkpoint that was put meanwhile are gone: %v", err)
		}
		clear(s.log)
		was := *s.cp
		s.cp.Number, s.etag = last+1, s.etag+1
		err := r.Clone().Trace(t.Context())
		if errors.Is(err, ErrLost) || !errors.Is(err, ErrBehind) {
			t.Errorf("another one has gone on: %v", err)
		}
		if s.cp = &was; checkpoint > 0 {
			s.cp.Number = checkpoint - 1
			if err := r.Clone().Trace(t.Context()); !errors.Is(err, ErrLost) {
				t.Errorf("the checkpoint is older: %v", err)
			}
		}
		s.cp = nil
		if err := r.Clone().Trace(t.Context()); !errors.Is(err, ErrLost) {
			t.Errorf("all is gone: %v", err)
		}
	}
}

// TestAppendToALogThatWasCut: where the log can tell, nothing is appended that nobody would read.
func TestAppendToALogThatWasCut(t *testing.T) {
	s := cutStore{&plainStore{log: make(map[uint64][]byte)}}
	w := newOwner(t, s, 5, 3)
	must(t, w.Checkpoint(t.Context(), nil))
	must(t, w.Trim(t.Context(), 100))
	must(t, w.Append(t.Context(), nil, false)) // T6
	delete(s.log, w.At().Number)
	if err := w.Append(t.Context(), nil, false); !errors.Is(err, ErrLost) {
		t.Errorf("append: %v", err)
	}
	if err := w.Take(t.Context(), nil); !errors.Is(err, ErrLost) {
		t.Errorf("take: %v", err)
	}
}

// TestCheckpointOfWhatIsLost: a checkpoint takes the place of no older one than was seen, nor of
// one of another record: that store was put back, and has lost what it would have.
func TestCheckpointOfWhatIsLost(t *testing.T) {
	const last, seen = 5, 2
	for name, c := range map[string]struct {
		number         uint64 // of the checkpoint that is there
		another        bool   // it is of another record
		lost, replaced bool
	}{
		"an older one":         {number: seen - 1, lost: true},
		"the one that was":     {number: seen, lost: true},
		"one of another":       {number: last, another: true, lost: true},
		"one that is as new":   {number: last},
		"one that is newer":    {number: last + 1},
		"one that came before": {number: last - 1, replaced: true},
	} {
		s := &plainStore{log: make(map[uint64][]byte)}
		saving := newOwner(t, s, last, seen).Saving()
		there := *s.cp
		if there.Number = c.number; c.number == last {
			there.Position = saving.Position
		}
		if c.another {
			there.Digest[0]++
		}
		s.cp, s.etag = &there, s.etag+1
		err := saving.Run(t.Context())
		if c.lost && !errors.Is(err, ErrLost) || !c.lost && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if (s.cp != &there) != c.replaced {
			t.Errorf("%s: replaced %v, want %v", name, !c.replaced, c.replaced)
		}
	}
}

// chained is a plainStore whose log says if there is no record before the one to be created.
type chained struct{ *plainStore }

func (s chained) Log([16]byte) chunkstore.Log { return chainedLog{plainLog{s.plainStore}} }

type chainedLog struct{ plainLog }

func (l chainedLog) Append(ctx context.Context, n uint64, record []byte) error {
	if n > 1 && l.s.log[n-1] == nil && l.s.log[n] == nil {
		return chunkstore.ErrAbsent
	}
	return l.plainLog.Append(ctx, n, record)
}

// TestTrimmedWhileTheClockStood: who was paused for so long that what he has not read was trimmed,
// on a machine whose clock stood still, finds out by a look. He does not take what was trimmed for
// what the store has lost.
func TestTrimmedWhileTheClockStood(t *testing.T) {
	ctx := t.Context()
	s := chained{&plainStore{log: map[uint64][]byte{}}}
	if _, err := Create(ctx, s, Options{}, [16]byte{1}, nil, ""); err != nil {
		t.Fatal(err)
	}
	owner := follower(t, s)
	must(t, owner.Take(ctx, nil))
	must(t, owner.Append(ctx, []byte("a commit"), true))
	still := func() *Writer {
		o := Options{Grace: Grace, Now: func() time.Duration { return 0 }}
		r, _, err := Open(ctx, s, o)
		must(t, err)
		w := NewWriter(r)
		for w.At().Number < 2 {
			_, err := w.Next(ctx)
			must(t, err)
		}
		return w
	}
	reader, writer, looser := still(), still(), still()

	must(t, owner.Take(ctx, nil))
	for range 3 {
		must(t, owner.Append(ctx, []byte("another"), false))
	}
	must(t, owner.Append(ctx, []byte("the last"), true))
	must(t, owner.Checkpoint(ctx, []byte("all of it")))
	must(t, owner.Trim(ctx, owner.At().Number))
	if s.log[2] != nil || s.log[3] != nil {
		t.Fatal("nothing was trimmed")
	}
	if step, err := reader.Next(ctx); err != nil || !step.Empty() {
		t.Fatalf("a reader who is sure has looked: %+v, %v", step, err)
	}
	if err := reader.Reader().Look(ctx); !errors.Is(err, ErrBehind) {
		t.Errorf("the look says %v", err)
	}
	if step, err := reader.Next(ctx); err != nil || step.Checkpoint == nil {
		t.Errorf("after a look that found him behind he reads %+v, %v", step, err)
	}
	if err := writer.Take(ctx, nil); !errors.Is(err, ErrBehind) || errors.Is(err, ErrLost) {
		t.Errorf("who is behind takes over: %v", err)
	}
	if step, err := writer.Next(ctx); err != nil || step.Checkpoint == nil {
		t.Errorf("then he reads %+v, %v", step, err)
	}
	// Now the store is put back to what it was when there was nothing.
	s.cp.Number, s.cp.Digest, s.etag = 0, [32]byte{}, s.etag+1
	clear(s.log)
	if err := looser.Take(ctx, nil); !errors.Is(err, ErrLost) {
		t.Errorf("in a store that has lost all he takes over: %v", err)
	}
}
