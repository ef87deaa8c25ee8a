package replicate

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"verneuil/replicate/courier"
)

// TestStatusOfTargetThatFails: a flush that has nothing to send asks the target all the same. If
// that fails, nobody is told that the database is up to date, neither by the replicator nor from
// outside, nor when that has ended, and the log names the target; until the target has answered,
// which it is asked to without another flush.
func TestStatusOfTargetThatFails(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		w := newWorld(t, 1, 1)
		clock, log, outages := new(movedClock), new(lockedBuffer), new(courier.Outages)
		w.options = func(o *Options) {
			o.clock, o.Outages = clock, outages
			o.Log = slog.New(slog.NewTextHandler(log, nil))
		}
		outside := func() Status {
			status, err := ReadStatus(w.sp.Dir(), 0, clock.now())
			if err != nil {
				t.Fatal(err)
			}
			return status
		}
		r := w.replicator()
		stop := w.run(r)
		w.transact(30)
		w.mustFlush(r)
		says := func(want bool) {
			t.Helper()
			for k, status := range []Status{outside(), r.Status()} {
				if k == 1 && len(status.Targets) == 0 {
					continue // who has ended knows nothing of them
				}
				if failing := status.Targets[0].Error != ""; status.UpToDate != want ||
					failing == want {
					t.Errorf("%d: up to date %v, %+v", k, status.UpToDate, status.Targets)
				}
			}
		}
		says(true)

		gone := errors.New("no such bucket")
		w.chunks[0].setFault(func(string, string) error { return gone })
		clock.by.Add(int64(time.Minute))
		if err := r.Flush(t.Context()); !errors.Is(err, gone) {
			t.Fatalf("flush: %v", err)
		}
		if restarted {
			stop()
			says(false)
			w.chunks[0].setFault(nil)
			r = w.replicator()
			stop = w.run(r)
			w.mustFlush(r)
		} else {
			w.until("somebody outside is told", func() bool {
				clock.by.Add(int64(reportEvery))
				_ = w.sp.Wake()
				return !outside().UpToDate
			})
			says(false)
			w.chunks[0].setFault(nil)
		}
		w.until("the target has answered", func() bool {
			clock.by.Add(int64(time.Minute))
			_ = w.sp.Wake()
			return outside().UpToDate && r.Status().UpToDate
		})
		says(true)
		stop()
		said := log.taken()
		// Who begins anew has told of no trouble.
		if strings.Count(said, `msg="target failed`) != 1 ||
			strings.Contains(said, `msg="target works again"`) == restarted {
			t.Errorf("the log says %s", said)
		}
	}
}

// TestFlushNamesWhomItWaitsFor: a flush that its caller gives up says which target has not
// answered.
func TestFlushNamesWhomItWaitsFor(t *testing.T) {
	w := newWorld(t, 2, 2)
	r := w.replicator()
	stop := w.run(r)
	w.transact(30)
	w.mustFlush(r)
	ctx, cancel := context.WithCancel(t.Context())
	hang := make(chan struct{})
	silent := func(string, string) error {
		<-hang
		return errInjected
	}
	w.chunks[1].setFault(silent)
	w.manifests[1].setFault(silent)
	w.transact(30)
	go func() {
		defer cancel()
		w.until("the other target has all", func() bool {
			there := r.Status().Targets
			return len(there) == 2 && there[0].Sequence == w.sp.State().Sequence.Load()
		})
	}()
	err := r.Flush(ctx)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "target 1") ||
		strings.Contains(err.Error(), "target 0") {
		t.Errorf("flush: %v", err)
	}
	close(hang)
	stop()
}
