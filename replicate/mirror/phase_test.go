package mirror

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"verneuil/spool/spooltest"
)

// lockedSource is a Source whose EXCLUSIVE another process holds.
type lockedSource struct {
	Source
	pid int
}

func (s lockedSource) Exclusive() (pid int, err error) { return s.pid, nil }

// phaseWorld is a tracker of a small database in a rollback mode. Who waits for something finds
// that a second has passed.
type phaseWorld struct {
	*Tracker
	now       time.Time
	exclusive int // the process that holds EXCLUSIVE; 0: none
	checking  bool
	atCopy    func() error // when the file has been copied
	entered   []Phase
}

func newPhaseWorld(t *testing.T) *phaseWorld {
	t.Helper()
	w := &phaseWorld{now: time.Now().Add(time.Hour), atCopy: func() error { return nil }}
	sp, recorder := newSpool(t)
	if _, err := spooltest.NewScript(recorder); err != nil { // a database with pages
		t.Fatal(err)
	}
	page := make([]byte, 20) // in a rollback mode
	copy(page, "SQLite format 3\x00\x02\x00\x01\x01")
	if _, err := recorder.File.WriteAt(page, 0); err != nil {
		t.Fatal(err)
	}
	o := trackerOptions(sp)
	o.Checking = func() bool { return w.checking }
	o.Entered = func(p Phase) { w.entered = append(w.entered, p) }
	o.Now = func() time.Time { return w.now }
	o.After = func(time.Duration) <-chan time.Time {
		w.now = w.now.Add(time.Second)
		passed := make(chan time.Time, 1)
		passed <- w.now
		return passed
	}
	o.Fault = func(point string) error {
		if point == "copied" {
			return w.atCopy()
		}
		return nil
	}
	o.OpenSource = func() (Source, error) {
		src, err := OpenSourceFile(sp.Path())
		return lockedSource{src, w.exclusive}, err
	}
	var err error
	if w.Tracker, err = NewTracker(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	if w.Phase() != Opened {
		t.Fatalf("a new tracker is %v", w.Phase())
	}
	return w
}

// update checks that Update does something, and where it ends.
func (w *phaseWorld) update(t *testing.T, asked bool, want Phase) {
	t.Helper()
	w.entered = nil
	if !w.Update(context.Background(), asked) || w.Phase() != want {
		t.Fatalf("%v (%v), want %v", w.Phase(), w.Err(), want)
	}
	if failed := want != Following; failed != (w.Err() != nil) {
		t.Errorf("%v: error %v", want, w.Err())
	}
}

// TestPhases takes the arcs that [Phase] draws, of a mirror that is brought up in the end.
func TestPhases(t *testing.T) {
	t.Run("rest", func(t *testing.T) {
		w := newPhaseWorld(t)
		w.update(t, false, Following)
		if entered := slices.Compact(w.entered); !slices.Equal(entered, []Phase{Copying}) {
			t.Errorf("entered %v", entered)
		}
		if !w.Current() || !w.CaughtUp() {
			t.Errorf("current %v, caught up %v", w.Current(), w.CaughtUp())
		}
		if w.Update(context.Background(), false) {
			t.Error("there was something to do")
		}
		if !w.Rest() || w.Phase() != Resting {
			t.Errorf("resting: %v", w.Phase())
		}
		if err := w.Resume(); err != nil || w.Phase() != Following {
			t.Errorf("resumed: %v, %v", w.Phase(), err)
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		w := newPhaseWorld(t)
		w.exclusive, w.checking = os.Getpid()+1, true
		w.update(t, false, Interrupted)
		w.exclusive, w.checking = 0, false
		w.update(t, false, Following)
	})
	t.Run("compared", func(t *testing.T) {
		w := newPhaseWorld(t)
		w.exclusive, w.checking = os.Getpid()+1, true
		w.update(t, false, Interrupted)
		if verdict, err := w.Compare(context.Background()); err != nil || verdict != Told {
			t.Errorf("compare: %v, %v", verdict, err)
		}
		if w.Phase() != Following {
			t.Errorf("after a comparison: %v", w.Phase())
		}
	})
}

// TestPhasesOfFailure takes those of a mirror that is not brought up.
func TestPhasesOfFailure(t *testing.T) {
	t.Run("failed", func(t *testing.T) {
		w := newPhaseWorld(t)
		w.exclusive = os.Getpid() + 1
		w.update(t, false, Failed)
		if !errors.Is(w.Err(), ErrHeld) || w.Failures() != 1 || !w.Retry().After(w.now) {
			t.Errorf("%v; %d failures, next at %v", w.Err(), w.Failures(), w.Retry())
		}
		if !slices.Contains(w.entered, AwaitingTransaction) {
			t.Errorf("entered %v", w.entered)
		}
		if w.Update(context.Background(), false) {
			t.Error("it was tried again too early")
		}
		w.update(t, true, Failed)
		w.exclusive, w.now = 0, w.Retry()
		w.update(t, false, Following)
	})
	t.Run("chasing", func(t *testing.T) {
		w := newPhaseWorld(t)
		w.atCopy = func() error { // somebody without a recorder writes
			w.atCopy = func() error { return nil }
			return os.Truncate(w.sp.Path(), spooltest.ScriptPageBytes)
		}
		w.update(t, false, Chasing)
		w.update(t, true, Following)
	})
	t.Run("ended", func(t *testing.T) {
		w := newPhaseWorld(t)
		died := errors.New("died")
		w.atCopy = func() error { return died }
		w.update(t, false, Ended)
		if !errors.Is(w.Err(), died) {
			t.Errorf("ended by %v", w.Err())
		}
	})
}
