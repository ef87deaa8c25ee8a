package replicate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/versions"
)

// twin is another machine's replicator of the same name and path: its spool knows nothing of w's.
func (w *world) twin(root string) *world {
	w.Helper()
	other := newWorld(w, 4, 0)
	other.db, other.chunks, other.manifests, other.options = w.db, w.chunks, w.manifests, w.options
	other.root = root
	other.attach()
	return other
}

// TestTwoLiveWriters: of two that write under one name, the one who took over goes on, and the
// other one is refused by the store, says who it was, and stops. So it does when nothing but the
// takeover is there.
func TestTwoLiveWriters(t *testing.T) {
	for _, onlyFence := range []bool{false, true} {
		t.Run(fmt.Sprint("a fence alone ", onlyFence), func(t *testing.T) {
			w := newWorld(t, 3, 0)
			config := []chunkstore.TargetConfig{&dir.Config{Path: t.TempDir()}}
			store, err := chunkstore.Open(t.Context(), config, chunkstore.Options{})
			if err != nil {
				t.Fatal(err)
			}
			w.options = func(o *Options) { o.Store = store }
			r := w.replicator()
			defer w.run(r)()
			for range 3 {
				w.transact(50)
				w.mustFlush(r)
			}
			want := fmt.Sprintf("pid %d on host (test), since ", os.Getpid())
			if onlyFence {
				want = "pid 12 on a.example (a program), since 1970-01-01T00:00:03Z has taken over"
				w.fence(store.Targets[0])
			} else {
				other := w.twin(t.TempDir())
				r := other.replicator()
				defer other.run(r)()
				for range 3 {
					other.transact(50)
					other.mustFlush(r)
				}
				other.sameInDir(store, "who took over")
				defer func() {
					other.transact(50)
					other.mustFlush(r)
					other.sameInDir(store, "who took over, at last")
				}()
			}
			was, err := newest(store.Targets[0], w.db)
			if err != nil {
				t.Fatal(err)
			}
			w.transact(50)
			err = w.flush(r)
			if !errors.Is(err, chunkstore.ErrConflict) || !strings.Contains(err.Error(), want) {
				t.Errorf("flush after a takeover: %v, want %q", err, want)
			}
			if s := r.Status(); !s.Targets[0].Stopped ||
				!strings.Contains(s.Targets[0].Error, want) {
				t.Errorf("status: %+v", s.Targets[0])
			}
			is, err := newest(store.Targets[0], w.db)
			if err != nil || is.Cut != was.Cut || is.At.Number != was.At.Number {
				t.Errorf("version %d at record %d, want %d at %d: %v", is.Sequence, is.At.Number,
					was.Sequence, was.At.Number, err)
			}
		})
	}
}

// fence has another writer take over the history of w's database in t.
func (w *world) fence(t *chunkstore.Target) {
	w.Helper()
	f, err := versions.OpenNewest(context.Background(), t, manifest.PlainName("host", w.db))
	if err != nil {
		w.Fatal(err)
	}
	owner := manifest.Owner{
		Host: "a.example", Program: "a program", PID: 12, Since: time.Unix(3, 0),
	}
	body, err := owner.Encode()
	if err == nil {
		err = history.NewWriter(f.Reader()).Take(context.Background(), body)
	}
	if err != nil {
		w.Fatal(err)
	}
}

// TestTakenOverWhileAway: who was ended, and goes on after another one took over, is refused, too;
// a spool that is deleted takes over, and then its twin is refused.
func TestTakenOverWhileAway(t *testing.T) {
	w := newWorld(t, 3, 1)
	r := w.replicator()
	stop := w.run(r)
	for range 2 {
		w.transact(50)
		w.mustFlush(r)
	}
	stop()
	other := w.twin(t.TempDir())
	theirs := other.replicator()
	defer other.run(theirs)()
	for range 2 {
		other.transact(50)
		other.mustFlush(theirs)
	}
	w.transact(50)
	r = w.replicator()
	stop = w.run(r)
	if err := w.flush(r); !errors.Is(err, chunkstore.ErrConflict) ||
		!strings.Contains(err.Error(), "on host (test), since ") {
		t.Errorf("flush of who was away: %v", err)
	}
	stop()
	other.transact(50)
	other.mustFlush(theirs)
	other.equal(0, "who took over")
	w.loseSpool()
	w.attach()
	r = w.replicator()
	defer w.run(r)()
	w.transact(50)
	w.mustFlush(r)
	w.equal(0, "who takes over again")
	other.transact(50)
	if err := other.flush(theirs); !errors.Is(err, chunkstore.ErrConflict) {
		t.Errorf("flush of who was taken over from: %v", err)
	}
	if n := len(w.manifest(0).At.Fences); n != 2 {
		t.Errorf("%d takeovers are listed, want 2", n)
	}
}

// TestFencedHistoryIsReplaced: where a history must begin anew, as its objects are gone, who owns
// the one before is refused.
func TestFencedHistoryIsReplaced(t *testing.T) {
	w := newWorld(t, 3, 1)
	r := w.replicator()
	stop := w.run(r)
	for range 3 {
		w.transact(50)
		w.mustFlush(r)
	}
	stop()
	f, err := versions.OpenNewest(t.Context(), w.store().Targets[0],
		manifest.PlainName("host", w.db))
	if err != nil {
		t.Fatal(err)
	}
	sleeper := history.NewWriter(f.Reader())
	if err := sleeper.Take(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	// The marker is another: what the manifest names was put to another bucket.
	w.chunks[0].mu.Lock()
	delete(w.chunks[0].marker, chunkstore.MarkerKey)
	w.chunks[0].mu.Unlock()
	w.loseSpool()
	w.attach()
	r = w.replicator()
	defer w.run(r)()
	w.mustFlush(r)
	if m := w.equal(0, "in a bucket that is another"); m.At.Lineage == sleeper.At().Lineage {
		t.Error("the history went on")
	}
	if err := sleeper.Append(t.Context(), nil, false); !errors.Is(err, history.ErrFenced) &&
		!errors.Is(err, history.ErrBehind) {
		t.Errorf("who owned the history before may append: %v", err)
	}
}
