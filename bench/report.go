package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// report is what a run writes: a head, the aims, and the chapters in order.
type report struct {
	path     string // of the tables; plots stand beside it
	replace  *strings.Replacer
	head     string
	aims     []aim
	plots    []*plot
	chapters []*chapter
	stolen   float64 // stolenSeconds at the start
}

type chapter struct {
	name, title string
	body        strings.Builder
	commands    []string
	seconds     float64
}

// aim is a figure that the project wants to reach, and what was measured.
type aim struct {
	What    string
	Aim     float64
	AtLeast bool // else at most
	Got     spread
	Unit    string // of both; empty: a ratio
	Why     string // why it is not reached, if that is known
}

// reached compares with the digits that are shown.
func (a aim) reached() bool {
	median := math.Round(a.Got.Median*100) / 100
	if a.AtLeast {
		return median >= a.Aim
	}
	return median <= a.Aim
}

func newReport(b *bench, path string) *report {
	r := &report{path: path, stolen: stolenSeconds(), replace: strings.NewReplacer(
		b.dir, "$DIR", b.lib, "libverneuil_vfs.so", b.ctl, "verneuilctl", b.root+"/.tools/bin/", "",
		b.root+"/", "")}
	r.head = fmt.Sprintf("`make bench` (%s form) on %s, %d processors (%s), %.0f GB of memory, "+
		"Linux %s, SQLite %s, file system %s, %s.\n"+
		"Load average at the start %s.",
		b.form.name, time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(),
		fieldOf("/proc/cpuinfo", "model name"), memoryGB(),
		output("uname", "-r"), strings.Fields(output("sqlite3", "-version") + " ?")[0],
		output("stat", "-f", "-c", "%T", b.dir), runtime.Version(), loadAverage())
	return r
}

// stolenSeconds is how long the processors have served other guests of the machine's host since
// the machine was started: the 8th number in the first line of /proc/stat, in 1/100 s (proc(5)).
func stolenSeconds() float64 {
	stat, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(stat), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 {
		return 0
	}
	n, _ := strconv.ParseFloat(fields[8], 64)
	return n / 100
}

func loadAverage() string {
	body, _ := os.ReadFile("/proc/loadavg")
	return strings.Fields(string(body) + " ?")[0]
}

func memoryGB() float64 {
	var kB float64
	fmt.Sscan(fieldOf("/proc/meminfo", "MemTotal"), &kB)
	return kB / 1e6
}

func fieldOf(file, key string) string {
	body, _ := os.ReadFile(file)
	for line := range strings.Lines(string(body)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return "?"
}

func output(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return "?"
	}
	return strings.TrimSpace(string(out))
}

func (r *report) chapter(name, title string) {
	r.chapters = append(r.chapters, &chapter{name: name, title: title})
}

func (r *report) last() *chapter { return r.chapters[len(r.chapters)-1] }

// text adds a paragraph.
func (r *report) text(format string, args ...any) {
	text := r.replace.Replace(fmt.Sprintf(format, args...))
	fmt.Fprintf(&r.last().body, "%s\n\n", text)
	fmt.Println(text)
}

// row is cells of a table.
type row []any

// table adds one; numbers in rows are written by short.
func (r *report) table(heads []string, rows []row) {
	if len(rows) == 0 {
		return
	}
	b := &r.last().body
	var lines []string
	lines = append(lines, "| "+strings.Join(heads, " | ")+" |",
		strings.Repeat("|---", len(heads))+"|")
	for _, cells := range rows {
		var line strings.Builder
		for _, cell := range cells {
			if v, ok := cell.(float64); ok {
				cell = short(v)
			}
			fmt.Fprintf(&line, "| %v ", cell)
		}
		lines = append(lines, line.String()+"|")
	}
	text := strings.Join(lines, "\n") + "\n"
	b.WriteString(text + "\n")
	fmt.Println(text)
}

// command notes what was run, once for each kind, so that others can repeat it.
func (r *report) command(env []string, name string, args []string) {
	if r == nil || len(r.chapters) == 0 {
		return
	}
	c := r.last()
	kind := filepath.Base(name) + " " + first(args)
	if len(c.commands) < 12 && !slices.ContainsFunc(c.commands, func(s string) bool {
		return strings.HasPrefix(s, kind)
	}) {
		c.commands =
			append(c.commands, r.replace.Replace(filepath.Base(name)+" "+strings.Join(args, " ")))
	}
}

func (r *report) took(seconds float64) { r.last().seconds = seconds }

func (r *report) aim(a aim) {
	if a.Got.N > 0 {
		r.aims = append(r.aims, a)
	}
}

func (r *report) plot(p *plot) { r.plots = append(r.plots, p) }

// write writes the tables, the plots, and what publish needs.
func (r *report) write() error {
	var b strings.Builder
	fmt.Fprintf(&b, "# What replication costs\n\n%s\n\n", r.head)
	b.WriteString("Each figure is a ratio to stock SQLite, to a standard tool or to another " +
		"system. Both sides are measured in turns in the same\n" +
		"run; the figure is the median [least..greatest]. Microseconds and bytes are this " +
		"machine's, and are given for scale only.\n" +
		"`make bench BENCH_PARTS=NAME` repeats a part; in the commands, " +
		"$DIR is a directory on the same disk.\n\n")
	b.WriteString("## Aims\n\n" + aimTable(r.aims))
	for _, p := range r.plots {
		name := strings.TrimSuffix(r.path, ".md") + "-" + p.name + ".svg"
		if err := os.WriteFile(name, []byte(p.svg()), 0o644); err != nil {
			return err
		}
	}
	seconds := 0.0
	for _, c := range r.chapters {
		seconds += c.seconds
		fmt.Fprintf(&b, "\n## %s\n\n%s", c.title, c.body.String())
		for _, p := range r.plots {
			if p.part == c.name {
				fmt.Fprintf(&b, "![%s](%s-%s.svg)\n\n", p.title,
					strings.TrimSuffix(filepath.Base(r.path), ".md"), p.name)
			}
		}
		fmt.Fprintf(&b, "Repeat: `make bench BENCH_PARTS=%s` (%.0f s)", c.name, c.seconds)
		for i, command := range c.commands {
			fmt.Fprintf(&b, "%s`%s`", map[bool]string{true: ", which runs among others\n",
				false: ",\n"}[i == 0], command)
		}
		b.WriteString(".\n")
	}
	stolen := (stolenSeconds() - r.stolen) / seconds / float64(runtime.NumCPU())
	fmt.Fprintf(&b, "\nLoad average at the end %s, after %.0f s, "+
		"in which other guests of the host used %.1f %% of the processors' time.\n", loadAverage(),
		seconds, 100*stolen)
	if err := os.WriteFile(r.path, []byte(b.String()), 0o644); err != nil {
		return err
	}
	body, err := json.MarshalIndent(struct {
		Head string
		Aims []aim
	}{r.head, r.aims}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(strings.TrimSuffix(r.path, ".md")+".json", body, 0o644)
}

func aimTable(aims []aim) string {
	if len(aims) == 0 {
		return "This run measured none.\n"
	}
	var b strings.Builder
	b.WriteString("| what | aim | median [least..greatest] | |\n|---|---|---|---|\n")
	for _, a := range aims {
		sign, verdict := "≤", "reached"
		if a.AtLeast {
			sign = "≥"
		}
		if !a.reached() {
			verdict = strings.TrimSuffix("**not reached**: "+a.Why, ": ")
		}
		unit := a.Unit
		if unit != "" {
			unit = " " + unit
		}
		fmt.Fprintf(&b, "| %s | %s %s%s | %s%s | %s |\n", a.What, sign, short(a.Aim), unit, a.Got,
			unit, verdict)
	}
	return b.String()
}

// The marks between which publish writes.
const (
	publishBegin = "<!-- make bench-publish: begin -->"
	publishEnd   = "<!-- make bench-publish: end -->"
	published    = "../bench/published" // the committed results, as seen from docs
	longName     = "long"               // of the long form's results, without .md
	picturesPage = "pictures.md"        // six plots, beside the page that publish is given
)

// publish copies the last run into the tree: its files to the directory published, and its main
// table and plot into the page readme, and what six plots tell into the page beside it. It also
// copies what a long run left beside it.
func publish(readme, results string) error {
	stem := strings.TrimSuffix(results, ".md")
	body, err := os.ReadFile(stem + ".json")
	if err != nil {
		return err
	}
	var last struct {
		Head string
		Aims []aim
	}
	if err := json.Unmarshal(body, &last); err != nil {
		return err
	}
	target := filepath.Join(filepath.Dir(readme), published)
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := publishFiles(target, stem); err != nil {
		return err
	}
	links := fmt.Sprintf("All tables and plots: [%s](%s/%[1]s)", filepath.Base(results), published)
	long := filepath.Join(filepath.Dir(stem), longName)
	if _, err := os.Stat(long + ".md"); err == nil {
		if err := publishFiles(target, long); err != nil {
			return err
		}
	}
	if _, err := os.Stat(filepath.Join(target, longName+".md")); err == nil {
		links += fmt.Sprintf("; of larger databases: [%s.md](%s/%[1]s.md)", longName, published)
	}
	text := fmt.Sprintf("%s\n%s\n\n%s\n![Commits, verneuil to stock](%s/%s-commits.svg)\n\n%s.\n",
		publishBegin, last.Head, aimTable(last.Aims), published, filepath.Base(stem), links)
	page, err := os.ReadFile(readme)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(page), publishBegin)
	_, after, ok2 := strings.Cut(rest, publishEnd)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no marks %s ... %s", readme, publishBegin, publishEnd)
	}
	if err := os.WriteFile(readme, []byte(before+text+publishEnd+after), 0o644); err != nil {
		return err
	}
	return tellAll(filepath.Join(filepath.Dir(readme), picturesPage), target)
}

// publishFiles replaces what target has of a run by the files STEM.md and STEM-*.svg.
func publishFiles(target, stem string) error {
	old, err := filepath.Glob(filepath.Join(target, filepath.Base(stem)+"-*.svg"))
	if err != nil {
		return err
	}
	for _, file := range old {
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	files, err := filepath.Glob(stem + "-*.svg")
	if err != nil {
		return err
	}
	for _, file := range append(files, stem+".md") {
		body, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(target, filepath.Base(file)), body,
			0o644); err != nil {
			return err
		}
	}
	return nil
}
