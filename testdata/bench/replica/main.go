// Command replica measures read replicas against stock SQLite on the same database,
// and against plain GETs of the same objects, on a MinIO of its own:
//
//	replica VERNEUILCTL DIR MIB [PART...]
//
// It makes a database of MIB MiB in DIR, replicates it, and prints rows of a Markdown
// table, `| what | replica | compared with | ratio |`. What must be cold runs in a
// process of its own. Parts: warm cold scan refresh lag rss (all). With REPLICA_DELAY
// in the environment, 20ms for example, each request takes that much longer, as it
// would over a network.
package main

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	_ "github.com/mattn/go-sqlite3"

	"verneuil/cgo"
	"verneuil/chunkstore/miniotest"
)

const host = "bench"

// bench is the parent's state.
type bench struct {
	ctl, dir, db, config string
	rows                 int
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "replica:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) > 2 && os.Args[1] == "child" {
		return child(os.Args[2], os.Args[3:])
	}
	if len(os.Args) < 4 {
		return fmt.Errorf("usage: replica VERNEUILCTL DIR MIB [PART...]")
	}
	mib, err := strconv.Atoi(os.Args[3])
	if err != nil {
		return err
	}
	b := &bench{ctl: os.Args[1], dir: os.Args[2], rows: mib * 2450}
	if b.dir, err = filepath.Abs(b.dir); err != nil {
		return err
	}
	stop, err := b.prepare()
	if err != nil {
		return err
	}
	defer stop()
	wanted := os.Args[4:]
	for _, part := range []struct {
		name string
		run  func() error
	}{{"warm", b.warm}, {"cold", b.cold}, {"scan", b.scan}, {"refresh", b.refresh}, {"lag", b.lag}, {"rss", b.rss}} {
		if len(wanted) > 0 && !slices.Contains(wanted, part.name) {
			continue
		}
		if err := part.run(); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

func row(cells ...any) {
	fmt.Print("|")
	for _, c := range cells {
		fmt.Printf(" %v |", c)
	}
	fmt.Println()
}

// prepare makes the database, unless DIR has it, and a server that has it replicated.
func (b *bench) prepare() (stop func(), err error) {
	program, err := miniotest.Find()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(b.dir, "storage"), 0o700); err != nil {
		return nil, err
	}
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": miniotest.AccessKey, "AWS_SECRET_ACCESS_KEY": miniotest.SecretKey,
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true",
	} {
		os.Setenv(name, value)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l.Close()
	server, err := miniotest.StartAt(program, filepath.Join(b.dir, "storage"), l.Addr().(*net.TCPAddr).Port)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			server.Stop()
		}
	}()
	endpoint := server.Endpoint
	if text := os.Getenv("REPLICA_DELAY"); text != "" {
		delay, err := time.ParseDuration(text)
		if err != nil {
			return nil, err
		}
		endpoint = delayed(endpoint, delay)
	}
	b.config = fmt.Sprintf(`{"hostname": %q, "tempdir": %q, "replication_spooling_dir": %q, "manifest_interval_ms": 100,
		"api_calls_per_second": 100000, "upload_concurrency": 16, "replication_targets": [{"s3": {"region": "us-east-1", "endpoint": %q,
		"chunk_bucket": "chunks", "manifest_bucket": "manifests", "create_buckets_on_demand": true}}]}`,
		host, b.dir, filepath.Join(b.dir, "spool"), endpoint)
	os.Setenv("VERNEUIL_CONFIG", b.config)
	os.Setenv("VERNEUIL_LOG", cmp.Or(os.Getenv("VERNEUIL_LOG"), "warn"))
	b.db = filepath.Join(b.dir, "source.db")
	if _, err := os.Stat(b.db); err != nil {
		if err := b.fill(); err != nil {
			return nil, err
		}
	}
	out, err := exec.Command(b.ctl, "sync", b.db).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("sync: %w\n%s", err, out)
	}
	return server.Stop, cgo.Register()
}

// delayed returns the endpoint of a server that passes requests on after a while.
func delayed(endpoint string, delay time.Duration) string {
	to, err := url.Parse(endpoint)
	if err != nil {
		panic(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // the signature covers it
		},
		Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64},
	}
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(delay)
		proxy.ServeHTTP(w, r)
	})).URL
}

func (b *bench) fill() error {
	db, err := sql.Open("sqlite3", b.db)
	if err != nil {
		return err
	}
	defer db.Close()
	for _, q := range []string{
		"pragma journal_mode=off", "pragma synchronous=off",
		"create table t(k integer primary key, v int, x blob)",
		fmt.Sprintf("with recursive s(k) as (select 1 union all select k+1 from s where k<%d) insert into t select k, 0, randomblob(400) from s", b.rows),
		"pragma journal_mode=delete",
	} {
		if _, err := db.Exec(q); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) uri() string { return "file:verneuil://" + host + b.db + "?vfs=verneuil_snapshot" }

// child runs this program again, as a fresh process, and returns what it reports.
func (b *bench) child(kind string, args ...any) (m measured, err error) {
	list := []string{"child", kind, b.uri(), strconv.Itoa(b.rows)}
	for _, a := range args {
		list = append(list, fmt.Sprint(a))
	}
	c := exec.Command(os.Args[0], list...)
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err == nil {
		err = json.Unmarshal(out, &m)
	}
	return m, err
}

// warm: all that is read is there. Stock SQLite and the replica take turns.
func (b *bench) warm() error {
	m, err := b.child("warm", b.db)
	if err != nil {
		return err
	}
	row("point read, warm", us(m.Point), "stock "+us(m.PointStock), ratio(m.Point, m.PointStock))
	row("scan, warm", ms(m.Scan), "stock "+ms(m.ScanStock), ratio(m.Scan, m.ScanStock))
	return nil
}

// cold: a fresh process opens the replica and looks one row up.
func (b *bench) cold() error {
	const runs = 5
	var all []measured
	for i := range runs {
		m, err := b.child("cold", 1+b.rows/runs*i+b.rows/(2*runs))
		if err != nil {
			return err
		}
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b measured) int { return cmp.Compare(a.Bytes, b.Bytes) })
	last := all[runs-1]
	row("open and first lookup, cold", fmt.Sprintf("%d requests, %.0f to %.0f KiB", last.Calls, float64(all[0].Bytes)/1024, float64(last.Bytes)/1024), "", "")
	slices.SortFunc(all, func(a, b measured) int { return cmp.Compare(a.Point, b.Point) })
	row("open and first lookup, cold", ms(all[runs/2].Point), "", "")
	slices.SortFunc(all, func(a, b measured) int { return cmp.Compare(a.Many, b.Many) })
	row("100 more lookups, cold", ms(all[runs/2].Many)+fmt.Sprintf(", %d requests", all[runs/2].ManyCalls), "", "")
	return nil
}

// scan: a fresh process reads everything; another gets the same objects, and does nothing with them.
func (b *bench) scan() error {
	var scans, gets []time.Duration
	for range 3 {
		m, err := b.child("scan")
		if err != nil {
			return err
		}
		raw, err := b.child("get", b.db)
		if err != nil {
			return err
		}
		scans, gets = append(scans, m.Scan), append(gets, raw.Scan)
	}
	slices.Sort(scans)
	slices.Sort(gets)
	row("full scan, cold", ms(scans[1]), "parallel GETs "+ms(gets[1]), ratio(gets[1], scans[1])+" of their throughput")
	return nil
}

// writer opens the source through the writer VFS.
func (b *bench) writer() (*sql.Conn, func(), error) {
	db, err := sql.Open("sqlite3", "file:"+b.db+"?vfs=verneuil")
	if err != nil {
		return nil, nil, err
	}
	c, err := db.Conn(context.Background())
	return c, func() { c.Close(); db.Close() }, err
}

// follower is a reader process that is told what to do.
type follower struct {
	c   *exec.Cmd
	in  interface{ Write([]byte) (int, error) }
	out *json.Decoder
}

func (f *follower) ask(line string) (m measured, err error) {
	fmt.Fprintln(f.in, line)
	return m, f.out.Decode(&m)
}

func (b *bench) follow() (*follower, error) {
	c := exec.Command(os.Args[0], "child", "follow", b.uri(), strconv.Itoa(b.rows))
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &follower{c, in, json.NewDecoder(out)}, c.Start()
}

func (f *follower) stop() { f.c.Process.Kill(); f.c.Wait() }

// followed starts a writer and a process that reads the replica.
func (b *bench) followed() (w *sql.Conn, f *follower, end func(), err error) {
	w, done, err := b.writer()
	if err != nil {
		return nil, nil, nil, err
	}
	if f, err = b.follow(); err != nil {
		done()
		return nil, nil, nil, err
	}
	return w, f, func() { f.stop(); done() }, nil
}

// refresh: what a refresh after a commit of one row costs, and the row's read after it.
func (b *bench) refresh() error {
	w, f, end, err := b.followed()
	if err != nil {
		return err
	}
	defer end()
	if _, err := f.ask("row 77"); err != nil {
		return err
	}
	var took []time.Duration
	var most measured
	for i := range 10 {
		if _, err := w.ExecContext(context.Background(), "update t set v=? where k=77", i); err != nil {
			return err
		}
		if err := flush(w); err != nil {
			return err
		}
		m, err := f.ask("refresh")
		if err != nil {
			return err
		}
		read, err := f.ask("row 77")
		if err != nil {
			return err
		}
		m.Calls, m.Bytes = m.Calls+read.Calls, m.Bytes+read.Bytes
		took = append(took, m.Scan)
		if m.Bytes > most.Bytes {
			most = m
		}
	}
	slices.Sort(took)
	row("refresh after a one-row commit, and its read", fmt.Sprintf("%s, at most %d requests, %.0f KiB", ms(took[5]), most.Calls, float64(most.Bytes)/1024), "", "")
	return nil
}

func flush(w *sql.Conn) error {
	var ok int
	err := w.QueryRowContext(context.Background(), "pragma verneuil_flush_replication_data").Scan(&ok)
	if err == nil && ok != 1 {
		err = fmt.Errorf("the flush says %d", ok)
	}
	return err
}

// lag: from a commit until a reader with auto refresh sees it.
func (b *bench) lag() error {
	w, f, end, err := b.followed()
	if err != nil {
		return err
	}
	defer end()
	if _, err := f.ask("auto"); err != nil {
		return err
	}
	var lags []time.Duration
	for i := range 30 {
		began := time.Now()
		if _, err := w.ExecContext(context.Background(), "update t set v=? where k=99", 1000+i); err != nil {
			return err
		}
		if _, err := f.ask("until 99 " + strconv.Itoa(1000+i)); err != nil {
			return err
		}
		lags = append(lags, time.Since(began))
		time.Sleep(time.Duration(i%7) * 23 * time.Millisecond) // else the intervals beat in step
	}
	slices.Sort(lags)
	row("commit to visible, auto refresh, interval 100 ms", fmt.Sprintf("p50 %s, p90 %s", ms(lags[15]), ms(lags[27])), "", "")
	return nil
}

// rss: resident memory of a process that has scanned all of the replica, twice.
func (b *bench) rss() error {
	m, err := b.child("rss")
	if err != nil {
		return err
	}
	info, err := os.Stat(b.db)
	if err != nil {
		return err
	}
	row("memory after two scans, highest", fmt.Sprintf("%d MiB (file-backed %d MiB at the end)", m.PeakKiB>>10, m.FileKiB>>10),
		fmt.Sprintf("database %d MiB", info.Size()>>20), fmt.Sprintf("%.2f", float64(m.PeakKiB)*1024/float64(info.Size())))
	row("mappings", m.Mappings, "", "")
	return nil
}

func us(d time.Duration) string { return fmt.Sprintf("%.2f us", float64(d.Nanoseconds())/1000) }
func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
func ratio(a, b time.Duration) string {
	return strings.TrimSpace(fmt.Sprintf("%.2f", float64(a)/float64(b)))
}
