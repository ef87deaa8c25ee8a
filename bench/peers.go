package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// tools.sh builds the peers. If it cannot build one, it says why.

// peer finds a peer's file under .tools.
func (b *bench) peer(path string) (string, error) {
	file := filepath.Join(b.root, ".tools", path)
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	why, err := os.ReadFile(file + ".missing")
	if err != nil {
		return "", fmt.Errorf("%s was not built (make bench-tools)", filepath.Base(path))
	}
	return "", errors.New(strings.TrimSpace(string(why)))
}

// ---------------------------------------------------------------- Litestream

const litestreamBucket = "litestream"

// litestreamConfig writes a configuration for one database. Its default for a shutdown, 30 s, is
// too little for a first copy of gigabytes.
func litestreamConfig(home, endpoint, db, path string, interval time.Duration) (string, error) {
	text := fmt.Sprintf(`shutdown-timeout: 10m
shutdown-sync-timeout: 10m
dbs:
  - path: %s
    replica:
      type: s3
      bucket: %s
      path: %s
      endpoint: %s
      region: %s
      force-path-style: true
      sync-interval: %s
`, db, litestreamBucket, path, endpoint, region, interval)
	if interval < time.Second {
		text = strings.Replace(text, "    replica:",
			fmt.Sprintf("    monitor-interval: %s\n    replica:", interval), 1)
	}
	file := filepath.Join(home, "litestream.yml")
	return file, os.WriteFile(file, []byte(text), 0o600)
}

// ltxSettle is how long Litestream has for its first snapshot, and how long we wait at the end
// for what it has not sent yet.
const ltxSettle = 15 * time.Second

// litestream makes the commits with stock SQLite beside Litestream's daemon.
func (k *commitRun) litestream(s *server) error {
	program, err := k.peer("bin/litestream")
	if err != nil {
		return err
	}
	c, err := count(s)
	if err != nil {
		return err
	}
	defer c.stop()
	if err := newRaw(s.endpoint).bucket(k.ctx, litestreamBucket); err != nil {
		return err
	}
	// Litestream replicates only a WAL.
	if _, _, err := k.take(nil, "sqlite3", k.db,
		"pragma journal_mode=wal; update t set n=1 where id=1"); err != nil {
		return err
	}
	config, err := litestreamConfig(k.home, c.endpoint, k.db, k.bucket,
		time.Duration(k.result.interval)*time.Millisecond)
	if err != nil {
		return err
	}
	puts := newPutTimes()
	c.watch(func(_ string, begin, end time.Time, _ []byte) { puts.add(begin, end) })
	daemon, err := k.launch(nil, program, "replicate", "-config", config)
	if err != nil {
		return err
	}
	go io.Copy(io.Discard, daemon.stdout)
	defer daemon.end(os.Kill)
	select {
	case <-puts.arrived:
	case <-time.After(ltxSettle):
		return fmt.Errorf("it has sent nothing: %s", tail(daemon.stderr.String()))
	}
	p, err := k.host(nil, "-", "unix")
	if err != nil {
		return err
	}
	before, cpu := c.now(), processCPU(daemon.Process.Pid)
	if err := k.finish(p); err != nil {
		return err
	}
	if k.commits, err = readCommits(k.out); err != nil {
		return err
	}
	if len(k.commits) == 0 {
		return errors.New("no commit in so short a time")
	}
	if err := puts.waitAfter(k.commits[len(k.commits)-1].at); err != nil {
		return err
	}
	k.result.used = c.now().minus(before)
	k.result.cpu += (processCPU(daemon.Process.Pid) - cpu) * 1e6 / float64(len(k.commits))
	if err := k.read(p); err != nil {
		return err
	}
	return k.stored(puts)
}

// stored notes when each commit was stored: by the first PUT that began after it.
func (k *commitRun) stored(puts *putTimes) (err error) {
	k.result.bound, err = puts.bound(k.commits)
	k.result.stored, k.result.versions = k.result.bound, len(puts.all)
	return err
}

// putTimes are the times of PUTs, from when each began to when it was answered.
type putTimes struct {
	mu      sync.Mutex
	all     [][2]time.Time
	arrived chan struct{} // tells of one more
}

var errNeverSent = errors.New("the last commit was never sent")

func newPutTimes() *putTimes { return &putTimes{arrived: make(chan struct{}, 1)} }

func (p *putTimes) add(begin, end time.Time) {
	p.mu.Lock()
	p.all = append(p.all, [2]time.Time{begin, end})
	p.mu.Unlock()
	select {
	case p.arrived <- struct{}{}:
	default:
	}
}

// bound returns the milliseconds from each commit until the first PUT was answered that began after
// it: the commit was not stored before, whatever that PUT was.
func (p *putTimes) bound(commits []seen) (all []float64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	slices.SortFunc(p.all, func(a, b [2]time.Time) int { return a[0].Compare(b[0]) })
	i := 0
	for _, commit := range commits {
		for i < len(p.all) && p.all[i][0].Before(commit.at) {
			i++
		}
		if i == len(p.all) {
			return all, errNeverSent
		}
		all = append(all, p.all[i][1].Sub(commit.at).Seconds()*1e3)
	}
	return all, nil
}

// waitAfter waits until one has begun after a commit.
func (p *putTimes) waitAfter(commit time.Time) error {
	for {
		p.mu.Lock()
		done := len(p.all) > 0 && p.all[len(p.all)-1][0].After(commit)
		p.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-p.arrived:
		case <-time.After(ltxSettle):
			return errNeverSent
		}
	}
}

// processCPU is what a running process has used, in seconds.
func processCPU(pid int) float64 {
	body, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(body), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	const ticks = 100 // USER_HZ, on every Linux that we know
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / ticks
}

func (k *bulkRun) litestreamSync() (cost, error) {
	program, err := k.peer("bin/litestream")
	if err != nil {
		return cost{}, err
	}
	if err := newRaw(k.server.endpoint).bucket(k.ctx, litestreamBucket); err != nil {
		return cost{}, err
	}
	// Its own copy: it leaves files beside the database, and turns it to WAL.
	home := filepath.Join(k.dir, "litestream")
	k.discard(home)
	if err := os.MkdirAll(home, 0o755); err != nil {
		return cost{}, err
	}
	db := filepath.Join(home, "a.db")
	if err := k.copyFile(k.db, db); err != nil {
		return cost{}, err
	}
	config, err := litestreamConfig(home, k.server.endpoint, db, "bulk", time.Second)
	if err != nil {
		return cost{}, err
	}
	_, c, err := k.take(nil, program, "replicate", "-once", "-config", config)
	return c, err
}

func (k *bulkRun) litestreamRestore() (cost, error) {
	program, err := k.peer("bin/litestream")
	if err != nil {
		return cost{}, err
	}
	out := filepath.Join(k.dir, "litestream", "out")
	_, c, err := k.take(nil, program, "restore", "-config",
		filepath.Join(k.dir, "litestream", "litestream.yml"), "-o", out,
		filepath.Join(k.dir, "litestream", "a.db"))
	if err != nil {
		return c, err
	}
	info, err := os.Stat(out)
	if err == nil && info.Size() == 0 {
		err = errors.New("it restored an empty file")
	}
	os.RemoveAll(filepath.Join(k.dir, "litestream"))
	return c, err
}

// ---------------------------------------------------------------- the original Verneuil

func (k *bulkRun) rust(args ...string) (cost, error) {
	program, err := k.peer("bin/verneuil-rs")
	if err != nil {
		return cost{}, err
	}
	env, err := configure(filepath.Join(k.dir, "rust"), s3Target(k.server.endpoint, "rust"), nil)
	if err != nil {
		return cost{}, err
	}
	_, c, err := k.take(env, program, args...)
	return c, err
}

func (k *bulkRun) rustSync() (cost, error) {
	k.discard(filepath.Join(k.dir, "rust"))
	return k.rust("sync", k.db)
}

func (k *bulkRun) rustRestore() (cost, error) {
	out := filepath.Join(k.dir, "out")
	defer os.Remove(out)
	c, err := k.rust("restore", "--source-path", k.db, "--out", out)
	if err != nil {
		return c, err
	}
	return c, same(k.db, out)
}

// rustCells are the cells that the original can run: it does not support WAL. If time is short,
// only the first of them are run.
var rustCells = []string{"delete/full/4096/1", "truncate/off/4096/1", "read/delete/4096/10",
	"truncate/full/4096/1", "persist/off/4096/1",
	"delete/full/4096/100", "truncate/off/4096/100"}

// partRust runs the writer's cells with the original extension, which has the
// same VFS name and pragmas.
func partRust(b *bench) error {
	lib, err := b.peer("lib/rust/libverneuil_vfs.so")
	if err != nil {
		b.report.text("Skipped: %v.", err)
		return nil
	}
	dir, s, end, err := b.scene("rust")
	if err != nil {
		return err
	}
	defer end()
	var results [2][]*cellResult
	for turn := range b.inTime(len(rustCells)) {
		for i, lib := range []string{lib, b.lib} {
			home := filepath.Join(dir, strconv.Itoa(i))
			env, err := configure(home, s3Target(s.endpoint, fmt.Sprintf("side-%d", i)), nil)
			if err != nil {
				return err
			}
			out, _, err := b.take(env, b.host, "commit", lib, home, fmt.Sprint(2*b.seconds), "0",
				rustCells[turn])
			if err != nil {
				return err
			}
			r, err := parseCells(nil, out)
			if err != nil {
				return err
			}
			results[i] = append(results[i], r...)
		}
	}
	var rows []row
	for i, theirs := range results[0] {
		ours := results[1][i]
		rows = append(rows, row{theirs.name, times(theirs.stock), theirs.ratio(statMedian),
			ours.ratio(statMedian), over(theirs.ratio(statMedian).Median,
				ours.ratio(statMedian).Median),
			theirs.ratio(statCPU), ours.ratio(statCPU)})
	}
	b.report.text("The original Verneuil 0.6.4 (Rust) and this one, " +
		"each in turns with stock SQLite in a process of its own, with MinIO as the target. " +
		"The original does not support WAL.")
	b.report.table([]string{"", "stock us: median, p99, max", "Rust x stock", "verneuil x stock",
		"Rust to verneuil", "Rust CPU x", "verneuil CPU x"}, rows)
	return nil
}

// ---------------------------------------------------------------- Litestream's VFS

// partLitestreamVFS reads the same database through both projects' replicas.
func partLitestreamVFS(b *bench) error {
	program, err := b.peer("bin/litestream")
	lib, err2 := b.peer("lib/litestream-vfs.so")
	if err := errors.Join(err, err2); err != nil {
		b.report.text("Skipped: %v.", err)
		return nil
	}
	dir, s, end, err := b.scene("lsvfs")
	if err != nil {
		return err
	}
	defer end()
	r := &readers{bench: b, dir: dir, db: filepath.Join(dir, "a.db"), server: s}
	const mib = 8 // it fetches page by page
	if err := b.fill(r.db, mib); err != nil {
		return err
	}
	if err := r.sync(); err != nil {
		return err
	}
	k := &bulkRun{bench: b, dir: dir, db: r.db, server: s}
	if _, err := k.litestreamSync(); err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	c, err := count(s)
	if err != nil {
		return err
	}
	defer c.stop()
	var got [2]peerReads
	for turn := range b.inTime(b.turns) {
		for i := range 2 {
			side := i ^ turn&1
			env, args := []string{"LITESTREAM_REPLICA_URL=s3://" + litestreamBucket +
				"/bulk?endpoint=" + strings.TrimPrefix(c.endpoint, "http://") + "&region=" +
				region + "&force-path-style=true",
				"LITESTREAM_LOG_LEVEL=ERROR"}, []string{"query", lib, "litestream", "file:a.db"}
			if side == 1 {
				if env, err = r.reader(c.endpoint); err != nil {
					return err
				}
				args = []string{"query", b.lib, "verneuil_snapshot", replicaURI(r.db)}
			}
			if err := got[side].query(b, c, env, args); err != nil {
				return err
			}
		}
	}
	b.report.text("A database of %s in MinIO, stored by Litestream and by verneuil, "+
		"each read through its own VFS, by processes that have nothing cached.", size(mib))
	b.report.table([]string{"", "litestream VFS", "verneuil_snapshot", "verneuil / litestream"},
		peerRows(got[0], got[1]))
	return nil
}

// peerReads is what the readers of one project needed.
type peerReads struct {
	ms   [5][]float64 // of each step
	used calls        // of the last one
	peak []float64    // MiB
}

// query starts one more reader, which does all steps.
func (p *peerReads) query(b *bench, c *counter, env, args []string) error {
	before := c.now()
	args = append(args, pointSQL, pointSQL, scanSQL, scanSQL)
	out, spent, err := b.take(env, b.host, args...)
	if err != nil {
		return err
	}
	lines, err := numbers(out)
	if err != nil || len(lines) != len(p.ms) {
		return fmt.Errorf("host query said %q: %v", out, err)
	}
	p.used = c.now().minus(before)
	for n, line := range lines {
		p.ms[n] = append(p.ms[n], line[0]/1e3)
	}
	p.peak = append(p.peak, spent.peakMiB)
	return nil
}

// peerRows compares Litestream's readers with ours.
func peerRows(theirs, ours peerReads) []row {
	var rows []row
	for n, name := range []string{"open, ms", "first query by key, ms", "the same again, ms",
		"scan of everything, ms", "scan again, ms"} {
		rows = append(rows, row{name, spreadOf(theirs.ms[n]), spreadOf(ours.ms[n]),
			ratios(ours.ms[n], theirs.ms[n])})
	}
	return append(rows, row{"all calls", theirs.used.String(), ours.used.String(),
		over(float64(ours.used.all()), float64(theirs.used.all()))},
		row{"MB down", float64(theirs.used.down) / 1e6, float64(ours.used.down) / 1e6,
			over(float64(ours.used.down), float64(theirs.used.down))},
		row{"peak MiB", spreadOf(theirs.peak).Median, spreadOf(ours.peak).Median,
			over(spreadOf(ours.peak).Median, spreadOf(theirs.peak).Median)})
}
