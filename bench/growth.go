package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// grown is what one-row commits cost on a database of one size.
type grown struct {
	label             string
	mib               int
	commit            spread // verneuil to stock
	stock, ours       float64
	flush             float64 // ms, median
	calls, bytes      spread  // of a flush: API calls, bytes that it stores
	objects           float64 // that each commit stores
	peak              float64 // MiB
	first, again      float64 // s: the first upload; restart, one commit and a flush
	againCalls        float64
	rebuilt, rebuiltN float64 // s and calls, where the spool was lost
	fileRead          float64 // s to read the file once, for scale
}

const growthCommits = 60

// restartTurns is how often a restart is measured: one takes some 20 ms, and scatters by some.
const restartTurns = 5

// partGrowth shows whether any cost grows with the database.
func partGrowth(b *bench) error {
	var all []grown
	var failed error
	for _, sparse := range []bool{true, false} {
		// The cheap ones come first, should somebody lose patience
		sizes := b.growth
		if sparse {
			sizes = b.sparse
		}
		for _, mib := range sizes {
			if err := b.room(growthRoom(mib, sparse)); err != nil {
				b.report.text("%s was left out: %v.", size(mib), err)
				continue
			}
			g, err := b.grow(mib, sparse)
			if err != nil {
				failed = fmt.Errorf("%d MiB: %w", mib, err)
				b.report.text("%d MiB failed: %v.", mib, err)
				continue
			}
			all = append(all, g)
		}
	}
	if len(all) == 0 {
		return failed
	}
	slices.SortFunc(all, func(a, b grown) int { return cmp.Compare(a.mib, b.mib) })
	b.growthTable(all)
	return failed
}

// growthRoom is the disk space that a database takes with its copy, mirror and target, in MiB.
func growthRoom(mib int, sparse bool) int {
	if sparse {
		mib = 100 + mib>>10 // what the file system and the spool note for each chunk
	}
	return 4 * mib
}

func (b *bench) grow(mib int, sparse bool) (g grown, err error) {
	dir, remove, err := b.fresh("growth")
	if err != nil {
		return g, err
	}
	defer remove()
	db, stock := filepath.Join(dir, "a.db"), filepath.Join(dir, "stock.db")
	g = grown{mib: mib, label: size(mib)}
	if sparse {
		g.label += " sparse"
		if err = b.fill(db, 100); err == nil {
			_, _, err = b.take(nil, b.host, "extend", db, strconv.Itoa(mib<<20))
		}
	} else {
		err = b.fill(db, mib)
	}
	if err == nil {
		err = b.copyFile(db, stock)
	}
	if err != nil {
		return g, err
	}
	env, err := configure(dir, dirTarget(dir+"/store"), nil)
	if err != nil {
		return g, err
	}
	if err := b.updates(&g, env, dir, growthCommits); err != nil {
		return g, err
	}
	// The process was ended without closing the database: a crash of the application.
	var again grown
	var restarts []float64
	for range restartTurns {
		if err := b.updates(&again, env, dir, 1); err != nil {
			return g, err
		}
		restarts = append(restarts, again.first)
		g.againCalls = max(g.againCalls, again.calls.Max)
	}
	g.again = spreadOf(restarts).Median
	if err := os.RemoveAll(dir + "/spool"); err != nil { // as after the machine's crash
		return g, err
	}
	if err := b.updates(&again, env, dir, 1); err != nil {
		return g, err
	}
	g.rebuilt, g.rebuiltN = again.first, again.calls.Max
	if sparse {
		return g, nil // nobody reads holes
	}
	start := time.Now()
	f, err := os.Open(db) // no SQLite uses it in this process
	if err != nil {
		return g, err
	}
	defer f.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f},
		make([]byte, 1<<20))
	g.fileRead = time.Since(start).Seconds()
	return g, err
}

// updates runs `host update` for n commits, and looks at the target after each.
func (b *bench) updates(g *grown, env []string, dir string, n int) error {
	p, err := b.launch(env, b.host, "update", b.lib, dir+"/a.db", dir+"/stock.db", strconv.Itoa(n),
		"wal/normal")
	if err != nil {
		return err
	}
	lines := bufio.NewReader(p.stdout)
	var stock, ours, flush, calls, bytes []float64
	var before, was int64 // objects, bytes
	for i := range n + 1 {
		text, err := lines.ReadString('\n')
		if err != nil {
			p.end(os.Kill)
			return fmt.Errorf("host update: %s", tail(p.stderr.String()))
		}
		row, err := numbers(text)
		if err != nil {
			return err
		}
		if i == 0 {
			g.first = row[0][0] / 1e6
			calls = append(calls, row[0][1])
			files, total := treeBytes(dir + "/store")
			before, was = int64(files), total
			continue
		}
		_, total := treeBytes(dir + "/store")
		stock, ours, flush = append(stock, row[0][0]), append(ours, row[0][1]),
			append(flush, row[0][2]/1e3)
		calls, bytes, was = append(calls, row[0][3]), append(bytes, float64(total-was)), total
		fmt.Fprintln(p.stdin)
	}
	rest, err := io.ReadAll(lines)
	if err != nil {
		return err
	}
	if err := p.wait(); err != nil {
		return err
	}
	if m := memories(string(rest)); len(m) > 0 {
		g.peak = m[0].top
	}
	after, _ := treeBytes(dir + "/store")
	if n > 1 {
		calls = calls[1:]
	} else {
		calls = calls[:1] // what the restart cost
	}
	// Pairs of single commits scatter: medians of five parts, as in the writer's matrix.
	var parts []float64
	for i := range 5 {
		lo, hi := i*n/5, (i+1)*n/5
		if hi > lo {
			parts = append(parts, over(percentile(append([]float64(nil), ours[lo:hi]...), 0.5),
				percentile(append([]float64(nil), stock[lo:hi]...), 0.5)))
		}
	}
	g.commit, g.stock, g.ours = spreadOf(parts), spreadOf(stock).Median, spreadOf(ours).Median
	g.flush, g.calls, g.bytes, g.objects = spreadOf(flush).Median, spreadOf(calls), spreadOf(bytes),
		float64(int64(after)-before)/float64(n)
	return nil
}

func size(mib int) string {
	if mib >= 1024 {
		return fmt.Sprintf("%d GiB", mib/1024)
	}
	return fmt.Sprintf("%d MiB", mib)
}

func (b *bench) growthTable(all []grown) {
	b.report.text("%d times, the same one-row commit (WAL, synchronous=NORMAL) is made on a stock "+
		"copy and on the replicated database in turns, then flushed to a dir target. "+
		"A sparse database has 100 MiB\n"+
		"of rows and a hole. Restart: the process died; another one opens the database, "+
		"commits and flushes (the median of %d). Spool lost: the same after the spool was "+
		"deleted, as a machine's crash does;\n"+
		"the database is read once and compared with the target. "+
		"The last row divides the largest database's figures by the smallest's: the aim is 1.",
		growthCommits, restartTurns)
	var rows []row
	for _, g := range all {
		reading := "-"
		if g.fileRead > 0 {
			reading = short(g.rebuilt / g.fileRead)
		}
		rows = append(rows, row{g.label, fmt.Sprintf("%s, %s", short(g.stock), short(g.ours)),
			g.commit, g.flush, g.calls, g.bytes, g.objects, g.peak, g.first, g.again, g.againCalls,
			g.rebuilt, reading, g.rebuiltN})
	}
	s, l := all[0], all[len(all)-1]
	rows = append(rows, row{"largest / smallest", over(l.ours, s.ours),
		over(l.commit.Median, s.commit.Median), over(l.flush, s.flush),
		over(l.calls.Median, s.calls.Median), over(l.bytes.Median, s.bytes.Median),
		over(l.objects, s.objects), over(l.peak, s.peak), over(l.first, s.first),
		over(l.again, s.again), over(l.againCalls, s.againCalls), over(l.rebuilt, s.rebuilt), "",
		over(l.rebuiltN, s.rebuiltN)})
	b.report.table(strings.Split("database,commit us: stock; verneuil,x stock,flush ms,calls of "+
		"a commit,bytes that it stores,objects that it stores,peak MiB,first upload s,restart "+
		"s,calls,spool lost s,x reading the file,calls", ",")[:14], rows)
	for _, g := range []grown{l} {
		b.report.aim(aim{What: "API calls of a one-row commit on " + g.label, Aim: 1, Got: g.calls,
			Unit: "calls", Why: "pages that have cooled, or no longer fit inline, go into chunks"})
		b.report.aim(aim{What: "bytes that it stores", Aim: 8192, Got: g.bytes, Unit: "bytes",
			Why: "pages that earlier commits changed go into chunks now and then, and a " +
				"checkpoint has all that travel inline"})
		b.report.aim(aim{What: "commit cost there to that on " + s.label, Aim: 1.1,
			Got: single(over(l.commit.Median, s.commit.Median))})
		b.report.aim(aim{What: "restart there to that on " + s.label, Aim: 1.1,
			Got: single(over(l.again, s.again)),
			Why: "a restart reads the byte that the spool keeps for each chunk, and compares the " +
				"leaves of the tree with the target's"})
	}
	p := &plot{name: "growth", part: "growth",
		title: "The same one-row commit, relative to " + s.label, axis: "size of the database",
		log: true, base: 1,
		series: []series{{name: "commit"}, {name: "bytes sent"}, {name: "memory"},
			{name: "restart"}, {name: "spool lost"}}}
	for _, g := range all {
		p.x, p.xLabels = append(p.x, float64(g.mib)), append(p.xLabels, g.label)
		for i, v := range []float64{over(g.ours, s.ours), over(g.bytes.Median, s.bytes.Median),
			over(g.peak, s.peak), over(g.again, s.again), over(g.rebuilt, s.rebuilt)} {
			p.series[i].values = append(p.series[i].values, single(v))
		}
	}
	b.report.plot(p)
}
