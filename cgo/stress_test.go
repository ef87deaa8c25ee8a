package cgo_test

import (
	"bufio"
	"bytes"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"verneuil/vfs"
)

// TestStress: three processes write one database, checkpoint it and switch its
// journal mode, are killed at random moments and started again, while stock SQLite
// writes in between. After each round the database is whole, and what is replicated
// is the database. VERNEUIL_STRESS_ROUNDS bounds it; VERNEUIL_STRESS_SEED repeats
// what the children do in a round, though not what the scheduler makes of it.

const (
	stressEnv   = "VERNEUIL_TEST_STRESS" // what a child does: "path seed"
	stressOps   = 40                     // of a child that is not killed
	stressStart = 8                      // children that a round starts in all, three at a time
)

// stressChild is a process of TestStress.
type stressChild struct {
	r    *rand.Rand
	path string
	db   *sql.DB
}

func stress() int {
	args := strings.Fields(os.Getenv(stressEnv))
	seed, _ := strconv.ParseUint(args[1], 10, 64)
	c := &stressChild{r: rand.New(rand.NewPCG(seed, 1)), path: args[0]}
	for range stressOps {
		name, err := c.step()
		if err != nil && c.db != nil {
			c.run("rollback") // if a transaction is open
		}
		if err == nil || harmless(err) {
			err = valid(string(vfs.Process().Status(vfs.Recorded{})))
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			return 1
		}
		fmt.Println(name)
	}
	if c.db != nil {
		c.db.Close()
	}
	return 0
}

// harmless: what stock SQLite may answer to one of several writers.
func harmless(err error) bool {
	return strings.Contains(err.Error(), "locked") || strings.Contains(err.Error(), "busy") ||
		strings.Contains(err.Error(), "into wal mode from within") ||
		strings.Contains(err.Error(), "attached databases") &&
			strings.Contains(err.Error(), "unable to open")
}

func (c *stressChild) open() error {
	if c.db != nil {
		return nil
	}
	db, err := sql.Open("sqlite3", "file:"+c.path+"?vfs=verneuil&_busy_timeout=500")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	c.db = db
	return c.run("pragma synchronous="+pick(c.r, "off", "normal", "full"),
		"pragma cache_size="+pick(c.r, "5", "2000"),
		"pragma wal_autocheckpoint="+pick(c.r, "3", "20", "1000"),
		"pragma journal_size_limit="+pick(c.r, "-1", "0", "5000"),
		"pragma mmap_size="+pick(c.r, "0", "0", "1000000"))
}

func (c *stressChild) run(queries ...string) error {
	for _, q := range queries {
		if _, err := c.db.Exec(q); err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
	}
	return nil
}

// insert is a transaction: what c counts is what t has.
func (c *stressChild) insert(end string) error {
	if err := c.run("begin immediate"); err != nil {
		return err
	}
	n := 1 + c.r.IntN(20)
	for range n {
		_, err := c.db.Exec("insert into t(b) values(randomblob(?))",
			[]int{10, 300, 3000, 20000}[c.r.IntN(4)])
		if err != nil {
			c.run("rollback")
			return err
		}
	}
	queries := []string{fmt.Sprintf("update c set n=n+%d", n)}
	if c.r.IntN(3) == 0 {
		queries = append(queries, "update t set b=randomblob(100) where a%7=1")
	}
	err := c.run(append(queries, end)...)
	if err != nil {
		c.run("rollback")
	}
	return err
}

func (c *stressChild) step() (string, error) {
	if err := c.open(); err != nil {
		return "open", err
	}
	switch p := c.r.IntN(100); {
	case p < 45:
		return "insert", c.insert("commit")
	case p < 50:
		return "rollback", c.insert("rollback")
	case p < 55:
		return "delete", c.run("begin immediate", "delete from t where a%5=2",
			"update c set n=(select count(*) from t)", "commit")
	case p < 70:
		return "checkpoint", c.run("pragma wal_checkpoint(" +
			pick(c.r, "passive", "full", "restart", "truncate") + ")")
	case p < 73:
		return "vacuum", c.run("pragma page_size="+pick(c.r, "512", "1024", "4096", "65536"),
			"vacuum")
	case p < 82:
		// SQLite itself (3.40, 3.54) leaves WAL mode with a stale page cache if the last
		// commit was another connection's and did not change page 1: begin with none.
		c.close()
		if err := c.open(); err != nil {
			return "open", err
		}
		return "mode", c.run("pragma journal_mode=" +
			pick(c.r, "delete", "truncate", "persist", "wal", "wal", "wal"))
	case p < 86:
		err := c.run("pragma locking_mode=exclusive")
		if err == nil {
			err = c.insert("commit")
		}
		if err == nil {
			err = c.insert("commit")
		}
		c.close() // also if it got the lock and nothing else
		return "exclusive", err
	case p < 89:
		return "attach", c.attach()
	case p < 92:
		return "flush", c.run("pragma verneuil_flush_replication_data")
	case p < 94:
		return "read", c.run("begin", "select count(*) from t", "commit")
	default:
		c.close()
		return "close", nil
	}
}

// attach commits to two databases at once.
func (c *stressChild) attach() error {
	if err := c.run("attach '" + c.path + "2' as two"); err != nil {
		return err
	}
	err := c.run("create table if not exists two.t(a integer primary key, b)", "begin immediate",
		"insert into two.t(b) values(randomblob(500))", "insert into t(b) values(randomblob(5000))",
		"update c set n=n+1", "commit")
	if err != nil {
		c.run("rollback")
	}
	c.close()
	return err
}

func (c *stressChild) close() {
	if c.db != nil {
		c.db.Close()
	}
	c.db = nil
}

// stressRound is one round, seen from the parent.
type stressRound struct {
	*testing.T
	r     *rand.Rand
	path  string
	kills int
}

// child runs a child to its end, or kills it when it has said kill lines (0: never).
func (s *stressRound) child(seed uint64, kill, spin int) (killed bool, err error) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", stressEnv, s.path, seed))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if keep := os.Getenv("VERNEUIL_STRESS_KEEP"); keep != "" {
		log, err := os.OpenFile(filepath.Join(keep, "children.log"),
			os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return false, err
		}
		defer log.Close()
		fmt.Fprintf(log, "child %d, killed after %d lines\n", seed, kill)
		cmd.Stderr = io.MultiWriter(&stderr, log)
	}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	lines, last := 0, ""
	for in := bufio.NewScanner(out); in.Scan(); {
		last = in.Text()
		if lines++; lines == kill {
			for i := range spin { // somewhere within what it does next
				sink.Store(int64(i))
			}
			cmd.Process.Kill()
		}
	}
	err = cmd.Wait()
	if kill > 0 && err != nil && err.Error() == "signal: killed" {
		return true, nil
	}
	if err != nil {
		err = fmt.Errorf("child %d after %d lines, the last %q: %w: %s",
			seed, lines, last, err, stderr.String())
	}
	return false, err
}

var sink atomic.Int64

// stock has the sqlite3 shell write, several times, until the children are done.
func (s *stressRound) stock(r *rand.Rand, done <-chan struct{}) {
	for range 6 {
		select {
		case <-done:
			return
		default:
		}
		out, err := exec.Command("sqlite3", s.path, ".timeout 500",
			"begin immediate; insert into t(b) values(randomblob(3000)); update c set n=n+1; "+
				pick(r, "commit", "commit", "rollback"),
			pick(r, "select 1", "pragma wal_checkpoint(truncate)",
				"pragma wal_checkpoint(passive)", "vacuum")).CombinedOutput()
		if err != nil && !strings.Contains(string(out), "locked") {
			s.Errorf("sqlite3: %v: %s", err, out)
		}
	}
}

func (s *stressRound) run() {
	var mu sync.Mutex // started and r
	var all sync.WaitGroup
	started := 0
	r := rand.New(rand.NewPCG(s.r.Uint64(), 2)) // stock's own
	for range 3 {
		all.Go(func() {
			for {
				mu.Lock()
				started++
				n, seed := started, s.r.Uint64()
				kill, spin := 1+s.r.IntN(stressOps/2), s.r.IntN(8_000_000)
				mu.Unlock()
				if n > stressStart || s.Failed() {
					return
				}
				if n == stressStart {
					kill = 0
				}
				killed, err := s.child(seed, kill, spin)
				mu.Lock()
				if killed {
					s.kills++
				}
				mu.Unlock()
				if err != nil {
					s.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	var shell sync.WaitGroup
	shell.Go(func() { s.stock(r, done) })
	all.Wait()
	close(done)
	shell.Wait()
}

// check looks at what the round has left.
func (s *stressRound) check() {
	c := open(s.T, s.path, "&_busy_timeout=10000")
	if got := query(s.T, c, "pragma integrity_check"); got != "ok" {
		s.Fatalf("integrity check: %s", got)
	}
	if got := query(s.T, c, "select count(*)-(select n from c) from t"); got != "0" {
		s.Fatalf("%s rows more than were counted", got)
	}
	w := &walWorkload{T: s.T, r: s.r, path: s.path, conns: []*sql.Conn{c}}
	w.compare()
	if s.r.IntN(2) == 0 { // what the next round begins with
		mustExec(s.T, c, "pragma wal_checkpoint(truncate)")
		w.compare()
	}
	mustBeValid(s.T, c)
	if _, err := os.Stat(s.path + "2"); err == nil {
		two := open(s.T, s.path+"2", "&_busy_timeout=10000")
		query(s.T, two, "select count(*) from sqlite_schema") // rolls back what is hot
		second := &walWorkload{T: s.T, r: s.r, path: s.path + "2", conns: []*sql.Conn{two}}
		second.compare()
		closeConn(s.T, two)
	}
	closeConn(s.T, c)
}

func TestStress(t *testing.T) {
	rounds := 1 // some 8 s each
	if n, err := strconv.Atoi(os.Getenv("VERNEUIL_STRESS_ROUNDS")); err == nil {
		rounds = n
	}
	if testing.Short() {
		rounds = min(rounds, 1)
	}
	seed := rand.Uint64()
	if n, err := strconv.ParseUint(os.Getenv("VERNEUIL_STRESS_SEED"), 10, 64); err == nil {
		seed = n
	}
	kills, round := 0, 0
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("failed in round %d: VERNEUIL_STRESS_SEED=%d", round, seed)
		}
	})
	var path string
	for i := range rounds {
		if i%4 == 0 {
			path = filepath.Join(t.TempDir(), "stress.db")
			c := open(t, path, "")
			query(t, c, "pragma journal_mode="+[]string{"wal", "delete"}[i/4%2])
			mustExec(t, c, "create table t(a integer primary key, b)")
			mustExec(t, c, "create table c(n)")
			mustExec(t, c, "insert into c values(0)")
			closeConn(t, c)
		}
		if keep := os.Getenv("VERNEUIL_STRESS_KEEP"); keep != "" {
			t.Cleanup(func() {
				if t.Failed() {
					dirs := []string{"-a", filepath.Dir(path), filepath.Dir(targetDir), keep}
					exec.Command("cp", dirs...).Run()
				}
			})
		}
		s := &stressRound{T: t, r: rand.New(rand.NewPCG(seed+uint64(i), 0)), path: path}
		round = i
		s.run()
		kills += s.kills
		if !t.Failed() {
			s.check()
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("seed %d: %d rounds, %d kills", seed, rounds, kills)
}
