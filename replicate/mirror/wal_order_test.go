package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"verneuil/spool"
	"verneuil/spool/spooltest"
	"verneuil/spool/sqlitefile"
)

// orderWorld is a database in WAL mode with its recorder, and a tracker that the
// test drives: all of it runs in the test's goroutine. The recorder goes on when the
// tracker comes to a point where the test has it do so.
type orderWorld struct {
	testing.TB
	*Tracker
	*spooltest.Script
	at func(point string)
}

const (
	orderPage  = spooltest.ScriptPageBytes
	orderPages = spooltest.ScriptPages
)

func newOrderWorld(t *testing.T) *orderWorld {
	w := &orderWorld{TB: t, at: func(string) {}}
	sp, recorder := newSpool(t)
	var err error
	if w.Script, err = spooltest.NewScript(recorder); err != nil {
		t.Fatal(err)
	}
	o := trackerOptions(sp)
	o.Fault = func(point string) error { w.at(point); return nil }
	// Who waits for something finds that the recorder has gone on.
	o.After = func(time.Duration) <-chan time.Time {
		w.at("wait")
		passed := make(chan time.Time, 1)
		passed <- time.Now()
		return passed
	}
	if w.Tracker, err = NewTracker(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Tracker.Close)
	w.Update(context.Background(), true)
	w.check("base copy", 0)
	return w
}

// newSpool returns the spool of an empty database, with its recorder.
func newSpool(t *testing.T) (*spool.Spool, *spooltest.Writer) {
	t.Helper()
	dir := t.TempDir()
	db := filepath.Join(dir, "a.db")
	err := os.WriteFile(db, nil, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	sp, err := spool.Create(filepath.Join(dir, "spool"), db, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	recorder, err := spooltest.NewWriter(sp)
	if err != nil {
		t.Fatal(err)
	}
	recorder.SegmentBytes = 256 << 10
	t.Cleanup(func() { recorder.File.Close() })
	lock, err := sp.TryLock()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lock.Unlock)
	return sp, recorder
}

// trackerOptions are those of a tracker that nobody interrupts.
func trackerOptions(sp *spool.Spool) Options {
	no := func() bool { return false }
	return Options{
		Spool: sp, OpenSource: func() (Source, error) { return OpenSourceFile(sp.Path()) },
		Prove: func() error { return nil }, Checking: no, Leaving: no,
		Now: time.Now, After: time.After, Log: slog.New(slog.DiscardHandler),
		Progress: func(string, int64, int64) {}, Entered: func(Phase) {},
	}
}

// step has the recorder do its next n steps, or as many as there are.
func (w *orderWorld) step(n int) {
	w.Helper()
	if err := w.Script.Step(n); err != nil {
		w.Fatal(err)
	}
}

// update brings the mirror up, and checks it.
func (w *orderWorld) update(what string) {
	w.Helper()
	least := w.Published
	w.Update(context.Background(), true) // whatever has failed, try again now
	w.check(what, least)
}

// ask is a flush's look for what nobody has published.
func (w *orderWorld) ask(what string, least int) {
	w.Helper()
	if _, err := w.Suspect(context.Background()); err != nil {
		w.Fatalf("%s: %v", what, err)
	}
	w.check(what, least)
}

// check checks that the mirror, if a cut could be made of it, is the database after
// one of its commits, and not an earlier one than that.
func (w *orderWorld) check(what string, least int) {
	w.Helper()
	if !w.Current() {
		return
	}
	got := make([]byte, w.mirror.Size())
	if _, err := w.mirror.ReadAt(got, 0); err != nil {
		w.Fatal(err)
	}
	if !w.Find(got, least) {
		var fills []byte
		for at := orderPage; at < len(got); at += orderPage {
			fills = append(fills, got[at])
		}
		w.Fatalf("%s: the mirror is no commit from %d to %d: its pages have %v",
			what, least, len(w.Committed)-1, fills)
	}
}

// catchUp brings the mirror up to the last commit, when the recorder has done all.
func (w *orderWorld) catchUp() {
	w.Helper()
	w.at = func(string) {}
	w.step(len(w.Steps))
	for range 2 * walTries {
		w.update("at the end")
		if w.Current() && w.CaughtUp() {
			w.check("settled", len(w.Committed)-1)
			return
		}
	}
	w.Fatalf("the mirror does not settle: %v", w.Err())
}

// TestFlushAfterReset: a flush looks for commits when a recorder has just reset the WAL,
// and committed to the next one. What it reads there is newer than the copy in the log,
// and comes after it.
func TestFlushAfterReset(t *testing.T) {
	w := newOrderWorld(t)
	w.Begin()
	w.Commit(1, 2)
	w.step(4)
	w.update("first commit")
	w.Commit(2, 3)
	w.Reset()
	w.Commit(3, 3)
	w.step(len(w.Steps))
	w.ask("flush", 0)
	w.update("after the flush")
	w.catchUp()
}

// copiedWorld is one whose recorder has copied frames 2 and 3 of a WAL into the log, both of
// them of page 3. It writes over all of the WAL when frame 2 has been read, if it is.
func copiedWorld(t *testing.T) *orderWorld {
	w := newOrderWorld(t)
	w.Begin()
	w.Commit(1, 2)
	w.step(4)
	w.update("first commit")
	w.Commit(2, 3)
	w.Commit(3, 3)
	w.step(4)
	w.Reset()
	w.Commit(4, 2, 4, 5)
	w.step(2)
	w.at = func(point string) {
		if point == "frame" && w.wal.reader.Frames() == 2 {
			w.step(len(w.Steps))
		}
	}
	return w
}

// TestUpdateWhileCopiedFramesAreLost: what the copy says of a page stands.
func TestUpdateWhileCopiedFramesAreLost(t *testing.T) {
	w := copiedWorld(t)
	w.update("the copy")
	w.catchUp()
}

// TestFlushWhileCopiedFramesAreLost: also when a flush looks for commits.
func TestFlushWhileCopiedFramesAreLost(t *testing.T) {
	w := copiedWorld(t)
	w.update("the copy")
	w.ask("flush", w.Published)
	w.catchUp()
}

// TestTransactionWrittenOver: a WAL is written over between the two times that a long
// transaction is read. What was made of it is in no version.
func TestTransactionWrittenOver(t *testing.T) {
	for _, page := range []int{1, 2, 3} {
		w := newOrderWorld(t)
		w.wal.kept = 1
		w.Begin()
		w.Commit(1, 2)
		w.step(4)
		w.update("first commit")
		w.Commit(2, 3, 4, 5)
		w.step(2)
		w.Reset()
		w.Commit(3, 3, 4, 6, 7)
		pages := 0
		w.at = func(point string) {
			if point == "page" {
				if pages++; pages == page {
					w.step(len(w.Steps))
				}
			}
		}
		w.update("the long one")
		if pages == 0 {
			t.Fatal("no page was written")
		}
		w.catchUp()
	}
}

// TestImpossibleWAL: a commit that claims more than there is in the WAL and the file makes
// the mirror no longer, and an error that says so, as SQLite's own checkpoint would. So do
// frames of pages that are far away: SQLite does not look at them.
func TestImpossibleWAL(t *testing.T) {
	page := bytes.Repeat([]byte{1}, orderPage)
	w := newOrderWorld(t)
	w.Begin()
	w.step(2)
	frames := []spooltest.WALFrame{{Pgno: 2, Page: page}, {Pgno: 754_000_000, Page: page}}
	if err := w.WAL.Append(755_000_000, frames...); err != nil {
		t.Fatal(err)
	}
	w.WAL.Publish()
	most := sqlitefile.WALSizeMax(orderPages*orderPage, 2, orderPage)
	for range 2 * walTries {
		w.Update(context.Background(), true)
		if w.Current() || w.mirror.Size() > most {
			t.Fatalf("the mirror counts: %v; it has %d bytes", w.Current(), w.mirror.Size())
		}
	}
	if !errors.Is(w.Err(), errImpossibleWAL) {
		t.Errorf("update: %v", w.Err())
	}
	// Somebody shrinks it.
	if err := w.WAL.Append(orderPages, spooltest.WALFrame{Pgno: 3, Page: page}); err != nil {
		t.Fatal(err)
	}
	w.WAL.Publish()
	w.Update(context.Background(), true)
	if !w.Current() || w.mirror.Size() != orderPages*orderPage {
		t.Errorf("the mirror counts: %v (%v); it has %d bytes",
			w.Current(), w.Err(), w.mirror.Size())
	}
}

// TestWALOrder: whatever a recorder does while the tracker comes from one point to the next,
// the mirror is a committed state of the database, and the last one in the end.
// VERNEUIL_TEST_SEEDS has more schedules run.
func TestWALOrder(t *testing.T) {
	from, to := spooltest.Seeds(t, 0, 300)
	for seed := from; seed < to; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { orderRun(t, seed) })
	}
}

func orderRun(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	w := newOrderWorld(t)
	if seed%2 == 1 {
		w.wal.kept = 1 // all but a transaction's first page is read twice
	}
	w.Begin()
	for n := range byte(16) {
		if n > 0 && r.IntN(3) == 0 {
			w.Reset()
		}
		var pgnos []uint32
		for range 1 + r.IntN(3) {
			pgnos = append(pgnos, 2+uint32(r.IntN(orderPages-1)))
		}
		w.Commit(n+1, pgnos...)
	}
	w.at = func(point string) {
		if (point == "frame" || point == "page") && r.IntN(2) == 0 || r.IntN(4) == 0 {
			w.step(r.IntN(14)) // far enough, now and then, to write over what is being read
		}
	}
	for least := 0; len(w.Steps) > 0; w.at("between") {
		if r.IntN(3) == 0 {
			w.ask("flush", least)
		} else {
			least = w.Published
			w.update("update")
		}
	}
	w.catchUp()
}
