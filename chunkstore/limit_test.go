package chunkstore_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"verneuil/chunkstore"
)

// TestPatientRequestsComeLast: what can wait is sent when others pause, and takes
// from nobody.
func TestPatientRequestsComeLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, burst = 10, 8
		take := chunkstore.NewLimiter(rate, burst).Take
		for range burst {
			if err := take(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		begun := time.Now()
		var patient atomic.Int64 // when it was sent
		go func() {
			if err := take(chunkstore.Patient(t.Context())); err != nil {
				t.Error(err)
			}
			patient.Store(int64(time.Since(begun)))
		}()
		synctest.Wait()
		for k := 1; k <= 20; k++ { // the whole rate
			if err := take(t.Context()); err != nil {
				t.Fatal(err)
			}
			if took, want := time.Since(begun), time.Duration(k)*time.Second/rate; took < want ||
				took > want+time.Millisecond {
				t.Fatalf("request %d was sent after %v, want %v", k, took, want)
			}
		}
		if sent := patient.Load(); sent != 0 {
			t.Fatalf("a patient request was sent after %v, while others waited",
				time.Duration(sent))
		}
		busy := time.Since(begun)
		<-time.After(time.Minute) // of the bubble's clock
		synctest.Wait()
		want := busy + burst/2*time.Second/rate
		if sent := time.Duration(patient.Load()); sent < want || sent > want+10*time.Millisecond {
			t.Errorf("the patient request was sent after %v, want %v", sent, want)
		}
		ctx, cancel := context.WithCancel(chunkstore.Patient(t.Context()))
		cancel()
		if err := take(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("with an ended context: %v", err)
		}
	})
}

// TestPatientWithoutLimit: where nothing is paced, patience costs nothing.
func TestPatientWithoutLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		for _, rate := range []float64{-1, 0.5} {
			if err := chunkstore.NewLimiter(rate,
				0).Take(chunkstore.Patient(t.Context())); err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}

// TestAwaitedRequests: what an application waits for is not held up by the rate of what nobody
// waits for, but by one that was set for everything.
func TestAwaitedRequests(t *testing.T) {
	soon, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l := chunkstore.NewLimiter(1e-6, 1)
	if err := l.Take(soon); err != nil {
		t.Fatal(err)
	}
	if err := l.Take(chunkstore.Awaited(soon)); err == nil {
		t.Error("a rate that was set does not count")
	}
	l.ForBackground()
	for range 100 {
		if err := l.Take(chunkstore.Awaited(soon)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Take(soon); err == nil {
		t.Error("what nobody waits for is not held up")
	}
}
