package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What testfixture prints, shortened.
const output = `select1-1.1... Ok
select1-1.2... Ok
select1-1.2... Ok
select1-1.3...
! select1-1.3 expected: [1]
! select1-1.3 got:      [2]
select1.test-closeallfiles... Ok
SQLite 2022-12-28 14:03:47 df5c253c0b3d
1 errors out of 5 tests on host Linux 64-bit little-endian
!Failures on these tests: select1-1.3
All memory allocations freed - no leaks
`

func TestParse(t *testing.T) {
	o := parse(output)
	if !o.finished || o.tests != 5 || o.errors != 1 || o.cases() != 4 ||
		o.passed["select1-1.2"] != 2 ||
		!slices.Equal(o.failed, []string{"select1-1.3"}) {
		t.Errorf("%+v", o)
	}
	o = parse("Summary: 3 errors out of 99 tests\n")
	if !o.finished || o.tests != 99 || o.errors != 3 {
		t.Errorf("mptest: %+v", o)
	}
	if o = parse("select1-1.1... Ok\ninvalid command name\n"); o.finished || o.cases() != 1 {
		t.Errorf("a script that is broken off: %+v", o)
	}
}

func TestCompare(t *testing.T) {
	i := item{suite: "quick", file: "select1.test"}
	ended := func(output string) outcome { return parse(output) }
	for _, c := range []struct {
		name        string
		stock, ours outcome
		want        verdict
		reason      string // part of the first
	}{
		{"same", ended(output), ended(output), equal, ""},
		{"ours passes more", ended(output),
			ended(strings.ReplaceAll(output, "! select1-1.3", "  ")), equal, ""},
		{"ours fails one", ended(output), ended(strings.Replace(output, "select1-1.1... Ok",
			"select1-1.1...\n! select1-1.1 expected: [1]", 1)), worse, "select1-1.1"},
		{"ours omits one", ended(output),
			ended(strings.Replace(output, "select1-1.2... Ok\n", "", 1)), worse,
			"select1-1.2 passed 1 times, stock 2"},
		{"ours leaves files open", ended(output), ended(output + "1 files were left open\n"), worse,
			"(files were left open)"},
		{"ours does not end", ended(output), outcome{exit: "signal: killed"}, worse,
			"(did not end) signal: killed"},
		{"stock breaks off, ours too", ended("a... Ok\n"), ended("a... Ok\n"), equal, ""},
		{"stock breaks off, ours before", ended("a... Ok\nb... Ok\n"), ended("a... Ok\n"), worse,
			"b passed 0 times, stock 1"},
		{"stock breaks off, ours goes on and fails", ended("a... Ok\n"),
			ended("a... Ok\n! b expected: [1]\n1 errors out of 2 tests\n"), equal, ""},
		{"stock breaks off, ours fails before", ended("a... Ok\n"),
			ended("! a expected: [1]\n1 errors out of 2 tests\n"), worse, "a"},
		{"stock breaks off, ours hangs", ended("a... Ok\n"),
			outcome{exit: "killed after 1m", passed: map[string]int{"a": 1}}, worse,
			"(did not end) killed"},
		{"stock runs nothing", outcome{exit: "exit status 1"}, ended(output), unjudgeable,
			"exit status 1"},
		{"stock hangs", outcome{exit: "killed after 1m", passed: map[string]int{"a": 1}},
			ended(output), unjudgeable, "killed"},
		{"ours logs an error", ended(output),
			outcome{finished: true, passed: ended(output).passed, failed: ended(output).failed,
				errors: 1, problems: []string{"level=ERROR msg=x"}}, worse, "level=ERROR msg=x"},
		{"mptest has more errors", ended("Summary: 0 errors out of 9 tests\n"),
			ended("Summary: 1 errors out of 9 tests\n"),
			worse, "(errors) 1, stock 0"},
	} {
		got, reasons := compare(i, c.stock, c.ours)
		if got != c.want || c.reason != "" &&
			(len(reasons) == 0 || !strings.Contains(reasons[0], c.reason)) {
			t.Errorf("%s: %v %q, want %v %q", c.name, got, reasons, c.want, c.reason)
		}
	}
}

// TestRepeatedCases: how many mallocs a run needs is no difference; that it never got
// through without a failure is.
func TestRepeatedCases(t *testing.T) {
	i := item{suite: "quick", file: "fts5fault3.test"}
	stock := parse("f-1-oom-transient.1... Ok\nf-1-oom-transient.2... " +
		"Ok\nmallocA-2.persistent.7... Ok\nf-2-ioerr-transient.1... Ok\nx.crash-4.2.9.3... Ok\n")
	for _, c := range []struct {
		ours string
		want verdict
	}{
		{"f-1-oom-transient.1... Ok\nmallocA-2.persistent.9... Ok\nf-2-ioerr-transient.1... Ok\n",
			equal},
		{"f-1-oom-transient.1... Ok\nf-1-oom-transient.2... Ok\nf-2-ioerr-transient.1... Ok\n",
			worse},
		{"f-1-oom-transient.1... Ok\nmallocA-2.persistent.9... Ok\n", worse},
		{"f-1-oom-transient.1... Ok\nmallocA-2.persistent.9... Ok\nf-2-ioerr-transient.1... " +
			"Ok\n! f-1-oom-transient.2 expected: [1]\n", worse},
	} {
		c.ours += "x.crash-4.2.8.3... Ok\n"
		if got, reasons := compare(i, stock, parse(c.ours)); got != c.want {
			t.Errorf("%q: %v %q", c.ours, got, reasons)
		}
	}
}

// TestDrawnCases: how many rows were chosen at random is no difference; a case that is missing is.
func TestDrawnCases(t *testing.T) {
	i := item{suite: "quick", file: "avtrans.test"}
	stock := parse("avtrans-9.20.1-5681... Ok\navtrans-9.20.2-5681... Ok\n" +
		"avtrans-9.20-6.5681... Ok\n")
	for ours, want := range map[string]verdict{
		"avtrans-9.20.1-5687... Ok\navtrans-9.20.2-5687... Ok\navtrans-9.20-6.5687... Ok\n": equal,
		"avtrans-9.20.1-5687... Ok\navtrans-9.20-6.5687... Ok\n":                            worse,
		"avtrans-9.20.1-5687... Ok\navtrans-9.19.2-5687... Ok\navtrans-9.20-6.5687... Ok\n": worse,
	} {
		if got, reasons := compare(i, stock, parse(ours)); got != want {
			t.Errorf("%q: %v %q", ours, got, reasons)
		}
	}
}

// TestExceptions: each exception covers its files and no others, and all of them are valid
// expressions.
func TestExceptions(t *testing.T) {
	differs := `level=ERROR msg="validation failed" error="validate /a/b: verify: mirror differs ` +
		`from the database at offset 3053"`
	for _, c := range []struct {
		file, what string
		want       bool
	}{
		{"corruptI.test", differs, true},
		{"corruptI.test", "corruptI-1.2", false},
		{"xcorruptI.test", differs, false},
		{"wal.test", differs, false},
		{"dbstatus.test", "all-wal.dbstatus-4.2.1", true},
		{"dbstatus.test", "all-wal.dbstatus-5.0", false},
	} {
		if got := exception(item{suite: "quick", file: c.file}, c.what) != ""; got != c.want {
			t.Errorf("%s %s: %v", c.file, c.what, got)
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		i    item
		want bool
	}{
		{item{suite: "quick", file: "json101.test"}, true},
		{item{suite: "all-wal", file: "fts3aa.test"}, true},
		{item{suite: "all-persist", file: "pager1.test"}, true},
		{item{suite: "mmap", file: "wal2.test"}, true},
		{item{suite: "all-persist", file: "json101.test"}, false},
		{item{suite: "all-persist", file: "where.test"}, false},
		{item{suite: "utf16", file: "pager1.test"}, false},
	} {
		if got := runWhole(c.i) || runCut(c.i); got != c.want {
			t.Errorf("%v: %v", c.i, got)
		}
	}
}

func TestProblems(t *testing.T) {
	got := problems("time=1 level=ERROR msg=a\nverneuil: level=WARN msg=b\ntime=2 level=ERROR " +
		"msg=a\nlevel=ERROR msg=c d=e\n")
	if want := []string{"level=ERROR msg=a", "level=ERROR msg=c d=e"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// What sanitizers write, shortened.
const report = `==12==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x60 at pc 0x7f bp 0x7f sp 0x7f
READ of size 4 at 0x60 thread T0
==13==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x60 at pc 0x7f bp 0x7f sp 0x7f
spool_log.c:90:3: runtime error: signed integer overflow: 1 + 2147483647 cannot be represented in type 'int'
WARNING: ThreadSanitizer: data race (pid=14)
WARNING: ThreadSanitizer: data race (pid=15)
`

func TestFindings(t *testing.T) {
	dir := t.TempDir()
	if lines, reports, err := findings(dir); len(lines) > 0 || reports != "" || err != nil {
		t.Errorf("of nothing: %q %q %v", lines, reports, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sanitizer.12"), []byte(report), 0o600); err != nil {
		t.Fatal(err)
	}
	lines, reports, err := findings(dir)
	want := []string{"ERROR: AddressSanitizer: heap-buffer-overflow on address 0x60 at pc 0x7f " +
		"bp 0x7f sp 0x7f",
		"spool_log.c:90:3: runtime error: signed integer overflow: " +
			"1 + 2147483647 cannot be represented in type 'int'",
		"WARNING: ThreadSanitizer: data race"}
	if !slices.Equal(lines, want) || reports != report || err != nil {
		t.Errorf("%q %v", lines, err)
	}
}
