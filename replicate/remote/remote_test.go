package remote_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/replicate/remote"
	"verneuil/replicate/remote/compose"
	"verneuil/replicate/remote/machine"
	"verneuil/replicate/replica"
)

const name = "/store/app.db"

// machineOf returns how a process of the machine that has temp sees the store at root.
func machineOf(t *testing.T, root, temp string, log *slog.Logger) remote.Options {
	return remote.Options{
		Open: func(ctx context.Context, _ string) (*chunkstore.Store, error) {
			return chunkstore.Open(ctx, []chunkstore.TargetConfig{&dir.Config{Path: root}},
				chunkstore.Options{})
		},
		Has: func(store string) bool { return store == "store" },
		Replicas: func(s *chunkstore.Store) (*replica.Set, error) {
			return replica.NewSet(replica.Options{Store: s, TempDir: temp})
		},
		TempDir: temp, Host: "host of " + temp, Program: "test", Log: log,
		LeaseTimeout: 2 * time.Second, LeaseRenewal: 500 * time.Millisecond,
		LeaseLinger: 200 * time.Millisecond, Deadline: 20 * time.Second,
	}
}

func open(t *testing.T, o remote.Options, m remote.Mode) *remote.Conn {
	t.Helper()
	return openIn(t, newSet(t, o), m)
}

func newSet(t *testing.T, o remote.Options) *remote.Set {
	t.Helper()
	set, err := remote.NewSet(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		set.Exit(context.Background())
		set.Close()
	})
	return set
}

func openIn(t *testing.T, set *remote.Set, m remote.Mode) *remote.Conn {
	t.Helper()
	c, err := set.Open(t.Context(), name, m)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const blocks = 4 // of the database

// page returns the block k of a database that has the value v there.
func page(k int, v uint64) []byte {
	b := make([]byte, compose.BlockBytes)
	if k == 0 {
		copy(b, "SQLite format 3\x00\x10\x00\x01\x01\x00\x40\x20\x20")
		binary.BigEndian.PutUint32(b[24:], uint32(v))
		binary.BigEndian.PutUint32(b[28:], blocks)
		binary.BigEndian.PutUint32(b[92:], uint32(v))
	}
	binary.BigEndian.PutUint64(b[200:], v)
	return b
}

// write has c write v to blocks, once nobody else writes.
func write(ctx context.Context, c *remote.Conn, change func(old uint64) uint64) (uint64, error) {
	for {
		if err := c.Share(ctx, true); err != nil {
			return 0, err
		}
		err := c.Reserve(ctx)
		if errors.Is(err, remote.ErrBusy) || errors.Is(err, remote.ErrStale) {
			select {
			case <-time.After(5 * time.Millisecond):
				continue
			case <-ctx.Done():
				return 0, err
			}
		} else if err != nil {
			return 0, err
		}
		old, err := read(ctx, c)
		v := change(old)
		if err == nil {
			_, err = c.Commit(ctx, changeTo(v), remote.Way{Pass: true})
		}
		if err == nil {
			err = c.Wait(ctx)
		}
		c.Unreserve()
		return v, err
	}
}

// commitTo has c, which has reserved, commit v to all blocks.
func commitTo(t *testing.T, c *remote.Conn, v uint64, way remote.Way) {
	t.Helper()
	if _, err := c.Commit(t.Context(), changeTo(v), way); err != nil {
		t.Fatal(err)
	}
}

// changeTo is that of all blocks to v.
func changeTo(v uint64) compose.Change {
	return compose.Change{
		Bytes: blocks * compose.BlockBytes, Offsets: []int64{0, 4096, 8192, 12288},
		Read: func(k int, b []byte) error { copy(b, page(k, v)); return nil },
	}
}

// read returns the value that c reads; 0: the database is empty.
func read(ctx context.Context, c *remote.Conn) (uint64, error) {
	if c.Size() == 0 {
		return 0, nil
	}
	var v uint64
	for k := range blocks {
		b := make([]byte, compose.BlockBytes)
		if err := c.Read(ctx, b, int64(k)*compose.BlockBytes); err != nil {
			return 0, err
		}
		got := binary.BigEndian.Uint64(b[200:])
		if k > 0 && got != v {
			return 0, fmt.Errorf("torn: %d and %d", v, got)
		}
		if v = got; k > 0 && !bytes.Equal(b, page(k, v)) {
			return 0, errors.New("not what was written")
		}
	}
	return v, nil
}

func add(old uint64) uint64 { return old + 1 }

func mustWrite(t *testing.T, c *remote.Conn) uint64 {
	t.Helper()
	v, err := write(t.Context(), c, add)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func mustRead(t *testing.T, c *remote.Conn, want uint64) {
	t.Helper()
	err := c.Share(t.Context(), false)
	var v uint64
	if err == nil {
		v, err = read(t.Context(), c)
	}
	if err != nil || v != want {
		t.Fatalf("read %d, %v; want %d", v, err, want)
	}
}

// TestEarly: what nobody has waited for (synchronous=OFF) is read by other handles of the process
// nevertheless, also by one that need ask nobody a moment before, and written on at once.
func TestEarly(t *testing.T) {
	o := machineOf(t, t.TempDir(), t.TempDir(), slog.New(slog.DiscardHandler))
	o.CommitInterval = time.Hour
	set := newSet(t, o)
	c1, c2 := openIn(t, set, remote.Mode{Create: true}), openIn(t, set, remote.Mode{})
	v, early := mustWrite(t, c1), remote.Way{Pass: true, Early: true}
	lease := (*machine.Page)(c2.Words().Lease)
	for range 3 {
		mustRead(t, c2, v)
		for _, c := range []*remote.Conn{c1, c2} {
			if err := c.Share(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			if err := c.Reserve(t.Context()); err != nil {
				t.Fatalf("cannot write: %v", err)
			}
			v++
			commitTo(t, c, v, early)
			c.Unreserve()
			if lease.Number() != 0 {
				t.Fatal("others are told that they read the newest version")
			}
		}
		mustRead(t, c1, v)
	}
	c3 := openIn(t, set, remote.Mode{})
	mustRead(t, c3, v) // all of it is durable then
	if err := c1.Share(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if p := c1.Place(); p.Number == 0 || lease.Number() != p.Number || !lease.Alone(0) {
		t.Errorf("nobody is told that record %d is the newest: %+v", lease.Number(), p)
	}
}

// TestGrip: who goes on without a call after a commit that nobody waits for, and who does not.
func TestGrip(t *testing.T) {
	o := machineOf(t, t.TempDir(), t.TempDir(), silent)
	o.CommitInterval = time.Hour
	set := newSet(t, o)
	c1, c2 := openIn(t, set, remote.Mode{Create: true}), openIn(t, set, remote.Mode{})
	v := uint64(0)
	early := remote.Way{Pass: true, Early: true}
	commit := func(c *remote.Conn) { t.Helper(); v++; commitTo(t, c, v, early) }
	// firm is what C does.
	firm := func(c *remote.Conn) bool {
		p, w := c.Place(), c.Words()
		return p.Onto != 0 && (*atomic.Uint64)(w.Tip).Load() == p.Onto &&
			(*atomic.Uint32)(w.Grip).CompareAndSwap(1, 2)
	}
	mustShareToWrite(t, c1)
	commit(c1)
	if !firm(c1) {
		t.Fatal("a handle that writes one transaction after another has to ask")
	}
	if err := c2.Share(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if err := c2.Reserve(t.Context()); !errors.Is(err, remote.ErrBusy) {
		t.Fatalf("two write at once: %v", err)
	}
	commit(c1)
	mustShareToWrite(t, c2)
	if firm(c1) {
		t.Fatal("two write at once")
	}
	commit(c2)
	if firm(c1) {
		t.Fatal("a handle writes on a version that is not the last one")
	}
	mustShareToWrite(t, c1)
	commit(c1)
	if err := c1.Refresh(t.Context()); err != nil { // all is durable after it
		t.Fatal(err)
	}
	if firm(c2) {
		t.Fatal("a handle goes on without a place")
	}
	mustRead(t, c2, v)
}

// TestTurns: machines, processes and handles write in turns, and read what the others have written.
func TestTurns(t *testing.T) {
	root, a, b := t.TempDir(), t.TempDir(), t.TempDir()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	c1 := open(t, machineOf(t, root, a, log), remote.Mode{Create: true})
	c2 := open(t, machineOf(t, root, a, log), remote.Mode{})
	c3 := open(t, machineOf(t, root, b, log), remote.Mode{})
	r := open(t, machineOf(t, root, b, log), remote.Mode{ReadOnly: true})
	want := uint64(0)
	for range 3 {
		for _, c := range []*remote.Conn{c1, c2, c1, c1, c3, c3} {
			if got := mustWrite(t, c); got != want+1 {
				t.Fatalf("wrote %d after %d", got, want)
			}
			want++
			for _, c := range []*remote.Conn{c1, c2, c3, r} {
				mustRead(t, c, want)
			}
		}
	}
	if err := r.Reserve(t.Context()); !errors.Is(err, remote.ErrReadOnly) {
		t.Errorf("a reader reserves: %v", err)
	}
}

// TestCrowd: many write at once, in one process and in others, and nothing is lost.
func TestCrowd(t *testing.T) {
	root, a, b := t.TempDir(), t.TempDir(), t.TempDir()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	open(t, machineOf(t, root, a, log), remote.Mode{Create: true})
	const each = 20
	var all sync.WaitGroup
	n := 0
	for p, temp := range []string{a, a, b} {
		set := newSet(t, machineOf(t, root, temp, log))
		for k := range 4 {
			c := openIn(t, set, remote.Mode{})
			n++
			all.Go(func() {
				for i := range each {
					if _, err := write(t.Context(), c, add); err != nil {
						t.Errorf("process %d, connection %d, write %d: %v", p, k, i, err)
						return
					}
				}
			})
		}
	}
	all.Wait()
	c := open(t, machineOf(t, root, t.TempDir(), log), remote.Mode{})
	mustRead(t, c, uint64(n*each))
}

// TestStoreThatWasPutBack: a store is put back to an older copy, or emptied, under a process that
// has written to it. Nothing that it writes is called stored, as nobody would read it, and it does
// not go on as if it were. Others go on with what is there; so does it, once it has closed all.
func TestStoreThatWasPutBack(t *testing.T) {
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	for _, linger := range []time.Duration{0, time.Minute} {
		for _, emptied := range []bool{false, true} {
			root, old := t.TempDir()+"/store", t.TempDir()+"/old"
			o := machineOf(t, root, t.TempDir(), log)
			o.LeaseLinger = max(linger, o.LeaseLinger)
			c := open(t, o, remote.Mode{Create: true})
			mustWrite(t, c)
			release := func() {
				if linger == 0 {
					if err := c.Release(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			release()
			if err := os.CopyFS(old, os.DirFS(root)); err != nil {
				t.Fatal(err)
			}
			mustWrite(t, c)
			mustWrite(t, c)
			release()
			if err := os.Rename(root, old+"-gone"); err != nil { // at once: it is in use
				t.Fatal(err)
			}
			if !emptied {
				if err := os.Rename(old, root); err != nil {
					t.Fatal(err)
				}
			}
			if v, err := write(t.Context(), c, add); !errors.Is(err, remote.ErrRolledBack) {
				t.Errorf("wrote %d, %v", v, err)
			}
			want := remote.ErrRolledBack
			if emptied {
				want = chunkstore.ErrAbsent
			}
			if v, err := write(t.Context(), c, add); !errors.Is(err, want) {
				t.Errorf("wrote %d again, %v; want %v", v, err, want)
			}
			other := open(t, machineOf(t, root, t.TempDir(), log), remote.Mode{Create: emptied})
			if v := mustWrite(t, other); v != 1 && emptied || v != 2 && !emptied {
				t.Errorf("another machine wrote %d", v)
			}
		}
	}
}
