package remote_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"verneuil/replicate/remote"
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
			if err := c.Share(t.Context()); !errors.Is(err, remote.ErrRolledBack) {
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
