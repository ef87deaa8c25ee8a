package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// partSize measures what an application pays before its first commit.
func partSize(b *bench) error {
	libsqlite := ""
	for line := range strings.Lines(output("ldd", b.host)) {
		if strings.Contains(line, "libsqlite3") {
			libsqlite, _ = filepath.EvalSymlinks(strings.Fields(line)[2])
		}
	}
	var rows []row
	var base float64
	for _, file := range []string{libsqlite, b.lib, b.ctl} {
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		size := float64(info.Size())
		if base == 0 {
			base = size
		}
		rows = append(rows, row{filepath.Base(file), size / (1 << 20), size / base})
	}
	b.report.table([]string{"file", "MiB", "x stock"}, rows)
	return b.starts()
}

// starts compares processes that open a database, commit, and end.
func (b *bench) starts() error {
	dir, env, remove, err := b.local("start")
	if err != nil {
		return err
	}
	defer remove()
	sides := []struct{ name, lib, vfs string }{{"stock", "-", "unix"},
		{"loaded, not used", b.lib, "unix"}, {"replicated", b.lib, "verneuil"}}
	what := []string{"load the library", "open", "first commit", "fork, exit, wait (median of 201)",
		"the whole process"}
	times := make([][][]float64, len(sides)) // side, what, turn
	db := func(side int) string { return filepath.Join(dir, fmt.Sprintf("%d.db", side)) }
	for i := range sides {
		times[i] = make([][]float64, len(what))
		if err := b.fill(db(i), 4); err != nil {
			return err
		}
	}
	for range 4 * b.turns {
		for i, side := range sides {
			out, c, err := b.take(env, b.host, "start", side.lib, side.vfs, db(i))
			if err != nil {
				return err
			}
			lines, err := numbers(out)
			if err != nil {
				return err
			}
			for k, v := range append(lines[0], c.seconds*1e6) {
				times[i][k] = append(times[i][k], v)
			}
		}
	}
	var rows []row
	for k, text := range what {
		rows = append(rows, row{text, spreadOf(times[0][k]).Median, spreadOf(times[1][k]).Median,
			spreadOf(times[2][k]).Median,
			ratios(times[1][k], times[0][k]), ratios(times[2][k], times[0][k])})
	}
	b.report.text("A process opens a database in rollback mode, commits, forks and ends: "+
		"microseconds, %d turns. The replicated one starts Go, and waits a bounded time for "+
		"its upload when it ends.", 4*b.turns)
	b.report.table([]string{"", "stock us", "loaded us", "replicated us", "loaded x",
		"replicated x"}, rows)
	return nil
}

// ---------------------------------------------------------------- commits

// mainCells are journal mode x synchronous, and reads; see host/commit.c.
var mainCells = []string{
	"delete/full/4096/1", "delete/normal/4096/1", "truncate/full/4096/1", "truncate/off/4096/1",
	"persist/full/4096/1",
	"persist/off/4096/1", "memory/off/4096/1", "wal/full/4096/1", "wal/normal/4096/1",
	"wal/off/4096/1",
	"read/delete/4096/10", "read/wal/4096/10",
}

// gridCells add page size x transaction size.
func gridCells() (all []string) {
	for _, mode := range []string{"delete/full", "truncate/off", "wal/full", "wal/normal"} {
		for _, page := range []int{1024, 16384, 65536} {
			all = append(all, fmt.Sprintf("%s/%d/1", mode, page))
		}
		for _, rows := range []int{10, 100, 1000} {
			all = append(all, fmt.Sprintf("%s/4096/%d", mode, rows))
		}
	}
	return append(all, "read/delete/4096/2000", "read/wal/4096/2000", "scan/delete/4096/10",
		"scan/wal/4096/10")
}

// cellResult is the output of host commit for a cell, part by part.
type cellResult struct {
	name    string
	samples int
	stock   [6][]float64 // median, p99, max, mean, cpu, all threads' cpu (of blocks)
	ours    [6][]float64
}

const (
	statMedian = iota
	statP99
	statMax
	statMean
	statCPU
	statAllCPU
)

func (c *cellResult) ratio(stat int) spread { return ratios(c.ours[stat], c.stock[stat]) }

// parseCells adds the output of host commit to that of earlier processes.
func parseCells(all []*cellResult, out string) ([]*cellResult, error) {
	for line := range strings.Lines(out) {
		parts := strings.Split(line, "|")
		head := strings.Fields(parts[0])
		if len(parts) != 3 || len(head) != 2 {
			return all, fmt.Errorf("host commit said %q", line)
		}
		i := slices.IndexFunc(all, func(c *cellResult) bool { return c.name == head[0] })
		if i < 0 {
			i, all = len(all), append(all, &cellResult{name: head[0]})
		}
		c := all[i]
		n, _ := strconv.Atoi(head[1])
		c.samples += n
		both, err := numbers(parts[1] + "\n" + parts[2])
		if err != nil || len(both) != 2 || len(both[0]) < 5 || len(both[0]) > 6 ||
			len(both[1]) != len(both[0]) {
			return all, fmt.Errorf("host commit said %q", line)
		}
		for k := range both[0] {
			c.stock[k], c.ours[k] = append(c.stock[k], both[0][k]), append(c.ours[k], both[1][k])
		}
	}
	return all, nil
}

// writerProcesses run the cells one after the other: where code and data lie in a process makes a
// difference of 2 % for its reads, as long as it lives.
const writerProcesses = 3

func partWriter(b *bench, loaded bool) error {
	dir, env, remove, err := b.local("writer")
	if err != nil {
		return err
	}
	defer remove()
	cells, seconds, load := mainCells, 2*b.seconds, "1"
	if !loaded {
		seconds, load = b.seconds, "0"
		if b.fullGrid {
			cells = append(cells[:len(cells):len(cells)], gridCells()...)
		}
	}
	var results []*cellResult
	for i := range writerProcesses {
		home := filepath.Join(dir, strconv.Itoa(i))
		if err = os.Mkdir(home, 0o755); err != nil {
			return err
		}
		args := append([]string{"commit", b.lib, home,
			strconv.FormatFloat(seconds/writerProcesses, 'g', -1, 64), load}, cells...)
		out, _, hostErr := b.take(env, b.host, args...)
		if results, err = parseCells(results, out); err == nil {
			err = hostErr // after what was measured until then
		}
		if err != nil {
			break
		}
	}
	b.writerTable(results)
	if loaded {
		_, stored := treeBytes(dir + "/store")
		b.report.text("Meanwhile %.0f MB were stored in the target.", float64(stored)/1e6)
	}
	b.writerAims(results, loaded)
	b.writerPlot(results, loaded)
	return err
}

func (b *bench) writerTable(results []*cellResult) {
	b.report.text("Updates of random rows of a table of 10,000 rows, by one transaction, " +
		"in turns of about 3 ms: journal mode / synchronous / page size / rows in a\n" +
		"transaction. Reads: journal mode / page size / pages of SQLite's cache. A ratio of " +
		"verneuil to stock is the median [least..greatest]\n" +
		"over three processes, and over five equal parts of the run of each. " +
		"CPU is that of the application's thread alone; the part \"lag\" has that of all threads.")
	var rows []row
	for _, c := range results {
		rows = append(rows, row{c.name, c.samples, times(c.stock), times(c.ours),
			1e6 / spreadOf(c.stock[statMean]).Median,
			c.ratio(statMedian), c.ratio(statP99), c.ratio(statMax), c.throughput(),
			c.ratio(statCPU)})
	}
	b.report.table([]string{"", "samples each", "stock us: median, p99, max", "verneuil us",
		"stock per second", "median x", "p99 x", "max x", "throughput x", "CPU x"}, rows)
}

func (c *cellResult) throughput() spread { return ratios(c.stock[statMean], c.ours[statMean]) }

func times(a [6][]float64) string {
	return fmt.Sprintf("%s, %s, %s", short(spreadOf(a[statMedian]).Median),
		short(spreadOf(a[statP99]).Median), short(spreadOf(a[statMax]).Max))
}

// commitAims are the medians that are promised, and why one might not be reached.
var commitAims = map[string]float64{
	"delete/full/4096/1": 1.03, "truncate/full/4096/1": 1.03, "wal/full/4096/1": 1.03,
	"wal/normal/4096/1":   1.03,
	"truncate/off/4096/1": 1.10, "persist/off/4096/1": 1.10, "read/delete/4096/10": 1.01,
	"read/wal/4096/10": 1.01,
}

// whyReads: nothing is recorded of a read, and nobody else works.
const whyReads = "each call to the file goes through one more function"

func isRead(c *cellResult) bool { return strings.HasPrefix(c.name, "read/") }

func (b *bench) writerAims(results []*cellResult, loaded bool) {
	when := ""
	if loaded {
		when = ", while uploading"
	}
	for _, c := range results {
		if limit, ok := commitAims[c.name]; ok {
			what, why := "commit", "a commit copies its pages to a record with a checksum, "+
				"and wakes the replicator if that sleeps"
			if isRead(c) {
				what, why = "point read", whyReads
			} else if strings.HasPrefix(c.name, "wal/") {
				why = "a commit publishes its position, and wakes the replicator if that sleeps"
			}
			b.report.aim(aim{What: fmt.Sprintf("%s, %s, in fine turns, to stock%s", what, c.name,
				when), Aim: limit, Got: c.ratio(statMedian),
				Why: why})
		}
	}
}

// writerPlot draws the idle and the loaded run into one plot.
func (b *bench) writerPlot(results []*cellResult, loaded bool) {
	byName := map[string]spread{}
	for _, c := range results {
		byName[c.name] = c.ratio(statMedian)
	}
	values := make([]spread, len(mainCells))
	for i, name := range mainCells {
		values[i] = byName[name]
	}
	s := series{"while uploading", values}
	if !loaded {
		s.name = "idle"
	}
	for _, p := range b.report.plots {
		if p.name == "commits" {
			p.series = append(p.series, s)
			return
		}
	}
	b.report.plot(&plot{name: "commits", part: map[bool]string{false: "writer",
		true: "load"}[loaded], title: "A commit or read, verneuil to stock SQLite (median, " +
		"whisker: least to greatest)",
		axis: "times stock SQLite's; journal mode / synchronous / page bytes / rows", base: 1,
		labels: mainCells, series: []series{s}})
}

// ---------------------------------------------------------------- in blocks

// promised are the main cells that have an aim, under the names that users see.
func promised() (cells []string) {
	for _, name := range mainCells {
		if _, ok := commitAims[name]; ok {
			cells = append(cells, name)
		}
	}
	return cells
}

// partBlocks is the main measurement: whole blocks of commits, with S3 on the same machine, so that
// what our other threads do is in our blocks, and nowhere else.
func partBlocks(b *bench) error {
	dir, s, end, err := b.scene("blocks")
	if err != nil {
		return err
	}
	defer end()
	env, err := configure(dir, s3Target(s.endpoint, "blocks"), nil)
	if err != nil {
		return err
	}
	args := []string{"blocks", b.lib, dir, strconv.Itoa(b.pairs),
		fmt.Sprint(b.block), fmt.Sprint(b.block / 2)}
	out, _, hostErr := b.take(env, b.host, append(args, promised()...)...)
	results, err := parseCells(nil, out)
	if err == nil {
		err = hostErr // after what was measured until then
	}
	b.report.text("Updates of random rows of a table of 10,000 rows, by one transaction, "+
		"and point\n"+
		"reads, in blocks of %g s: stock alone, then verneuil alone, "+
		"with MinIO on the same machine, and\n"+
		"%g s of rest after verneuil, in which its other threads finish; in turns, also the other "+
		"way round.\n"+
		"Figures are the median [least..greatest] of the ratios of %d pairs. "+
		"The time of a transaction is the\n"+
		"mean, so that pauses count.", b.block, b.block/2, b.pairs)
	var rows []row
	for _, c := range results {
		rows = append(rows, row{c.name, c.samples, times(c.stock), times(c.ours),
			1e6 / spreadOf(c.stock[statMean]).Median, c.ratio(statMean), c.ratio(statMedian),
			c.ratio(statP99),
			c.throughput(), c.ratio(statCPU), c.ratio(statAllCPU)})
		why := "commits are recorded, and the replicator works on the same processors"
		if isRead(c) {
			why = whyReads
		}
		b.report.aim(aim{What: c.name + ", in blocks, to stock", Aim: commitAims[c.name],
			Got: c.ratio(statMean), Why: why})
	}
	b.report.table([]string{"", "samples", "stock us: median, p99, max", "verneuil us",
		"stock per second", "mean x", "median x", "p99 x", "throughput x", "CPU of the thread x",
		"CPU of all threads x"}, rows)
	return err
}

// ---------------------------------------------------------------- memory, WAL

func partMemory(b *bench) error {
	dir, remove, err := b.fresh("memory")
	if err != nil {
		return err
	}
	defer remove()
	db := filepath.Join(dir, "a.db")
	if err := b.fill(db, 100); err != nil {
		return err
	}
	env, err := configure(dir, dirTarget(dir+"/store"), nil)
	if err != nil {
		return err
	}
	out, _, err := b.take(env, b.host, "memory", b.lib, db)
	if err != nil {
		return err
	}
	all := memories(out)
	b.report.text("A process has a 100 MiB database open, through stock SQLite, " +
		"then through verneuil. The peak comes from chunks that are being uploaded.")
	var rows []row
	for _, m := range all {
		rows = append(rows, row{m.when, m.rss, m.rss / all[0].rss, m.anonymous, m.top, m.threads})
	}
	b.report.table([]string{"when", "RSS MiB", "x stock", "of which anonymous", "peak", "threads"},
		rows)
	return nil
}

func partWAL(b *bench) error {
	dir, env, remove, err := b.local("wal")
	if err != nil {
		return err
	}
	defer remove()
	const columns = 9
	sides := []string{"unix", "verneuil"}
	var all [2][columns][]float64
	for turn := range b.turns {
		for i := range sides {
			side := i ^ turn&1
			lines, err := b.ask(env, "wal", b.lib, sides[side],
				filepath.Join(dir, fmt.Sprintf("%s%d.db", sides[side], turn)), strconv.Itoa(b.wal))
			if err != nil {
				return err
			}
			for k, v := range lines[0] {
				all[side][k] = append(all[side][k], v)
			}
		}
	}
	b.report.text("%d rows in transactions of 100, synchronous=NORMAL; "+
		"checkpoints are SQLite's own automatic ones, counted in a hook; %d turns.", b.wal, b.turns)
	names := []string{"seconds (other threads compress and store meanwhile)",
		"CPU seconds of the application's thread", "commits", "checkpoints", "of which complete",
		"busy", "WAL restarts", "most frames", "bytes of the WAL at the end"}
	var rows []row
	for k, name := range names {
		rows = append(rows, row{name, spreadOf(all[0][k]), spreadOf(all[1][k]),
			ratios(all[1][k], all[0][k])})
	}
	b.report.table([]string{"", "stock", "verneuil", "x"}, rows)
	return nil
}
