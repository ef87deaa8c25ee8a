package chunkstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"verneuil/chunkstore"
	_ "verneuil/chunkstore/dir"
	"verneuil/chunkstore/faultbucket"
	"verneuil/chunkstore/storetest"
)

// An Append whose answer is lost may have been carried out. Then the same bytes are there, and no
// others can be.
func TestAppendWithoutAnAnswer(t *testing.T) {
	for _, after := range []bool{false, true} {
		plan := &faultbucket.Plan{At: 1, After: after}
		target := plan.Target(storetest.Open(t, dirTarget(t.TempDir())).Targets[0])
		log := chunkstore.NewLog(target, "lost")
		err := log.Append(t.Context(), 1, []byte("ours"))
		storetest.MustBe(t, err, faultbucket.ErrInjected)
		if errors.Is(err, chunkstore.ErrConflict) {
			t.Errorf("a lost answer is a conflict: %v", err)
		}
		other := log.Append(t.Context(), 1, []byte("another's"))
		if after {
			storetest.MustBe(t, other, chunkstore.ErrConflict)
		} else if other != nil {
			t.Error(other)
		}
		want := map[bool]string{false: "another's", true: "ours"}[after]
		if got, err := log.Read(t.Context(), 1, 9); err != nil || string(got[0]) != want {
			t.Errorf("carried out: %t: read %q, %v; want %q", after, got, err, want)
		}
	}
}

// A read that fails is no end of the log.
func TestReadOfALogFails(t *testing.T) {
	target := storetest.Open(t, dirTarget(t.TempDir())).Targets[0]
	log := chunkstore.NewLog(target, "fails")
	for n := range uint64(20) {
		if err := log.Append(t.Context(), n+1, []byte{byte(n)}); err != nil {
			t.Fatal(err)
		}
	}
	for at := 1; ; at++ {
		plan := &faultbucket.Plan{At: at}
		faulty := chunkstore.NewLog(
			chunkstore.NewTarget("faulty", plan.Bucket(target.Chunks), nil), "fails")
		records, err := faulty.Read(t.Context(), 1, 100)
		if plan.Fired() == 0 {
			if err != nil || len(records) != 20 {
				t.Errorf("untouched: %d records, %v", len(records), err)
			}
			return
		}
		storetest.MustBe(t, err, faultbucket.ErrInjected)
	}
}

// guarded refuses Gets as a store does to who may not list: what is absent is denied.
type guarded struct {
	chunkstore.Bucket
	all  bool   // objects that are there are denied, too
	key  string // only this one is, and what is absent is absent
	gets atomic.Int64
}

func (g *guarded) Get(
	ctx context.Context, key string, o chunkstore.GetOptions,
) (chunkstore.Object, error) {
	g.gets.Add(1)
	object, err := g.Bucket.Get(ctx, key, o)
	if g.key != "" && key != g.key {
		return object, err
	}
	if g.all || errors.Is(err, chunkstore.ErrAbsent) || g.key != "" {
		return chunkstore.Object{}, fmt.Errorf("get %s: %w", key, chunkstore.ErrDenied)
	}
	return object, err
}

// TestDeniedRecord: a record that is denied is absent where other objects may be read, and only
// there; that is asked once.
func TestDeniedRecord(t *testing.T) {
	target := storetest.Open(t, dirTarget(t.TempDir())).Targets[0]
	g := &guarded{Bucket: target.Chunks}
	log := chunkstore.NewLog(chunkstore.NewTarget("denied", g, nil), "denied")
	if err := log.Append(t.Context(), 1, []byte("one")); err != nil {
		t.Fatal(err)
	}
	_, err := log.Read(t.Context(), 1, 2)
	storetest.MustBe(t, err, chunkstore.ErrDenied) // there is no marker to read
	if _, err := chunkstore.Identify(t.Context(), target.Chunks, chunkstore.Plain{}); err != nil {
		t.Fatal(err)
	}
	g.all = true
	_, err = log.Read(t.Context(), 1, 1)
	storetest.MustBe(t, err, chunkstore.ErrDenied)
	g.all = false
	g.gets.Store(0)
	for range 3 {
		if got, err := log.Read(t.Context(), 2, 1); err != nil || len(got) != 0 {
			t.Errorf("%q, %v", got, err)
		}
	}
	got, err := log.Read(t.Context(), 1, 9)
	if err != nil || len(got) != 1 || g.gets.Load() != 3+2+9 {
		t.Errorf("%q, %v, %d requests", got, err, g.gets.Load())
	}

	// Where the store says of others that they are absent, a record that is denied may be there.
	g = &guarded{Bucket: target.Chunks, key: "log-denied-0000000000000001"}
	log = chunkstore.NewLog(chunkstore.NewTarget("denied", g, nil), "denied")
	for range 3 {
		_, err = log.Read(t.Context(), 1, 1)
		storetest.MustBe(t, err, chunkstore.ErrDenied)
	}
	if n := g.gets.Load(); n != 3+2 {
		t.Errorf("%d requests", n)
	}
}
