package remote_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/remote"
)

// TestHold: the store says who holds a database; whoever is broken in on is told so once, loses
// nothing that he had committed, and goes on.
func TestHold(t *testing.T) {
	root := t.TempDir()
	o := machineOf(t, root, t.TempDir(), slog.New(slog.DiscardHandler))
	o.LeaseTimeout, o.LeaseLinger = time.Hour, time.Hour
	store, err := o.Open(t.Context(), "store")
	if err != nil {
		t.Fatal(err)
	}
	target, key := store.Targets[0], manifest.PlainName("", "/app.db")
	if _, err := remote.Inspect(t.Context(), target, key); !errors.Is(err, chunkstore.ErrAbsent) {
		t.Errorf("a database that is not there: %v", err)
	}
	c := open(t, o, remote.Mode{Create: true})
	h, err := remote.Inspect(t.Context(), target, key)
	if err != nil || h.Held || h.Record != 0 || h.Version.FileBytes != 0 || h.Owner != nil {
		t.Errorf("a new database: %+v, %v", h, err)
	}
	mustWrite(t, c)
	me := manifest.Owner{Host: "desk", Program: "ctl", PID: 1}
	for want := uint64(1); want <= 2; want++ {
		h, err = remote.Inspect(t.Context(), target, key)
		if err != nil || !h.Held || h.Owner == nil || h.Owner.Host != o.Host || h.Sign().IsZero() ||
			h.Wanted != nil || h.Version.FileBytes == 0 {
			t.Fatalf("held: %+v, %v", h, err)
		}
		was, err := remote.Break(t.Context(), target, key, me)
		if err != nil || !was.Held || was.Owner == nil || *was.Owner != *h.Owner {
			t.Fatalf("broken: %+v, %v", was, err)
		}
		is, err := remote.Inspect(t.Context(), target, key)
		if err != nil || is.Held || is.Epoch <= h.Epoch || is.Owner == nil || *is.Owner != me {
			t.Fatalf("after it: %+v (%+v), %v", is, is.Owner, err)
		}
		again, err := remote.Break(t.Context(), target, key, me)
		if err != nil || again.Held {
			t.Errorf("nobody holds it: %+v, %v", again, err)
		}
		_, err = write(t.Context(), c, add)
		if err != nil && !errors.Is(err, remote.ErrLost) {
			t.Fatalf("the holder is told: %v", err)
		} else if err != nil && !strings.Contains(err.Error(), "desk") {
			t.Errorf("the holder is not told who it was: %v", err)
		}
		if err != nil {
			mustWrite(t, c)
		}
		mustRead(t, c, want+1)
	}
}
