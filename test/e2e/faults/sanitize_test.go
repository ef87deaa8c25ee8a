package faults_test

import (
	"path/filepath"
	"strings"
	"testing"

	"verneuil/test/e2e/harness"
)

// TestSanitizers: C is clean under ASan, UBSan and TSan, over the system's SQLite and over a
// librados that answers in odd ways. make sanitize does more of it, and valgrind, over an SQLite
// that is instrumented too.
func TestSanitizers(t *testing.T) {
	harness.Library(t) // not without make test: it takes some seconds
	r := harness.Run(t, []string{"SHARED=1"}, filepath.Join("..", "..", "sanitize", "run.sh"),
		t.TempDir(), harness.GoSQLite(t), "1", "40", "address", "thread")
	const runs = 4 // of the driver and the binding, with two tools
	if r.Code != 0 || strings.Count(r.Stdout, ": done") != runs {
		t.Errorf("exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
}
