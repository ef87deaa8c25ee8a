package cgo_test

import (
	"database/sql"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// replacing is a database that is replaced while a handle has it open.
type replacing struct {
	*testing.T
	path string
	old  *sql.Conn // stays open
}

func newReplacing(t *testing.T, journal string) *replacing {
	r := &replacing{T: t, path: filepath.Join(t.TempDir(), "replaced.db")}
	r.old = open(t, r.path, "")
	query(t, r.old, "pragma journal_mode="+journal)
	query(t, r.old, "pragma wal_autocheckpoint=5")
	mustExec(t, r.old, "create table t(a integer primary key, b)")
	mustExec(t, r.old, "insert into t(b) values('old')")
	flush(t, r.old)
	return r
}

// remove deletes the database with all that belongs to it.
func (r *replacing) remove() {
	r.Helper()
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Remove(r.path + suffix); err != nil && !os.IsNotExist(err) {
			r.Fatal(err)
		}
	}
}

// rename puts another database, closed and without a WAL, at the path.
func (r *replacing) rename(journal string) {
	r.Helper()
	other := filepath.Join(r.TempDir(), "other.db")
	c := open(r.T, other, "&vfs=unix")
	query(r.T, c, "pragma journal_mode="+journal)
	mustExec(r.T, c, "create table t(a integer primary key, b)")
	mustExec(r.T, c, "insert into t(b) values('renamed')")
	closeConn(r.T, c)
	r.remove()
	if err := os.Rename(other, r.path); err != nil {
		r.Fatal(err)
	}
}

// harmless does with the old handle what could harm the record of the new file. The old handle must
// not be in a rollback mode if the new file has a WAL: SQLite itself takes that WAL for the old
// file's.
func (r *replacing) harmless(flush func()) {
	r.Helper()
	for _, q := range []string{
		"insert into t(b) values('old')", "insert into t(b) values(randomblob(50000))",
		"pragma wal_checkpoint(restart)", "insert into t(b) values('old')",
		"begin immediate", "update t set b=zeroblob(1000)", "rollback",
		"pragma wal_checkpoint(truncate)", "update t set b='old'",
	} {
		// in a rollback mode SQLite says that the database has moved
		r.old.ExecContext(r.Context(), q)
		flush()
	}
	refused(r.T, r.old, "deleted, renamed or replaced")
}

// refused asks for a flush, which must fail and name that reason.
func refused(t *testing.T, c *sql.Conn, reason string) {
	t.Helper()
	var s string
	err := c.QueryRowContext(t.Context(), "pragma verneuil_flush_replication_data").Scan(&s)
	if err == nil || !strings.Contains(err.Error(), "is not replicated: ") ||
		!strings.Contains(err.Error(), reason) {
		t.Fatalf("a flush of what is replicated no more answers %q, %v", s, err)
	}
}

// TestReplaced: another file is put at the path of a database that is open. It is
// recorded at once; what the old handle does is its own affair.
func TestReplaced(t *testing.T) {
	modes := []string{"delete", "wal"}
	for _, before := range modes {
		for _, after := range modes {
			for _, how := range []string{"created", "renamed"} {
				t.Run(before+"/"+after+"/"+how, func(t *testing.T) {
					testReplaced(t, before, after, how)
				})
			}
		}
	}
}

func testReplaced(t *testing.T, before, after, how string) {
	r := newReplacing(t, before)
	if how == "created" {
		r.remove()
	} else {
		r.rename(after)
	}
	c := open(t, r.path, "&_busy_timeout=10000")
	query(t, c, "pragma journal_mode="+after)
	if how == "created" {
		mustExec(t, c, "create table t(a integer primary key, b)")
	}
	mustExec(t, c, "insert into t(b) values('new')")
	w := &walWorkload{
		T: t, r: rand.New(rand.NewPCG(1, 1)), path: r.path, conns: []*sql.Conn{c},
	}
	w.compare()
	if before == "wal" || after == "delete" {
		r.harmless(func() {
			mustExec(t, c, "insert into t(b) values('new')")
			w.compare()
		})
	}
	mustCount(t, restored(t, r.path), "old", 0)
	closeConn(t, r.old)
	mustExec(t, c, "insert into t(b) values('last')")
	flush(t, c)
	mustCount(t, restored(t, r.path), "last", 1)
	mustBeValid(t, c)
	closeConn(t, c)
}

// TestReplacedAndNotOpened: nobody but the old handle has it open. A flush finds the
// file that stands at the path now.
func TestReplacedAndNotOpened(t *testing.T) {
	for _, mode := range []string{"delete", "wal"} {
		t.Run(mode, func(t *testing.T) {
			r := newReplacing(t, mode)
			r.rename("delete")
			r.old.ExecContext(t.Context(), "insert into t(b) values('old')")
			refused(t, r.old, "deleted, renamed or replaced")
			c := open(t, r.path, "")
			flush(t, c)
			mustCount(t, restored(t, r.path), "renamed", 1)
			mustBeValid(t, c)
			closeConn(t, c)
			closeConn(t, r.old)
			mustEqual(t, r.path)
		})
	}
}

// TestReplacedInTransaction: the database is replaced in the middle of a transaction that
// has written to the file, and then commits.
func TestReplacedInTransaction(t *testing.T) {
	for _, mode := range []string{"delete", "memory", "wal"} {
		t.Run(mode, func(t *testing.T) {
			r := newReplacing(t, mode)
			mustExec(t, r.old, "pragma cache_size=5")
			mustExec(t, r.old, "begin")
			mustExec(t, r.old, "insert into t(b) values(randomblob(100000))")
			r.rename(mode)
			c := open(t, r.path, "")
			mustExec(t, c, "insert into t(b) values('new')")
			r.old.ExecContext(t.Context(), "commit")
			flush(t, c)
			mustCount(t, restored(t, r.path), "new", 1)
			mustExec(t, c, "insert into t(b) values('new')")
			flush(t, c)
			mustCount(t, restored(t, r.path), "new", 2)
			mustCount(t, restored(t, r.path), "renamed", 1)
			mustBeValid(t, c)
			closeConn(t, r.old)
			closeConn(t, c)
			mustEqual(t, r.path)
		})
	}
}

// TestReplacedBack: the database is moved away and back while a handle has it open.
func TestReplacedBack(t *testing.T) {
	for _, mode := range []string{"delete", "wal"} {
		t.Run(mode, func(t *testing.T) {
			r := newReplacing(t, mode)
			away := filepath.Join(t.TempDir(), "away.db")
			for _, suffix := range []string{"", "-wal", "-shm"} {
				if err := os.Rename(r.path+suffix, away+suffix); err != nil && !os.IsNotExist(err) {
					t.Fatal(err)
				}
			}
			c := open(t, r.path, "")
			mustExec(t, c, "create table u(v)")
			flush(t, c)
			closeConn(t, c)
			r.remove()
			for _, suffix := range []string{"", "-wal", "-shm"} {
				if err := os.Rename(away+suffix, r.path+suffix); err != nil && !os.IsNotExist(err) {
					t.Fatal(err)
				}
			}
			mustExec(t, r.old, "insert into t(b) values('back')")
			flush(t, r.old)
			mustCount(t, restored(t, r.path), "back", 1)
			mustBeValid(t, r.old)
			closeConn(t, r.old)
		})
	}
}
