package replicate

import (
	"context"
	"testing"
	"time"
)

// drain runs r's Drain, and returns what tells its end.
func (w *world) drain(r *Replicator) (ended chan error) {
	ended = make(chan error, 1)
	ctx, cancel := context.WithTimeout(w.Context(), hangs)
	go func() {
		defer cancel()
		ended <- r.Drain(ctx)
	}()
	return ended
}

// TestPaceOverReplicators: the pace of versions is the database's. A replicator that comes
// after another one waits as long as that one would have, and one that drains waits, too.
func TestPaceOverReplicators(t *testing.T) {
	w := newWorld(t, 1, 1)
	clock := &skewedClock{}
	w.options = func(o *Options) { o.clock, o.ManifestInterval = clock, time.Hour }
	first := w.replicator()
	stop := w.run(first)
	w.transact(100)
	w.mustFlush(first)
	stop()
	clock.add(30 * time.Minute)
	for range 3 {
		r := w.replicator()
		stop := w.run(r)
		w.transact(100)
		drained := w.drain(r)
		w.until("applied", w.applied)
		stop()
		if err := <-drained; err == nil {
			t.Fatal("drained within the interval")
		}
	}
	if puts, _ := w.manifests[0].calls(); puts != 1 {
		t.Errorf("%d manifests within the interval", puts)
	}
	last := w.replicator()
	defer w.run(last)()
	drained := w.drain(last)
	clock.add(30 * time.Minute)
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if puts, _ := w.manifests[0].calls(); puts != 2 {
		t.Errorf("%d manifests in two intervals", puts)
	}
	w.equal(0, "when it is due")
}

// TestPaceKeepsTime: who commits once in an interval, now a little sooner, now a little later,
// never waits for a timer; and who has something new all the time has no more versions than
// intervals.
func TestPaceKeepsTime(t *testing.T) {
	st, start := newWorld(t, 1, 1).sp.State(), time.Now()
	p := newPace(st, time.Second, start)
	for k, ms := range []time.Duration{0, 3, 90, 1, 0, 40, 2, 100, 0, 0, 7, 1} {
		now := start.Add(time.Duration(k)*time.Second + ms*time.Millisecond)
		p.want(now)
		if now.Before(p.due()) {
			t.Errorf("commit %d, %d ms late, waits for %v", k, ms, p.due().Sub(now))
		}
		p.made(now, true)
	}
	hurried := p.last.Add(300 * time.Millisecond)
	p.want(hurried)
	p.made(hurried, true)
	if p.due().Sub(hurried) > time.Second {
		t.Errorf("after a version that was hurried the next one is due in %v", p.due().Sub(hurried))
	}
	st.CutAt.Store(0)
	p = newPace(st, time.Second, start)
	versions := 0
	for ms := range 100_000 {
		now := start.Add(time.Duration(ms) * time.Millisecond)
		p.want(now)
		if !now.Before(p.due()) {
			p.made(now, true)
			versions++
		}
	}
	if versions < 100 || versions > 101 {
		t.Errorf("%d versions in 100 intervals", versions)
	}
}

// TestPaceOfTheFuture: a clock that is set back costs one interval.
func TestPaceOfTheFuture(t *testing.T) {
	w := newWorld(t, 1, 1)
	clock := &skewedClock{}
	w.options = func(o *Options) { o.clock, o.ManifestInterval = clock, time.Hour }
	w.sp.State().CutAt.Store(clock.now().Add(1000 * time.Hour).UnixNano())
	r := w.replicator()
	defer w.run(r)()
	w.transact(100)
	w.until("applied", w.applied)
	clock.add(time.Hour)
	w.until("it goes out", func() bool { puts, _ := w.manifests[0].calls(); return puts == 1 })
}

// TestRetire: whoever publishes, and then sees that the replicator may end, sends it himself;
// if he does not see it, Retire says that something is left.
func TestRetire(t *testing.T) {
	w := newWorld(t, 1, 1)
	clock := &skewedClock{}
	w.options = func(o *Options) { o.clock, o.ManifestInterval = clock, time.Hour }
	holder := w.replicator()
	stop := w.run(holder)
	w.transact(100)
	w.mustFlush(holder)
	if !holder.Retire() {
		t.Error("something is left, and nothing was published")
	}
	st, token := w.sp.State(), w.sp.State().Replicator.Load()
	st.Replicator.Store(token + 1<<32) // another process, to the other one
	st.Leaving.Store(st.Replicator.Load())
	other := w.replicator()
	if other.ServedElsewhere() {
		t.Error("it is left to one that leaves")
	}
	holder.Stay()
	if !other.ServedElsewhere() {
		t.Error("it is not left to one that stays")
	}
	st.Replicator.Store(token)
	if other.ServedElsewhere() {
		t.Error("it is left to this process itself")
	}
	w.transact(100)
	w.until("applied", w.applied)
	if holder.Retire() {
		t.Error("nothing is left, and something was published")
	}
	stop()
	if other.ServedElsewhere() {
		t.Error("it is left to nobody")
	}
	defer w.run(other)()
	w.until("it takes over", func() bool { return other.look().loop != nil })
	if st.Leaving.Load() != 0 {
		t.Error("the next one leaves, too")
	}
}
