// Command tally counts the system calls per commit in traces of `strace -f`
// that `host trace` made:
//
//	tally COMMITS STOCK-TRACE VERNEUIL-TRACE
//
// It prints rows of Markdown tables: what the application's thread (the one that
// calls lseek(-1) at both ends) did between the two marks, and what the process's
// other threads did meanwhile.
package main

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// count is one side's calls between the marks.
type count struct {
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

func read(name string) (*count, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c := &count{calls: map[string]int{}, others: map[string]int{}, files: map[string]int64{}, otherThreads: map[string]bool{}}
	app, open := "", map[string]string{} // what a thread's unfinished call writes to
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
				open[tid] = m[1]
			}
		}
		if m := written.FindStringSubmatch(text); m != nil && strings.Contains(call, "write") {
			n, _ := strconv.ParseInt(m[1], 10, 64)
			if tid == app {
				c.bytes += n
				c.files[kind(open[tid])] += n
			} else {
				c.othersBytes += n
			}
		}
	}
	return nil, fmt.Errorf("%s: the marks are missing (%v)", name, lines.Err())
}

func (c *count) add(app bool, tid, call string) {
	if app {
		c.calls[call]++
		c.total++
		return
	}
	c.others[call]++
	c.othersTotal++
	c.otherThreads[tid] = true
}

func kind(name string) string {
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

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 4 {
		return fmt.Errorf("usage: tally COMMITS STOCK-TRACE VERNEUIL-TRACE")
	}
	n, err := strconv.ParseFloat(os.Args[1], 64)
	if err != nil {
		return err
	}
	stock, err := read(os.Args[2])
	if err != nil {
		return err
	}
	ours, err := read(os.Args[3])
	if err != nil {
		return err
	}
	fmt.Printf(" %.2f | %.2f | %+.2f | %.0f | %.0f | %+.0f |", float64(stock.total)/n, float64(ours.total)/n,
		float64(ours.total-stock.total)/n, float64(stock.bytes)/n, float64(ours.bytes)/n, float64(ours.bytes-stock.bytes)/n)
	var differ []string
	for call := range union(stock.calls, ours.calls) {
		if d := float64(ours.calls[call]-stock.calls[call]) / n; d >= 0.01 || d <= -0.01 {
			differ = append(differ, fmt.Sprintf("%s %+.2f", call, d))
		}
	}
	slices.Sort(differ)
	for name := range ours.files {
		if d := float64(ours.files[name]-stock.files[name]) / n; d >= 1 {
			differ = append(differ, fmt.Sprintf("%s %+.0f B", name, d))
		}
	}
	fmt.Printf(" %s | %.1f (%s) | %.0f |\n", or(strings.Join(differ, ", "), "none"), float64(ours.othersTotal)/n, top(ours.others, n), float64(ours.othersBytes)/n)
	return nil
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
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
