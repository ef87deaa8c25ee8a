package history

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"verneuil/chunkstore"
)

// sleepy is a store whose reader sleeps between the look at the checkpoint and the log: what
// happens then comes first.
type sleepy struct {
	*plainStore
	then func()
	once sync.Once
}

func (s *sleepy) Log(l [16]byte) chunkstore.Log { return sleepyLog{s.plainStore.Log(l), s} }

type sleepyLog struct {
	chunkstore.Log
	s *sleepy
}

func (l sleepyLog) Read(ctx context.Context, from uint64, limit int) ([][]byte, error) {
	if l.s.then != nil {
		l.s.once.Do(l.s.then)
	}
	return l.Log.Read(ctx, from, limit)
}

// TestTrimmedSinceTheLook: records that were trimmed after the newest checkpoint was looked at are
// not lost.
func TestTrimmedSinceTheLook(t *testing.T) {
	for name, ask := range map[string]func(r *Reader) error{
		"Check": func(r *Reader) error { return r.Check(t.Context(), Position{}) },
		"Stand": func(r *Reader) error { return r.Stand(t.Context(), Position{}) },
		"Trace": func(r *Reader) error { return r.Trace(t.Context()) },
		"Remains": func(r *Reader) error {
			if err := r.Remains(t.Context()); err != nil {
				return err
			}
			return ErrBehind // it says nothing
		},
	} {
		s := &sleepy{plainStore: &plainStore{log: make(map[uint64][]byte)}}
		w := newOwner(t, s, 5, 2)
		r := w.Reader().Clone()
		s.then = func() {
			must(t, w.Append(t.Context(), nil, false))
			must(t, w.Checkpoint(t.Context(), nil))
			s.mu.Lock()
			defer s.mu.Unlock()
			clear(s.log)
		}
		if err := ask(r); !errors.Is(err, ErrBehind) || errors.Is(err, ErrLost) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTrimmedUpToWhereItStands: nor are those that were trimmed since, because of a checkpoint of
// what the reader has read, and no more (T6: the last one that it has is there).
func TestTrimmedUpToWhereItStands(t *testing.T) {
	for name, ask := range map[string]func(r *Reader) error{
		"Check":   func(r *Reader) error { return r.Check(t.Context(), Position{}) },
		"Stand":   func(r *Reader) error { return r.Stand(t.Context(), Position{}) },
		"Trace":   func(r *Reader) error { return r.Trace(t.Context()) },
		"Remains": func(r *Reader) error { return r.Remains(t.Context()) },
	} {
		s := &sleepy{plainStore: &plainStore{log: make(map[uint64][]byte)}}
		w := newOwner(t, s, 5, 2)
		r := w.Reader().Clone()
		s.then = func() {
			must(t, w.Checkpoint(t.Context(), nil))
			s.mu.Lock()
			defer s.mu.Unlock()
			for n := range s.log {
				if n < w.At().Number {
					delete(s.log, n)
				}
			}
		}
		if err := ask(r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRemainsWhereAnotherHistoryWasBegun: a reader whose last record is there, but not all before
// it, goes on with the history that somebody has begun with what was left.
func TestRemainsWhereAnotherHistoryWasBegun(t *testing.T) {
	s := &plainStore{log: map[uint64][]byte{}}
	_, err := Create(t.Context(), s, Options{}, [16]byte{1}, nil, "")
	must(t, err)
	w := follower(t, s)
	must(t, w.Take(t.Context(), nil))
	must(t, w.Append(t.Context(), []byte("a commit"), true))
	still := Options{Grace: time.Hour, Now: func() time.Duration { return 0 }}
	r, _, err := Open(t.Context(), s, still)
	must(t, err)
	for step := (Step{}); !step.End; {
		step, err = r.Next(t.Context())
		must(t, err)
	}
	delete(s.log, 1)
	must(t, r.Remains(t.Context()))
	if step, err := r.Next(t.Context()); err != nil || !step.Empty() {
		t.Fatalf("there is %+v, %v", step, err)
	}
	_, err = Create(t.Context(), s, Options{}, [16]byte{2}, nil, fmt.Sprint(s.etag))
	must(t, err)
	must(t, r.Remains(t.Context()))
	step, err := r.Next(t.Context())
	if err != nil || step.Checkpoint == nil || step.Checkpoint.Lineage != [16]byte{2} {
		t.Errorf("who goes on reads %+v, %v", step, err)
	}
}
