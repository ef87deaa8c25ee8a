package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// hostProgram compiles test/hosts/host.c against SQLite's shared library, once, to
// a place beside the extension.
func hostProgram(t *testing.T) string {
	t.Helper()
	hostOnce.Do(func() {
		program := filepath.Join(filepath.Dir(library(t)), "host")
		r := run(t, nil, "gcc", "-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-I"+goSQLite(t),
			"-o", program, filepath.Join("..", "..", "test", "hosts", "host.c"), "-l:libsqlite3.so.0", "-lpthread", "-ldl")
		if r.code != 0 {
			t.Fatalf("compile host.c: %s%s", r.stdout, r.stderr)
		}
		hostPath = program
	})
	if hostPath == "" {
		t.Fatal("host.c was not compiled")
	}
	return hostPath
}

var (
	hostOnce sync.Once
	hostPath string
)

func (s *site) host() *session {
	s.t.Helper()
	return start(s.t, []string{s.env()}, hostProgram(s.t), library(s.t))
}

var journals = []string{"delete", "wal"}

// TestForkBeforeOpen: the child of a process that has opened nothing replicates by
// itself, and so does its parent afterwards.
func TestForkBeforeOpen(t *testing.T) {
	for _, journal := range journals {
		t.Run(journal, func(t *testing.T) {
			s := dirSite(t)
			h := s.host()
			h.send(".fork")
			h.must(".open " + s.path("child.db"))
			h.want("pragma journal_mode="+journal, journal)
			h.must("create table t(a integer primary key, b)")
			h.must("insert into t(b) values(randomblob(100000))")
			h.flush()
			h.must(".close")
			h.want(".leave 0", "child: exit 0")
			s.mustEqual("child.db")

			h.must(".open " + s.path("child.db"))
			h.must("insert into t(b) values(randomblob(100000))")
			h.flush()
			h.endsWith(0)
			s.mustEqual("child.db")
		})
	}
}

// TestForkAfterOpen: children of a process that replicates record on connections of
// their own; the parent sends what they have committed.
func TestForkAfterOpen(t *testing.T) {
	const children, inserts = 3, 20
	for _, journal := range journals {
		t.Run(journal, func(t *testing.T) {
			s := dirSite(t)
			h := s.host()
			h.must(".open " + s.path("a.db"))
			h.want("pragma journal_mode="+journal, journal)
			h.must("create table t(a integer primary key, b)")
			h.flush()
			for child := range children {
				h.send(".fork")
				h.must(".open " + s.path("a.db"))
				for range inserts {
					h.must("insert into t(b) values(randomblob(3000))")
				}
				h.flush() // by its parent
				if status := h.ask("select verneuil_status()"); !strings.HasPrefix(status, "{") {
					t.Errorf("verneuil_status() in the child: %q", status)
				}
				h.must(".close")
				h.want(".leave 0", "child: exit 0")
				h.must("insert into t(b) values('parent')")
				h.flush()
				h.want("select count(*) from t", strconv.Itoa((child+1)*(inserts+1)))
				if journal == "delete" {
					s.mustEqual("a.db")
				}
			}
			h.endsWith(0)
			s.mustEqual("a.db")
			if ok := s.stock("a.db", "pragma integrity_check"); ok != "ok" {
				t.Errorf("integrity check: %s", ok)
			}
		})
	}
}

// TestForkAfterClose: the parent has run Go and has no database open. What its child
// commits is sent as soon as the parent's own commits would be.
func TestForkAfterClose(t *testing.T) {
	for _, journal := range journals {
		t.Run(journal, func(t *testing.T) {
			s := dirSite(t)
			h := s.host()
			h.must(".open " + s.path("a.db"))
			h.want("pragma journal_mode="+journal, journal)
			h.must("create table t(b)")
			h.flush()
			h.must(".close")
			h.send(".fork")
			h.must(".open " + s.path("new.db"))
			h.must("create table t(b)")
			h.must("insert into t values('first of all')")
			s.untilRestored("new.db", "select b from t", "first of all")
			h.must(".open " + s.path("a.db"))
			h.must("insert into t values('child')")
			s.untilRestored("a.db", "select b from t", "child")
			h.flush()
			h.want(".leave 0", "child: exit 0") // and has not closed it
			h.endsWith(0)
			s.stock("a.db", "pragma wal_checkpoint(truncate)")
			s.mustEqual("a.db")
		})
	}
}

// TestForkInTransaction: a child closes, or uses, what it has inherited in the middle of a
// transaction that had spilled. SQLite forbids it, and the database may be damaged: but
// nobody crashes, and what is in the target is as the database is. (Not in WAL mode: there
// the child spoils the wal-index, and the database is not what its WAL says.)
func TestForkInTransaction(t *testing.T) {
	for _, journal := range journals {
		for _, use := range []string{".close", "insert into t(b) values(randomblob(100000))"} {
			t.Run(journal+"/"+use, func(t *testing.T) {
				s := dirSite(t)
				h := s.host()
				h.must(".open " + s.path("a.db"))
				h.want("pragma journal_mode="+journal, journal)
				h.must("create table t(a integer primary key, b)")
				h.must("pragma cache_size=5")
				h.must("begin")
				h.must("with recursive n(i) as (select 1 union all select i+1 from n limit 50) insert into t(b) select randomblob(5000) from n")
				h.send(".fork keep")
				h.ask(use)
				h.want(".leave 0", "child: exit 0")
				h.ask("insert into t(b) values('parent')")
				h.ask("commit")
				h.ask("rollback")
				h.ask("pragma wal_checkpoint(truncate)")
				h.flush()
				if journal == "delete" {
					s.mustEqual("a.db")
				}
				h.endsWith(0)
			})
		}
	}
}

// TestForkWhileThreadsWrite: a fork in the middle of other threads' transactions; the
// children write another database. What stock SQLite does not survive either (its own
// mutexes may be held), we need not.
func TestForkWhileThreadsWrite(t *testing.T) {
	for _, journal := range journals {
		t.Run(journal, func(t *testing.T) {
			s := dirSite(t)
			h := s.host()
			done, said := s.storm(h, journal, "verneuil")
			if strings.Contains(said, "hangs in libverneuil") {
				t.Fatalf("a child hangs in the extension: %s", said)
			}
			for try := 0; said != "" && !strings.Contains(said, "hangs in libsqlite3"); try++ {
				if _, stock := s.storm(s.host(), journal, "unix"); stock != "" {
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
			h.flush()
			h.must(".open " + s.path("verneuil-other.db"))
			h.want("select count(*) from t", strconv.Itoa(done))
			h.flush()
			h.endsWith(0)
			for _, db := range []string{"verneuil.db", "verneuil-other.db"} {
				s.mustEqual(db)
				if ok := s.stock(db, "pragma integrity_check"); ok != "ok" {
					t.Errorf("integrity check of %s: %s", db, ok)
				}
			}
		})
	}
}

// storm forks children while threads write, returns how many of them did their
// insert, and what the others said.
func (s *site) storm(h *session, journal, vfs string) (done int, said string) {
	s.t.Helper()
	const children = 5
	for _, db := range []string{vfs + "-other.db", vfs + ".db"} {
		h.must(".open file:" + s.path(db) + "?vfs=" + vfs)
		h.want("pragma journal_mode="+journal, journal)
		h.must("create table if not exists t(a integer primary key, b)")
	}
	answer := h.ask(fmt.Sprintf(".storm %d file:%s?vfs=%s", children, s.path(vfs+"-other.db"), vfs))
	at := strings.LastIndex(answer, "done: ")
	if at < 0 {
		s.t.Fatalf("the host says %q", answer)
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
	s := dirSite(t)
	h := s.host()
	h.must(".open file:" + s.path("a.db") + "?vfs=verneuil")
	h.want("pragma journal_mode=wal", "wal")
	h.must("create table t(a integer primary key, b)")
	h.want(".churn "+forks, "done: "+forks)
	h.flush()
	h.endsWith(0)
	s.mustEqual("a.db")
}

// TestForkWhileHolding: a child that closes the connection that it has inherited does not
// say that its parent, under locking EXCLUSIVE, has given RESERVED up.
func TestForkWhileHolding(t *testing.T) {
	s := dirSite(t)
	h := s.host()
	h.must(".open " + s.path("a.db"))
	h.want("pragma locking_mode=exclusive", "exclusive")
	h.must("create table t(a integer primary key, b)")
	holder := func() (token [8]byte) {
		f, err := os.Open(s.glob("spool/*/state"))
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
	h.send(".fork keep")
	h.send(".close")
	h.send(".leave 0")
	h.want(".print parent", "child: exit 0\nparent")
	if after := holder(); before == [8]byte{} || after != before {
		t.Errorf("the holder was %x, and is %x", before, after)
	}
	h.flush()
	h.endsWith(0)
	s.mustEqual("a.db")
}

// TestCopyBetween: a child rolls back what its parent has spilled, and a base copy has seen that
// when the parent commits. What the parent had written before it is in the log, and must not be put
// on top of the copy.
func TestCopyBetween(t *testing.T) {
	s := dirSite(t)
	h := s.host()
	h.must(".open " + s.path("a.db"))
	h.must("create table t(a integer primary key, b)")
	h.flush()
	h.must("pragma cache_size=5")
	h.must("begin")
	h.must("with recursive n(i) as (select 1 union all select i+1 from n limit 50) insert into t(b) select randomblob(5000) from n")
	h.send(".fork keep")
	h.ask(".close")
	h.want(".leave 0", "child: exit 0")
	wake, err := os.OpenFile(s.glob("spool/*/wake"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer wake.Close()
	if _, err := wake.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(h.ask("select verneuil_status()"), "waiting for a transaction to end") {
	}
	h.ask("insert into t(b) values('parent')")
	h.ask("commit")
	h.ask("rollback")
	h.flush()
	s.mustEqual("a.db")
	h.endsWith(0)
}

// TestForkInHandler: a handler that interrupts the opening of a database may fork.
func TestForkInHandler(t *testing.T) {
	s := dirSite(t)
	program := filepath.Join(s.dir, "forks")
	r := run(t, nil, "gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-I"+goSQLite(t), "-o", program,
		inHosts("forks.c"), "-l:libsqlite3.so.0")
	if r.code != 0 {
		t.Fatalf("compile forks.c: %s%s", r.stdout, r.stderr)
	}
	r = run(t, []string{s.env()}, program, library(t), s.path("a.db"), "100")
	if r.code != 0 || !strings.HasSuffix(r.stdout, " children\n") {
		t.Errorf("exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	s.ctl("flush", s.path("spool"))
	s.mustEqual("a.db")
}
