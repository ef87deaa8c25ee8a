package remote

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest/history"
)

// memory is what the simulated store holds, without faults: two buckets.
type memory struct {
	mu      sync.Mutex
	buckets map[string]map[string]chunkstore.Object // by name, by key
	etags   int
	// put is told of each object that was stored, with mu held; had says that the key had one.
	put func(bucket, key string, body []byte, had bool)
}

func newMemory() *memory {
	return &memory{buckets: map[string]map[string]chunkstore.Object{"c": {}, "m": {}}}
}

// bucket is one of memory's, as somebody sees it whom nothing happens to.
type bucket struct {
	*memory
	name string
	held bool // mu is
}

func (b bucket) lock() (unlock func()) {
	if b.held {
		return func() {}
	}
	b.mu.Lock()
	return b.mu.Unlock
}

var _ chunkstore.Bucket = bucket{}

func (b bucket) String() string { return "simulated bucket " + b.name }

func (b bucket) Get(
	_ context.Context, key string, o chunkstore.GetOptions,
) (chunkstore.Object, error) {
	defer b.lock()()
	found, ok := b.buckets[b.name][key]
	switch {
	case !ok:
		return found, fmt.Errorf("get %s: %w", key, chunkstore.ErrAbsent)
	case o.IfNoneMatch != "" && o.IfNoneMatch == found.ETag:
		return chunkstore.Object{}, chunkstore.ErrUnmodified
	case o.Length > 0:
		if o.Offset+o.Length > found.Bytes {
			return chunkstore.Object{}, chunkstore.ErrCorrupt
		}
		found.Body, found.ETag = found.Body[o.Offset:o.Offset+o.Length], ""
	case found.Bytes > o.Limit():
		return chunkstore.Object{}, chunkstore.ErrCorrupt
	}
	found.Body = slices.Clone(found.Body)
	return found, nil
}

func (b bucket) Put(
	_ context.Context, key string, body []byte, cond chunkstore.Condition,
) (string, error) {
	defer b.lock()()
	var present *chunkstore.Object
	if o, ok := b.buckets[b.name][key]; ok {
		present = &o
	}
	if err := cond.Check(present); err != nil {
		return "", err
	}
	b.etags++
	o := chunkstore.Object{Key: key, Body: slices.Clone(body), Bytes: int64(len(body)),
		ETag: fmt.Sprintf("%q", fmt.Sprint(b.etags)), Modified: time.Now()}
	b.buckets[b.name][key] = o
	if b.memory.put != nil {
		b.memory.put(b.name, key, o.Body, present != nil)
	}
	return o.ETag, nil
}

func (b bucket) Stat(ctx context.Context, key string) (chunkstore.Object, error) {
	o, err := b.Get(ctx, key, chunkstore.GetOptions{BytesMax: 1 << 40})
	o.Body = nil
	return o, err
}

func (b bucket) List(
	_ context.Context, prefix string, yield func(chunkstore.Object) bool,
) error {
	unlock := b.lock()
	var all []chunkstore.Object
	for key, o := range b.buckets[b.name] {
		if strings.HasPrefix(key, prefix) && key != chunkstore.MarkerKey {
			o.Body = nil
			all = append(all, o)
		}
	}
	unlock()
	slices.SortFunc(all, func(a, b chunkstore.Object) int { return strings.Compare(a.Key, b.Key) })
	for _, o := range all {
		if !yield(o) {
			break
		}
	}
	return nil
}

func (b bucket) Delete(_ context.Context, key string) error {
	defer b.lock()()
	delete(b.buckets[b.name], key)
	return nil
}

// target is the store without faults.
func (m *memory) target() *chunkstore.Target {
	return chunkstore.NewTarget("simulated", bucket{m, "c", false}, bucket{m, "m", false})
}

var (
	errLost = errors.New("the simulated connection was reset")
	errDead = errors.New("the simulated process was killed")
)

// line is how one process reaches the store. What becomes of a request depends on the seed, on who
// asks what, and on how often he did: not on the order in which goroutines run.
type line struct {
	b bucket
	p *process
}

var _ chunkstore.Bucket = line{}

func (l line) String() string { return l.b.String() }

// fate is what becomes of a request.
type fate struct {
	to, back time.Duration // how long it travels
	lost     bool          // there is no answer
	never    bool          // it is not carried out, or not before the answer
	refused  bool          // S3 says 409 to one of two that it carries out at once
	ghosts   []time.Duration
}

// trips are the requests that are under way.
type trips struct {
	mu    sync.Mutex
	under *sync.WaitGroup // those that have begun since arrive was last called
}

// begin returns the group that is told when the request is done.
func (t *trips) begin() *sync.WaitGroup {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.under.Add(1)
	return t.under
}

// arrive waits until all requests have been carried out that are under way. It does not wait for
// those that begin meanwhile: who shows that he lives makes one after the other.
func (t *trips) arrive() {
	t.mu.Lock()
	under := t.under
	t.under = new(sync.WaitGroup)
	t.mu.Unlock()
	under.Wait()
}

// asking is what a process asks, and of what kind of object.
type asking struct{ request, kind string }

// fateOf draws one. Of 100 requests of a process in a bad time, 16 have some trouble.
func (p *process) fateOf(request, key string) fate {
	a := asking{request, kindOf(key)}
	p.mu.Lock()
	p.asked[a]++
	n, deaf := p.asked[a], p.w.now() < p.deaf
	p.mu.Unlock()
	if p.w.calm.Load() {
		return fate{to: p.w.latency, back: p.w.latency}
	}
	h := fnv.New64a()
	io.WriteString(h, a.request)
	io.WriteString(h, a.kind)
	rng := rand.New(rand.NewPCG(uint64(p.w.seed)<<32|uint64(p.id), h.Sum64()<<24|uint64(n)))
	f := fate{to: travels(rng, p.w.latency), back: travels(rng, p.w.latency)}
	roll := rng.IntN(100)
	later := func() time.Duration {
		return time.Duration(rng.ExpFloat64() * float64(ghostScales[rng.IntN(len(ghostScales))]))
	}
	switch {
	case deaf && a == asking{"get", "lease"},
		p.w.variant.overstaysTip && a == asking{"get", "want"}: // else it is given back in time
		f.lost = true
	case roll >= p.w.trouble:
	case roll%6 == 0:
		f.lost = true // after it was carried out
	case roll%6 == 1:
		f.lost, f.never = true, true
	case roll%6 == 2:
		f.lost, f.never, f.ghosts = true, true, []time.Duration{later()}
	case roll%6 == 3:
		f.ghosts = []time.Duration{later()}
	case roll%6 == 4:
		f.back += later() / 4
	default:
		f.refused = true
	}
	if p.w.mute > 0 && a == (asking{"put if", "log"}) && rng.IntN(p.w.mute) == 0 {
		f.back += time.Duration((12 + 16*rng.Float64()) * float64(time.Second))
	}
	return f
}

// ghostScales are how long a request may be on its way that nobody waits for any more.
var ghostScales = []time.Duration{100 * time.Millisecond, 2 * time.Second, 30 * time.Second,
	15 * time.Minute}

// travels is a time around mean, now and then much longer.
func travels(rng *rand.Rand, mean time.Duration) time.Duration {
	d := rng.ExpFloat64() * float64(mean)
	if rng.IntN(50) == 0 {
		d *= 40
	}
	return time.Duration(d)
}

func kindOf(key string) string {
	kind, _, found := strings.Cut(key, "-")
	if !found {
		return "pack"
	}
	return kind
}

// ask sends a request of p's, which carry carries out. It may do so later, or twice, also after
// ask has returned. ask's result is that of its first time, if it was in time.
func ask[T any](
	ctx context.Context, l line, request, key string, carry func() (T, error),
) (T, error) {
	p, w := l.p, l.p.w
	var none T
	if err := p.runs(ctx); err != nil {
		return none, err
	}
	w.requests.Add(1)
	f := p.fateOf(request, key)
	w.trace("process %d: %s %s: %+v", p.id, request, key, f)
	if request == "get" || request == "list" || request == "stat" {
		f.ghosts = nil // nobody sees it if that comes later
	}
	for _, after := range f.ghosts {
		w.later(f.to+after, func() { carry() })
	}
	arrives := func() (v T, err error) {
		if f.refused && request == "put if" {
			return v, chunkstore.ErrConflict
		} else if f.never {
			return v, nil
		}
		return carry()
	}
	// This goroutine is the request's, too, unless it waits no more. A process that is stopped does
	// not stop its requests.
	under := w.trips.begin()
	defer under.Done()
	sent, timer := w.now(), time.NewTimer(f.to)
	defer timer.Stop()
	if err := p.hears(ctx, timer); err != nil {
		under.Add(1)
		time.AfterFunc(max(0, sent+f.to-w.now()), func() {
			defer under.Done()
			arrives()
		})
		return none, fmt.Errorf("%s %s: %w", request, key, err)
	}
	v, answer := arrives()
	timer.Reset(f.back)
	if err := p.hears(ctx, timer); err != nil {
		return none, err
	}
	if err := p.runs(ctx); err != nil { // it reads the answer when it is awake
		return none, err
	}
	if f.lost {
		return none, fmt.Errorf("%s %s: %w", request, key, errLost)
	}
	return v, answer
}

func (l line) Get(
	ctx context.Context, key string, o chunkstore.GetOptions,
) (chunkstore.Object, error) {
	return ask(ctx, l, "get", key, func() (chunkstore.Object, error) {
		if l.b.name == "m" && o.IfNoneMatch != "" && l.p.w.variant.looksNotAgain {
			return chunkstore.Object{}, chunkstore.ErrUnmodified
		}
		return l.b.Get(ctx, key, o)
	})
}

func (l line) Put(
	ctx context.Context, key string, body []byte, cond chunkstore.Condition,
) (string, error) {
	etag, _, err := l.PutDated(ctx, key, body, cond)
	return etag, err
}

func (l line) PutDated(
	ctx context.Context, key string, body []byte, cond chunkstore.Condition,
) (string, time.Time, error) {
	body = slices.Clone(body)
	request := "put"
	if cond != (chunkstore.Condition{}) {
		request = "put if"
	}
	type answer struct {
		etag string
		at   time.Time
	}
	a, err := ask(ctx, l, request, key, func() (answer, error) {
		if l.p.w.variant.lazyPacks && kindOf(key) == "pack" {
			l.p.w.later(5*time.Second, func() { l.b.Put(ctx, key, body, cond) })
			return answer{}, nil
		}
		etag, err := l.b.Put(ctx, key, body, cond)
		if l.p.w.slow && releases(key, body) {
			l.p.sleep(ctx, 7*time.Second) // it is stored; the answer takes long
		}
		return answer{etag, l.date(key)}, err
	})
	return a.etag, a.at, err
}

// date is the time by the clock of who answers for the store, about an object of that key: two of
// them are less than Grace apart.
func (l line) date(key string) time.Time {
	if l.p.w.dateless {
		return time.Time{}
	}
	h := fnv.New64a()
	io.WriteString(h, key)
	apart := history.Grace - 2*time.Second
	return time.Now().Add(time.Duration(h.Sum64()%uint64(apart)) - apart/2).Truncate(time.Second)
}

// releases reports whether an object is a record that gives the history back.
func releases(key string, body []byte) bool {
	_, n, ok := chunkstore.ParseRecordKey(key)
	if !ok {
		return false
	}
	r, err := history.Decode(n, body)
	return err == nil && r.Release
}

func (l line) Stat(ctx context.Context, key string) (chunkstore.Object, error) {
	return ask(ctx, l, "stat", key, func() (chunkstore.Object, error) {
		o, err := l.b.Stat(ctx, key)
		if err == nil {
			l.p.w.mu.Lock()
			l.p.w.archive.found[key] = true
			l.p.w.mu.Unlock()
		}
		return o, err
	})
}

func (l line) Delete(ctx context.Context, key string) error {
	_, err := ask(ctx, l, "delete", key, func() (struct{}, error) {
		return struct{}{}, l.b.Delete(ctx, key)
	})
	return err
}

func (l line) List(
	ctx context.Context, prefix string, yield func(chunkstore.Object) bool,
) error {
	all, err := ask(ctx, l, "list", prefix, func() (all []chunkstore.Object, err error) {
		err = l.b.List(ctx, prefix, func(o chunkstore.Object) bool {
			all = append(all, o)
			return true
		})
		return all, err
	})
	for _, o := range all {
		if err != nil || !yield(o) {
			break
		}
	}
	return err
}
