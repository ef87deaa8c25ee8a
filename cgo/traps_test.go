package cgo_test

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Each test here is of one thing that WAL mode, or what a dead writer leaves, does in its
// own way. The random workloads meet most of them, too, in some order or other.

// comparing returns a connection to a database with a table t, in a journal mode, and a
// workload that compares it.
func comparing(t *testing.T, journal string) (c *sql.Conn, w *walWorkload) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "trap.db")
	c = open(t, path, "&_busy_timeout=10000")
	query(t, c, "pragma journal_mode="+journal)
	mustExec(t, c, "create table t(a integer primary key, b)")
	mustExec(t, c, "insert into t(b) values('first')")
	return c, &walWorkload{T: t, r: rand.New(rand.NewPCG(1, 1)), path: path, conns: []*sql.Conn{c}}
}

// TestHeapIndex: locking_mode=exclusive from the first access on keeps the wal-index on the
// heap; nobody else sees what is committed. The process is killed, twice.
func TestHeapIndex(t *testing.T) {
	for _, point := range []string{dieBegun, dieSpilled, dieInCommit, dieAfter} {
		t.Run(point, func(t *testing.T) {
			c, w := comparing(t, "wal")
			closeConn(t, c)
			rows := 1
			for seed := range uint64(2) {
				rows += startChild(t, w.path, "exclusive-wal", point, 5, seed)()
			}
			w.conns[0] = open(t, w.path, "&_busy_timeout=10000")
			if n := query(t, w.conns[0], "select count(*) from t"); n != strconv.Itoa(rows) {
				t.Fatalf("%s rows, %d were committed", n, rows)
			}
			w.compare()
			w.insert(w.conns[0])
			w.compare()
			mustBeValid(t, w.conns[0])
		})
	}
}

// TestStaleIndex: with the wal-index on the heap, a -shm that somebody has left, of an earlier
// WAL, says nothing.
func TestStaleIndex(t *testing.T) {
	c, w := comparing(t, "wal")
	stale, err := os.ReadFile(w.path + "-shm")
	if err != nil {
		t.Fatal(err)
	}
	closeConn(t, c)
	if err := os.WriteFile(w.path+"-shm", stale, 0o600); err != nil {
		t.Fatal(err)
	}
	c = open(t, w.path, "&_busy_timeout=10000&_locking=EXCLUSIVE")
	w.conns[0] = c
	for range 3 {
		for range 3 {
			w.insert(c)
			w.compare()
		}
		mustExec(t, c, "pragma wal_checkpoint(truncate)")
	}
	mustBeValid(t, c)
}

// TestLeftByStock: stock SQLite was killed before we see the database for the first time.
// It leaves a WAL, or a hot rollback journal.
func TestLeftByStock(t *testing.T) {
	for _, journal := range []string{"wal", "delete", "persist"} {
		for _, point := range []string{dieSpilled, dieInCommit, dieAfter} {
			t.Run(journal+"/"+point, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "left.db")
				c := open(t, path, "&vfs=unix")
				query(t, c, "pragma journal_mode="+journal)
				mustExec(t, c, "create table t(a integer primary key, b)")
				closeConn(t, c)
				rows := startChild(t, path, "stock-"+journal, point, 3, 7)()
				c = open(t, path, "&_busy_timeout=10000")
				w := &walWorkload{
					T: t, r: rand.New(rand.NewPCG(1, 1)), path: path, conns: []*sql.Conn{c},
				}
				if n := query(t, c, "select count(*) from t"); n != strconv.Itoa(rows) {
					t.Fatalf("%s rows, %d were committed", n, rows)
				}
				w.compare()
				w.insert(c)
				w.compare()
				mustBeValid(t, c)
			})
		}
	}
}

// TestKilledWithoutJournal: without a journal on disk nothing brings the database
// back. Whatever SQLite makes of it, it is replicated.
func TestKilledWithoutJournal(t *testing.T) {
	for _, journal := range []string{"off", "memory"} {
		for _, point := range []string{dieSpilled, dieInCommit, dieAfter} {
			t.Run(journal+"/"+point, func(t *testing.T) {
				c, w := comparing(t, "delete")
				closeConn(t, c)
				startChild(t, w.path, journal, point, 3, 7)()
				c = open(t, w.path, "&_busy_timeout=10000")
				query(t, c, "select count(*) from sqlite_schema")
				flush(t, c)
				mustBeValid(t, c)
				closeConn(t, c)
				mustEqual(t, w.path)
			})
		}
	}
}

// TestReadOnly: a read-only connection is as with SQLite's own VFS, and a flush by it is of what
// others commit.
func TestReadOnly(t *testing.T) {
	for _, withIndex := range []bool{false, true} {
		t.Run("index="+strconv.FormatBool(withIndex), func(t *testing.T) {
			writer, w := comparing(t, "wal")
			if !withIndex {
				closeConn(t, writer) // the WAL and the wal-index go with it
			}
			stock, ours := open(t, w.path, "&mode=ro&vfs=unix"), open(t, w.path, "&mode=ro")
			for _, q := range []string{"select count(*) from t", "pragma journal_mode"} {
				if a, b := query(t, stock, q), query(t, ours, q); a != b {
					t.Errorf("%s: stock SQLite answers %q, ours %q", q, a, b)
				}
			}
			for _, q := range []string{
				"insert into t(b) values('none')", "pragma wal_checkpoint",
				"pragma wal_checkpoint(truncate)",
			} {
				_, a := stock.ExecContext(t.Context(), q)
				_, b := ours.ExecContext(t.Context(), q)
				if fmt.Sprint(a) != fmt.Sprint(b) {
					t.Errorf("%s: stock SQLite says %v, ours %v", q, a, b)
				}
			}
			w.conns = []*sql.Conn{ours}
			w.compare()
			foreignCommit(t, w.path, "foreign")
			w.compare()
			mustCount(t, restored(t, w.path), "foreign", 1)
			if withIndex {
				w.insert(writer)
				w.compare()
			}
			mustBeValid(t, ours)
		})
	}
}

// TestPageSizeAroundWAL: the page size changes only in a rollback mode, by VACUUM.
func TestPageSizeAroundWAL(t *testing.T) {
	c, w := comparing(t, "wal")
	for _, size := range []string{"512", "65536", "1024", "4096"} {
		w.insert(c)
		mustExec(t, c, "pragma page_size="+size)
		mustExec(t, c, "vacuum") // in WAL mode: the size stays
		w.compare()
		query(t, c, "pragma journal_mode=delete")
		mustExec(t, c, "pragma page_size="+size)
		mustExec(t, c, "vacuum")
		query(t, c, "pragma journal_mode=wal")
		w.compare() // no WAL yet
		w.insert(c)
		w.compare()
		if got := query(t, c, "pragma page_size"); got != size {
			t.Fatalf("page size %s, not %s", got, size)
		}
	}
	mustBeValid(t, c)
}

// TestAttachMixed: one transaction changes databases of different journal modes.
func TestAttachMixed(t *testing.T) {
	for _, modes := range [][2]string{
		{"wal", "delete"}, {"delete", "wal"}, {"wal", "wal"}, {"persist", "truncate"},
	} {
		t.Run(strings.Join(modes[:], "/"), func(t *testing.T) {
			one, w1 := comparing(t, modes[0])
			two, w2 := comparing(t, modes[1])
			mustExec(t, one, "attach ? as two", w2.path)
			for _, end := range []string{"commit", "rollback", "commit"} {
				mustExec(t, one, "begin")
				mustExec(t, one, "insert into main.t(b) values(randomblob(9000))")
				mustExec(t, one, "insert into two.t(b) values(randomblob(9000))")
				mustExec(t, one, end)
				w1.compare()
				w2.compare()
			}
			if n := query(t, two, "select count(*) from t"); n != "3" {
				t.Fatalf("%s rows", n)
			}
			mustBeValid(t, one)
		})
	}
}

// TestJournalSizeLimit: a reset WAL is cut to a limit: to none, or to a part.
func TestJournalSizeLimit(t *testing.T) {
	for _, limit := range []string{"0", "5000", "100000"} {
		t.Run(limit, func(t *testing.T) {
			c, w := comparing(t, "wal")
			query(t, c, "pragma wal_autocheckpoint=0")
			query(t, c, "pragma journal_size_limit="+limit)
			for range 3 {
				mustExec(t, c, "insert into t(b) values(randomblob(200000))")
				mustExec(t, c, "pragma wal_checkpoint(restart)")
				// This begins the next WAL, which is cut.
				mustExec(t, c, "insert into t(b) values('next')")
				w.compare()
			}
			mustBeValid(t, c)
		})
	}
}

// TestPartialCheckpoint: a reader keeps checkpoints from the frames after its own, and
// the WAL from being reset.
func TestPartialCheckpoint(t *testing.T) {
	c, w := comparing(t, "wal")
	query(t, c, "pragma wal_autocheckpoint=0")
	reader := open(t, w.path, "")
	for range 3 {
		w.insert(c)
		mustExec(t, reader, "begin")
		query(t, reader, "select count(*) from t")
		mustExec(t, c, "update t set b=randomblob(3000)")
		mustExec(t, c, "pragma wal_checkpoint(passive)")
		w.compare()
		w.insert(c) // behind the frames that the reader pins
		w.compare()
		mustExec(t, reader, "commit")
		mustExec(t, c, "pragma wal_checkpoint(passive)")
		w.insert(c) // at the beginning
		w.compare()
	}
	mustBeValid(t, c)
}

// TestSpill: a transaction that outgrows the page cache writes frames before it ends, writes
// some of them again, and may be rolled back: then others stand in their place.
func TestSpill(t *testing.T) {
	c, w := comparing(t, "wal")
	mustExec(t, c, "pragma cache_size=5")
	for i := range 40 {
		mustExec(t, c, "insert into t(b) values(randomblob(1500))")
		if i%10 != 9 {
			continue
		}
		for _, end := range []string{"rollback", "commit"} {
			mustExec(t, c, "begin")
			for range 3 { // the same pages, spilled each time
				mustExec(t, c, "update t set b=randomblob(1500)")
			}
			mustExec(t, c, "savepoint s")
			mustExec(t, c, "delete from t where a%3=1")
			mustExec(t, c, "rollback to s")
			mustExec(t, c, end)
			w.compare()
		}
	}
	mustBeValid(t, c)
}
