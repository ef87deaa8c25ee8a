package remote_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"verneuil/chunkstore"
	"verneuil/replicate/remote"
)

// warmed returns a new store with a database of one commit. To write and to read it has made what
// bubbles share: it has channels.
func warmed(t *testing.T) (root string) {
	root = t.TempDir()
	c := open(t, machineOf(t, root, t.TempDir(), silent), remote.Mode{Create: true})
	mustWrite(t, c)
	mustRead(t, open(t, machineOf(t, root, t.TempDir(), silent), remote.Mode{}), 1)
	if err := c.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	return root
}

// TestGather: the commits of many handles go into one record each time, not those of one half while
// the other half waits.
func TestGather(t *testing.T) {
	const handles, each = 8, 10
	root, temp := warmed(t), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var records atomic.Int64
		o := machineOf(t, root, temp, silent)
		o.LeaseLinger = time.Hour
		o = called(o, func(_ *chunkstore.Store, verb, key string) {
			if verb == "put" && strings.HasPrefix(key, "log-") {
				records.Add(1)
				<-time.After(200 * time.Millisecond) // the bubble's clock
			}
		})
		set, err := remote.NewSet(o)
		if err != nil {
			t.Fatal(err)
		}
		defer set.Close()
		mustWrite(t, openIn(t, set, remote.Mode{}))
		records.Store(0)
		var all sync.WaitGroup
		for range handles {
			c := openIn(t, set, remote.Mode{})
			all.Go(func() {
				for range each {
					if _, err := write(t.Context(), c, add); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		// The first ones are not all there yet, and the last ones not any more. Halves would be
		// twice as many.
		if n := records.Load(); n > each+each/2 {
			t.Errorf("%d records for %d commits of each of %d handles", n, each, handles)
		}
	})
}
