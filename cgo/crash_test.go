package cgo_test

import (
	"bufio"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/mattn/go-sqlite3"
)

// A test that kills writers re-executes its own binary: childEnv holds what the
// child does, as "path journal-mode point transactions seed". The mode may begin with
// "stock-", for SQLite's own VFS, or "exclusive-", for locking_mode=exclusive before the first
// access: then the wal-index lies on the heap.
const childEnv = "VERNEUIL_TEST_CHILD"

// The points at which a child dies.
const (
	dieNever    = "never"
	dieBegun    = "begun"     // RESERVED is held, nothing is written
	dieSpilled  = "spilled"   // pages of the transaction are in the database
	dieInCommit = "in-commit" // COMMIT was called, nothing is done yet
	dieAfter    = "after"     // committed, not closed
)

// child writes transactions, prints "committed" after each, and dies at its point in
// the last one.
func child() int {
	if err := writeUntilDead(strings.Fields(os.Getenv(childEnv))); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	return 0
}

func die() { syscall.Kill(os.Getpid(), syscall.SIGKILL) }

func writeUntilDead(args []string) error {
	path, point := args[0], args[2]
	journal, stock := strings.CutPrefix(args[1], "stock-")
	journal, exclusive := strings.CutPrefix(journal, "exclusive-")
	vfs := map[bool]string{false: "verneuil", true: "unix"}[stock]
	n, _ := strconv.Atoi(args[3])
	seed, _ := strconv.ParseUint(args[4], 10, 64)
	r := rand.New(rand.NewPCG(seed, uint64(os.Getpid())))
	var dieNow bool
	sql.Register("dying", &sqlite3.SQLiteDriver{ConnectHook: func(c *sqlite3.SQLiteConn) error {
		c.RegisterCommitHook(func() int {
			if dieNow && point == dieInCommit {
				die()
			}
			return 0
		})
		return nil
	}})
	db, err := sql.Open("dying", "file:"+path+"?_busy_timeout=20000&vfs="+vfs)
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	run := func(query string, args ...any) {
		if err == nil {
			_, err = db.Exec(query, args...)
		}
	}
	if exclusive {
		run("pragma locking_mode=exclusive")
	}
	run("pragma journal_mode=" + journal)
	run("pragma cache_size=5")
	run("pragma synchronous=off")
	for i := range n {
		dieNow = i == n-1
		run("begin immediate")
		if dieNow && point == dieBegun {
			die()
		}
		rows := 1 + r.IntN(20)
		for range rows {
			run("insert into t(b) values(randomblob(?))", 1000+r.IntN(3000))
			run("update t set b=randomblob(300) where a%11=?", r.IntN(11))
		}
		if dieNow && point == dieSpilled {
			die()
		}
		run("commit")
		if err != nil {
			return err
		}
		fmt.Println("committed", rows)
	}
	if point == dieAfter {
		die()
	}
	return nil
}

// startChild returns a function that waits for the child's end and counts the rows
// that it has committed.
func startChild(t *testing.T, path, journal, point string, n int, seed uint64) (wait func() int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(),
		fmt.Sprintf("%s=%s %s %s %d %d", childEnv, path, journal, point, n, seed))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() int {
		t.Helper()
		rows := 0
		for in := bufio.NewScanner(out); in.Scan(); {
			var n int
			if _, err := fmt.Sscanf(in.Text(), "committed %d", &n); err != nil {
				t.Errorf("child: %q", in.Text())
			}
			rows += n
		}
		io.Copy(io.Discard, out)
		err := cmd.Wait()
		if died := err != nil && err.Error() == "signal: killed"; died != (point != dieNever) {
			t.Errorf("child that is to die %s: %v: %s", point, err, stderr.String())
		}
		return rows
	}
}

// TestKilledWriters: two processes write one database, one of them is killed at a
// named point. What is replicated then is the database, and holds what was committed.
func TestKilledWriters(t *testing.T) {
	for _, journal := range []string{"delete", "truncate", "persist", "wal"} {
		for _, point := range []string{dieBegun, dieSpilled, dieInCommit, dieAfter} {
			t.Run(journal+"/"+point, func(t *testing.T) {
				seed := rand.Uint64()
				t.Logf("seed %d", seed)
				path := filepath.Join(t.TempDir(), "killed.db")
				c := open(t, path, "&_busy_timeout=20000")
				query(t, c, "pragma journal_mode="+journal)
				mustExec(t, c, "create table t(a integer primary key, b)")
				closeConn(t, c)
				doomed := startChild(t, path, journal, point, 6, seed)
				other := startChild(t, path, journal, dieNever, 12, seed+1)
				rows := doomed() + other()
				c = open(t, path, "&_busy_timeout=20000")
				if s := query(t, c, "pragma integrity_check"); s != "ok" {
					t.Fatalf("integrity check: %s", s)
				}
				if n := query(t, c, "select count(*) from t"); n != strconv.Itoa(rows) {
					t.Fatalf("%s rows, %d were committed", n, rows)
				}
				flush(t, c)
				mustBeValid(t, c)
				mustExec(t, c, "pragma wal_checkpoint(truncate)") // nothing in rollback modes
				closeConn(t, c)
				mustEqual(t, path)
			})
		}
	}
}
