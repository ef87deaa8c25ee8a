package courier

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"verneuil/chunkstore"
)

// TestOutages: an outage of a target is told when it begins, when it becomes another one, and when
// it ends, and not for each database and attempt; one that comes and goes is told once a minute.
func TestOutages(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	now := time.Unix(0, 0)
	var o Outages
	target, other := &chunkstore.Target{Name: "one"}, &chunkstore.Target{Name: "two"}
	refused := func(i int) error { return fmt.Errorf("put chunk %d: %w", i, syscall.ECONNREFUSED) }
	said := func(want ...string) {
		t.Helper()
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if out.Len() == 0 {
			lines = nil
		}
		for i := range max(len(lines), len(want)) {
			if len(lines) != len(want) || !strings.Contains(lines[i], want[i]) {
				t.Fatalf("said %q, want %q", lines, want)
			}
		}
		out.Reset()
	}
	for i := range 100 {
		o.failed(log, now, target, fmt.Sprint("database", i%10), refused(i))
	}
	o.failed(log, now, other, "database1", refused(1))
	said(`failed; commits wait`, `target=two`)
	o.failed(log, now, target, "database1", errors.New("NoSuchBucket"))
	said() // within a minute
	now = now.Add(2 * outageQuiet)
	o.failed(log, now, target, "database1", errors.New("NoSuchBucket"))
	said(`error=NoSuchBucket`)
	for i := range 10 {
		o.succeeded(log, now, target, fmt.Sprint("database", i))
		o.succeeded(log, now, target, fmt.Sprint("database", i))
	}
	said(`msg="target works again" target=one after=2m0s databases=10`)
	for range 5 { // it comes and goes
		o.failed(log, now, target, "database1", refused(1))
		o.succeeded(log, now, target, "database1")
	}
	said()
	now = now.Add(outageQuiet)
	o.failed(log, now, target, "database1", refused(1))
	said(`failed_before=5`)
	o.Forget("database1") // it is closed
	o.succeeded(log, now, target, "database1")
	said()
}
