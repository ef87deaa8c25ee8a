package harness

import (
	"math"
	"math/rand/v2"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"verneuil/test/crash"
)

// Bound is when a process is taken for one that hangs, and anything that a test waits for is
// given up: far beyond what any of them needs on a machine that is ten times as busy.
const Bound = 20 * time.Minute

// Nobody is a user other than the one who runs the tests, and has no processes: RLIMIT_NPROC
// counts all processes of a user.
const Nobody = 61534

// Journals are the journal modes that a test takes when it has no reason to take others.
var Journals = []string{"delete", "wal"}

// Main is for each package's TestMain: it runs the tests and returns the exit code. The given ones
// are those of make crash.
func Main(m *testing.M, crashes ...func(*testing.T)) int {
	// What this process ignores (SIGHUP, under nohup) its children would ignore, too. What it
	// handles, they do not.
	ends := []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM}
	for _, s := range ends {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	// Nor is what it was left open theirs (a log of whoever runs the tests): some are allowed few
	// descriptors. A kernel before 5.11 has not this flag, and leaves them.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	return crash.Main(m, crashes...)
}

// Must fails the test if err is an error.
func Must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Until polls until done says so, and fails the test after Bound.
func Until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(Bound); time.Now().Before(deadline); <-tick.C {
		if done() {
			return
		}
	}
	t.Fatalf("waited in vain for: %s", what)
}

// Number is a knob: how much of something a test does. It is the variable's value, or byDefault
// where it is not set.
func Number(t *testing.T, variable string, byDefault int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return byDefault
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s=%s", variable, text)
	}
	return n
}

// Stride returns the distance between the calls that are struck, and the first of them, from 1.
// VERNEUIL_FAULT_STRIDE and VERNEUIL_FAULT_FIRST set them; otherwise they are byDefault and random.
func Stride(t *testing.T, byDefault int) (first, step int) {
	t.Helper()
	step = max(Number(t, "VERNEUIL_FAULT_STRIDE", byDefault), 1)
	first = Number(t, "VERNEUIL_FAULT_FIRST", 1+rand.IntN(step))
	t.Logf("every call from %d by %d (VERNEUIL_FAULT_FIRST, VERNEUIL_FAULT_STRIDE)", first, step)
	return first, step
}
