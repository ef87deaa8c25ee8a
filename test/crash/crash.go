// Package crash chooses the tests in which processes die or calls fail: make crash runs these and
// no others, many times and with many more calls than make test does. They are chosen by the
// variable VERNEUIL_FAULT_STRIDE and by what their package says of itself, not by their names.
//
// Only tests import it. It imports nothing of this module.
package crash

import (
	"flag"
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
