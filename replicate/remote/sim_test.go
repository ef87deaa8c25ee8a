package remote

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"

	"verneuil/chunkstore"
)

var (
	schedules = flag.Int("schedules", schedulesDefault, "how many schedules the simulation runs")
	seed      = flag.Int64("seed", 0, "run the one schedule of this seed")
	firstSeed = flag.Int64("first", 1, "the first seed")
	longHeld  = flag.Bool("held", false, "in all schedules transactions stay open, and their "+
		"processes are stopped, for about the lease's timeout")
)

// operation is one transaction, as its client saw it.
type operation struct {
	actor     *actor
	call, ret int64
	list      []uint32     // what it read
	tx        *transaction // what it wrote on that; nil: nothing
}

func (w *world) note(o operation) {
	o.ret = w.ticks.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	// A version that is not answered for yet may be seen here and not there (R10).
	if o.tx == nil && len(o.list) <= w.known || o.tx != nil && o.tx.outcome != refused {
		w.operations = append(w.operations, o)
	}
}

// warm makes what is shared by all bubbles before there are any: it has channels.
var warm = sync.OnceFunc(func() {
	plain, sealer := make([]byte, 1000), chunkstore.Plain{}
	_, bodyErr := chunkstore.DecodeBody(chunkstore.EncodeBody(plain))
	id := sealer.Identify(plain)
	stored := chunkstore.SealObject(sealer, nil, id, plain)
	if _, err := chunkstore.OpenObject(sealer, nil, id, stored); err != nil || bodyErr != nil {
		panic(errors.Join(err, bodyErr))
	}
})

// bubble runs one schedule, and returns what was found.
func bubble(t *testing.T, seed int64, v variant) (w *world) {
	t.Helper()
	warm()
	t.Run(fmt.Sprint(seed), func(t *testing.T) {
		cryptotest.SetGlobalRandom(t, uint64(seed))
		synctest.Test(t, func(t *testing.T) { w = simulate(t, seed, v) })
		if w != nil && len(w.violations) == 0 && w.timely() && !w.linearizable() {
			w.violations = append(w.violations, "the history is not linearizable")
		}
	})
	return w
}

// key makes a state for porcupine of a list.
func key(list []uint32) string { return fmt.Sprint(list) }

// linearizable asks a checker that knows nothing of logs: each transaction read a list, and, if
// it wrote, appended itself.
func (f *found) linearizable() bool {
	model := porcupine.NondeterministicModel{
		Init: func() []any { return []any{key(nil)} },
		Step: func(state, input, output any) []any {
			o := input.(operation)
			same := state == key(o.list)
			switch {
			case o.tx == nil && same:
				return []any{state}
			case o.tx == nil:
				return nil
			}
			next := key(append(o.list[:len(o.list):len(o.list)], o.tx.id))
			switch {
			case o.tx.outcome == committed && same:
				return []any{next}
			case o.tx.outcome == committed:
				return nil
			case same: // nobody knows
				return []any{state, next}
			}
			return []any{state}
		},
	}
	var all []porcupine.Operation
	clients := map[*actor]int{}
	for _, o := range f.operations {
		if _, ok := clients[o.actor]; !ok {
			clients[o.actor] = len(clients)
		}
		if o.tx != nil && o.tx.outcome == unknown {
			o.ret = 1 << 60
		}
		all = append(all, porcupine.Operation{ClientId: clients[o.actor], Input: o, Call: o.call,
			Return: o.ret})
	}
	return porcupine.CheckOperations(model.ToModel(), all)
}

// TestSimulationFindsFaults: without any of the rules an invariant breaks. The schedules begin
// where it is known to.
func TestSimulationFindsFaults(t *testing.T) {
	for name, c := range map[string]struct {
		first int64
		v     variant
	}{
		"a lost answer taken for a refusal": {13, variant{broken: broken{lostIsRefused: true}}},
		"a release without a fence":         {3, variant{broken: broken{staysReleased: true}}},
		"silence of a look that fails":      {1038, variant{broken: broken{hearsNothing: true}}},
		"a trimmed fence":                   {2701, variant{trimsFences: true}},
		"a release under a promise":         {1544, variant{broken: broken{leavesPromise: true}}},
		"a lock that is never given up":     {2, variant{broken: broken{keepsLocks: true}}},
		"a new file taken for the old one":  {216, variant{broken: broken{trustsNewFiles: true}}},
		"a promise believed beyond its end": {122, variant{overstay: 10 * time.Minute}},
		"a record before its chunks":        {52, variant{lazyPacks: true}},
		"records trimmed at once":           {5, variant{trimsAtOnce: true}},
		"chunks collected at once":          {8, variant{collects: true}},
		"a fence believed unseen":           {1, variant{looksNotAgain: true}},
	} {
		t.Run(name, func(t *testing.T) {
			for n := range int64(*schedules) {
				s := c.first + max(0, n-20) // which goroutine runs first may matter, too
				if w := bubble(t, s, c.v); w == nil || len(w.violations) > 0 {
					t.Logf("seed %d: %v", s, w.violations[0])
					return
				}
			}
			t.Errorf("nothing is found with %s", name)
		})
	}
}

// TestR7Chaos: without any manners, R1 to R6 hold nevertheless.
func TestR7Chaos(t *testing.T) {
	for s := range int64(*schedules / 5) {
		w := bubble(t, *firstSeed+s, variant{broken: broken{needsNoLock: true, takesAnyTime: true}})
		for _, v := range w.violations {
			t.Errorf("seed %d: %s", *firstSeed+s, v)
		}
		if t.Failed() {
			return
		}
	}
}

func TestSimulation(t *testing.T) {
	if *seed != 0 {
		w := bubble(t, *seed, variant{})
		t.Logf("%+v\n%v", w.counts, w.violations)
		return
	}
	var all counts
	requests := int64(0)
	for s := range int64(*schedules) {
		w := bubble(t, *firstSeed+s, variant{})
		if w == nil {
			t.Fatalf("seed %d", *firstSeed+s)
		}
		all.add(w.counts)
		requests += w.requests.Load()
		for _, v := range w.violations {
			t.Errorf("seed %d: %s", *firstSeed+s, v)
		}
		if t.Failed() {
			return
		}
	}
	if all.Acked < *schedules {
		t.Errorf("nothing happens: %+v", all)
	}
	t.Logf("%d schedules, %d requests: %+v", *schedules, requests, all)
}

// simDir is where machines keep their files: in memory, if there is such a directory.
func simDir() string {
	if err := os.MkdirAll("/dev/shm", 0o777); err == nil {
		return "/dev/shm"
	}
	return ""
}
