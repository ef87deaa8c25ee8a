package replicate

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/replicate/courier"
	"verneuil/replicate/mirror"
	"verneuil/spool"
)

// copiedFile has which files the mirror is a copy of.
const copiedFile = "copied.json"

// counting counts what Sync reads of the database.
type counting struct {
	mirror.Source
	bytes *int64
}

func (c counting) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.Source.ReadAt(b, off)
	atomic.AddInt64(c.bytes, int64(n))
	return n, err
}

func (c counting) NextData(off int64) (int64, error) { return c.Source.(fileSource).NextData(off) }

func (w *world) sync(read *int64) (SyncResult, error) {
	ctx, cancel := context.WithTimeout(context.Background(), hangs)
	defer cancel()
	seen, err := mirror.See(w.db)
	if err != nil {
		return SyncResult{}, err
	}
	w.lock.Lock() // a read transaction: no transaction can end
	defer w.lock.Unlock()
	return Sync(ctx, SyncOptions{
		Store: w.store(), Root: w.root, DBPath: w.db, Host: "host", Program: "test",
		Concurrency: w.concurrency,
		OpenSource: func() (mirror.Source, error) {
			s, err := w.source()
			if err != nil || read == nil {
				return s, err
			}
			return counting{s, read}, nil
		},
		Seen:   seen,
		Source: &spool.SourceConfig{Path: w.db, Host: "host"},
	})
}

func (w *world) mustSync(what string, read *int64) SyncResult {
	w.Helper()
	result, err := w.sync(read)
	if err != nil {
		w.Fatalf("%s: %v", what, err)
	}
	for k := range w.chunks {
		w.equal(k, what)
	}
	return result
}

// age makes the database's times old, so that they can be trusted.
func (w *world) age() {
	w.Helper()
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(w.db, old, old); err != nil {
		w.Fatal(err)
	}
}

func TestSync(t *testing.T) {
	w := newWorld(t, 1, 2)
	w.transact(1500)
	w.transact(1500)
	first := w.mustSync("first", nil)
	if !first.Uploaded || first.Chunks == 0 || !strings.Contains(first.Name, "a.db") {
		t.Errorf("first sync: %+v", first)
	}
	puts, gets := w.putsAndGets(0)
	again := w.mustSync("again", nil)
	// The checkpoint is asked for, the log's end, and some packs.
	if p, g := w.putsAndGets(0); again.Uploaded || p != puts || g > gets+2+courier.SampleObjects {
		t.Errorf("sync of what is there: %+v, %d puts and %d gets", again, p-puts, g-gets)
	}

	w.foreign(1500)
	if change := w.mustSync("a change", nil); !change.Uploaded || change.Chunks > 4*2 {
		t.Errorf("sync of a small change: %+v", change)
	}
	if err := os.RemoveAll(w.root); err != nil {
		t.Fatal(err)
	}
	puts, _ = w.putsAndGets(0)
	if result := w.mustSync("spool deleted", nil); result.Uploaded {
		t.Errorf("sync without a spool: %+v", result)
	}
	if p, _ := w.putsAndGets(0); p != puts {
		t.Errorf("sync without a spool took %d puts", p-puts)
	}
}

// A target that is new is asked for both its buckets at once.
func TestSyncAsksBothBucketsAtOnce(t *testing.T) {
	w := newWorld(t, 1, 3)
	var asked [2]chan struct{}
	var looked atomic.Bool // who finds no versions asks the manifests' bucket for its keys
	for k, bucket := range []*memoryBucket{w.chunks[0], w.manifests[0]} {
		asked[k] = make(chan struct{})
		began := sync.OnceFunc(func() { close(asked[k]) })
		bucket.fault = func(op, _ string) error {
			if op != "mark" || k == 1 && !looked.Swap(true) {
				return nil
			}
			began()
			select {
			case <-asked[1-k]:
			case <-time.After(hangs):
				t.Error("the other bucket is not asked")
			}
			return nil
		}
	}
	w.mustSync("both", nil)
}

// TestSyncDoesNotRead: an unchanged file is not even read, once its times are old
// enough. ctime cannot be set, so the clock is moved on instead.
func TestSyncDoesNotRead(t *testing.T) {
	w := newWorld(t, 2, 1)
	w.transact(100)
	w.mustSync("first", nil)
	sp, err := spool.Open(w.sp.Dir())
	if err != nil {
		t.Fatal(err)
	}
	b, err := sp.ReadFile(copiedFile, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	// as if the first sync had been later
	later := strings.Replace(string(b), `"at":1`, `"at":2`, 1)
	if err := sp.WriteFile(copiedFile, []byte(later)); err != nil {
		t.Fatal(err)
	}
	var read int64
	if result := w.mustSync("unchanged", &read); read != 0 || result.Uploaded {
		t.Errorf("sync of an unchanged file read %d bytes: %+v", read, result)
	}
	// a live replicator in between takes the trust away
	r := w.replicator()
	stop := w.run(r)
	w.mustFlush(r)
	stop()
	if w.mustSync("after a replicator", &read); read == 0 {
		t.Error("the mirror was trusted after a replicator ran")
	}
}

func TestSyncThroughAnotherReplicator(t *testing.T) {
	w := newWorld(t, 3, 1)
	r := w.replicator()
	defer w.run(r)()
	w.transact(50)
	w.mustFlush(r)
	w.foreign(50)
	if result := w.mustSync("foreign write", nil); result.Other != os.Getpid() {
		t.Errorf("sync: %+v", result)
	}
}

func TestSyncFails(t *testing.T) {
	w := newWorld(t, 4, 2)
	w.transact(50)
	w.chunks[1].setFault(func(op, _ string) error { return errInjected })
	if _, err := w.sync(nil); !errors.Is(err, errInjected) ||
		!strings.Contains(err.Error(), "target 1") {
		t.Errorf("sync with a failing target: %v", err)
	}
	w.equal(0, "the healthy target")
	w.chunks[1].setFault(nil)
	w.mustSync("the other target returned", nil)

	none := newWorld(t, 4, 0)
	if _, err := none.sync(nil); !errors.Is(err, ErrNoTargets) {
		t.Errorf("sync without targets: %v", err)
	}
	missing := newWorld(t, 4, 1)
	missing.db += "-missing"
	if _, err := missing.sync(nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("sync of nothing: %v", err)
	}
}

// commitWALHeader commits a header that says that the database is in WAL mode, and a page.
func (w *world) commitWALHeader() {
	header := w.pageOf(0, 1, 1)
	header[18], header[19] = 2, 2
	w.begin()
	w.write(0, header)
	w.write(5, w.pageOf(5, 0, 5))
	w.commit()
}

// TestSyncWAL: a WAL database is presented as checkpointed; a replicator does not
// take the mirror over.
func TestSyncWAL(t *testing.T) {
	w := newWorld(t, 5, 1)
	w.commitWALHeader()
	if result := w.mustSync("WAL", nil); !result.Uploaded {
		t.Errorf("sync: %+v", result)
	}
	if g := w.sp.State().MirrorGeneration.Load(); g != spool.NoMirror {
		t.Errorf("mirror of a WAL database has generation %d", g)
	}
	if result := w.mustSync("WAL again", nil); result.Uploaded {
		t.Errorf("second sync: %+v", result)
	}
}

// TestSyncIsNotAheadOfItsTransaction: what was committed to the WAL after the caller's
// transaction began is not in the mirror, and the next Sync does not take it for unchanged.
func TestSyncIsNotAheadOfItsTransaction(t *testing.T) {
	w := newWorld(t, 5, 1)
	w.commitWALHeader()
	seen, err := mirror.See(w.db)
	if err != nil {
		t.Fatal(err)
	}
	shown := w.database()
	if err := os.WriteFile(w.db+"-wal", []byte("somebody commits"), 0o600); err != nil {
		t.Fatal(err)
	}
	st := w.sp.State()
	st.Sequence.Add(1)
	if _, err := Sync(t.Context(), SyncOptions{
		Store: w.store(), Root: w.root, DBPath: w.db, Host: "host", Program: "test",
		Seen: seen,
		OpenSource: func() (mirror.Source, error) {
			return bytesSource{bytes.NewReader(shown)}, nil
		},
	}); err != nil {
		t.Fatal(err)
	}
	if b, err := w.sp.ReadFile(copiedFile, 1<<20); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is %s, %v: the mirror is not a copy of these files", copiedFile, b, err)
	}
	if pushed := st.PushedSequence.Load(); pushed == st.Sequence.Load() {
		t.Errorf("sequence %d is said to be pushed", pushed)
	}
	w.mustSync("next", nil)
	if pushed := st.PushedSequence.Load(); pushed != st.Sequence.Load() {
		t.Errorf("sequence %d is pushed of %d", pushed, st.Sequence.Load())
	}
	if _, err := w.sp.ReadFile(copiedFile, 1<<20); err != nil {
		t.Errorf("nothing changed meanwhile: %v", err)
	}
}

// bytesSource is a Source that does not change.
type bytesSource struct{ *bytes.Reader }

func (s bytesSource) Size() (int64, error)            { return s.Reader.Size(), nil }
func (s bytesSource) Reserved() (pid int, err error)  { return 0, nil }
func (s bytesSource) Exclusive() (pid int, err error) { return 0, nil }
func (s bytesSource) Close() error                    { return nil }

// haltedSource is a Source whose first read says that it is one, and then waits.
type haltedSource struct {
	bytesSource
	read, goOn chan struct{}
	once       *sync.Once
}

func (s haltedSource) ReadAt(b []byte, off int64) (int, error) {
	s.once.Do(func() { close(s.read); <-s.goOn })
	return s.bytesSource.ReadAt(b, off)
}

// TestSyncsAtOnce: a Sync does not answer for commits that its caller's transaction, which
// began before them, does not show; the other one sends them itself.
func TestSyncsAtOnce(t *testing.T) {
	w := newWorld(t, 5, 1)
	w.commitWALHeader()
	st := w.sp.State()
	ended := make(chan error, 2)
	begin := func(open func(bytesSource) mirror.Source) {
		seen, err := mirror.See(w.db)
		if err != nil {
			t.Fatal(err)
		}
		source := open(bytesSource{bytes.NewReader(w.database())})
		go func() {
			_, err := Sync(t.Context(), SyncOptions{
				Store: w.store(), Root: w.root, DBPath: w.db, Host: "host", Program: "test",
				Seen:       seen,
				OpenSource: func() (mirror.Source, error) { return source, nil },
			})
			ended <- err
		}()
	}
	halted := haltedSource{read: make(chan struct{}), goOn: make(chan struct{}),
		once: new(sync.Once)}
	begin(func(s bytesSource) mirror.Source { halted.bytesSource = s; return halted })
	<-halted.read
	f, err := os.OpenFile(w.db, os.O_RDWR, 0) // as in the WAL: only that the file is one
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(w.pageOf(5, 0, 7), 5*int64(w.page)); err != nil {
		t.Fatal(err)
	}
	st.Sequence.Add(1)
	begin(func(s bytesSource) mirror.Source { return s })
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for st.FlushDrawn.Load() == 0 { // the second one asks the first
		<-tick.C
	}
	close(halted.goOn)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	w.equal(0, "two syncs at once")
	if st.PushedSequence.Load() != st.Sequence.Load() {
		t.Errorf("sequence %d is pushed of %d", st.PushedSequence.Load(), st.Sequence.Load())
	}
}

// TestSyncConflict: a newcomer takes over, a known writer does not.
func TestSyncConflict(t *testing.T) {
	w := newWorld(t, 6, 1)
	w.transact(50)
	w.mustSync("first", nil)
	other := newWorld(t, 7, 0)
	other.db, other.chunks, other.manifests = w.db, w.chunks, w.manifests
	other.foreign(50)
	other.mustSync("newcomer", nil)
	w.foreign(50)
	if _, err := w.sync(nil); !errors.Is(err, chunkstore.ErrConflict) {
		t.Errorf("sync after a take-over: %v", err)
	}
}

// Holes are neither read nor stored, become data, and come back.
func TestSyncOfHoles(t *testing.T) {
	const hole = 40 << 20
	w := newWorld(t, 1, 1)
	w.transact(100)
	truncate := func(bytes int64) {
		if err := os.Truncate(w.db, bytes); err != nil {
			t.Fatal(err)
		}
	}
	before := int64(len(w.database()))
	truncate(before + hole)
	read := int64(0)
	first := w.mustSync("a hole at the end", &read)
	if read > before+2*mirror.PieceBytes {
		t.Errorf("%d bytes were read of a database with %d and a hole", read, before)
	}
	f, err := os.OpenFile(w.db, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte("data"), 10_000), hole/2); err != nil {
		t.Fatal(err)
	}
	read = 0
	if second := w.mustSync("data in the hole", &read); second.Chunks == 0 ||
		second.Chunks > first.Chunks {
		t.Errorf("first %d chunks were put, then %d", first.Chunks, second.Chunks)
	}
	if read > before+4*mirror.PieceBytes {
		t.Errorf("%d bytes were read of a database with %d and two holes", read, before)
	}
	truncate(before)
	truncate(before + hole)
	w.mustSync("a hole where there was data", nil)
}
