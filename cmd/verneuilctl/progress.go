package main

import (
	"cmp"
	"fmt"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows on stderr, while a command works, how many bytes are done, the rate, and the time
// left. It uses one line of the terminal, and clears it at the end; in a pipe it is silent. It is
// not safe for concurrent use. The zero value is ready.
type progress struct {
	phase       string
	done, total int64
	bar         *progressbar.ProgressBar
	began       time.Time // of the command
	since       time.Time // of the phase
	shown       bool
}

// quietFor is how long a phase lasts before it is shown: the rate of a shorter one means nothing.
const quietFor = 500 * time.Millisecond

// phases names the phases of package replicate for people.
var phases = map[string]string{"copy": "reading", "copy and push": "uploading", "push": "uploading"}

// set notes how many bytes of total are done. total may grow.
func (p *progress) set(phase string, done, total int64) {
	if !isTerminal(os.Stderr) {
		return
	}
	now := time.Now()
	if p.began.IsZero() {
		p.began = now
	}
	phase = cmp.Or(phases[phase], phase)
	switch {
	case p.bar != nil && phase != p.phase && total == p.total && done > p.done:
		p.bar.Describe(phase) // the same bytes, otherwise
	case p.bar == nil || phase != p.phase || done < p.done:
		p.end()
		p.bar, p.since = newBar(phase, total), now
	case total != p.total:
		p.bar.ChangeMax64(total)
	}
	p.phase, p.done, p.total = phase, done, total
	if now.Sub(p.since) < quietFor {
		return
	}
	p.shown = true
	// An error here comes from writing to the terminal: it is not worth reporting.
	_ = p.bar.Set64(done)
}

// newBar returns a bar whose line fits the terminal.
func newBar(phase string, total int64) *progressbar.ProgressBar {
	columns, _, err := term.GetSize(int(os.Stderr.Fd()))
	if err != nil || columns == 0 {
		columns = 80
	}
	const (
		all  = 70 // columns that all of it takes with a bar worth the name
		some = 38 // what is left of it in half of them
	)
	options := []progressbar.Option{
		progressbar.OptionSetWriter(os.Stderr),
		progressbar.OptionSetDescription(phase),
		progressbar.OptionShowBytes(columns >= some),
		progressbar.OptionShowTotalBytes(columns >= all),
		progressbar.OptionSetElapsedTime(columns >= all),
		progressbar.OptionSetPredictTime(columns >= all),
		progressbar.OptionThrottle(100 * time.Millisecond),
		progressbar.OptionSetWidth(min(30, columns/4)),
		progressbar.OptionUseANSICodes(true),
	}
	if columns >= some {
		options = append(options, progressbar.OptionShowCount())
	}
	bar := progressbar.NewOptions64(total, options...)
	bar.Reset() // its clock begins now, and not when it is shown first
	return bar
}

// end leaves the terminal as if there had been no bar.
func (p *progress) end() {
	if p.bar != nil && p.shown {
		_ = p.bar.Exit()
		os.Stderr.WriteString("\r\x1b[2K") // its Clear does nothing if only the last line was shown
	}
	p.bar, p.shown, p.done = nil, false, 0
}

// summary ends the bar, and says on a terminal what was done, and how long it took.
func (p *progress) summary(format string, args ...any) {
	p.end()
	if !isTerminal(os.Stderr) {
		return
	}
	took := ""
	if !p.began.IsZero() {
		took = " in " + time.Since(p.began).Round(100*time.Millisecond).String()
	}
	fmt.Fprintf(os.Stderr, "%s%s\n", fmt.Sprintf(format, args...), took)
}
