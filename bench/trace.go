package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// partSyscalls counts in traces of `strace -f` what one commit does.
func partSyscalls(b *bench) error {
	if err := b.need("strace", "strace"); err != nil {
		b.report.text("Skipped: %v.", err)
		return nil
	}
	n := b.traced
	b.report.text("`strace -f` of one-row updates, %d commits between two marks; "+
		"\"which\" names the calls of the application's thread. Under strace the replicator\n"+
		"sleeps between commits more often than it does otherwise, so wake-ups (one write to a "+
		"FIFO) are an upper bound, and so are the other threads' calls.", n)
	var rows []row
	for _, mode := range []string{"delete/full", "truncate/full", "truncate/off", "persist/off",
		"wal/full", "wal/normal"} {
		r, err := b.traceMode(mode, n)
		if err != nil {
			return err
		}
		rows = append(rows, r)
	}
	b.report.table([]string{"", "stock calls", "verneuil calls", "x", "stock bytes written",
		"verneuil bytes", "x", "which", "bytes into the mapped changelog",
		"other threads' calls (most)", "their bytes"}, rows)
	return nil
}

func (b *bench) traceMode(mode string, n int) (row, error) {
	dir, env, remove, err := b.local("trace")
	if err != nil {
		return nil, err
	}
	defer remove()
	journal, synchronous, _ := strings.Cut(mode, "/")
	var sides [2]*traced
	logged := 0.0
	for i, vfs := range []string{"unix", "verneuil"} {
		trace := filepath.Join(dir, vfs)
		out, _, err := b.take(env, "strace", "-f", "-y", "-e", "trace=all", "-o", trace,
			b.host, "trace", b.lib, vfs, trace+".db", journal, synchronous, strconv.Itoa(n))
		if err != nil {
			return nil, err
		}
		if sides[i], err = readTrace(trace); err != nil {
			return nil, err
		}
		if lines, err := numbers(out); err == nil && len(lines) == 1 {
			logged = lines[0][0]
		}
	}
	stock, ours, per := sides[0], sides[1], 1/float64(n)
	return row{mode, float64(stock.total) * per, float64(ours.total) * per,
		over(float64(ours.total), float64(stock.total)),
		float64(stock.bytes) * per, float64(ours.bytes) * per,
		over(float64(ours.bytes), float64(stock.bytes)), differ(stock, ours, n), logged,
		fmt.Sprintf("%s (%s)", short(float64(ours.othersTotal)*per), top(ours.others, float64(n))),
		float64(ours.othersBytes) * per}, nil
}

// differ lists what one side does more or less often for each commit.
func differ(stock, ours *traced, n int) string {
	var words []string
	for call := range union(stock.calls, ours.calls) {
		if d := float64(ours.calls[call]-stock.calls[call]) / float64(n); d >= 0.01 || d <= -0.01 {
			words = append(words, fmt.Sprintf("%s %+.2f", call, d))
		}
	}
	slices.Sort(words)
	for name := range ours.files {
		if d := float64(ours.files[name]-stock.files[name]) / float64(n); d >= 1 {
			words = append(words, fmt.Sprintf("%s %+.0f B", name, d))
		}
	}
	if words == nil {
		return "none"
	}
	return strings.Join(words, ", ")
}

// traced is one side's calls between the marks.
type traced struct {
	calls        map[string]int // of the application's thread
	others       map[string]int
	bytes        int64 // that it wrote by write calls
	total        int
	othersTotal  int
	othersBytes  int64
	files        map[string]int64 // bytes by kind of file
	otherThreads map[string]bool
}

var (
	line    = regexp.MustCompile(`^(\d+) +(?:<\.\.\. )?(\w+)`)
	written = regexp.MustCompile(`\) += (\d+)$`)
	file    = regexp.MustCompile(`^\d+ +\w+\(\d+<([^>]*)>`)
)

func readTrace(name string) (*traced, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c := &traced{calls: map[string]int{}, others: map[string]int{}, files: map[string]int64{},
		otherThreads: map[string]bool{}}
	app, opened := "", map[string]string{} // what a thread's unfinished call writes to
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		text := lines.Text()
		m := line.FindStringSubmatch(text)
		if m == nil {
			continue
		}
		tid, call := m[1], m[2]
		if call == "lseek" && strings.Contains(text, "(-1,") {
			if app != "" {
				return c, nil
			}
			app = tid
			continue
		}
		if app == "" {
			continue
		}
		resumed := strings.Contains(text, "<... ")
		if !resumed {
			c.add(tid == app, tid, call)
			if m := file.FindStringSubmatch(text); m != nil {
				opened[tid] = m[1]
			}
		}
		if m := written.FindStringSubmatch(text); m != nil && strings.Contains(call, "write") {
			n, _ := strconv.ParseInt(m[1], 10, 64)
			if tid == app {
				c.bytes += n
				c.files[fileKind(opened[tid])] += n
			} else {
				c.othersBytes += n
			}
		}
	}
	return nil, fmt.Errorf("%s: the marks are missing (%v)", name, lines.Err())
}

func (c *traced) add(app bool, tid, call string) {
	if app {
		c.calls[call]++
		c.total++
		return
	}
	c.others[call]++
	c.othersTotal++
	c.otherThreads[tid] = true
}

func fileKind(name string) string {
	for _, suffix := range []string{"-journal", "-wal", "-shm", "/wake"} {
		if strings.HasSuffix(name, suffix) {
			return suffix[1:]
		}
	}
	if strings.Contains(name, "/log.") {
		return "changelog"
	}
	return "database"
}

func union(maps ...map[string]int) map[string]bool {
	all := map[string]bool{}
	for _, m := range maps {
		for k := range m {
			all[k] = true
		}
	}
	return all
}

// top names the three most frequent calls.
func top(calls map[string]int, n float64) string {
	var names []string
	for name := range calls {
		names = append(names, name)
	}
	sort.Slice(names, func(i, k int) bool { return calls[names[i]] > calls[names[k]] })
	var words []string
	for _, name := range names[:min(3, len(names))] {
		words = append(words, fmt.Sprintf("%s %.1f", name, float64(calls[name])/n))
	}
	return strings.Join(words, ", ")
}
