package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// verdict is what comes of comparing two outcomes.
type verdict int

const (
	equal       verdict = iota // what stock passes, ours passes
	excepted                   // but for what exceptions lists
	unjudgeable                // stock hangs, or runs nothing
	worse
)

func (v verdict) String() string {
	return [...]string{"equal", "equal but for listed exceptions",
		"not to be judged: stock hangs or does not run", "worse"}[v]
}

// compare says what ours did worse than stock. reasons are the exceptions that were
// made, or what is worse.
func compare(i item, stock, ours outcome) (verdict, []string) {
	var bad, reasons []string
	blame := func(what, detail string) {
		if reason := exception(i, what); reason != "" {
			reasons = append(reasons, what+": "+reason)
			return
		}
		bad = append(bad, strings.TrimSpace(what+" "+detail))
	}
	if !stock.finished && len(stock.passed) == 0 || stock.killed() {
		return unjudgeable, []string{stock.exit}
	}
	if ours.killed() || stock.finished && !ours.finished {
		blame("(did not end)", ours.exit+": "+last(ours.output))
	}
	for _, name := range ours.failed {
		// Stock that has crashed says nothing of what it did not come to.
		if !slices.Contains(stock.failed, name) && (stock.finished || stock.passed[name] > 0) {
			blame(name, "")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(stock.passed)) {
		if ours.passed[name] < stock.passed[name] && !slices.Contains(ours.failed, name) {
			blame(name, fmt.Sprintf("passed %d times, stock %d", ours.passed[name],
				stock.passed[name]))
		}
	}
	if ours.errors > stock.errors && len(ours.failed) == 0 {
		blame("(errors)", fmt.Sprintf("%d, stock %d", ours.errors, stock.errors))
	}
	for _, p := range ours.problems {
		blame(p, "")
	}
	switch {
	case len(bad) > 0:
		return worse, bad
	case len(reasons) > 0:
		return excepted, reasons
	}
	return equal, nil
}
