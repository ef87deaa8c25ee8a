package hosts_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"verneuil/test/e2e/harness"
)

// TestForkBeforeOpen: the child of a process that has opened nothing replicates by
// itself, and so does its parent afterwards.
func TestForkBeforeOpen(t *testing.T) {
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			h := s.Host()
			h.Send(".fork")
			h.Must(".open " + s.Path("child.db"))
			h.Want("pragma journal_mode="+journal, journal)
			h.Must("create table t(a integer primary key, b)")
			h.Must("insert into t(b) values(randomblob(100000))")
			h.Flush()
			h.Must(".close")
			h.Want(".leave 0", "child: exit 0")
			s.MustEqual("child.db")

			h.Must(".open " + s.Path("child.db"))
			h.Must("insert into t(b) values(randomblob(100000))")
			h.Flush()
			h.EndsWith(0)
			s.MustEqual("child.db")
		})
	}
}

// TestForkAfterOpen: children of a process that replicates record on connections of
// their own; the parent sends what they have committed.
func TestForkAfterOpen(t *testing.T) {
	const children, inserts = 3, 20
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			h := s.Host()
			h.Must(".open " + s.Path("a.db"))
			h.Want("pragma journal_mode="+journal, journal)
			h.Must("create table t(a integer primary key, b)")
			h.Flush()
			for child := range children {
				h.Send(".fork")
				h.Must(".open " + s.Path("a.db"))
				for range inserts {
					h.Must("insert into t(b) values(randomblob(3000))")
				}
				h.Flush() // by its parent
				if status := h.Ask("select verneuil_status()"); !strings.HasPrefix(status, "{") {
					t.Errorf("verneuil_status() in the child: %q", status)
				}
				h.Must(".close")
				h.Want(".leave 0", "child: exit 0")
				h.Must("insert into t(b) values('parent')")
				h.Flush()
				h.Want("select count(*) from t", strconv.Itoa((child+1)*(inserts+1)))
				if journal == "delete" {
					s.MustEqual("a.db")
				}
			}
			h.EndsWith(0)
			s.MustEqual("a.db")
			if ok := s.Stock("a.db", "pragma integrity_check"); ok != "ok" {
				t.Errorf("integrity check: %s", ok)
			}
		})
	}
}

// TestForkAfterClose: the parent has run Go and has no database open. What its child
// commits is sent as soon as the parent's own commits would be.
func TestForkAfterClose(t *testing.T) {
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			h := s.Host()
			h.Must(".open " + s.Path("a.db"))
			h.Want("pragma journal_mode="+journal, journal)
			h.Must("create table t(b)")
			h.Flush()
			h.Must(".close")
			h.Send(".fork")
			h.Must(".open " + s.Path("new.db"))
			h.Must("create table t(b)")
			h.Must("insert into t values('first of all')")
			s.UntilRestored("new.db", "select b from t", "first of all")
			h.Must(".open " + s.Path("a.db"))
			h.Must("insert into t values('child')")
			s.UntilRestored("a.db", "select b from t", "child")
			h.Flush()
			h.Want(".leave 0", "child: exit 0") // and has not closed it
			h.EndsWith(0)
			s.Stock("a.db", "pragma wal_checkpoint(truncate)")
			s.MustEqual("a.db")
		})
	}
}

// TestForkInTransaction: a child closes, or uses, what it has inherited in the middle of a
// transaction that had spilled. SQLite forbids it, and the database may be damaged: but
// nobody crashes, and what is in the target is as the database is. (Not in WAL mode: there
// the child spoils the wal-index, and the database is not what its WAL says.)
func TestForkInTransaction(t *testing.T) {
	for _, journal := range harness.Journals {
		for _, use := range []string{".close", "insert into t(b) values(randomblob(100000))"} {
			t.Run(journal+"/"+use, func(t *testing.T) {
				s := harness.DirSite(t)
				h := s.Host()
				h.Must(".open " + s.Path("a.db"))
				h.Want("pragma journal_mode="+journal, journal)
				h.Must("create table t(a integer primary key, b)")
				h.Must("pragma cache_size=5")
				h.Must("begin")
				h.Must("with recursive n(i) as (select 1 union all select i+1 from n limit 50) " +
					"insert into t(b) select randomblob(5000) from n")
				h.Send(".fork keep")
				h.Ask(use)
				h.Want(".leave 0", "child: exit 0")
				h.Ask("insert into t(b) values('parent')")
				h.Ask("commit")
				h.Ask("rollback")
				h.Ask("pragma wal_checkpoint(truncate)")
				h.Flush()
				if journal == "delete" {
					s.MustEqual("a.db")
				}
				h.EndsWith(0)
			})
		}
	}
}

// TestForkDiscards: a child closes the files of the connection that it has inherited, and not the
// connection, as Ruby's sqlite3 does; then it works with its own. Its parent's goes on, in the
// transaction in which it was.
func TestForkDiscards(t *testing.T) {
	for _, journal := range harness.Journals {
		for _, open := range []string{"select 1", "begin", "begin immediate"} {
			t.Run(journal+"/"+open, func(t *testing.T) {
				s := harness.DirSite(t)
				h := s.Host()
				h.Must(".open " + s.Path("a.db"))
				h.Want("pragma journal_mode="+journal, journal)
				h.Must("create table t(a integer primary key, b)")
				h.Must("insert into t(b) values(randomblob(3000))")
				h.Ask(open)
				h.Ask("select count(*) from t")
				h.Send(".fork keep")
				h.Send(".discard")
				h.Must(".open " + s.Path("a.db"))
				h.Want("pragma busy_timeout=1", "1")
				wrote := h.Ask("insert into t(b) values(randomblob(3000))")
				// Or a reader, where readers hold up writers.
				want := open == "begin immediate" || open == "begin" && journal == "delete"
				if strings.Contains(wrote, "locked") != want {
					t.Errorf("the child's insert says %q", wrote)
				}
				h.Want(".leave 0", "child: exit 0")
				h.Ask("commit")
				h.Must("insert into t(b) values('parent')")
				h.Flush()
				h.Want("pragma integrity_check", "ok")
				h.Ask("pragma wal_checkpoint(truncate)")
				h.EndsWith(0)
				s.MustEqual("a.db")
			})
		}
	}
}

// TestForkWhileThreadsWrite: a fork in the middle of other threads' transactions; the
// children write another database. What stock SQLite does not survive either (its own
// mutexes may be held), we need not.
func TestForkWhileThreadsWrite(t *testing.T) {
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			h := s.Host()
			done, said := storm(s, h, journal, "verneuil")
			if strings.Contains(said, "hangs in libverneuil") {
				t.Fatalf("a child hangs in the extension: %s", said)
			}
			for try := 0; said != "" && !strings.Contains(said, "hangs in libsqlite3"); try++ {
				if _, stock := storm(s, s.Host(), journal, "unix"); stock != "" {
					said += "\nwith vfs=unix: " + stock
					break
				}
				if try == 3 {
					t.Fatalf("children fail, and not with vfs=unix: %s", said)
				}
			}
			if said != "" {
				t.Logf("as with stock SQLite: %s", said)
			}
			h.Flush()
			h.Must(".open " + s.Path("verneuil-other.db"))
			h.Want("select count(*) from t", strconv.Itoa(done))
			h.Flush()
			h.EndsWith(0)
			for _, db := range []string{"verneuil.db", "verneuil-other.db"} {
				s.MustEqual(db)
				if ok := s.Stock(db, "pragma integrity_check"); ok != "ok" {
					t.Errorf("integrity check of %s: %s", db, ok)
				}
			}
		})
	}
}

// storm forks children while threads write, returns how many of them did their
// insert, and what the others said.
func storm(s *harness.Site, h *harness.Process, journal, vfs string) (done int, said string) {
	s.T.Helper()
	const children = 5
	for _, db := range []string{vfs + "-other.db", vfs + ".db"} {
		h.Must(".open file:" + s.Path(db) + "?vfs=" + vfs)
		h.Want("pragma journal_mode="+journal, journal)
		h.Must("create table if not exists t(a integer primary key, b)")
	}
	answer := h.Ask(fmt.Sprintf(".storm %d file:%s?vfs=%s", children, s.Path(vfs+"-other.db"), vfs))
	at := strings.LastIndex(answer, "done: ")
	if at < 0 {
		s.T.Fatalf("the host says %q", answer)
	}
	fmt.Sscanf(answer[at:], "done: %d", &done)
	return done, strings.TrimSpace(answer[:at])
}

// TestForkWhileWALsOpen: the locks that are held over a fork are taken in the order in
// which opening and closing a WAL takes them.
func TestForkWhileWALsOpen(t *testing.T) {
	forks := "2000"
	if testing.Short() {
		forks = "200"
	}
	s := harness.DirSite(t)
	h := s.Host()
	h.Must(".open file:" + s.Path("a.db") + "?vfs=verneuil")
	h.Want("pragma journal_mode=wal", "wal")
	h.Must("create table t(a integer primary key, b)")
	h.Want(".churn "+forks, "done: "+forks)
	h.Flush()
	h.EndsWith(0)
	s.MustEqual("a.db")
}

// TestForkWhileHolding: a child that closes the connection that it has inherited does not
// say that its parent, under locking EXCLUSIVE, has given RESERVED up.
func TestForkWhileHolding(t *testing.T) {
	s := harness.DirSite(t)
	h := s.Host()
	h.Must(".open " + s.Path("a.db"))
	h.Want("pragma locking_mode=exclusive", "exclusive")
	h.Must("create table t(a integer primary key, b)")
	holder := func() (token [8]byte) {
		f, err := os.Open(s.Glob("spool/*/state"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.ReadAt(token[:], 4088); err != nil { // spool/doc.go
			t.Fatal(err)
		}
		return token
	}
	before := holder()
	h.Send(".fork keep")
	h.Send(".close")
	h.Send(".leave 0")
	h.Want(".print parent", "child: exit 0\nparent")
	if after := holder(); before == [8]byte{} || after != before {
		t.Errorf("the holder was %x, and is %x", before, after)
	}
	h.Flush()
	h.EndsWith(0)
	s.MustEqual("a.db")
}

// TestCopyBetween: a child rolls back what its parent has spilled, and a base copy has seen that
// when the parent commits. What the parent had written before it is in the log, and must not be put
// on top of the copy.
func TestCopyBetween(t *testing.T) {
	s := harness.DirSite(t)
	h := s.Host()
	h.Must(".open " + s.Path("a.db"))
	h.Must("create table t(a integer primary key, b)")
	h.Flush()
	h.Must("pragma cache_size=5")
	h.Must("begin")
	h.Must("with recursive n(i) as (select 1 union all select i+1 from n limit 50) insert into " +
		"t(b) select randomblob(5000) from n")
	h.Send(".fork keep")
	h.Ask(".close")
	h.Want(".leave 0", "child: exit 0")
	wake, err := os.OpenFile(s.Glob("spool/*/wake"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer wake.Close()
	if _, err := wake.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(h.Ask("select verneuil_status()"), "waiting for a transaction to end") {
	}
	h.Ask("insert into t(b) values('parent')")
	h.Ask("commit")
	h.Ask("rollback")
	h.Flush()
	s.MustEqual("a.db")
	h.EndsWith(0)
}

// TestForkInHandler: a handler that interrupts the opening of a database may fork.
func TestForkInHandler(t *testing.T) {
	s := harness.DirSite(t)
	program := s.Compile(harness.InHosts("forks.c"), "-Wextra", "-Werror", "-l:libsqlite3.so.0")
	r := harness.Run(t, []string{s.Env()}, program, harness.Library(t), s.Path("a.db"), "100")
	if r.Code != 0 || !strings.HasSuffix(r.Stdout, " children\n") {
		t.Errorf("exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	s.Ctl("flush", s.Path("spool"))
	s.MustEqual("a.db")
}

// TestForkWithin: wherever in SQLite a process is forked, by a handler or by a VFS below ours, the
// child that goes on there does not end by that, nor does its parent.
func TestForkWithin(t *testing.T) {
	for _, mode := range harness.Journals {
		t.Run(mode, func(t *testing.T) {
			s := harness.DirSite(t)
			program := s.Compile(harness.InHosts("forksin.c"), "-Wextra", "-Werror",
				"-l:libsqlite3.so.0")
			r := harness.Run(t, []string{s.Env()}, program, harness.Library(t), s.Path("a.db"),
				mode)
			var n int
			fmt.Sscanf(r.Stdout, "%d forks", &n)
			if r.Code != 0 || n < 50 {
				t.Errorf("exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
			}
		})
	}
}
