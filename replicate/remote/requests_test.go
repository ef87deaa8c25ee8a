package remote_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/faultbucket"
	"verneuil/replicate/remote"
	"verneuil/replicate/remote/compose"
)

// counted counts the requests of a machine.
type counted struct {
	mu    sync.Mutex
	calls []string
}

func (c *counted) note(verb, key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if kind, _, dashed := strings.Cut(key, "-"); dashed {
		if key = kind; len(kind) == 4 && kind != "want" && kind != "kept" {
			key = "manifest"
		}
	}
	c.calls = append(c.calls, verb+" "+key)
}

// take returns what was called since the last take.
func (c *counted) take() (calls []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls, c.calls = c.calls, nil
	return calls
}

// of returns how machineOf's store is seen through c.
func (c *counted) of(o remote.Options) remote.Options {
	return called(o, func(_ *chunkstore.Store, verb, key string) { c.note(verb, key) })
}

// called has on be called before each request to the store that o opens.
func called(
	o remote.Options, on func(s *chunkstore.Store, verb, key string),
) remote.Options {
	open := o.Open
	o.Open = func(ctx context.Context, name string) (*chunkstore.Store, error) {
		s, err := open(ctx, name)
		if err != nil {
			return nil, err
		}
		plan := &faultbucket.Plan{OnCalled: func(verb, key string) { on(s, verb, key) }}
		return chunkstore.NewStore(plan.Target(s.Targets[0])), nil
	}
	return o
}

var silent = slog.New(slog.NewTextHandler(io.Discard, nil))

// TestRequests: what a transaction asks of the store.
func TestRequests(t *testing.T) {
	var c counted
	o := c.of(machineOf(t, t.TempDir(), t.TempDir(), silent))
	o.LeaseLinger, o.LeaseRenewal, o.LeaseTimeout = time.Hour, time.Hour, 2*time.Hour
	conn := open(t, o, remote.Mode{Create: true})
	mustWrite(t, conn) // and takes the lease
	c.take()
	for v := range uint64(3) {
		mustWrite(t, conn)
		mustRead(t, conn, v+2)
		// The keeper looks whether another machine wants the lease.
		calls := slices.DeleteFunc(c.take(), func(call string) bool { return call == "get want" })
		if want := []string{"put log"}; !slices.Equal(calls, want) {
			t.Errorf("a transaction of the holder: %v, want %v", calls, want)
		}
	}
}

// TestRequestsOfLooks: a commit is one request, and each renewal time there is one look for what
// was appended: the checkpoint, a list, and the last record, or up to nine records.
func TestRequestsOfLooks(t *testing.T) {
	var c counted
	o := c.of(machineOf(t, t.TempDir(), t.TempDir(), silent))
	o.LeaseLinger, o.LeaseRenewal, o.LeaseTimeout = time.Hour, 250*time.Millisecond, 2*time.Hour
	conn := open(t, o, remote.Mode{Create: true})
	mustWrite(t, conn)
	c.take()
	began := time.Now()
	calls := map[string]int{}
	commits := 0
	for calls["list log"]+calls["get log"] < 4 && commits < 100_000 {
		mustWrite(t, conn)
		commits++
		for _, call := range c.take() {
			calls[call]++
		}
	}
	looks := int(time.Since(began)/o.LeaseRenewal) + 2
	if calls["put log"] != commits || calls["list log"] > looks || calls["get log"] > 9*looks {
		t.Errorf("%d commits, at most %d looks: %v", commits, looks, calls)
	}
	if calls["list log"]+calls["get log"] == 0 {
		t.Errorf("nobody looks: %v", calls)
	}
}

// TestNeighbours: two processes of a machine that write in turns ask for nothing: each finds in the
// machine's file what the other has appended.
func TestNeighbours(t *testing.T) {
	var c counted
	root, temp := t.TempDir(), t.TempDir()
	process := func(m remote.Mode) *remote.Conn {
		o := c.of(machineOf(t, root, temp, silent))
		o.LeaseLinger, o.LeaseRenewal, o.LeaseTimeout = time.Hour, time.Hour, 2*time.Hour
		return open(t, o, m)
	}
	conns := []*remote.Conn{process(remote.Mode{Create: true}), process(remote.Mode{})}
	for n := range 10 {
		if v := mustWrite(t, conns[n%2]); v != uint64(n+1) {
			t.Fatalf("turn %d has written %d", n, v)
		}
		calls := slices.DeleteFunc(c.take(), func(call string) bool { return call == "get want" })
		if want := []string{"put log"}; n > 1 && !slices.Equal(calls, want) {
			t.Errorf("turn %d: %v, want %v", n, calls, want)
		}
	}
}

// dated is a bucket that says when it has answered.
type dated struct{ chunkstore.Bucket }

func (b dated) PutDated(ctx context.Context, key string, body []byte, cond chunkstore.Condition) (
	string, time.Time, error,
) {
	etag, err := b.Put(ctx, key, body, cond)
	return etag, time.Now(), err
}

// rivals opens a new database on two machines, whose requests c counts.
func rivals(t *testing.T, c *counted, dates bool) []*remote.Conn {
	root := t.TempDir()
	machine := func(m remote.Mode) *remote.Conn {
		o := machineOf(t, root, t.TempDir(), silent)
		if open := o.Open; dates {
			o.Open = func(ctx context.Context, name string) (*chunkstore.Store, error) {
				s, err := open(ctx, name)
				if err == nil {
					s.Targets[0].Chunks = dated{s.Targets[0].Chunks}
				}
				return s, err
			}
		}
		o = c.of(o)
		o.LeaseLinger, o.LeaseRenewal, o.LeaseTimeout = time.Hour, time.Hour, 2*time.Hour
		return open(t, o, m)
	}
	return []*remote.Conn{machine(remote.Mode{Create: true}), machine(remote.Mode{})}
}

// TestRivals: two machines that write in turns wait for nothing, and ask for little.
func TestRivals(t *testing.T) {
	t.Run("the store tells the time", func(t *testing.T) {
		testRivals(t, true, "get log", "put log", "put log")
	})
	t.Run("it does not", func(t *testing.T) { // so the checkpoint is looked at
		testRivals(t, false, "get log", "put log", "get manifest", "put log")
	})
}

func testRivals(t *testing.T, dates bool, want ...string) {
	var c counted
	conns := rivals(t, &c, dates)
	turn := func(n int) []string {
		t.Helper()
		if v := mustWrite(t, conns[n%2]); v != uint64(n+1) {
			t.Fatalf("turn %d has written %d", n, v)
		}
		return c.take()
	}
	const first = 4 // until each has given the history back to the other one
	for n := range first {
		turn(n)
	}
	most := 0
	for n := range 6 {
		calls := slices.DeleteFunc(turn(first+n), func(call string) bool {
			return call == "get want"
		})
		if slices.Equal(calls, want) {
			most++
		} else { // the lease was given back before the handle has reserved
			t.Logf("turn %d: %v, want %v", n, calls, want)
		}
	}
	if most < 4 {
		t.Errorf("%d turns of 6 ask for %v", most, want)
	}
	// Who goes on alone takes it once more, and keeps it.
	turn(first + 6)
	turn2 := func() []string { mustWrite(t, conns[0]); return c.take() }
	turn2()
	calls := slices.DeleteFunc(turn2(), func(call string) bool { return call == "get want" })
	if want := []string{"put log"}; !slices.Equal(calls, want) {
		t.Errorf("alone: %v, want %v", calls, want)
	}
}

// TestVainTurn: of two machines that write in turns, one that seems about to write, and only reads,
// takes the lease in vain. The other one gets it, and it is not taken so again for a while.
func TestVainTurn(t *testing.T) {
	var c counted
	conns := rivals(t, &c, true)
	version := uint64(0)
	write := func(who int) {
		t.Helper()
		if version++; mustWrite(t, conns[who]) != version {
			t.Fatalf("version %d was not written on the one before", version)
		}
	}
	turns := func(n int) {
		t.Helper()
		for range n {
			write(0)
			write(1)
		}
	}
	fences := func() (n int) { // of who reads
		t.Helper()
		c.take()
		if err := conns[0].Share(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if v, err := read(t.Context(), conns[0]); err != nil || v != version {
			t.Fatalf("read %d, %v, want %d", v, err, version)
		}
		return len(slices.DeleteFunc(c.take(), func(call string) bool { return call != "put log" }))
	}
	turns(2)
	if n := fences(); n == 0 { // one, or two if it was given back meanwhile
		t.Error("who was about to write, as it seemed, has not taken the lease")
	}
	write(1)
	turns(2)
	if n := fences(); n != 0 {
		t.Errorf("who has taken the lease in vain takes it again: %d records", n)
	}
}

// TestCheckpointAsksNothing: after a checkpoint, and after inline pages were folded, transactions
// go on without a request but their records, and all that was loaded is there.
func TestCheckpointAsksNothing(t *testing.T) {
	var c counted
	o := c.of(machineOf(t, t.TempDir(), t.TempDir(), silent))
	o.LeaseLinger, o.LeaseRenewal, o.LeaseTimeout = time.Hour, time.Hour, 2*time.Hour
	conn := open(t, o, remote.Mode{Create: true})
	rng := rand.New(rand.NewPCG(1, 1))
	file := make([]byte, 200<<16) // its tree has leaves
	commit := func(blocks ...int64) {
		t.Helper()
		mustShareToWrite(t, conn)
		_, err := conn.Commit(t.Context(), compose.Change{
			Bytes: int64(len(file)), Offsets: blocks,
			Read: func(k int, b []byte) error { copy(b, file[blocks[k]:]); return nil },
		}, remote.Way{Pass: true})
		if err == nil {
			err = conn.Wait(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		conn.Unreserve()
	}
	var all []int64
	for off := int64(0); off < int64(len(file)); off += compose.BlockBytes {
		binary.BigEndian.PutUint64(file[off+300:], rng.Uint64())
		all = append(all, off)
	}
	copy(file, page(0, 1))
	binary.BigEndian.PutUint32(file[28:], uint32(len(all)))
	commit(all...)
	got := make([]byte, compose.BlockBytes)
	check := func(off int64) {
		t.Helper()
		if err := conn.Read(t.Context(), got, off); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got[100:], file[off:][100:compose.BlockBytes]) {
			t.Fatalf("block %d is another one", off/compose.BlockBytes)
		}
	}
	for _, off := range all {
		check(off)
	}
	c.take()
	for v := range uint64(400) {
		off := all[1+rng.IntN(len(all)-1)]
		binary.BigEndian.PutUint64(file[off+300:], rng.Uint64())
		copy(file, page(0, v+2)[:100])
		binary.BigEndian.PutUint32(file[28:], uint32(len(all)))
		commit(0, off)
		for range 20 {
			check(all[rng.IntN(len(all))])
		}
	}
	for _, off := range all {
		check(off)
	}
	asked := 0
	for _, call := range c.take() {
		if kind, key, _ := strings.Cut(call, " "); kind == "get" && len(key) == 64 { // a pack
			asked++
		}
	}
	// Checkpoints read leaves of the one before. There is one each 64 records.
	if asked > 400/64+1 {
		t.Errorf("%d requests for packs", asked)
	}
}
