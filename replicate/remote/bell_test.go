package remote_test

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/rados"
	"verneuil/replicate/remote"
	"verneuil/replicate/replica"
	"verneuil/test/cephtest"
)

// inRADOS is a function that returns machines which share a store in RADOS. Their replicas poll
// once an hour.
func inRADOS(t *testing.T) func() remote.Options {
	c := cephtest.Shared(t)
	cfg := &rados.Config{Pool: cephtest.Pool, Namespace: c.Namespace(), Conf: c.Conf,
		Keyring: c.Keyring}
	return func() remote.Options {
		o := machineOf(t, "", t.TempDir(), slog.New(slog.DiscardHandler))
		o.Open = func(ctx context.Context, _ string) (*chunkstore.Store, error) {
			return chunkstore.Open(ctx, []chunkstore.TargetConfig{cfg}, chunkstore.Options{})
		}
		o.Replicas = func(s *chunkstore.Store) (*replica.Set, error) {
			return replica.NewSet(replica.Options{Store: s, TempDir: o.TempDir,
				PollInterval: time.Hour})
		}
		return o
	}
}

// TestReplicaHears: a replica that follows has a commit of another machine long before it polls.
func TestReplicaHears(t *testing.T) {
	machine := inRADOS(t)
	writer := open(t, machine(), remote.Mode{Create: true})
	mustWrite(t, writer)
	follower := open(t, machine(), remote.Mode{ReadOnly: true, Follow: true})
	for range 20 {
		want := mustWrite(t, writer)
		for got := uint64(0); got < want; {
			follower.Adopt()
			var err error
			if got, err = read(t.Context(), follower); err != nil {
				t.Fatal(err)
			}
			select {
			case <-time.After(time.Millisecond):
			case <-t.Context().Done():
				t.Fatal("nothing is heard")
			}
		}
	}
}

// TestTurnsInRADOS: several machines that write in turns lose nothing, and each gets its turn.
func TestTurnsInRADOS(t *testing.T) {
	machine := inRADOS(t)
	const machines, turns = 3, 8
	first := open(t, machine(), remote.Mode{Create: true})
	mustWrite(t, first)
	var all sync.WaitGroup
	for range machines {
		c := open(t, machine(), remote.Mode{})
		all.Go(func() {
			for range turns {
				if _, err := write(t.Context(), c, add); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	mustRead(t, first, machines*turns+1)
}

// listened is a bucket that notes who listens in it, and whether anybody heard what was told.
type listened struct {
	chunkstore.Messenger
	listens chan string

	mu    sync.Mutex
	told  int
	heard int
	until int // an Append waits until so much was told
}

func (b *listened) OpenLog(name string) chunkstore.Log {
	return listenedLog{b.Messenger.(chunkstore.Logger).OpenLog(name), b}
}

// listenedLog is a log in such a bucket.
type listenedLog struct {
	chunkstore.Log
	b *listened
}

func (l listenedLog) Append(ctx context.Context, n uint64, record []byte) error {
	for {
		l.b.mu.Lock()
		told := l.b.told >= l.b.until
		l.b.mu.Unlock()
		if told {
			return l.Log.Append(ctx, n, record)
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// use has machines with these options use b.
func (b *listened) use(o *remote.Options) {
	openStore := o.Open
	o.Open = func(ctx context.Context, name string) (*chunkstore.Store, error) {
		s, err := openStore(ctx, name)
		if err == nil {
			b.Messenger = s.Targets[0].Chunks.(chunkstore.Messenger)
			s.Targets[0].Chunks = b
		}
		return s, err
	}
}

func (b *listened) Listen(ctx context.Context, name string, hear func([]byte)) error {
	return b.Messenger.Listen(ctx, name, func(body []byte) {
		if body == nil {
			b.listens <- name
		}
		hear(body)
	})
}

func (b *listened) Tell(ctx context.Context, name string, body []byte) (bool, error) {
	heard, err := b.Messenger.Tell(ctx, name, body)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.told++; heard {
		b.heard++
	}
	return heard, err
}

// TestNobodyListens: a holder, who listens for wants, is nobody who hears of his own records: where
// nobody follows they are not told of.
func TestNobodyListens(t *testing.T) {
	o := inRADOS(t)()
	bucket := &listened{listens: make(chan string, 10)}
	bucket.use(&o)
	c := open(t, o, remote.Mode{Create: true})
	mustWrite(t, c)
	select {
	case <-bucket.listens:
	case <-t.Context().Done():
		t.Fatal("the holder does not listen")
	}
	for told := 0; told < 3; {
		mustWrite(t, c)
		bucket.mu.Lock()
		told = bucket.told
		bucket.mu.Unlock()
	}
	if bucket.mu.Lock(); bucket.heard > 0 {
		t.Errorf("%d of %d were heard", bucket.heard, bucket.told)
	}
	bucket.mu.Unlock()
}

// TestToldWhileWritten: who follows is told of a record while the store writes it, and reads it
// then, however long that takes.
func TestToldWhileWritten(t *testing.T) {
	machine := inRADOS(t)
	o := machine()
	bucket := &listened{listens: make(chan string, 10)}
	bucket.use(&o)
	writer := open(t, o, remote.Mode{Create: true})
	mustWrite(t, writer)
	follower := open(t, machine(), remote.Mode{ReadOnly: true, Follow: true})
	for heard := 0; heard == 0; {
		mustWrite(t, writer)
		bucket.mu.Lock()
		heard = bucket.heard
		bucket.mu.Unlock()
	}
	for range 5 {
		bucket.mu.Lock()
		bucket.until = bucket.told + 1
		bucket.mu.Unlock()
		want := mustWrite(t, writer)
		for got := uint64(0); got < want; {
			follower.Adopt()
			var err error
			if got, err = read(t.Context(), follower); err != nil {
				t.Fatal(err)
			}
			if err := t.Context().Err(); err != nil {
				t.Fatal("nothing is heard")
			}
			runtime.Gosched()
		}
	}
}
