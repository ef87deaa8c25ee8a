package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/versions"
)

// seen says that a commit was visible at a time.
type seen struct {
	commit int64
	at     time.Time
}

// watcher sees our versions when they arrive at the server.
type watcher struct {
	store *chunkstore.Store
	next  chan struct{} // not empty if a version has arrived since it was emptied
	puts  *putTimes     // of all objects

	mu     sync.Mutex
	newest *manifest.Manifest
	all    []seen
	err    error
}

func newWatcher(s *server, bucket string, c *counter) (*watcher, error) {
	store, err := openS3(s.endpoint, bucket)
	if err != nil {
		return nil, err
	}
	w := &watcher{store: store, next: make(chan struct{}, 1), puts: newPutTimes()}
	c.watch(func(key string, begin, end time.Time, body []byte) {
		name := path.Base(key)
		w.puts.add(begin, end)
		switch {
		case strings.HasPrefix(name, chunkstore.LogKeyPrefix):
			w.arrived(end, func() (*manifest.Manifest, error) { return w.fold(name, body) })
		case strings.Contains(key, "-manifests/") && name != chunkstore.MarkerKey:
			w.arrived(end, func() (*manifest.Manifest, error) {
				return manifest.Decode(w.store.Sealer(), body)
			})
		}
	})
	return w, nil
}

// fold returns the version that a record makes of the newest. The caller holds mu.
func (w *watcher) fold(name string, body []byte) (*manifest.Manifest, error) {
	if w.newest == nil {
		return nil, fmt.Errorf("%s came before a manifest", name)
	}
	record, err := history.Decode(w.newest.At.Number+1, body)
	if err != nil {
		return nil, err
	}
	return versions.Fold(w.newest, record)
}

// arrived notes the version that read returns, unless it is a checkpoint of what came before.
func (w *watcher) arrived(at time.Time, read func() (*manifest.Manifest, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m, err := read()
	if err != nil {
		w.err = err
		return
	}
	was := w.newest
	if was != nil && m.At.Lineage == was.At.Lineage && m.At.Number < was.At.Number {
		return
	}
	w.newest = m
	if was != nil && m.Cut == was.Cut {
		return
	}
	commit, err := userVersion(w.store, m)
	if err != nil {
		w.err = err
		return
	}
	w.all = append(w.all, seen{int64(commit), at})
	select {
	case w.next <- struct{}{}:
	default:
	}
}

func (w *watcher) seen() ([]seen, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all, w.err
}

// userVersion is the number of the last commit that a version has: see host rate.
func userVersion(store *chunkstore.Store, m *manifest.Manifest) (uint32, error) {
	const at = 60 // in the header of a database
	if m.FileBytes == 0 {
		return 0, nil
	}
	if in := m.InlineOf(0); len(in) > 0 && in[0].Offset == 0 {
		return binary.BigEndian.Uint32(in[0].Data[at:]), nil
	}
	fetch := func(ctx context.Context, refs []chunkstore.Ref) ([][]byte, error) {
		return store.GetObjects(ctx, nil, refs)
	}
	ref, err := m.Tree(store.Sealer()).Lookup(context.Background(), 0, fetch)
	if err != nil {
		return 0, err
	}
	chunk, err := store.GetObject(context.Background(), nil, ref)
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
	contestant
	rate     float64
	commits  int
	versions int       // versions of ours, or LTX files
	stored   []float64 // ms from commit to the target
	bound    []float64 // the same to the first PUT that began after it
	read     []float64 // ms from commit to a refreshed replica's read
	// ms of a raw PUT and GET meanwhile, at a commit a second: see [commitRun.trips]
	put, get float64
	used     calls
	cpu      float64 // us of all threads for a commit
	latency  float64 // us, median
}

// contestant is who replicates the commits, and how.
type contestant struct {
	system   string
	interval int // ms between versions; 0: does not apply
	calls    int // a second at most; 0: the default
	server   string
	replica  bool // another process refreshes a replica all the time
}

func (c contestant) name() string {
	name := c.system
	if c.interval > 0 {
		name += fmt.Sprintf(", %d ms", c.interval)
	}
	if c.calls > 0 {
		name += fmt.Sprintf(", %d calls/s", c.calls)
	}
	if c.replica {
		name += ", a replica"
	}
	if c.server != "minio" && c.system != "stock" {
		name += ", " + c.server
	}
	return name
}

// contestants are the systems that are compared at a rate of commits. At one commit a second,
// intervals hardly matter. At a thousand, our limit of calls does. Where ours is compared with
// Litestream, no replica asks the server, as none of Litestream's does.
func (b *bench) contestants(rate int) []contestant {
	all := []contestant{{system: "stock", server: "minio"}}
	intervals := b.intervals
	if rate <= 1 {
		intervals = intervals[:1]
	}
	for _, system := range []string{"verneuil", "litestream"} {
		for _, interval := range intervals {
			all = append(all, contestant{system, interval, 0, "minio",
				system == "verneuil" && rate <= 1})
		}
	}
	if rate >= 1000 && b.fullGrid {
		all = append(all, contestant{"verneuil", 1000, 1000, "minio", true})
	}
	return all
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
	b.report.text("Transactions of one row and user_version, WAL, synchronous=NORMAL, " +
		"a 4 MiB database, the target MinIO. A proxy counts the calls and tells when a manifest " +
		"was\n" +
		"stored; where a replica is named, a second process refreshes one all the time, and " +
		"bypasses the proxy. " +
		"A commit waits for half of the interval on average; the next part shows what the\n" +
		"default of 1,000 ms saves. Litestream's lag is a lower bound: " +
		"it ends when the first PUT that began after the commit is answered (told of both).")
	var all []rateResult
	var failed error
	for _, rate := range b.rates {
		seconds := b.sweep
		if rate <= 1 {
			seconds *= 2.5 // else there are too few commits for a median
		}
		for _, who := range b.contestants(rate) {
			r, err := b.commitAt(s, dir, template, who, float64(rate), seconds)
			if err != nil && who.system == "litestream" {
				b.report.text("Litestream at %d/s was left out: %v.", rate, err)
			} else if err != nil {
				failed = err
			} else {
				all = append(all, r)
			}
		}
	}
	if r, err := b.lagElsewhere(dir, template); err == nil {
		all = append(all, r)
	} else {
		b.report.text("versitygw was left out: %v.", err)
	}
	b.lagTable(all)
	return failed
}

// lagElsewhere is the lag of single commits on a server on which a GET does not wait for a PUT
// of the same object.
func (b *bench) lagElsewhere(dir, template string) (rateResult, error) {
	s, err := b.serve("versitygw", filepath.Join(dir, "versitygw"))
	if err != nil {
		return rateResult{}, err
	}
	defer s.stop()
	b.report.text("If a GET meets a PUT of the same object, MinIO lets the GET try the lock " +
		"again after up to 50 ms (lockLoop in its internal/lsync/lrwmutex.go). " +
		"A replica that polls all\n" +
		"the time runs into this at nearly every commit: hence the last row, with versitygw.")
	who := contestant{"verneuil", 1000, 0, s.name, true}
	return b.commitAt(s, dir, template, who, 1, 2.5*b.sweep)
}

// commitAt makes commits at a rate with one of the systems.
func (b *bench) commitAt(s *server, dir, template string, who contestant, rate,
	seconds float64) (rateResult, error) {
	name := fmt.Sprintf("%s-%d-%d-%s-%s", who.system, who.interval, who.calls, who.server,
		strings.ReplaceAll(strconv.FormatFloat(rate, 'g', -1, 64), ".", "-"))
	home := filepath.Join(dir, name)
	if err := os.MkdirAll(home, 0o755); err != nil {
		return rateResult{}, err
	}
	db := filepath.Join(home, "a.db")
	if err := b.copyFile(template, db); err != nil {
		return rateResult{}, err
	}
	k := &commitRun{bench: b, home: home, db: db, bucket: name, out: filepath.Join(home, "commits"),
		result: rateResult{contestant: who, rate: rate}}
	k.args = []string{db, strconv.FormatFloat(rate, 'g', -1, 64),
		strconv.FormatFloat(seconds, 'g', -1, 64), k.out}
	k.total = int64(rate * seconds)
	start := time.Now()
	defer func() {
		fmt.Fprintf(os.Stderr, "%s at %v/s: %.1f s\n", who.name(), rate,
			time.Since(start).Seconds())
	}()
	var err error
	switch who.system {
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

func (k *commitRun) verneuil(s *server) (err error) {
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
	more := object{"manifest_interval_ms": k.result.interval}
	if k.result.calls > 0 {
		more["api_calls_per_second"] = k.result.calls
	}
	env, err := configure(k.home, s3Target(c.endpoint, k.bucket), more)
	if err != nil {
		return err
	}
	p, err := k.host(env, k.lib, "verneuil")
	if err != nil {
		return err
	}
	select {
	case <-w.next:
	case <-k.ctx.Done():
		return k.ctx.Err()
	}
	before := c.now()
	if k.result.rate <= 1 {
		end, err := k.trips(s, w)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, end()) }()
	}
	shown := make(chan error, 1)
	var read []seen
	go func() {
		var err error
		if k.result.replica {
			read, err = k.follow(s)
		}
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
	return k.measure(w, read)
}

// measure computes the lags: w has seen what was stored, and read is what a replica has shown.
func (k *commitRun) measure(w *watcher, read []seen) error {
	stored, err := w.seen()
	if err != nil {
		return err
	}
	k.result.versions = len(stored) - 1
	k.result.bound, err = w.puts.bound(k.commits)
	if errors.Is(err, errNeverSent) { // the last commit was sent before its time was taken
		k.result.bound, err = nil, nil
	}
	if err != nil {
		return err
	}
	k.result.stored, err = lags(k.commits, stored)
	if err == nil && k.result.replica {
		k.result.read, err = lags(k.commits, read)
	}
	return err
}

// trips measures raw requests while one commit a second is made, until end is called: after a
// second of sleep everything, processors included, takes longer than if it ran all the time. A PUT
// goes through the proxy, like a manifest's, and a GET bypasses it, like a replica's.
func (k *commitRun) trips(s *server, w *watcher) (end func() error, err error) {
	c, err := count(s)
	if err != nil {
		return nil, err
	}
	proxied, direct := newRaw(c.endpoint), newRaw(s.endpoint)
	if err := direct.bucket(k.ctx, tripsBucket); err != nil {
		c.stop()
		return nil, err
	}
	ctx, cancel := context.WithCancel(k.ctx)
	var puts, gets []float64
	ended := make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-w.next:
			case <-ctx.Done():
				ended <- nil
				return
			}
			select {
			case <-time.After(500 * time.Millisecond):
			case <-ctx.Done():
				ended <- nil
				return
			}
			put, get, err := proxied.roundTrip(ctx, direct, i, 4096)
			if err != nil {
				ended <- err
				return
			}
			puts, gets = append(puts, put*1e3), append(gets, get*1e3)
		}
	}()
	return func() error {
		cancel()
		err := <-ended
		c.stop()
		if len(puts) > 0 {
			k.result.put, k.result.get = percentile(puts, 0.5), percentile(gets, 0.5)
		}
		if errors.Is(err, context.Canceled) { // it was the last, and is not needed
			return nil
		}
		return err
	}, nil
}

// follow runs a replica that refreshes until it has the last commit; its calls bypass the
// proxy.
func (k *commitRun) follow(s *server) (all []seen, err error) {
	env, err := configure(k.home+"/reader", s3Target(s.endpoint, k.bucket),
		object{"tempdir": k.home})
	if err != nil {
		return nil, err
	}
	out, _, err := k.take(env, k.bench.host, "follow", k.lib, replicaURI(k.db),
		strconv.FormatInt(k.total+1, 10))
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
