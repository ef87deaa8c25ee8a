package cgo_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Accounts whose balances sum to 0, a count of transactions, and a log that grows:
// a reader that sees parts of two versions finds them out.
const busySchema = `
create table acct(k integer primary key, balance int, pad blob);
create table meta(n int); insert into meta values(0);
create table log(n int, x blob);
with recursive s(k) as (select 0 union all select k+1 from s where k<2999)
	insert into acct select k, 0, randomblob(200) from s;`

// replicaConn opens one connection to the replica of the database at path.
func replicaConn(t *testing.T, path string) *sql.Conn {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:verneuil://"+testHost+path+"?vfs=verneuil_snapshot")
	if err != nil {
		t.Fatal(err)
	}
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); db.Close() })
	return c
}

// readBusy runs one read transaction and returns what is wrong with what it saw, and n.
func readBusy(c *sql.Conn) (n int, err error) {
	tx, err := c.BeginTx(context.Background(), nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	var again, sum, count, logged int
	row := func(sql string, to ...any) {
		if err == nil {
			err = tx.QueryRow(sql).Scan(to...)
		}
	}
	row("select n from meta", &n)
	row("select sum(balance), count(*) from acct", &sum, &count)
	row("select count(*) from log", &logged)
	row("select n from meta", &again)
	if err == nil && (again != n || sum != 0 || count != 3000 || logged != n/10) {
		err = fmt.Errorf("at %d, then %d: balance %d of %d accounts, %d in the log",
			n, again, sum, count, logged)
	}
	return n, err
}

// Readers of every refresh style see whole versions, in order, under a busy writer.
func TestReplicaUnderBusyWriter(t *testing.T) {
	const commits = 60
	path := filepath.Join(t.TempDir(), "busy.db")
	w := open(t, path, "")
	mustExec(t, w, busySchema)
	flush(t, w)
	done := make(chan struct{})
	var group sync.WaitGroup
	for _, style := range worldStyles {
		c := replicaConn(t, path)
		if style == "auto_refresh" {
			mustExec(t, c, "pragma verneuil_snapshot_auto_refresh=1")
		}
		group.Go(func() {
			for last, ended := 0, false; !ended; {
				select {
				case <-done: // one more round, which must see all
					ended, style = true, "refresh=2"
				default:
				}
				if style != "auto_refresh" {
					var s string
					pragma := "pragma verneuil_snapshot_" + style
					row := c.QueryRowContext(context.Background(), pragma)
					if err := row.Scan(&s); err != nil {
						t.Errorf("%s: %v", style, err)
					}
				}
				n, err := readBusy(c)
				if err != nil || n < last || ended && n != commits {
					t.Errorf("%s: %d after %d: %v", style, n, last, err)
					return
				}
				last = n
			}
			var check string
			row := c.QueryRowContext(context.Background(), "pragma integrity_check")
			if err := row.Scan(&check); err != nil || check != "ok" {
				t.Errorf("%s: %s, %v", style, check, err)
			}
		})
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for n := 1; n <= commits; n++ {
		mustExec(t, w, "begin immediate")
		mustExec(t, w, "update acct set balance=balance+?, pad=randomblob(200) where k=?",
			n, rng.IntN(3000))
		mustExec(t, w, "update acct set balance=balance-? where k=?", n, rng.IntN(3000))
		mustExec(t, w, "update meta set n=?", n)
		if n%10 == 0 {
			mustExec(t, w, "insert into log values(?, randomblob(30000))", n)
		}
		mustExec(t, w, "commit")
		if n%7 == 0 {
			flush(t, w)
		}
	}
	flush(t, w)
	close(done)
	group.Wait()
}

// forkScript opens a replica, forks, and prints what parent and child can do.
const forkScript = `
import os, sqlite3, sys
boot = sqlite3.connect(":memory:")
boot.enable_load_extension(True)
boot.load_extension(sys.argv[1])
def connect():
    return sqlite3.connect(sys.argv[2], uri=True)
def attempt(who, what):
    try:
        print(who, what().fetchone()[0], flush=True)
    except Exception as e:
        print(who, e, flush=True)
c = connect()
c.execute("pragma cache_size=1")
attempt("before:", lambda: c.execute("select max(v) from t"))
pid = os.fork()
if pid == 0:
    attempt("child, present:", lambda: c.execute("select max(v) from t"))
    attempt("child, missing:", lambda: c.execute("select sum(length(x)) from big"))
    attempt("child, pragma:", lambda: c.execute("pragma verneuil_snapshot_refresh=2"))
    attempt("child, open:", lambda: connect().execute("select 1"))
    os._exit(0)
os.waitpid(pid, 0)
attempt("parent, missing:", lambda: c.execute("select sum(length(x)) from big"))
`

// python is an interpreter whose sqlite3 loads extensions.
func python(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		can := "import sqlite3; sqlite3.Connection.enable_load_extension"
		if osexec.Command(name, "-c", can).Run() == nil {
			return name
		}
	}
	t.Skip("no python3 whose sqlite3 loads extensions")
	return ""
}

// A child that is forked from a process with a replica reads what is there, gets
// errors for the rest, and never hangs; its parent goes on.
func TestReplicaForked(t *testing.T) {
	s := newReplicaSource(t, filled(100)+
		"create table big as select randomblob(1000) x from generate_series(1,2000);")
	cmd := osexec.CommandContext(t.Context(), python(t), "-c", forkScript, s.lib, replicaURI)
	cmd.Env = s.env()
	out, err := cmd.Output()
	want := strings.Join([]string{
		"before: 1",
		"child, present: 1",
		"child, missing: disk I/O error",
		"child, pragma: this process was forked from the one that opened the replica",
		"child, open: unable to open database file",
		"parent, missing: 2000000", "",
	}, "\n")
	if err != nil || string(out) != want {
		t.Errorf("%v; got:\n%s\nwant:\n%s", err, out, want)
	}
}

// threadScript has six threads read a replica, each on its own connection, until its
// input ends; then each must see what it ended with.
const threadScript = `
import sqlite3, sys, threading
boot = sqlite3.connect(":memory:")
boot.enable_load_extension(True)
boot.load_extension(sys.argv[1])
ended, problems, rounds = threading.Event(), [], [0] * 6
def read(i):
    try:
        c = sqlite3.connect(sys.argv[2], uri=True, isolation_level=None)
        c.execute("pragma cache_size=1")
        c.execute("pragma verneuil_snapshot_auto_refresh=%d" % (i % 2)).fetchone()
        last = 0
        while True:
            ending = ended.is_set()
            if i % 2 == 0 or ending:
                how = 2 if ending else i // 2
                c.execute("pragma verneuil_snapshot_refresh=%d" % how).fetchone()
            c.execute("begin")
            low, high, n = c.execute("select min(v), max(v), count(*) from t").fetchone()
            sum = c.execute("select sum(v) from t").fetchone()[0]
            c.execute("commit")
            if low != high or n != 300 or sum != n * low or low < last:
                problems.append((i, last, low, high, n, sum))
            last = low
            rounds[i] += 1
            if ending:
                break
        if str(last) != end:
            problems.append((i, last, end))
    except Exception as e:
        problems.append((i, e))
all = [threading.Thread(target=read, args=(i,)) for i in range(6)]
for t in all: t.start()
print("reading", flush=True)
end = ""
for line in sys.stdin: end = line.strip()
ended.set()
for t in all: t.join()
print(problems, min(rounds) > 0)
`

// Threads of a Python process read a replica while versions come.
func TestReplicaPythonThreads(t *testing.T) {
	s := newReplicaSource(t, filled(300))
	cmd := osexec.CommandContext(t.Context(), python(t), "-c", threadScript, s.lib, replicaURI)
	cmd.Env = s.env()
	var errors strings.Builder
	cmd.Stderr = &errors
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(pipe)
	if line, err := out.ReadString('\n'); err != nil || line != "reading\n" {
		t.Fatalf("%q, %v: %s", line, err, &errors)
	}
	for v := 2; v < 12; v++ {
		s.exec(fmt.Sprintf("update t set v=%d", v))
		fmt.Fprintln(in, v)
	}
	in.Close()
	rest, _ := io.ReadAll(out)
	if err := cmd.Wait(); err != nil || string(rest) != "[] True\n" {
		t.Errorf("%v: %s\n%s", err, rest, &errors)
	}
}

// Workers of a Node process read a replica, with its node:sqlite.
func TestReplicaNodeWorkers(t *testing.T) { bothSources(t, replicaNodeWorkers) }

func replicaNodeWorkers(t *testing.T, source newSource) {
	node := "node"
	if dir := os.Getenv("VERNEUIL_NODE_SQLITE"); dir != "" {
		node = filepath.Join(dir, "bin", "node")
	}
	if err := osexec.Command(node, "-e", "require('node:sqlite')").Run(); err != nil {
		t.Skipf("no Node with node:sqlite, 22.5 or later (VERNEUIL_NODE_SQLITE names one): %v", err)
	}
	s := source(t, filled(300))
	program := filepath.Join("..", "test", "hosts", "replica.mjs")
	cmd := osexec.CommandContext(t.Context(), node, "--no-warnings", program, s.lib, s.uri())
	cmd.Env = s.env()
	out, err := cmd.CombinedOutput()
	sum := 300*301/2 + 300*250
	if err != nil || string(out) != fmt.Sprintf("[%d,%[1]d,%[1]d,%[1]d]\n", sum) {
		t.Errorf("%v: %s", err, out)
	}
}
