package limits_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"verneuil/spool"
	"verneuil/test/e2e/harness"
)

// versions returns the number of the newest version that the target has of the database.
func versions(s *harness.Site, db string) int {
	s.T.Helper()
	var newest struct{ Sequence int }
	text := s.Ctl("manifest", "--json", "-s", s.Path(db))
	if err := json.Unmarshal([]byte(text), &newest); err != nil {
		s.T.Fatalf("%v: %s", err, text)
	}
	return newest.Sequence
}

// replicator returns the process that replicates the site's only spool.
func replicator(s *harness.Site) (pid int) {
	s.T.Helper()
	state, err := os.ReadFile(s.Glob("spool/*/state"))
	if err != nil {
		s.T.Fatal(err)
	}
	return spool.Token(binary.LittleEndian.Uint64(state[120:])).PID()
}

// TestOpenAndClose: a program that opens and closes its database for each request makes as
// many versions as one that keeps it open: here, with an interval of an hour, the first and
// what it sends when it ends. Another process that has the database open takes that over.
func TestOpenAndClose(t *testing.T) {
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			s.Configure(map[string]any{"manifest_interval_ms": 3600_000})
			h := s.Host()
			request := func(h *harness.Process, k int) {
				h.Must(".open " + s.Path("a.db"))
				h.Must(fmt.Sprintf("insert into t values(%d)", k))
				h.Must(".close")
			}
			h.Must(".open " + s.Path("a.db"))
			h.Want("pragma journal_mode="+journal, journal)
			h.Must("create table t(a)")
			h.Flush()
			h.Must(".close")
			first := versions(s, "a.db") // or two, if it was empty in the first
			for k := range 20 {
				request(h, k)
			}
			harness.Until(t, "the first process replicates",
				func() bool { return replicator(s) == h.Command.Process.Pid })
			other := s.Host()
			for k := range 20 {
				request(other, 20+k)
			}
			other.EndsWith(0) // what it leaves is h's to send
			if n := versions(s, "a.db"); n != first {
				t.Errorf("%d versions, and then %d while the first process lives", first, n)
			}
			h.EndsWith(0)
			if n := versions(s, "a.db"); n != first+1 {
				t.Errorf("%d versions, and %d in the end", first, n)
			}
			s.Stock("a.db", "pragma wal_checkpoint(truncate)")
			s.MustEqual("a.db")
		})
	}
}
