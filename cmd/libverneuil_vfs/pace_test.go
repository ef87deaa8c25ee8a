package main_test

import (
	"fmt"
	"strings"
	"testing"
)

// versions returns how many versions of the database its target has.
func (s *site) versions(db string) int {
	s.t.Helper()
	return strings.Count(s.ctl("versions", "-s", s.path(db)), "\n")
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
			for k := range 20 {
				request(h, k)
			}
			other := s.host()
			for k := range 20 {
				request(other, 20+k)
			}
			other.endsWith(0) // what it leaves is h's to send
			if n := s.versions("a.db"); n != 1 {
				t.Errorf("%d versions while the first process lives", n)
			}
			h.endsWith(0)
			if n := s.versions("a.db"); n != 2 {
				t.Errorf("%d versions", n)
			}
			s.stock("a.db", "pragma wal_checkpoint(truncate)")
			s.mustEqual("a.db")
		})
	}
}
