package chunkstore_test

import (
	"errors"
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
		log := chunkstore.NewBucketLog(target.Chunks, "lost")
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
	log := chunkstore.NewBucketLog(target.Chunks, "fails")
	for n := range uint64(20) {
		if err := log.Append(t.Context(), n+1, []byte{byte(n)}); err != nil {
			t.Fatal(err)
		}
	}
	for at := 1; ; at++ {
		plan := &faultbucket.Plan{At: at}
		faulty := chunkstore.NewBucketLog(plan.Bucket(target.Chunks), "fails")
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
