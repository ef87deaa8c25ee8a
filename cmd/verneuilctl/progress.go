package main

import (
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress shows bytes done, rate and time left on stderr while a command works,
// one line per phase, if stderr is a terminal; in a pipe it is silent. It is not
// safe for concurrent use.
type progress struct {
	phase string
	total int64
	bar   *progressbar.ProgressBar
}

// set is told the bytes done, of how many. total may grow.
func (p *progress) set(phase string, done, total int64) {
	if !isTerminal(os.Stderr) {
		return
	}
	if p.bar == nil || phase != p.phase {
		p.end()
		p.phase, p.total = phase, total
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(os.Stderr),
			progressbar.OptionSetDescription(phase),
			progressbar.OptionShowBytes(true),
			progressbar.OptionShowTotalBytes(true),
			progressbar.OptionShowCount(),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionSetWidth(30),
		)
	}
	if total != p.total {
		p.total = total
		p.bar.ChangeMax64(total)
	}
	// An error here is one of writing to the terminal: not worth a word.
	_ = p.bar.Set64(done)
}

// end leaves the terminal at the beginning of a line.
func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Exit()
		p.bar = nil
		os.Stderr.WriteString("\n")
	}
}
