package cgo_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/mattn/go-sqlite3"

	"verneuil/cgo"
	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/manifest"
	"verneuil/replicate/restore"
	"verneuil/replicate/versions"
	"verneuil/test/crash"
)

const testHost = "test-host"

// targetDir is the dir target of all tests of this process: the configuration is
// read once.
var targetDir string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	// what a child is to do, by the variable that says so
	for env, do := range map[string]func() int{
		childEnv: child, stressEnv: stress, fillEnv: fill, worldEnv: world,
	} {
		if os.Getenv(env) == "" {
			continue
		}
		if err := cgo.Register(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return do()
	}
	dir, err := os.MkdirTemp("", "verneuil-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	targetDir = filepath.Join(dir, "target")
	os.Setenv("VERNEUIL_CONFIG", fmt.Sprintf(`{"hostname": %q, "replication_spooling_dir": %q,
		"manifest_interval_ms": 1, "replication_targets": [{"dir": {"path": %q}}]}`,
		testHost, filepath.Join(dir, "spool"), targetDir))
	os.Setenv("VERNEUIL_VALIDATE", "1")
	if os.Getenv("VERNEUIL_LOG") == "" {
		os.Setenv("VERNEUIL_LOG", "error")
	}
	if err := cgo.Register(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return crash.Main(m, TestKilledWriters, TestDeadCommit, TestKilledWithoutJournal)
}

// open opens one connection through the writer VFS.
func open(t *testing.T, path string, parameters string) *sql.Conn {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+path+"?vfs=verneuil"+parameters)
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

func closeConn(t *testing.T, c *sql.Conn) {
	t.Helper()
	// A connection that is put back stays open: bad ones are closed.
	c.Raw(func(driver any) error { return driver.(interface{ Close() error }).Close() })
}

func mustExec(t *testing.T, c *sql.Conn, query string, args ...any) {
	t.Helper()
	if _, err := c.ExecContext(context.Background(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func query(t *testing.T, c *sql.Conn, query string, args ...any) string {
	t.Helper()
	var s sql.NullString
	err := c.QueryRowContext(context.Background(), query, args...).Scan(&s)
	if err != nil && err != sql.ErrNoRows {
		t.Fatalf("%s: %v", query, err)
	}
	return s.String
}

func flush(t *testing.T, c *sql.Conn) {
	t.Helper()
	if s := query(t, c, "pragma verneuil_flush_replication_data"); s != "1" {
		t.Fatalf("flush answered %q: %s", s, query(t, c, "select verneuil_status()"))
	}
}

// restored returns the bytes of the newest version in the target.
func restored(t *testing.T, path string) []byte {
	t.Helper()
	store, err := chunkstore.Open(t.Context(),
		[]chunkstore.TargetConfig{&dir.Config{Path: targetDir}}, chunkstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	f, err := versions.OpenNewest(t.Context(), store.Targets[0], manifest.PlainName(testHost, path))
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "restored.db")
	err = restore.File(t.Context(), out, restore.Options{Manifest: f.Newest(), Store: store})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// mustEqual compares what the target has with the file, which no connection of
// this process may have open: reading it would drop their locks.
func mustEqual(t *testing.T, path string) {
	t.Helper()
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got := restored(t, path)
	if bytes.Equal(got, want) {
		return
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	t.Fatalf("restored %d bytes, database has %d; they differ at %d", len(got), len(want), at)
}

func mustBeValid(t *testing.T, c *sql.Conn) {
	t.Helper()
	if err := valid(query(t, c, "select verneuil_status()")); err != nil {
		t.Fatal(err)
	}
}

// valid fails if the text of verneuil_status() says that a mirror was found to differ from
// its database, or that a panic was kept from the host.
func valid(text string) error {
	var status struct {
		Failures []string `json:"validation_failures"`
		Panics   []string `json:"panics"`
	}
	if err := json.Unmarshal([]byte(text), &status); err != nil {
		return fmt.Errorf("%w: %s", err, text)
	}
	if len(status.Failures)+len(status.Panics) > 0 {
		return fmt.Errorf("status: %s", text)
	}
	return nil
}

// workload does random transactions on two connections.
type workload struct {
	*testing.T
	r         *rand.Rand
	path      string
	journal   string
	conns     []*sql.Conn
	exclusive bool
}

func (w *workload) connect() *sql.Conn {
	c := open(w.T, w.path, "&_busy_timeout=10000")
	mustExec(w.T, c, "pragma cache_size="+pick(w.r, "5", "2000"))
	mustExec(w.T, c, "pragma synchronous="+pick(w.r, "off", "normal", "full"))
	mustExec(w.T, c, "pragma mmap_size="+pick(w.r, "0", "0", "1000000"))
	query(w.T, c, "pragma journal_mode="+w.journal)
	return c
}

func pick(r *rand.Rand, of ...string) string { return of[r.IntN(len(of))] }

func (w *workload) insert(c *sql.Conn) {
	mustExec(w.T, c, "insert into t(b) values(randomblob(?))",
		[]int{10, 300, 5000, 100000}[w.r.IntN(4)])
}

func (w *workload) step() {
	c := w.conns[w.r.IntN(len(w.conns))]
	if w.exclusive {
		c = w.conns[0]
	}
	switch p := w.r.IntN(100); {
	case p < 45:
		w.insert(c)
	case p < 60:
		mustExec(w.T, c, "update t set b=randomblob(50) where a%7=?", w.r.IntN(7))
	case p < 70:
		mustExec(w.T, c, "delete from t where a%5=?", w.r.IntN(5))
	case p < 90:
		mustExec(w.T, c, "begin")
		for range w.r.IntN(40) {
			w.insert(c)
		}
		end := pick(w.r, "commit", "rollback")
		if w.journal == "off" { // without a journal a rollback leaves no database
			end = "commit"
		}
		mustExec(w.T, c, end)
	case p < 93:
		mustExec(w.T, c, "vacuum")
	case p < 95:
		mustExec(w.T, c, "pragma page_size="+pick(w.r, "512", "1024", "4096", "65536"))
		mustExec(w.T, c, "vacuum")
	case p < 98 && !w.exclusive:
		mustExec(w.T, w.conns[0], "pragma locking_mode=exclusive")
		w.exclusive = true
		w.insert(w.conns[0])
	case w.exclusive:
		mustExec(w.T, w.conns[0], "pragma locking_mode=normal")
		query(w.T, w.conns[0], "select count(*) from t")
		w.exclusive = false
	}
}

// run does that many steps on a new database, and compares what is restored with it.
func (w *workload) run(pageSize string, steps int) {
	path := filepath.Join(w.TempDir(), "a b%c.db")
	w.path = strings.ReplaceAll(path, "%", "%25") // as a URI has it
	first := open(w.T, w.path, "")
	mustExec(w.T, first, "pragma page_size="+pageSize)
	mustExec(w.T, first, "create table t(a integer primary key, b)")
	w.conns = []*sql.Conn{w.connect(), w.connect()}
	for range steps {
		w.step()
	}
	if w.exclusive {
		closeConn(w.T, w.conns[0])
		w.conns[0] = w.connect()
	}
	flush(w.T, w.conns[0])
	mustBeValid(w.T, w.conns[0])
	for _, c := range append(w.conns, first) {
		closeConn(w.T, c)
	}
	mustEqual(w.T, path)
}

func TestRollbackModes(t *testing.T) {
	steps := 40
	if testing.Short() {
		steps = 10
	}
	for _, journal := range []string{"delete", "truncate", "persist", "memory", "off"} {
		for _, pageSize := range []string{"512", "1024", "4096", "65536"} {
			t.Run(journal+"/"+pageSize, func(t *testing.T) {
				seed := rand.Uint64()
				t.Logf("seed %d", seed)
				w := &workload{T: t, r: rand.New(rand.NewPCG(seed, 0)), journal: journal}
				w.run(pageSize, steps)
			})
		}
	}
}
