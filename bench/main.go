// Command bench measures what replication costs, compared with stock SQLite, with standard tools
// and with the other systems of the field. Both sides of a comparison run in turns in the same
// run, so that whatever else the machine does affects both. `make bench` runs it.
//
//	bench [-form quick|normal|long] [-parts LIST] -root DIR -results FILE
//
// It writes Markdown tables to FILE after each part, and plots beside it
// (FILE without .md, and -NAME.svg). A part that fails says so in the results, and the
// next one goes on; a peer that cannot be built is left out, with the reason. An
// interrupt ends the part, and the run; the results have what was measured.
//
// `host` (C, in the directory of that name) is the application that uses SQLite; it prints plain
// numbers. Everything else is here: report.go writes the results, stat.go computes, run.go and
// server.go run other programs, and each part has a file of its own.
//
//	bench -publish PAGE -results FILE
//
// copies the last run's main table and plot into PAGE, between its marks, and what a
// long run left in long.md beside FILE.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"iter"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// form is how long a run may take.
type form struct {
	name      string
	seconds   float64 // for each cell of the writer's matrix
	block     float64 // seconds of a block of commits
	pairs     int     // of blocks
	sweep     float64 // for each rate of commits
	bill      float64 // for the loads whose calls are counted
	turns     int     // at most: see inTime
	traced    int     // commits under strace
	bulk      []int   // MiB that are synced and restored
	growth    []int   // MiB of the databases in which a row is updated
	sparse    []int   // the same, for databases with a hole
	replica   int     // MiB
	readers   int     // processes that share a cache
	wal       int     // rows
	rates     []int
	intervals []int // ms between versions
	fullGrid  bool
	keeps     bool // keeps what is discarded until the end: see discard
}

var forms = map[string]form{
	"quick": {name: "quick", seconds: 0.3, block: 0.4, pairs: 3, sweep: 0.8, bill: 6, turns: 3,
		traced: 50, bulk: []int{32}, growth: []int{16, 64}, sparse: []int{1024},
		replica: 32, readers: 5, wal: 50_000, rates: []int{1, 1000}, intervals: []int{1000},
		keeps: true},
	"normal": {name: "normal", seconds: 1, block: 1.5, pairs: 6, sweep: 4, bill: 40, turns: 3,
		traced: 200, bulk: []int{100, 1024}, growth: []int{100, 1024}, sparse: []int{4096},
		replica: 128, readers: 10, wal: 500_000, rates: []int{1, 10, 100, 1000},
		intervals: []int{1000, 50}, fullGrid: true, keeps: true},
	"long": {name: "long", seconds: 6, block: 1.5, pairs: 20, sweep: 20, bill: 190, turns: 5,
		traced: 200, bulk: []int{100, 8192}, growth: []int{100, 1024, 8192}, sparse: []int{102400},
		replica: 1024, readers: 10, wal: 1_000_000, rates: []int{1, 10, 100, 1000},
		intervals: []int{1000, 50}, fullGrid: true},
}

// part is a chapter of the results.
type part struct {
	name, title   string
	run           func(*bench) error
	quick, normal int // seconds that it should take: see inTime
}

// What the parts take on two quiet processors together stays under two and fifteen
// minutes. In the long form each has half an hour, and its largest sizes are measured once.
var parts = []part{
	{"size", "Size, start, fork", partSize, 6, 12},
	{"blocks", "Commits and reads as users see them", partBlocks, 12, 190},
	{"writer", "Commit and read latency in fine turns, nothing else running", func(b *bench) error {
		return partWriter(b, false)
	}, 9, 60},
	{"load", "The same while another database of the process uploads a backlog at full speed",
		func(b *bench) error { return partWriter(b, true) }, 9, 30},
	{"syscalls", "System calls and bytes of a one-page commit", partSyscalls, 6, 16},
	{"memory", "Memory and threads", partMemory, 3, 4},
	{"wal", "WAL size and checkpoints", partWAL, 3, 15},
	{"lag", "Lag, calls and processor time at a rate of commits", partLag, 25, 165},
	{"bill", "API calls, bytes and the monthly bill", partBill, 11, 48},
	{"growth", "The same one-row commit on databases of all sizes", partGrowth, 10, 45},
	{"replica", "Replica", partReplica, 18, 75},
	{"bulk", "Sync and restore", partBulk, 14, 260},
	{"safe", "Durable commits, and encryption", partSafe, 18, 70},
	{"remote", "Databases in a store", partRemote, 40, 60},
	{"rados", "Databases in RADOS, beside Ceph's own VFS", partRados, 60, 120},
	{"rust", "Commits: the original Verneuil", partRust, 7, 45},
	{"litestream", "Replicas: Litestream's VFS", partLitestreamVFS, 8, 45},
}

// budget is the time that the part should take. limit ends it if it hangs, or if the machine is
// busy with something else.
func (p part) budget(form string) (budget, limit time.Duration) {
	switch form {
	case "quick":
		budget = time.Duration(p.quick) * time.Second
	case "normal":
		budget = time.Duration(p.normal) * time.Second
	default:
		return 30 * time.Minute, 4 * time.Hour
	}
	return budget, 4*budget + time.Minute
}

// bench is one run.
type bench struct {
	form
	ctx    context.Context
	root   string // of the sources
	lib    string // libverneuil_vfs.so
	ctl    string // verneuilctl
	host   string // the C program
	dir    string // for data, on the disk of the results
	report *report
	until  time.Time // the part's budget lasts

	discarded atomic.Int64
}

// inTime yields 0 to n-1. It leaves out turns for which the part's budget is too short, but never
// the first: a median of fewer turns is better than no figures for the parts that follow.
func (b *bench) inTime(n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		longest := time.Duration(0)
		for turn := range n {
			start := time.Now()
			if turn > 0 && start.Add(longest).After(b.until) || !yield(turn) {
				return
			}
			longest = max(longest, time.Since(start))
		}
	}
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	formName := flag.String("form", "normal", "how long: quick, normal or long")
	names := flag.String("parts", "", "which parts to run, separated by blanks (default: all)")
	root := flag.String("root", ".", "the directory of the sources, with build/ made")
	results := flag.String("results", "build/results/results.md", "file of the tables")
	headers := flag.String("headers", "", "directory of SQLite's headers")
	readme := flag.String("publish", "", "copy the main table and plot of the last run into this "+
		"file")
	flag.Parse()
	path, err := filepath.Abs(*results)
	if err != nil {
		return err
	}
	if *readme != "" {
		return publish(*readme, path)
	}
	f, ok := forms[*formName]
	if !ok {
		return fmt.Errorf("no form %q", *formName)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second interrupt ends the process at once
	b := &bench{form: f, ctx: ctx}
	if b.root, err = filepath.Abs(*root); err != nil {
		return err
	}
	b.lib, b.ctl = filepath.Join(b.root, "build/libverneuil_vfs.so"),
		filepath.Join(b.root, "build/verneuilctl")
	chosen, err := choose(*names)
	if err != nil {
		return err
	}
	return b.all(chosen, path, *headers)
}

func choose(names string) ([]part, error) {
	if strings.TrimSpace(names) == "" {
		return parts, nil
	}
	var chosen []part
	for _, name := range strings.Fields(names) {
		i := slices.IndexFunc(parts, func(p part) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no part %q", name)
		}
		chosen = append(chosen, parts[i])
	}
	return chosen, nil
}

// all runs the parts. Its error is about what they share; theirs are in the results.
func (b *bench) all(chosen []part, path, headers string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	// A real disk, where /tmp may be memory
	dir, err := os.MkdirTemp(filepath.Dir(path), "results-data.")
	if err != nil {
		return err
	}
	b.dir = dir
	defer os.RemoveAll(dir)
	hideAccount()
	if err := b.compile(headers); err != nil {
		return err
	}
	b.report = newReport(b, path)
	failed := 0
	for _, p := range chosen {
		start := time.Now()
		fmt.Fprintf(os.Stderr, "== %s: %s\n", p.name, p.title)
		b.report.chapter(p.name, p.title)
		if err := b.runPart(p); err != nil {
			failed++
			b.report.text("**This part failed: %s**", strings.ReplaceAll(err.Error(), "\n", " "))
		}
		took, budget := time.Since(start).Seconds(), b.until.Sub(start).Seconds()
		fmt.Fprintf(os.Stderr, "== %s took %.0f s of %.0f\n", p.name, took, budget)
		b.report.took(took)
		if err := b.report.write(); err != nil {
			return err
		}
		if b.ctx.Err() != nil {
			return errors.New("interrupted; the results have what was measured until then")
		}
	}
	fmt.Fprintln(os.Stderr, "results are in", path)
	if failed > 0 {
		return fmt.Errorf("%d parts failed; the results say why", failed)
	}
	return nil
}

func (b *bench) runPart(p part) (err error) {
	outer := b.ctx
	budget, limit := p.budget(b.form.name)
	b.until = time.Now().Add(budget)
	ctx, cancel := context.WithTimeout(outer, limit)
	defer cancel()
	b.ctx = ctx
	defer func() { b.ctx = outer }()
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
			fmt.Fprintf(os.Stderr, "%v\n%s", v, debug.Stack())
		}
	}()
	if err := p.run(b); err != nil {
		if ctx.Err() != nil && outer.Err() == nil {
			return fmt.Errorf("out of time: %w", err)
		}
		return err
	}
	return nil
}
