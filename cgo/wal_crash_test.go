package cgo_test

import (
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// copyWithWAL copies a database and its WAL in another process: in this one, closing a
// descriptor of the database would drop its connections' locks.
func copyWithWAL(t *testing.T, from, to string) {
	t.Helper()
	for _, suffix := range []string{"", "-wal"} {
		if out, err := exec.Command("cp", from+suffix, to+suffix).CombinedOutput(); err != nil {
			t.Fatalf("cp: %v: %s", err, out)
		}
	}
}

// appendDead leaves in the WAL of a database that c keeps open what a writer leaves
// that was killed after it had written its commit frame, but not the wal-index: a
// transaction that is valid by its checksums, and never was committed. The next
// writer writes over it.
func appendDead(t *testing.T, path string) {
	t.Helper()
	twin := filepath.Join(t.TempDir(), "twin.db")
	copyWithWAL(t, path, twin)
	out, err := exec.Command("sqlite3", twin, ".dbconfig no_ckpt_on_close on",
		"begin", "insert into t(b) values('dead')", "insert into t(b) values(randomblob(20000))",
		"commit").CombinedOutput()
	if err != nil {
		t.Fatalf("sqlite3: %v: %s", err, out)
	}
	theirs, err := os.ReadFile(twin + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path+"-wal", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ours, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(theirs)) <= ours.Size() {
		t.Fatalf("the twin's WAL has %d bytes, ours %d", len(theirs), ours.Size())
	}
	if _, err := f.WriteAt(theirs[ours.Size():], ours.Size()); err != nil {
		t.Fatal(err)
	}
}

// beginDead makes a database with a commit that is alive and one that is dead.
func beginDead(t *testing.T) (path string, c *sql.Conn) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "dead.db")
	c = open(t, path, "")
	query(t, c, "pragma journal_mode=wal")
	query(t, c, "pragma wal_autocheckpoint=0")
	mustExec(t, c, "create table t(a integer primary key, b)")
	mustExec(t, c, "insert into t(b) values('alive')")
	flush(t, c)
	appendDead(t, path)
	return path, c
}

// endDead closes c, and compares the database with what is replicated.
func endDead(t *testing.T, path string, c *sql.Conn) {
	t.Helper()
	mustExec(t, c, "pragma wal_checkpoint(truncate)")
	flush(t, c)
	mustBeValid(t, c)
	closeConn(t, c)
	mustEqual(t, path)
}

// TestDeadCommit: what a killed writer has left in the WAL is not replicated, unless
// SQLite takes it.
func TestDeadCommit(t *testing.T) {
	t.Run("flushed", func(t *testing.T) {
		path, c := beginDead(t)
		flush(t, c)
		mustCount(t, restored(t, path), "dead", 0)
		mustExec(t, c, "insert into t(b) values('next')")
		flush(t, c)
		mustCount(t, restored(t, path), "next", 1)
		endDead(t, path, c)
	})
	t.Run("copied", func(t *testing.T) {
		path, c := beginDead(t)
		foreignCommit(t, path, "foreign")
		flush(t, c)
		mustCount(t, restored(t, path), "foreign", 1)
		mustCount(t, restored(t, path), "dead", 0)
		endDead(t, path, c)
	})
	t.Run("reset", func(t *testing.T) {
		path, c := beginDead(t)
		mustExec(t, c, "pragma wal_checkpoint(passive)")
		mustExec(t, c, "insert into t(b) values('next')") // begins a new WAL
		flush(t, c)
		mustCount(t, restored(t, path), "dead", 0)
		mustCount(t, restored(t, path), "next", 1)
		endDead(t, path, c)
	})
	t.Run("truncated", func(t *testing.T) {
		path, c := beginDead(t)
		mustExec(t, c, "pragma wal_checkpoint(truncate)")
		flush(t, c)
		mustCount(t, restored(t, path), "dead", 0)
		endDead(t, path, c)
	})
	t.Run("closed", func(t *testing.T) {
		path, c := beginDead(t)
		closeConn(t, c)
		c = open(t, path, "")
		flush(t, c)
		mustCount(t, restored(t, path), "dead", 0)
		endDead(t, path, c)
	})
	t.Run("recovered", testDeadCommitRecovered)
}

// testDeadCommitRecovered: all connections are gone, and a new one recovers the WAL. SQLite takes
// the dead commit then, so it is one.
func testDeadCommitRecovered(t *testing.T) {
	path, c := beginDead(t)
	closeConn(t, c)
	c = open(t, path, "")
	mustExec(t, c, "insert into t(b) values('before')")
	flush(t, c)
	appendDead(t, path)
	moved := filepath.Join(t.TempDir(), "moved.db")
	copyWithWAL(t, path, moved)
	c = open(t, moved, "")
	if n := query(t, c, "select count(*) from t where b='dead'"); n != "1" {
		t.Fatalf("SQLite recovered %s", n)
	}
	flush(t, c)
	mustCount(t, restored(t, moved), "dead", 1)
	endDead(t, moved, c)
}

// foreignCommit is one of stock SQLite, in another process.
func foreignCommit(t *testing.T, path, b string) {
	t.Helper()
	out, err := exec.Command("sqlite3", path, ".timeout 10000", "pragma wal_autocheckpoint=0",
		"insert into t(b) values('"+b+"')").CombinedOutput()
	if err != nil {
		t.Fatalf("sqlite3: %v: %s", err, out)
	}
}

// mustCount counts the rows of t with that b in an image of a database.
func mustCount(t *testing.T, image []byte, b string, want int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.db")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var n int
	err = db.QueryRow("select count(*) from t where b=?", b).Scan(&n)
	if err != nil || n != want {
		t.Fatalf("the replica has %d rows %q, not %d: %v", n, b, want, err)
	}
}

// TestForeignLeavesWAL: stock SQLite takes a database out of WAL mode, and writes,
// between two transactions of ours.
func TestForeignLeavesWAL(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leaves.db")
	c := open(t, path, "")
	query(t, c, "pragma journal_mode=wal")
	mustExec(t, c, "create table t(a integer primary key, b)")
	mustExec(t, c, "insert into t(b) values(randomblob(100000))")
	flush(t, c)
	closeConn(t, c)
	out, err := exec.Command("sqlite3", path, "pragma journal_mode=delete",
		"update t set b=randomblob(100000)").CombinedOutput()
	if err != nil {
		t.Fatalf("sqlite3: %v: %s", err, out)
	}
	c = open(t, path, "")
	mustExec(t, c, "insert into t(b) values('ours')")
	flush(t, c)
	mustBeValid(t, c)
	closeConn(t, c)
	mustEqual(t, path)
}
