package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"sync"
	"syscall"
	"time"
)

func main() {
	var r runner
	flag.StringVar(&r.root, "programs", "", "the `directory` that build.sh has filled")
	flag.StringVar(&r.here, "suites", "test/sqlite", "the `directory` of suites.tcl")
	flag.StringVar(&r.lib, "lib", os.Getenv("VERNEUIL_LIB"), "the extension")
	flag.StringVar(&r.ctl, "ctl", os.Getenv("VERNEUIL_CTL"), "verneuilctl")
	flag.StringVar(&r.preload, "preload", "",
		"`libraries` of the sanitizer that the extension is compiled with")
	flag.DurationVar(&r.timeout, "timeout", 20*time.Minute, "for one process")
	short := flag.Bool("short", false, "the subset that is part of make test")
	remote := flag.Bool("remote", false, "the databases live in a store")
	only := flag.String("only", "", "`regexp` of \"suite file\" to run")
	jobs := flag.Int("j", runtime.NumCPU(), "items at a time")
	outputs := flag.String("outputs", "", "`directory` for the outputs of items that are worse")
	verbose := flag.Bool("v", false, "print each item's times")
	asRoot := flag.Bool("root", false, "do not give up root's rights")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	t := &tally{w: os.Stdout, outputs: *outputs, verbose: *verbose, start: time.Now()}
	ok, err := r.all(ctx, t, selection{*short, *remote, *only}, *jobs, *asRoot)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sqlite-test:", err)
	}
	if !ok || err != nil {
		os.Exit(1)
	}
}

// selection says which items are run.
type selection struct {
	short, remote bool
	only          string
}

// all runs the items and prints what came of them. ok: none was worse.
func (r *runner) all(ctx context.Context, t *tally, which selection, jobs int,
	asRoot bool) (ok bool, err error) {
	for _, path := range []*string{&r.root, &r.here, &r.lib, &r.ctl} {
		if *path, err = filepath.Abs(*path); err != nil {
			return false, err
		}
	}
	pattern, err := regexp.Compile(which.only)
	if err != nil {
		return false, err
	}
	if r.work, err = os.MkdirTemp("", "sqlite-test-"); err != nil {
		return false, err
	}
	defer removeAll(r.work)
	if err := os.Chmod(r.work, 0o711); err != nil {
		return false, err
	}
	if err := r.copyScripts(filepath.Join(r.work, "mptest")); err != nil {
		return false, err
	}
	if which.remote {
		if err := r.stored.prepare(ctx, r.here, r.work); err != nil {
			return false, err
		}
	}
	r.dropRoot(ctx, asRoot)
	todo, err := items(ctx, r.programs, which)
	if err != nil {
		return false, err
	}
	queue := make(chan item)
	var wg sync.WaitGroup
	errs := make(chan error, jobs)
	for range jobs {
		wg.Go(func() {
			for i := range queue {
				if err := r.both(ctx, i, t); err != nil {
					errs <- fmt.Errorf("%s: %w", i, err)
					return
				}
			}
		})
	}
feed:
	for _, i := range todo {
		if !pattern.MatchString(i.String()) {
			continue
		}
		select {
		case queue <- i:
		case err = <-errs:
			break feed
		case <-ctx.Done():
			err = ctx.Err()
			break feed
		}
	}
	close(queue)
	wg.Wait()
	if err == nil && len(errs) > 0 {
		err = <-errs
	}
	return t.report() && err == nil, err
}

// both runs an item both ways, one after the other, and hands in the comparison. Where
// stock hangs there is nothing to compare with.
func (r *runner) both(ctx context.Context, i item, t *tally) error {
	stock, err := r.run(ctx, i, false)
	if err != nil {
		return err
	}
	if stock.killed() {
		return t.add(i, stock, outcome{})
	}
	ours, err := r.run(ctx, i, true)
	if err != nil || ctx.Err() != nil {
		return err
	}
	return t.add(i, stock, ours)
}

// nobody is who the tests run as if we are root: to root everything is permitted, and
// what they try is whether we can do without.
const nobody = 65534

// dropRoot has the tests run as nobody, if nobody can reach the programs.
func (r *runner) dropRoot(ctx context.Context, asRoot bool) {
	r.uid = -1
	if asRoot || os.Geteuid() != 0 {
		return
	}
	r.uid = nobody
	for _, path := range []string{r.suites(), r.lib, r.ctl,
		filepath.Join(r.src(), "test", "tester.tcl")} {
		_, _, exit, err := r.exec(ctx, r.work, os.Environ(), "test", "-r", path)
		if err != nil || exit != "" {
			fmt.Printf("running as root, as nobody cannot read %s\n", path)
			r.uid = -1
			return
		}
	}
}

// reasonsShown of an item are printed; the rest is mostly what follows from them.
const reasonsShown = 8

// tally gathers comparisons and prints those that are not equal.
type tally struct {
	mu                 sync.Mutex
	w                  io.Writer
	outputs            string
	verbose            bool
	n                  [worse + 1]int
	cases, failed      int
	stockTime, ourTime time.Duration
	start              time.Time
}

func (t *tally) add(i item, stock, ours outcome) error {
	v, reasons := compare(i, stock, ours)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n[v]++
	t.cases += max(stock.cases(), stock.tests)
	t.failed += len(stock.failed)
	if v != unjudgeable {
		t.stockTime += stock.elapsed
		t.ourTime += ours.elapsed
	}
	if t.verbose {
		fmt.Fprintf(t.w, "%s: stock %v, ours %v\n", i, stock.elapsed.Round(time.Millisecond),
			ours.elapsed.Round(time.Millisecond))
	}
	if v != equal {
		fmt.Fprintf(t.w, "%s: %s\n", i, v)
		for n, z := range reasons {
			if n == reasonsShown {
				fmt.Fprintf(t.w, "    and %d more\n", len(reasons)-n)
				break
			}
			fmt.Fprintf(t.w, "    %s\n", z)
		}
	}
	if t.outputs == "" || v != worse && v != unjudgeable {
		return nil
	}
	name := filepath.Join(t.outputs, i.suite+"-"+filepath.Base(i.file))
	if err := os.WriteFile(name+".stock", []byte(stock.output), 0o600); err != nil {
		return err
	}
	return os.WriteFile(name+".ours", []byte(ours.output), 0o600)
}

// report prints the sums; it returns whether nothing was worse.
func (t *tally) report() bool {
	fmt.Fprintf(t.w, "%d test files: ", t.n[equal]+t.n[excepted]+t.n[unjudgeable]+t.n[worse])
	for v := equal; v <= worse; v++ {
		if v == equal || t.n[v] > 0 {
			fmt.Fprintf(t.w, "%d %s; ", t.n[v], v)
		}
	}
	fmt.Fprintf(t.w, "%d cases, of which stock fails %d\n", t.cases, t.failed)
	if t.stockTime > 0 {
		fmt.Fprintf(t.w, "time of the processes, ours to stock: %.2f; in all %v\n",
			float64(t.ourTime)/float64(t.stockTime), time.Since(t.start).Round(time.Second))
	}
	return t.n[worse] == 0 && t.n[equal] > 0
}
