package remote

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
)

var (
	schedules = flag.Int("schedules", schedulesDefault, "how many schedules the simulation runs")
	seed      = flag.Int64("seed", 0, "run the one schedule of this seed")
	firstSeed = flag.Int64("first", 1, "the first seed")
	longHeld  = flag.Bool("held", false, "in all schedules transactions stay open, and their "+
		"processes are stopped, for about the lease's timeout")
	countFaults = flag.Bool("count", false, "the schedules, from the first seed on, are all run "+
		"for each rule that is left out: in how many is it found, and at what cost")
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

// frugal has t's schedules collect little garbage: each makes a few MB, and ends.
func frugal(t *testing.T) {
	before := debug.SetGCPercent(400)
	t.Cleanup(func() { debug.SetGCPercent(before) })
}

// bubble runs one schedule, and returns what was found.
func bubble(t *testing.T, seed int64, v variant) (w *world) {
	t.Helper()
	warm()
	t.Run(fmt.Sprint(seed), func(t *testing.T) {
		cryptotest.SetGlobalRandom(t, uint64(seed))
		synctest.Test(t, func(t *testing.T) { w = simulate(t, seed, v) })
		if w != nil && len(w.violations) == 0 && w.timely() {
			if found := disorder(w.operations); found != "" {
				w.violations = append(w.violations, "the history is not linearizable: "+found)
			}
		}
	})
	return w
}

// disorder looks for one order of all transactions that explains what each of them read, and in
// which those that ended stand before those that began later. It knows nothing of logs. Since each
// transaction reads the whole list, and those that wrote appended themselves, there is one order at
// most: the longest list. So it takes no search. It returns what does not fit, or "".
//
// A transaction of which nobody knows whether it happened did if it stands in a list, at any time
// after it began. If it stands in none, nothing can tell it from one that did not; what it read may
// have been of its process alone (synchronous=OFF), and says nothing.
func disorder(operations []operation) string {
	var order []uint32
	for _, o := range operations {
		list := o.list
		switch {
		case o.tx == nil:
		case o.tx.outcome == committed:
			list = append(list[:len(list):len(list)], o.tx.id)
		default:
			continue // it may have been made on what its process had, and never came to be
		}
		if len(list) > len(order) {
			order = list
		}
	}
	type placed struct {
		operation
		place int // before the first writer 0, of that writer 1, after it 2, and so on
	}
	var all []placed
	writers := 0
	for _, o := range operations {
		place := 2 * len(o.list)
		if o.tx != nil {
			at := slices.Index(order, o.tx.id)
			if at < 0 && o.tx.outcome == unknown {
				continue
			} else if at != len(o.list) {
				return fmt.Sprintf("%d wrote on %v, and stands at %d of %v", o.tx.id, o.list, at,
					order)
			}
			place++
			writers++
		}
		if !slices.Equal(o.list, order[:len(o.list)]) {
			return fmt.Sprintf("somebody read %v, another one %v", o.list, order)
		}
		if o.tx != nil && o.tx.outcome == unknown {
			o.ret = math.MaxInt64
		}
		all = append(all, placed{o, place})
	}
	if writers != len(order) {
		return fmt.Sprintf("%d of %v were written", writers, order)
	}
	ended := slices.SortedFunc(slices.Values(all), func(a, b placed) int {
		return cmp.Compare(a.ret, b.ret)
	})
	slices.SortFunc(all, func(a, b placed) int { return cmp.Compare(a.call, b.call) })
	var last placed // of those that have ended
	for _, o := range all {
		for ; len(ended) > 0 && ended[0].ret < o.call; ended = ended[1:] {
			if ended[0].place >= last.place {
				last = ended[0]
			}
		}
		if o.place < last.place {
			return fmt.Sprintf("who read %v had ended at %d when who read %v began at %d",
				last.list, last.ret, o.list, o.call)
		}
	}
	return ""
}

// TestDisorder: it finds what must not be, and nothing else.
func TestDisorder(t *testing.T) {
	wrote := func(call, ret int64, id uint32, o outcome, list ...uint32) operation {
		return operation{call: call, ret: ret, list: list, tx: &transaction{id: id, outcome: o}}
	}
	read := func(call, ret int64, list ...uint32) operation {
		return operation{call: call, ret: ret, list: list}
	}
	for _, c := range []struct {
		name string
		ok   bool
		all  []operation
	}{
		{"one after the other", true, []operation{wrote(1, 2, 7, committed), read(3, 4, 7)}},
		{"a read beside a commit", true,
			[]operation{wrote(1, 9, 7, committed), read(3, 4), read(5, 6, 7)}},
		{"a read of what nobody wrote", false, []operation{read(1, 2, 7)}},
		{"a read that is behind", false, []operation{wrote(1, 2, 7, committed), read(3, 4)}},
		{"a read that goes back", false,
			[]operation{wrote(1, 9, 7, committed), read(3, 4, 7), read(5, 6)}},
		{"a read of what comes later", false,
			[]operation{read(1, 2, 7), wrote(3, 4, 7, committed)}},
		{"two on the same", false,
			[]operation{wrote(1, 9, 7, committed), wrote(2, 8, 8, committed)}},
		{"a commit that nobody saw", false,
			[]operation{wrote(1, 2, 7, committed), wrote(3, 4, 8, committed), read(5, 6, 8)}},
		{"unknown, and did not happen", true, []operation{wrote(1, 2, 7, unknown), read(3, 4)}},
		{"unknown, and happens late", true,
			[]operation{wrote(1, 2, 7, unknown), read(3, 4), read(5, 6, 7)}},
		{"unknown, and goes back", false,
			[]operation{wrote(1, 2, 7, unknown), read(3, 4, 7), read(5, 6)}},
		{"unknown, and not asked for yet", false,
			[]operation{read(1, 2, 7), wrote(3, 4, 7, unknown)}},
		{"unknown, on what did not happen", true, []operation{wrote(1, 2, 7, unknown),
			wrote(3, 4, 8, unknown, 7), wrote(5, 6, 9, committed), read(7, 8, 9)}},
		{"unknown, on something else", false,
			[]operation{wrote(1, 2, 7, committed), wrote(3, 4, 8, unknown), read(5, 6, 7, 8)}},
	} {
		if got := disorder(c.all); (got == "") != c.ok {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

// TestSimulationFindsFaults: without any of the rules an invariant breaks. The schedules begin
// where it is known to.
func TestSimulationFindsFaults(t *testing.T) {
	frugal(t)
	for name, c := range map[string]struct {
		first int64
		v     variant
	}{
		"a lost answer taken for a refusal": {30, variant{broken: broken{lostIsRefused: true}}},
		"a release without a fence":         {2, variant{broken: broken{staysReleased: true}}},
		"silence of a look that fails":      {189, variant{broken: broken{hearsNothing: true}}},
		"a trimmed fence":                   {236, variant{trimsFences: true}},
		"a release under a promise":         {3, variant{broken: broken{leavesPromise: true}}},
		"a tip that others have passed":     {3000093, variant{broken: broken{keepsTip: true}}},
		"a tip believed beyond its promise": {90, variant{broken: broken{overstaysTip: true}}},
		"a lock that is never given up":     {19, variant{broken: broken{keepsLocks: true}}},
		"a new file taken for the old one":  {692, variant{broken: broken{trustsNewFiles: true}}},
		"a store that nobody looks at": {1,
			variant{putBack: true, broken: broken{losses: losses{looksNever: true}}}},
		"an owner beside another history": {1030,
			variant{putBack: true, broken: broken{losses: losses{ownsBehind: true}}}},
		"a reader of what is lost": {36,
			variant{putBack: true, broken: broken{losses: losses{readsLost: true}}}},
		"a database in a lost one's place": {8,
			variant{putBack: true, loses: true, broken: broken{losses: losses{beginsAnew: true}}}},
		"packs that nobody looks for": {1,
			variant{putBack: true, broken: broken{losses: losses{mendsNothing: true}}}},
		"a promise believed beyond its end": {185, variant{overstay: 10 * time.Minute}},
		"a record before its chunks":        {11, variant{lazyPacks: true}},
		"records trimmed at once":           {5, variant{trimsAtOnce: true}},
		"chunks collected at once":          {17, variant{collects: true}},
		"a fence believed unseen":           {12, variant{looksNotAgain: true}},
	} {
		t.Run(name, func(t *testing.T) {
			if *countFaults {
				count(t, c.v)
				return
			}
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

// count runs all schedules of a variant, and tells in which of them it is found. It says how much
// the schedules are worth: what is found in a second of a processor.
func count(t *testing.T, v variant) {
	var found []int64
	began := processorTime()
	for n := range int64(*schedules) {
		if w := bubble(t, *firstSeed+n, v); w == nil || len(w.violations) > 0 {
			found = append(found, *firstSeed+n)
		}
	}
	spent := processorTime() - began
	t.Logf("found %d times in %d schedules of %v each, one in %v: %v", len(found), *schedules,
		spent/time.Duration(*schedules), spent/time.Duration(max(1, len(found))), found)
}

func processorTime() time.Duration {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// TestR7Chaos: without any manners, R1 to R6 hold nevertheless.
func TestR7Chaos(t *testing.T) {
	frugal(t)
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
	frugal(t)
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
	fmt.Printf("%d schedules, %d requests: %+v\n", *schedules, requests, all)
}

// simDir is where machines keep their files: in memory, if there is such a directory.
func simDir() string {
	if err := os.MkdirAll("/dev/shm", 0o777); err == nil {
		return "/dev/shm"
	}
	return ""
}
