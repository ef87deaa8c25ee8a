package replicate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"verneuil/spool"
	"verneuil/spool/spooltest"
)

// orderWorld is a database in WAL mode with its recorder, and a session that the
// test drives: all of it runs in the test's goroutine. The recorder goes on when the
// session comes to a point where the test has it do so.
type orderWorld struct {
	*world
	*session
	wal       *spooltest.WAL
	steps     []func() error // of the recorder, that are left
	at        func(point string)
	committed [][]byte // the database after each commit, in their order
	published int      // of these; the last one that is
}

const (
	orderPage  = 512
	orderPages = 8
)

func newOrderWorld(t *testing.T) *orderWorld {
	w := &orderWorld{world: newWorld(t, 1, 1), at: func(string) {}}
	w.page = orderPage
	image := make([]byte, orderPages*orderPage)
	copy(image, w.pageOf(0, 1, 0))
	image[18], image[19] = 2, 2 // WAL mode
	if err := os.WriteFile(w.db, image, 0o600); err != nil {
		t.Fatal(err)
	}
	w.committed = [][]byte{image}
	w.wal = spooltest.NewWAL(w.w, orderPage)
	w.options = func(o *Options) {
		o.fault = func(point string) bool { w.at(point); return false }
		o.clock = orderClock{w}
	}
	lock, err := w.world.sp.TryLock()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lock.Unlock)
	if w.session, err = newSession(context.Background(), w.replicator(), w.world.sp, lock); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.session.close)
	w.update(context.Background())
	w.check("base copy", 0)
	return w
}

// orderClock: who waits for something finds that the recorder has gone on.
type orderClock struct{ w *orderWorld }

func (c orderClock) now() time.Time { return time.Now() }
func (c orderClock) after(time.Duration) <-chan time.Time {
	c.w.at("wait")
	passed := make(chan time.Time, 1)
	passed <- c.now()
	return passed
}

// commit adds the steps of a transaction that fills pages with a byte.
func (w *orderWorld) commit(fill byte, pgnos ...uint32) {
	w.steps = append(w.steps, func() error {
		image := slices.Clone(w.committed[len(w.committed)-1])
		var frames []spooltest.WALFrame
		for _, pgno := range pgnos {
			page := bytes.Repeat([]byte{fill}, orderPage)
			copy(image[int(pgno-1)*orderPage:], page)
			frames = append(frames, spooltest.WALFrame{Pgno: pgno, Page: page})
		}
		w.committed = append(w.committed, image)
		return w.wal.Append(orderPages, frames...)
	}, func() error {
		w.wal.Publish()
		w.published = len(w.committed) - 1
		return nil
	})
}

// begin adds the steps by which the first WAL begins.
func (w *orderWorld) begin() { w.steps = append(w.steps, w.wal.Restart, w.wal.Renew) }

// reset adds the steps by which the next WAL begins.
func (w *orderWorld) reset() {
	w.steps = append(w.steps, w.wal.Checkpoint, func() error { w.wal.Copy(); return nil })
	w.begin()
}

// step has the recorder do its next n steps, or as many as there are.
func (w *orderWorld) step(n int) {
	w.Helper()
	for ; n > 0 && len(w.steps) > 0; n-- {
		step := w.steps[0]
		w.steps = w.steps[1:]
		if err := step(); err != nil {
			w.Fatal(err)
		}
	}
}

// bringUp updates the mirror, and checks it.
func (w *orderWorld) bringUp(what string) {
	w.Helper()
	least := w.published
	w.copyRetry = time.Time{} // whatever has failed, try again now
	w.update(context.Background())
	w.check(what, least)
}

// ask is a flush's look for what nobody has published.
func (w *orderWorld) ask(what string, least int) {
	w.Helper()
	if err := w.suspect(); err != nil && !errors.Is(err, errMoving) && !errors.Is(err, errAgain) {
		w.Fatalf("%s: %v", what, err)
	}
	w.check(what, least)
}

// check checks that the mirror, if a cut could be made of it, is the database after
// one of its commits, and not an earlier one than that.
func (w *orderWorld) check(what string, least int) {
	w.Helper()
	if !w.current() {
		return
	}
	got := make([]byte, w.mirror.Size())
	if _, err := w.mirror.ReadAt(got, 0); err != nil {
		w.Fatal(err)
	}
	if !slices.ContainsFunc(w.committed[least:], func(image []byte) bool { return bytes.Equal(image, got) }) {
		var fills []byte
		for at := orderPage; at < len(got); at += orderPage {
			fills = append(fills, got[at])
		}
		w.Fatalf("%s: the mirror is no commit from %d to %d: its pages have %v", what, least, len(w.committed)-1, fills)
	}
}

// settled brings the mirror up to the last commit, when the recorder has done all.
func (w *orderWorld) settled() {
	w.Helper()
	w.at = func(string) {}
	w.step(len(w.steps))
	for range 2 * walTries {
		w.bringUp("at the end")
		if w.current() && w.counted() && !w.walBehind() && w.st.Head() == w.st.Tail() {
			w.check("settled", len(w.committed)-1)
			return
		}
	}
	w.Fatalf("the mirror does not settle: %v", w.applyErr)
}

// TestFlushAfterReset: a flush looks for commits when a recorder has just reset the WAL,
// and committed to the next one. What it reads there is newer than the copy in the log,
// and comes after it.
func TestFlushAfterReset(t *testing.T) {
	w := newOrderWorld(t)
	w.begin()
	w.commit(1, 2)
	w.step(4)
	w.bringUp("first commit")
	w.commit(2, 3)
	w.reset()
	w.commit(3, 3)
	w.step(len(w.steps))
	w.ask("flush", 0)
	w.bringUp("after the flush")
	w.settled()
}

// copiedWorld is one whose recorder has copied frames 2 and 3 of a WAL into the log, both of
// them of page 3. It writes over all of the WAL when frame 2 has been read, if it is.
func copiedWorld(t *testing.T) *orderWorld {
	w := newOrderWorld(t)
	w.begin()
	w.commit(1, 2)
	w.step(4)
	w.bringUp("first commit")
	w.commit(2, 3)
	w.commit(3, 3)
	w.step(4)
	w.reset()
	w.commit(4, 2, 4, 5)
	w.step(2)
	w.at = func(point string) {
		if point == "frame" && w.session.wal.reader.Frames() == 2 {
			w.step(len(w.steps))
		}
	}
	return w
}

// TestUpdateWhileCopiedFramesAreLost: what the copy says of a page stands.
func TestUpdateWhileCopiedFramesAreLost(t *testing.T) {
	w := copiedWorld(t)
	w.bringUp("the copy")
	w.settled()
}

// TestFlushWhileCopiedFramesAreLost: also when a flush looks for commits.
func TestFlushWhileCopiedFramesAreLost(t *testing.T) {
	w := copiedWorld(t)
	w.bringUp("the copy")
	w.ask("flush", w.published)
	w.settled()
}

// TestTransactionWrittenOver: a WAL is written over between the two times that a long
// transaction is read. What was made of it is in no version.
func TestTransactionWrittenOver(t *testing.T) {
	for _, page := range []int{1, 2, 3} {
		w := newOrderWorld(t)
		w.r.o.keptBytes = 1
		w.begin()
		w.commit(1, 2)
		w.step(4)
		w.bringUp("first commit")
		w.commit(2, 3, 4, 5)
		w.step(2)
		w.reset()
		w.commit(3, 3, 4, 6, 7)
		pages := 0
		w.at = func(point string) {
			if point == "page" {
				if pages++; pages == page {
					w.step(len(w.steps))
				}
			}
		}
		w.bringUp("the long one")
		if pages == 0 {
			t.Fatal("no page was written")
		}
		w.settled()
	}
}

// TestImpossibleWAL: a commit that claims more than there is in the WAL and the file makes
// the mirror no longer, and an error that says so, as SQLite's own checkpoint would. So do
// frames of pages that are far away: SQLite does not look at them.
func TestImpossibleWAL(t *testing.T) {
	page := bytes.Repeat([]byte{1}, orderPage)
	w := newOrderWorld(t)
	w.begin()
	w.step(2)
	if err := w.wal.Append(755_000_000, spooltest.WALFrame{Pgno: 2, Page: page}, spooltest.WALFrame{Pgno: 754_000_000, Page: page}); err != nil {
		t.Fatal(err)
	}
	w.wal.Publish()
	most := spool.WALSizeMax(orderPages*orderPage, 2, orderPage)
	for range 2 * walTries {
		w.copyRetry = time.Time{}
		w.update(context.Background())
		if w.current() || w.mirror.Size() > most {
			t.Fatalf("the mirror counts: %v; it has %d bytes", w.current(), w.mirror.Size())
		}
	}
	if !errors.Is(w.applyErr, errImpossibleWAL) {
		t.Errorf("update: %v", w.applyErr)
	}
	if err := w.wal.Append(orderPages, spooltest.WALFrame{Pgno: 3, Page: page}); err != nil { // somebody shrinks it
		t.Fatal(err)
	}
	w.wal.Publish()
	w.copyRetry = time.Time{}
	w.update(context.Background())
	if !w.current() || w.mirror.Size() != orderPages*orderPage {
		t.Errorf("the mirror counts: %v (%v); it has %d bytes", w.current(), w.applyErr, w.mirror.Size())
	}
}

// TestFlushOfAMirrorInDoubt: stock SQLite has committed before a flush. A recorder's commit
// publishes that with its own, after the flush was asked for, and then resets the WAL while it
// is read. The target has all that was published before the flush: but as long as
// the mirror is not brought up, nobody knows that this is all that was committed.
func TestFlushOfAMirrorInDoubt(t *testing.T) {
	w := newOrderWorld(t)
	w.begin()
	w.commit(1, 2)
	w.step(4)
	w.bringUp("first commit")
	w.commit(2, 3)
	w.step(1)
	w.steps = nil // stock SQLite publishes nothing
	f := &flush{done: make(chan error, 1)}
	w.addFlush(f, flushTrust)
	target := w.targets[0]
	target.known, target.point = true, f.point
	target.belief.lookedAt(w.now(), true, true, true)
	w.commit(3, 4)
	w.step(2)
	w.reset()
	w.commit(4, 2, 4, 5)
	w.at = func(point string) {
		if point == "frame" && w.session.wal.reader.Frames() == 2 {
			w.step(len(w.steps))
		}
	}
	answered := func() bool {
		w.answer()
		select {
		case err := <-f.done:
			if err != nil {
				t.Fatal(err)
			}
			return true
		default:
			return false
		}
	}
	w.bringUp("while the WAL is reset")
	if w.current() {
		t.Fatal("the mirror is brought up: the WAL was reset too late")
	}
	if answered() {
		t.Fatal("the flush is answered, and the mirror is in doubt")
	}
	w.settled()
	if answered() {
		t.Fatal("the flush is answered, and the target has nothing yet")
	}
	target.point = w.mirrorPoint()
	if !answered() {
		t.Error("the flush is not answered")
	}
}

// TestWALOrder: whatever a recorder does while the session comes from one point to the next,
// the mirror is a committed state of the database, and the last one in the end.
// VERNEUIL_TEST_SEEDS has more schedules run.
func TestWALOrder(t *testing.T) {
	from, to := testSeeds(t, 0, 300)
	for seed := from; seed < to; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { orderRun(t, seed) })
	}
}

func orderRun(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	w := newOrderWorld(t)
	if seed%2 == 1 {
		w.r.o.keptBytes = 1 // all but a transaction's first page is read twice
	}
	w.begin()
	for n := range byte(16) {
		if n > 0 && r.IntN(3) == 0 {
			w.reset()
		}
		var pgnos []uint32
		for range 1 + r.IntN(3) {
			pgnos = append(pgnos, 2+uint32(r.IntN(orderPages-1)))
		}
		w.commit(n+1, pgnos...)
	}
	w.at = func(point string) {
		if (point == "frame" || point == "page") && r.IntN(2) == 0 || r.IntN(4) == 0 {
			w.step(r.IntN(14)) // far enough, now and then, to write over what is being read
		}
	}
	for least := 0; len(w.steps) > 0; w.at("between") {
		if r.IntN(3) == 0 {
			w.ask("flush", least)
		} else {
			least = w.published
			w.bringUp("update")
		}
	}
	w.settled()
}
