package patrol

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"verneuil/chunkstore"
)

// TestNextDue: a pack is due once in each round, at the same phase of it.
func TestNextDue(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		var name chunkstore.Digest
		for k := range name {
			name[k] = byte(random.Uint32())
		}
		round := time.Duration(1 + random.Int64N(int64(1000*time.Hour)))
		from := time.Unix(random.Int64N(1<<33), random.Int64N(1e9))
		at := nextDue(name, from, round)
		if wait := at.Sub(from); wait <= 0 || wait > round {
			t.Fatalf("due after %v of %v", wait, round)
		}
		if next := nextDue(name, at, round); !next.Equal(at.Add(round)) {
			t.Fatalf("due at %v, and then at %v; a round takes %v", at, next, round)
		}
		if again := nextDue(name, at.Add(-1), round); !again.Equal(at) {
			t.Fatalf("due at %v; asked a moment before, at %v", at, again)
		}
	}
}

// TestStates takes a patrol through its states.
func TestStates(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	p := New(&chunkstore.Target{Name: "t"}, 8*time.Hour, func() *slog.Logger { return log })
	now := time.Unix(1e9, 0)
	want := func(s State) {
		t.Helper()
		if p.State() != s {
			t.Fatalf("state %d, want %d", p.State(), s)
		}
	}
	want(Unknown)
	p.Begin(now, time.Time{})
	want(Resting)
	if _, ok := p.Due(now, true); ok {
		t.Error("due while others come first")
	}
	at, ok := p.Due(now, false)
	if !ok || !at.Equal(now.Add(7*time.Hour/steps)) {
		t.Errorf("due at %v, %v", at, ok)
	}
	version := func() Version { return Version{} }
	slice := p.Start(t.Context(), at, version)
	want(UnderWay)
	if late, ok := p.Due(at, true); !ok || !late.Equal(now.Add(time.Hour)) {
		t.Errorf("a slice that waits is hurried at %v, %v", late, ok)
	}
	if p.Start(t.Context(), now.Add(time.Hour), version) != nil || slice.ctx.Err() == nil {
		t.Error("a slice that is late was not hurried")
	}
	if _, ok := p.Due(now.Add(time.Hour), false); ok {
		t.Error("a slice is hurried twice")
	}
	p.Done(slice, at, context.Canceled)
	want(Resting)
	if p.Err() != nil {
		t.Error(p.Err())
	}
	p.Done(p.Start(t.Context(), at, version), at, errors.New("no"))
	want(Resting)
	if again, _ := p.Due(at, false); p.Err() == nil || again.Before(at.Add(time.Second)) {
		t.Errorf("after %v it is tried again at %v", p.Err(), again)
	}
}

// TestP2NoteOfBefore: while something is gone the note is that of before.
func TestP2NoteOfBefore(t *testing.T) {
	now := time.Unix(1e9, 0)
	p := New(nil, 8*time.Hour, nil)
	p.Begin(now, now.Add(-time.Hour))
	before, ok := p.Note()
	if !ok || !before.Until.Equal(now.Add(-time.Hour)) {
		t.Errorf("note %+v, %v", before, ok)
	}
	slice := p.Start(t.Context(), now, func() Version { return Version{} })
	slice.until = now
	p.Done(slice, now, nil)
	p.Missed(2, 5)
	if n, _ := p.Note(); n != before {
		t.Errorf("note %+v, want %+v", n, before)
	}
	if whole, anew := p.PutAgain(4); whole || anew {
		t.Error("put again by a push that began before it was gone")
	}
	if whole, anew := p.PutAgain(5); !whole || !anew || p.Healed() != 2 {
		t.Errorf("%d healed", p.Healed())
	}
	if n, _ := p.Note(); !n.Until.Equal(now) || n.Healed != 2 {
		t.Errorf("note %+v", n)
	}
}
