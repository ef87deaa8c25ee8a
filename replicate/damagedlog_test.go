package replicate

import (
	"os"
	"path/filepath"
	"testing"
)

// A changelog that is damaged costs a base copy, not a flush: what it said, the database has. The
// recorder goes on in the same segment, so that it costs one for each look until that is full.
func TestDamagedLogFailsNoFlush(t *testing.T) {
	w := newWorld(t, 31, 1)
	r := w.replicator()
	defer w.run(r)()
	w.transact(5)
	w.mustFlush(r)
	for range 3 {
		segments, err := filepath.Glob(filepath.Join(w.sp.Dir(), "log.*"))
		if err != nil || len(segments) == 0 {
			t.Fatal(segments, err)
		}
		for _, name := range segments {
			f, err := os.OpenFile(name, os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteAt([]byte("no header"), 0)
				f.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		w.transact(2)
		w.mustFlush(r)
		w.equal(0, "after the log was damaged")
	}
}
