package remote

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/replicate/remote/compose"
)

// world is one schedule: a store, machines, and processes on them, whose code is the real one. It
// runs in a bubble, so that time is not the machine's, and passes when all wait.
type world struct {
	*memory
	settings

	seed int64
	manners
	rng   *rand.Rand // of who sets the world up, and harms it
	dir   string
	began time.Time

	traffic
	ticks atomic.Int64 // orders what happened

	mu sync.Mutex
	truth
	found
	back    rollback
	archive archive
	txs     []*transaction
}

// traffic is what goes to the store.
type traffic struct {
	calm     atomic.Bool // nothing happens to requests any more
	requests atomic.Int64
	trips    trips
}

// found is what is known of a world in the end.
type found struct {
	operations []operation
	violations []string
	counts     counts
}

// settings are drawn from the seed.
type settings struct {
	clocks
	latency  time.Duration // of a request, one way, on average
	trouble  int           // of 100 requests, so many have some
	machines int
	lease    Options
	rich     bool // transactions are interrupted, and there are pragmas
	big      bool // transactions write much
	early    bool // most write at synchronous=OFF, one transaction after the other
	held     bool // transactions stay open, and their processes are stopped, for about the timeout
	slow     bool // answers to who gives the history back take seconds
	mute     int  // one of so many answers to who appends a record comes after the timeout; 0: none
	long     bool // some wait so long that records are trimmed meanwhile
	cleaned  bool // machines lose the files that their processes share
	variant  variant
}

// clocks are how they go.
type clocks struct {
	drift    bool // apart
	paused   bool // machines are, and their clocks stand still meanwhile
	dateless bool // the store does not say when it has answered
}

// manners are how those that write come to that.
type manners struct {
	turns bool  // two machines write in turns, most of the time
	told  int64 // C says who is about to, and is wrong once in so many; 0: it does not say
}

// variant is what is left out, for the simulation to find.
type variant struct {
	broken                      // by the code
	overstay      time.Duration // who reads believes a promise for so much longer
	lazyPacks     bool          // packs are put after what names them
	trimsFences   bool          // T1
	trimsAtOnce   bool          // T5
	collects      bool          // packs that no version names go at once
	putBack       bool          // nothing: the store is put back to an older copy
	loses         bool          // nothing: the store loses one object
	looksNotAgain bool          // T2: a look at the checkpoint finds none that is newer
}

// takesTwo reports whether what is left out can matter only between machines.
func (v variant) takesTwo() bool {
	return v.trimsFences || v.hearsNothing || v.overstay > 0 || v.leavesPromise || v.overstaysTip
}

// timely reports whether what is read must be the newest (R10).
func (w *world) timely() bool {
	return w.back.at == 0 && !w.drift && !w.paused && !w.variant.needsNoLock &&
		!w.variant.takesAnyTime
}

// counts says what happened in a world, so that a test sees whether it is worth anything.
type counts struct {
	Acked, Refused, Unknown, Busy, Stale, Reads, Fast, Dirty, Kills, Sleeps, Epochs int
	// Again: a loose grip was made firm.
	Again              int
	Trimmed, Recreated int // records
	Turns              int // the lease was taken for who was about to write, as it seemed
}

func (c *counts) add(o counts) {
	c.Acked, c.Refused, c.Unknown = c.Acked+o.Acked, c.Refused+o.Refused, c.Unknown+o.Unknown
	c.Busy, c.Stale, c.Reads = c.Busy+o.Busy, c.Stale+o.Stale, c.Reads+o.Reads
	c.Fast, c.Dirty, c.Kills = c.Fast+o.Fast, c.Dirty+o.Dirty, c.Kills+o.Kills
	c.Sleeps, c.Epochs = c.Sleeps+o.Sleeps, c.Epochs+o.Epochs
	c.Again += o.Again
	c.Trimmed, c.Recreated = c.Trimmed+o.Trimmed, c.Recreated+o.Recreated
	c.Turns += o.Turns
}

// violate notes what must not be. mu is held.
func (w *world) violate(format string, args ...any) {
	if w.back.ruined {
		return
	}
	w.violations = append(w.violations, fmt.Sprintf("%v: ", w.now().Round(time.Millisecond))+
		fmt.Sprintf(format, args...))
}

func (w *world) now() time.Duration { return time.Since(w.began) }

// later runs f in its time.
func (w *world) later(after time.Duration, f func()) {
	under := w.trips.begin()
	time.AfterFunc(after, func() {
		defer under.Done()
		f()
	})
}

// trace tells what happens, where the schedule of one seed is run.
func (w *world) trace(format string, args ...any) {
	if *seed != 0 {
		fmt.Fprintf(os.Stderr, "%v "+format+"\n", append([]any{w.now()}, args...)...)
	}
}

// simulate runs the schedule of a seed, and returns what it has found.
func simulate(t *testing.T, seed int64, v variant) *world {
	rng := rand.New(rand.NewPCG(uint64(seed), 0))
	dir, err := os.MkdirTemp(simDir(), "sim")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	w := &world{memory: newMemory(), seed: seed, rng: rng, dir: dir, began: time.Now()}
	w.memory.put, w.objects = w.stored, map[chunkstore.ID][]byte{}
	w.archive = archive{newMemory(), make(map[string]time.Duration), make(chan string),
		make(map[string]bool)}
	w.lists, w.trips.under = map[[16]byte][]uint32{}, new(sync.WaitGroup)
	w.settings = settings{
		latency: []time.Duration{time.Millisecond, 20 * time.Millisecond,
			300 * time.Millisecond}[rng.IntN(3)],
		trouble: []int{0, 6, 16, 40}[rng.IntN(4)],
		clocks:  clocks{drift: rng.IntN(3) == 0},
		lease: Options{LeaseTimeout: 10 * time.Second, LeaseRenewal: 2 * time.Second,
			LeaseLinger:    []time.Duration{time.Second, 12 * time.Second}[rng.IntN(2)],
			Deadline:       30 * time.Second,
			CommitInterval: 100 * time.Millisecond,
			pace:           pace{look: time.Second}, // more often costs most of the time
			// What is inline is copied at each step, and checked: so it is a sixteenth.
			budgets: compose.Budgets{Record: 16 << 10, Soft: 40 << 10, Hard: 56 << 10,
				Crown: 20 << 10}},
		long:    rng.IntN(4) == 0,
		variant: v,
	}
	more := rand.New(rand.NewPCG(uint64(seed), 1))
	if v == (variant{}) || v.keepsTip || v.overstaysTip {
		w.rich, w.big = more.IntN(2) == 0, more.IntN(20) == 0
		w.cleaned = more.IntN(4) == 0
		w.early = more.IntN(8) == 0
		w.slow = more.IntN(8) == 0
		if more.IntN(8) == 0 {
			w.mute = 8
			w.early = w.early || more.IntN(2) == 0
		}
		w.paused = more.IntN(8) == 0
	}
	w.big = w.big || v.putBack && (more.IntN(3) == 0 || v.mendsNothing)
	if v == (variant{}) && rand.New(rand.NewPCG(uint64(seed), 2)).IntN(6) == 0 {
		w.turns = true
		w.latency, w.trouble = min(w.latency, 20*time.Millisecond), min(w.trouble, 6)
	}
	if v == (variant{}) && (w.turns || rand.New(rand.NewPCG(uint64(seed), 3)).IntN(2) == 0) {
		w.told = 16
	}
	w.lease.History.Ahead = more.IntN(8) == 0
	w.dateless = seed%4 == 0
	w.favour()
	w.live()
	<-time.After(time.Hour) // goroutines that are idle end
	return w
}

// favour makes the schedules of some variants such that what is left out matters more often.
func (s *settings) favour() {
	s.held = *longHeld
	switch v := s.variant; {
	case v.collects:
		s.big = true
	case v.trimsFences:
		s.held, s.long = true, false
	case v.hearsNothing, v.overstay > 0:
		s.held, s.drift = true, false
	case v.leavesPromise:
		s.drift, s.slow = false, true
	case v.keepsTip:
		s.drift, s.slow, s.early = false, true, true
	case v.overstaysTip:
		s.drift, s.slow, s.mute, s.early = false, false, 3, true
	case v.putBack: // so that it is known when who writes has had to look
		s.latency, s.trouble, s.drift, s.long = time.Millisecond, 0, false, false
	case v.trustsNewFiles:
		s.cleaned = true
	}
}

// crew is a sync.WaitGroup that may be empty, and get more to wait for, while somebody waits.
type crew struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // closed, and another one, when n becomes 0
}

func (c *crew) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n += n; c.n == 0 {
		close(c.idle)
		c.idle = make(chan struct{})
	}
}

func (c *crew) run(f func()) {
	c.add(1)
	go func() {
		defer c.add(-1)
		f()
	}()
}

func (c *crew) wait() {
	c.mu.Lock()
	n, idle := c.n, c.idle
	c.mu.Unlock()
	if n > 0 {
		<-idle
	}
}

// live lets processes work until all have done so; then a last one must get the database.
func (w *world) live() {
	first := w.newProcess(w.newHost(), 0)
	first.create()
	work := crew{idle: make(chan struct{})}
	var mu sync.Mutex
	processes := []*process{first}
	next := 1
	start := func(h *host) {
		mu.Lock()
		p := w.newProcess(h, next)
		next++
		processes = append(processes, p)
		mu.Unlock()
		for k := 1 + w.rng.IntN(2); k > 0; k-- {
			a := &actor{p: p, rng: rand.New(rand.NewPCG(w.rng.Uint64(), 0))}
			if w.variant.putBack {
				work.run(a.busy)
			} else {
				work.run(a.work)
			}
		}
	}
	hosts, most := 1+w.rng.IntN(3), 2
	if w.variant.takesTwo() {
		hosts = max(hosts, 2)
	}
	if w.turns {
		hosts, most = max(hosts, 2), 1
	}
	if w.cleaned {
		hosts, most = 1+hosts/3, 4
	}
	for range hosts {
		h := w.newHost()
		for range 1 + w.rng.IntN(most) {
			start(h)
		}
	}
	done, harmed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(harmed)
		if w.variant.putBack {
			putBack(w, done)
			return
		}
		w.harm(done, slices.Clone(processes), start)
	}()
	trimmed := make(chan struct{})
	go func() {
		defer close(trimmed)
		w.trim(done)
	}()
	cleaned := make(chan struct{})
	go func() {
		defer close(cleaned)
		if w.cleaned {
			w.clean(done)
		}
	}()
	work.wait()
	close(done)
	<-cleaned
	<-trimmed
	<-harmed
	work.wait() // of those who were started last
	w.end(processes)
}

// create makes the database, which may take several tries.
func (p *process) create() {
	for range 10_000 {
		c, err := p.set.Open(context.Background(), simName, Mode{Create: true})
		if err == nil {
			c.Close()
			return
		}
		<-time.After(time.Second)
	}
	panic("the database cannot be created")
}

// end checks what must hold when nothing more happens.
func (w *world) end(processes []*process) {
	w.mu.Lock()
	mended(w)
	w.mu.Unlock()
	w.calm.Store(true)
	harm := w.rng.IntN(4)
	for _, p := range processes {
		if p.killed() {
			continue
		}
		if harm > 0 {
			p.reserves()
		}
		switch harm {
		case 1:
			p.kill()
		case 2:
			p.stop(2 * time.Hour)
		case 3: // its locks stay, as if a child had them
			close(p.dead)
		}
	}
	h := processes[w.rng.IntN(len(processes))].h
	if w.rng.IntN(3) == 0 {
		h = w.newHost()
	}
	last := w.newProcess(h, 1_000_000)
	last.takes(w.now())
	w.trips.arrive()
	last.reads()
	all := append(processes, last)
	for _, p := range all {
		p.exit()
	}
	<-time.After(time.Hour) // what nobody waits for ends
	for _, p := range all {
		p.close()
	}
	w.trips.arrive()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, tx := range w.txs {
		if tx.outcome == committed && !w.back.lost(tx, w.doubtTime()) &&
			!slices.Contains(w.list(), tx.id) {
			w.violate("R2: transaction %d is lost", tx.id)
		}
	}
	w.counts.Epochs = w.epochs
}

// reserves leaves a transaction of p's open, if it can have one.
func (p *process) reserves() {
	w := p.w
	ctx := context.Background()
	a := &actor{p: p, rng: rand.New(rand.NewPCG(w.rng.Uint64(), 0))}
	var err error
	if a.c, err = p.set.Open(ctx, simName, Mode{}); err != nil {
		return
	}
	list, err := a.view(ctx, false)
	if err != nil || a.c.Reserve(ctx) != nil || w.rng.IntN(2) == 0 {
		return
	}
	a.off = true // its commit may be under way
	a.commit(ctx, w.begin(a.rng, list), list, w.rng.IntN(2) == 0)
}

// exit ends p, as exit(3) does if it lives.
func (p *process) exit() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if p.killed() {
		cancel()
	}
	p.set.Exit(ctx)
	if !p.killed() {
		p.kill()
	}
	p.set.Close()
}

// close gives up what p has in this one.
func (p *process) close() {
	for _, d := range p.set.all() {
		d.lease.file.Close()
	}
	for _, h := range p.set.stores {
		if err := h.replicas.Close(); err != nil {
			panic(err)
		}
	}
}

// takes: R9.
func (p *process) takes(from time.Duration) {
	w := p.w
	a := &actor{p: p, rng: rand.New(rand.NewPCG(1, 0))}
	ctx := context.Background()
	c, err := p.set.Open(ctx, simName, Mode{})
	if err != nil {
		w.mu.Lock()
		if unclear(w, "opens", err); w.variant.loses && w.back.at > 0 {
			w.mu.Unlock()
			return
		}
		w.violate("R9: the last one cannot open: %v", err)
		w.mu.Unlock()
		return
	}
	defer c.Close()
	a.c = c
	// Clocks run apart by less than 1/3; an attempt takes a few requests.
	most := w.lease.LeaseTimeout*3/2 + 100*w.latency + 5*time.Second
	for {
		tries := w.now()
		w.mu.Lock()
		from = max(from, w.beaten) // a sign of life that was on its way
		w.mu.Unlock()
		done, err := a.write(ctx)
		if done {
			return
		}
		w.mu.Lock()
		lacks := len(w.back.lacks) > 0 || w.back.names(err) // whoever could put it again is dead
		w.mu.Unlock()
		if lacks {
			return
		}
		late := w.now()-from > most && (w.timely() || w.drift) && !w.paused
		if late || tries > from+24*time.Hour {
			w.mu.Lock()
			w.violate("R9: waited from %v to %v, last tried at %v: %v", from, w.now(), tries, err)
			w.mu.Unlock()
			return
		}
		<-time.After(time.Second)
	}
}

// reads: what is there in the end is what has been committed.
func (p *process) reads() {
	w := p.w
	c, err := p.set.Open(context.Background(), simName, Mode{ReadOnly: true})
	var list []uint32
	if err == nil {
		defer c.Close()
		a := &actor{p: p, c: c}
		if err = c.Share(context.Background(), false); err == nil {
			list, err = a.list(context.Background())
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	unclear(w, "reads in the end", err)
	if w.back.names(err) {
		return
	}
	if len(w.back.lacks) == 0 && (err != nil || !slices.Equal(list, w.list())) {
		w.violate("R2: in the end there is %v (%v), and the log has %v", list, err, w.list())
	}
}
