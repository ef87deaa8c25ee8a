package remote_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/faultbucket"
	"verneuil/manifest"
	"verneuil/replicate/remote"
	"verneuil/replicate/versions"
)

// left are the keys of what t has of a database, but for packs.
func left(t *testing.T, target *chunkstore.Target) (keys []string) {
	t.Helper()
	for _, b := range []chunkstore.Bucket{target.Chunks, target.Manifests} {
		err := b.List(t.Context(), "", func(o chunkstore.Object) bool {
			pack := len(o.Key) == 64 && !strings.Contains(o.Key, "-")
			if !pack && o.Key != chunkstore.MarkerKey {
				keys = append(keys, o.Key)
			}
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return keys
}

func isKept(key string) bool { return strings.HasPrefix(key, chunkstore.KeptKeyPrefix) }

// isNoGarbage: a holder that was not told yet puts a heartbeat.
func isNoGarbage(key string) bool {
	return !strings.HasPrefix(key, chunkstore.LogKeyPrefix) &&
		!strings.HasPrefix(key, chunkstore.LeaseKeyPrefix)
}

// TestRemove: a database is removed, whichever request fails, by another try. Until then it is
// whole, or nobody can open it; and never is there another one in its place while some is left, but
// for records that are garbage. Who has it open is told.
func TestRemove(t *testing.T) {
	key := manifest.PlainName("", "/app.db")
	owner := manifest.Owner{Host: "here", Program: "test"}
	touched := true
	for n := 1; touched; n++ {
		root := t.TempDir()
		o := machineOf(t, root, t.TempDir(), silent)
		o.LeaseTimeout, o.LeaseRenewal = 100*time.Millisecond, 25*time.Millisecond
		set := newSet(t, o)
		holder := openIn(t, set, remote.Mode{Create: true})
		for range 3 {
			mustWrite(t, holder)
		}
		store, err := o.Open(t.Context(), "store")
		if err != nil {
			t.Fatal(err)
		}
		target := store.Targets[0]
		plan := &faultbucket.Plan{At: n}
		err = remote.Remove(t.Context(), plan.Target(target), key, owner)
		if touched = plan.Fired() > 0; err != nil && !touched {
			t.Fatal(err)
		}
		fresh := func() *remote.Set { return newSet(t, machineOf(t, root, t.TempDir(), silent)) }
		if err != nil {
			gone := !slices.ContainsFunc(left(t, target), isKept)
			c, err := fresh().Open(t.Context(), name, remote.Mode{Create: true})
			if err == nil && gone {
				mustRead(t, c, 0)
				c.Close()
			} else if err == nil {
				mustRead(t, c, 3)
				c.Close()
			} else if !errors.Is(err, versions.ErrManifestLost) {
				t.Errorf("call %d has failed: %v", n, err)
			}
			if err = remote.Remove(t.Context(), target, key, owner); err != nil {
				t.Fatalf("after call %d: %v", n, err)
			}
		}
		keys := left(t, target)
		if slices.ContainsFunc(keys, isNoGarbage) || len(keys) > 4 {
			t.Fatalf("call %d: %q are left", n, keys)
		}
		if _, err := write(t.Context(), holder, func(uint64) uint64 { return 4 }); err == nil {
			t.Errorf("call %d: the holder has written", n)
		}
		err = remote.Remove(t.Context(), target, key, owner)
		if !errors.Is(err, chunkstore.ErrAbsent) {
			t.Errorf("removed twice: %v", err)
		}
		if v := mustWrite(t, openIn(t, fresh(), remote.Mode{Create: true})); v != 1 {
			t.Errorf("call %d: the new database has %d", n, v)
		}
		holder.Close()
		if v := mustWrite(t, openIn(t, set, remote.Mode{Create: true})); v != 2 {
			t.Errorf("call %d: who had the old one open finds %d in the new one", n, v)
		}
	}
}
