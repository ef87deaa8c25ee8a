package cgo_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/faultproxy"
	"verneuil/chunkstore/miniotest"
)

// TestReplicaWorld: ten processes read a database that another one writes, through a
// store that fails in every way, with credentials that only read, and with one cache
// directory that is too small and in which entries are damaged. Some are killed, and
// others begin. Every read transaction sees a whole version, and no reader goes back.
// VERNEUIL_WORLD_COMMITS makes it longer, VERNEUIL_WORLD_SEED repeats its faults.

const (
	// worldEnv says what a child does: "writer|interrupt|STYLE path [journal]".
	worldEnv      = "VERNEUIL_TEST_WORLD"
	worldReaders  = 10
	worldCapacity = 4 // of the cache, in chunks, of which the database has a dozen and more
)

// worldStyles are the ways to move on.
var worldStyles = []string{"auto_refresh", "refresh=0", "refresh=1", "refresh=2", "async_reload"}

// world is a child.
func world() int {
	args := strings.Fields(os.Getenv(worldEnv))
	lines := bufio.NewScanner(os.Stdin)
	var err error
	switch args[0] {
	case "writer":
		err = worldWriter(lines, args[1], args[2])
	case "interrupt":
		err = worldInterrupt(lines, args[1])
	default:
		err = worldReader(lines, args[0], args[1])
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Getenv(worldEnv), err)
		return 1
	}
	return 0
}

func connectTo(uri string) (*sql.Conn, error) {
	db, err := sql.Open("sqlite3", uri)
	if err != nil {
		return nil, err
	}
	return db.Conn(context.Background())
}

// worldWriter makes a commit for each line that it reads, and prints its number.
func worldWriter(lines *bufio.Scanner, path, journal string) error {
	c, err := connectTo("file:" + path + "?vfs=verneuil")
	if err != nil {
		return err
	}
	defer c.Close()
	ctx := context.Background()
	if _, err := c.ExecContext(ctx, "pragma journal_mode="+journal+";"+busySchema); err != nil {
		return err
	}
	flush := func() error {
		var all int
		err := c.QueryRowContext(ctx, "pragma verneuil_flush_replication_data").Scan(&all)
		if err == nil && all != 1 {
			err = fmt.Errorf("the flush says %d", all)
		}
		return err
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for n := 0; ; n++ {
		if n%5 == 0 {
			if err := flush(); err != nil {
				return err
			}
		}
		fmt.Println(n)
		if !lines.Scan() {
			return flush()
		}
		sql := fmt.Sprintf(`begin immediate;
			update acct set balance=balance+%d, pad=randomblob(200) where k=%d;
			update acct set balance=balance-%[1]d where k=%[3]d; update meta set n=%d;`,
			n+1, rng.IntN(3000), rng.IntN(3000), n+1)
		if (n+1)%10 == 0 {
			sql += fmt.Sprintf("insert into log values(%d, randomblob(30000));", n+1)
		}
		if _, err := c.ExecContext(ctx, sql+"commit"); err != nil {
			return err
		}
	}
}

// worldReader runs a transaction for each line that it reads; then it reads the newest
// version, and prints its number and how often a refresh failed.
func worldReader(lines *bufio.Scanner, style, path string) error {
	ctx := context.Background()
	c, err := connectTo("file:verneuil://world" + path + "?vfs=verneuil_snapshot")
	for try := 0; err != nil && try < 20; try++ { // the store may not answer
		c, err = connectTo("file:verneuil://world" + path + "?vfs=verneuil_snapshot")
	}
	if err != nil {
		return err
	}
	// It is not SQLite's cache that is tested.
	if _, err := c.ExecContext(ctx, "pragma cache_size=2"); err != nil {
		return err
	}
	var s string
	if style == "auto_refresh" {
		row := c.QueryRowContext(ctx, "pragma verneuil_snapshot_auto_refresh=1")
		if err := row.Scan(&s); err != nil {
			return err
		}
	}
	last, failed := 0, 0
	read := func() error {
		n, err := readBusy(c)
		if err == nil && n < last {
			err = fmt.Errorf("%d after %d", n, last)
		}
		last = n
		return err
	}
	for lines.Scan() {
		if style != "auto_refresh" {
			// An error says that the store does not answer; the reader stays where it is.
			row := c.QueryRowContext(ctx, "pragma verneuil_snapshot_"+style)
			if err := row.Scan(&s); err != nil {
				failed++
			}
		}
		if err := read(); err != nil {
			return err
		}
	}
	for try := 0; ; try++ {
		row := c.QueryRowContext(ctx, "pragma verneuil_snapshot_refresh=2")
		if err = row.Scan(&s); err == nil || try == 20 {
			break
		}
		failed++
	}
	if err == nil {
		err = read()
	}
	if err == nil {
		err = c.QueryRowContext(ctx, "pragma integrity_check").Scan(&s)
	}
	if err == nil && s != "ok" {
		err = fmt.Errorf("integrity check: %s", s)
	}
	fmt.Println(last, failed)
	return err
}

// worldChild is a child and its pipes.
type worldChild struct {
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	errors  strings.Builder
}

// replicas is what a parent has for its children.
type replicas struct {
	*testing.T
	dir, db  string
	endpoint string
	proxy    *faultproxy.Proxy
	readOnly []string // credentials
}

func newReplicas(t *testing.T) *replicas {
	w := &replicas{T: t, dir: t.TempDir(), endpoint: miniotest.Start(t)}
	w.db = filepath.Join(w.dir, "world.db")
	w.proxy = faultproxy.Start(t, w.endpoint)
	w.readOnly = miniotest.ReadOnly(t, w.endpoint, "chunks", "manifests")
	return w
}

func (w *replicas) config(endpoint string, more map[string]any, caches ...any) string {
	members := map[string]any{
		"hostname": "world", "tempdir": w.dir,
		"manifest_interval_ms": 20, "api_calls_per_second": 100000,
		"replication_targets": append([]any{map[string]any{"s3": map[string]any{
			"region": "us-east-1", "endpoint": endpoint,
			"chunk_bucket": "chunks", "manifest_bucket": "manifests",
			"create_buckets_on_demand": len(caches) == 0,
		}}}, caches...),
	}
	for k, v := range more {
		members[k] = v
	}
	text, err := json.Marshal(members)
	if err != nil {
		w.Fatal(err)
	}
	return string(text)
}

func (w *replicas) start(config string, env []string, args ...string) *worldChild {
	w.Helper()
	c := &worldChild{command: exec.Command(os.Args[0])}
	c.command.Env = append(append(os.Environ(), env...),
		worldEnv+"="+strings.Join(args, " "), "VERNEUIL_CONFIG="+config, "VERNEUIL_LOG=off")
	c.command.Stderr = &c.errors
	in, err := c.command.StdinPipe()
	if err != nil {
		w.Fatal(err)
	}
	out, err := c.command.StdoutPipe()
	if err != nil {
		w.Fatal(err)
	}
	c.in, c.out = in, bufio.NewReader(out)
	if err := c.command.Start(); err != nil {
		w.Fatal(err)
	}
	return c
}

// reader starts a reader of any kind, behind the proxy.
func (w *replicas) reader(what string) *worldChild {
	cache := map[string]any{"local": map[string]any{
		"directory": w.cache(), "num_shards": 2, "capacity": worldCapacity,
	}}
	config := w.config(w.proxy.URL, map[string]any{"snapshot_read_deadline_ms": 600000}, cache)
	return w.start(config, w.readOnly, what, w.db)
}

func (w *replicas) cache() string { return filepath.Join(w.dir, "cache") }

// tell sends a line; a child that has gone will be found out when it is waited for.
func (c *worldChild) tell() { io.WriteString(c.in, "go\n") }

func (c *worldChild) line(t *testing.T) string {
	t.Helper()
	line, err := c.out.ReadString('\n')
	if err != nil {
		c.command.Wait()
		t.Fatalf("a child ended: %s", &c.errors)
	}
	return strings.TrimSpace(line)
}

// end closes the child's input, and returns its last line.
func (c *worldChild) end(t *testing.T) string {
	t.Helper()
	c.in.Close()
	out, _ := io.ReadAll(c.out)
	if err := c.command.Wait(); err != nil {
		t.Errorf("%v: %s", err, &c.errors)
	}
	return strings.TrimSpace(string(out))
}

func (c *worldChild) kill() {
	c.command.Process.Kill()
	c.in.Close()
	io.Copy(io.Discard, c.out)
	c.command.Wait()
}

// spoil has one request in ten fail, in all ways in turn; but that a record is not denied, which is
// what who may not list is told if there is none.
func spoil(rng *rand.Rand) faultproxy.Plan {
	return func(n int, r *http.Request) faultproxy.Fault {
		if rng.IntN(10) > 0 {
			return faultproxy.Fault{}
		}
		late := make(chan struct{})
		faults := []faultproxy.Fault{
			{Status: 500}, {Status: 503}, {Status: 403},
			{Reset: true}, {Lose: true}, {Cut: true}, {Flip: true}, {Hold: late},
		}
		time.AfterFunc(30*time.Millisecond, func() { close(late) })
		fault := faults[rng.IntN(len(faults))]
		if fault.Status == 403 && strings.Contains(r.URL.Path, "/"+chunkstore.LogKeyPrefix) {
			fault.Status = 500
		}
		return fault
	}
}

func TestReplicaWorld(t *testing.T) {
	commits := envNumber("VERNEUIL_WORLD_COMMITS", 20)
	seed := uint64(envNumber("VERNEUIL_WORLD_SEED", 1))
	for _, journal := range []string{"delete", "wal"} {
		t.Run(journal, func(t *testing.T) {
			w := newReplicas(t)
			rng := rand.New(rand.NewPCG(seed, 7))
			spooling := map[string]any{"replication_spooling_dir": filepath.Join(w.dir, "spool")}
			writer := w.start(w.config(w.endpoint, spooling), nil, "writer", w.db, journal)
			if n := writer.line(t); n != "0" {
				t.Fatalf("the writer says %q", n)
			}
			w.proxy.Set(spoil(rand.New(rand.NewPCG(seed, 8))))
			var readers []*worldChild
			for i := range worldReaders {
				readers = append(readers, w.reader(worldStyles[i%len(worldStyles)]))
			}
			damaged := map[string]bool{}
			few := func() bool { return w.proxy.Faults() < 10 || len(damaged) == 0 }
			n := 0
			for n < commits || few() && n < 20*commits {
				n++
				writer.tell()
				if got := writer.line(t); got != strconv.Itoa(n) {
					t.Fatalf("the writer says %q, want %d", got, n)
				}
				for _, r := range readers {
					r.tell()
				}
				if n%6 == 0 {
					i := rng.IntN(len(readers))
					readers[i].kill()
					readers[i] = w.reader(worldStyles[i%len(worldStyles)])
				}
				w.damage(rng, damaged)
			}
			if out := writer.end(t); out != "" {
				t.Errorf("the writer says %q", out)
			}
			failed := 0
			for i, r := range readers {
				var last, errors int
				if out := r.end(t); !scanned(out, &last, &errors) || last != n {
					t.Errorf("reader %d, %s, ends with %q, want %d",
						i, worldStyles[i%len(worldStyles)], out, n)
				}
				failed += errors
			}
			w.checkCache(damaged)
			t.Logf("%d of %d requests spoiled, %d refreshes failed, %d cache entries damaged",
				w.proxy.Faults(), w.proxy.Requests(), failed, len(damaged))
			if few() {
				t.Error("too few faults to show anything")
			}
		})
	}
}

func scanned(s string, to ...any) bool {
	n, err := fmt.Sscan(s, to...)
	return err == nil && n == len(to)
}

func envNumber(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

func (w *replicas) cacheEntries() []string {
	all, err := filepath.Glob(filepath.Join(w.cache(), "*", "*"))
	if err != nil {
		w.Fatal(err)
	}
	return all
}

// damage spoils one entry of the cache: an empty file, as a crash of the machine
// leaves it, half a file, or other bytes.
func (w *replicas) damage(rng *rand.Rand, damaged map[string]bool) {
	all := w.cacheEntries()
	if len(all) == 0 {
		return
	}
	name := all[rng.IntN(len(all))]
	body, err := os.ReadFile(name)
	if err != nil || len(body) < 100 {
		return // evicted meanwhile
	}
	switch rng.IntN(3) {
	case 0:
		body = nil
	case 1:
		body = body[:len(body)/2]
	case 2:
		body[len(body)-50] ^= 4
	}
	temp := filepath.Join(w.dir, "damaged")
	if err := os.WriteFile(temp, body, 0o600); err != nil {
		w.Fatal(err)
	}
	if err := os.Rename(temp, name); err != nil {
		w.Fatal(err)
	}
	damaged[filepath.Base(name)] = true
}

// checkCache: the cache is not far beyond its capacity, and what is in it is whole, but
// for what was damaged by the test and not read since.
func (w *replicas) checkCache(damaged map[string]bool) {
	entries := 0
	for _, name := range w.cacheEntries() {
		if strings.HasPrefix(filepath.Base(name), ".") { // a fill that was killed
			continue
		}
		entries++
		body, err := os.ReadFile(name)
		if err != nil {
			w.Error(err)
			continue
		}
		id, err := chunkstore.ParseID(filepath.Base(name))
		if err == nil {
			_, err = chunkstore.OpenObject(chunkstore.Plain{}, nil, id, body)
		}
		if err != nil && !damaged[filepath.Base(name)] {
			w.Errorf("%s in the cache: %v", name, err)
		}
	}
	if most := worldCapacity + 2*(worldReaders+1); entries > most {
		w.Errorf("%d entries in the cache, want at most %d", entries, most)
	}
}

// worldInterrupt begins a scan, interrupts it when told to, and scans again when told to.
func worldInterrupt(lines *bufio.Scanner, path string) error {
	c, err := connectTo("file:verneuil://world" + path + "?vfs=verneuil_snapshot")
	if err != nil {
		return err
	}
	var schema int
	row := c.QueryRowContext(context.Background(), "select count(*) from sqlite_schema")
	if err := row.Scan(&schema); err != nil {
		return err
	}
	fmt.Println("open", schema)
	lines.Scan()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		lines.Scan()
		cancel() // go-sqlite3 calls sqlite3_interrupt()
	}()
	var sum int
	if err := c.QueryRowContext(ctx, "select sum(length(pad)) from acct").Scan(&sum); err == nil {
		return fmt.Errorf("the scan was not interrupted: %d", sum)
	}
	fmt.Println("interrupted")
	lines.Scan()
	row = c.QueryRowContext(context.Background(), "select sum(length(pad)) from acct")
	if err := row.Scan(&sum); err != nil {
		return err
	}
	fmt.Println(sum)
	return nil
}

// sqlite3_interrupt() ends a read that waits for a store that does not answer, long
// before the deadline, and what comes after needs no reopening.
func TestReplicaInterrupted(t *testing.T) {
	w := newReplicas(t)
	spooling := map[string]any{"replication_spooling_dir": filepath.Join(w.dir, "spool")}
	writer := w.start(w.config(w.endpoint, spooling), nil, "writer", w.db, "delete")
	writer.line(t)
	writer.end(t)
	r := w.reader("interrupt")
	if got := r.line(t); got != "open 3" {
		t.Fatalf("the reader says %q", got)
	}
	asked := make(chan struct{}, 1000)
	w.proxy.Set(func(int, *http.Request) faultproxy.Fault {
		asked <- struct{}{}
		return faultproxy.Fault{Hold: make(chan struct{})}
	})
	r.tell()
	<-asked
	r.tell()
	if got := r.line(t); got != "interrupted" {
		t.Errorf("the reader says %q", got)
	}
	w.proxy.Set(nil)
	r.tell()
	if got := r.line(t); got != "600000" {
		t.Errorf("after recovery the reader says %q", got)
	}
	r.end(t)
}
