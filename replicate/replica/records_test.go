package replica_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"verneuil/chunkstore"
	"verneuil/replicate/publishtest"
	. "verneuil/replicate/replica"
)

// TestFollowsRecords: a replica shows what records make of a checkpoint, whatever it has loaded
// before, however far it is behind, and wherever the last checkpoint was.
func TestFollowsRecords(t *testing.T) {
	p := newSource(t)
	p.Records()
	rng := rand.New(rand.NewPCG(7, 7))
	file := random(30*chunkstore.ChunkBytes, 1)
	change := func() {
		switch rng.IntN(6) {
		case 0: // it shrinks
			file = file[:max(2, rng.IntN(len(file)/testPage))*testPage]
		case 1: // it grows
			more := make([]byte, (1+rng.IntN(200))*testPage)
			if rng.IntN(2) == 0 {
				copy(more, random(len(more), byte(rng.IntN(256))))
			}
			file = append(file, more...)
		}
		var inline []int64
		for range 1 + rng.IntN(5) {
			off := int64(rng.IntN(len(file)/testPage)) * testPage
			file[off+200+int64(rng.IntN(100))]++
			if rng.IntN(2) == 0 {
				inline = append(inline, off)
			}
		}
		seen := map[int64]bool{}
		var each []int64
		for _, off := range append(inline, 0) {
			if !seen[off] {
				each, seen[off] = append(each, off), true
			}
		}
		p.Publish(file, each...)
		if rng.IntN(20) == 0 {
			p.Checkpoint(rng.IntN(2) == 0)
		}
		if rng.IntN(40) == 0 {
			p.TakeOver(nil)
		}
	}
	change()
	r := p.open(p.follow(Options{}))
	check := func(who string, r *Reader) {
		t.Helper()
		got, err := readAll(r, 3*testPage)
		if err == nil {
			err = same(got, file)
		}
		if err != nil {
			t.Fatalf("%s, version %d: %v", who, r.Sequence(), err)
		}
	}
	check("opened", r)
	for round := range 30 {
		for range []int{1, 1, 2, 5, 90}[rng.IntN(5)] {
			change()
		}
		if err := r.Refresh(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if r.Sequence() != p.Newest.Sequence {
			t.Fatalf("at version %d of %d", r.Sequence(), p.Newest.Sequence)
		}
		if round%3 > 0 {
			check("refreshed", r)
		}
		if round%10 == 0 {
			check("opened cold", p.open(p.follow(Options{})))
		}
	}
}

// TestRecordCosts: a small commit costs a loaded replica its record, and nothing else; a reader
// whose record fails stays where it is, and goes on from there.
func TestRecordCosts(t *testing.T) {
	p := newSource(t)
	p.Records()
	file := publishtest.Stamped(100, 1)
	p.Publish(file, 0)
	p.Publish(file, 0) // with it there is a fence, which is asked about
	r := p.open(p.follow(Options{}))
	if _, err := readAll(r, testPage); err != nil {
		t.Fatal(err)
	}
	var manifests, records atomic.Int64
	p.Hooks.Set(nil, func() error { manifests.Add(1); return nil })
	p.Hooks.OnRecord(func(string) error { records.Add(1); return nil })
	objects := p.Hooks.Objects()
	for n := range 3 {
		file[50*testPage+200] = byte(n)
		p.Publish(file, 0, 50*testPage)
		records.Store(0)
		manifests.Store(0)
		force := n == 2 // then the checkpoint is asked for, too
		if err := r.Refresh(context.Background(), force); err != nil {
			t.Fatal(err)
		}
		if m, n := manifests.Load(), records.Load(); m != 0 && !force || m > 1 || n != 2 ||
			p.Hooks.Objects() != objects {
			t.Errorf("%d manifests, %d records, %d objects; want 0 (forced: 1), 2, 0", m, n,
				p.Hooks.Objects()-objects)
		}
	}
	p.Publish(publishtest.Stamped(100, 7))
	want := r.Sequence()
	p.Hooks.OnRecord(func(string) error { return bytes.ErrTooLarge })
	if err := r.Refresh(context.Background(), true); err == nil || r.Sequence() != want {
		t.Errorf("%v, at version %d, want %d", err, r.Sequence(), want)
	}
	p.Hooks.OnRecord(nil)
	if err := r.Refresh(context.Background(), true); err != nil || r.Sequence() != want+1 {
		t.Errorf("%v, at version %d, want %d", err, r.Sequence(), want+1)
	}
	got, err := readAll(r, testPage)
	if err == nil {
		err = same(got, publishtest.Stamped(100, 7))
	}
	if err != nil {
		t.Error(err)
	}
}
