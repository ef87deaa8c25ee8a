package replicate

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/mirror"
	"verneuil/replicate/versions"
	"verneuil/spool"
	"verneuil/spool/spooltest"
	"verneuil/spool/sqlitefile"
)

// fileSource is a Source of a plain file.
type fileSource struct {
	*os.File
	reserved, exclusive func() (pid int)
}

func (f fileSource) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}
func (f fileSource) NextData(off int64) (int64, error) { return mirror.NextData(f.File, off) }

func (f fileSource) Reserved() (pid int, err error)  { return f.reserved(), nil }
func (f fileSource) Exclusive() (pid int, err error) { return f.exclusive(), nil }

// world is a database with its recorder, its replicators and its targets.
type world struct {
	testing.TB
	rand      *rand.Rand
	page      int      // bytes
	roots     []uint32 // what page 1 names; nil: it is no b-tree
	names     []string // of the first ones
	root, db  string
	sp        *spool.Spool
	w         *spooltest.Writer
	chunks    []*memoryBucket
	manifests []*memoryBucket
	lock      sync.Mutex // SQLite's write lock
	reserved  int        // by which process; guarded by mu
	exclusive int        // likewise
	mu        sync.Mutex
	options   func(*Options)
	log       *bytes.Buffer

	concurrency int // of a Sync; 0: what others have
}

const worldPage = 4096

// hangs is when what a test waits for is given up: far beyond what anything needs on a machine
// that is ten times as busy.
const hangs = 20 * time.Minute

func newWorld(t testing.TB, seed uint64, targets int) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{TB: t, page: worldPage, rand: rand.New(rand.NewPCG(seed, 0)),
		root: filepath.Join(dir, "spool"), db: filepath.Join(dir, "a.db")}
	for k := range targets {
		w.chunks = append(w.chunks, newMemoryBucket(fmt.Sprint("chunks ", k)))
		w.manifests = append(w.manifests, newMemoryBucket(fmt.Sprint("manifests ", k)))
		w.chunks[k].versions = w.manifests[k]
	}
	if err := os.WriteFile(w.db, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.attach()
	return w
}

// attach is what a recorder does when a database is opened.
func (w *world) attach() {
	w.Helper()
	var err error
	if w.sp, err = spool.Create(w.root, w.db, 0o700); err != nil {
		w.Fatal(err)
	}
	if w.w, err = spooltest.NewWriter(w.sp); err != nil {
		w.Fatal(err)
	}
	w.w.SegmentBytes = 256 << 10
	w.Cleanup(func() { w.w.File.Close() })
}

func (w *world) store() *chunkstore.Store {
	var targets []*chunkstore.Target
	for k := range w.chunks {
		targets = append(targets,
			chunkstore.NewTarget(fmt.Sprint("target ", k), w.chunks[k], w.manifests[k]))
	}
	return chunkstore.NewStore(targets...)
}

func (w *world) source() (mirror.Source, error) {
	f, err := os.Open(w.db)
	if err != nil {
		return nil, err
	}
	held := func(by *int) func() int {
		return func() int {
			w.mu.Lock()
			defer w.mu.Unlock()
			return *by
		}
	}
	return fileSource{f, held(&w.reserved), held(&w.exclusive)}, nil
}

// setReserved has another process hold RESERVED, or none any lock.
func (w *world) setReserved(b bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reserved, w.exclusive = 0, 0
	if b {
		w.reserved = os.Getpid() + 1
	}
}

// setExclusive has another process hold EXCLUSIVE.
func (w *world) setExclusive() {
	w.setReserved(true)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.exclusive = w.reserved
}

func (w *world) replicator() *Replicator {
	w.Helper()
	o := Options{
		Spool: w.sp, Store: w.store(), Host: "host", Program: "test", OpenSource: w.source,
		ManifestInterval: time.Millisecond, Log: slog.New(slog.NewTextHandler(testLog{w},
			&slog.HandlerOptions{Level: slog.LevelDebug})),
		hooks: hooks{fault: func(string) bool { return false }},
	}
	if w.options != nil {
		w.options(&o)
	}
	r, err := New(o)
	if err != nil {
		w.Fatal(err)
	}
	return r
}

type testLog struct{ w *world }

func (l testLog) Write(b []byte) (int, error) {
	if testing.Verbose() {
		l.w.Logf("%s", bytes.TrimSpace(b))
	}
	return len(b), nil
}

// run runs a replicator until the returned function is called, or it dies.
func (w *world) run(r *Replicator) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil && !errors.Is(err, errDied) {
				w.Error(err)
			}
		})
	}
	w.Cleanup(stop)
	return stop
}

func (w *world) flush(r *Replicator) error {
	ctx, cancel := context.WithTimeout(context.Background(), hangs)
	defer cancel()
	return r.Flush(ctx)
}

func (w *world) mustFlush(r *Replicator) {
	w.Helper()
	if err := w.flush(r); err != nil {
		w.Fatalf("flush: %v; status %+v", err, r.Status())
	}
}

// page writes a page of the database; page 0 is a header with a counter.
func (w *world) pageOf(n int, counter uint32, fill byte) []byte {
	b := bytes.Repeat([]byte{fill}, w.page)
	if n == 0 {
		copy(b, "SQLite format 3\x00")
		b[16], b[17], b[18], b[19] = byte(w.page>>8), byte(w.page>>16), 1, 1 // 1 means 65,536
		binary.BigEndian.PutUint32(b[24:], uint32(counter))
		if w.roots != nil {
			copy(b[sqlitefile.HeaderBytes:], spooltest.NamedPage(w.page, w.names, w.roots...))
		}
	} else if fill%2 == 0 && slices.Contains(w.roots, uint32(n+1)) {
		b[0] = 5
	}
	return b
}

// noise fills b, whose length is a multiple of 8, with what does not compress. Not byte by byte,
// each of which the race detector would look at.
func (w *world) noise(b []byte) {
	for at := 0; at < len(b); at += 8 {
		binary.LittleEndian.PutUint64(b[at:], w.rand.Uint64())
	}
}

func (w *world) counter() uint32 {
	f, err := os.Open(w.db)
	if err != nil {
		w.Fatal(err)
	}
	defer f.Close()
	return sqlitefile.ReadHeader(f).ChangeCounter()
}

// begin takes the write lock and begins a transaction.
func (w *world) begin() {
	w.lock.Lock()
	w.setExclusive()
	w.w.Begin()
	w.write(0, w.pageOf(0, w.counter()+1, byte(w.rand.IntN(3))))
}

func (w *world) write(n int, b []byte) {
	w.Helper()
	if _, err := w.w.WriteAt(b, int64(n)*int64(w.page)); err != nil {
		w.Fatal(err)
	}
}

func (w *world) commit() {
	w.w.Commit()
	w.setReserved(false)
	w.lock.Unlock()
}

// transact does a random transaction on a database of up to pages pages.
func (w *world) transact(pages int) {
	w.begin()
	for range w.rand.IntN(8) {
		n := 1 + w.rand.IntN(pages-1)
		w.write(n, w.pageOf(n, 0, byte(w.rand.IntN(256))))
	}
	if w.rand.IntN(10) == 0 {
		if err := w.w.Truncate(int64(1+w.rand.IntN(pages)) * int64(w.page)); err != nil {
			w.Fatal(err)
		}
	}
	w.commit()
}

// foreign writes without a recorder.
func (w *world) foreign(pages int) {
	w.lock.Lock()
	w.setExclusive()
	f, err := os.OpenFile(w.db, os.O_RDWR, 0)
	if err != nil {
		w.Fatal(err)
	}
	defer f.Close()
	for range 3 {
		n := 1 + w.rand.IntN(pages-1)
		if _, err := f.WriteAt(w.pageOf(n, 0, byte(w.rand.IntN(256))),
			int64(n)*int64(w.page)); err != nil {
			w.Fatal(err)
		}
	}
	if _, err := f.WriteAt(w.pageOf(0, w.counter()+1, 9), 0); err != nil {
		w.Fatal(err)
	}
	w.setReserved(false)
	w.lock.Unlock()
}

func (w *world) database() []byte {
	b, err := os.ReadFile(w.db)
	if err != nil {
		w.Fatal(err)
	}
	return b
}

// restored is the database as target k has it.
func (w *world) restored(k int) (*manifest.Manifest, []byte) {
	w.Helper()
	m := w.manifest(k)
	b, err := contents(m, w.copied(k))
	if err != nil {
		w.Fatalf("target %d: %v", k, err)
	}
	return m, b
}

// equal checks that target k has the database as it is.
func (w *world) equal(k int, what string) *manifest.Manifest {
	w.Helper()
	m, got := w.restored(k)
	w.same(got, what)
	return m
}

func (w *world) same(got []byte, what string) {
	w.Helper()
	want := w.database()
	if bytes.Equal(got, want) {
		return
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	w.Fatalf("%s: replica has %d bytes, the database %d; "+
		"the first difference is at %d (chunk %d, page %d)",
		what, len(got), len(want), at, at/chunkstore.ChunkBytes, at/w.page)
}

func (w *world) putsAndGets(k int) (puts, gets int) {
	a, b := w.chunks[k].calls()
	c, d := w.manifests[k].calls()
	return a + c, b + d
}

func (w *world) chunkKeys(k int) []string {
	w.chunks[k].mu.Lock()
	defer w.chunks[k].mu.Unlock()
	var keys []string
	for key := range w.chunks[k].objects {
		if !isOfHistory(key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func (w *world) segments() []string {
	names, err := filepath.Glob(filepath.Join(w.sp.Dir(), "log.*"))
	if err != nil || len(names) == 0 {
		w.Fatalf("no segments: %v", err)
	}
	return names
}

// corrupt changes the frames of a segment.
func (w *world) corrupt(name string) {
	w.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		w.Fatal(err)
	}
	for k := spool.SegmentHeaderBytes; k < len(b); k += 100 {
		b[k]++
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		w.Fatal(err)
	}
}

// flipMirror changes a byte of the mirror behind the replicator's back.
func (w *world) flipMirror(off int64) {
	w.Helper()
	f, err := os.OpenFile(filepath.Join(w.sp.Dir(), "mirror"), os.O_RDWR, 0)
	if err != nil {
		w.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], off); err != nil {
		w.Fatal(err)
	}
	b[0]++
	if _, err := f.WriteAt(b[:], off); err != nil {
		w.Fatal(err)
	}
}

// manifest is what target k has: the newest version, records folded in.
func (w *world) manifest(k int) *manifest.Manifest {
	w.Helper()
	m, err := newest(w.copied(k), w.db)
	if err != nil {
		w.Fatalf("target %d: %v", k, err)
	}
	return m
}

// checkpoint is the manifest that target k has, without the records after it.
func (w *world) checkpoint(k int) *manifest.Manifest {
	w.Helper()
	return w.checkpointIn(w.copied(k))
}

// checkpointIn is the manifest that t has.
func (w *world) checkpointIn(t *chunkstore.Target) *manifest.Manifest {
	w.Helper()
	f, err := versions.Open(context.Background(), t, manifest.PlainName("host", w.db))
	if err != nil {
		w.Fatal(err)
	}
	return f.Newest()
}

// newest returns the newest version of the database at path that t has.
func newest(t *chunkstore.Target, path string) (*manifest.Manifest, error) {
	f, err := versions.OpenNewest(context.Background(), t, manifest.PlainName("host", path))
	if err != nil {
		return nil, err
	}
	return f.Newest(), nil
}

// records returns how many records target k has, fences among them.
func (w *world) records(k int) (n int) { return len(w.logKeys(k)) }

// logKeys returns the keys of the records of target k, in their order.
func (w *world) logKeys(k int) (keys []string) {
	w.chunks[k].mu.Lock()
	defer w.chunks[k].mu.Unlock()
	for key := range w.chunks[k].objects {
		if strings.HasPrefix(key, chunkstore.LogKeyPrefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// loseRecords takes all records away from target k.
func (w *world) loseRecords(k int) {
	w.chunks[k].mu.Lock()
	defer w.chunks[k].mu.Unlock()
	maps.DeleteFunc(w.chunks[k].objects, func(key string, _ []byte) bool {
		return strings.HasPrefix(key, chunkstore.LogKeyPrefix)
	})
}

// loseSpool takes the spool away at once, as a removal that nobody races with.
func (w *world) loseSpool() {
	w.Helper()
	if err := os.Rename(w.sp.Dir(), filepath.Join(w.TempDir(), "lost")); err != nil {
		w.Fatal(err)
	}
}
