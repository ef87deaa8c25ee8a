package replicate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"verneuil/chunkstore"
)

// losingBucket is a bucket whose batches lose what they have put but not synced, as
// a crash of a dir target's machine does.
type losingBucket struct{ *memoryBucket }

func (b losingBucket) Batch() chunkstore.Batch {
	return &losingBatch{b: b.memoryBucket, fresh: make(map[string][]byte)}
}

type losingBatch struct {
	b      *memoryBucket
	mu     sync.Mutex
	fresh  map[string][]byte
	failed error
}

func (l *losingBatch) Put(ctx context.Context, key string, body []byte) error {
	l.b.mu.Lock()
	err := l.b.enter("put", key)
	l.b.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err = errors.Join(err, l.failed, ctx.Err()); err != nil {
		return err
	}
	l.fresh[key] = bytes.Clone(body)
	return nil
}

func (l *losingBatch) Sync(ctx context.Context) error {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	err := errors.Join(l.b.enter("sync", ""), l.failed, ctx.Err())
	if l.failed = err; err != nil {
		return err
	}
	for key, body := range l.fresh {
		l.b.objects[key] = body
	}
	clear(l.fresh)
	return nil
}

func (l *losingBatch) Close() error { return nil }

// losing makes w's targets lose what was not synced.
func (w *world) losing() {
	w.options = func(o *Options) {
		var targets []*chunkstore.Target
		for k := range w.chunks {
			targets = append(targets, chunkstore.NewTarget(fmt.Sprint("target ", k),
				losingBucket{w.chunks[k]}, w.manifests[k]))
		}
		o.Store = chunkstore.NewStore(targets...)
	}
}

// TestI1NoManifestWithoutSync: where the chunks cannot be made durable, no manifest
// is put, and the next push puts all of them again.
func TestI1NoManifestWithoutSync(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.losing()
	r := w.replicator()
	defer w.run(r)()
	broken := true
	var puts [][]string // of chunks, between Syncs
	last := []string{}
	w.chunks[0].setFault(func(op, key string) error {
		switch {
		case op == "put":
			last = append(last, key)
		case op == "sync":
			puts, last = append(puts, last), nil
			if broken {
				return errInjected
			}
		}
		return nil
	})
	w.manifests[0].setFault(func(op, _ string) error {
		if op == "put" {
			w.chunks[0].mu.Lock()
			defer w.chunks[0].mu.Unlock()
			if broken || len(last) > 0 {
				t.Errorf("a manifest was put; %d chunks before it are not durable", len(last))
			}
		}
		return nil
	})
	w.transact(400)
	if err := w.flush(r); !errors.Is(err, errInjected) {
		t.Fatalf("flush: %v", err)
	}
	w.chunks[0].mu.Lock()
	broken = false
	w.chunks[0].mu.Unlock()
	w.mustFlush(r)
	w.equal(0, "after a Sync that failed")
	w.chunks[0].mu.Lock()
	defer w.chunks[0].mu.Unlock()
	if n := len(puts); n < 2 || len(puts[0]) == 0 || len(puts[n-1]) < len(puts[0]) {
		t.Errorf("puts before each Sync: %v", puts)
	}
}

// TestFaultsByNthCallOfLosingTargets: after any failure, what the replicator
// believes a target to have is what is durable there.
func TestFaultsByNthCallOfLosingTargets(t *testing.T) {
	for n := 1; ; n++ {
		w := newWorld(t, 1, 1) // always the same calls
		w.losing()
		w.watch()
		var mu sync.Mutex
		count := 0
		fault := func(op, key string) error {
			mu.Lock()
			defer mu.Unlock()
			if count++; count == n {
				return errInjected
			}
			return nil
		}
		w.chunks[0].setFault(fault)
		w.manifests[0].setFault(fault)
		r := w.replicator()
		stop := w.run(r)
		for range 2 {
			w.transact(200)
			err := w.flush(r)
			if errors.Is(err, errInjected) { // once, whichever flush it is that makes call n
				err = w.flush(r)
			}
			if err != nil {
				t.Fatalf("call %d: flush: %v", n, err)
			}
			w.equal(0, fmt.Sprint("the target that failed call ", n))
		}
		stop()
		mu.Lock()
		over := count < n
		mu.Unlock()
		if over {
			return
		}
	}
}

// TestProgressOneByOne: pushes to two targets tell of their progress one after the other. It
// takes the race detector to see that they do not, and it does not see each time.
func TestProgressOneByOne(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(t, seed, 2)
		told, both := make(chan struct{}, 2), make(chan struct{})
		var last int64 // not guarded
		w.options = func(o *Options) {
			o.Progress = func(phase string, done, _ int64) {
				if phase == "push" {
					last = done
					told <- struct{}{}
				}
			}
		}
		for _, b := range w.manifests { // nothing orders the two before both have told
			b.setFault(func(op, _ string) error {
				if op == "put" {
					<-both
				}
				return nil
			})
		}
		w.begin()
		w.write(5, w.pageOf(5, 0, 5)) // one chunk
		w.commit()
		r := w.replicator()
		stop := w.run(r)
		<-told
		<-told
		close(both)
		w.mustFlush(r)
		stop()
		if last == 0 {
			t.Error("no progress")
		}
	}
}

// heardLog tells hear of each line.
type heardLog struct {
	slog.Handler
	hear func(message string)
}

func (h heardLog) Handle(ctx context.Context, r slog.Record) error {
	h.hear(r.Message)
	return h.Handler.Handle(ctx, r)
}

func (h heardLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return heardLog{h.Handler.WithAttrs(attrs), h.hear}
}

// TestCommitsAreToldFirst: that a target has a version is told to the commits that wait for it
// before anything else is done about that.
func TestCommitsAreToldFirst(t *testing.T) {
	w := newWorld(t, 1, 1)
	var pushes, late int
	w.options = func(o *Options) {
		o.Log = slog.New(heardLog{o.Log.Handler(), func(message string) {
			if message != "pushed" {
				return
			}
			pushes++
			if st := w.sp.State(); st.PushedPoint() != st.PublishedPoint() {
				late++
			}
		}})
	}
	r := w.replicator()
	stop := w.run(r)
	for range 5 {
		w.transact(10)
		w.mustFlush(r)
	}
	stop()
	if pushes < 5 || late > 0 {
		t.Errorf("of %d pushes %d were noted before who waited was told", pushes, late)
	}
}
