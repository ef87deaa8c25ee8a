package faultbucket_test

import (
	"errors"
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/chunkstore/faultbucket"
)

func TestPlan(t *testing.T) {
	s, err := chunkstore.Open(t.Context(),
		[]chunkstore.TargetConfig{&dir.Config{Path: t.TempDir()}},
		chunkstore.Options{CallsPerSecond: -1})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		plan  *faultbucket.Plan
		fails [4]bool
	}{
		{&faultbucket.Plan{}, [4]bool{}},
		{&faultbucket.Plan{At: 2}, [4]bool{1: true}},
		{&faultbucket.Plan{At: 3, ForGood: true}, [4]bool{2: true, 3: true}},
	} {
		target := c.plan.Target(s.Targets[0])
		for i, want := range c.fails {
			_, err := target.Manifests.Put(t.Context(), "k", []byte{byte(i)},
				chunkstore.Condition{})
			if errors.Is(err, faultbucket.ErrInjected) != want || !want && err != nil {
				t.Errorf("failing at %d, call %d: %v", c.plan.At, i+1, err)
			}
		}
		if c.plan.Calls() != 4 {
			t.Errorf("%d calls counted, want 4", c.plan.Calls())
		}
	}
}

func TestPlanAfter(t *testing.T) {
	s, err := chunkstore.Open(t.Context(),
		[]chunkstore.TargetConfig{&dir.Config{Path: t.TempDir()}},
		chunkstore.Options{CallsPerSecond: -1})
	if err != nil {
		t.Fatal(err)
	}
	plan := &faultbucket.Plan{At: 1, After: true}
	b := plan.Bucket(s.Targets[0].Manifests)
	if _, err := b.Put(t.Context(), "k", []byte("stored"), chunkstore.Condition{}); !errors.Is(err,
		faultbucket.ErrInjected) {
		t.Errorf("error %v", err)
	}
	if o, err := b.Get(t.Context(), "k", chunkstore.GetOptions{}); err != nil ||
		string(o.Body) != "stored" {
		t.Errorf("got %q, %v", o.Body, err)
	}
}
