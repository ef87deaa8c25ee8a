package remote_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"verneuil/replicate/remote"
)

// shared counts the descriptors and the mappings of files in temp by which processes share a lease.
func shared(t *testing.T, temp string) (n int) {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil &&
			strings.HasPrefix(to, temp+"/verneuil-remote-") {
			n++
		}
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return n + strings.Count(string(maps), temp+"/verneuil-remote-")
}

// TestStay: a process that has opened many databases keeps none that nobody uses, and what was
// committed to them is there when they are opened again.
func TestStay(t *testing.T) {
	temp := t.TempDir()
	o := machineOf(t, t.TempDir(), temp, silent)
	o.LeaseLinger = 20 * time.Millisecond
	set := newSet(t, o)
	kept := openIn(t, set, remote.Mode{Create: true}) // which somebody uses
	mustWrite(t, kept)
	used := shared(t, temp)
	nameOf := func(k int) string { return fmt.Sprintf("/store/%d.db", k) }
	most := 0
	for k := range 3000 {
		if k%100 == 0 {
			c, err := set.Open(t.Context(), nameOf(k), remote.Mode{Create: true})
			if err != nil {
				t.Fatal(err)
			}
			if k%200 == 0 {
				mustWrite(t, c)
			}
			c.Close()
		} else if there, err := set.Exists(t.Context(), nameOf(k)); there || err != nil {
			t.Fatal(there, err)
		}
		if k%500 == 0 {
			most = max(most, shared(t, temp))
		}
	}
	for len(set.Status()) > 1 { // without a pause: that somebody looks keeps none
		runtime.Gosched()
	}
	if now := shared(t, temp); now != used {
		t.Errorf("%d descriptors and mappings, %d when one database was open (%d meanwhile)", now,
			used, most)
	}
	for k := 0; k < 3000; k += 200 {
		c, err := set.Open(t.Context(), nameOf(k), remote.Mode{})
		if err != nil {
			t.Fatal(err)
		}
		mustRead(t, c, 1)
		mustWrite(t, c)
		c.Close()
	}
	mustRead(t, kept, 1)
}
