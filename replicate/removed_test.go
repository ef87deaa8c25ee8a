package replicate

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFilesRemoved: whatever a cleaner takes from the spool of two replicators, one of which
// stands by, while transactions are recorded: every flush that succeeds means it, and what is
// missing is there again.
func TestFilesRemoved(t *testing.T) {
	for _, name := range []string{"lock", "boot", "attach", "wake", "source.json", "tree",
		"lock+boot+tree+wake"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, 1)
			a, b := w.replicator(), w.replicator()
			defer w.run(a)()
			w.transact(100)
			w.mustFlush(a)
			defer w.run(b)()
			for round := range 12 {
				for range 5 {
					w.transact(100)
				}
				for _, file := range filesIn(name) {
					if err := os.RemoveAll(filepath.Join(w.sp.Dir(), file)); err != nil {
						t.Fatal(err)
					}
				}
				for range 5 {
					w.transact(100)
				}
				for i, r := range []*Replicator{a, b} {
					w.mustFlush(r)
					w.equal(0, fmt.Sprintf("round %d, replicator %d", round, i))
				}
				w.transact(100)
				w.mustFlush(b)
				w.equal(0, fmt.Sprintf("round %d, a flush by one that stands by", round))
			}
		})
	}
}

// filesIn returns the names that a +-separated list has.
func filesIn(list string) []string { return strings.Split(list, "+") }

// TestDeletedUnderAnAttempt: what an attempt meets while somebody deletes the spool is no failure.
func TestDeletedUnderAnAttempt(t *testing.T) {
	w := newWorld(t, 1, 1)
	if err := os.RemoveAll(w.sp.Dir()); err != nil {
		t.Fatal(err)
	}
	_, err := w.sp.TryLock()
	if end := endOf(w.sp, err); err == nil || end != spoolLost {
		t.Errorf("%v ends it as %d, want %d", err, end, spoolLost)
	}
}
