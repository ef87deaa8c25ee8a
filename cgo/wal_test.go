package cgo_test

import (
	"database/sql"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// walWorkload does random transactions and checkpoints in WAL mode, and leaves it
// now and then.
type walWorkload struct {
	*testing.T
	r     *rand.Rand
	path  string
	conns []*sql.Conn
}

func (w *walWorkload) connect() *sql.Conn {
	c := open(w.T, w.path, "&_busy_timeout=10000")
	mustExec(w.T, c, "pragma synchronous="+pick(w.r, "off", "normal", "full"))
	mustExec(w.T, c, "pragma cache_size="+pick(w.r, "5", "2000"))
	mustExec(w.T, c, "pragma wal_autocheckpoint="+pick(w.r, "3", "20", "1000"))
	query(w.T, c, "pragma journal_size_limit="+pick(w.r, "-1", "0", "5000"))
	return c
}

func (w *walWorkload) insert(c *sql.Conn) {
	mustExec(w.T, c, "insert into t(b) values(randomblob(?))",
		[]int{10, 300, 5000, 60000}[w.r.IntN(4)])
}

// alone closes all connections but the first, for what needs the database for itself.
func (w *walWorkload) alone(f func(c *sql.Conn)) {
	for _, c := range w.conns[1:] {
		closeConn(w.T, c)
	}
	w.conns = w.conns[:1]
	// SQLite itself (3.40, 3.54) leaves WAL mode with a stale page cache if the last
	// commit was another connection's and did not change page 1: read first.
	query(w.T, w.conns[0], "select count(*) from t")
	f(w.conns[0])
	w.conns = append(w.conns, w.connect())
}

func (w *walWorkload) step() {
	c := w.conns[w.r.IntN(len(w.conns))]
	switch p := w.r.IntN(100); {
	case p < 50:
		w.insert(c)
	case p < 58:
		mustExec(w.T, c, "delete from t where a%5=?", w.r.IntN(5))
	case p < 60:
		mustExec(w.T, c, "vacuum")
	case p < 75:
		mustExec(w.T, c, "begin immediate")
		for range w.r.IntN(40) {
			w.insert(c)
		}
		mustExec(w.T, c, pick(w.r, "commit", "rollback"))
	case p < 88:
		mustExec(w.T, c, "pragma wal_checkpoint("+
			pick(w.r, "passive", "full", "restart", "truncate")+")")
	case p < 91: // a reader pins the WAL while others write and checkpoint
		reader := w.conns[0]
		if c == reader {
			c = w.conns[1]
		}
		mustExec(w.T, reader, "begin")
		query(w.T, reader, "select count(*) from t")
		w.insert(c)
		mustExec(w.T, c, "pragma wal_checkpoint(passive)")
		mustExec(w.T, reader, "commit")
	case p < 94:
		w.alone(func(c *sql.Conn) {
			mustExec(w.T, c, "pragma locking_mode=exclusive")
			w.insert(c)
			w.insert(c)
			mustExec(w.T, c, "pragma locking_mode=normal")
			query(w.T, c, "select count(*) from t")
		})
	case p < 97:
		w.alone(func(c *sql.Conn) {
			query(w.T, c, "pragma journal_mode="+pick(w.r, "delete", "truncate", "persist"))
			w.insert(c)
			query(w.T, c, "pragma journal_mode=wal")
			w.insert(c)
		})
	default:
		for _, c := range w.conns {
			closeConn(w.T, c)
		}
		w.conns = []*sql.Conn{w.connect(), w.connect()}
	}
}

// foreign writes with the sqlite3 shell: stock SQLite, in another process.
func (w *walWorkload) foreign() {
	shell := exec.Command("sqlite3", w.path, ".timeout 10000",
		"insert into t(b) values(randomblob(3000))",
		pick(w.r, "select 1", "pragma wal_checkpoint(truncate)", "pragma wal_checkpoint(passive)"))
	if out, err := shell.CombinedOutput(); err != nil {
		w.Fatalf("sqlite3: %v: %s", err, out)
	}
}

// run does that many steps on a new database, and compares what is restored with it now and then;
// foreign: stock SQLite writes in between.
func (w *walWorkload) run(pageSize string, steps int, foreign bool) {
	w.path = filepath.Join(w.TempDir(), "wal.db")
	w.conns = []*sql.Conn{w.connect()}
	mustExec(w.T, w.conns[0], "pragma page_size="+pageSize)
	query(w.T, w.conns[0], "pragma journal_mode=wal")
	mustExec(w.T, w.conns[0], "create table t(a integer primary key, b)")
	w.conns = append(w.conns, w.connect())
	for i := range steps {
		w.step()
		if foreign && w.r.IntN(5) == 0 {
			w.foreign()
		}
		if i%10 == 9 {
			w.compare()
		}
	}
	w.compare()
	mustBeValid(w.T, w.conns[0])
}

func TestWAL(t *testing.T) {
	steps := 60
	if testing.Short() {
		steps = 15
	}
	for _, foreign := range []bool{false, true} {
		for _, pageSize := range []string{"512", "1024", "4096", "65536"} {
			name := pageSize
			if foreign {
				name += "/foreign"
			}
			t.Run(name, func(t *testing.T) {
				seed := rand.Uint64()
				t.Logf("seed %d", seed)
				w := &walWorkload{T: t, r: rand.New(rand.NewPCG(seed, 0))}
				w.run(pageSize, steps, foreign)
			})
		}
	}
}

// compare flushes, and compares the restored database with the live one as
// checkpointed. Copies are made by another process: in this one, closing a
// descriptor of the database would drop its connections' locks.
func (w *walWorkload) compare() {
	w.Helper()
	flush(w.T, w.conns[0])
	copied := filepath.Join(w.TempDir(), "copy.db")
	for _, suffix := range []string{"", "-wal"} {
		if _, err := os.Stat(w.path + suffix); err != nil {
			continue
		}
		out, err := exec.Command("cp", w.path+suffix, copied+suffix).CombinedOutput()
		if err != nil {
			w.Fatalf("cp: %v: %s", err, out)
		}
	}
	out, err := exec.Command("sqlite3", copied,
		"pragma wal_checkpoint(truncate); pragma integrity_check").CombinedOutput()
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "ok") {
		w.Fatalf("sqlite3: %v: %s", err, out)
	}
	want, err := os.ReadFile(copied)
	if err != nil {
		w.Fatal(err)
	}
	got := restored(w.T, w.path)
	if string(got) != string(want) {
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		w.Fatalf("restored %d bytes, database has %d; they differ at %d ", len(got), len(want), at)
	}
}
