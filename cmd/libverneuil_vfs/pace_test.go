package main_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"

	"verneuil/spool"
)

// versions returns how many versions of the database its target has.
func (s *site) versions(db string) int {
	s.t.Helper()
	return strings.Count(s.ctl("versions", "-s", s.path(db)), "\n")
}

// replicator returns the process that replicates the site's only spool.
func (s *site) replicator() (pid int) {
	s.t.Helper()
	state, err := os.ReadFile(s.glob("spool/*/state"))
	if err != nil {
		s.t.Fatal(err)
	}
	return spool.Token(binary.LittleEndian.Uint64(state[120:])).PID()
}

// TestOpenAndClose: a program that opens and closes its database for each request makes as
// many versions as one that keeps it open: here, with an interval of an hour, the first and
// what it sends when it ends. Another process that has the database open takes that over.
func TestOpenAndClose(t *testing.T) {
	for _, journal := range journals {
		t.Run(journal, func(t *testing.T) {
			s := dirSite(t)
			s.configure(map[string]any{"manifest_interval_ms": 3600_000})
			h := s.host()
			request := func(h *session, k int) {
				h.must(".open " + s.path("a.db"))
				h.must(fmt.Sprintf("insert into t values(%d)", k))
				h.must(".close")
			}
			h.must(".open " + s.path("a.db"))
			h.want("pragma journal_mode="+journal, journal)
			h.must("create table t(a)")
			h.flush()
			h.must(".close")
			first := s.versions("a.db") // or two, if it was empty in the first
			for k := range 20 {
				request(h, k)
			}
			until(t, "the first process replicates", func() bool { return s.replicator() == h.command.Process.Pid })
			other := s.host()
			for k := range 20 {
				request(other, 20+k)
			}
			other.endsWith(0) // what it leaves is h's to send
			if n := s.versions("a.db"); n != first {
				t.Errorf("%d versions, and then %d while the first process lives", first, n)
			}
			h.endsWith(0)
			if n := s.versions("a.db"); n != first+1 {
				t.Errorf("%d versions, and %d in the end", first, n)
			}
			s.stock("a.db", "pragma wal_checkpoint(truncate)")
			s.mustEqual("a.db")
		})
	}
}
