package stores_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"verneuil/chunkstore/faultproxy"
	"verneuil/chunkstore/miniotest"
	"verneuil/test/e2e/harness"
)

// TestKeyRotation: a key is added while programs run: what they put from then on is sealed with it,
// gc seals packs anew, and once the older one is dropped, the newest version restores. What was
// not sealed anew is not opened any more, and an error says why.
func TestKeyRotation(t *testing.T) {
	for name, site := range sites {
		t.Run(name, func(t *testing.T) {
			e := newEncrypted(site(t))
			shell := e.fill()
			var shown struct{ Keys []struct{ Key string } }
			show := func() {
				harness.Must(t, json.Unmarshal([]byte(
					e.Ctl("key", "show", "--json", e.Path("keys"))), &shown))
			}
			e.Ctl("key", "rotate", e.Path("keys"))
			show()
			older := func() (o struct {
				Resealed, Packs      struct{ Objects int }
				Checkpoints, Records int
				Newest               []string
			}) {
				var g struct {
					Target string
					Older  json.RawMessage `json:"older_keys"`
				}
				first, _, _ := strings.Cut(e.Ctl("gc", "--delete", "--json"), "\n")
				harness.Must(t, json.Unmarshal([]byte(first), &g))
				if g.Older == nil {
					t.Fatalf("gc says nothing of older keys: %s", first)
				}
				harness.Must(t, json.Unmarshal(g.Older, &o))
				return o
			}
			if o := older(); o.Resealed.Objects == 0 || o.Packs.Objects != 0 || o.Records == 0 {
				t.Errorf("the first gc: %+v", o)
			}
			if o := older(); o.Resealed.Objects != 0 || o.Packs.Objects != 0 {
				t.Errorf("the second gc: %+v", o)
			}
			e.MustEqual("a.db")
			old := e.Ctl("versions", "--json", "-s", e.Path("a.db"))
			if !strings.Contains(old, "version") {
				t.Errorf("versions: %s", old)
			}
			shell.Must("update t set b = randomblob(100) where a = 5;")
			shell.Flush()
			harness.Until(t, "the newest checkpoint is sealed with the newest key",
				func() bool { return len(older().Newest) == 0 })
			if r := e.ctl("key", "drop", e.Path("keys"), shown.Keys[1].Key); r.Code != 1 ||
				!strings.Contains(r.Stderr, "newest") {
				t.Errorf("the newest key was dropped: %s", r.Stderr)
			}
			drop := []string{"key", "drop", e.Path("keys"), shown.Keys[0].Key}
			if r := e.ctl(drop...); r.Code != 1 || !strings.Contains(r.Stderr, "--force") {
				t.Errorf("a key that is needed was dropped: %s", r.Stderr)
			}
			e.Ctl(append(drop, "--force")...)
			e.MustEqual("a.db")
			e.Ctl("verify", "--read", "-s", e.Path("a.db"))
			// The store's database is never written to again: its checkpoint is of the older key.
			r := e.ctl("export", "file:///st/r.db", e.Path("r.db"))
			if r.Code != 1 || !strings.Contains(r.Stderr, shown.Keys[0].Key) {
				t.Errorf("a version of a key that was dropped: exit code %d, %s", r.Code, r.Stderr)
			}
			shell.Must("insert into t(b) values(1);")
			shell.Flush()
			e.MustEqual("a.db")
		})
	}
}

// TestKeyRotationKilled: the program that seals anew is killed at one of its requests, before or
// after the store has done it, again and again, under one new key after another, while a writer
// writes, a replica reads, and a database in a store is used. Nothing is lost meanwhile, nor by the
// rotation that ends, after which the older keys can go.
func TestKeyRotationKilled(t *testing.T) {
	proxy := faultproxy.Start(t, miniotest.Start(t))
	e := newEncrypted(harness.S3Site(t, proxy.URL))
	shell := e.fill()
	shell.Must("insert into t(b) select randomblob(60000) from generate_series(1, 200);") // packs
	shell.Flush()
	replica, remote := e.Shell(""), e.Shell("")
	replica.Must(fmt.Sprintf(".open file:verneuil://%s%s?vfs=verneuil_snapshot", harness.Hostname,
		e.Path("a.db")))
	remote.Must(".open file:///st/r.db?vfs=verneuil_remote")
	remote.Want("pragma busy_timeout=60000;", "60000")

	const rows = "select count(*) from t;"
	ended, kills := false, 0
	first, step := harness.Stride(t, 7)
	for at := first; !ended; at += step {
		e.Ctl("key", "rotate", e.Path("keys"))
		ended = e.gcUntil(proxy, at, kills%2 == 0)
		kills++
		shell.Must(fmt.Sprintf("insert into t(b) values('%s %d');", secretText, at))
		shell.Flush()
		replica.Ask("pragma verneuil_snapshot_refresh=2;")
		replica.Want(rows, shell.Ask(rows))
		remote.Must(fmt.Sprintf("insert into t(b) values('%s %d');", secretText, at))
	}
	if kills < 3 {
		t.Fatalf("gc was killed %d times", kills-1)
	}
	t.Logf("killed %d times", kills-1)
	e.MustEqual("a.db")
	e.Ctl("verify", "--read")
	e.Ctl("verify", "--read", "--store", "st")

	// The newest checkpoints are written anew, in time.
	shell.Must("update t set b = randomblob(100) where a = 5;")
	shell.Flush()
	harness.Until(t, "nothing that is needed is sealed with an older key", func() bool {
		said := e.Ctl("gc", "--delete", "--json")
		return !strings.Contains(said, `"newest":["`)
	})
	for _, key := range e.keyNames()[:kills] {
		e.Ctl("key", "drop", "--force", e.Path("keys"), key) // older versions need it
	}
	e.MustEqual("a.db")
	e.Ctl("verify", "--read", "-s", e.Path("a.db"))
	replica.Ask("pragma verneuil_snapshot_refresh=2;")
	replica.Want(rows, shell.Ask(rows))
}

// gcUntil runs gc --delete, and kills it at its nth request: before the store is asked, or after.
// It reports whether gc has ended by itself.
func (e *encrypted) gcUntil(proxy *faultproxy.Proxy, n int, before bool) (ended bool) {
	t := e.T
	t.Helper()
	gc := exec.CommandContext(t.Context(), harness.Built(t, "VERNEUIL_CTL"), "-c", e.Config(), "gc",
		"--delete")
	var said strings.Builder
	gc.Stderr = &said
	harness.Must(t, gc.Start())
	var asked atomic.Int64 // a request of another program is as good as one of gc's
	kill := func() bool {
		if asked.Add(1) != int64(n) {
			return false
		}
		_ = gc.Process.Kill() // it may have ended
		return true
	}
	if before {
		proxy.Set(func(int, *http.Request) faultproxy.Fault {
			return faultproxy.Fault{Reset: kill()}
		})
	} else {
		proxy.After(func(*http.Request) { kill() })
	}
	err := gc.Wait()
	proxy.Set(nil)
	proxy.After(nil)
	status, _ := gc.ProcessState.Sys().(syscall.WaitStatus)
	if err != nil && !status.Signaled() {
		t.Fatalf("gc: %v: %s", err, said.String())
	}
	return err == nil
}

// keyNames returns the names of the key file's keys, the newest one last.
func (e *encrypted) keyNames() (names []string) {
	e.T.Helper()
	var shown struct{ Keys []struct{ Key string } }
	harness.Must(e.T, json.Unmarshal([]byte(e.Ctl("key", "show", "--json", e.Path("keys"))),
		&shown))
	for _, one := range shown.Keys {
		names = append(names, one.Key)
	}
	return names
}
