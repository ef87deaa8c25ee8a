package dir_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/chunkstore/storetest"
)

// flushes counts what the batches of a new dir target flush, and makes it fail.
type flushes struct {
	target      *chunkstore.Target
	root        string
	files, alls atomic.Int64
	err         atomic.Pointer[error]
}

func newFlushes(t *testing.T) *flushes {
	t.Helper()
	f := &flushes{root: t.TempDir()}
	f.target = storetest.Open(t, dirTarget(f.root)).Targets[0]
	together, err := dir.FlushTogether(t.Context(), f.target.Chunks,
		chunkstore.Sum([]byte("first")))
	if err != nil {
		t.Fatal(err)
	}
	if !together {
		t.Skip("this file system's syncfs is not relied on")
	}
	count := func(n *atomic.Int64) func() error {
		return func() error {
			n.Add(1)
			if err := f.err.Load(); err != nil {
				return *err
			}
			return nil
		}
	}
	dir.FlushWith(f.target.Chunks, count(&f.files), count(&f.alls))
	return f
}

func (f *flushes) put(t *testing.T, batch *chunkstore.PackBatch, n int) {
	t.Helper()
	for i := range n {
		if _, _, err := batch.Put(t.Context(), f.pack(i)); err != nil {
			t.Fatal(err)
		}
	}
}

// pack returns the ith pack that put puts.
func (f *flushes) pack(i int) *chunkstore.Pack {
	p, _ := storetest.PackOf(f.target.Sealer, fmt.Appendf(nil, "object %d", i))
	return p
}

func (f *flushes) want(t *testing.T, files, alls int64) {
	t.Helper()
	if gotFiles, gotAlls := f.files.Swap(0), f.alls.Swap(0); gotFiles != files || gotAlls != alls {
		t.Errorf("%d files fsynced, %d calls of syncfs; want %d, %d", gotFiles, gotAlls, files,
			alls)
	}
}

func TestI3DirBatchFlushesAll(t *testing.T) {
	f := newFlushes(t)
	batch := f.target.Batch()
	defer batch.Close()
	f.put(t, batch, 32)
	f.want(t, 0, 0)
	sync := func(files, alls int64) {
		t.Helper()
		if err := batch.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.want(t, files, alls)
	}
	sync(32, 0)
	sync(0, 0)
	f.put(t, batch, 32) // the names are taken
	f.want(t, 0, 0)
	sync(32, 0)
	sync(0, 0)
	if err := os.RemoveAll(f.root); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time, the names are taken
		f.put(t, batch, 33)
		f.want(t, 0, 0)
		sync(0, 1)
		sync(0, 0)
	}
}

func TestI3DirBatchThatFails(t *testing.T) {
	for _, c := range []struct {
		n           int
		files, alls int64
	}{{1, 1, 0}, {40, 0, 1}} {
		n := c.n
		f := newFlushes(t)
		batch := f.target.Batch()
		f.put(t, batch, n)
		broken := errors.New("broken disk")
		f.err.Store(&broken)
		storetest.MustBe(t, batch.Sync(t.Context()), broken)
		// The kernel forgets a failure that it has told of: the batch must not.
		f.err.Store(nil)
		storetest.MustBe(t, batch.Sync(t.Context()), broken)
		_, _, err := batch.Put(t.Context(), f.pack(n))
		storetest.MustBe(t, err, broken)
		if err := batch.Close(); err != nil {
			t.Error(err)
		}
		// Another batch takes nothing of it for its own.
		f.want(t, c.files, c.alls)
		again := f.target.Batch()
		f.put(t, again, n)
		f.want(t, 0, 0)
		if err := again.Sync(t.Context()); err != nil {
			t.Error(err)
		}
		f.want(t, c.files, c.alls)
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestI5DirBatchNeverReplacesByLess: neither an object that is good, unless by a
// durable one, nor does it leave one that a crash has damaged.
func TestI5DirBatchNeverReplacesByLess(t *testing.T) {
	f := newFlushes(t)
	_, pack, places := f.pack(0).Encode(chunkstore.Plain{})
	plain, key := []byte("object 0"), pack.String()
	ref := chunkstore.Ref{ID: chunkstore.Plain{}.Identify(plain), Place: places[0]}
	name := filepath.Join(f.root, "chunks", key[:2], key)
	batch := f.target.Batch()
	defer batch.Close()
	f.put(t, batch, 1)
	good, err := os.ReadFile(name)
	if err := errors.Join(err, batch.Sync(t.Context())); err != nil {
		t.Fatal(err)
	}
	f.want(t, 1, 0)
	// a crash before Sync
	for _, damaged := range [][]byte{{}, make([]byte, len(good)), good[:len(good)-1]} {
		if err := os.WriteFile(name, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := f.target.GetObject(t.Context(), ref)
		storetest.MustBe(t, err, chunkstore.ErrCorrupt)
		f.put(t, batch, 1)
		f.want(t, 0, 0)
		if stands, err := os.ReadFile(name); err != nil || !bytes.Equal(stands, damaged) {
			t.Errorf("replaced by what is not durable (%v)", err)
		}
		if err := batch.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.want(t, 1, 0)
		got, err := f.target.GetObject(t.Context(), ref)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("got %q, %v", got, err)
		}
	}
	// A file that cannot be made durable does not get the name.
	broken := errors.New("broken disk")
	f.err.Store(&broken)
	before, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	f.put(t, batch, 1)
	storetest.MustBe(t, batch.Sync(t.Context()), broken)
	if after, err := os.Stat(name); err != nil || !os.SameFile(before, after) {
		t.Errorf("the object was replaced (%v)", err)
	}
	f.err.Store(nil)
	unused := f.target.Batch() // closed without Sync
	f.put(t, unused, 1)
	if err := unused.Close(); err != nil {
		t.Error(err)
	}
	for name := range storetest.FilesIn(t, f.root) {
		if strings.Contains(name, "/.put/") {
			t.Errorf("left behind: %s", name)
		}
	}
}
