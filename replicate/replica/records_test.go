package replica_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

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

// TestTargetThatWasPutBack: a replica whose target was put back to an older copy does not say that
// what it has is the newest version; and it follows who goes on there, also where his records are
// in the places of those that are gone.
func TestTargetThatWasPutBack(t *testing.T) {
	for name, later := range map[string]int{"fewer": 1, "more": 9} {
		t.Run(name+" records than before", func(t *testing.T) { putBack(t, later) })
	}
}

func putBack(t *testing.T, later int) {
	p := newSource(t)
	p.Records()
	version := func(n byte) {
		file := publishtest.Stamped(20, 1)
		file[200] = n
		p.Publish(file, 0)
	}
	version(1)
	version(2)
	then, old := p.Newest, t.TempDir()
	if err := os.CopyFS(old, os.DirFS(p.Dir)); err != nil {
		t.Fatal(err)
	}
	for n := range byte(4) {
		version(10 + n)
	}
	r := p.open(p.follow(Options{}))
	follower := p.follow(Options{PollInterval: time.Millisecond})
	auto := p.open(follower)
	auto.SetAuto(true)
	for _, name := range []string{"chunks", "manifests"} {
		if err := os.RemoveAll(filepath.Join(p.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(p.Dir, os.DirFS(old)); err != nil {
		t.Fatal(err)
	}
	had := p.Newest.Sequence
	for range 2 {
		if err := r.Refresh(t.Context(), true); err == nil || r.Sequence() != had {
			t.Fatalf("refreshed: %v, at version %d of %d", err, r.Sequence(), had)
		}
	}
	if err := r.Refresh(t.Context(), false); err == nil {
		t.Error("and then it is believed again")
	}
	for follower.Status()[0].LastError == "" {
		runtime.Gosched()
	}
	then.Sequence = had
	p.Newest = then
	p.TakeOver(nil)
	for n := range later {
		version(100 + byte(n))
	}
	if err := r.Refresh(t.Context(), true); err != nil || r.Sequence() != p.Newest.Sequence {
		t.Fatalf("the writer went on: %v, at version %d of %d", err, r.Sequence(),
			p.Newest.Sequence)
	}
	for auto.Sequence() != p.Newest.Sequence {
		auto.Adopt()
		runtime.Gosched()
	}
	page := make([]byte, testPage)
	if err := auto.Read(t.Context(), page, 0); err != nil || page[200] != 99+byte(later) {
		t.Errorf("%v, %d", err, page[200])
	}
}
