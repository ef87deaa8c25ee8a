package remote

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest/history"
	"verneuil/replicate/replica"
)

// process is one that uses the library.
type process struct {
	w    *world
	h    *host
	id   int
	set  *Set
	dead chan struct{}

	mu    sync.Mutex
	asked map[asking]int
	awake chan struct{} // closed when it is; nil: it is not stopped
	until time.Duration // then it is
	deaf  time.Duration // until then
}

func (w *world) newProcess(h *host, id int) *process {
	<-time.After(time.Millisecond) // no two begin at one time
	p := &process{w: w, h: h, id: id, dead: make(chan struct{}), asked: map[asking]int{}}
	if w.variant.hearsNothing {
		p.deafen(1000 * time.Hour)
	}
	o := w.lease
	o.Open = func(context.Context, string) (*chunkstore.Store, error) {
		target := chunkstore.NewTarget("simulated", line{bucket{w.memory, "c", false}, p},
			line{bucket{w.memory, "m", false}, p})
		target.Bound(8)
		return chunkstore.NewStore(target), nil
	}
	o.Has = func(store string) bool { return store == simStore }
	o.TempDir, o.Host, o.Program = h.dir, fmt.Sprint("host", h.id), "simulation"
	if *seed != 0 {
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("process", id)
	}
	o.History.Grace, o.History.Now = history.Grace, h.now
	if w.variant.trimsFences {
		o.History.Grace = 0 // else T4 finds what T1 prevents, as long as clocks go on
	}
	o.Replicas = func(s *chunkstore.Store) (*replica.Set, error) {
		return replica.NewSet(replica.Options{Store: s, TempDir: h.dir, Host: o.Host,
			PollInterval: 5 * time.Second})
	}
	set, err := NewSet(o)
	if err != nil {
		panic(err)
	}
	set.broken = w.variant.broken
	p.set = set
	return p
}

func (p *process) killed() bool {
	select {
	case <-p.dead:
		return true
	default:
		return false
	}
}

// runs waits until p is awake. It fails if p was killed, or ctx ends.
func (p *process) runs(ctx context.Context) error {
	for {
		p.mu.Lock()
		awake := p.awake
		p.mu.Unlock()
		if p.killed() {
			return errDead
		} else if awake == nil {
			return ctx.Err()
		}
		select {
		case <-awake: // unless it was stopped again
		case <-p.dead:
			return errDead
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hears waits for a timer, whether p is awake or not. It fails if p is killed, or ctx ends.
func (p *process) hears(ctx context.Context, timer *time.Timer) error {
	select {
	case <-timer.C:
		return nil
	case <-p.dead:
		return errDead
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sleep is runs after a pause.
func (p *process) sleep(ctx context.Context, d time.Duration) error {
	pause := time.NewTimer(d)
	defer pause.Stop()
	if err := p.hears(ctx, pause); err != nil {
		return err
	}
	return p.runs(ctx)
}

// stop has p sleep for d, as with SIGSTOP, or for longer if it is to already.
func (p *process) stop(d time.Duration) {
	p.w.trace("stop %d for %v", p.id, d)
	awake := make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w.now()+d <= p.until {
		return
	}
	p.awake, p.until = awake, p.w.now()+d
	p.w.later(d, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if close(awake); p.awake == awake {
			p.awake = nil
		}
	})
}

// deafen has p's looks at what machines say to each other fail for d.
func (p *process) deafen(d time.Duration) {
	p.w.trace("deafen %d for %v", p.id, d)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = p.w.now() + d
}

// kill ends p: nobody hears of it again, but for requests that are under way, and the kernel gives
// its locks back. Its goroutines go on until they notice, and share nothing with anybody.
func (p *process) kill() {
	p.w.trace("kill %d", p.id)
	close(p.dead)
	for _, d := range p.set.all() {
		if err := d.lease.file.Leave(); err != nil {
			panic(err)
		}
	}
}
