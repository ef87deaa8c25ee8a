package remote_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/remote"
	"verneuil/replicate/remote/compose"
)

// older is a store in root with a copy of what it was when the database had the value 1. It has 2.
type older struct{ root, copy string }

func newOlder(t *testing.T) older {
	o := older{t.TempDir() + "/store", t.TempDir() + "/copy"}
	writer := open(t, machineOf(t, o.root, t.TempDir(), silent), remote.Mode{Create: true})
	for v := mustWrite(t, writer); v < 2; v = mustWrite(t, writer) {
		if err := writer.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if v == 1 {
			if err := os.CopyFS(o.copy, os.DirFS(o.root)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := writer.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	return o
}

func (o older) putBack(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(o.root); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(o.copy, o.root); err != nil {
		t.Fatal(err)
	}
}

// TestReaderOfStoreThatWasPutBack: who only reads is told, too, and so is who looks at the status.
// What the process has read does not come back once it has closed all, however soon it opens the
// database again.
func TestReaderOfStoreThatWasPutBack(t *testing.T) {
	for _, mode := range []remote.Mode{{}, {ReadOnly: true}} {
		store := newOlder(t)
		o := machineOf(t, store.root, t.TempDir(), silent)
		o.LeaseTimeout, o.LeaseLinger = time.Nanosecond, time.Hour
		set := newSet(t, o)
		c := openIn(t, set, mode)
		mustRead(t, c, 2)
		store.putBack(t)
		for range 2 {
			if err := c.Share(t.Context(), false); !errors.Is(err, remote.ErrRolledBack) {
				t.Errorf("%+v: %v", mode, err)
			}
		}
		if _, err := set.Open(t.Context(), name, mode); !errors.Is(err, remote.ErrRolledBack) {
			t.Errorf("%+v, another one: %v", mode, err)
		}
		all := set.Status()
		if len(all) != 1 || !strings.Contains(all[0].Error, "put back to an older copy") {
			t.Errorf("status: %+v", all)
		}
		c.Close()
		c = openIn(t, set, mode)
		mustRead(t, c, 1)
		if s := set.Status(); s[0].Error != "" {
			t.Errorf("status: %s", s[0].Error)
		}
		c.Close()
	}
}

// TestPutBackMeanwhile: what lingers of a database of which no handle is open is no newer than what
// the store has.
func TestPutBackMeanwhile(t *testing.T) {
	for _, letGo := range []bool{false, true} {
		store := newOlder(t)
		o := machineOf(t, store.root, t.TempDir(), silent)
		o.LeaseTimeout, o.LeaseLinger = time.Nanosecond, time.Millisecond
		set := newSet(t, o)
		c := openIn(t, set, remote.Mode{})
		mustRead(t, c, 2)
		if !letGo { // a checkpoint is due for a while
			mustWrite(t, c)
			if err := c.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
		for letGo && len(set.Status()) > 0 {
			runtime.Gosched()
		}
		store.putBack(t)
		c = openIn(t, set, remote.Mode{})
		mustRead(t, c, 1)
		if v := mustWrite(t, c); v != 2 {
			t.Errorf("wrote %d", v)
		}
		c.Close()
	}
}

// TestRecordsOfACheckpointAreGone: what a store has lost, and nobody needs to read the database, is
// no reason never to write to it again.
func TestRecordsOfACheckpointAreGone(t *testing.T) {
	store := newOlder(t)
	checkpoint := func() string {
		files, err := filepath.Glob(store.root + "/manifests/*app.db")
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		text, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	c := open(t, machineOf(t, store.root, t.TempDir(), silent), remote.Mode{})
	for first := checkpoint(); checkpoint() == first; {
		mustWrite(t, c)
	}
	if err := c.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := os.RemoveAll(store.root + "/chunks/logs"); err != nil {
		t.Fatal(err)
	}
	c = open(t, machineOf(t, store.root, t.TempDir(), silent), remote.Mode{})
	v := mustWrite(t, c)
	mustRead(t, open(t, machineOf(t, store.root, t.TempDir(), silent), remote.Mode{}), v)
	mustWrite(t, c)
}

// TestPageOfAnotherRecord: who reads what the store has lost does not take it for what another
// process of the machine has appended in its place, at the very number, and promises to be the
// newest.
func TestPageOfAnotherRecord(t *testing.T) {
	store, here := newOlder(t), t.TempDir()
	machine := func(temp string) *remote.Conn {
		o := machineOf(t, store.root, temp, silent)
		o.LeaseTimeout, o.LeaseRenewal, o.LeaseLinger = time.Hour, time.Hour, time.Hour
		return open(t, o, remote.Mode{})
	}
	writer := machine(here)
	mustRead(t, writer, 2)
	copied := t.TempDir() + "/copied"
	if err := os.CopyFS(copied, os.DirFS(store.root)); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, machine(t.TempDir()))
	reader := machine(here)
	mustRead(t, reader, 3)
	older{store.root, copied}.putBack(t)
	if v := mustWrite(t, writer); v != 3 {
		t.Fatalf("the store was put back, and now has %d", v)
	}
	if err := reader.Share(t.Context(), false); !errors.Is(err, remote.ErrRolledBack) {
		t.Errorf("a reader is told %v", err)
	}
}

// losing is a store that loses the packs that were put before the first record that names some.
type losing struct {
	mu    sync.Mutex
	packs []string
	over  bool
}

// of returns how machineOf's store is seen through l.
func (l *losing) of(t *testing.T, o remote.Options) remote.Options {
	return called(o, func(s *chunkstore.Store, verb, key string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		switch {
		case l.over || verb != "put":
		case len(key) == 64:
			l.packs = append(l.packs, key)
		case len(l.packs) > 0 && strings.HasPrefix(key, "log-"):
			l.over = true
			for _, pack := range l.packs {
				if err := s.Targets[0].Chunks.Delete(context.Background(), pack); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// fill makes a database of so many bytes, which are random, one transaction, and returns it.
func fill(t *testing.T, c *remote.Conn, bytes int) []byte {
	mustShareToWrite(t, c)
	file := make([]byte, bytes)
	rand.NewChaCha8([32]byte{}).Read(file[compose.BlockBytes:])
	var all []int64
	for off := 0; off < len(file); off += compose.BlockBytes {
		all = append(all, int64(off))
	}
	copy(file, page(0, 1))
	binary.BigEndian.PutUint32(file[28:], uint32(len(all)))
	_, err := c.Commit(t.Context(), compose.Change{Bytes: int64(bytes), Offsets: all,
		Read: func(k int, b []byte) error { copy(b, file[all[k]:]); return nil },
	}, remote.Way{Pass: true})
	if err == nil {
		err = c.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// TestPackLostBeforeItWasNamed: a store that is put back after a pack was put, and before the
// record was appended that names it, gets it again by who has put it.
func TestPackLostBeforeItWasNamed(t *testing.T) {
	o := machineOf(t, t.TempDir(), t.TempDir(), silent)
	o.LeaseLinger, o.LeaseRenewal = time.Hour, time.Nanosecond
	var l losing
	file := fill(t, open(t, l.of(t, o), remote.Mode{Create: true}), 1<<20)
	s, err := o.Open(t.Context(), "store")
	if err != nil || len(l.packs) == 0 {
		t.Fatal("no pack was put", err)
	}
	for _, pack := range l.packs {
		for err := chunkstore.ErrAbsent; errors.Is(err, chunkstore.ErrAbsent); {
			_, err = s.Targets[0].Chunks.Stat(t.Context(), pack)
			runtime.Gosched()
		}
	}
	c := open(t, o, remote.Mode{ReadOnly: true}) // another process
	got := make([]byte, compose.BlockBytes)
	for off := len(got); off < len(file); off += len(got) {
		if err := c.Read(t.Context(), got, int64(off)); err != nil {
			t.Fatal(err)
		} else if !bytes.Equal(got, file[off:][:len(got)]) {
			t.Fatalf("block %d is another one", off/len(got))
		}
	}
}

// TestPackLostThatWasNotKept: who has no copy of it says so, until all connections are closed.
func TestPackLostThatWasNotKept(t *testing.T) {
	o := machineOf(t, t.TempDir(), t.TempDir(), silent)
	o.LeaseLinger, o.LeaseRenewal = time.Hour, time.Nanosecond
	var l losing
	set := newSet(t, l.of(t, o))
	c := openIn(t, set, remote.Mode{Create: true})
	fill(t, c, 24<<20)
	for !strings.Contains(set.Status()[0].Error, "which a record names") {
		runtime.Gosched()
	}
	for range 2 {
		err := c.Share(t.Context(), false)
		if !errors.Is(err, remote.ErrRolledBack) || !strings.Contains(err.Error(), "the pack ") {
			t.Errorf("share: %v", err)
		}
	}
	c.Close()
	openIn(t, set, remote.Mode{})
}

// TestOwnerBesideAnotherHistory: an owner in whose place another history was begun gives up what it
// has, also while nobody writes.
func TestOwnerBesideAnotherHistory(t *testing.T) {
	root, other := t.TempDir(), t.TempDir()
	open(t, machineOf(t, other, t.TempDir(), silent), remote.Mode{Create: true}).Close()
	var c counted // so that the log cannot tell
	o := c.of(machineOf(t, root, t.TempDir(), silent))
	o.LeaseLinger, o.LeaseRenewal = time.Hour, time.Nanosecond
	set := newSet(t, o)
	mustWrite(t, openIn(t, set, remote.Mode{Create: true}))
	if !set.Status()[0].Holder {
		t.Fatal("who has written does not own the history")
	}
	files, err := filepath.Glob(other + "/manifests/*app.db")
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if err := os.Rename(files[0], root+strings.TrimPrefix(files[0], other)); err != nil {
		t.Fatal(err)
	}
	for set.Status()[0].Holder {
		runtime.Gosched()
	}
}

// TestReaderFollowsToAnotherHistory: who has read a history, in a bucket, goes on with the one that
// another machine has begun in its place, as a record is gone that nobody needs.
func TestReaderFollowsToAnotherHistory(t *testing.T) {
	root := t.TempDir()
	var s *chunkstore.Store
	machine := func() *remote.Conn {
		o := machineOf(t, root, t.TempDir(), silent)
		o.LeaseTimeout = time.Nanosecond
		var c counted // so that the log cannot tell
		o = c.of(o)
		var err error
		if s, err = o.Open(t.Context(), "store"); err != nil {
			t.Fatal(err)
		}
		return open(t, o, remote.Mode{Create: true})
	}
	writer := machine()
	checkpoint := func() uint64 {
		o, err := s.Targets[0].Manifests.Get(t.Context(), manifest.PlainName("", "/app.db"),
			chunkstore.GetOptions{BytesMax: manifest.BytesMax})
		if err != nil {
			t.Fatal(err)
		}
		m, err := manifest.Decode(chunkstore.Plain{}, o.Body)
		if err != nil {
			t.Fatal(err)
		}
		return m.At.Number
	}
	for mustWrite(t, writer); checkpoint() == 0; {
		mustWrite(t, writer)
	}
	v := mustWrite(t, writer)
	if err := writer.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	reader := machine()
	mustRead(t, reader, v)
	var gone []string
	err := s.Targets[0].Chunks.List(t.Context(), "log-", func(o chunkstore.Object) bool {
		if _, n, ok := chunkstore.ParseRecordKey(o.Key); ok && n <= checkpoint() {
			gone = append(gone, o.Key)
		}
		return true
	})
	for _, key := range gone {
		err = errors.Join(err, s.Targets[0].Chunks.Delete(t.Context(), key))
	}
	if err != nil || len(gone) == 0 {
		t.Fatal(gone, err)
	}
	v = mustWrite(t, machine())
	reader.Share(t.Context(), false) // it finds out
	mustRead(t, reader, v)
}
