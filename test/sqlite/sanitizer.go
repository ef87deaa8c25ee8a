package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

// sanitized returns the environment of a process into which a sanitizer's runtime is
// preloaded, and which leaves its findings in dir.
func sanitized(preload, dir string) []string {
	log := "log_path=" + filepath.Join(dir, "sanitizer")
	return []string{
		"LD_PRELOAD=" + preload,
		// Tcl leaves much behind; leaks of ours valgrind finds
		"ASAN_OPTIONS=detect_leaks=0:" + log,
		"UBSAN_OPTIONS=print_stacktrace=1:" + log,
		"TSAN_OPTIONS=" + log,
	}
}

var found = regexp.MustCompile(`(?m)^.*(?:ERROR: \w+Sanitizer|WARNING: \w+Sanitizer|runtime ` +
	`error):.*$`)

// findings returns what sanitizers have found, each finding's first line once, and
// their reports.
func findings(dir string) (lines []string, reports string, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "sanitizer.*"))
	if err != nil {
		return nil, "", err
	}
	for _, name := range files {
		report, err := os.ReadFile(name)
		if err != nil {
			return nil, "", err
		}
		reports += string(report)
	}
	for _, line := range found.FindAllString(reports, -1) {
		if line = pid.ReplaceAllString(line, ""); !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return lines, reports, nil
}

// pid is what differs between equal findings of two processes.
var pid = regexp.MustCompile(`==\d+==| \(pid=\d+\)`)
