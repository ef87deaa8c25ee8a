package hosts_test

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"verneuil/test/e2e/harness"
)

// keepsAttach holds the lock that openings of the site's only database take, as a process does
// that is stopped while it makes the spool. It returns the lock's path, and gives it back when
// release is called.
func keepsAttach(s *harness.Site) (path string, release func()) {
	s.T.Helper()
	path = s.Glob("spool/*/attach")
	f, err := os.Open(path)
	harness.Must(s.T, err)
	harness.Must(s.T, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	return path, func() { f.Close() }
}

// waiting returns how many openings wait for the lock at path.
func waiting(h *harness.Process, path string) (n int) {
	for _, link := range links(h) {
		if link == path {
			n++
		}
	}
	return n
}

// openingAt starts a host that has created a.db, and closed it.
func openingAt(s *harness.Site) *harness.Process {
	h := s.Host()
	h.Must(".open " + s.Path("a.db"))
	h.Must("create table t(b)")
	h.Must(".close")
	return h
}

// TestOpeningsWaitTogether: a stopped process holds the lock of a database's spool. All threads
// that open the database wait for it at the same time, and not one after the other.
func TestOpeningsWaitTogether(t *testing.T) {
	s := harness.DirSite(t)
	h := openingAt(s)
	path, release := keepsAttach(s)
	h.Send(".crowd 4 " + s.Path("a.db"))
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); waiting(h, path) < 2; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("no two threads wait for the lock at the same time")
		}
	}
	release()
	h.Must(".open " + s.Path("a.db"))
	h.Must("insert into t values('x')")
	h.Flush()
	h.EndsWith(0)
	s.MustEqual("a.db")
}

// TestOpeningWaitsAlone: while an opening waits for such a process, another database is opened,
// and the host forks.
func TestOpeningWaitsAlone(t *testing.T) {
	s := harness.DirSite(t)
	h := openingAt(s)
	path, release := keepsAttach(s)
	defer release()
	for range 20 { // on a busy machine the waiting opening may be given up before the other ends
		h.Must(".begin " + s.Path("a.db"))
		harness.Until(t, "an opening waits", func() bool { return waiting(h, path) > 0 })
		h.Must(".open " + s.Path("b.db"))
		h.Must("create table if not exists t(b)")
		h.Send(".fork")
		h.Send(".leave 0")
		h.Want(".print parent", "child: exit 0\nparent")
		alone := waiting(h, path) > 0
		h.Must(".join")
		if alone {
			h.Flush()
			h.EndsWith(0)
			s.MustEqual("b.db")
			return
		}
	}
	t.Fatal("whatever the host does, it ends after the opening that waits")
}

// TestStatusWhileOpening: another thread asks for the status while an opening waits, whose spool
// has no state yet.
func TestStatusWhileOpening(t *testing.T) {
	s := harness.DirSite(t)
	h := openingAt(s)
	h.Must(".open " + s.Path("b.db"))
	path, release := keepsAttach(s)
	defer release()
	for range 20 { // as above
		h.Must(".begin " + s.Path("a.db"))
		harness.Until(t, "an opening waits", func() bool { return waiting(h, path) > 0 })
		h.Want("select verneuil_status() like '{%'", "1")
		alone := waiting(h, path) > 0
		h.Must(".join")
		if alone {
			h.EndsWith(0)
			return
		}
	}
	t.Fatal("whenever the status is there, the opening has ended")
}
