package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

// seen says that a commit was visible at a time.
type seen struct {
	commit int64
	at     time.Time
}

// watcher sees our manifests as they arrive at the server.
type watcher struct {
	store *chunkstore.Store
	first chan struct{} // closed when there is one

	mu     sync.Mutex
	all    []seen
	err    error
	closed bool
}

func newWatcher(s *server, bucket string, c *counter) (*watcher, error) {
	store, err := openS3(s.endpoint, bucket)
	if err != nil {
		return nil, err
	}
	w := &watcher{store: store, first: make(chan struct{})}
	c.watch(func(key string, _, end time.Time, body []byte) {
		if strings.Contains(key, "-manifests/") {
			w.manifest(end, body)
		}
	})
	return w, nil
}

func (w *watcher) manifest(at time.Time, body []byte) {
	commit, err := userVersion(w.store, body)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.err = err
		return
	}
	w.all = append(w.all, seen{int64(commit), at})
	if !w.closed {
		w.closed = true
		close(w.first)
	}
}

func (w *watcher) seen() ([]seen, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all, w.err
}

// userVersion is the number of the last commit that a manifest has: see host rate.
func userVersion(store *chunkstore.Store, body []byte) (uint32, error) {
	const at = 60 // in the header of a database
	m, err := manifest.Decode(body)
	if err != nil || m.FileBytes == 0 {
		return 0, err
	}
	if in := m.InlineOf(0); len(in) > 0 && in[0].Offset == 0 {
		return binary.BigEndian.Uint32(in[0].Data[at:]), nil
	}
	id, err := m.Tree().Lookup(context.Background(), 0, store.GetChunk)
	if err != nil {
		return 0, err
	}
	chunk, err := store.GetChunk(context.Background(), id)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(m.Overlay(0, chunk)[at:]), nil
}

// commit is a line that host rate has written.
func readCommits(name string) (all []seen, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		s, err := parseSeen(lines.Text())
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func parseSeen(line string) (seen, error) {
	var n, at int64
	_, err := fmt.Sscan(line, &n, &at)
	return seen{n, time.Unix(0, at)}, err
}

// lags are the milliseconds from each commit until something showed it or a later one.
func lags(commits, shown []seen) (all []float64, err error) {
	i := 0
	for _, c := range commits {
		for i < len(shown) && shown[i].commit < c.commit {
			i++
		}
		if i == len(shown) {
			return all, fmt.Errorf("commit %d of %d was never seen", c.commit, len(commits))
		}
		all = append(all, max(0, shown[i].at.Sub(c.at).Seconds()*1e3))
	}
	return all, nil
}

// rateResult is a run of commits at a rate.
type rateResult struct {
	system   string
	rate     float64
	interval int // ms
	commits  int
	versions int       // manifests or LTX files
	stored   []float64 // ms from commit to the target
	read     []float64 // ms from commit to a refreshed replica's read
	used     calls
	cpu      float64 // us of all threads for a commit
	latency  float64 // us, median
}

func (r rateResult) name() string {
	if r.interval == 0 {
		return r.system
	}
	return fmt.Sprintf("%s, %d ms", r.system, r.interval)
}

// partLag compares what happens between a commit and its arrival.
func partLag(b *bench) error {
	dir, s, end, err := b.scene("lag")
	if err != nil {
		return err
	}
	defer end()
	template := filepath.Join(dir, "template.db")
	if err := b.fill(template, 4); err != nil {
		return err
	}
	put, get, err := newRaw(s.endpoint).roundTrips(b.ctx, 4096)
	if err != nil {
		return err
	}
	roundTrip := (put + get) * 1e3
	b.report.text("Transactions of one row and user_version, WAL, synchronous=NORMAL, a 4 MiB database, the target MinIO. A proxy counts the calls and tells when a manifest was\n"+
		"stored; a second process refreshes a replica all the time. For scale: a raw PUT of 4 KB takes %.2f ms there and a raw GET %.2f ms (medians of 41), together the\n"+
		"round trip below. With an interval, a commit waits for it half of the time on average: what the default of 1,000 ms saves is in the next part.\n"+
		"Litestream's lag is a lower bound: until the first PUT that began after the commit was answered.", put*1e3, get*1e3)
	var all []rateResult
	var failed error
	for _, rate := range b.rates {
		for _, k := range []struct {
			system   string
			interval int
		}{{"stock", 0}, {"verneuil", 1000}, {"verneuil", 50}, {"litestream", 1000}, {"litestream", 50}} {
			r, err := b.commitAt(s, dir, template, k.system, k.interval, float64(rate), b.sweep)
			if err != nil {
				if k.system == "litestream" {
					b.report.text("Litestream at %d/s was left out: %v.", rate, err)
					continue
				}
				failed = err
				continue
			}
			all = append(all, r)
		}
	}
	b.lagTable(all, roundTrip)
	return failed
}

func (b *bench) lagTable(all []rateResult, roundTrip float64) {
	stock := map[float64]rateResult{}
	for _, r := range all {
		if r.system == "stock" {
			stock[r.rate] = r
		}
	}
	quantiles := func(v []float64) string {
		if len(v) == 0 {
			return "-"
		}
		return fmt.Sprintf("%s, %s, %s", short(percentile(v, 0.5)), short(percentile(v, 0.99)), short(percentile(v, 1)))
	}
	trips := func(v []float64) any {
		if len(v) == 0 {
			return "-"
		}
		return over(percentile(v, 0.5), roundTrip)
	}
	var rows []row
	for _, r := range all {
		n := float64(r.commits)
		base := stock[r.rate]
		rows = append(rows, row{r.name(), r.rate, r.commits, r.versions, quantiles(r.stored), quantiles(r.read),
			trips(r.stored), trips(r.read), float64(r.used.all()) / n, float64(r.used.up) / n, r.cpu, over(r.cpu, base.cpu), over(r.latency, base.latency)})
		if r.system == "verneuil" && r.interval == 1000 && r.rate <= 1 && len(r.read) > 0 {
			v := spreadOf(r.read)
			b.report.aim(aim{What: "lag from a commit to a refreshed replica's read at 1 commit/s, to PUT + GET", Aim: 2, Got: spread{v.Min / roundTrip, v.Median / roundTrip, v.Max / roundTrip, v.N},
				Why: "the replica polls, and a commit within the interval of the one before waits"})
		}
	}
	b.report.table([]string{"system, interval", "commits/s", "commits", "versions", "stored after ms: p50, p99, max", "read after ms", "stored p50 / round trip", "read p50 / round trip",
		"calls per commit", "bytes up per commit", "CPU us per commit, all threads", "x stock", "commit latency x stock"}, rows)
	b.lagPlot(all)
}

func (b *bench) lagPlot(all []rateResult) {
	p := &plot{name: "lag", part: "lag", title: "Milliseconds from a commit until it is stored (median, line: to the 99th percentile)", axis: "commits per second", log: true}
	for _, rate := range b.rates {
		p.x, p.xLabels = append(p.x, float64(rate)), append(p.xLabels, strconv.Itoa(rate))
	}
	for _, r := range all {
		if len(r.stored) == 0 {
			continue
		}
		name, i := r.name(), 0
		for i < len(p.series) && p.series[i].name != name {
			i++
		}
		if i == len(p.series) {
			p.series = append(p.series, series{name, make([]spread, len(b.rates))})
		}
		for k, rate := range b.rates {
			if float64(rate) == r.rate {
				m := percentile(r.stored, 0.5)
				p.series[i].values[k] = spread{max(m, 0.01), max(m, 0.01), max(percentile(r.stored, 0.99), 0.01), len(r.stored)}
			}
		}
	}
	b.report.plot(p)
}

// commitAt makes commits at a rate with one system, whose version interval is in ms.
func (b *bench) commitAt(s *server, dir, template, system string, interval int, rate, seconds float64) (rateResult, error) {
	name := fmt.Sprintf("%s-%d-%s", system, interval, strings.ReplaceAll(strconv.FormatFloat(rate, 'g', -1, 64), ".", "-"))
	home := filepath.Join(dir, name)
	if err := os.MkdirAll(home, 0o755); err != nil {
		return rateResult{}, err
	}
	db := filepath.Join(home, "a.db")
	if err := b.copyFile(template, db); err != nil {
		return rateResult{}, err
	}
	k := &commitRun{bench: b, home: home, db: db, bucket: name, out: filepath.Join(home, "commits"),
		result: rateResult{system: system, rate: rate, interval: interval}}
	k.args = []string{db, strconv.FormatFloat(rate, 'g', -1, 64), strconv.FormatFloat(seconds, 'g', -1, 64), k.out}
	k.total = int64(rate * seconds)
	start := time.Now()
	defer func() {
		fmt.Fprintf(os.Stderr, "%s %v/s %d ms: %.1f s\n", system, rate, interval, time.Since(start).Seconds())
	}()
	var err error
	switch system {
	case "stock":
		err = k.stock()
	case "verneuil":
		err = k.verneuil(s)
	default:
		err = k.litestream(s)
	}
	return k.result, err
}

// commitRun is a run of `host rate`.
type commitRun struct {
	*bench
	home, db, bucket, out string
	args                  []string
	total                 int64
	commits               []seen
	result                rateResult
}

func (k *commitRun) host(env []string, lib, vfs string) (*process, error) {
	return k.launch(env, k.bench.host, append([]string{"rate", lib, vfs}, k.args...)...)
}

// finish reads what the host says and wrote.
func (k *commitRun) finish(p *process) error {
	out, err := bufio.NewReader(p.stdout).ReadString('\n')
	if err != nil {
		return fmt.Errorf("host rate: %w: %s", err, tail(p.stderr.String()))
	}
	lines, err := numbers(out)
	if err != nil {
		return err
	}
	k.result.cpu, k.result.latency = lines[0][0], lines[0][1]
	return nil
}

func (k *commitRun) read(p *process) (err error) {
	p.stdin.Close()
	if err := p.wait(); err != nil {
		return err
	}
	k.commits, err = readCommits(k.out)
	k.result.commits = len(k.commits)
	return err
}

func (k *commitRun) stock() error {
	p, err := k.host(nil, "-", "unix")
	if err != nil {
		return err
	}
	if err := k.finish(p); err != nil {
		return err
	}
	return k.read(p)
}

func (k *commitRun) verneuil(s *server) error {
	c, err := count(s)
	if err != nil {
		return err
	}
	defer c.stop()
	w, err := newWatcher(s, k.bucket, c)
	if err != nil {
		return err
	}
	defer w.store.Close()
	env, err := configure(k.home, s3Target(c.endpoint, k.bucket), object{"manifest_interval_ms": k.result.interval})
	if err != nil {
		return err
	}
	p, err := k.host(env, k.lib, "verneuil")
	if err != nil {
		return err
	}
	select {
	case <-w.first:
	case <-k.ctx.Done():
		return k.ctx.Err()
	}
	before := c.now()
	shown := make(chan error, 1)
	var read []seen
	go func() {
		var err error
		read, err = k.follow(s)
		shown <- err
	}()
	if err := k.finish(p); err != nil {
		return err
	}
	if err := k.read(p); err != nil {
		return err
	}
	k.result.used = c.now().minus(before)
	if err := <-shown; err != nil {
		return err
	}
	stored, err := w.seen()
	if err != nil {
		return err
	}
	k.result.versions = len(stored) - 1
	if k.result.stored, err = lags(k.commits, stored); err != nil {
		return err
	}
	k.result.read, err = lags(k.commits, read)
	return err
}

// follow runs a replica that refreshes until it has the last commit; its calls go
// past the proxy.
func (k *commitRun) follow(s *server) (all []seen, err error) {
	env, err := configure(k.home+"/reader", s3Target(s.endpoint, k.bucket), object{"tempdir": k.home})
	if err != nil {
		return nil, err
	}
	out, _, err := k.take(env, k.bench.host, "follow", k.lib, replicaURI(k.db), strconv.FormatInt(k.total+1, 10))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(out) {
		v, err := parseSeen(line)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

func replicaURI(db string) string { return "file:verneuil://bench" + db }
