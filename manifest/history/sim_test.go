package history

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand"
	"slices"
	"testing"
	"time"

	"verneuil/chunkstore"
)

var (
	schedules = flag.Int("schedules", 2000, "how many schedules the simulation runs")
	seed      = flag.Int64("seed", 0, "run the one schedule of this seed")
)

// world is a store in memory, in which one request at a time is carried out, by a schedule
// that is drawn from a seed. It knows the true history, as the store has seen it come about.
type world struct {
	scheduler
	truth
	fault fault
	grace int  // steps; 0: there are no copies, and nobody believes in the end of the log
	dates bool // the store says when it has answered
	// still: the clock of who takes the history stands still, until he has given it back. Else the
	// store's, if it says what time it is, is set back all the time.
	still bool
	saves []save // of writers, for copies of them

	logs map[[16]byte]map[uint64][]byte
	cp   *Checkpoint
	etag int
	puts []put // of checkpoints

	nextTx     uint64
	refused    map[uint64]bool // ErrFenced was the answer
	violations []string
}

// scheduler decides which request is next, and what becomes of it.
type scheduler struct {
	rng      *rand.Rand
	requests chan *request
	waiting  []*request
	ghosts   []func()    // requests that are carried out later, or once more
	deaf     map[int]int // how often an actor's turn passes
	steps    int
}

// truth is the history: what was created at the number after the last.
type truth struct {
	records []*Record
	txs     []uint64 // that it has
	owner   [16]byte // zero: nobody
	epoch   uint64
}

// put is when a checkpoint was put.
type put struct {
	number uint64
	step   int
}

// save is what a writer could be made of again, with its database.
type save struct {
	Saved
	copyOf
}

// fault is a rule that the store or the protocol leaves out.
type fault int

const (
	sound fault = iota
	withoutT1
	withoutT2Writer
	withoutT2Reader
	withoutT2Refused
	withoutT3
	withoutT4
	withoutT4Sure // a copy is sure from when it was resumed on, and not from when it was made
	withoutT5
	withoutT9 // all clocks stand still
)

type request struct {
	actor int
	carry func()
	reply chan fate
}

type fate int

const (
	answered fate = iota
	lost          // it may have been carried out
	crashed
)

var errLost = errors.New("the answer was lost")

func (w *world) violate(format string, args ...any) {
	w.violations = append(w.violations, fmt.Sprintf(format, args...))
}

// run lets the actors work until all have ended.
func (w *world) run(actors ...func(a *actor)) {
	w.requests = make(chan *request)
	ended := make(chan struct{})
	for id, work := range actors {
		a := &actor{w: w, id: id, rng: rand.New(rand.NewSource(w.rng.Int63()))}
		go func() {
			defer func() { ended <- struct{}{} }()
			work(a)
		}()
	}
	busy := len(actors)
	for alive := len(actors); alive > 0; {
		for busy > 0 {
			select {
			case r := <-w.requests:
				w.waiting = append(w.waiting, r)
				// The order of arrival is the runtime's; that of names is the seed's.
				slices.SortFunc(w.waiting, func(a, b *request) int { return a.actor - b.actor })
			case <-ended:
				alive--
			}
			busy--
		}
		if alive > 0 && w.step() {
			busy = 1
		}
	}
}

// step carries out one request, and reports whether an actor goes on.
func (w *world) step() bool {
	w.steps++
	if len(w.ghosts) > 0 && w.rng.Intn(12) == 0 {
		i := w.rng.Intn(len(w.ghosts))
		ghost := w.ghosts[i]
		w.ghosts = slices.Delete(w.ghosts, i, i+1)
		ghost()
		return false
	}
	i := w.rng.Intn(len(w.waiting))
	r := w.waiting[i]
	if w.deaf[r.actor] > 0 && len(w.waiting) > 1 { // it sleeps
		w.deaf[r.actor]--
		return false
	}
	if w.rng.Intn(20) == 0 {
		w.deaf[r.actor] = w.rng.Intn(120)
	}
	w.waiting = slices.Delete(w.waiting, i, i+1)
	r.reply <- w.decide(r)
	return true
}

func (w *world) decide(r *request) fate {
	switch p := w.rng.Intn(100); {
	case p < 84:
		r.carry()
		return answered
	case p < 87:
		r.carry()
		return lost
	case p < 89:
		return lost
	case p < 93:
		w.ghosts = append(w.ghosts, r.carry)
		return lost
	case p < 97:
		r.carry()
		w.ghosts = append(w.ghosts, r.carry)
		return answered
	case p < 99:
		w.ghosts = append(w.ghosts, r.carry)
		return crashed
	}
	return crashed
}

// copyOf is a database of which all transactions are known.
type copyOf struct{ txs []uint64 }

func (c *copyOf) encode() (body []byte) {
	for _, tx := range c.txs {
		body = binary.BigEndian.AppendUint64(body, tx)
	}
	return body
}

func (c *copyOf) load(body []byte) {
	c.txs = nil
	for ; len(body) > 0; body = body[8:] {
		c.txs = append(c.txs, binary.BigEndian.Uint64(body))
	}
}

func (c *copyOf) apply(s Step) {
	if s.Checkpoint != nil {
		c.load(s.Checkpoint.Body)
	}
	for _, r := range s.Records {
		if !r.Fence {
			c.txs = append(c.txs, binary.BigEndian.Uint64(r.Body))
		}
	}
}

// check: H5, and H6 for what had been appended when the call began.
func (w *world) check(who string, c *copyOf, least int, before []uint64) {
	switch {
	case len(c.txs) > len(w.txs) || !slices.Equal(c.txs, w.txs[:len(c.txs)]):
		w.violate("H5: %s has %v, the history %v", who, c.txs, w.txs)
	case len(c.txs) < least:
		w.violate("H6: %s has %d transactions of %d", who, len(c.txs), least)
	case len(c.txs) < len(before):
		w.violate("H5: %s went back from %d transactions to %d", who, len(before), len(c.txs))
	}
}

// catchUp reads to the end. It reports whether it came there.
func (w *world) catchUp(who string, next func(context.Context) (Step, error), c *copyOf) bool {
	for range 40 {
		least, before := len(w.txs), c.txs
		step, err := next(context.Background())
		if err != nil {
			if !errors.Is(err, errLost) {
				w.violate("%s: %v", who, err)
			}
			continue
		}
		c.apply(step)
		if step.Empty() || step.End {
			w.check(who, c, least, before)
			return true
		}
		w.check(who, c, 0, before)
	}
	return false
}

func (w *world) reader(a *actor) {
	ctx := context.Background()
	for range 3 {
		r, cp, err := Open(ctx, a, w.options(a))
		if err != nil {
			continue
		}
		var c copyOf
		c.load(cp.Body)
		for range 4 {
			if !w.catchUp(fmt.Sprintf("reader %d", a.id), r.Next, &c) {
				break
			}
		}
	}
}

func (w *world) writer(a *actor) {
	ctx := context.Background()
	for range 3 {
		r, cp, err := Open(ctx, a, w.options(a))
		if errors.Is(err, chunkstore.ErrAbsent) {
			_, _ = Create(ctx, a, w.options(a), [16]byte{byte(a.id + 1)}, nil, "")
			continue
		} else if err != nil {
			continue
		}
		var c copyOf
		c.load(cp.Body)
		writer := NewWriter(r)
		for range 4 {
			if !w.own(a, writer, &c) {
				break
			}
			w.work(a, writer, &c)
			a.since = 0
		}
	}
}

// own has writer take the history over.
func (w *world) own(a *actor, writer *Writer, c *copyOf) bool {
	ctx := context.Background()
	for range 12 {
		if writer.State() == Following && !w.catchUp("writer", writer.Next, c) {
			return false
		}
		a.takes, a.since = true, w.steps
		writer.Claim(nil)
		w.save(writer, c)
		err := writer.Settle(ctx)
		a.takes = false
		if err == nil {
			w.check("an owner", c, 0, nil)
			return true
		}
		a.since = 0
		if errors.Is(err, ErrUnsettled) && a.rng.Intn(4) == 0 {
			writer.Abandon()
		}
	}
	writer.Abandon()
	return false
}

// work appends some transactions.
func (w *world) work(a *actor, writer *Writer, c *copyOf) {
	ctx, rng := context.Background(), a.rng
	for k := 1 + rng.Intn(4); k > 0; k-- {
		w.nextTx++
		body := binary.BigEndian.AppendUint64(nil, w.nextTx)
		if writer.Prepare(body, k == 1 && rng.Intn(2) == 0) != nil {
			w.violate("a writer that owns may not append")
			return
		}
		w.save(writer, c)
		if !w.settle(a, writer, c) {
			return
		}
		w.save(writer, c)
		if rng.Intn(3) == 0 {
			writer.Checkpoint(ctx, c.encode())
		}
		if rng.Intn(3) == 0 {
			at := writer.At().Number
			writer.Trim(ctx, at+1-uint64(rng.Intn(int(min(at, 3))+1)))
		}
	}
}

// settle appends a transaction that was prepared. It reports whether the writer owns the history.
func (w *world) settle(a *actor, writer *Writer, c *copyOf) bool {
	tx := binary.BigEndian.Uint64(writer.pending.Body)
	a.asks = true
	defer func() { a.asks = false }()
	err := writer.Settle(context.Background())
	for try := 0; errors.Is(err, ErrUnsettled) && try < 3; try++ {
		err = writer.Settle(context.Background())
	}
	switch {
	case err == nil:
		c.txs = append(slices.Clip(c.txs), tx)
		if !slices.Contains(w.txs, tx) {
			w.violate("H2: transaction %d was answered, and is not in the history", tx)
		}
		w.check("a writer", c, 0, nil)
		return writer.State() == Owning
	case errors.Is(err, ErrFenced):
		w.refused[tx] = true
	default:
		writer.Abandon()
	}
	return false
}

// save notes what copies of the writer are made of.
func (w *world) save(writer *Writer, c *copyOf) {
	if saved, ok := writer.Save(); ok && w.grace > 0 {
		w.saves = append(w.saves, save{saved, *c})
	}
}

// heir is copies of writers, of any age: of a process that was killed, or of a machine.
func (w *world) heir(a *actor) {
	for range 4 {
		a.do(func() {}) // later
		if len(w.saves) == 0 {
			continue
		}
		s := w.saves[a.rng.Intn(len(w.saves))]
		writer, err := w.resume(a, s.Saved)
		if err != nil {
			w.violate("resume: %v", err)
			return
		}
		c := s.copyOf
		if p := writer.pending; p != nil && !p.Fence && !w.settle(a, writer, &c) {
			continue
		}
		for range 2 {
			if writer.State() != Owning && !w.own(a, writer, &c) {
				break
			}
			w.work(a, writer, &c)
		}
	}
}

// resume: the copies have one clock, so that each may be as sure as it was.
func (w *world) resume(a *actor, saved Saved) (*Writer, error) {
	if w.fault == withoutT4Sure {
		saved.Sure, saved.Doubt = time.Duration(w.steps), false
	} else if a.rng.Intn(2) == 0 {
		return Resume(a, w.options(a), saved)
	}
	return ResumeSure(a, w.options(a), saved)
}

func (w *world) options(a *actor) Options {
	return Options{Grace: time.Duration(w.grace), Now: func() time.Duration {
		if w.still && a.since > 0 {
			return time.Duration(a.since)
		}
		return time.Duration(w.steps)
	}}
}

// simulate runs one schedule, and returns what it has found.
func simulate(seed int64, f fault) *world {
	w := &world{fault: f, logs: map[[16]byte]map[uint64][]byte{}, refused: map[uint64]bool{},
		dates: seed%2 == 0, still: seed%4 == 0}
	w.rng, w.deaf = rand.New(rand.NewSource(seed)), map[int]int{}
	if w.rng.Intn(2) == 0 {
		w.grace = 1 + w.rng.Intn(60)
	}
	if w.grace > 0 && !w.still {
		w.run(w.writer, w.heir, w.reader, w.writer, w.heir)
	} else {
		w.run(w.writer, w.writer, w.reader, w.writer)
	}
	for len(w.ghosts) > 0 {
		w.ghosts[0]()
		w.ghosts = w.ghosts[1:]
	}
	for _, tx := range w.txs {
		if w.refused[tx] {
			w.violate("H3: transaction %d was refused, and is in the history", tx)
		}
	}
	return w
}

func TestSimulation(t *testing.T) {
	if *seed != 0 {
		t.Log(simulate(*seed, sound).violations)
	}
	records, ops := 0, 0
	for s := range int64(*schedules) {
		w := simulate(s+1, sound)
		records, ops = records+len(w.records), ops+w.steps
		for _, v := range w.violations {
			t.Errorf("seed %d: %s", s+1, v)
		}
		if t.Failed() {
			return
		}
	}
	if records < *schedules*4 {
		t.Errorf("%d records in %d schedules: nothing happens in them", records, *schedules)
	}
	t.Logf("%d schedules, %d requests, %d records", *schedules, ops, records)
}

// TestSimulationFindsFaults: without any of the rules an invariant breaks. The schedules begin
// where it is known to: one of the rules matters in one of 80,000.
func TestSimulationFindsFaults(t *testing.T) {
	for f, c := range map[fault]struct {
		rule  string
		first int64
	}{
		withoutT1:        {"T1", 1},
		withoutT2Writer:  {"T2 of a writer", 1},
		withoutT2Reader:  {"T2 of a reader", 1},
		withoutT2Refused: {"T2 of a writer that is refused", 82_600},
		withoutT3:        {"T3", 1},
		withoutT4:        {"T4", 1},
		withoutT4Sure:    {"T4 of a copy", 1},
		withoutT5:        {"T5", 1},
		withoutT9:        {"T9", 1},
	} {
		t.Run(c.rule, func(t *testing.T) {
			for s := range int64(400_000) {
				if w := simulate(c.first+s, f); len(w.violations) > 0 {
					t.Logf("seed %d: %s", c.first+s, w.violations[0])
					return
				}
			}
			t.Errorf("nothing is found without %s", c.rule)
		})
	}
}
