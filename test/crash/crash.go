// Package crash chooses the tests in which processes die or calls fail: make crash runs these and
// no others, many times and with many more calls than make test does. They are chosen by the
// variable VERNEUIL_FAULT_STRIDE and by what their package says of itself, not by their names.
//
// Only tests import it. It imports nothing of this module.
package crash

import (
	"flag"
	"iter"
	"os"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// Main is for the TestMain of a package that has such tests, which are given to it. It runs all of
// the package's tests, or where they are [Chosen] only the given ones, and returns the exit code.
// Where -run says which tests to run, that counts.
func Main(m *testing.M, tests ...func(*testing.T)) int {
	flag.Parse()
	run := flag.Lookup("test.run").Value
	if Chosen() && run.String() == "" {
		var names []string
		for _, test := range tests {
			path := runtime.FuncForPC(reflect.ValueOf(test).Pointer()).Name()
			names = append(names, regexp.QuoteMeta(path[strings.LastIndex(path, ".")+1:]))
		}
		if err := run.Set("^(" + strings.Join(names, "|") + ")$"); err != nil {
			panic(err) // names are names
		}
	}
	return m.Run()
}

// Chosen reports whether such tests are to run alone, and to do all that they can instead of a
// sample: VERNEUIL_FAULT_STRIDE is set. Its value is for those that strike one call after another:
// how many they pass over.
func Chosen() bool { return os.Getenv("VERNEUIL_FAULT_STRIDE") != "" }

// Calls yields which calls of a sequence are to fail in turn, from the first on and without an end:
// each one; under the race detector, where one costs several times as much, each seventh. What
// comes of a failed call the detector does not change, and what it looks for is the order of
// goroutines, which neighbouring calls have in common. make unit runs such tests without it too: it
// finds them by their name, which has to end in ByNthCall.
func Calls(t testing.TB) iter.Seq[int] {
	t.Helper()
	named(t, "ByNthCall")
	return func(yield func(int) bool) {
		for n := 1; yield(n); n += stride {
		}
	}
}

// Seeds yields the seeds of so many random runs, by the rules of [Calls]. The test's name has to
// end in BySeed.
func Seeds(t testing.TB, runs uint64) iter.Seq[uint64] {
	t.Helper()
	named(t, "BySeed")
	return func(yield func(uint64) bool) {
		for seed := uint64(0); seed < runs && yield(seed); seed += stride {
		}
	}
}

// named fails unless make unit finds the test to run it without the race detector.
func named(t testing.TB, end string) {
	t.Helper()
	if test, _, _ := strings.Cut(t.Name(), "/"); !strings.HasSuffix(test, end) {
		t.Fatalf("%s would run with the race detector only: its name has to end in %s", test, end)
	}
}
