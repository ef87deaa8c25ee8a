package remote_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/replicate/remote"
	"verneuil/replicate/remote/compose"
	"verneuil/replicate/versions"
)

// touch writes block 0 of what fill has made.
func touch(t *testing.T, c *remote.Conn) {
	t.Helper()
	for {
		err := c.Share(t.Context(), true)
		if err == nil {
			err = c.Reserve(t.Context())
		}
		if err == nil {
			break
		} else if !errors.Is(err, remote.ErrBusy) && !errors.Is(err, remote.ErrStale) {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
	header := page(0, 2)
	binary.BigEndian.PutUint32(header[28:], filled/compose.BlockBytes)
	_, err := c.Commit(t.Context(), compose.Change{Bytes: filled, Offsets: []int64{0},
		Read: func(_ int, b []byte) error { copy(b, header); return nil },
	}, remote.Way{Pass: true})
	if err == nil {
		err = c.Wait(t.Context())
	}
	c.Unreserve()
	if err != nil {
		t.Fatal(err)
	}
}

const filled = 1 << 20 // bytes

// TestPackLostByADeadWriter: who takes a database over from a writer that has not looked for what
// its last record names says by name what is lost, and goes on. It is not lost any more once it is
// there again.
func TestPackLostByADeadWriter(t *testing.T) {
	root := t.TempDir()
	dead := machineOf(t, root, t.TempDir(), silent)
	dead.LeaseLinger, dead.LeaseRenewal = time.Hour, time.Hour // it says nothing
	var l losing
	dead = called(l.of(t, dead), func(_ *chunkstore.Store, verb, _ string) {
		if verb == "stat" { // and does not come to look
			<-t.Context().Done()
		}
	})
	fill(t, open(t, dead, remote.Mode{Create: true}), filled)
	if len(l.packs) == 0 {
		t.Fatal("no pack was put")
	}
	o := machineOf(t, root, t.TempDir(), silent)
	o.LeaseTimeout, o.LeaseLinger, o.LeaseRenewal = time.Millisecond, time.Hour, time.Nanosecond
	set := newSet(t, o)
	c := openIn(t, set, remote.Mode{})
	touch(t, c)
	lost := func() string { return set.Status()[0].Error }
	for !strings.Contains(lost(), l.packs[0]) || !strings.Contains(lost(), "verneuilctl verify") {
		runtime.Gosched()
	}
	touch(t, c)
	s, err := o.Open(t.Context(), "store")
	for _, pack := range l.packs { // no program of ours reads it
		if err == nil {
			_, err = s.Targets[0].Chunks.Put(t.Context(), pack, []byte("x"), chunkstore.Condition{})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	for lost() != "" {
		touch(t, c) // else there is no look
	}
}

// TestHeirsAreLookedForOnce: of packs that others have put it is asked once by a process, in the
// background, and by none that only comes, writes and goes.
func TestHeirsAreLookedForOnce(t *testing.T) {
	root := t.TempDir()
	other := machineOf(t, root, t.TempDir(), silent)
	writer := open(t, other, remote.Mode{Create: true})
	fill(t, writer, filled)
	if err := writer.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	stats := func(c *counted) (n int) {
		for _, call := range c.take() {
			if strings.HasPrefix(call, "stat ") {
				n++
			}
		}
		return n
	}
	var quick, long counted
	o := quick.of(machineOf(t, root, t.TempDir(), silent))
	o.LeaseRenewal, o.LeaseLinger = time.Hour, time.Hour
	set := newSet(t, o)
	c := openIn(t, set, remote.Mode{})
	touch(t, c)
	c.Close()
	set.Exit(t.Context())
	if n := stats(&quick); n > 0 {
		t.Errorf("who only came and went has looked for %d packs", n)
	}
	o = long.of(machineOf(t, root, t.TempDir(), silent))
	o.LeaseRenewal, o.LeaseLinger, o.LeaseTimeout = time.Nanosecond, time.Hour, 2*time.Hour
	c = openIn(t, newSet(t, o), remote.Mode{})
	touch(t, c)
	n := 0
	for n == 0 {
		n = stats(&long)
		runtime.Gosched()
	}
	packs, err := os.ReadDir(root + "/chunks")
	if err != nil || n > len(packs) {
		t.Errorf("%d looks, and %d objects: %v", n, len(packs), err)
	}
	for range 3 {
		if err := c.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		touch(t, c)
	}
	if again := stats(&long); again > 0 {
		t.Errorf("%d packs were looked for again", again)
	}
}

// TestPutBackUnderACheckpoint: who puts a checkpoint while the store is put back to an older copy
// says by name what that checkpoint lacks, though nobody writes any more, and goes on.
func TestPutBackUnderACheckpoint(t *testing.T) {
	store := newOlder(t)
	o := machineOf(t, store.root, t.TempDir(), silent)
	o.LeaseLinger, o.LeaseRenewal = time.Hour, time.Hour
	putting, back := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var mu sync.Mutex
	var packs []string
	o = called(o, func(_ *chunkstore.Store, verb, key string) { // and the log cannot tell
		switch {
		case verb == "put" && len(key) == 64:
			mu.Lock()
			defer mu.Unlock()
			packs = append(packs, key)
		case verb == "put" && strings.HasSuffix(key, "app.db"):
			once.Do(func() {
				close(putting)
				<-back
			})
		}
	})
	set := newSet(t, o)
	c := openIn(t, set, remote.Mode{})
	fill(t, c, filled)
	mu.Lock()
	pack := packs[0]
	mu.Unlock()
	for put := false; !put && set.Status()[0].Record < 64; { // that many are a checkpoint
		select {
		case <-putting:
			put = true
		default:
			touch(t, c)
		}
	}
	<-putting
	store.putBack(t)
	close(back)
	for !strings.Contains(set.Status()[0].Error, pack) {
		runtime.Gosched()
	}
	for err := remote.ErrRolledBack; errors.Is(err, remote.ErrRolledBack); {
		if err = c.Share(t.Context(), false); err != nil && !errors.Is(err, remote.ErrRolledBack) {
			t.Fatal(err)
		}
	}
}

// TestManifestLost: a database of which somebody has removed the newest checkpoint is not begun
// anew, whoever opens it. One that nobody has written to is.
func TestManifestLost(t *testing.T) {
	for _, written := range []bool{false, true} {
		root := t.TempDir()
		c := open(t, machineOf(t, root, t.TempDir(), silent), remote.Mode{Create: true})
		if written {
			mustWrite(t, c)
			if err := c.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
		files, err := filepath.Glob(root + "/manifests/*app.db")
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		if err := os.Remove(files[0]); err != nil {
			t.Fatal(err)
		}
		for _, m := range []remote.Mode{{}, {ReadOnly: true}, {Create: true}} {
			set := newSet(t, machineOf(t, root, t.TempDir(), silent))
			c, err := set.Open(t.Context(), name, m)
			if written != errors.Is(err, versions.ErrManifestLost) ||
				(err == nil) != (m.Create && !written) {
				t.Errorf("written %v: %+v: %v", written, m, err)
			}
			if c != nil {
				c.Close()
			}
		}
	}
}
